//! HTTP for scrapers, driven by the daemon's mio poll. It never blocks, and what a client can make it hold is bounded:
//! [`MAX_SCRAPERS`] connections of one request each, [`MAX_REQUEST`] bytes of it, [`SCRAPE_TIMEOUT`] for all.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

/// Scrapers at a time; one more is turned away.
pub const MAX_SCRAPERS: usize = 8;
/// Tokens that a server takes, from the one given to [`MetricsServer::register`].
pub const TOKENS: usize = 1 + MAX_SCRAPERS;
/// The longest request, bytes.
const MAX_REQUEST: usize = 8 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// From the connection to the last byte of the answer.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// A page is used again for so long.
const PAGE_LIFETIME: Duration = Duration::from_secs(1);
/// When accept(2) fails for want of descriptors, it is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

#[derive(Debug)]
struct Scraper {
    stream: TcpStream,
    input: Vec<u8>,
    /// Head and body; empty while the request is not complete.
    output: [Arc<[u8]>; 2],
    sent: usize,
    until: Instant,
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
    first: usize,
    clients: [Option<Scraper>; MAX_SCRAPERS],
    page: Option<(Instant, Arc<[u8]>)>,
    accept_at: Option<Instant>,
}

impl MetricsServer {
    /// Listens on `address`.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        Ok(Self {
            listener,
            first: 0,
            clients: Default::default(),
            page: None,
            accept_at: None,
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Registers with the daemon's poll. Tokens from `first` to `first` + [`TOKENS`] - 1 are the server's.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn register(&mut self, registry: &Registry, first: Token) -> io::Result<()> {
        self.first = first.0;
        registry.register(&mut self.listener, first, Interest::READABLE)
    }

    /// True when an event with this token is for [`Self::event`].
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        (self.first..self.first + TOKENS).contains(&token.0)
    }

    /// Handles an event; `page` makes the text when it is asked for and the last one is too old.
    pub fn event(
        &mut self,
        registry: &Registry,
        token: Token,
        now: Instant,
        page: &mut dyn FnMut() -> String,
    ) {
        match token.0.checked_sub(self.first) {
            Some(0) => self.accept(registry, now, page),
            Some(place) if place <= MAX_SCRAPERS => self.process(place - 1, registry, now, page),
            _ => (),
        }
    }

    /// When [`Self::tick`] wants to be called; `None` = when something else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients
            .iter()
            .flatten()
            .map(|client| client.until)
            .chain(self.accept_at)
            .min()
    }

    /// Ends those that are late.
    pub fn tick(&mut self, registry: &Registry, now: Instant, page: &mut dyn FnMut() -> String) {
        for place in 0..MAX_SCRAPERS {
            if self.clients[place]
                .as_ref()
                .is_some_and(|client| client.until <= now)
            {
                self.close(place, registry);
            }
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(registry, now, page);
        }
    }

    fn accept(&mut self, registry: &Registry, now: Instant, page: &mut dyn FnMut() -> String) {
        self.accept_at = None;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, registry, now, page),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "metrics: accept failed; trying again in a second");
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn admit(
        &mut self,
        mut stream: TcpStream,
        registry: &Registry,
        now: Instant,
        page: &mut dyn FnMut() -> String,
    ) {
        let Some(place) = self.clients.iter().position(Option::is_none) else {
            tracing::debug!(
                "metrics: {MAX_SCRAPERS} scrapers are connected, one more is turned away"
            );
            return;
        };
        let token = Token(self.first + 1 + place);
        match registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => {
                let output = [Arc::default(), Arc::default()];
                let until = now + SCRAPE_TIMEOUT;
                self.clients[place] = Some(Scraper {
                    stream,
                    input: Vec::new(),
                    output,
                    sent: 0,
                    until,
                });
                self.process(place, registry, now, page);
            }
            Err(error) => tracing::warn!(%error, "metrics: a scraper could not be registered"),
        }
    }

    fn process(
        &mut self,
        place: usize,
        registry: &Registry,
        now: Instant,
        page: &mut dyn FnMut() -> String,
    ) {
        let Some(client) = &mut self.clients[place] else {
            return;
        };
        let cached = &mut self.page;
        let mut fresh = || match cached {
            Some((made, text)) if now.saturating_duration_since(*made) < PAGE_LIFETIME => {
                Arc::clone(text)
            }
            _ => Arc::clone(&cached.insert((now, page().into_bytes().into())).1),
        };
        match client.work(&mut fresh) {
            Ok(false) => (),
            Ok(true) | Err(_) => self.close(place, registry),
        }
    }

    fn close(&mut self, place: usize, registry: &Registry) {
        if let Some(mut client) = self.clients[place].take()
            && let Err(error) = registry.deregister(&mut client.stream)
        {
            tracing::debug!(%error, "metrics: a scraper could not be deregistered");
        }
    }
}

impl Scraper {
    /// Reads and answers as far as it goes. True: it is over.
    fn work(&mut self, page: &mut dyn FnMut() -> Arc<[u8]>) -> io::Result<bool> {
        while self.output[0].is_empty() {
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(true),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(output) = answer(&self.input, page) {
                self.output = output;
                self.input = Vec::new();
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<bool> {
        let [head, body] = &self.output;
        loop {
            let rest = match self.sent.checked_sub(head.len()) {
                None => &head[self.sent..],
                Some(sent) if sent < body.len() => &body[sent..],
                Some(_) => break,
            };
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(true)
    }
}

/// Head and body of the answer, once the request is complete or can't become one.
fn answer(input: &[u8], page: &mut dyn FnMut() -> Arc<[u8]>) -> Option<[Arc<[u8]>; 2]> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let text = |text: &str| Arc::from(text.as_bytes());
    let (status, kind, body) = match request.parse(input) {
        Err(error) => ("400 Bad Request", PLAIN, text(&format!("{error}\n"))),
        Ok(httparse::Status::Partial) if input.len() > MAX_REQUEST => (
            "431 Request Header Fields Too Large",
            PLAIN,
            text("the request is longer than 8 KiB\n"),
        ),
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.and_then(|path| path.split('?').next());
            match (request.method, path) {
                (Some("GET"), Some("/metrics")) => ("200 OK", OPEN_METRICS, page()),
                (Some("GET"), _) => (
                    "404 Not Found",
                    PLAIN,
                    text("the metrics are at /metrics\n"),
                ),
                _ => (
                    "405 Method Not Allowed",
                    PLAIN,
                    text("only GET is answered\n"),
                ),
            }
        }
    };
    let allow = if status.starts_with("405") {
        "Allow: GET\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    Some([text(&head), body])
}
