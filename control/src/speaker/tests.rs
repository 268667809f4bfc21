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
    /// Octets queued since the last turn.
    queued: usize,
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

    fn advertise(&mut self, _: IpAddr, peer: &mut Peer, now: Instant, octets: &mut usize) {
        while let Some(message) = self.to_send.last() {
            if self.up == 0 || !peer.send_within(now, message, octets) {
                return;
            }
            self.queued += message.len();
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
    a.set(config(A, B, port + 1, true, password));
    b.set(config(B, A, port, false, password));
    (a, b, port)
}

impl Site {
    /// Adds a neighbor, or applies another configuration to one.
    fn set(&mut self, config: NeighborConfig) {
        let registry = self.poll.registry();
        self.speaker
            .set_neighbor(config, registry, &mut self.handler, Instant::now());
    }

    fn remove(&mut self, neighbor: [u8; 4]) {
        let (ip, registry) = (neighbor.into(), self.poll.registry());
        self.speaker
            .remove_neighbor(ip, registry, &mut self.handler, Instant::now());
    }

    fn poll_once(&mut self) {
        self.handler.queued = 0;
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
    a.remove(B);
    assert_eq!(a.handler.down, 1);
    assert!(
        until(&mut a, &mut b, |_, b| b.handler.down == 1),
        "the other side reports it"
    );
}

/// However much waits in the socket, a turn of the control thread reads a part of it (finding C13).
#[test]
fn a_turn_reads_a_bounded_number_of_octets() {
    let (mut a, mut b, _) = pair(None);
    let message = update();
    let limit = transport::TURN_OCTETS / message.len() + 1;
    let count = 4 * limit;
    b.handler.to_send = vec![message; count];
    let (mut before, mut most) = (0, 0);
    let all = until(&mut a, &mut b, |a, _| {
        most = most.max(a.handler.updates - before);
        before = a.handler.updates;
        before == count
    });
    assert!(all, "{before} of {count} arrived");
    assert!(most <= limit, "{most} messages in a turn");
}

/// However much there is to advertise, a turn encodes a part of it, and the next one continues at
/// once.
#[test]
fn a_turn_queues_a_bounded_number_of_octets() {
    let (mut a, mut b, _) = pair(None);
    let message = update();
    let count = 5 * transport::TURN_ROUTES / message.len();
    b.handler.to_send = vec![message; count];
    let (mut most, mut turns) = (0, 0);
    let all = until(&mut a, &mut b, |a, b| {
        turns += usize::from(b.handler.queued > most / 2);
        most = most.max(b.handler.queued);
        if b.handler.queued > 0 && !b.handler.to_send.is_empty() {
            assert_eq!(b.speaker.poll_timeout(Instant::now()), Some(Duration::ZERO));
        }
        a.handler.updates == count
    });
    assert!(all, "{} of {count} arrived", a.handler.updates);
    assert!(most <= transport::TURN_ROUTES, "{most} octets in a turn");
    assert!(turns >= 5, "{turns} turns");
}

#[test]
fn a_replaced_neighbor_reconnects_once_after_the_delay() {
    let (mut a, mut b, port) = pair(None);
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 1
        && b.handler.up == 1));
    let start = Instant::now();
    b.remove(A);
    b.set(config(B, A, port, false, None));
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

/// A neighbor that was shut down is closed before anything is read.
#[test]
fn a_connection_that_a_session_does_not_take_is_counted() {
    let (mut a, mut b, _) = pair(None);
    let (ip, registry) = (IpAddr::from(B), a.poll.registry());
    let handler = &mut a.handler;
    assert!(
        a.speaker
            .with_peer(ip, registry, handler, Instant::now(), |peer| {
                peer.shutdown(Instant::now(), None);
            })
    );
    assert!(until(&mut a, &mut b, |a, _| a.speaker.refused() > 1));
    assert_eq!((a.handler.up, b.handler.up), (0, 0));
}

/// A key that was removed or changed must not stay on the listener: sessions that the neighbor
/// opens would die silently (finding C6).
#[test]
fn a_removed_or_changed_password_is_that_of_the_listener_too() {
    let (mut a, mut b, port) = pair(Some(b"secret"));
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 1
        && b.handler.up == 1));
    for (sessions, password) in [
        (2, None),
        (3, Some(&b"other"[..])),
        (4, Some(b"third")),
        (5, None),
    ] {
        // A is passive: each session comes in over its listener.
        a.set(config(A, B, port + 1, true, password));
        b.set(config(B, A, port, false, password));
        assert!(
            until(&mut a, &mut b, |a, b| a.handler.up == sessions
                && b.handler.up == sessions),
            "session {sessions}"
        );
    }
}

/// A neighbor that is removed takes its key along, and added again without one it connects
/// (finding C6).
#[test]
fn the_password_of_a_removed_neighbor_is_removed() {
    let (mut a, mut b, port) = pair(Some(b"secret"));
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 1
        && b.handler.up == 1));
    // Another neighbor keeps the listener open.
    a.set(config(A, [127, 0, 97, 3], port + 1, true, None));
    a.remove(B);
    a.set(config(A, B, port + 1, true, None));
    b.set(config(B, A, port, false, None));
    assert!(until(&mut a, &mut b, |a, b| a.handler.up == 2
        && b.handler.up == 2));
}

/// GTSM between two speakers: the passive side's SYN-ACK has TTL 255 too (finding C5).
#[test]
fn ttl_security_works_with_a_passive_speaker() {
    for (sides, ours, theirs) in [
        ("both", Some(1), Some(1)),
        ("B", None, Some(1)),
        ("A", Some(1), None),
    ] {
        let (mut a, mut b, port) = pair(None);
        let with = |mut config: NeighborConfig, hops| {
            config.tcp.ttl_security = hops;
            config
        };
        a.set(with(config(A, B, port + 1, true, None), ours));
        b.set(with(config(B, A, port, false, None), theirs));
        let up = |a: &Site, b: &Site| a.handler.up > 0 && b.handler.up > 0;
        if sides == "A" {
            // B sends with TTL 64: A must not accept that.
            for _ in 0..200 {
                a.poll_once();
                b.poll_once();
            }
            assert!(!up(&a, &b), "A requires TTL 255");
        } else {
            assert!(until(&mut a, &mut b, up), "{sides}");
        }
    }
}

/// The port may be taken when vtepd starts, and become free later (finding C20).
#[test]
fn listening_is_tried_again() {
    let port = free_ports();
    let taken = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let mut a = Site {
        poll: Poll::new().unwrap(),
        speaker: BgpSpeaker::new(port, Token(10), 7),
        handler: RecordingHandler::default(),
    };
    a.set(config(A, B, port + 1, true, None));
    assert_eq!(a.speaker.degraded(Instant::now()).count(), 1);
    drop(taken);
    let deadline = Instant::now() + Duration::from_secs(60);
    while a.speaker.degraded(Instant::now()).count() > 0 {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            a.speaker.degraded(Instant::now()).next()
        );
        a.poll_once();
    }
    assert!(std::net::TcpStream::connect((std::net::Ipv4Addr::from(A), port)).is_ok());
}

/// A TCP-MD5 key that the kernel refuses is reported until it is set, whatever else changes, and lets
/// no connection without a signature in.
#[test]
fn a_refused_key_is_reported_until_it_is_set() {
    let (mut a, mut b, port) = pair(None);
    assert!(until(&mut a, &mut b, |a, _| a.handler.up == 1));
    let too_long = [b'x'; socket::MAX_PASSWORD_LEN + 1];
    let refused = |site: &Site| {
        let all: Vec<_> = site.speaker.degraded(Instant::now()).collect();
        all.iter().any(|reason| reason.contains("TCP-MD5 password"))
    };
    a.set(config(A, B, port + 1, true, Some(&too_long)));
    assert!(refused(&a));
    a.set(config(A, [127, 0, 97, 3], port + 1, true, None));
    assert!(refused(&a), "after another change");
    let before = a.speaker.refused();
    for _ in 0..100 {
        a.poll_once();
        b.poll_once();
    }
    assert_eq!(a.handler.up, 1, "no unsigned connection");
    assert!(a.speaker.refused() > before);
    assert!(refused(&a), "some time later");
    a.set(config(A, B, port + 1, true, Some(b"secret")));
    assert!(!refused(&a));
    b.set(config(B, A, port, false, Some(b"secret")));
    assert!(until(&mut a, &mut b, |a, _| a.handler.up == 2));
    a.set(config(A, B, port + 1, true, Some(&too_long)));
    a.remove(B);
    assert!(!refused(&a), "not of a former neighbor");
}

/// Without neighbors nothing listens.
#[test]
fn the_listener_of_the_last_neighbor_is_closed() {
    let (mut a, mut b, port) = pair(None);
    assert!(until(&mut a, &mut b, |a, _| a.handler.up == 1));
    a.remove(B);
    assert!(std::net::TcpStream::connect((std::net::Ipv4Addr::from(A), port)).is_err());
}

/// A connection that waits while its neighbor gets `ttl-security` or a key was opened without them:
/// it is closed. That of another neighbor is served.
#[test]
fn connections_from_before_a_change_of_options_are_closed() {
    use std::io::Read;
    const C: [u8; 4] = [127, 0, 97, 3];
    for (hops, password) in [(Some(1), None), (None, Some(b"secret".as_slice()))] {
        let port = free_ports();
        let mut a = Site {
            poll: Poll::new().unwrap(),
            speaker: BgpSpeaker::new(port, Token(10), 7),
            handler: RecordingHandler::default(),
        };
        a.set(config(A, C, port + 1, true, None));
        let mut streams = [B, C].map(|own| {
            let options = TcpOptions {
                local: Some(own.into()),
                ..TcpOptions::default()
            };
            socket::connect((A, port).into(), &options).unwrap()
        });
        let mut secured = config(A, B, port + 1, true, password);
        secured.tcp.ttl_security = hops;
        a.set(secured);
        assert_eq!(a.speaker.poll_timeout(Instant::now()), Some(Duration::ZERO));
        for _ in 0..20 {
            a.poll_once();
        }
        let mut octets = [0; 19];
        assert_eq!(streams[0].read(&mut octets).unwrap(), 0, "closed");
        assert_eq!(streams[1].read(&mut octets).unwrap(), 19, "an OPEN");
    }
}
