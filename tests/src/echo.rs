//! Echo requests (RFC 792, RFC 4443) and which hosts answer them.
//!
//! ping(8) waits for the last answer no longer than twice the longest round trip so far, or the
//! interval: on a busy machine that alone loses one. Here every request has [`PATIENCE`] from the
//! last one on.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use crate::netns::{Netns, wait_for};

/// Time to wait for an answer that must arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time to wait for an answer that must not arrive.
const SILENCE: Duration = Duration::from_secs(1);

/// Default time between two requests.
const INTERVAL: Duration = Duration::from_millis(10);

/// A socket for echo requests to one address, and the numbers of those not answered yet.
struct Echo {
    socket: UdpSocket,
    request: u8,
    missing: BTreeSet<u32>,
}

impl Echo {
    fn new(from: &Netns, to: IpAddr) -> Self {
        let (family, protocol, request) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128),
        };
        let socket = from.inside(|| socket(family, SocketType::DGRAM, Some(protocol)));
        let socket = UdpSocket::from(socket.expect("Netns::new allows ping sockets"));
        // Without a route, no request is answered.
        let _ = socket.connect((to, 0));
        Self {
            socket,
            request,
            missing: BTreeSet::new(),
        }
    }

    /// Sends request `number`; one that the kernel rejects counts as not answered.
    fn send(&mut self, number: u32) {
        // Type, code, checksum and identifier (which the kernel fills in), sequence, payload.
        let mut packet = vec![self.request, 0, 0, 0, 0, 0];
        packet.extend_from_slice(&number.to_be_bytes()[2..]);
        packet.extend_from_slice(&number.to_be_bytes());
        packet.resize(64, 0x5a);
        self.missing.insert(number);
        let _ = self.socket.send(&packet);
    }

    /// Receives answers until `end`, or until none is missing if `all` is set.
    fn listen(&mut self, end: Instant, all: bool) {
        let mut packet = [0; 128];
        while !(all && self.missing.is_empty()) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.socket
                .set_read_timeout(Some(left))
                .expect("the time is not zero");
            // An error is the timeout, or an ICMP error in response to a request.
            if let Ok(12..) = self.socket.recv(&mut packet) {
                self.missing.remove(&u32::from_be_bytes([
                    packet[8], packet[9], packet[10], packet[11],
                ]));
            }
        }
    }
}

/// Sends `count` requests, and returns how many were not answered within `patience`.
fn unanswered(from: &Netns, to: IpAddr, count: u32, patience: Duration) -> usize {
    let mut echo = Echo::new(from, to);
    for number in 1..=count {
        echo.send(number);
        echo.listen(Instant::now() + INTERVAL, false);
    }
    echo.listen(Instant::now() + patience, true);
    echo.missing.len()
}

/// Sends `count` echo requests, 10 ms apart, and returns how many of them were lost.
#[must_use]
pub fn lost(from: &Netns, to: IpAddr, count: u32) -> usize {
    unanswered(from, to, count, PATIENCE)
}

/// Whether `to` answers five requests, each within about a second; for use in [`wait_for`].
#[must_use]
pub fn answers(from: &Netns, to: IpAddr) -> bool {
    unanswered(from, to, 5, SILENCE) == 0
}

/// Asserts that no host answers three requests.
///
/// # Panics
/// If one is answered.
pub fn assert_silence(from: &Netns, to: IpAddr) {
    assert_eq!(unanswered(from, to, 3, SILENCE), 3, "{to} answers");
}

/// Sends 20 requests in each direction; none may be lost.
///
/// # Panics
/// If one is lost.
pub fn assert_no_loss(a: (&Netns, IpAddr), b: (&Netns, IpAddr)) {
    // The first exchange may wait for neighbor discovery of the tenants and on the underlay.
    wait_for(&format!("an answer of {}", b.1), 10, || {
        (unanswered(a.0, b.1, 1, SILENCE) == 0).then_some(())
    });
    let (there, back) = (lost(a.0, b.1, 20), lost(b.0, a.1, 20));
    assert!(
        there == 0 && back == 0,
        "of 20 requests each: lost {there} to {}, {back} to {}",
        b.1,
        a.1
    );
}

/// Echo requests that continue until they are stopped.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<(u32, usize)>,
}

impl Stream {
    /// Sends a request every `interval`; returns when the first twenty were answered.
    ///
    /// # Panics
    /// If they are not within 10 s.
    #[must_use]
    pub fn start(from: &Netns, to: IpAddr, interval: Duration) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop_flag, count, mut echo) = (
            Arc::clone(&stop),
            Arc::clone(&answered),
            Echo::new(from, to),
        );
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !stop_flag.load(Relaxed) {
                sent += 1;
                echo.send(sent);
                echo.listen(Instant::now() + interval, false);
                count.store(sent as usize - echo.missing.len(), Relaxed);
            }
            echo.listen(Instant::now() + PATIENCE, true);
            (sent, echo.missing.len())
        });
        let stream = Self {
            stop,
            answered,
            thread,
        };
        stream.expect_more(20);
        stream
    }

    /// Waits until `more` further requests were answered.
    ///
    /// # Panics
    /// If they are not within 10 s.
    pub fn expect_more(&self, more: usize) {
        let before = self.answered.load(Relaxed);
        wait_for("answers to a stream of requests", 10, || {
            (self.answered.load(Relaxed) >= before + more).then_some(())
        });
    }

    /// Stops; returns how many requests were sent, and how many of them were lost.
    ///
    /// # Panics
    /// If the thread has panicked.
    #[must_use]
    pub fn stop(self) -> (u32, usize) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("it only sends and receives")
    }
}
