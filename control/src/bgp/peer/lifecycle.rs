//! Opening and closing of a peer's connections, collision resolution, retries, stale routes.

use std::time::{Duration, Instant};

use super::super::fsm::FsmState;
use super::super::graceful_restart::{GrState, retention};
use super::super::negotiate::Negotiated;
use super::super::output::{ConnectionId, ConnectionKind, DownReason, Ended, PeerOutput};
use super::super::session::Session;
use super::super::timer::Timer;
use super::super::wire::{ErrorCode, Notification};
use super::{Peer, RECONNECT_DELAY};

/// A new connection this soon after session establishment is a late collision, not a restart of
/// the peer.
const COLLISION_WINDOW: Duration = Duration::from_secs(5);

impl Peer {
    pub(super) fn add(&mut self, session: Session) -> ConnectionId {
        let conn = ConnectionId(self.next_conn);
        self.next_conn += 1;
        self.sessions.push((conn, session));
        conn
    }

    pub(super) fn send_open(&mut self, now: Instant, conn: ConnectionId) {
        let Some(at) = self.session_index(conn) else {
            return;
        };
        // Our forwarding state survives the end of a session (RFC 8538 section 4).
        let preserved = self.restarting || self.counters.established > 0;
        let session = &mut self.sessions[at].1;
        if matches!(session.state, FsmState::Connect | FsmState::Active)
            && !session.send_open(now, &self.config, self.restarting, preserved)
        {
            self.end_connection(
                now,
                conn,
                DownReason::Sent(Notification::new(ErrorCode::OUT_OF_RESOURCES, &[])),
            );
        }
    }

    /// `passive` or the connect retry time may have changed.
    pub(super) fn apply_connect_settings(&mut self, now: Instant) {
        if self.prefix_limit_hit {
            return;
        }
        if self.config.passive {
            self.timers.stop(Timer::ConnectRetry);
            self.abandon_connect(now, DownReason::Replaced);
            return;
        }
        let retry = now + self.jitter.apply(self.config.connect_retry);
        self.timers.shorten(Timer::ConnectRetry, retry);
        let waiting = [Timer::ConnectRetry, Timer::IdleHold]
            .iter()
            .any(|timer| self.timers.is_running(*timer));
        if !waiting && self.established().is_none() {
            self.leave_idle(now);
        }
    }

    /// Closes a connection that TCP has not established yet.
    fn abandon_connect(&mut self, now: Instant, reason: DownReason) {
        let slow = self
            .sessions
            .iter()
            .find(|(_, s)| s.state == FsmState::Connect)
            .map(|(c, _)| *c);
        if let Some(conn) = slow {
            self.remove_connection(now, conn, reason);
        }
    }

    pub(super) fn leave_idle(&mut self, now: Instant) {
        self.idle_until = None;
        self.prefix_limit_hit = false;
        self.timers.stop(Timer::IdleHold);
        match self.last_closed.map(|ended| ended + RECONNECT_DELAY) {
            Some(at) if at > now => self.timers.set(Timer::ConnectRetry, at),
            _ => self.try_connect(now),
        }
    }

    /// Connects, unless a connection is already further along, and sets the timer for the next
    /// attempt.
    pub(super) fn try_connect(&mut self, now: Instant) {
        if !self.enabled
            || self.prefix_limit_hit
            || self.established().is_some()
            || self.config.passive
        {
            return;
        }
        self.timers.set(
            Timer::ConnectRetry,
            now + self.jitter.apply(self.config.connect_retry),
        );
        self.abandon_connect(now, DownReason::NoAnswer(self.config.connect_retry));
        // A connection from the peer may never deliver an OPEN: a connection to it is tried as
        // well.
        let under_way =
            |(_, s): &(ConnectionId, Session)| s.outgoing || s.state >= FsmState::OpenConfirm;
        if !self.sessions.iter().any(under_way) {
            let conn = self.add(Session::new(true));
            self.outputs.push_back(PeerOutput::Connect(conn));
        }
    }

    /// `notification` as a hard reset if the peer would otherwise keep our routes
    /// (RFC 8538 section 4).
    pub(super) fn hard_reset_if_negotiated(&self, notification: Notification) -> Notification {
        if self.negotiated().is_some_and(|a| a.hard_reset) {
            notification.hard()
        } else {
            notification
        }
    }

    pub(super) fn cease_all(&mut self, now: Instant, notification: &Notification) {
        let notification = self.hard_reset_if_negotiated(notification.clone());
        self.timers.stop(Timer::ConnectRetry);
        self.timers.stop(Timer::IdleHold);
        self.idle_until = None;
        if !self.sessions.is_empty() {
            self.last_closed = Some(now);
        }
        for conn in self.sessions.iter().map(|(c, _)| *c).collect::<Vec<_>>() {
            self.remove_connection(now, conn, DownReason::Sent(notification.clone()));
        }
        self.sweep();
    }

    /// Ends a connection; if it was the last one, schedules the next attempt.
    pub(super) fn end_connection(&mut self, now: Instant, conn: ConnectionId, reason: DownReason) {
        let error = matches!(&reason, DownReason::Sent(n) if !n.error.is_cease());
        let was_up = self.up_since;
        if !self.remove_connection(now, conn, reason) || !self.sessions.is_empty() || !self.enabled
        {
            return;
        }
        if was_up.is_some_and(|since| now.duration_since(since) >= self.config.idle_hold.1) {
            self.idle_hold = self.config.idle_hold.0;
        }
        let pause = self.jitter.apply(self.idle_hold);
        if error {
            self.idle_until = Some(now + pause);
            self.timers.stop(Timer::ConnectRetry);
            self.timers.set(Timer::IdleHold, now + pause);
        } else if was_up.is_some() && !self.config.passive {
            self.timers.set(Timer::ConnectRetry, now + pause);
        } else if !self.config.passive && !self.timers.is_running(Timer::ConnectRetry) {
            self.timers.set(
                Timer::ConnectRetry,
                now + self.jitter.apply(self.config.connect_retry),
            );
        }
        if error || was_up.is_some() {
            self.idle_hold = (self.idle_hold * 2).min(self.config.idle_hold.1);
        }
    }

    /// Ends a connection without scheduling another. False if it was already removed.
    pub(super) fn remove_connection(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        reason: DownReason,
    ) -> bool {
        let Some(at) = self.session_index(conn) else {
            return false;
        };
        let (_, session) = self.sessions.remove(at);
        self.counters.received += session.received;
        self.counters.sent += session.sent;
        let established = session.state == FsmState::Established;
        let kind = session.kind();
        if !matches!(reason, DownReason::Closed | DownReason::Failed(_)) {
            let last_message = match &reason {
                DownReason::Sent(n) if session.state >= FsmState::OpenSent => {
                    self.counters.sent += 1;
                    session.send_buffer.last_message(&n.emit())
                }
                _ => Vec::new(),
            };
            self.outputs
                .push_back(PeerOutput::Close { conn, last_message });
        }
        if let Some(negotiated) = session.negotiated.filter(|_| established) {
            self.session_down(now, &negotiated, reason.clone());
        }
        if established {
            self.failures.session = Some(Ended {
                at: now,
                kind,
                reason,
            });
            self.down_since = Some(now);
        } else {
            self.attempt_failed(now, kind, reason);
        }
        true
    }

    /// Records why a connection ended before its session was established, unless this side ended
    /// it on purpose, or another connection of the peer is further along.
    fn attempt_failed(&mut self, now: Instant, kind: ConnectionKind, reason: DownReason) {
        let on_purpose = match &reason {
            DownReason::Replaced => true,
            DownReason::Sent(n) => n.error.is_cease(),
            DownReason::Received(n) => n.error == ErrorCode::CONNECTION_COLLISION_RESOLUTION,
            _ => false,
        };
        let ahead = |(_, other): &(ConnectionId, Session)| other.state >= FsmState::OpenConfirm;
        if on_purpose || self.sessions.iter().any(ahead) {
            return;
        }
        let failures = &mut self.failures;
        failures.count += 1;
        let ended = Some(Ended {
            at: now,
            kind,
            reason: reason.clone(),
        });
        match reason {
            // A neighbor that was shut down, or does not know us, closes without a word: that must
            // not hide what it has said before.
            DownReason::Closed
            | DownReason::Failed(_)
            | DownReason::NoAnswer(_)
            | DownReason::Replaced => failures.connect = ended,
            DownReason::Received(_) | DownReason::Sent(_) | DownReason::SendHold => {
                failures.open = ended;
            }
        }
        self.outputs.push_back(PeerOutput::AttemptFailed(reason));
    }

    pub(super) fn session_down(
        &mut self,
        now: Instant,
        negotiated: &Negotiated,
        reason: DownReason,
    ) {
        self.up_since = None;
        self.timers.stop(Timer::Refresh);
        // Routes still stale from an earlier restart are removed (RFC 4724 section 4.2).
        self.sweep();
        let kept = retention(negotiated, &reason);
        let keep_stale_for = kept.map(|restart| restart.time + restart.long_lived);
        self.outputs.push_back(PeerOutput::SessionDown {
            reason,
            keep_stale_for,
        });
        if let Some(restart) = kept {
            self.gr_state = GrState::Restarting {
                long_lived: restart.long_lived,
            };
            self.timers.set(Timer::Stale, now + restart.time);
        }
    }

    /// The peer's OPEN arrived on `conn`: resolves a collision with another connection
    /// (RFC 4271 section 6.8). The connection opened by the speaker with the higher BGP identifier
    /// survives, or by the one with the higher AS if the identifiers are equal (RFC 6286).
    pub(super) fn resolve_collision(&mut self, now: Instant, conn: ConnectionId) {
        let other = self
            .sessions
            .iter()
            .find(|(c, s)| *c != conn && s.state >= FsmState::OpenConfirm);
        let Some((other, existing)) = other.map(|(c, s)| (*c, s)) else {
            return;
        };
        if existing.state == FsmState::Established {
            let recent = self
                .up_since
                .is_some_and(|since| now.duration_since(since) < COLLISION_WINDOW);
            if existing.negotiated.as_ref().is_some_and(|a| a.helper) && !recent {
                self.end_connection(now, other, DownReason::Replaced);
                return;
            }
            self.end_connection(
                now,
                conn,
                DownReason::Sent(Notification::new(
                    ErrorCode::CONNECTION_COLLISION_RESOLUTION,
                    &[],
                )),
            );
            return;
        }
        let Some(negotiated) = existing.negotiated.clone() else {
            return;
        };
        let ours = (self.config.router_id, self.config.local_as);
        let ours_survives = ours > (negotiated.router_id, negotiated.peer_as);
        let loser = if existing.outgoing == ours_survives {
            conn
        } else {
            other
        };
        self.end_connection(
            now,
            loser,
            DownReason::Sent(Notification::new(
                ErrorCode::CONNECTION_COLLISION_RESOLUTION,
                &[],
            )),
        );
    }

    pub(super) fn session_up(&mut self, now: Instant, conn: ConnectionId) {
        let others = self
            .sessions
            .iter()
            .map(|(c, _)| *c)
            .filter(|c| *c != conn)
            .collect::<Vec<_>>();
        for other in others {
            self.end_connection(
                now,
                other,
                DownReason::Sent(Notification::new(
                    ErrorCode::CONNECTION_COLLISION_RESOLUTION,
                    &[],
                )),
            );
        }
        let Some(negotiated) = self.session(conn).and_then(|s| s.negotiated.clone()) else {
            return;
        };
        self.timers.stop(Timer::ConnectRetry);
        self.up_since = Some(now);
        self.update_received = false;
        self.end_of_rib = false;
        self.counters.established += 1;
        let restart = negotiated.restart;
        self.outputs.push_back(PeerOutput::SessionUp(negotiated));
        if self.gr_state != GrState::Fresh {
            // Without the F bit the peer has lost its forwarding state: its stale routes are wrong
            // (RFC 4724 section 4.2).
            match (
                restart.filter(|r| r.preserved || !r.restarting),
                self.config.restart,
            ) {
                (Some(_), Some(ours)) => {
                    self.gr_state = GrState::Syncing;
                    self.timers.set(Timer::Stale, now + ours.stale_limit);
                }
                _ => self.sweep(),
            }
        }
    }

    pub(super) fn stale_expired(&mut self, now: Instant) {
        match self.gr_state {
            GrState::Restarting { long_lived } if !long_lived.is_zero() => {
                self.gr_state = GrState::LongLived;
                self.timers.set(Timer::Stale, now + long_lived);
                self.outputs.push_back(PeerOutput::StaleLongLived);
            }
            _ => self.sweep(),
        }
    }

    pub(super) fn sweep(&mut self) {
        self.timers.stop(Timer::Stale);
        if std::mem::take(&mut self.gr_state) != GrState::Fresh {
            self.outputs.push_back(PeerOutput::SweepStale);
        }
    }
}
