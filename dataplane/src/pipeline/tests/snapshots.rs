//! What is kept from one snapshot to the next is dropped where an identifier has changed its
//! meaning (finding D2). The next snapshot may be the one without the row, or already the one in
//! which the identifier is used again.

use std::sync::Arc;

use super::fixture::{Fixture, domain, mac, outer, port, udp4};
use crate::addr::{DeviceId, DomainId, PortId};
use crate::drop::DropReason;
use crate::frame::BURST;
use crate::pipeline::learn_event::LearnEvent;
use crate::table::port::StormLimit;
use crate::table::vni::VniTable;

const ALL: [u8; 6] = [0xff; 6];

/// An identifier that is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reused {
    Domain,
    Device,
    Port,
}

/// Floods to 100 VTEPs and two ports; two VNIs have the same flood list.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.set_vteps(100);
    fixture
}

/// Publishes a snapshot: VNI 100 has become VNI 999, or the device or port another one. `seen`: the
/// pipeline has seen the snapshot without the row before.
fn reuse(fixture: &mut Fixture, reused: Reused, seen: bool) {
    let old = fixture.snapshot.clone();
    fixture.snapshot.version += 1;
    match reused {
        Reused::Domain => fixture.snapshot.vnis = Arc::default(),
        Reused::Device => Arc::make_mut(&mut fixture.snapshot.ports).devices[1] = None,
        Reused::Port => Arc::make_mut(&mut fixture.snapshot.ports).ports[0] = None,
    }
    if seen {
        fixture.burst(0, &[[0; 60]]);
    }
    fixture.snapshot.version += 1;
    let version = fixture.snapshot.version;
    let since = Arc::make_mut(&mut fixture.snapshot.since);
    match reused {
        Reused::Domain => {
            let vteps: Vec<_> = (0..100).collect();
            let other = domain(0, 999, &vteps, &[0, 1, 2], &vteps);
            fixture.snapshot.vnis = Arc::new(VniTable::new([Arc::new(other)]));
            since.set_domain(DomainId(0), version);
        }
        Reused::Device => {
            fixture.snapshot.ports = old.ports;
            since.set_device(DeviceId(1), version);
        }
        Reused::Port => {
            fixture.snapshot.ports = old.ports;
            fixture.set_port(0, |_| {});
            Arc::make_mut(&mut fixture.snapshot.since).set_port(PortId(0), version);
        }
    }
}

#[test]
fn a_flood_that_waits_does_not_enter_the_next_owner_of_a_number() {
    for reused in [Reused::Domain, Reused::Device, Reused::Port] {
        for seen in [true, false] {
            let mut fixture = fixture();
            // Behind a busy port, and begun.
            fixture.burst(2, &vec![udp4(2, ALL, 400); 20]);
            fixture.burst(1, &[udp4(1, ALL, 400), udp4(1, ALL, 400)]);
            let mut sent = Vec::new();
            fixture.replicate(&mut sent);
            sent.clear();
            reuse(&mut fixture, reused, seen);
            while fixture.replicate(&mut sent) > 0 {}
            let of_host_1 =
                |(_, packet): &&(u16, Vec<u8>)| packet.windows(6).any(|bytes| bytes == mac(1));
            assert_eq!(
                sent.iter().filter(of_host_1).count(),
                0,
                "{reused:?} {seen}"
            );
            // The other port's floods continue, unless their VNI is gone.
            assert_eq!(
                sent.is_empty(),
                reused == Reused::Domain,
                "{reused:?} {seen}"
            );
            let removed = if reused == Reused::Domain { 22 } else { 2 };
            assert_eq!(fixture.removed(), removed, "{reused:?} {seen}");
            assert_eq!(fixture.pool.available(), fixture.pool.capacity());
        }
    }
}

#[test]
fn what_the_overlay_floods_does_not_enter_the_next_owner_of_a_number() {
    for seen in [true, false] {
        let mut fixture = Fixture::new();
        let flood = outer(0, 100, 0, &udp4(10, ALL, 100));
        fixture.burst(0, &vec![flood; 40]);
        fixture.replicate(&mut Vec::new());
        reuse(&mut fixture, Reused::Domain, seen);
        let mut sent = Vec::new();
        while fixture.replicate(&mut sent) > 0 {}
        assert_eq!(sent, []);
        assert!(fixture.removed() > 0);
        assert_eq!(fixture.pool.available(), fixture.pool.capacity());
    }
}

#[test]
fn removed_frames_are_counted_for_the_rows_that_are_still_there() {
    let mut fixture = fixture();
    fixture.burst(1, &[udp4(1, ALL, 400)]);
    reuse(&mut fixture, Reused::Port, true);
    fixture.replicate(&mut Vec::new());
    assert_eq!(fixture.dropped(DropReason::Removed), 1);
    assert_eq!(fixture.domain(0).drops[DropReason::Removed as usize], 1);
    assert_eq!(fixture.port(0).drops[DropReason::Removed as usize], 0);
}

#[test]
fn floods_of_rows_that_stay_survive_any_number_of_snapshots_in_order() {
    let mut fixture = fixture();
    let frames: Vec<_> = (0..50).map(|n| udp4(1, ALL, 300 + n)).collect();
    fixture.burst(1, &frames);
    fixture.burst(2, &[udp4(2, ALL, 20)]);
    let mut sent = Vec::new();
    loop {
        fixture.snapshot.version += 1;
        // The row is another one, the port is the same.
        fixture.set_port(0, |port| port.max_frame = 1600);
        if fixture.replicate(&mut sent) == 0 {
            break;
        }
    }
    let lens: Vec<_> = sent
        .iter()
        .filter(|(device, _)| *device == 2)
        .map(|(_, packet)| packet.len())
        .collect();
    let expected: Vec<_> = frames.iter().map(Vec::len).collect();
    assert_eq!(lens, expected);
    assert_eq!(sent.len(), 51 * 102);
    assert_eq!(fixture.removed(), 0);
}

#[test]
fn a_new_port_starts_with_a_full_bucket_and_its_own_events() {
    let mut fixture = Fixture::new();
    let limit = Some(StormLimit { rate: 1, burst: 3 });
    let change = |port: &mut crate::table::port::PortEntry| {
        port.storm = limit;
        port.learn = Some(10);
    };
    fixture.set_port(0, change);
    fixture.burst(1, &vec![udp4(9, ALL, 100); 10]);
    assert_eq!(fixture.dropped(DropReason::Storm), 7);
    let seen = |fixture: &Fixture| {
        let of_port = |event: &&LearnEvent| event.port() == Some(PortId(0));
        fixture.events.iter().filter(of_port).count()
    };
    assert_eq!(seen(&fixture), 1);
    reuse(&mut fixture, Reused::Port, true);
    fixture.set_port(0, change);
    fixture.burst(1, &vec![udp4(9, ALL, 100); 3]);
    assert_eq!(fixture.dropped(DropReason::Storm), 7);
    assert_eq!(seen(&fixture), 2, "another port sees the MAC");
}

#[test]
fn a_frame_for_another_worker_is_only_sent_to_the_network_that_it_was_for() {
    let mut fixture = Fixture::new();
    fixture.snapshot.version = 5;
    let (plain, vlan10) = (
        udp4(1, ALL, 50),
        super::fixture::tagged(&udp4(1, ALL, 50), 0x8100, 10),
    );
    let vlan20 = super::fixture::tagged(&udp4(1, ALL, 50), 0x8100, 20);
    let may_send = |fixture: &Fixture, version, device, frame: &[u8]| {
        fixture.snapshot.may_send(version, DeviceId(device), frame)
    };
    for device in [0, 1, 2] {
        assert!(may_send(&fixture, 4, device, &plain));
    }
    assert!(may_send(&fixture, 4, 3, &vlan10));
    // Port 0 is in another VNI since version 5; so is VLAN 10 of the trunk, but not VLAN 20.
    let since = Arc::make_mut(&mut fixture.snapshot.since);
    since.set_port(PortId(0), 5);
    since.set_port(PortId(2), 5);
    assert!(!may_send(&fixture, 4, 1, &plain));
    assert!(may_send(&fixture, 4, 2, &plain));
    assert!(!may_send(&fixture, 4, 3, &vlan10));
    assert!(may_send(&fixture, 4, 3, &vlan20));
    assert!(!may_send(&fixture, 4, 3, &plain));
    assert!(may_send(&fixture, 5, 1, &plain) && may_send(&fixture, 5, 3, &vlan10));
    // The underlay device is another one.
    Arc::make_mut(&mut fixture.snapshot.since).set_device(DeviceId(0), 5);
    assert!(!may_send(&fixture, 4, 0, &plain));
    Arc::make_mut(&mut fixture.snapshot.ports).devices[2] = None;
    assert!(!may_send(&fixture, 4, 2, &plain));
    // Without the port, its trunk has no such VLAN.
    let removed = port(2, 3, Some(10), 0);
    Arc::make_mut(&mut fixture.snapshot.ports).ports[removed.id.index()] = None;
    assert!(!may_send(&fixture, 4, 3, &vlan10));
}

#[test]
fn a_burst_of_a_removed_device_is_counted() {
    let mut fixture = Fixture::new();
    Arc::make_mut(&mut fixture.snapshot.ports).devices[1] = None;
    fixture.burst(1, &vec![udp4(1, ALL, 100); BURST]);
    assert_eq!(fixture.removed(), BURST as u64);
}
