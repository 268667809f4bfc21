//! Frames of several chunks over real devices.
//!
//! ```text
//! AF_XDP socket ── left ── veth, MTU 16000 or 65535 ── right ── AF_XDP socket
//! ```

use std::time::{Duration, Instant};

use vtep_dataplane::afxdp::{AttachMode, Mode, Program, SocketConfig};
use vtep_dataplane::drop::DropReason;
use vtep_dataplane::port::{Port, PortErrors};

use crate::fixture::{End, Netns, frame, open, own_umem, pool_is_whole, umem_of, until};

/// An Ethernet header and the largest common MTU, bytes.
const JUMBO: usize = 9014;

/// Two connected interfaces that accept jumbo frames.
fn wide_veth(netns: &Netns, mtu: u32) {
    netns.veth("left", "right");
    for end in ["left", "right"] {
        netns.ip(&format!("link set {end} mtu {mtu}"));
    }
}

/// A frame with this number, whose bytes depend on their offset.
fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = frame(number);
    bytes.extend((bytes.len()..len).map(|at| (at as u32 ^ number.wrapping_mul(31)) as u8));
    bytes.truncate(len);
    bytes
}

/// Lengths around chunk boundaries, and the longest.
const LENGTHS: [usize; 9] = [60, 1791, 1792, 1793, 3584, 3585, 5377, 9000, JUMBO];

fn both_ways(mode: Mode, attached: AttachMode) {
    let netns = Netns::new();
    wide_veth(&netns, 16_000);
    let mut left = End::open("left", &Program::Tenant, mode);
    let mut right = End::open("right", &Program::Tenant, mode);
    for end in [&left, &right] {
        assert_eq!(end.device.attach_mode(), attached);
        assert!(end.port.is_multi_buffer());
    }
    all_arrive(&mut left, &mut right);
    all_arrive(&mut right, &mut left);
    left.close();
    right.close();
}

/// Frames of all lengths, in chunks of several sizes, arrive once, in order, with every byte.
fn all_arrive(from: &mut End, to: &mut End) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let count = 2000;
    let made = |number: u32| numbered(number, LENGTHS[number as usize % LENGTHS.len()]);
    let (mut sent, mut received, mut burst) = (0, 0, Vec::new());
    while received < count {
        assert!(
            Instant::now() < deadline,
            "{received} of {count} frames after 20 s, {sent} sent"
        );
        to.port.receive(&mut to.pool, &mut burst);
        for got in burst.drain(..) {
            assert_eq!(to.bytes(&got), made(received), "frame {received}");
            received += 1;
            to.pool.free(got);
        }
        if sent < count && sent - received < 32 {
            sent += from.send_in(&made(sent), if sent % 2 == 0 { 1792 } else { 1301 });
        }
        from.port.wake(&mut from.pool).unwrap();
        to.port.wake(&mut to.pool).unwrap();
    }
    assert_eq!(
        (from.port.errors(), to.port.errors()),
        (PortErrors::default(), PortErrors::default())
    );
}

#[test]
fn jumbo_frames_cross_a_veth_both_ways_with_the_native_program() {
    both_ways(Mode::Auto, AttachMode::Native);
}

#[test]
fn jumbo_frames_cross_a_veth_both_ways_with_the_generic_program() {
    both_ways(Mode::Generic, AttachMode::Generic);
}

/// What a sender left to hardware to segment is received whole; what has more chunks than the kernel
/// sends is refused.
#[test]
fn a_frame_of_many_chunks_is_received_whole() {
    let netns = Netns::new();
    wide_veth(&netns, 65_535);
    let mut left = End::open_over(&umem_of(4096), "left", &Program::Tenant, Mode::Auto);
    let mut right = End::open("right", &Program::Tenant, Mode::Auto);
    // The receiver's chunks hold 1792 bytes each, the sender's 4096; it sends up to nine.
    let longest = 9 * 4096;
    for (number, len) in (0..).zip([longest + 1, 60, 16_001, longest]) {
        assert_eq!(left.send_in(&numbered(number, len), 4096), 1);
    }
    let mut burst = Vec::new();
    until("the frames that are sent", || {
        left.port.wake(&mut left.pool).unwrap();
        right.port.receive(&mut right.pool, &mut burst);
        burst.len() == 3
    });
    let got: Vec<_> = burst.iter().map(|frame| right.bytes(frame)).collect();
    assert_eq!(
        got,
        [numbered(1, 60), numbered(2, 16_001), numbered(3, longest)]
    );
    assert_eq!(right.port.errors(), PortErrors::default());
    for (reason, count) in left.port.errors().iter() {
        let too_long = reason == DropReason::TooManySegments;
        assert_eq!(count, u64::from(too_long), "{reason:?}");
    }
    burst.drain(..).for_each(|frame| right.pool.free(frame));
    left.close();
    right.close();
}

#[test]
fn no_chunk_is_lost_when_a_socket_closes_under_jumbo_frames() {
    let netns = Netns::new();
    wide_veth(&netns, 16_000);
    let umem = own_umem();
    let mut pool = umem.pools(1).unwrap().remove(0);
    let mut left = End::open("left", &Program::Tenant, Mode::Auto);
    let mut received = 0;
    for round in 0..20 {
        let right = open("right", &Program::Tenant, Mode::Auto);
        let mut port = right.bind(0, &umem, SocketConfig::for_chunks(512)).unwrap();
        let mut burst = Vec::new();
        port.receive(&mut pool, &mut burst);
        let deadline = Instant::now() + Duration::from_secs(20);
        let goal = received + 300;
        while received < goal {
            assert!(
                Instant::now() < deadline,
                "round {round}: {received} frames"
            );
            for number in 0..24 {
                left.send(&numbered(number, LENGTHS[number as usize % LENGTHS.len()]));
            }
            left.port.wake(&mut left.pool).unwrap();
            received += port.receive(&mut pool, &mut burst);
            // Send back as many as fit, without waiting.
            port.send(&mut pool, &mut burst);
            burst.drain(..).for_each(|frame| pool.free(frame));
            if round % 2 == 0 {
                port.wake(&mut pool).unwrap();
            }
            let mut back = Vec::new();
            left.port.receive(&mut left.pool, &mut back);
            back.into_iter().for_each(|frame| left.pool.free(frame));
        }
        // The chunks in the rings are recovered.
        if round % 3 == 0 {
            drop(port);
            umem.recover(&mut pool);
        } else {
            port.close(&mut pool);
        }
        assert_eq!(pool.available(), pool.capacity(), "round {round}");
    }
    left.close();
    pool_is_whole(pool);
}
