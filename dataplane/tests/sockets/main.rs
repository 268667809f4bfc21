//! AF_XDP and packet sockets on real devices (veth, tap, macvlan), each test in its own network
//! namespace. Needs root.
//!
//! ```text
//! AF_XDP socket ── left ── veth ── right ── AF_XDP socket
//! AF_XDP socket ── tap0 ── a program that echoes every frame
//! AF_XDP socket ── upper ── macvlan on lower
//! ```

mod filter;
mod fixture;
mod gro;
mod jumbo;
mod packet;
mod refused;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use vtep_dataplane::afxdp::{
    AttachMode, BindMode, BusyPoll, Mode, Program, SocketConfig, XdpDevice,
};
use vtep_dataplane::frame::FrameMemory;
use vtep_dataplane::port::{Port, PortErrors};

use self::fixture::{
    End, FRAME, Netns, PATIENCE, bind, frame, open, own_umem, pool_is_whole, receive,
};

/// Sends `count` frames from `from` to `to`, in bursts; asserts that each arrives once, in order.
fn all_arrive(from: &mut End, to: &mut End, count: u32) {
    let deadline = Instant::now() + PATIENCE;
    let (mut sent, mut received, mut burst) = (0, 0, Vec::new());
    while received < count {
        assert!(
            Instant::now() < deadline,
            "{received} of {count} frames after {PATIENCE:?}, {sent} sent"
        );
        receive(&mut to.port, &mut to.pool, &mut burst);
        for got in burst.drain(..) {
            assert_eq!(
                to.pool.memory().bytes(&got),
                frame(received),
                "frame {received}"
            );
            received += 1;
            to.pool.free(got);
        }
        // No more frames in flight than the rings hold.
        if sent < count && sent - received < 64 {
            let bytes = frame(sent);
            sent += from.send(&bytes);
        }
        from.port.wake(&mut from.pool).unwrap();
        to.port.wake(&mut to.pool).unwrap();
    }
}

fn both_ways(mode: Mode, attached: AttachMode) {
    let netns = Netns::new();
    netns.veth("left", "right");
    let mut left = End::open("left", &Program::Tenant, mode);
    let mut right = End::open("right", &Program::Tenant, mode);
    for end in [&left, &right] {
        assert_eq!(end.device.attach_mode(), attached);
        assert_eq!(end.port.bind_mode(), BindMode::Copy);
    }
    all_arrive(&mut left, &mut right, 5000);
    all_arrive(&mut right, &mut left, 5000);
    assert_eq!(left.port.errors(), PortErrors::default());
    left.close();
    right.close();
}

#[test]
fn frames_cross_a_veth_both_ways_with_the_native_program() {
    both_ways(Mode::Auto, AttachMode::Native);
}

#[test]
fn frames_cross_a_veth_both_ways_with_the_generic_program() {
    both_ways(Mode::Generic, AttachMode::Generic);
}

/// Busy polling that the kernel can't do, since it knows no NAPI instance, is switched off and
/// reported (finding D17).
#[test]
fn busy_polling_without_a_napi_instance_is_switched_off() {
    let netns = Netns::new();
    netns.veth("left", "right");
    let umem = own_umem();
    let device = open("left", &Program::Tenant, Mode::Generic);
    let config = SocketConfig {
        busy_poll: BusyPoll::On,
        ..SocketConfig::default()
    };
    let mut port = bind(&device, &umem, config);
    let mut pool = umem.pools(1).unwrap().remove(0);
    let mut burst = Vec::new();
    receive(&mut port, &mut pool, &mut burst);
    let mut right = End::open("right", &Program::Tenant, Mode::Generic);
    let mut received = 0;
    fixture::until("the frames", || {
        right.send(&frame(received));
        right.port.wake(&mut right.pool).unwrap();
        received += receive(&mut port, &mut pool, &mut burst) as u32;
        burst.drain(..).for_each(|frame| pool.free(frame));
        port.wake(&mut pool).unwrap();
        received > 300
    });
    assert!(port.busy_poll_ended());
    assert!(!port.busy_poll_ended(), "reported once");
    port.close(&mut pool);
    right.close();
}

/// A whole ring is taken at once although the packets wait in a slow queue below the device: the
/// send buffer fits the ring (finding D6).
#[test]
fn a_full_tx_ring_is_taken_while_its_packets_are_on_their_way() {
    let netns = Netns::new();
    netns.veth("lower", "peer");
    netns.tc("qdisc add dev lower root tbf rate 200mbit burst 64kb limit 8mb");
    netns.ip("link add upper link lower type macvlan mode bridge");
    netns.ip("link set upper up");
    let mut upper = End::open("upper", &Program::Tenant, Mode::Auto);
    let long: Vec<u8> = frame(1).into_iter().cycle().take(1500).collect();
    let sent: u32 = (0..1000).map(|_| upper.send(&long)).sum();
    assert_eq!(sent, 1000);
    assert!(upper.port.tx_state().waiting > 0);
    upper.port.wake(&mut upper.pool).unwrap();
    let state = upper.port.tx_state();
    assert_eq!(state.waiting, 0, "frames are left in the ring: {state:?}");
    assert!(state.held > 500, "the queue is not slow: {state:?}");
    fixture::until("the completions", || {
        upper.port.wake(&mut upper.pool).unwrap();
        upper.port.tx_state().held == 0
    });
    upper.close();
}

#[test]
fn a_frame_moves_between_devices_of_one_memory_without_a_copy() {
    let netns = Netns::new();
    netns.veth("tenant", "guest");
    netns.veth("underlay", "wire");
    let umem = own_umem();
    let mut pool = umem.pools(1).unwrap().remove(0);
    let tenant = open("tenant", &Program::Tenant, Mode::Auto);
    let underlay = open("underlay", &Program::Tenant, Mode::Auto);
    let mut tenant = bind(&tenant, &umem, SocketConfig::default());
    let mut underlay_port = bind(&underlay, &umem, SocketConfig::default());
    let mut guest = End::open("guest", &Program::Tenant, Mode::Generic);
    let mut wire = End::open("wire", &Program::Tenant, Mode::Generic);
    let mut burst = Vec::new();
    // The first call fills the fill ring.
    receive(&mut tenant, &mut pool, &mut burst);
    guest.send(&frame(7));
    guest.port.wake(&mut guest.pool).unwrap();
    fixture::until("the frame of the tenant", || {
        receive(&mut tenant, &mut pool, &mut burst) == 1
    });
    let chunk = burst[0].chunk();
    burst[0].prepend(50).unwrap();
    pool.memory_mut().bytes_mut(&mut burst[0])[..50].fill(0xee);
    assert_eq!(underlay_port.send(&mut pool, &mut burst), 1);
    underlay_port.wake(&mut pool).unwrap();
    fixture::until("the frame from the wire", || {
        receive(&mut wire.port, &mut wire.pool, &mut burst) == 1
    });
    let got = burst.remove(0);
    let bytes = wire.pool.memory().bytes(&got).to_vec();
    assert_eq!(
        (bytes.len(), &bytes[..50], &bytes[50..]),
        (FRAME + 50, &[0xee; 50][..], &frame(7)[..])
    );
    wire.pool.free(got);
    fixture::until("completion", || {
        underlay_port.wake(&mut pool).unwrap();
        pool.available() + 2 * 2048 - 126 >= pool.capacity()
    });
    assert!(chunk < umem.frames());
    // The first socket made the registration; the second continues to use it, and a third may share
    // it.
    underlay_port.close(&mut pool);
    drop(tenant);
    assert!(
        umem.recover(&mut pool) > 0,
        "a dropped port leaves its chunks to recover()"
    );
    pool_is_whole(pool);
    guest.close();
    wire.close();
}

#[test]
fn a_device_without_native_xdp_gets_the_generic_program() {
    let netns = Netns::new();
    netns.veth("lower", "peer");
    netns.ip("link add upper link lower type macvlan mode bridge");
    netns.ip("link set upper up");
    let mut upper = End::open("upper", &Program::Tenant, Mode::Auto);
    assert_eq!(upper.device.attach_mode(), AttachMode::Generic);
    let mut peer = End::open("peer", &Program::Tenant, Mode::Auto);
    all_arrive(&mut upper, &mut peer, 200);
    all_arrive(&mut peer, &mut upper, 200);
    upper.close();
    peer.close();
    let refused = XdpDevice::open("upper", &Program::Tenant, Mode::ZeroCopy)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("upper") && refused.contains("mode = "),
        "{refused}"
    );
}

/// Echoes each frame that the kernel sends to the tap, like the guest side of a virtual machine's
/// interface.
const TAP_ECHO: &str = "
import fcntl, os, struct, sys
def queue(name, flags):
    tap = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', name, flags))
    return tap
tap = queue(b'tap0', 0x1002)
more = [queue(b'tap3', 0x1102) for _ in range(3)]
print('ready', flush=True)
while True:
    os.write(tap, os.read(tap, 4096))
";

#[test]
fn a_tap_sends_and_receives_frames() {
    let netns = Netns::new();
    let _guest = fixture::Child::guest(TAP_ECHO);
    netns.ip("link set tap0 up");
    assert_eq!(open("tap3", &Program::Tenant, Mode::Auto).queues(), 3);
    let mut tap = End::open("tap0", &Program::Tenant, Mode::Auto);
    let mut burst = Vec::new();
    for number in 0..100 {
        tap.send(&frame(number));
        fixture::until("the echo", || {
            tap.port.wake(&mut tap.pool).unwrap();
            receive(&mut tap.port, &mut tap.pool, &mut burst) == 1
        });
        let got = burst.remove(0);
        assert_eq!(tap.pool.memory().bytes(&got), frame(number));
        tap.pool.free(got);
    }
    tap.close();
}

#[test]
fn a_queue_in_use_is_refused_with_the_remedy() {
    let netns = Netns::new();
    netns.veth("left", "right");
    let left = End::open("left", &Program::Tenant, Mode::Auto);
    let refused = left
        .device
        .bind(0, &own_umem(), SocketConfig::default())
        .unwrap_err();
    assert_eq!(refused.errno(), Some(libc::EBUSY));
    assert!(
        refused.to_string().contains("left queue 0")
            && refused.to_string().contains("another AF_XDP socket")
    );
    let beyond = left
        .device
        .bind(1, &own_umem(), SocketConfig::default())
        .unwrap_err()
        .to_string();
    assert!(beyond.contains("queue = 1"), "{beyond}");
    left.close();
}

#[test]
fn a_killed_process_leaves_no_program() {
    const ROLE: &str = "VTEP_TEST_HOLD";
    if let Ok(interface) = std::env::var(ROLE) {
        let _end = End::open(&interface, &Program::Tenant, Mode::Auto);
        println!("holding");
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let netns = Netns::new();
    netns.veth("held", "peer");
    let mut child = fixture::Child(
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_killed_process_leaves_no_program",
                "--nocapture",
            ])
            .env(ROLE, "held")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(
        lines
            .map_while(Result::ok)
            .any(|line| line.contains("holding"))
    );
    assert!(
        netns.show("held").contains("xdp"),
        "the child's program is attached"
    );
    let busy = XdpDevice::open("held", &Program::Tenant, Mode::Auto)
        .unwrap_err()
        .to_string();
    assert!(busy.contains("another XDP program"), "{busy}");
    child.0.stdin.take().unwrap().flush().unwrap();
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    fixture::until("the program to be detached", || {
        !netns.show("held").contains("xdp")
    });
    End::open("held", &Program::Tenant, Mode::Auto).close();
}

#[test]
fn no_chunk_is_lost_by_interface_flaps() {
    let netns = Netns::new();
    netns.veth("flap", "peer");
    netns.veth("calm", "other");
    let umem = own_umem();
    let mut pool = umem.pools(1).unwrap().remove(0);
    let calm = open("calm", &Program::Tenant, Mode::Auto);
    let mut received = 0;
    let mut calm_port = None;
    for round in 0..12 {
        let flap = open("flap", &Program::Tenant, Mode::Auto);
        let mut port = bind(&flap, &umem, SocketConfig::for_chunks(512));
        // In the first rounds the socket of the flapping device owns the registration that the
        // other one shares.
        calm_port.get_or_insert_with(|| bind(&calm, &umem, SocketConfig::for_chunks(512)));
        let mut peer = End::open("peer", &Program::Tenant, Mode::Generic);
        let start = received;
        let mut burst = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while received - start < 12_000 {
            assert!(
                Instant::now() < deadline,
                "round {round}: {} frames",
                received - start
            );
            for number in 0..64 {
                peer.send(&frame(number));
            }
            peer.port.wake(&mut peer.pool).unwrap();
            received += port.receive(&mut pool, &mut burst);
            // Half is sent back, half to the other port.
            let mut half = burst.split_off(burst.len() / 2);
            port.send(&mut pool, &mut burst);
            port.wake(&mut pool).unwrap();
            let calm_port = calm_port.as_mut().unwrap();
            calm_port.send(&mut pool, &mut half);
            calm_port.wake(&mut pool).unwrap();
            burst
                .drain(..)
                .chain(half)
                .for_each(|frame| pool.free(frame));
            let mut back = Vec::new();
            peer.port.receive(&mut peer.pool, &mut back);
            back.into_iter().for_each(|frame| peer.pool.free(frame));
        }
        if round % 3 == 0 {
            netns.ip("link set flap down");
            peer.send(&frame(0));
            assert_eq!(port.probe(), Err(libc::ENETDOWN));
            netns.ip("link set flap up");
            assert_eq!(port.probe(), Ok(()));
        } else {
            netns.ip("link del flap");
            assert_eq!(port.probe(), Err(libc::ENXIO));
        }
        port.close(&mut pool);
        drop(flap);
        drop(peer);
        if round % 3 != 0 {
            netns.veth("flap", "peer");
        }
        if round % 4 == 3 {
            calm_port.take().unwrap().close(&mut pool);
            assert_eq!(pool.available(), pool.capacity(), "round {round}");
        }
    }
    assert!(received >= 12 * 12_000);
    pool_is_whole(pool);
}
