//! Two speakers on loopback, with real sockets and the real clock.

use super::*;
use crate::bgp::Output;
use mio::{Events, Poll};

/// Takes what is said, and says one thing once a session is up.
#[derive(Default)]
struct Ears {
    up: usize,
    down: usize,
    updates: usize,
    to_say: Vec<Vec<u8>>,
}

impl Routes for Ears {
    fn heard(&mut self, _: IpAddr, output: Output<'_>, _: Instant) {
        match output {
            Output::SessionUp(_) => self.up += 1,
            Output::SessionDown { .. } => self.down += 1,
            Output::Update(_) => self.updates += 1,
            _ => {}
        }
    }

    fn held(&self, _: IpAddr) -> usize {
        self.updates
    }

    fn speak(&mut self, _: IpAddr, peer: &mut Peer, now: Instant) {
        while let Some(message) = self.to_say.last() {
            if self.up == 0 || peer.send(now, message).is_err() {
                return;
            }
            self.to_say.pop();
        }
    }
}

struct Side {
    poll: Poll,
    speaker: Speaker,
    ears: Ears,
}

const A: [u8; 4] = [127, 0, 97, 1];
const B: [u8; 4] = [127, 0, 97, 2];

fn config(own: [u8; 4], other: [u8; 4], port: u16, passive: bool, password: Option<&[u8]>) -> NeighborConfig {
    let mut peer = PeerConfig::new(65000, own.into(), 65000);
    peer.passive = passive;
    peer.connect_retry = Duration::from_millis(200);
    let password = password.map(|key| socket::Password(key.into()));
    let tcp = TcpOptions { local: Some(own.into()), password, ttl_security: None };
    NeighborConfig { address: SocketAddr::new(other.into(), port), tcp, peer, restarting: false }
}

/// The first of two ports that nobody listens on: not those of a test beside this one, here or in another process.
fn free_ports() -> u16 {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the ports that the kernel gives to whoever connects.
    let start = (std::process::id() % 4096) as u16;
    let candidates =
        std::iter::repeat_with(|| 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 4096 * 2);
    let free = |port: u16| TcpListener::bind(("0.0.0.0", port)).is_ok();
    candidates
        .take(4096)
        .find(|port| free(*port) && free(port + 1))
        .expect("of 4096 pairs of ports one is free")
}

/// A listens on the port that is returned; B connects to it.
fn pair(password: Option<&[u8]>) -> (Side, Side, u16) {
    let port = free_ports();
    let side = |own_port| Side {
        poll: Poll::new().unwrap(),
        speaker: Speaker::new(own_port, Token(10), 7),
        ears: Ears::default(),
    };
    let (mut a, mut b) = (side(port), side(port + 1));
    let now = Instant::now();
    let Side { poll, speaker, ears } = &mut a;
    speaker.put(config(A, B, port + 1, true, password), poll.registry(), ears, now);
    let Side { poll, speaker, ears } = &mut b;
    speaker.put(config(B, A, port, false, password), poll.registry(), ears, now);
    (a, b, port)
}

impl Side {
    fn turn(&mut self) {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        for event in &events {
            self.speaker.event(event, self.poll.registry(), &mut self.ears, Instant::now());
        }
        self.speaker.turn(self.poll.registry(), &mut self.ears, Instant::now());
    }
}

fn until(a: &mut Side, b: &mut Side, mut done: impl FnMut(&Side, &Side) -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        a.turn();
        b.turn();
        if done(a, b) {
            return true;
        }
    }
    false
}

fn update() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/frr-t2-mac.bin")).unwrap()
}

#[test]
fn two_speakers_come_up_and_exchange_routes() {
    let (mut a, mut b, _) = pair(None);
    b.ears.to_say = vec![update(); 2000];
    assert!(until(&mut a, &mut b, |a, _| a.ears.updates == 2000), "{} arrived", a.ears.updates);
    assert_eq!((a.ears.up, b.ears.up), (1, 1));
    let Side { poll, speaker, ears } = &mut a;
    speaker.remove(B.into(), poll.registry(), ears, Instant::now());
    assert_eq!(a.ears.down, 1);
    assert!(until(&mut a, &mut b, |_, b| b.ears.down == 1), "the other end hears of it");
}

#[test]
fn a_neighbor_that_is_replaced_connects_once_and_not_at_once() {
    let (mut a, mut b, port) = pair(None);
    assert!(until(&mut a, &mut b, |a, b| a.ears.up == 1 && b.ears.up == 1));
    let start = Instant::now();
    let Side { poll, speaker, ears } = &mut b;
    speaker.remove(A.into(), poll.registry(), ears, start);
    speaker.put(config(B, A, port, false, None), poll.registry(), ears, start);
    assert!(until(&mut a, &mut b, |a, b| a.ears.up == 2 && b.ears.up == 2));
    assert!(start.elapsed() >= RECONNECT_PAUSE, "{:?}", start.elapsed());
    assert_eq!((a.ears.down, b.ears.down), (1, 1));
}

#[test]
fn passwords_must_agree() {
    let (mut a, mut b, _) = pair(Some(b"secret"));
    assert!(until(&mut a, &mut b, |a, b| a.ears.up == 1 && b.ears.up == 1));
}

#[test]
fn strangers_are_closed_at_once() {
    let (mut a, mut b, port) = pair(None);
    let stranger = std::net::TcpStream::connect((std::net::Ipv4Addr::from(A), port)).unwrap();
    assert!(until(&mut a, &mut b, |a, _| a.speaker.refused() == 1));
    stranger.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(matches!(io::Read::read(&mut &stranger, &mut [0; 1]), Ok(0) | Err(_)));
}
