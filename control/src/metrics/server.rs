//! HTTP server for scrapers, driven by the daemon's mio poll. It never blocks, and its resources
//! are bounded: [`MAX_SCRAPERS`] connections with one request each, at most [`MAX_REQUEST`] octets
//! long and answered within [`SCRAPE_TIMEOUT`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::page::END;

/// Maximum number of concurrent scrapers; further connections are closed.
pub const MAX_SCRAPERS: usize = 8;
/// Number of tokens that a server uses, starting with the one given to [`MetricsServer::register`].
pub const TOKENS: usize = 1 + MAX_SCRAPERS;
/// Longest request, in octets.
const MAX_REQUEST: usize = 8 << 10;
/// Limit on headers of a request.
const MAX_HEADERS: usize = 64;
/// Longest time from accepting a connection to the end of its response.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page is reused.
const PAGE_LIFETIME: Duration = Duration::from_secs(1);
/// Connections accepted at once: those who connect without end do not keep the daemon from the rest
/// of its turn.
const MAX_ACCEPTS: usize = 64;
/// Time until the next accept(2) after it failed, as for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Builds a part of a page, by its number from 0 on; `None`: there are no more.
pub type Parts<'a> = dyn FnMut(usize) -> Option<String> + 'a;

/// A page of which some parts are built: one in each [`MetricsServer::tick`], so that other work does
/// not wait for the whole page.
#[derive(Debug, Default)]
struct Building {
    next: usize,
    text: String,
}

#[derive(Debug)]
struct Scraper {
    stream: TcpStream,
    input: Vec<u8>,
    /// Head and body of the response; empty until the request is complete.
    output: [Arc<[u8]>; 2],
    sent: usize,
    deadline: Instant,
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
    first: usize,
    clients: [Option<Scraper>; MAX_SCRAPERS],
    page: Option<(Instant, Arc<[u8]>)>,
    /// The page that scrapers wait for.
    building: Option<Building>,
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
            building: None,
            accept_at: None,
        })
    }

    /// The address that the server listens on.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Registers with the daemon's poll. The server uses tokens `first` to `first` + [`TOKENS`] -
    /// 1.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn register(&mut self, registry: &Registry, first: Token) -> io::Result<()> {
        self.first = first.0;
        registry.register(&mut self.listener, first, Interest::READABLE)
    }

    /// True if an event with this token is for [`Self::event`].
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        (self.first..self.first + TOKENS).contains(&token.0)
    }

    /// Handles an event.
    pub fn event(&mut self, registry: &Registry, token: Token, now: Instant) {
        match token.0.checked_sub(self.first) {
            Some(0) => self.accept(registry, now),
            Some(slot) if slot <= MAX_SCRAPERS => self.process(slot - 1, registry, now),
            _ => (),
        }
    }

    /// When to call [`Self::tick`]; `None`: only after an event.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.clients.iter().flatten().map(|client| client.deadline);
        let building = self.building.is_some().then(Instant::now);
        deadlines.chain(self.accept_at).chain(building).min()
    }

    /// Builds a part of a page that is waited for, closes connections past their deadline, and
    /// retries accept(2). `parts` builds the page.
    pub fn tick(&mut self, registry: &Registry, now: Instant, parts: &mut Parts<'_>) {
        for slot in 0..MAX_SCRAPERS {
            if self.clients[slot]
                .as_ref()
                .is_some_and(|client| client.deadline <= now)
            {
                self.close(slot, registry);
            }
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(registry, now);
        }
        self.build(registry, now, parts);
    }

    fn build(&mut self, registry: &Registry, now: Instant, parts: &mut Parts<'_>) {
        let Some(mut building) = self.building.take() else {
            return;
        };
        if let Some(text) = parts(building.next) {
            building.next += 1;
            building.text.push_str(&text);
            self.building = Some(building);
            return;
        }
        building.text.push_str(END);
        self.page = Some((now, building.text.into_bytes().into()));
        for slot in 0..MAX_SCRAPERS {
            self.process(slot, registry, now);
        }
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        self.accept_at = None;
        for _ in 0..MAX_ACCEPTS {
            match self.listener.accept() {
                Ok((stream, _)) => self.add_scraper(stream, registry, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "metrics: accept failed; retrying in a second");
                    self.accept_at = Some(now + ACCEPT_RETRY);
                    return;
                }
            }
        }
        // Edge-triggered: the connections that still wait cause no further event.
        self.accept_at = Some(now);
    }

    fn add_scraper(&mut self, mut stream: TcpStream, registry: &Registry, now: Instant) {
        let Some(slot) = self.clients.iter().position(Option::is_none) else {
            tracing::debug!("metrics: connection closed: {MAX_SCRAPERS} scrapers are connected");
            return;
        };
        let token = Token(self.first + 1 + slot);
        match registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => {
                let output = [Arc::default(), Arc::default()];
                let deadline = now + SCRAPE_TIMEOUT;
                self.clients[slot] = Some(Scraper {
                    stream,
                    input: Vec::new(),
                    output,
                    sent: 0,
                    deadline,
                });
                self.process(slot, registry, now);
            }
            Err(error) => tracing::warn!(%error, "metrics: cannot register a connection"),
        }
    }

    fn process(&mut self, slot: usize, registry: &Registry, now: Instant) {
        let Some(client) = &mut self.clients[slot] else {
            return;
        };
        let (page, building) = (&self.page, &mut self.building);
        let mut fresh = || match page {
            Some((built, text)) if now.saturating_duration_since(*built) < PAGE_LIFETIME => {
                Some(Arc::clone(text))
            }
            _ => {
                building.get_or_insert_default();
                None
            }
        };
        match client.poll(&mut fresh) {
            Ok(false) => (),
            Ok(true) | Err(_) => self.close(slot, registry),
        }
    }

    fn close(&mut self, slot: usize, registry: &Registry) {
        if let Some(mut client) = self.clients[slot].take()
            && let Err(error) = registry.deregister(&mut client.stream)
        {
            tracing::debug!(%error, "metrics: cannot deregister a connection");
        }
    }
}

impl Scraper {
    /// Reads the request and writes the response until it would block. True once it is done.
    fn poll(&mut self, page: &mut dyn FnMut() -> Option<Arc<[u8]>>) -> io::Result<bool> {
        while self.output[0].is_empty() {
            if let Some(output) = response(&self.input, page) {
                self.output = output;
                self.input = Vec::new();
                break;
            }
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(true),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
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

/// Head and body of the response, once the request is invalid, or complete and its page built.
fn response(input: &[u8], page: &mut dyn FnMut() -> Option<Arc<[u8]>>) -> Option<[Arc<[u8]>; 2]> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let text = |text: &str| Arc::from(text.as_bytes());
    let (status, kind, body) = match request.parse(input) {
        Err(error) => ("400 Bad Request", PLAIN, text(&format!("{error}\n"))),
        Ok(httparse::Status::Partial) if input.len() > MAX_REQUEST => (
            "431 Request Header Fields Too Large",
            PLAIN,
            text("request longer than 8 KiB\n"),
        ),
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.and_then(|path| path.split('?').next());
            match (request.method, path) {
                (Some("GET"), Some("/metrics")) => ("200 OK", OPEN_METRICS, page()?),
                (Some("GET"), _) => (
                    "404 Not Found",
                    PLAIN,
                    text("not found: metrics are at /metrics\n"),
                ),
                _ => (
                    "405 Method Not Allowed",
                    PLAIN,
                    text("only GET is allowed\n"),
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
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: \
         close\r\n\r\n",
        body.len()
    );
    Some([text(&head), body])
}
