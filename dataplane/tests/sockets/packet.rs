//! Packet sockets on real devices, with the offloads that these have by default.
//!
//! ```text
//! a tenant: eth0 ── veth ── near0: packet socket ─┐
//!                                                 ├ one worker, or two
//! a tenant: eth0 ── veth ── near1: packet socket ─┘
//! packet socket ── left ── veth ── right ── packet socket
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vtep_dataplane::afxdp::{HugePages, Mode, Program, Umem, UmemConfig, UmemMemory, XdpDevice};
use vtep_dataplane::drop::DropReason;
use vtep_dataplane::frame::offload::{ChecksumState, Offload};
use vtep_dataplane::frame::{BURST, Frame, FrameMemory, Pool};
use vtep_dataplane::packet::{Error, Isolation, PacketDevice, PacketPort};
use vtep_dataplane::port::{Port, PortErrors};

use crate::fixture::{
    self, FRAME, Netns, PATIENCE, frame, is_test_frame, own_umem, pool_is_whole, run, until,
};

/// The namespace of a tenant.
struct Tenant {
    name: String,
}

impl Tenant {
    /// A tenant with the addresses 192.0.2.`host` and 2001:db8::`host` behind the interface `near`
    /// of the caller's namespace.
    fn new(near: &str, host: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("vtep-pkt-{process}-{number}");
        run(&format!("ip netns add {name}"));
        let tenant = Self { name };
        run(&format!(
            "ip link add {near} type veth peer name eth0 netns {}",
            tenant.name
        ));
        run(&format!("ip link set {near} up addrgenmode none"));
        tenant.ip("link set eth0 up");
        tenant.add_addresses("eth0", "192.0.2", "2001:db8:", host);
        tenant
    }

    fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.name));
    }

    fn add_addresses(&self, interface: &str, v4: &str, v6: &str, host: u8) {
        self.ip(&format!("addr add {v4}.{host}/24 dev {interface}"));
        self.ip(&format!("addr add {v6}:{host}/64 dev {interface} nodad"));
    }

    /// Runs `work` in the namespace.
    fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let own = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::spawn(move || {
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
    }
}

fn open(name: &str, umem: &Umem) -> PacketPort {
    PacketDevice::open(name).unwrap().bind(0, 1, umem).unwrap()
}

fn pool_of(umem: &Umem) -> Pool<UmemMemory> {
    umem.pools(1).unwrap().remove(0)
}

fn offload(pool: &Pool<UmemMemory>, frame: &Frame) -> Offload {
    pool.memory().buffers().offload(frame)
}

/// One worker that sends on each port what it receives on the other.
struct Forwarder {
    ports: [PacketPort; 2],
    pool: Pool<UmemMemory>,
    burst: Vec<Frame>,
}

impl Forwarder {
    fn new(names: [&str; 2]) -> Self {
        let umem = own_umem();
        Self {
            ports: names.map(|name| open(name, &umem)),
            pool: pool_of(&umem),
            burst: Vec::new(),
        }
    }

    /// Forwards frames until `done`; `look` sees each one with the number of its port.
    fn run(
        &mut self,
        mut look: impl FnMut(usize, &Frame, &Pool<UmemMemory>),
        mut done: impl FnMut() -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "not done after {PATIENCE:?}");
            let mut moved = 0;
            for from in [0, 1] {
                moved += self.ports[from].receive(&mut self.pool, &mut self.burst);
                let bytes: usize = self.burst.iter().map(Frame::len).sum();
                assert!(self.burst.len() <= BURST && bytes <= (256 + 64) << 10);
                self.burst
                    .iter()
                    .for_each(|frame| look(from, frame, &self.pool));
                let to = &mut self.ports[1 - from];
                to.send(&mut self.pool, &mut self.burst);
                assert!(self.burst.is_empty(), "no room to send");
                to.wake(&mut self.pool).unwrap();
            }
            if moved == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Asserts that no chunk is lost.
    fn close(mut self) {
        self.ports
            .into_iter()
            .for_each(|port| port.close(&mut self.pool));
        pool_is_whole(self.pool);
    }
}

/// Bytes that a test sends over TCP in each direction.
const STREAM: usize = 16 << 20;

fn pattern() -> Vec<u8> {
    (0..STREAM as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// Sends [`pattern`] and receives it back, over one connection.
fn exchange(mut stream: TcpStream, first: bool) {
    let send = |stream: &mut TcpStream| {
        stream.write_all(&pattern()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    };
    if first {
        send(&mut stream);
    }
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == pattern(), "{} bytes differ", got.len());
    if !first {
        send(&mut stream);
    }
}

/// Two tenants that exchange [`STREAM`] bytes in each direction: true when they have finished.
fn tcp(tenants: &[Tenant; 2], to: &str) -> impl FnMut() -> bool {
    let (listen, connect) = (format!("{to}:5201"), format!("{to}:5201"));
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = tenants[1].spawn(move || {
        let listener = TcpListener::bind(listen).unwrap();
        ready.send(()).unwrap();
        exchange(listener.accept().unwrap().0, false);
    });
    let client = tenants[0].spawn(move || {
        is_ready.recv().unwrap();
        exchange(TcpStream::connect(connect).unwrap(), true);
    });
    let mut threads = Some([server, client]);
    move || {
        let finished = threads
            .as_ref()
            .is_none_or(|threads| threads.iter().all(JoinHandle::is_finished));
        if finished {
            for thread in threads.take().into_iter().flatten() {
                thread.join().unwrap();
            }
        }
        finished
    }
}

/// The longest frame of these devices that is not cut, bytes: one tag, and the MTU.
const WHOLE: usize = 1518;

#[test]
fn tcp_between_two_tenants_keeps_its_superframes() {
    let _netns = Netns::new();
    let tenants = [Tenant::new("near0", 1), Tenant::new("near1", 2)];
    let mut forwarder = Forwarder::new(["near0", "near1"]);
    for to in ["192.0.2.2", "[2001:db8::2]"] {
        let (mut superframes, mut partial) = ([0; 2], 0);
        forwarder.run(
            |from, frame, pool| {
                let offload = offload(pool, frame);
                superframes[from] += usize::from(offload.segmentation.is_some());
                partial += usize::from(offload.checksum != ChecksumState::Unknown);
                assert_eq!(
                    frame.len() > WHOLE,
                    offload.segmentation.is_some(),
                    "{offload:?}"
                );
            },
            tcp(&tenants, to),
        );
        assert!(
            superframes.iter().all(|count| *count > 100) && partial > 200,
            "{to}: {superframes:?} superframes, {partial} partial checksums"
        );
    }
    for port in &forwarder.ports {
        assert_eq!(port.errors(), PortErrors::default());
        assert_eq!(port.id().statistics(), Some(port.statistics().unwrap()));
    }
    forwarder.close();
}

/// Puts a tag beside each frame that leaves `interface`, or takes it away from each one that comes.
const TAGGING: &str = "
struct skb;
static long (*push)(void *, unsigned short, unsigned short) = (void *)18;
static long (*pop)(void *) = (void *)19;
__attribute__((section(\"egress\"), used)) int out(void *skb) { push(skb, PROTOCOL, TCI); return 0; }
__attribute__((section(\"ingress\"), used)) int in(void *skb) { pop(skb); return 0; }
char LICENSE[] __attribute__((section(\"license\"), used)) = \"GPL\";
";

/// Makes the tenants' kernels tag their frames as a VLAN interface does: the tag is beside the frame.
fn tag_frames(tenants: &[Tenant], protocol: u16, tci: u16) {
    let directory = std::env::temp_dir().join(&tenants[0].name);
    std::fs::create_dir_all(&directory).unwrap();
    let (source, object) = (directory.join("tag.c"), directory.join("tag.o"));
    std::fs::write(&source, TAGGING).unwrap();
    run(&format!(
        "clang -O2 -target bpf -DPROTOCOL={} -DTCI={tci} -c {} -o {}",
        protocol.to_be(),
        source.display(),
        object.display()
    ));
    for tenant in tenants {
        let tc = format!("tc -n {}", tenant.name);
        run(&format!("{tc} qdisc replace dev eth0 clsact"));
        for hook in ["ingress", "egress"] {
            run(&format!(
                "{tc} filter replace dev eth0 {hook} pref 1 handle 1 bpf da obj {} sec {hook}",
                object.display()
            ));
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_tag_beside_a_superframe_is_put_back_into_it() {
    let _netns = Netns::new();
    let tenants = [Tenant::new("near0", 1), Tenant::new("near1", 2)];
    let mut forwarder = Forwarder::new(["near0", "near1"]);
    for (protocol, tci, tag) in [
        (0x8100, 0xa00a, [0x81, 0x00, 0xa0, 0x0a]),
        (0x88a8, 0x0014, [0x88, 0xa8, 0x00, 0x14]),
    ] {
        tag_frames(&tenants, protocol, tci);
        if protocol == 0x88a8 {
            // The kernel takes a frame that is longer than the MTU by its tag only with a C-TAG
            // (net/packet/af_packet.c, `packet_extra_vlan_len_allowed`).
            tenants
                .iter()
                .for_each(|it| it.ip("link set eth0 mtu 1496"));
        }
        let mut superframes = 0;
        forwarder.run(
            |_, frame, pool| {
                let offload = offload(pool, frame);
                assert_eq!(offload.vlan_tci, None, "it is in the frame");
                if offload.segmentation.is_some() {
                    superframes += 1;
                    assert_eq!(pool.memory().bytes(frame)[12..16], tag);
                }
            },
            tcp(&tenants, "192.0.2.2"),
        );
        assert!(superframes > 100, "{tci:#x}: {superframes} superframes");
    }
    for port in &forwarder.ports {
        assert_eq!(port.errors(), PortErrors::default());
    }
    forwarder.close();
}

/// Receives until `done`, and frees what was received; `look` sees each test frame.
fn receive_until(
    port: &mut PacketPort,
    pool: &mut Pool<UmemMemory>,
    mut look: impl FnMut(&[u8]),
    mut done: impl FnMut() -> bool,
) {
    let mut burst = Vec::new();
    until("the frames", || {
        while port.receive(pool, &mut burst) > 0 {
            for frame in burst.drain(..) {
                let bytes = pool.memory().bytes(&frame);
                if is_test_frame(bytes) {
                    look(bytes);
                }
                pool.free(frame);
            }
        }
        done()
    });
}

/// Makes a frame of these bytes.
pub(crate) fn make(pool: &mut Pool<UmemMemory>, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    let chunk_size = pool.memory().chunk_size();
    frame.set_extent(256, bytes.len(), chunk_size).unwrap();
    pool.memory_mut()
        .bytes_mut(&mut frame)
        .copy_from_slice(bytes);
    frame
}

/// Sends `count` test frames, numbered from `first`, and returns how many the port accepted.
fn send(port: &mut PacketPort, pool: &mut Pool<UmemMemory>, first: u32, count: u32) -> usize {
    let mut frames: Vec<_> = (first..first + count)
        .map(|number| make(pool, &frame(number)))
        .collect();
    let accepted = port.send(pool, &mut frames);
    frames.into_iter().for_each(|frame| pool.free(frame));
    accepted
}

#[test]
fn short_frames_are_received_once_and_in_order_or_counted() {
    const COUNT: u32 = 100_000;
    let netns = Netns::new();
    netns.veth("left", "right");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let mut left = open("left", &umem);
    let mut right = open("right", &umem);
    let (mut received, mut next) = (0, 0);
    let mut burst = Vec::new();
    for first in (0..COUNT).step_by(BURST) {
        assert_eq!(
            send(&mut left, &mut pool, first, BURST as u32),
            BURST,
            "room for a burst"
        );
        left.wake(&mut pool).unwrap();
        // The receiver is too slow from time to time.
        if first % 20_480 < 10_240 {
            while right.receive(&mut pool, &mut burst) > 0 {}
            for frame in burst.drain(..) {
                let bytes = pool.memory().bytes(&frame);
                assert_eq!(bytes.len(), FRAME);
                let number = u32::from_be_bytes(bytes[14..18].try_into().unwrap());
                assert!(number >= next, "{number} after {next}");
                next = number + 1;
                received += 1;
                pool.free(frame);
            }
        }
    }
    receive_until(&mut right, &mut pool, |_| received += 1, || true);
    let sent = COUNT.next_multiple_of(BURST as u32);
    let lost = right.statistics().unwrap().rx_ring_full + left.errors().get(DropReason::TxDropped);
    assert_eq!(u64::from(sent), received + lost, "{received} received");
    assert!(lost > 0, "the receiver was never too slow");
    assert_eq!(left.receive(&mut pool, &mut burst), 0, "its own frames");
    left.close(&mut pool);
    right.close(&mut pool);
    pool_is_whole(pool);
}

#[test]
fn several_sockets_share_the_frames_by_flow() {
    const FLOWS: u16 = 64;
    let _netns = Netns::new();
    let tenant = Tenant::new("near0", 1);
    tenant.ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let device = PacketDevice::open("near0").unwrap();
    let mut ports: Vec<_> = (0..3)
        .map(|number| device.bind(number, 3, &umem).unwrap())
        .collect();
    let send = || {
        tenant
            .spawn(|| {
                for _ in 0..10 {
                    for port in 0..FLOWS {
                        let socket = UdpSocket::bind(("192.0.2.1", 40_000 + port)).unwrap();
                        socket.send_to(&[0; 32], "192.0.2.9:9").unwrap();
                    }
                }
            })
            .join()
            .unwrap();
    };
    // By flow: the sockets that received it.
    let take = |ports: &mut [PacketPort], pool: &mut Pool<UmemMemory>| {
        let (mut by_flow, mut total) = (vec![0u8; usize::from(FLOWS)], 0);
        let mut burst = Vec::new();
        for (number, port) in ports.iter_mut().enumerate() {
            while port.receive(pool, &mut burst) > 0 {}
            for frame in burst.drain(..) {
                let bytes = pool.memory().bytes(&frame);
                let source = u16::from_be_bytes(bytes[34..36].try_into().unwrap());
                if bytes[12..14] == [8, 0] && bytes[23] == 17 {
                    by_flow[usize::from(source - 40_000)] |= 1 << number;
                    total += 1;
                }
                pool.free(frame);
            }
        }
        (by_flow, total)
    };
    send();
    let (by_flow, total) = take(&mut ports, &mut pool);
    assert_eq!(total, 10 * usize::from(FLOWS), "each frame once");
    assert!(by_flow.iter().all(|sockets| sockets.count_ones() == 1));
    let used = by_flow.iter().fold(0, |used, sockets| used | sockets);
    assert_eq!(used, 0b111, "every socket has flows");
    // A socket that leaves gives its flows to the others.
    ports.remove(1).close(&mut pool);
    send();
    assert_eq!(take(&mut ports, &mut pool).1, 10 * usize::from(FLOWS));
    ports.push(device.bind(1, 3, &umem).unwrap());
    send();
    assert_eq!(take(&mut ports, &mut pool).1, 10 * usize::from(FLOWS));
    ports.into_iter().for_each(|port| port.close(&mut pool));
    pool_is_whole(pool);
}

#[test]
fn an_interface_that_goes_down_or_away_is_reported() {
    let netns = Netns::new();
    netns.veth("left", "right");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let mut left = open("left", &umem);
    let mut right = open("right", &umem);
    let mut burst = Vec::new();
    for round in 0..3 {
        netns.ip("link set left down");
        // Without anything to send, receiving tells it soon.
        until("the error", || {
            assert_eq!(left.receive(&mut pool, &mut burst), 0);
            left.wake(&mut pool) == Err(libc::ENETDOWN)
        });
        assert_eq!(send(&mut left, &mut pool, 0, 10), 10);
        assert_eq!(left.wake(&mut pool), Err(libc::ENETDOWN));
        assert_eq!(left.probe(), Err(libc::ENETDOWN));
        assert_eq!(left.tx_state().held, 0, "nothing waits for the link");
        assert_eq!(
            left.errors().get(DropReason::PortDown),
            10 * (round + 1),
            "round {round}"
        );
        netns.ip("link set left up");
        until("the link", || netns.show("left").contains("LOWER_UP"));
        assert_eq!((left.probe(), left.wake(&mut pool)), (Ok(()), Ok(())));
        // The other end lost its carrier; it reports no error.
        let mut received = 0;
        until("frames again", || {
            send(&mut left, &mut pool, 0, 1);
            left.wake(&mut pool).unwrap();
            received += right.receive(&mut pool, &mut burst);
            right.wake(&mut pool).unwrap();
            burst.drain(..).for_each(|frame| pool.free(frame));
            received > 0
        });
    }
    netns.ip("link del left");
    assert_eq!(send(&mut left, &mut pool, 0, 10), 10);
    assert_eq!(left.wake(&mut pool), Err(libc::ENXIO));
    assert_eq!(left.probe(), Err(libc::ENXIO));
    let id = left.id();
    assert!(id.statistics().is_some());
    left.close(&mut pool);
    assert!(id.statistics().is_none());
    // A dropped port leaves its chunks to `recover`.
    assert_eq!(send(&mut right, &mut pool, 0, 10), 10);
    drop(right);
    assert!(umem.recover(&mut pool) >= 10);
    pool_is_whole(pool);
}

#[test]
fn without_free_chunks_frames_wait_in_the_kernel_and_are_counted_when_it_is_full() {
    const SENT: u32 = 8 << 10;
    let netns = Netns::new();
    netns.veth("left", "right");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let mut right = open("right", &umem);
    let small = Umem::new(UmemConfig {
        frames: 256,
        frame_size: 2048,
        huge_pages: HugePages::Off,
    })
    .unwrap();
    let mut small_pool = pool_of(&small);
    let mut left = open("left", &small);
    let mut taken: Vec<_> = std::iter::from_fn(|| small_pool.alloc()).collect();
    let mut burst = Vec::new();
    for first in (0..SENT).step_by(BURST) {
        send(&mut right, &mut pool, first, BURST as u32);
        right.wake(&mut pool).unwrap();
        assert_eq!(left.receive(&mut small_pool, &mut burst), 0);
    }
    taken.drain(..).for_each(|frame| small_pool.free(frame));
    let mut received = 0;
    receive_until(&mut left, &mut small_pool, |_| received += 1, || true);
    let lost = left.statistics().unwrap().rx_ring_full + right.errors().get(DropReason::TxDropped);
    assert!(received >= 1024, "{received} were kept");
    assert_eq!(received + lost, u64::from(SENT));
    left.close(&mut small_pool);
    right.close(&mut pool);
    pool_is_whole(small_pool);
    pool_is_whole(pool);
}

/// What a slow lower interface has not sent fills the socket's buffer: the other frames wait, and
/// are sent later.
#[test]
fn frames_wait_while_the_sockets_buffer_is_full() {
    const SENT: u32 = 4000;
    let netns = Netns::new();
    netns.veth("lower", "peer");
    netns.tc("qdisc add dev lower root tbf rate 100mbit burst 64kb limit 16mb");
    netns.ip("link add upper link lower type macvlan mode bridge");
    netns.ip("link set upper up");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let mut upper = open("upper", &umem);
    let mut peer = open("peer", &umem);
    let mut sent = 0;
    let mut waited = false;
    let mut received = 0;
    let mut burst = Vec::new();
    until("all frames, or their drops", || {
        while sent < SENT && upper.tx_state().free > 0 {
            let long: Vec<u8> = frame(sent).into_iter().cycle().take(1500).collect();
            let mut frames = vec![make(&mut pool, &long)];
            assert_eq!(upper.send(&mut pool, &mut frames), 1);
            sent += 1;
        }
        upper.wake(&mut pool).unwrap();
        waited |= upper.tx_state().waiting > 0;
        while peer.receive(&mut pool, &mut burst) > 0 {}
        received += burst.len() as u64;
        burst.drain(..).for_each(|frame| pool.free(frame));
        // Where this test is too slow, the receiving socket is full.
        received + peer.statistics().unwrap().rx_ring_full == u64::from(SENT)
    });
    assert!(waited, "the buffer was never full");
    assert_eq!(upper.errors(), PortErrors::default());
    upper.close(&mut pool);
    peer.close(&mut pool);
    pool_is_whole(pool);
}

#[test]
fn a_frame_above_the_mtu_is_dropped_and_the_next_one_sent() {
    let netns = Netns::new();
    netns.veth("left", "right");
    netns.ip("link set left mtu 1000");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let mut left = open("left", &umem);
    let mut right = open("right", &umem);
    let long: Vec<u8> = frame(1).into_iter().cycle().take(1500).collect();
    let mut frames = vec![make(&mut pool, &long), make(&mut pool, &frame(2))];
    assert_eq!(left.send(&mut pool, &mut frames), 2);
    left.wake(&mut pool).unwrap();
    let mut received = Vec::new();
    receive_until(
        &mut right,
        &mut pool,
        |bytes| received.push(bytes.to_vec()),
        || true,
    );
    assert_eq!(received, [frame(2)]);
    assert_eq!(left.errors().get(DropReason::PortMtu), 1);
    left.close(&mut pool);
    right.close(&mut pool);
    pool_is_whole(pool);
}

/// Writes to a tap with vnet headers, as QEMU does, and reads what the kernel sends to it: one
/// superframe, one in a tunnel of its own, then echoes of what is read.
const GUEST: &str = "
import fcntl, os, struct
tap = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', b'tap0', 0x5002))
fcntl.ioctl(tap, 0x400454d0, 0x0f)
print('ready', flush=True)
input()
def ipv4(protocol, payload):
    header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0,
                         bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    total = sum(struct.unpack('!10H', header))
    total = (total & 0xffff) + (total >> 16)
    total = ~((total & 0xffff) + (total >> 16)) & 0xffff
    return header[:10] + struct.pack('!H', total) + header[12:] + payload
ethernet = bytes.fromhex('020000000002' '020000000001' '0800')
tcp = ethernet + ipv4(6, struct.pack('!HHIIBBHHH', 1, 2, 3, 4, 0x50, 0x10, 500, 0, 0) + bytes(range(256)) * 200)
vxlan = ethernet + ipv4(17, struct.pack('!HHHH', 1, 4789, 16 + len(tcp), 0) + b'\\x08\\0\\0\\0\\0\\0\\x07\\0' + tcp)
os.write(tap, struct.pack('=BBHHHH', 1, 1, 54, 1448, 34, 16) + tcp)
os.write(tap, struct.pack('=BBHHHH', 1, 1, 104, 1448, 84, 16) + vxlan)
while True:
    os.write(tap, os.read(tap, 70000))
";

#[test]
fn superframes_of_a_guest_cross_a_tap_both_ways() {
    let netns = Netns::new();
    let mut guest = fixture::Child::guest(GUEST);
    netns.ip("link set tap0 up");
    let umem = own_umem();
    let mut pool = pool_of(&umem);
    let mut tap = open("tap0", &umem);
    guest.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut burst = Vec::new();
    let (mut before, mut echoes, mut in_tunnels) = (None, 0, 0);
    until("the echoes", || {
        tap.receive(&mut pool, &mut burst);
        // No device takes one in a tunnel whole: the pipeline cuts it.
        for frame in burst.extract_if(.., |frame| frame.len() == 50 + 54 + 51_200) {
            let offload = offload(&pool, &frame);
            assert!(offload.segmentation.is_some_and(|it| it.size == 1448));
            in_tunnels += 1;
            pool.free(frame);
        }
        if let Some(frame) = burst.first() {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(frame, &mut bytes);
            assert_eq!(bytes.len(), 54 + 51_200);
            let got = (offload(&pool, frame), bytes);
            assert!(got.0.segmentation.is_some_and(|it| it.size == 1448));
            let first = before.get_or_insert_with(|| got.clone());
            assert!(*first == got, "echo {echoes}: {:?}", got.0);
            echoes += burst.len();
        }
        tap.send(&mut pool, &mut burst);
        tap.wake(&mut pool).unwrap();
        echoes > 100
    });
    assert_eq!(in_tunnels, 1);
    assert_eq!(tap.errors().get(DropReason::Unsegmentable), 0);
    tap.close(&mut pool);
    pool_is_whole(pool);
}

#[test]
fn what_packet_sockets_do_not_carry_is_refused_with_the_reason() {
    let netns = Netns::new();
    netns.veth("left", "right");
    let loopback = PacketDevice::open("lo").unwrap_err();
    assert!(matches!(loopback, Error::Unsuitable { .. }));
    assert!(loopback.to_string().contains("Ethernet"), "{loopback}");
    let missing = PacketDevice::open("nosuchif0").unwrap_err();
    assert_eq!(missing.errno(), Some(libc::ENODEV));
    let left = PacketDevice::open("left").unwrap();
    assert!(left.is_software() && left.preferred().is_ok());
    until("the link", || PacketDevice::open("left").unwrap().link_up());
    let isolation = Isolation::attach("left", left.ifindex()).unwrap();
    let probe = left.probe(&isolation);
    let probed = probe.ask().unwrap();
    assert!(probed.same && !probed.preceded, "{probed:?}");
    assert_eq!(probed.queues, left.queues());
    netns.ip("link del left");
    let gone = left.bind(0, 1, &own_umem()).unwrap_err();
    assert_eq!(gone.errno(), Some(libc::ENODEV), "{gone}");
    assert_eq!(probe.ask().unwrap_err().errno(), Some(libc::ENODEV));
    netns.veth("left", "right");
    assert!(!probe.ask().unwrap().same);
}

/// The program may be one of this host's administrator, attached while the port is open.
#[test]
fn a_program_that_takes_the_frames_first_is_noticed() {
    let netns = Netns::new();
    netns.veth("left", "right");
    let left = PacketDevice::open("left").unwrap();
    let isolation = Isolation::attach("left", left.ifindex()).unwrap();
    let probe = left.probe(&isolation);
    let foreign = || probe.ask().unwrap().foreign_xdp;
    assert!(!foreign());
    let mut device = XdpDevice::open("left", &Program::Tenant, Mode::Auto).unwrap();
    assert!(foreign() && device.probe().ask().unwrap().same);
    device.set_queues(device.queues()).unwrap();
    assert!(device.probe().ask().unwrap().same);
    let of_device = device.probe();
    drop(device);
    until("the kernel to detach it", || !foreign());
    assert!(!of_device.ask().unwrap().same);

    let second = Isolation::attach("left", left.ifindex()).unwrap();
    let first = probe.ask().unwrap();
    assert!(first.same && first.preceded, "{first:?}");
    let of_second = left.probe(&second).ask().unwrap();
    assert!(of_second.same && !of_second.preceded, "{of_second:?}");
    drop(isolation);
    until("the kernel to detach it", || !probe.ask().unwrap().same);
}
