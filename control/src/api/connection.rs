//! One client of the control socket: its bounded buffers, and its deadlines.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use serde_json::Value;

use super::dispatch::{Dispatched, Handler, PendingShow, dispatch_for};
use super::event::{ApiEvent, Subscription};
use super::message::{ApiError, MAX_REQUEST, code, response};

/// Limit on a response, bytes. Tables are paged, so only a saved configuration may exceed it.
pub(super) const MAX_RESPONSE: usize = 4 << 20;
/// Requests wait while the client has more unread output than this, bytes.
const MAX_UNREAD: usize = 64 << 10;
/// Bytes per read.
const CHUNK: usize = 64 << 10;
/// Requests that are answered before other clients are served.
const REQUESTS_PER_EVENT: usize = 16;
/// Time for one client before others are served: no further request of it is begun after it.
const SLICE: Duration = Duration::from_millis(3);
/// Time limit for completing a request, and for reading a response.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a request after which a client is closed.
pub(super) const IDLE: Duration = Duration::from_secs(300);

/// What happens to a connection after it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// It waits for its socket.
    Wait,
    /// It has more work to do without waiting.
    Again,
    /// It is closed.
    Close,
}

#[derive(Debug)]
pub(super) struct Connection<P> {
    pub(super) stream: UnixStream,
    input: Vec<u8>,
    /// Bytes of `input` that hold no line end.
    scanned: usize,
    output: Vec<u8>,
    sent: usize,
    /// Start of the current wait: for the rest of a request, for the client to read, or for a
    /// request.
    since: Instant,
    /// No more requests are read: the client has closed its side, or exceeded a limit.
    last: bool,
    subscription: Subscription,
    /// Events lost since the last one that was sent.
    lost: u64,
    /// A request that is answered in several turns; the next one waits for it.
    pending: Option<Box<PendingShow<P>>>,
}

impl<P: Default> Connection<P> {
    pub(super) fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            input: Vec::new(),
            scanned: 0,
            output: Vec::new(),
            sent: 0,
            since: now,
            last: false,
            subscription: Subscription::NOTHING,
            lost: 0,
            pending: None,
        }
    }

    /// When it is closed if nothing happens. A subscriber may be silent forever, and may read
    /// slowly.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.pending.is_some() {
            // It waits for us.
            return None;
        }
        let quiet = self.input.is_empty() && self.unsent() == 0;
        match (self.subscribed(), quiet) {
            (true, true) => None,
            (true, false) | (false, true) => Some(self.since + IDLE),
            (false, false) => Some(self.since + REQUEST_TIMEOUT),
        }
    }

    /// Time without a request; `None` while it is busy.
    pub(super) fn idle(&self, now: Instant) -> Option<Duration> {
        let answered = self.unsent() == 0 && self.pending.is_none();
        let quiet = self.input.is_empty() && answered && !self.subscribed();
        quiet.then(|| now.saturating_duration_since(self.since))
    }

    pub(super) const fn subscribed(&self) -> bool {
        !self.subscription.topics.is_empty()
    }

    /// Sends an event if it is subscribed to and fits. False: the connection has failed.
    pub(super) fn event(&mut self, event: &ApiEvent, line: &str, now: Instant) -> bool {
        if !event
            .topic()
            .is_some_and(|topic| self.subscription.wants(topic))
        {
            return true;
        }
        if self.unsent() > MAX_UNREAD {
            self.lost += 1;
            return true;
        }
        if self.unsent() == 0 {
            self.since = now;
        }
        self.report_lost();
        self.put(line);
        self.flush(now).is_ok()
    }

    /// Reports the number of lost events.
    fn report_lost(&mut self) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            let lost = ApiEvent::Lost { lost }.notification();
            self.put(&lost.to_string());
        }
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Writes, reads and answers, up to a limit. It may subscribe if it has subscribed before, or
    /// if `may_subscribe`.
    pub(super) fn process(
        &mut self,
        handler: &mut impl Handler<Progress = P>,
        may_subscribe: bool,
        now: Instant,
    ) -> NextStep {
        match self.work(handler, may_subscribe || self.subscribed(), now) {
            Ok(after) => after,
            Err(_) => NextStep::Close,
        }
    }

    fn work(
        &mut self,
        handler: &mut impl Handler<Progress = P>,
        may_subscribe: bool,
        now: Instant,
    ) -> io::Result<NextStep> {
        let started = Instant::now();
        for _ in 0..REQUESTS_PER_EVENT {
            self.flush(now)?;
            if started.elapsed() >= SLICE {
                break;
            }
            if self.unsent() == 0 && self.lost > 0 {
                self.report_lost();
                self.flush(now)?;
            }
            if self.unsent() > MAX_UNREAD {
                return Ok(NextStep::Wait);
            }
            if let Some(pending) = self.pending.take() {
                self.finish(pending.resume(handler), now);
            } else if let Some(line) = self.line(now) {
                self.answer(&line, handler, may_subscribe, now);
            } else if self.last {
                return Ok(if self.unsent() == 0 {
                    NextStep::Close
                } else {
                    NextStep::Wait
                });
            } else if !self.fill(now)? {
                return Ok(NextStep::Wait);
            }
        }
        self.flush(now)?;
        Ok(NextStep::Again)
    }

    /// The next complete line.
    fn line(&mut self, now: Instant) -> Option<Vec<u8>> {
        let fresh = self.input.get(self.scanned..)?;
        let Some(at) = fresh
            .iter()
            .position(|b| *b == b'\n')
            .map(|at| at + self.scanned)
        else {
            self.scanned = self.input.len();
            return None;
        };
        let rest = self.input.split_off(at + 1);
        let mut line = std::mem::replace(&mut self.input, rest);
        line.truncate(at);
        self.scanned = 0;
        self.since = now;
        Some(line)
    }

    fn answer(
        &mut self,
        line: &[u8],
        handler: &mut impl Handler<Progress = P>,
        may_subscribe: bool,
        now: Instant,
    ) {
        if line.len() > MAX_REQUEST {
            self.too_long();
        } else if !line.trim_ascii().is_empty() {
            let subscription = &mut self.subscription;
            let dispatched = dispatch_for(line, handler, subscription, may_subscribe);
            self.finish(dispatched, now);
        }
    }

    fn finish(&mut self, dispatched: Dispatched<P>, now: Instant) {
        match dispatched {
            Dispatched::Done(answer) => {
                self.since = now;
                answer.iter().for_each(|answer| self.answer_with(answer));
            }
            Dispatched::Pending(pending) => self.pending = Some(pending),
        }
    }

    /// Queues a response, if it is not too long.
    fn answer_with(&mut self, answer: &str) {
        if answer.len() <= MAX_RESPONSE {
            return self.put(answer);
        }
        let message =
            "the answer exceeds 4 MiB; ask for fewer rows, or let the daemon write its file";
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let id = answer.get("id").cloned().unwrap_or_default();
        let refused = response(id, Err(ApiError::refused(message)));
        self.put(&refused.to_string());
    }

    /// Queues a line.
    fn put(&mut self, text: &str) {
        if self.sent > 0 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        self.output.extend_from_slice(text.as_bytes());
        self.output.push(b'\n');
    }

    fn too_long(&mut self) {
        let error = ApiError::new(code::INVALID_REQUEST, "the request exceeds 1 MiB; split it");
        self.put(&response(Value::Null, Err(error)).to_string());
        self.input = Vec::new();
        self.scanned = 0;
        self.last = true;
    }

    /// Reads what is available, up to one chunk. False when nothing is.
    fn fill(&mut self, now: Instant) -> io::Result<bool> {
        if self.input.len() > MAX_REQUEST {
            self.too_long();
            return Ok(true);
        }
        let held = self.input.len();
        self.input.resize(held + CHUNK, 0);
        let read = self.stream.read(&mut self.input[held..]);
        self.input.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => {
                // An incomplete request is discarded.
                self.input.clear();
                self.scanned = 0;
                self.last = true;
                Ok(true)
            }
            Ok(_) => {
                if held == 0 {
                    self.since = now;
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        while self.unsent() > 0 {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.sent += sent;
                    self.since = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        // Release the memory of a long response.
        self.output = Vec::new();
        self.sent = 0;
        Ok(())
    }
}
