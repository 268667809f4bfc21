//! Floods: each receiver is served once and in order, payloads are shared where possible,
//! iterations are bounded, and no chunk is lost.

use std::collections::HashMap;

use super::fixture::{Fixture, mac, outer, tagged, udp4, udp6};
use crate::addr::VtepId;
use crate::drop::DropReason;
use crate::frame::BURST;
use crate::pipeline::flood::COPIES_PER_ITERATION;
use crate::port::memory::memory_pools;
use crate::table::flood::FloodList;

const ALL: [u8; 6] = [0xff; 6];

/// A frame with a number, `len` bytes of payload.
fn numbered(from: u8, number: u16, len: usize) -> Vec<u8> {
    let mut frame = udp4(from, ALL, len);
    frame[42..44].copy_from_slice(&number.to_be_bytes());
    // Sent without a checksum.
    frame[40..42].fill(0);
    frame
}

/// The VTEP and the inner frame of a packet that was sent to the underlay. Asserts that the outer
/// headers are correct.
fn open(packet: &[u8]) -> (u32, Vec<u8>) {
    let sliced = etherparse::SlicedPacket::from_ethernet(packet).unwrap();
    let (id, ip_len) = match sliced.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(v4) => {
            let header = v4.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let [_, _, a, b] = header.destination;
            (
                u32::from(u16::from_be_bytes([a, b])),
                usize::from(header.total_len),
            )
        }
        etherparse::NetSlice::Ipv6(v6) => {
            let header = v6.header().to_header();
            let [.., a, b] = header.destination;
            (
                u32::from(u16::from_be_bytes([a, b])),
                usize::from(header.payload_length) + 40,
            )
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(ip_len + 14, packet.len());
    let Some(etherparse::TransportSlice::Udp(udp)) = &sliced.transport else {
        panic!("no UDP")
    };
    assert_eq!(
        usize::from(udp.length()) + if packet[12] == 8 { 34 } else { 54 },
        packet.len()
    );
    if let Some(etherparse::NetSlice::Ipv6(v6)) = &sliced.net {
        let header = v6.header().to_header();
        let wanted = udp
            .to_header()
            .calc_checksum_ipv6(&header, udp.payload())
            .unwrap();
        assert_eq!(udp.checksum(), wanted);
    }
    assert_eq!(udp.payload()[..8], [8, 0, 0, 0, 0, 0, 100, 0]);
    (id, udp.payload()[8..].to_vec())
}

/// Asserts that each of `vteps` VTEPs got exactly `frames`, in order.
fn assert_each_got(sent: &[(u16, Vec<u8>)], vteps: u32, frames: &[Vec<u8>]) {
    let mut got: HashMap<u32, Vec<Vec<u8>>> = HashMap::new();
    for (_, packet) in sent.iter().filter(|(device, _)| *device == 0) {
        let (vtep, inner) = open(packet);
        got.entry(vtep).or_default().push(inner);
    }
    assert_eq!(got.len(), vteps as usize);
    got.into_values()
        .for_each(|inner| assert_eq!(inner, frames));
}

#[test]
fn each_vtep_and_port_gets_each_frame_once_and_in_order() {
    for (chunk, len) in [
        (2048, 22),
        (2048, 213),
        (2048, 214),
        (2048, 1301),
        (2048, 8900),
        (8191, 7801),
    ] {
        for multi_buffer in [true, false] {
            let mut fixture = Fixture::jumbo(chunk);
            fixture.set_vteps(128);
            widen(&mut fixture);
            fixture.set_devices(|device| device.multi_buffer = multi_buffer);
            let frames: Vec<_> = (0..3).map(|number| numbered(1, number, len)).collect();
            let sent = fixture.run(1, &frames);
            assert_each_got(&sent, 128, &frames);
            let bytes = frames.iter().map(Vec::len).sum::<usize>() as u64;
            for (_, vtep) in fixture.snapshot.vteps.iter() {
                let totals = vtep.counters.totals();
                assert_eq!((totals.tx_frames, totals.tx_bytes), (3, bytes));
            }
            let at = |device| -> Vec<_> {
                sent.iter()
                    .filter(|(to, _)| *to == device)
                    .map(|(_, bytes)| bytes.clone())
                    .collect()
            };
            assert_eq!(at(2), frames);
            assert_eq!(
                at(3),
                frames
                    .iter()
                    .map(|frame| tagged(frame, 0x8100, 10))
                    .collect::<Vec<_>>()
            );
            assert_eq!(
                (sent.len(), fixture.drops().iter().sum::<u64>()),
                (3 * 130, 0)
            );
        }
    }
}

/// Paths for jumbo frames to all VTEPs.
fn widen(fixture: &mut Fixture) {
    let mut vteps = crate::table::vtep::VtepTable::default();
    for (id, vtep) in fixture.snapshot.vteps.iter() {
        let mut wide = crate::table::vtep::RemoteVtep::clone(vtep);
        wide.paths.iter_mut().for_each(|path| path.max_frame = 9100);
        vteps.set(id, Some(wide.into()));
    }
    fixture.snapshot.vteps = vteps.into();
}

#[test]
fn a_shared_payload_is_stored_once() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_domain(|domain| domain.flood.ports = Box::new([]));
    fixture.set_vteps(COPIES_PER_ITERATION as u32);
    fixture.run(1, [udp6(1, ALL, 1300)]);
    assert_eq!(
        fixture.most_chunks,
        1 + COPIES_PER_ITERATION,
        "one header for each copy, and one payload"
    );
    fixture.most_chunks = 0;
    fixture.run(1, [udp4(1, ALL, 60)]);
    assert_eq!(
        fixture.most_chunks, COPIES_PER_ITERATION,
        "short frames are copied, and the last receiver gets the frame itself"
    );
}

/// Headers lie side by side in a chunk, and so do copies of short frames.
#[test]
fn the_headers_of_a_flood_share_a_chunk() {
    for (first, groups) in [(0, 1), (1, 2)] {
        let mut fixture = Fixture::jumbo(2048);
        let count = 2 * COPIES_PER_ITERATION as u32;
        fixture.set_vteps(count);
        let vteps: Vec<_> = (first..count).step_by(2).map(VtepId).collect();
        fixture.set_domain(|domain| domain.flood = FloodList::new(vteps, []));
        let sent = fixture.run(1, [udp6(1, ALL, 1300)]);
        assert_eq!(sent.len(), COPIES_PER_ITERATION);
        // 32 over IPv4, 25 over IPv6.
        assert_eq!(fixture.most_chunks, 1 + groups, "and one payload");
        fixture.most_chunks = 0;
        let sent = fixture.run(1, [udp4(1, ALL, 60)]);
        assert_eq!(sent.len(), COPIES_PER_ITERATION);
        assert_eq!(
            fixture.most_chunks,
            if groups == 1 {
                COPIES_PER_ITERATION.div_ceil(10)
            } else {
                1 + (COPIES_PER_ITERATION - 1).div_ceil(10)
            },
            "ten copies in a chunk; the last receiver gets the frame itself over IPv6"
        );
    }
}

/// A flood to a few receivers does not wait, unless others do, and is sent as those that have waited.
#[test]
fn floods_to_few_receivers_are_sent_at_once_in_order_and_a_bounded_number_of_copies() {
    for (len, multi_buffer) in [
        (22, true),
        (86, true),
        (87, true),
        (213, true),
        (1300, true),
        (1300, false),
        (8900, true),
        (8900, false),
    ] {
        let mut fixture = Fixture::jumbo(2048);
        fixture.set_vteps(5);
        widen(&mut fixture);
        fixture.set_devices(|device| device.multi_buffer = multi_buffer);
        let frame = numbered(1, 0, len);
        // To five VTEPs and two other ports: 16 copies at most, and the rest of the iteration's 32.
        let at_once = fixture.burst(1, &[&frame; 5]);
        assert_eq!(at_once.len(), 2 * 7);
        let other = numbered(2, 9, len);
        assert_eq!(fixture.burst(2, &[&other]), [], "behind those that wait");
        let mut sent = at_once;
        let served = fixture.replicate(&mut sent);
        assert_eq!((served, sent.len()), (COPIES_PER_ITERATION, 2 * 7 + 16));
        while fixture.replicate(&mut sent) > 0 {}
        let is_other = |packet: &[u8]| packet.windows(6).any(|bytes| bytes == mac(2));
        let (others, sent): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|(_, packet)| is_other(packet));
        assert_each_got(&others, 5, &[other]);
        let all = vec![frame; 5];
        assert_each_got(&sent, 5, &all);
        // Those that have waited are the same, byte for byte.
        let mut got: HashMap<_, Vec<Vec<u8>>> = HashMap::new();
        for (device, packet) in sent {
            let vtep = (device == 0).then(|| open(&packet).0);
            got.entry((device, vtep)).or_default().push(packet);
        }
        assert_eq!(got.len(), 7);
        for packets in got.into_values() {
            assert!(packets.iter().all(|packet| *packet == packets[0]), "{len}");
            assert_eq!(packets.len(), 5);
        }
        assert_eq!(fixture.drops().iter().sum::<u64>(), 0);
        // The next iteration has its own 16.
        assert_eq!(fixture.burst(1, &all[..3]).len(), 2 * 7);
        fixture.close();
        assert_eq!(fixture.pool.available(), fixture.pool.capacity());
    }
}

/// A path of another device or kind ends a batch, not the flood.
#[test]
fn vteps_of_all_kinds_may_alternate() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_vteps(60);
    let mut vteps = crate::table::vtep::VtepTable::default();
    for (id, vtep) in fixture.snapshot.vteps.iter() {
        let mut other = crate::table::vtep::RemoteVtep::clone(vtep);
        other.paths = match id.0 % 5 {
            0 => Box::new([]),
            1 => [vtep.paths[0].clone(), vtep.paths[0].clone()].into(),
            _ => vtep.paths.clone(),
        };
        if id.0 % 7 == 6 {
            other.paths.iter_mut().for_each(|path| path.max_frame = 800);
        }
        vteps.set(id, Some(other.into()));
    }
    fixture.snapshot.vteps = vteps.into();
    fixture.set_domain(|domain| domain.flood.ports = Box::new([]));
    let reached: Vec<_> = (0..60).filter(|id| id % 5 != 0 && id % 7 != 6).collect();
    for len in [100, 900] {
        let flood = numbered(1, 1, len);
        let sent = fixture.run(1, [&flood]);
        let mut got: Vec<_> = sent.iter().map(|(_, packet)| open(packet).0).collect();
        got.sort_unstable();
        let all: Vec<_> = (0..60).filter(|id| id % 5 != 0).collect();
        assert_eq!(got, if len == 100 { all } else { reached.clone() });
        assert!(sent.iter().all(|(_, packet)| open(packet).1 == flood));
    }
    assert_eq!(fixture.pool.available(), fixture.pool.capacity());
}

#[test]
fn an_iteration_makes_a_bounded_number_of_copies_and_does_not_delay_other_ports() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_vteps(1000);
    let flood = numbered(1, 7, 1000);
    let mut sent = fixture.burst(1, std::slice::from_ref(&flood));
    assert_eq!(sent, [], "pending until all ports were served");
    let mut iterations = 0;
    loop {
        let unicast: Vec<_> = (0..BURST).map(|_| udp4(2, mac(1), 30)).collect();
        assert_eq!(
            fixture.burst(2, &unicast).len(),
            BURST,
            "iteration {iterations}"
        );
        let before = sent.len();
        match fixture.replicate(&mut sent) {
            0 => break,
            served => assert!(
                served <= COPIES_PER_ITERATION && sent.len() - before <= COPIES_PER_ITERATION
            ),
        }
        iterations += 1;
    }
    assert_eq!(iterations, (1000 + 2_usize).div_ceil(COPIES_PER_ITERATION));
    assert_each_got(&sent, 1000, &[flood]);
    assert_eq!(
        (
            fixture.pool.available(),
            fixture.drops().iter().sum::<u64>()
        ),
        (fixture.pool.capacity(), 0)
    );
}

#[test]
fn ports_are_served_round_robin_and_each_keeps_its_order() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_vteps(100);
    let (first_port, second_port) = (
        [numbered(1, 1, 500), numbered(1, 2, 500)],
        [numbered(2, 3, 500)],
    );
    fixture.burst(1, &first_port);
    fixture.burst(2, &second_port);
    let mut sent = Vec::new();
    assert_eq!(fixture.replicate(&mut sent), COPIES_PER_ITERATION);
    let of = |sent: &[(u16, Vec<u8>)], frame: &Vec<u8>| {
        sent.iter()
            .filter(|(device, packet)| *device == 0 && open(packet).1 == *frame)
            .count()
    };
    assert!(
        of(&sent, &first_port[0]) >= COPIES_PER_ITERATION / 2 - 2
            && of(&sent, &second_port[0]) >= COPIES_PER_ITERATION / 2 - 2
    );
    assert_eq!(
        of(&sent, &first_port[1]),
        0,
        "the port's first frame is flooded first"
    );
    while fixture.replicate(&mut sent) > 0 {}
    let first: Vec<_> = sent
        .iter()
        .filter(|(_, packet)| open_from(packet) == Some(mac(1)))
        .cloned()
        .collect();
    assert_each_got(&first, 100, &first_port);
    assert_eq!(of(&sent, &second_port[0]), 100);
}

/// The source MAC of the inner frame of a packet that was sent to the underlay.
fn open_from(packet: &[u8]) -> Option<[u8; 6]> {
    (packet[36..38] == [0x12, 0xb5] || packet[56..58] == [0x12, 0xb5])
        .then(|| open(packet).1[6..12].try_into().unwrap())
}

#[test]
fn ports_that_use_up_an_iteration_leave_the_vteps_for_the_next() {
    for ports in 14..36 {
        let mut fixture = Fixture::jumbo(2048);
        fixture.set_vteps(3);
        // Missing ports are counted, and use a part of the iteration.
        fixture.set_domain(|domain| {
            domain.flood = FloodList::new(
                (0..3).map(VtepId),
                (10..10 + ports).map(crate::addr::PortId),
            );
        });
        let flood = numbered(1, 1, 1000);
        assert_each_got(&fixture.run(1, [&flood]), 3, &[flood]);
        assert_eq!(fixture.dropped(DropReason::PortDown), u64::from(ports));
    }
}

#[test]
fn a_list_that_changes_meanwhile_serves_no_vtep_twice() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_vteps(200);
    fixture.set_domain(|domain| domain.flood = FloodList::new((0..200).step_by(2).map(VtepId), []));
    let flood = numbered(1, 1, 1000);
    fixture.burst(1, &[&flood]);
    let mut sent = Vec::new();
    fixture.replicate(&mut sent);
    // All VTEPs, twice as many as when the chunks were shared.
    fixture.set_domain(|domain| domain.flood = FloodList::new((0..200).map(VtepId), []));
    while fixture.replicate(&mut sent) > 0 {}
    let mut vteps: Vec<_> = sent.iter().map(|(_, packet)| open(packet).0).collect();
    vteps.sort_unstable();
    let wanted: Vec<_> = (0..200)
        .filter(|id| id % 2 == 0 || *id > 2 * (COPIES_PER_ITERATION as u32 - 1))
        .collect();
    assert_eq!(vteps, wanted);
    assert!(sent.iter().all(|(_, packet)| open(packet).1 == flood));
    // No receiver is left.
    fixture.burst(1, &[&flood]);
    fixture.replicate(&mut sent);
    fixture.set_domain(|domain| domain.flood = FloodList::default());
    assert!(fixture.replicate(&mut Vec::new()) <= 1);
    assert_eq!(fixture.pool.available(), fixture.pool.capacity());
}

#[test]
fn a_port_that_floods_too_much_is_counted_and_does_not_block_others() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_vteps(1000);
    let frames: Vec<_> = (0..64).map(|number| numbered(1, number, 400)).collect();
    fixture.burst(1, &frames);
    fixture.burst(1, &frames);
    assert_eq!(
        fixture.dropped(DropReason::FloodFull),
        0,
        "two bursts at once"
    );
    fixture.burst(1, &frames);
    let dropped = fixture.dropped(DropReason::FloodFull);
    assert_eq!(dropped, 64);
    fixture.burst(2, &[numbered(2, 0, 400)]);
    assert_eq!(fixture.dropped(DropReason::FloodFull), dropped);
    // Pending floods are freed when the worker ends, shared or not.
    fixture.replicate(&mut Vec::new());
    fixture.close();
    assert_eq!(fixture.pool.available(), fixture.pool.capacity());
}

#[test]
fn the_floods_of_a_removed_device_are_freed() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_vteps(300);
    fixture.burst(1, &[numbered(1, 0, 1000), numbered(1, 1, 1000)]);
    fixture.replicate(&mut Vec::new());
    std::sync::Arc::make_mut(&mut fixture.snapshot.ports).devices[1] = None;
    fixture.snapshot.version += 1;
    fixture.replicate(&mut Vec::new());
    assert_eq!(fixture.replicate(&mut Vec::new()), 0);
    assert_eq!(fixture.pool.available(), fixture.pool.capacity());
}

/// Iterations until port 1's broadcast has reached all receivers, beside `busy` ports whose queues
/// are always full.
fn iterations_of_a_quiet_port(busy: u16) -> usize {
    let mut fixture = Fixture::jumbo(2048);
    fixture.pool = memory_pools(1, 2048, 2048).remove(0);
    fixture.set_vteps(2);
    let ports: Vec<_> = (0..busy).map(|n| 4 + n).collect();
    fixture.add_ports(&ports);
    let mut sent: Vec<(u16, Vec<u8>)> = Vec::new();
    for port in &ports {
        (0..3).for_each(|_| drop(fixture.burst(*port, &vec![numbered(9, 0, 100); BURST])));
    }
    sent.clear();
    let before = fixture.dropped(DropReason::FloodFull);
    assert!(before > 0);
    fixture.burst(1, &[numbered(1, 7, 100)]);
    assert_eq!(
        fixture.dropped(DropReason::FloodFull),
        before,
        "there is space for the quiet port"
    );
    let receivers = usize::from(busy) + 2 + 2;
    let mut iterations = 0;
    let of_port = |packet: &[u8]| packet.windows(6).any(|bytes| bytes == mac(1));
    while sent.iter().filter(|(_, packet)| of_port(packet)).count() < receivers {
        iterations += 1;
        assert!(iterations < 10_000);
        for port in &ports {
            fixture.burst(*port, &vec![numbered(9, 0, 100); 4]);
        }
        fixture.replicate(&mut sent);
    }
    fixture.close();
    assert_eq!(fixture.pool.available(), fixture.pool.capacity());
    iterations
}

/// Deficit round robin over all ports, not only over the first two in the queue (finding D9).
#[test]
fn a_quiet_port_waits_for_one_round_beside_any_number_of_broadcasters() {
    for busy in [1, 2, 3, 4, 10, 40] {
        // A quiet port's flood takes as many rounds as it has quanta of copies.
        let rounds = (usize::from(busy) + 4).div_ceil(16);
        let round = (usize::from(busy) + 1).div_ceil(2) + 1;
        let iterations = iterations_of_a_quiet_port(busy);
        assert!(iterations <= rounds * round, "{busy}: {iterations}");
    }
}

/// A flood from the overlay is bounded like those of tenants, and unicast of the same burst is
/// delivered (finding D10).
#[test]
fn a_flood_from_the_overlay_is_bounded_per_iteration() {
    let mut fixture = Fixture::jumbo(2048);
    let ports: Vec<_> = (4..204).collect();
    fixture.add_ports(&ports);
    let flood = outer(0, 100, 0, &numbered(10, 1, 100));
    let unicast = outer(0, 100, 0, &udp4(10, mac(1), 100));
    let burst: Vec<_> = (0..BURST)
        .map(|n| if n % 2 == 0 { &flood } else { &unicast })
        .collect();
    let mut sent = fixture.burst(0, &burst);
    assert_eq!(sent.len(), BURST / 2, "unicast at once");
    let (mut iterations, mut copies) = (0, 0);
    loop {
        let before = sent.len();
        let served = fixture.replicate(&mut sent);
        assert!(served <= COPIES_PER_ITERATION);
        assert!(sent.len() - before <= COPIES_PER_ITERATION);
        copies += served;
        iterations += 1;
        if served == 0 {
            break;
        }
        // Unicast is not delayed meanwhile.
        assert_eq!(fixture.burst(0, &[&unicast]).len(), 1);
    }
    assert_eq!(copies, BURST / 2 * 203);
    assert!(iterations > 200);
    assert_eq!(fixture.drops().iter().sum::<u64>(), 0);
    assert_eq!(
        sent.iter().filter(|(device, _)| *device == 50).count(),
        BURST / 2
    );
    assert_eq!(fixture.pool.available(), fixture.pool.capacity());
}

/// The storm limit of a VNI (finding D10).
#[test]
fn what_the_overlay_floods_above_the_storm_limit_is_dropped() {
    for ports in [&[0u16][..], &[0, 1, 2]] {
        let mut fixture = Fixture::new();
        fixture.set_domain(|domain| {
            domain.storm = Some(crate::table::port::StormLimit { rate: 10, burst: 5 });
            domain.flood = FloodList::new([], ports.iter().copied().map(crate::addr::PortId));
        });
        let burst: Vec<_> = (0..BURST)
            .map(|_| outer(0, 100, 0, &numbered(10, 1, 100)))
            .collect();
        assert_eq!(fixture.run(0, &burst).len(), 5 * ports.len());
        assert_eq!(fixture.dropped(DropReason::Storm), BURST as u64 - 5);
        // Unicast is not limited.
        let unicast = outer(0, 100, 0, &udp4(10, mac(1), 100));
        assert_eq!(fixture.run(0, [&unicast; BURST]).len(), BURST);
    }
}
