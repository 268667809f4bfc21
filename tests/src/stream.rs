//! TCP whose bytes are compared, and how many of its segments were sent again; and UDP.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::netns::Netns;
use crate::program::{Program, Scratch};

/// Bytes that [`transfer`] sends.
const LENGTH: usize = 8 << 20;

/// The time within which a connection must exist, and between two bytes of it. On a busy machine
/// only a stream that does not work takes longer.
const PATIENCE: Duration = Duration::from_secs(40);

/// Pseudorandom bytes, so that no segment equals another (xorshift64).
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(LENGTH);
    while bytes.len() < LENGTH {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Sends 8 MiB over TCP from `from` to `address` of `to`, and compares every byte.
///
/// # Panics
/// If a byte is wrong or none arrives for 40 s.
pub fn transfer(from: &Netns, to: &Netns, address: IpAddr) {
    let (bytes, mut received) = (pattern(), Vec::with_capacity(LENGTH));
    let listener = to
        .inside(|| TcpListener::bind(SocketAddr::from((address, 0))))
        .expect("an address of the receiver");
    let target = listener.local_addr().expect("it is bound");
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let stream = from.inside(|| TcpStream::connect_timeout(&target, PATIENCE));
            let mut stream = stream.unwrap_or_else(|why| panic!("connecting to {target}: {why}"));
            stream.set_write_timeout(Some(PATIENCE)).expect("a time");
            stream
                .write_all(&bytes)
                .unwrap_or_else(|why| panic!("sending to {target}: {why}"));
        });
        listener.set_nonblocking(true).expect("a listener");
        let mut stream = crate::netns::wait_for(&format!("a connection to {target}"), 10, || {
            listener.accept().ok().map(|(stream, _)| stream)
        });
        stream.set_nonblocking(false).expect("a stream");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let ended = stream.read_to_end(&mut received);
        ended.unwrap_or_else(|why| panic!("{} bytes arrived at {target}: {why}", received.len()));
        sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let wrong = bytes.iter().zip(&received).position(|(a, b)| a != b);
    assert_eq!(
        (wrong, received.len()),
        (None, LENGTH),
        "the first wrong byte, and the number of bytes, at {target}"
    );
}

/// TCP segments of a namespace (RFC 4022).
#[derive(Debug, Clone, Copy)]
pub struct Segments {
    /// Sent, without those sent again.
    pub sent: u64,
    /// Sent again.
    pub again: u64,
}

impl Segments {
    /// Those of `ns` so far.
    ///
    /// # Panics
    /// If the kernel's table is not as proc_net(5) has it.
    #[must_use]
    pub fn of(ns: &Netns) -> Self {
        let text = ns
            .inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
            .expect("a table of the kernel");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let value = |name: &str| {
            let mut pairs = names.split(' ').zip(values.split(' '));
            pairs
                .find_map(|(n, value)| (n == name).then(|| value.parse().ok())?)
                .unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        Self {
            sent: value("OutSegs"),
            again: value("RetransSegs"),
        }
    }

    /// The share of segments sent again since `before`, percent.
    #[must_use]
    pub fn percent_again(self, before: Self) -> f64 {
        let sent = (self.sent - before.sent).max(1);
        (self.again - before.again) as f64 * 100.0 / sent as f64
    }
}

/// Sends `count` datagrams of 1200 bytes from `from` to this port of `to`, which its kernel segments, and
/// compares each (tools/datagrams.py).
///
/// # Panics
/// If one is missing, or differs.
pub fn assert_udp(from: &Netns, to: &Netns, address: IpAddr, port: u16, count: u32) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/datagrams.py");
    let rest = [
        address.to_string(),
        port.to_string(),
        count.to_string(),
        "1200".to_owned(),
    ];
    let directory = Scratch::new(to);
    let words = |mode| {
        let mut words = vec!["/usr/bin/python3", script, mode];
        words.extend(rest.iter().map(String::as_str));
        words
    };
    let mut receiver = Program::start(to, directory.path(), &words("receive"));
    receiver.wait_for_output("ready", 10);
    let sent = from.try_run_for(60, &words("send"));
    assert!(sent.status.success(), "{sent:?}");
    receiver.wait_for_output("received", 30);
    let log = receiver.log();
    let all = format!("received {count}");
    assert!(log.contains(&all), "to {address}:{port}: {log}");
}
