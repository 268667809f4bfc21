//! Properties that hold for any frame and any tables. `Fixture::run` checks each time that no chunk
//! is lost or used twice.

use std::sync::Arc;

use proptest::prelude::*;

use super::fixture::{Fixture, domain, mac, outer, port, tagged, udp4, udp6};
use crate::addr::{PortId, VtepId};
use crate::drop::DropReason;
use crate::table::mac::Destination;
use crate::table::port::Role;
use crate::table::vni::VniTable;

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..longest)
}

/// A nearly valid frame: of any kind, with some bytes overwritten, and truncated.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((0usize..120, any::<u8>()), 0..4);
    (
        0u8..9,
        0u8..15,
        0usize..1500,
        edits,
        prop::option::of(0usize..200),
    )
        .prop_map(|(kind, to, len, edits, cut)| {
            let to = if to == 0 { [0xff; 6] } else { mac(to) };
            let inner = if kind % 2 == 0 {
                udp4(1, to, len)
            } else {
                udp6(1, to, len)
            };
            let mut frame = match kind {
                0 | 1 => inner,
                2 => tagged(&inner, 0x8100, 10),
                3 => tagged(&inner, 0x8100, 20),
                n => outer(
                    usize::from(n) % 4,
                    if n == 8 { 200 } else { 100 },
                    n,
                    &inner,
                ),
            };
            for (at, byte) in edits {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(cut.unwrap_or(frame.len()));
            frame
        })
}

/// A fixture whose tables may be inconsistent: MACs behind any destination, ports on any device and
/// in any domain.
fn any_fixture() -> impl Strategy<Value = Fixture> {
    let ports = prop::collection::vec((0u16..5, prop::option::of(0u16..4095), 0u16..3), 4);
    let floods = prop::collection::vec(
        (
            prop::collection::vec(0u32..7, 0..6),
            prop::collection::vec(0u16..6, 0..6),
        ),
        2,
    );
    let macs = prop::collection::vec((0u16..2, 1u8..15, any::<bool>(), 0u16..7), 0..30);
    (ports, floods, macs).prop_map(|(ports, floods, macs)| {
        let mut fixture = Fixture::new();
        let table = Arc::make_mut(&mut fixture.snapshot.ports);
        table.ports = (0..)
            .zip(ports)
            .map(|(id, (device, vlan, domain))| Some(port(id, device, vlan, domain).into()))
            .collect();
        let domains =
            (0..)
                .zip([100, 200])
                .zip(floods)
                .map(|((id, vni), (mut vteps, mut ports))| {
                    vteps.sort_unstable();
                    vteps.dedup();
                    ports.sort_unstable();
                    ports.dedup();
                    Arc::new(domain(id, vni, &vteps, &ports, &[0, 1, 2, 3]))
                });
        fixture.snapshot.vnis = Arc::new(VniTable::new(domains));
        for (domain, host, remote, to) in macs {
            let to = if remote {
                Destination::Vtep(VtepId(to.into()))
            } else {
                Destination::Port(PortId(to))
            };
            fixture.learn(domain, host, to);
        }
        fixture
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic_or_leak(
        frames in prop::collection::vec(bytes(300), 1..20),
        device in 0u16..5,
    ) {
        Fixture::new().run(device, &frames);
    }

    #[test]
    fn nearly_valid_frames_never_panic_or_leak(
        mut fixture in any_fixture(),
        frames in prop::collection::vec(nearly_valid(), 1..20),
        device in 0u16..4,
    ) {
        fixture.run(device, &frames);
        prop_assert_eq!(fixture.device(device).rx_frames, frames.len() as u64);
    }

    #[test]
    fn frames_from_the_underlay_are_sent_to_tenant_devices_only(
        mut fixture in any_fixture(),
        frames in prop::collection::vec(nearly_valid(), 1..20),
    ) {
        for (device, _) in fixture.run(0, &frames) {
            let role = &fixture.snapshot.ports.devices[usize::from(device)].as_ref().unwrap().role;
            prop_assert!(*role != Role::Underlay);
        }
    }

    #[test]
    fn each_frame_of_one_tenant_to_a_vtep_is_sent_or_counted(
        mut fixture in any_fixture(),
        frames in prop::collection::vec(nearly_valid(), 1..20),
    ) {
        for frame in frames {
            let dropped = fixture.drops().iter().sum::<u64>();
            let sent = fixture.run(1, &[frame]).len();
            prop_assert!(sent > 0 || fixture.drops().iter().sum::<u64>() > dropped);
        }
    }

    #[test]
    fn decapsulation_undoes_encapsulation(
        host in 10u8..14,
        mut inner in bytes(1436),
        tos: u8,
        v6: Option<bool>,
    ) {
        // With addresses and MACs swapped, the packet is one that this VTEP receives.
        let mut frame = [mac(host), mac(1)].concat();
        match v6 {
            Some(true) if inner.len() > 42 => {
                inner[..4].copy_from_slice(&[0x86, 0xdd, 0x60 | tos >> 4, tos << 4]);
            }
            Some(false) if inner.len() > 22 => {
                inner[..4].copy_from_slice(&[8, 0, 0x45, tos]);
            }
            _ => inner.splice(0..0, [0x88, 0xb5]).for_each(drop),
        }
        frame.extend(inner);
        frame.truncate(1450);
        let mut fixture = Fixture::new();
        fixture.set_port(0, |port| port.checksum = crate::table::port::ChecksumMode::Trust);
        if frame.len() < 14 || matches!(&frame[12..14], [0x81, 0] | [0x88, 0xa8]) {
            return Ok(());
        }
        let mut packet = fixture.run(1, [&frame]).remove(0).1;
        let ip = if host >= 12 { 18 } else { 14 };
        let (at, len) = if host % 2 == 0 { (ip + 12, 4) } else { (ip + 8, 16) };
        packet[..12].rotate_left(6);
        let source = packet[at..at + len].to_vec();
        packet.copy_within(at + len..at + 2 * len, at);
        packet[at + len..at + 2 * len].copy_from_slice(&source);
        fixture.learn(0, host, Destination::Port(PortId(1)));
        prop_assert_eq!(fixture.run(0, &[packet]), [(2, frame)]);
        prop_assert_eq!(fixture.dropped(DropReason::EcnCongested), 0);
    }
}
