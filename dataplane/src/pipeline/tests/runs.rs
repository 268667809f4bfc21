//! Usual frames and runs of frames are handled by functions of their own. They do to any burst what
//! the general functions do to each of its frames alone.
//!
//! ```text
//! access port, all frames in one burst           usual frames, runs   \
//!                                                                      same output and counters
//! trunk's port, the same frames one at a time    general functions    /
//! ```
//!
//! From the underlay, too, the first packet of a burst is handled by the general functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::fixture::{Fixture, mac, outer, tagged, udp4, udp6, vtep};
use crate::addr::{HostMac, VtepId};
use crate::drop::DropReason;
use crate::pipeline::learn_event::LearnEvent;
use crate::pipeline::plain::PlainFrame;
use crate::stats::Totals;
use crate::table::port::ChecksumMode;
use crate::table::vtep::RemoteVtep;

/// The VLAN of port 2, which is in the domain of port 0.
const VLAN: u16 = 10;

/// Frames of a burst: in segments of 300 bytes, they need most chunks of the pool.
const LONGEST_BURST: usize = 40;

fn tcp4(to: [u8; 6], payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac(5), to)
        .ipv4([10, 0, 0, 5], [10, 0, 0, to[5]], 64)
        .tcp(3000 + payload as u16, 80, 1, 512)
        .write(&mut bytes, &vec![0x33; payload])
        .unwrap();
    bytes
}

/// Frames to known hosts: runs to each, of any kind, some with a few bytes overwritten after the
/// destination MAC, some with padding, some truncated.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let edit = prop::option::weighted(0.3, (6usize..60, any::<u8>()));
    let change = (edit, 0usize..20, prop::option::weighted(0.1, 14usize..70));
    let frame = (0u8..9, 0usize..1420, change);
    let run = (
        prop::sample::select(vec![2u8, 10, 10, 10, 11, 12, 13, 14]),
        prop::collection::vec(frame, 1..12),
    );
    prop::collection::vec(run, 1..6).prop_map(|runs| {
        let runs = runs.into_iter();
        let frames = runs.flat_map(|(host, run)| run.into_iter().map(move |frame| (host, frame)));
        frames
            .map(|(host, (kind, len, (edit, padding, cut)))| {
                let mut frame = match kind {
                    0..3 => udp4(1, mac(host), len),
                    3..6 => tcp4(mac(host), len),
                    6 => udp6(1, mac(host), len),
                    7 => tagged(&udp4(1, mac(host), len), 0x8100, 7),
                    _ => tagged(&udp6(1, mac(host), len), 0x88a8, 7),
                };
                if let Some((at, byte)) = edit.filter(|(at, _)| *at < frame.len()) {
                    frame[at] = byte;
                }
                frame.extend(vec![0xee; padding]);
                frame.truncate(cut.unwrap_or(usize::MAX));
                frame
            })
            .take(LONGEST_BURST)
            .collect()
    })
}

/// A VTEP with several paths, and a port that may learn.
fn fixture(port: u16, checksum: ChecksumMode, learns: bool) -> Fixture {
    let mut fixture = Fixture::new();
    let change = |entry: &mut crate::table::port::PortEntry| {
        entry.checksum = checksum;
        entry.learn = learns.then_some(100);
    };
    fixture.set_port(port, change);
    let one = vtep("192.0.2.3", None, true);
    let two = vtep("192.0.2.3", Some(9), true);
    let both = RemoteVtep {
        paths: [one.paths.clone(), two.paths.clone()].concat().into(),
        ..one
    };
    Arc::make_mut(&mut fixture.snapshot.vteps).set(VtepId(2), Some(Arc::new(both)));
    fixture
}

/// Everything that was counted, but for the device that received the frames.
fn counted(fixture: &Fixture, port: u16) -> Vec<Totals> {
    let others = [fixture.device(0), fixture.device(2), fixture.port(1)];
    let vteps = (0..5).map(|id| fixture.vtep(id));
    others
        .into_iter()
        .chain([fixture.port(port), fixture.domain(0)])
        .chain(vteps)
        .collect()
}

/// The MACs that the control thread is told of. How often depends on the port too, which has its
/// place in the cache of events.
fn learned(fixture: &Fixture) -> BTreeSet<HostMac> {
    let mac = |event: &LearnEvent| match event {
        LearnEvent::MacSeen { mac, .. } => Some(*mac),
        _ => None,
    };
    fixture.events.iter().filter_map(mac).collect()
}

proptest! {
    #[test]
    fn a_burst_is_sent_as_its_frames_are_one_at_a_time(
        frames in frames(),
        trust: bool, learns: bool, pass_tags: bool,
        segment in prop::option::weighted(0.2, 300usize..900),
        room in prop::option::weighted(0.3, 0usize..40),
    ) {
        let mode = if trust { ChecksumMode::Trust } else { ChecksumMode::Auto };
        let mut burst = fixture(0, mode, learns);
        let mut single = fixture(2, mode, learns);
        if let Some(segment) = segment {
            (burst.segment_len, single.segment_len) = (segment, segment + 4);
        }
        // A tag shifts where further segments begin, and so how many chunks some frames need.
        let room = room.filter(|_| segment.is_none()).unwrap_or(usize::MAX);
        for fixture in [&mut burst, &mut single] {
            fixture.set_room(0, room);
            fixture.set_domain(|domain| domain.pass_tags = pass_tags);
        }
        let sent = burst.run(1, &frames);
        let with_tags = frames.iter().map(|frame| tagged(frame, 0x8100, VLAN));
        // What is sent back to the port, an ICMP error, is compared without its tag.
        let untagged = |(device, frame): (u16, Vec<u8>)| match device {
            3 => (1, [&frame[..12], &frame[16..]].concat()),
            _ => (device, frame),
        };
        let one_by_one = with_tags.flat_map(|frame| single.run(3, [frame]));
        let mut wanted: Vec<_> = one_by_one.map(untagged).collect();
        wanted.sort_by_key(|(device, _)| *device);
        prop_assert_eq!(sent, wanted);
        prop_assert_eq!(burst.drops(), single.drops());
        prop_assert_eq!(counted(&burst, 0), counted(&single, 2));
        prop_assert_eq!(learned(&burst), learned(&single));
    }
}

/// Packets from VTEPs to known hosts: runs from each, some with a byte of the outer or the inner
/// frame overwritten, some with padding, some truncated.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let edit = prop::option::weighted(0.3, (0usize..50, any::<u8>()));
    let inner_edit = prop::option::weighted(0.2, (6usize..50, any::<u8>()));
    let change = (
        edit,
        inner_edit,
        0usize..20,
        prop::option::weighted(0.1, 14usize..120),
    );
    let packet = (0u8..8, 0usize..1500, change);
    let tos = prop::sample::select(vec![0u8, 0, 0, 0x40, 1, 2, 3]);
    let run = (
        (
            0usize..5,
            tos,
            prop::sample::select(vec![1u8, 2, 2, 2, 3, 10]),
            prop::bool::weighted(0.2),
        ),
        prop::collection::vec(packet, 1..12),
    );
    prop::collection::vec(run, 1..6).prop_map(|runs| {
        let runs = runs.into_iter();
        let packets =
            runs.flat_map(|(from, run)| run.into_iter().map(move |packet| (from, packet)));
        packets
            .map(
                |((from, tos, host, sums), (kind, len, (edit, inner_edit, padding, cut)))| {
                    let mut inner = match kind {
                        0..3 => udp4(9, mac(host), len),
                        3..5 => udp6(9, mac(host), len),
                        5 => tcp4(mac(host), len),
                        6 => tagged(&udp4(9, mac(host), len), 0x8100, 7),
                        _ => tagged(&udp6(9, mac(host), len), 0x88a8, 7),
                    };
                    if let Some((at, byte)) = inner_edit.filter(|(at, _)| *at < inner.len()) {
                        inner[at] = byte;
                    }
                    let mut packet = outer(from, 100, tos, &inner);
                    if !sums && packet[12..14] == [8, 0] {
                        // As VTEPs send over IPv4: without a checksum.
                        packet[40..42].fill(0);
                    }
                    // Another VNI may have no such host.
                    if let Some((at, byte)) = edit.filter(|(at, _)| *at != 48) {
                        packet[at] = byte;
                    }
                    packet.extend(vec![0xee; padding]);
                    packet.truncate(cut.unwrap_or(usize::MAX));
                    packet
                },
            )
            .take(LONGEST_BURST)
            .collect()
    })
}

proptest! {
    #[test]
    fn packets_are_decapsulated_in_runs_as_they_are_one_at_a_time(
        packets in packets(),
        strict: bool, pass_tags: bool,
        segment in prop::option::weighted(0.2, 300usize..900),
        room in prop::option::weighted(0.3, 0usize..40),
    ) {
        let [mut burst, mut single] = [Fixture::new(), Fixture::new()];
        for fixture in [&mut burst, &mut single] {
            fixture.snapshot.settings.strict_reserved = strict;
            fixture.set_domain(|domain| domain.pass_tags = pass_tags);
            fixture.segment_len = segment.unwrap_or(usize::MAX);
            fixture.set_room(2, room.unwrap_or(usize::MAX));
        }
        let sent = burst.run(0, &packets);
        let mut wanted: Vec<_> = packets.iter().flat_map(|packet| single.run(0, [packet])).collect();
        wanted.sort_by_key(|(device, _)| *device);
        prop_assert_eq!(sent, wanted);
        prop_assert_eq!(burst.drops(), single.drops());
        prop_assert_eq!(burst.device(0), single.device(0));
        prop_assert_eq!(counted(&burst, 0), counted(&single, 0));
        prop_assert_eq!(burst.port(2), single.port(2));
    }
}

#[test]
fn most_frames_are_usual_ones() {
    for frame in [udp4(1, mac(10), 18), tcp4(mac(10), 6), tcp4(mac(10), 1400)] {
        assert!(PlainFrame::parse(&frame).is_some());
    }
    let tag = tagged(&udp4(1, mac(10), 18), 0x8100, 7);
    for frame in [udp6(1, mac(10), 18), tag, vec![0; 60]] {
        assert!(PlainFrame::parse(&frame).is_none());
    }
}

#[test]
fn of_a_run_as_many_are_sent_as_the_device_accepts() {
    let mut fixture = Fixture::new();
    fixture.set_room(0, 5);
    let frames: Vec<_> = (0..20).map(|_| udp4(1, mac(10), 100)).collect();
    assert_eq!(fixture.run(1, &frames).len(), 5);
    assert_eq!(fixture.dropped(DropReason::TxFull), 15);
    let (vtep, domain) = (fixture.vtep(0), fixture.domain(0));
    assert_eq!((vtep.tx_frames, vtep.tx_bytes), (5, 5 * 142));
    assert_eq!(domain.drops[DropReason::TxFull as usize], 15);
}
