//! One neighbor: its connections, of which one survives, retries after errors, graceful restart.
//!
//! The owner of the sockets performs what [`Peer::poll_output`] requests, reports events through
//! the `handle_` methods, writes what [`Peer::transmit`] returns, and calls
//! [`Peer::handle_timeout`] at [`Peer::poll_timeout`]. After each call it polls outputs until there
//! are none.

mod command;
mod lifecycle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fsm::FsmState;
use super::graceful_restart::GrState;
use super::negotiate::{Negotiated, PeerConfig};
use super::output::{ConnectionId, DownReason, Failures, PeerOutput, PeerStatus, QueueFull};
use super::session::{Session, SessionStep};
use super::silence::SessionUpdates;
use super::timer::{Jitter, Timer, Timers};
use super::wire::{
    AddressFamily, AttrErrorAction, ErrorCode, Notification, RefreshKind, RouteRefresh,
    UpdateMessage, UpdateParts,
};

/// Time between closing a connection and opening the next. A peer that sees the new connection
/// before it has processed the close of the old one takes both for a collision: FRR 10.3 with
/// dynamic neighbors then deletes the neighbor together with the old connection, and sends no
/// routes over the new one. FRR waits as long (`BGP_INIT_START_TIMER`, bgpd/bgpd.h).
pub const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// A BGP neighbor.
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
    /// The prefix limit was exceeded: Idle until the retry time has passed, if there is one, the
    /// limit changes, or an operator clears the session.
    prefix_limit_hit: bool,
    /// Time in Idle after the next error.
    idle_hold: Duration,
    idle_until: Option<Instant>,
    last_closed: Option<Instant>,
    gr_state: GrState,
    up_since: Option<Instant>,
    /// The session has received an UPDATE.
    update_received: bool,
    /// The session has received End-of-RIB.
    end_of_rib: bool,
    counters: PeerCounters,
    failures: Failures,
    down_since: Option<Instant>,
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
    /// A peer that is not started. `seed` initializes the jitter of its timers.
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
            last_closed: None,
            gr_state: GrState::Fresh,
            up_since: None,
            update_received: false,
            end_of_rib: false,
            counters: PeerCounters::default(),
            failures: Failures::default(),
            down_since: None,
        }
    }

    /// The configuration given to [`Peer::new`].
    #[must_use]
    pub const fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Sets the R and F bits in later OPENs: this speaker has restarted and preserved its
    /// forwarding state (RFC 4724 section 3). The owner resets it once its restart is over.
    pub const fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// TCP is up on a connection that [`PeerOutput::Connect`] requested.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnectionId) {
        self.send_open(now, conn);
    }

    /// The peer has connected to us. `None`: close the connection.
    pub fn handle_accepted(&mut self, now: Instant) -> Option<ConnectionId> {
        if !self.enabled || self.prefix_limit_hit || self.timers.is_running(Timer::IdleHold) {
            return None;
        }
        // A peer with graceful restart may have restarted (RFC 4724 section 5), whether or not it
        // preserves anything itself.
        if self.established().is_some() && self.negotiated().is_none_or(|a| !a.helper) {
            return None;
        }
        // A peer has at most one connection to us: a newer one means that the older one is dead.
        let older =
            |(_, s): &&(ConnectionId, Session)| !s.outgoing && s.state != FsmState::Established;
        if let Some((conn, _)) = self.sessions.iter().find(older) {
            self.end_connection(now, *conn, DownReason::Replaced);
        }
        let conn = self.add(Session::new(false));
        self.send_open(now, conn);
        self.session(conn).is_some().then_some(conn)
    }

    /// The peer closed the TCP connection. Poll outputs first: a NOTIFICATION often precedes the
    /// close.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnectionId) {
        self.end_connection(now, conn, DownReason::Closed);
    }

    /// TCP failed, or could not connect, with this error. Poll outputs first, as for
    /// [`Peer::handle_closed`].
    pub fn handle_failed(&mut self, now: Instant, conn: ConnectionId, error: String) {
        self.end_connection(now, conn, DownReason::Failed(error));
    }

    /// Octets arrived, at most [`Peer::recv_capacity`].
    pub fn handle_bytes(&mut self, conn: ConnectionId, bytes: &[u8]) {
        if let Some(session) = self.session(conn) {
            session.recv_buffer.push(bytes);
        }
    }

    /// How many octets [`Peer::handle_bytes`] accepts now; if 0, poll outputs first.
    #[must_use]
    pub fn recv_capacity(&self, conn: ConnectionId) -> usize {
        self.sessions
            .iter()
            .find(|(c, _)| *c == conn)
            .map_or(0, |(_, s)| s.recv_buffer.free_space())
    }

    /// The octets to write to this connection next.
    #[must_use]
    pub fn transmit(&self, conn: ConnectionId) -> &[u8] {
        self.sessions
            .iter()
            .find(|(c, _)| *c == conn)
            .map_or(&[], |(_, s)| s.send_buffer.pending())
    }

    /// TCP took `count` octets of those that [`Peer::transmit`] returned.
    pub fn handle_written(&mut self, now: Instant, conn: ConnectionId, count: usize) {
        if let Some(at) = self.session_index(conn) {
            self.sessions[at].1.written(now, &self.config, count);
        }
    }

    /// Queues a complete message, such as one from [`super::wire::announce`], on the established
    /// session.
    ///
    /// # Errors
    /// [`QueueFull`]; nothing is queued.
    pub fn send(&mut self, now: Instant, message: &[u8]) -> Result<(), QueueFull> {
        let limit = self.config.send_queue;
        let config = &self.config;
        let established = self
            .sessions
            .iter_mut()
            .find(|(_, s)| s.state == FsmState::Established);
        let session = established
            .map(|(_, s)| s)
            .filter(|s| s.send_buffer.pending().len() < limit);
        session.ok_or(QueueFull)?.push(now, config, message);
        Ok(())
    }

    /// As [`Self::send`], if the message fits into `octets`, which it takes: 0 are left if it does
    /// not. Returns whether it is queued.
    pub fn send_within(&mut self, now: Instant, message: &[u8], octets: &mut usize) -> bool {
        let Some(left) = octets.checked_sub(message.len()) else {
            *octets = 0;
            return false;
        };
        let queued = self.send(now, message).is_ok();
        if queued {
            *octets = left;
        }
        queued
    }

    /// Queues a ROUTE-REFRESH for EVPN: a request, or BoRR and EoRR around the answer to one
    /// (RFC 7313).
    ///
    /// # Errors
    /// [`QueueFull`]; nothing is queued.
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

    /// The RIB holds `count` routes of the peer. More than the limit end the session (6/1,
    /// RFC 4486 section 4).
    pub fn handle_prefix_count(&mut self, now: Instant, count: usize) {
        let Some(max) = self.config.max_prefixes else {
            return;
        };
        let Some(conn) = self.established().filter(|_| count > max.limit as usize) else {
            return;
        };
        // AFI, SAFI and the limit (RFC 4486 section 4).
        let mut data = vec![0, 25, 70];
        data.extend_from_slice(&max.limit.to_be_bytes());
        let cease = self
            .hard_reset_if_negotiated(Notification::new(ErrorCode::MAX_PREFIXES_REACHED, &data));
        self.timers.stop(Timer::ConnectRetry);
        self.idle_until = max.retry.map(|retry| now + retry);
        self.prefix_limit_hit = true;
        self.remove_connection(now, conn, DownReason::Sent(cease));
        if let Some(at) = self.idle_until {
            self.timers.set(Timer::IdleHold, at);
        }
    }

    /// The next time at which [`Peer::handle_timeout`] has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.sessions.iter().filter_map(|(_, s)| s.timers.next());
        sessions.chain(self.timers.next()).min()
    }

    /// Handles all expired timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::ConnectRetry => self.try_connect(now),
                Timer::IdleHold => self.leave_idle(now),
                Timer::Refresh => self.outputs.push_back(PeerOutput::RefreshEnded),
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
        let Some(at) = self.session_index(conn) else {
            return;
        };
        let session = &mut self.sessions[at].1;
        match timer {
            Timer::Keepalive => session.send_keepalive(now, &self.config, &mut self.jitter),
            Timer::Hold => {
                if session.hold_expired(now, &self.config) {
                    self.end_connection(
                        now,
                        conn,
                        DownReason::Sent(Notification::new(ErrorCode::HOLD_TIMER_EXPIRED, &[])),
                    );
                }
            }
            _ => self.end_connection(now, conn, DownReason::SendHold),
        }
    }

    /// The next action or event; `None` when there is nothing more to report.
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

    /// Processes messages of one connection until one has an output.
    fn advance(
        &mut self,
        now: Instant,
        conn: ConnectionId,
    ) -> Option<(usize, UpdateParts, (usize, usize))> {
        while self.outputs.is_empty() {
            let at = self.session_index(conn)?;
            match self.sessions[at]
                .1
                .step(now, &self.config, &mut self.jitter)
            {
                Ok(SessionStep::NeedMoreData) => return None,
                Ok(SessionStep::Done) => {}
                Ok(SessionStep::OpenAccepted) => self.resolve_collision(now, conn),
                Ok(SessionStep::Established) => self.session_up(now, conn),
                Ok(SessionStep::Refresh(refresh)) => self.handle_refresh(now, refresh),
                Ok(SessionStep::NotificationReceived(notification)) => {
                    self.end_connection(now, conn, DownReason::Received(notification));
                }
                Ok(SessionStep::Update(parts, range)) => {
                    self.count(&parts);
                    self.update_received = true;
                    if parts.end_of_rib() == Some(AddressFamily::EVPN) {
                        self.end_of_rib = true;
                        self.outputs.push_back(PeerOutput::EndOfRib);
                        self.sweep();
                    } else {
                        return Some((at, parts, range));
                    }
                }
                Err(notification) => self.end_connection(now, conn, DownReason::Sent(notification)),
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

    fn handle_refresh(&mut self, now: Instant, refresh: RouteRefresh) {
        let Some(negotiated) = self.negotiated() else {
            return;
        };
        if refresh.family != AddressFamily::EVPN {
            return;
        }
        // Until End-of-RIB a peer with graceful restart still sends its first set of routes, and
        // BoRR must be ignored (RFC 7313 section 4).
        let first_set = negotiated.helper && !self.end_of_rib;
        let enhanced = negotiated.enhanced_refresh;
        match refresh.kind {
            RefreshKind::Request => self.outputs.push_back(PeerOutput::RefreshRequested),
            RefreshKind::Begin if enhanced && !first_set => {
                let limit = self.config.restart.unwrap_or_default().stale_limit;
                self.timers.set(Timer::Refresh, now + limit);
                self.outputs.push_back(PeerOutput::RefreshBegun);
            }
            RefreshKind::End if self.timers.is_running(Timer::Refresh) => {
                self.timers.stop(Timer::Refresh);
                self.outputs.push_back(PeerOutput::RefreshEnded);
            }
            RefreshKind::Begin | RefreshKind::End => {}
        }
    }

    fn session_index(&self, conn: ConnectionId) -> Option<usize> {
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

    /// Whether the session has received UPDATEs; `None` while it is not established.
    #[must_use]
    pub fn session_updates(&self) -> Option<SessionUpdates> {
        self.up_since.map(|up_since| SessionUpdates {
            up_since,
            update_received: self.update_received,
        })
    }

    /// State and counters, for `show` and metrics.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        let state = self.sessions.iter().map(|(_, s)| s.state).max();
        let without_connection =
            if self.enabled && !self.prefix_limit_hit && self.idle_until.is_none() {
                FsmState::Active
            } else {
                FsmState::Idle
            };
        let open =
            |count: fn(&Session) -> u64| self.sessions.iter().map(|(_, s)| count(s)).sum::<u64>();
        PeerStatus {
            state: state.unwrap_or(without_connection),
            enabled: self.enabled,
            negotiated: self.negotiated().cloned(),
            up_since: self.up_since,
            established: self.counters.established,
            down_since: self.down_since,
            failures: self.failures.clone(),
            prefix_limit_hit: self.prefix_limit_hit,
            passive: self.config.passive,
            idle_until: self.idle_until,
            received: self.counters.received + open(|s| s.received),
            sent: self.counters.sent + open(|s| s.sent),
            treated_as_withdrawn: self.counters.treated_as_withdrawn,
            attributes_discarded: self.counters.attributes_discarded,
            routes_skipped: self.counters.routes_skipped,
            queued: self
                .sessions
                .iter()
                .map(|(_, s)| s.send_buffer.pending().len())
                .sum(),
        }
    }
}
