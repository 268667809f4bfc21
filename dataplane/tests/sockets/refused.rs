//! A kernel that refuses superframes of UDP, or to join datagrams: what it would have carried as one
//! goes by itself. Every kernel with tcx knows both, so that a seccomp filter of the thread refuses them.
//!
//! ```text
//! underlay socket ── near ── veth ── far ── packet socket
//! ```

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use etherparse::PacketBuilder;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use vtep_dataplane::frame::FrameMemory;
use vtep_dataplane::packet::{PacketDevice, PacketPort, UnderlayFilter};
use vtep_dataplane::port::{Port, PortErrors};

use crate::fixture::{Netns, frame, is_test_frame, own_umem, until};
use crate::packet::make;

const SOL_UDP: u64 = 17;
const UDP_GRO: u64 = 104;
const PORT: u16 = 4789;

fn local() -> IpAddr {
    [203, 0, 113, 2].into()
}

/// Makes system calls of this thread fail with EINVAL whose arguments, by number, compare so.
fn refuse(call: libc::c_long, arguments: &[(u8, SeccompCmpOp, u64)]) {
    let conditions = arguments.iter().map(|(number, how, value)| {
        SeccompCondition::new(*number, SeccompCmpArgLen::Dword, how.clone(), *value).unwrap()
    });
    let rule = SeccompRule::new(conditions.collect()).unwrap();
    let filter = SeccompFilter::new(
        [(call, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EINVAL as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Runs `work` in a thread of its own, with two connected interfaces, `near` and `far`.
fn in_thread(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let netns = Netns::new();
        netns.veth("near", "far");
        work();
    });
    thread.join().unwrap();
}

/// VXLAN with a test frame inside.
fn vxlan(number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([203, 0, 113, 9], [203, 0, 113, 2], 64)
        .udp(50_000, PORT)
        .write(
            &mut bytes,
            &[&[8, 0, 0, 0, 0, 0, 100, 0][..], &frame(number)].concat(),
        )
        .unwrap();
    bytes
}

fn socket(port: &PacketPort) -> RawFd {
    port.poll_fd().unwrap().as_raw_fd()
}

#[test]
fn frames_leave_one_by_one_when_superframes_are_refused() {
    in_thread(|| {
        let umem = own_umem();
        let mut pool = umem.pools(1).unwrap().remove(0);
        let device = PacketDevice::open("near").unwrap();
        let filter = UnderlayFilter::attach("near", device.ifindex(), &[local()], PORT).unwrap();
        let mut near = device.bind_underlay(0, 1, &umem, &filter).unwrap();
        let mut far = PacketDevice::open("far")
            .unwrap()
            .bind(0, 1, &umem)
            .unwrap();
        // Superframes have a socket of their own.
        let own = socket(&near) as u64;
        refuse(libc::SYS_sendmmsg, &[(0, SeccompCmpOp::Ne, own)]);
        let mut arrived = 0;
        for round in 0..3 {
            let numbers = round * 8..round * 8 + 8;
            let mut frames: Vec<_> = numbers
                .map(|number| make(&mut pool, &vxlan(number)))
                .collect();
            near.send(&mut pool, &mut frames);
            assert!(frames.is_empty(), "room for 8 frames");
            near.wake(&mut pool).unwrap();
            let mut burst = Vec::new();
            until("8 frames", || {
                far.receive(&mut pool, &mut burst);
                for got in burst.drain(..) {
                    if is_test_frame(pool.memory().bytes(&got)) {
                        assert_eq!(pool.memory().bytes(&got)[50..], frame(arrived));
                        arrived += 1;
                    }
                    pool.free(got);
                }
                arrived == (round + 1) * 8
            });
            assert!(
                near.id().refuses_superframes(),
                "the kernel has refused one"
            );
        }
        assert_eq!(near.errors(), PortErrors::default(), "none is lost");
        near.close(&mut pool);
        far.close(&mut pool);
    });
}

#[test]
fn an_underlay_that_joins_nothing_says_so_and_receives() {
    in_thread(|| {
        let umem = own_umem();
        let mut pool = umem.pools(1).unwrap().remove(0);
        refuse(
            libc::SYS_setsockopt,
            &[
                (1, SeccompCmpOp::Eq, SOL_UDP),
                (2, SeccompCmpOp::Eq, UDP_GRO),
            ],
        );
        let device = PacketDevice::open("near").unwrap();
        let mut filter =
            UnderlayFilter::attach("near", device.ifindex(), &[local()], PORT).unwrap();
        filter.join(&[local()], PORT);
        let refused = filter.not_joined().and_then(std::io::Error::raw_os_error);
        assert_eq!(refused, Some(libc::EINVAL));
        let mut near = device.bind_underlay(0, 1, &umem, &filter).unwrap();
        let mut far = PacketDevice::open("far")
            .unwrap()
            .bind(0, 1, &umem)
            .unwrap();
        let mut frames: Vec<_> = (0..8)
            .map(|number| make(&mut pool, &vxlan(number)))
            .collect();
        far.send(&mut pool, &mut frames);
        far.wake(&mut pool).unwrap();
        let (mut arrived, mut burst) = (0, Vec::new());
        until("8 frames", || {
            near.receive(&mut pool, &mut burst);
            for got in burst.drain(..) {
                assert_eq!(pool.memory().bytes(&got)[50..], frame(arrived));
                arrived += 1;
                pool.free(got);
            }
            arrived == 8
        });
        near.close(&mut pool);
        far.close(&mut pool);
    });
}
