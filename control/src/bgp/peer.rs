//! One neighbour: its connections, of which one wins, its way back after an error, what it keeps of its routes.
//!
//! The owner of the sockets does what [`Peer::poll_output`] asks for, tells what happened by the `handle_` methods,
//! writes what [`Peer::transmit`] gives, and calls [`Peer::handle_timeout`] at [`Peer::poll_timeout`].
//! After each call it polls outputs until there is none.

mod lifecycle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fsm::State;
use super::negotiate::{Negotiated, PeerConfig};
use super::output::{Conn, DownReason, Output, QueueFull, Status};
use super::restart::Kept;
use super::session::{Session, Step};
use super::silence::Brought;
use super::timer::{Jitter, Timer, Timers};
use super::wire::{CEASE, Family, Notification, RefreshKind, RouteRefresh, Update, cease};

/// The time between a connection that we end and the next that we open. A peer that sees the new one before it has
/// processed the end of the old one takes both for a collision: FRR 10.3 with dynamic neighbours then forgets the neighbour
/// together with the old connection, and sends no route over the new one. FRR itself waits as long
/// (`BGP_INIT_START_TIMER`, bgpd/bgpd.h).
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// A neighbour.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    sessions: Vec<(Conn, Session)>,
    timers: Timers,
    jitter: Jitter,
    outputs: VecDeque<Output<'static>>,
    next_conn: u64,
    enabled: bool,
    restarting: bool,
    /// Idle until an operator clears the session: too many routes.
    barred: bool,
    /// Time in Idle after the next error.
    idle_hold: Duration,
    idle_until: Option<Instant>,
    last_ended: Option<Instant>,
    kept: Kept,
    up_since: Option<Instant>,
    /// The session has brought an UPDATE.
    updated: bool,
    counters: Counters,
    last_down: Option<DownReason>,
}

#[derive(Debug, Default)]
struct Counters {
    established: u64,
    received: u64,
    sent: u64,
    treated_as_withdrawn: u64,
    attributes_discarded: u64,
    routes_skipped: u64,
}

impl Peer {
    /// A neighbour that is not started. `seed` feeds the jitter of its timers.
    #[must_use]
    pub fn new(config: PeerConfig, seed: u64) -> Self {
        Self {
            idle_hold: config.idle_hold.0,
            config,
            sessions: Vec::with_capacity(2),
            timers: Timers::default(),
            jitter: Jitter(seed),
            outputs: VecDeque::new(),
            next_conn: 0,
            enabled: false,
            restarting: false,
            barred: false,
            idle_until: None,
            last_ended: None,
            kept: Kept::Fresh,
            up_since: None,
            updated: false,
            counters: Counters::default(),
            last_down: None,
        }
    }

    /// The configuration that it was made with.
    #[must_use]
    pub const fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Says in the next OPENs that we have restarted with our forwarding tables kept (R and F bits of RFC 4724).
    /// The owner takes it back when its own restart is over.
    pub const fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// Starts, also after a shutdown: leaves Idle at once, and connects as soon as [`RECONNECT_PAUSE`] allows.
    pub fn start(&mut self, now: Instant) {
        self.enabled = true;
        self.barred = false;
        self.idle_hold = self.config.idle_hold.0;
        self.leave_idle(now);
    }

    /// When we last ended connections by ourselves: a new machine for the same peer is told of the old one's.
    #[must_use]
    pub const fn last_ended(&self) -> Option<Instant> {
        self.last_ended
    }

    /// See [`Peer::last_ended`]. To be set before the start.
    pub const fn set_last_ended(&mut self, at: Option<Instant>) {
        self.last_ended = at;
    }

    /// Ends the session and stays Idle until [`Peer::start`]; the peer is told `text` (RFC 9003).
    pub fn shutdown(&mut self, now: Instant, text: Option<&str>) {
        self.enabled = false;
        self.cease_all(now, &Notification::cease(cease::SHUTDOWN, text));
    }

    /// Hard clear: ends the session; it comes back by itself after [`RECONNECT_PAUSE`]. Neither side keeps routes.
    pub fn clear_hard(&mut self, now: Instant, text: Option<&str>) {
        self.cease_all(now, &Notification::cease(cease::RESET, text));
        if self.enabled {
            self.start(now);
        }
    }

    /// Soft clear inwards: the peer is to send all its routes again. False if it can't, or there is no session.
    pub fn clear_soft_in(&mut self, now: Instant) -> bool {
        self.agreed().is_some_and(|a| a.refresh) && self.send_refresh(now, RefreshKind::Request).is_ok()
    }

    /// Soft clear outwards: all routes are to be sent again, as if the peer had asked. False without a session.
    pub fn clear_soft_out(&mut self) -> bool {
        let up = self.established().is_some();
        if up {
            self.outputs.push_back(Output::RefreshRequested);
        }
        up
    }

    /// TCP is up on a connection that [`Output::Connect`] asked for.
    pub fn handle_connected(&mut self, now: Instant, conn: Conn) {
        self.begin(now, conn);
    }

    /// The peer has connected to us. None: refuse it, by closing it.
    pub fn handle_accepted(&mut self, now: Instant) -> Option<Conn> {
        if !self.enabled || self.barred || self.timers.runs(Timer::IdleHold) {
            return None;
        }
        if self.established().is_some() && self.agreed().is_none_or(|a| a.restart.is_none()) {
            return None;
        }
        // The peer has one connection to us at most: a newer one says that the older one is dead.
        let older = |(_, s): &&(Conn, Session)| !s.outgoing && s.state != State::Established;
        if let Some((conn, _)) = self.sessions.iter().find(older) {
            self.end(now, *conn, DownReason::Replaced);
        }
        let conn = self.add(Session::new(false));
        self.begin(now, conn);
        self.session(conn).is_some().then_some(conn)
    }

    /// TCP ended, or could not be opened. Outputs are polled before: a NOTIFICATION often comes with the end.
    pub fn handle_closed(&mut self, now: Instant, conn: Conn) {
        self.end(now, conn, DownReason::Closed);
    }

    /// Octets arrived. Give no more than [`Peer::read_room`].
    pub fn handle_bytes(&mut self, conn: Conn, bytes: &[u8]) {
        if let Some(session) = self.session(conn) {
            session.inbox.push(bytes);
        }
    }

    /// How many octets [`Peer::handle_bytes`] takes now; 0 means: poll outputs first.
    #[must_use]
    pub fn read_room(&self, conn: Conn) -> usize {
        self.sessions.iter().find(|(c, _)| *c == conn).map_or(0, |(_, s)| s.inbox.room())
    }

    /// What to write to this connection next.
    #[must_use]
    pub fn transmit(&self, conn: Conn) -> &[u8] {
        self.sessions.iter().find(|(c, _)| *c == conn).map_or(&[], |(_, s)| s.outbox.waiting())
    }

    /// TCP took `count` octets of what [`Peer::transmit`] gave.
    pub fn handle_written(&mut self, now: Instant, conn: Conn, count: usize) {
        if let Some(at) = self.place(conn) {
            self.sessions[at].1.written(now, &self.config, count);
        }
    }

    /// Queues messages, made by [`super::wire::announce`] and its like, on the established session.
    ///
    /// # Errors
    /// [`QueueFull`]; nothing is queued then.
    pub fn send(&mut self, now: Instant, message: &[u8]) -> Result<(), QueueFull> {
        let limit = self.config.send_queue;
        let config = &self.config;
        let established = self.sessions.iter_mut().find(|(_, s)| s.state == State::Established);
        let session = established.map(|(_, s)| s).filter(|s| s.outbox.waiting().len() < limit);
        session.ok_or(QueueFull)?.push(now, config, message);
        Ok(())
    }

    /// Sends ROUTE-REFRESH for EVPN: a request, or the marks around the answer to one (RFC 7313).
    ///
    /// # Errors
    /// [`QueueFull`]; nothing is queued then.
    pub fn send_refresh(&mut self, now: Instant, kind: RefreshKind) -> Result<(), QueueFull> {
        self.send(now, &RouteRefresh { family: Family::EVPN, kind }.emit())
    }

    /// The RIB tells how many routes of the peer it holds. Too many end the session (CEASE/1).
    pub fn handle_prefix_count(&mut self, now: Instant, count: usize) {
        let Some(max) = self.config.max_prefixes else { return };
        let Some(conn) = self.established().filter(|_| count > max.limit as usize) else { return };
        let mut data = vec![0, 25, 70];
        data.extend_from_slice(&max.limit.to_be_bytes());
        let cease = self.hard_if_agreed(Notification::new(CEASE, cease::MAX_PREFIXES, &data));
        self.timers.stop(Timer::ConnectRetry);
        self.idle_until = max.retry.map(|retry| now + retry);
        self.end_quietly(now, conn, DownReason::Sent(cease));
        match self.idle_until {
            Some(at) => self.timers.set(Timer::IdleHold, at),
            None => self.barred = true,
        }
    }

    /// The next time at which [`Peer::handle_timeout`] has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.sessions.iter().filter_map(|(_, s)| s.timers.next());
        sessions.chain(self.timers.next()).min()
    }

    /// Does all that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::ConnectRetry => self.retry(now),
                Timer::IdleHold => self.leave_idle(now),
                _ => self.stale_expired(now),
            }
        }
        for conn in self.sessions.iter().map(|(conn, _)| *conn).collect::<Vec<_>>() {
            while let Some(timer) = self.session(conn).and_then(|s| s.timers.expired(now)) {
                self.session_timer(now, conn, timer);
            }
        }
    }

    fn session_timer(&mut self, now: Instant, conn: Conn, timer: Timer) {
        let Some(at) = self.place(conn) else { return };
        let session = &mut self.sessions[at].1;
        match timer {
            Timer::Keepalive => session.keep_alive(now, &self.config, &mut self.jitter),
            Timer::Hold => {
                if session.hold_expired(now, &self.config) {
                    self.end(now, conn, DownReason::Sent(Notification::new(4, 0, &[])));
                }
            }
            _ => self.end(now, conn, DownReason::SendHold),
        }
    }

    /// The next thing to do or to know; None when all is said.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output<'_>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let mut update = None;
            let mut at = 0;
            while let Some((conn, _)) = self.sessions.get(at)
                && self.outputs.is_empty()
                && update.is_none()
            {
                update = self.advance(now, *conn);
                at += 1;
            }
            if let Some((at, parts, range)) = update {
                let body = self.sessions[at].1.inbox.slice(range);
                return Some(Output::Update(Update::new(body, parts)));
            }
            if self.outputs.is_empty() {
                return None;
            }
        }
    }

    /// Processes messages of one connection until one has something to tell.
    fn advance(&mut self, now: Instant, conn: Conn) -> Option<(usize, super::wire::Parts, (usize, usize))> {
        while self.outputs.is_empty() {
            let at = self.place(conn)?;
            match self.sessions[at].1.step(now, &self.config, &mut self.jitter) {
                Ok(Step::Wait) => return None,
                Ok(Step::Done) => {}
                Ok(Step::Opened) => self.resolve_collision(now, conn),
                Ok(Step::Up) => self.up(now, conn),
                Ok(Step::Refresh(refresh)) => self.refreshed(refresh),
                Ok(Step::Ended(notification)) => self.end(now, conn, DownReason::Received(notification)),
                Ok(Step::Update(parts, range)) => {
                    self.count(&parts);
                    self.updated = true;
                    if parts.end_of_rib() == Some(Family::EVPN) {
                        self.outputs.push_back(Output::EndOfRib);
                        self.sweep();
                    } else {
                        return Some((at, parts, range));
                    }
                }
                Err(notification) => self.end(now, conn, DownReason::Sent(notification)),
            }
        }
        None
    }

    fn count(&mut self, parts: &super::wire::Parts) {
        use super::wire::Action;
        self.counters.routes_skipped += u64::from(parts.skipped());
        let withdrawn = parts.action() == Some(Action::Withdraw) || parts.malformed() > 0;
        self.counters.treated_as_withdrawn += u64::from(withdrawn);
        let discarded = parts.faults().iter().any(|fault| fault.action == Action::Discard);
        self.counters.attributes_discarded += u64::from(discarded);
    }

    fn refreshed(&mut self, refresh: RouteRefresh) {
        let enhanced = self.agreed().is_some_and(|a| a.enhanced_refresh);
        if refresh.family != Family::EVPN {
            return;
        }
        match refresh.kind {
            RefreshKind::Request => self.outputs.push_back(Output::RefreshRequested),
            RefreshKind::Begin if enhanced => self.outputs.push_back(Output::RefreshBegun),
            RefreshKind::End if enhanced => self.outputs.push_back(Output::RefreshEnded),
            RefreshKind::Begin | RefreshKind::End => {}
        }
    }

    fn place(&self, conn: Conn) -> Option<usize> {
        self.sessions.iter().position(|(c, _)| *c == conn)
    }

    fn session(&mut self, conn: Conn) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|(c, _)| *c == conn).map(|(_, s)| s)
    }

    fn established(&self) -> Option<Conn> {
        self.sessions.iter().find(|(_, s)| s.state == State::Established).map(|(c, _)| *c)
    }

    fn agreed(&self) -> Option<&Arc<Negotiated>> {
        let established = self.sessions.iter().find(|(_, s)| s.state == State::Established);
        established.and_then(|(_, s)| s.agreed.as_ref())
    }

    /// What the session has brought; `None` while it is not established.
    #[must_use]
    pub fn brought(&self) -> Option<Brought> {
        self.up_since.map(|up_since| Brought { up_since, update: self.updated })
    }

    /// What `show` tells.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.sessions.iter().map(|(_, s)| s.state).max();
        let resting = if self.enabled && !self.barred && self.idle_until.is_none() {
            State::Active
        } else {
            State::Idle
        };
        let open = |count: fn(&Session) -> u64| self.sessions.iter().map(|(_, s)| count(s)).sum::<u64>();
        Status {
            state: state.unwrap_or(resting),
            enabled: self.enabled,
            negotiated: self.agreed().cloned(),
            up_since: self.up_since,
            established: self.counters.established,
            last_down: self.last_down.clone(),
            idle_until: self.idle_until,
            received: self.counters.received + open(|s| s.received),
            sent: self.counters.sent + open(|s| s.sent),
            treated_as_withdrawn: self.counters.treated_as_withdrawn,
            attributes_discarded: self.counters.attributes_discarded,
            routes_skipped: self.counters.routes_skipped,
            queued: self.sessions.iter().map(|(_, s)| s.outbox.waiting().len()).sum(),
        }
    }
}
