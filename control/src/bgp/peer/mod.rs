//! One neighbour: its connections, of which one wins, its way back after an error, what it keeps of its routes.
//!
//! The owner of the sockets does what [`Peer::poll_output`] asks for, tells what happened by the `handle_` methods,
//! writes what [`Peer::transmit`] gives, and calls [`Peer::handle_timeout`] at [`Peer::poll_timeout`].
//! After each call it polls outputs until there is none.

mod lifecycle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fsm::FsmState;
use super::graceful_restart::GrState;
use super::negotiate::{Negotiated, PeerConfig};
use super::output::{ConnectionId, DownReason, PeerOutput, PeerStatus, QueueFull};
use super::session::{Session, SessionStep};
use super::silence::Brought;
use super::timer::{Jitter, Timer, Timers};
use super::wire::{
    AddressFamily, AttrErrorAction, ErrorCode, Notification, RefreshKind, RouteRefresh,
    UpdateMessage, UpdateParts,
};

/// The time between a connection that we end and the next that we open. A peer that sees the new one before it has
/// processed the end of the old one takes both for a collision: FRR 10.3 with dynamic neighbours then forgets the neighbour
/// together with the old connection, and sends no route over the new one. FRR itself waits as long
/// (`BGP_INIT_START_TIMER`, bgpd/bgpd.h).
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// A neighbour.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    sessions: Vec<(ConnectionId, Session)>,
    timers: Timers,
    jitter: Jitter,
    outputs: VecDeque<PeerOutput<'static>>,
    next_conn: u64,
    enabled: bool,
    restarting: bool,
    /// Idle until an operator clears the session: too many routes.
    prefix_limit_hit: bool,
    /// Time in Idle after the next error.
    idle_hold: Duration,
    idle_until: Option<Instant>,
    last_ended: Option<Instant>,
    gr_state: GrState,
    up_since: Option<Instant>,
    /// The session has brought an UPDATE.
    updated: bool,
    counters: PeerCounters,
    last_down: Option<DownReason>,
}

#[derive(Debug, Default)]
struct PeerCounters {
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
            prefix_limit_hit: false,
            idle_until: None,
            last_ended: None,
            gr_state: GrState::Fresh,
            up_since: None,
            updated: false,
            counters: PeerCounters::default(),
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
        self.prefix_limit_hit = false;
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
        self.cease_all(
            now,
            &Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, text),
        );
    }

    /// Hard clear: ends the session; it comes back by itself after [`RECONNECT_PAUSE`]. Neither side keeps routes.
    pub fn clear_hard(&mut self, now: Instant, text: Option<&str>) {
        self.cease_all(
            now,
            &Notification::with_text(ErrorCode::ADMINISTRATIVE_RESET, text),
        );
        if self.enabled {
            self.start(now);
        }
    }

    /// Soft clear inwards: the peer is to send all its routes again. False if it can't, or there is no session.
    pub fn clear_soft_in(&mut self, now: Instant) -> bool {
        self.negotiated().is_some_and(|a| a.refresh)
            && self.send_refresh(now, RefreshKind::Request).is_ok()
    }

    /// Soft clear outwards: all routes are to be sent again, as if the peer had asked. False without a session.
    pub fn clear_soft_out(&mut self) -> bool {
        let up = self.established().is_some();
        if up {
            self.outputs.push_back(PeerOutput::RefreshRequested);
        }
        up
    }

    /// TCP is up on a connection that [`PeerOutput::Connect`] asked for.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnectionId) {
        self.begin(now, conn);
    }

    /// The peer has connected to us. None: refuse it, by closing it.
    pub fn handle_accepted(&mut self, now: Instant) -> Option<ConnectionId> {
        if !self.enabled || self.prefix_limit_hit || self.timers.runs(Timer::IdleHold) {
            return None;
        }
        if self.established().is_some() && self.negotiated().is_none_or(|a| a.restart.is_none()) {
            return None;
        }
        // The peer has one connection to us at most: a newer one says that the older one is dead.
        let older =
            |(_, s): &&(ConnectionId, Session)| !s.outgoing && s.state != FsmState::Established;
        if let Some((conn, _)) = self.sessions.iter().find(older) {
            self.end(now, *conn, DownReason::Replaced);
        }
        let conn = self.add(Session::new(false));
        self.begin(now, conn);
        self.session(conn).is_some().then_some(conn)
    }

    /// TCP ended, or could not be opened. Outputs are polled before: a NOTIFICATION often comes with the end.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnectionId) {
        self.end(now, conn, DownReason::Closed);
    }

    /// Octets arrived. Give no more than [`Peer::recv_capacity`].
    pub fn handle_bytes(&mut self, conn: ConnectionId, bytes: &[u8]) {
        if let Some(session) = self.session(conn) {
            session.recv_buffer.push(bytes);
        }
    }

    /// How many octets [`Peer::handle_bytes`] takes now; 0 means: poll outputs first.
    #[must_use]
    pub fn recv_capacity(&self, conn: ConnectionId) -> usize {
        self.sessions
            .iter()
            .find(|(c, _)| *c == conn)
            .map_or(0, |(_, s)| s.recv_buffer.room())
    }

    /// What to write to this connection next.
    #[must_use]
    pub fn transmit(&self, conn: ConnectionId) -> &[u8] {
        self.sessions
            .iter()
            .find(|(c, _)| *c == conn)
            .map_or(&[], |(_, s)| s.send_buffer.waiting())
    }

    /// TCP took `count` octets of what [`Peer::transmit`] gave.
    pub fn handle_written(&mut self, now: Instant, conn: ConnectionId, count: usize) {
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
        let established = self
            .sessions
            .iter_mut()
            .find(|(_, s)| s.state == FsmState::Established);
        let session = established
            .map(|(_, s)| s)
            .filter(|s| s.send_buffer.waiting().len() < limit);
        session.ok_or(QueueFull)?.push(now, config, message);
        Ok(())
    }

    /// Sends ROUTE-REFRESH for EVPN: a request, or the marks around the answer to one (RFC 7313).
    ///
    /// # Errors
    /// [`QueueFull`]; nothing is queued then.
    pub fn send_refresh(&mut self, now: Instant, kind: RefreshKind) -> Result<(), QueueFull> {
        self.send(
            now,
            &RouteRefresh {
                family: AddressFamily::EVPN,
                kind,
            }
            .emit(),
        )
    }

    /// The RIB tells how many routes of the peer it holds. Too many end the session (CEASE/1).
    pub fn handle_prefix_count(&mut self, now: Instant, count: usize) {
        let Some(max) = self.config.max_prefixes else {
            return;
        };
        let Some(conn) = self.established().filter(|_| count > max.limit as usize) else {
            return;
        };
        let mut data = vec![0, 25, 70];
        data.extend_from_slice(&max.limit.to_be_bytes());
        let cease = self
            .hard_reset_if_negotiated(Notification::new(ErrorCode::MAX_PREFIXES_REACHED, &data));
        self.timers.stop(Timer::ConnectRetry);
        self.idle_until = max.retry.map(|retry| now + retry);
        self.end_quietly(now, conn, DownReason::Sent(cease));
        match self.idle_until {
            Some(at) => self.timers.set(Timer::IdleHold, at),
            None => self.prefix_limit_hit = true,
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
        for conn in self
            .sessions
            .iter()
            .map(|(conn, _)| *conn)
            .collect::<Vec<_>>()
        {
            while let Some(timer) = self.session(conn).and_then(|s| s.timers.expired(now)) {
                self.session_timer(now, conn, timer);
            }
        }
    }

    fn session_timer(&mut self, now: Instant, conn: ConnectionId, timer: Timer) {
        let Some(at) = self.place(conn) else { return };
        let session = &mut self.sessions[at].1;
        match timer {
            Timer::Keepalive => session.keep_alive(now, &self.config, &mut self.jitter),
            Timer::Hold => {
                if session.hold_expired(now, &self.config) {
                    self.end(
                        now,
                        conn,
                        DownReason::Sent(Notification::new(ErrorCode::HOLD_TIMER_EXPIRED, &[])),
                    );
                }
            }
            _ => self.end(now, conn, DownReason::SendHold),
        }
    }

    /// The next thing to do or to know; None when all is said.
    pub fn poll_output(&mut self, now: Instant) -> Option<PeerOutput<'_>> {
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
                let body = self.sessions[at].1.recv_buffer.slice(range);
                return Some(PeerOutput::Update(UpdateMessage::new(body, parts)));
            }
            if self.outputs.is_empty() {
                return None;
            }
        }
    }

    /// Processes messages of one connection until one has something to tell.
    fn advance(
        &mut self,
        now: Instant,
        conn: ConnectionId,
    ) -> Option<(usize, UpdateParts, (usize, usize))> {
        while self.outputs.is_empty() {
            let at = self.place(conn)?;
            match self.sessions[at]
                .1
                .step(now, &self.config, &mut self.jitter)
            {
                Ok(SessionStep::Wait) => return None,
                Ok(SessionStep::Done) => {}
                Ok(SessionStep::Opened) => self.resolve_collision(now, conn),
                Ok(SessionStep::Up) => self.up(now, conn),
                Ok(SessionStep::Refresh(refresh)) => self.refreshed(refresh),
                Ok(SessionStep::Ended(notification)) => {
                    self.end(now, conn, DownReason::Received(notification))
                }
                Ok(SessionStep::Update(parts, range)) => {
                    self.count(&parts);
                    self.updated = true;
                    if parts.end_of_rib() == Some(AddressFamily::EVPN) {
                        self.outputs.push_back(PeerOutput::EndOfRib);
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

    fn count(&mut self, parts: &UpdateParts) {
        self.counters.routes_skipped += u64::from(parts.skipped());
        let withdrawn =
            parts.action() == Some(AttrErrorAction::TreatAsWithdraw) || parts.malformed() > 0;
        self.counters.treated_as_withdrawn += u64::from(withdrawn);
        let discarded = parts
            .errors()
            .iter()
            .any(|error| error.action == AttrErrorAction::AttributeDiscard);
        self.counters.attributes_discarded += u64::from(discarded);
    }

    fn refreshed(&mut self, refresh: RouteRefresh) {
        let enhanced = self.negotiated().is_some_and(|a| a.enhanced_refresh);
        if refresh.family != AddressFamily::EVPN {
            return;
        }
        match refresh.kind {
            RefreshKind::Request => self.outputs.push_back(PeerOutput::RefreshRequested),
            RefreshKind::Begin if enhanced => self.outputs.push_back(PeerOutput::RefreshBegun),
            RefreshKind::End if enhanced => self.outputs.push_back(PeerOutput::RefreshEnded),
            RefreshKind::Begin | RefreshKind::End => {}
        }
    }

    fn place(&self, conn: ConnectionId) -> Option<usize> {
        self.sessions.iter().position(|(c, _)| *c == conn)
    }

    fn session(&mut self, conn: ConnectionId) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|(c, _)| *c == conn)
            .map(|(_, s)| s)
    }

    fn established(&self) -> Option<ConnectionId> {
        self.sessions
            .iter()
            .find(|(_, s)| s.state == FsmState::Established)
            .map(|(c, _)| *c)
    }

    fn negotiated(&self) -> Option<&Arc<Negotiated>> {
        let established = self
            .sessions
            .iter()
            .find(|(_, s)| s.state == FsmState::Established);
        established.and_then(|(_, s)| s.negotiated.as_ref())
    }

    /// What the session has brought; `None` while it is not established.
    #[must_use]
    pub fn brought(&self) -> Option<Brought> {
        self.up_since.map(|up_since| Brought {
            up_since,
            update: self.updated,
        })
    }

    /// What `show` tells.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        let state = self.sessions.iter().map(|(_, s)| s.state).max();
        let resting = if self.enabled && !self.prefix_limit_hit && self.idle_until.is_none() {
            FsmState::Active
        } else {
            FsmState::Idle
        };
        let open =
            |count: fn(&Session) -> u64| self.sessions.iter().map(|(_, s)| count(s)).sum::<u64>();
        PeerStatus {
            state: state.unwrap_or(resting),
            enabled: self.enabled,
            negotiated: self.negotiated().cloned(),
            up_since: self.up_since,
            established: self.counters.established,
            last_down: self.last_down.clone(),
            idle_until: self.idle_until,
            received: self.counters.received + open(|s| s.received),
            sent: self.counters.sent + open(|s| s.sent),
            treated_as_withdrawn: self.counters.treated_as_withdrawn,
            attributes_discarded: self.counters.attributes_discarded,
            routes_skipped: self.counters.routes_skipped,
            queued: self
                .sessions
                .iter()
                .map(|(_, s)| s.send_buffer.waiting().len())
                .sum(),
        }
    }
}
