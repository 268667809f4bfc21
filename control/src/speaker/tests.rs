//! Two speakers on loopback, with real sockets and the real clock.

use mio::{Events, Poll};

use super::*;
use crate::bgp::PeerOutput;

/// Counts events, and sends `to_send` once a session is up.
#[derive(Default)]
struct RecordingHandler {
    up: usize,
    down: usize,
    updates: usize,
    to_send: Vec<Vec<u8>>,
}

impl SessionHandler for RecordingHandler {
    fn on_output(&mut self, _: IpAddr, output: PeerOutput<'_>, _: Instant) {
        match output {
            PeerOutput::SessionUp(_) => self.up += 1,
            PeerOutput::SessionDown { .. } => self.down += 1,
            PeerOutput::Update(_) => self.updates += 1,
            _ => {}
        }
    }

    fn route_count(&self, _: IpAddr) -> usize {
        self.updates
    }

    fn advertise(&mut self, _: IpAddr, peer: &mut Peer, now: Instant) {
        while let Some(message) = self.to_send.last() {
            if self.up == 0 || peer.send(now, message).is_err() {
                return;
            }
            self.to_send.pop();
        }
    }
}

struct Site {
    poll: Poll,
    speaker: BgpSpeaker,
    handler: RecordingHandler,
}

const A: [u8; 4] = [127, 0, 97, 1];
const B: [u8; 4] = [127, 0, 97, 2];

fn config(
    own: [u8; 4],
    other: [u8; 4],
    port: u16,
    passive: bool,
    password: Option<&[u8]>,
) -> NeighborConfig {
    let mut peer = PeerConfig::new(65000, own.into(), 65000);
    peer.passive = passive;
    peer.connect_retry = Duration::from_millis(200);
    let password = password.map(|key| socket::Md5Password(key.into()));
    let tcp = TcpOptions {
        local: Some(own.into()),
        password,
        ttl_security: None,
    };
    NeighborConfig {
        address: SocketAddr::new(other.into(), port),
        tcp,
        peer,
        restarting: false,
    }
}

/// The first of two unused ports, which no concurrent test uses, in this process or another.
fn free_ports() -> u16 {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the ephemeral port range.
    let start = (std::process::id() % 4096) as u16;
    let candidates = std::iter::repeat_with(|| {
        20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 4096 * 2
    });
    let free = |port: u16| TcpListener::bind(("0.0.0.0", port)).is_ok();
    candidates
        .take(4096)
        .find(|port| free(*port) && free(port + 1))
        .expect("an unused pair of ports")
}

/// A listens on the returned port; B connects to it.
fn pair(password: Option<&[u8]>) -> (Site, Site, u16) {
    let port = free_ports();
    let site = |own_port| Site {
        poll: Poll::new().unwrap(),
        speaker: BgpSpeaker::new(own_port, Token(10), 7),
        handler: RecordingHandler::default(),
    };
    let (mut a, mut b) = (site(port), site(port + 1));
    let now = Instant::now();
    let Site {
        poll,
        speaker,
        handler,
    } = &mut a;
    speaker.add_neighbor(
        config(A, B, port + 1, true, password),
        poll.registry(),
        handler,
        now,
    );
    let Site {
        poll,
        speaker,
        handler,
    } = &mut b;
    speaker.add_neighbor(
        config(B, A, port, false, password),
        poll.registry(),
        handler,
        now,
    );
    (a, b, port)
}

impl Site {
    fn poll_once(&mut self) {
        let mut events = Events::with_capacity(16);
        self.poll
            .poll(&mut events, Some(Duration::from_millis(5)))
            .unwrap();
        for event in &events {
            self.speaker.handle_event(
                event,
                self.poll.registry(),
                &mut self.handler,
                Instant::now(),
            );
        }
        self.speaker
            .poll_once(self.poll.registry(), &mut self.handler, Instant::now());
    }
}

fn until(a: &mut Site, b: &mut Site, mut done: impl FnMut(&Site, &Site) -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        a.poll_once();
        b.poll_once();
        if done(a, b) {
            return true;
        }
    }
    false
}

fn update() -> Vec<u8> {
    std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/vectors/frr-t2-mac.bin"
    ))
    .unwrap()
}

#[test]
fn two_speakers_establish_a_session_and_exchange_routes() {
    let (mut a, mut b, _) = pair(None);
    b.handler.to_send = vec![update(); 2000];
    assert!(
        until(&mut a, &mut b, |a, _| a.handler.updates == 2000),
        "{} arrived",
        a.handler.updates
    );
    assert_eq!((a.handler.up, b.handler.up), (1, 1));
    let Site {
        poll,
        speaker,
        handler,
    } = &mut a;
    speaker.remove_neighbor(B.into(), poll.registry(), handler, Instant::now());
    assert_eq!(a.handler.down, 1);
    assert!(
        until(&mut a, &mut b, |_, b| b.handler.down == 1),
        "the other side reports it"
    );
}

#[test]
fn a_replaced_neighbor_reconnects_once_after_the_delay() {
    let (mut a, mut b, port) = pair(None);
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 1
        && b.handler.up == 1));
    let start = Instant::now();
    let Site {
        poll,
        speaker,
        handler,
    } = &mut b;
    speaker.remove_neighbor(A.into(), poll.registry(), handler, start);
    speaker.add_neighbor(
        config(B, A, port, false, None),
        poll.registry(),
        handler,
        start,
    );
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 2
        && b.handler.up == 2));
    assert!(start.elapsed() >= RECONNECT_DELAY, "{:?}", start.elapsed());
    assert_eq!((a.handler.down, b.handler.down), (1, 1));
}

#[test]
fn sessions_with_equal_passwords_are_established() {
    let (mut a, mut b, _) = pair(Some(b"secret"));
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 1
        && b.handler.up == 1));
}

#[test]
fn connections_from_unknown_addresses_are_closed() {
    let (mut a, mut b, port) = pair(None);
    let unknown = std::net::TcpStream::connect((std::net::Ipv4Addr::from(A), port)).unwrap();
    assert!(until(&mut a, &mut b, |a, _| a.speaker.refused() == 1));
    unknown
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    assert!(matches!(
        io::Read::read(&mut &unknown, &mut [0; 1]),
        Ok(0) | Err(_)
    ));
}
