//! The metrics server over real TCP: its responses, also to misbehaving scrapers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use vtep_control::metrics::{MAX_SCRAPERS, MetricsServer, TOKENS};

/// A server on a thread, whose page contains the number of times it was generated.
struct Fixture {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    /// Seconds that the server's clock is ahead.
    ahead: Arc<AtomicU64>,
    /// Turns of the server so far.
    turns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Fixture {
    fn new() -> Self {
        let server = MetricsServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.address().unwrap();
        let (stop, ahead) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let turns = Arc::<AtomicU64>::default();
        let (told, clock, count) = (Arc::clone(&stop), Arc::clone(&ahead), Arc::clone(&turns));
        let thread = std::thread::spawn(move || serve(server, &told, &clock, &count));
        Self {
            address,
            stop,
            ahead,
            turns,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut server: MetricsServer, stop: &AtomicBool, ahead: &AtomicU64, turns: &AtomicU64) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(TOKENS);
    server.register(poll.registry(), Token(7)).unwrap();
    let mut made = 0;
    while !stop.load(Relaxed) {
        let wait = Duration::from_millis(10);
        let due = server.next_deadline();
        let due = due.map(|at| at.saturating_duration_since(Instant::now()));
        poll.poll(&mut events, Some(due.map_or(wait, |due| due.min(wait))))
            .unwrap();
        let now = Instant::now() + Duration::from_secs(ahead.load(Relaxed));
        let mut parts = |part| match part {
            0 => {
                made += 1;
                Some(format!("made {made}\n"))
            }
            // More than a socket holds.
            1..=8 => Some("x".repeat(1 << 20)),
            _ => None,
        };
        for event in &events {
            assert!(server.owns(event.token()));
            server.event(poll.registry(), event.token(), now);
        }
        server.tick(poll.registry(), now, &mut parts);
        turns.fetch_add(1, Relaxed);
    }
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

fn ended(stream: &mut TcpStream) -> bool {
    let end = stream.read(&mut [0; 16]);
    matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_page_is_complete_and_generated_once_per_second() {
    let fixture = Fixture::new();
    let first = fixture.ask(GET);
    let (head, body) = first.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{head}"
    );
    assert!(body.starts_with("made 1\n") && body.ends_with("x# EOF\n"));
    fixture.ahead.store(100, Relaxed);
    assert!(
        fixture
            .ask("GET /metrics?a=b HTTP/1.0\r\n\r\n")
            .contains("\r\nmade 2\n")
    );
}

#[test]
fn requests_may_arrive_in_parts() {
    let fixture = Fixture::new();
    let mut stream = fixture.connect();
    for byte in GET.bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn invalid_requests_are_rejected() {
    let fixture = Fixture::new();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (
            "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "405 Method Not Allowed",
        ),
        ("\u{1}\u{2}\r\n\r\n", "400 Bad Request"),
        (
            &format!("GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(12_000)),
            "431 Request Header",
        ),
        (
            &format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100)),
            "400 Bad Request",
        ),
    ] {
        let mut stream = fixture.connect();
        // The server may have closed the connection before all is sent.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(
            format!("HTTP/1.1 {status}").as_bytes().starts_with(&answer),
            "{status}: {answer:?}"
        );
    }
}

#[test]
fn scrapers_that_send_or_read_nothing_are_closed() {
    let fixture = Fixture::new();
    let mut crowd: Vec<_> = (0..MAX_SCRAPERS).map(|_| fixture.connect()).collect();
    // One of them sends a request, and does not read.
    crowd[0].write_all(GET.as_bytes()).unwrap();
    assert!(ended(&mut fixture.connect()), "above the limit");
    fixture.ahead.store(60, Relaxed);
    assert!(crowd[1..].iter_mut().all(ended), "past their deadline");
    assert!(fixture.ask(GET).contains("200 OK"));
    let mut cut = Vec::new();
    let _ = crowd[0].read_to_end(&mut cut);
    assert!(cut.len() < 8 << 20, "{} bytes", cut.len());
}

/// Connections that come faster than they are accepted do not keep the daemon from everything else, nor
/// a scraper from its page for long: accepting them never ended.
#[test]
fn connections_without_end_do_not_keep_the_server_in_its_turn() {
    let fixture = Fixture::new();
    let limit = Instant::now() + Duration::from_secs(30);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Relaxed) && Instant::now() < limit {
                    drop(TcpStream::connect(fixture.address));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let turns = fixture.turns.load(Relaxed);
        while fixture.turns.load(Relaxed) < turns + 10 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Relaxed);
    });
    assert!(
        Instant::now() < limit,
        "it accepted until the others stopped"
    );
    assert!(fixture.ask(GET).contains("made "));
}
