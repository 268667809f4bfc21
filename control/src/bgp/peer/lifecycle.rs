//! How the connections of a peer begin and end, which of two survives, and the way back after an end.

use std::time::{Duration, Instant};

use super::super::fsm::FsmState;
use super::super::graceful_restart::{GrState, keeps};
use super::super::negotiate::Negotiated;
use super::super::output::{ConnectionId, DownReason, PeerOutput};
use super::super::session::Session;
use super::super::timer::Timer;
use super::super::wire::{ErrorCode, Notification};
use super::{Peer, RECONNECT_PAUSE};

/// A new connection this soon after the session came up is what is left of a collision, not a restart of the peer.
const COLLISION_WINDOW: Duration = Duration::from_secs(5);

impl Peer {
    pub(super) fn add(&mut self, session: Session) -> ConnectionId {
        let conn = ConnectionId(self.next_conn);
        self.next_conn += 1;
        self.sessions.push((conn, session));
        conn
    }

    pub(super) fn begin(&mut self, now: Instant, conn: ConnectionId) {
        let Some(at) = self.place(conn) else { return };
        // A session that ended took nothing from our forwarding tables (RFC 8538 section 4).
        let preserved = self.restarting || self.counters.established > 0;
        let session = &mut self.sessions[at].1;
        if matches!(session.state, FsmState::Connect | FsmState::Active)
            && !session.begin(now, &self.config, self.restarting, preserved)
        {
            self.end(
                now,
                conn,
                DownReason::Sent(Notification::new(ErrorCode::OUT_OF_RESOURCES, &[])),
            );
        }
    }

    pub(super) fn leave_idle(&mut self, now: Instant) {
        self.idle_until = None;
        self.timers.stop(Timer::IdleHold);
        match self.last_ended.map(|ended| ended + RECONNECT_PAUSE) {
            Some(at) if at > now => self.timers.set(Timer::ConnectRetry, at),
            _ => self.retry(now),
        }
    }

    /// Connects, unless a connection is there that got farther than that; sets the timer for the next try.
    pub(super) fn retry(&mut self, now: Instant) {
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
        let slow = self
            .sessions
            .iter()
            .find(|(_, s)| s.state == FsmState::Connect)
            .map(|(c, _)| *c);
        if let Some(conn) = slow {
            self.end_quietly(now, conn, DownReason::Closed);
            self.outputs.push_back(PeerOutput::Close {
                conn,
                last_message: Vec::new(),
            });
        }
        // A connection of the peer that has not brought its OPEN may never do so: ours is tried beside it.
        let under_way =
            |(_, s): &(ConnectionId, Session)| s.outgoing || s.state >= FsmState::OpenConfirm;
        if !self.sessions.iter().any(under_way) {
            let conn = self.add(Session::new(true));
            self.outputs.push_back(PeerOutput::Connect(conn));
        }
    }

    /// A NOTIFICATION of ours, as a hard reset where the peer would keep our routes otherwise (RFC 8538 section 4).
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
            self.last_ended = Some(now);
        }
        for conn in self.sessions.iter().map(|(c, _)| *c).collect::<Vec<_>>() {
            self.end_quietly(now, conn, DownReason::Sent(notification.clone()));
        }
        self.sweep();
    }

    /// Ends a connection, and finds the way on if it was the last one.
    pub(super) fn end(&mut self, now: Instant, conn: ConnectionId, reason: DownReason) {
        let error = matches!(&reason, DownReason::Sent(n) if !n.error.is_cease());
        let was_up = self.up_since;
        if !self.end_quietly(now, conn, reason) || !self.sessions.is_empty() || !self.enabled {
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
        } else if !self.config.passive && !self.timers.runs(Timer::ConnectRetry) {
            self.timers.set(
                Timer::ConnectRetry,
                now + self.jitter.apply(self.config.connect_retry),
            );
        }
        if error || was_up.is_some() {
            self.idle_hold = (self.idle_hold * 2).min(self.config.idle_hold.1);
        }
    }

    /// Ends a connection. False if it was gone.
    pub(super) fn end_quietly(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        reason: DownReason,
    ) -> bool {
        let Some(at) = self.place(conn) else {
            return false;
        };
        let (_, session) = self.sessions.remove(at);
        self.counters.received += session.received;
        self.counters.sent += session.sent;
        let established = session.state == FsmState::Established;
        if !matches!(reason, DownReason::Closed) {
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
            self.down(now, &negotiated, reason.clone());
        }
        // One connection of two that ends, as of a collision, is not the end of the session.
        if established || self.sessions.is_empty() {
            self.last_down = Some(reason);
        }
        true
    }

    pub(super) fn down(&mut self, now: Instant, negotiated: &Negotiated, reason: DownReason) {
        self.up_since = None;
        // Stale routes that outlived one absence don't outlive a second (RFC 4724 section 4.2).
        self.sweep();
        let kept = keeps(negotiated, &reason);
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

    /// The peer's OPEN came on `conn`; there may be another connection (RFC 4271 section 6.8). The one survives that
    /// was opened by the side with the higher identifier, or the higher AS where they are equal (RFC 6286).
    pub(super) fn resolve_collision(&mut self, now: Instant, conn: ConnectionId) {
        let other = self
            .sessions
            .iter()
            .find(|(c, s)| *c != conn && s.state >= FsmState::OpenConfirm);
        let Some((other, standing)) = other.map(|(c, s)| (*c, s)) else {
            return;
        };
        if standing.state == FsmState::Established {
            let fresh = self
                .up_since
                .is_some_and(|since| now.duration_since(since) < COLLISION_WINDOW);
            if standing
                .negotiated
                .as_ref()
                .is_some_and(|a| a.restart.is_some())
                && !fresh
            {
                self.end(now, other, DownReason::Replaced);
                return;
            }
            self.end(
                now,
                conn,
                DownReason::Sent(Notification::new(
                    ErrorCode::CONNECTION_COLLISION_RESOLUTION,
                    &[],
                )),
            );
            return;
        }
        let Some(negotiated) = standing.negotiated.clone() else {
            return;
        };
        let ours = (self.config.router_id, self.config.local_as);
        let ours_survives = ours > (negotiated.router_id, negotiated.peer_as);
        let loser = if standing.outgoing == ours_survives {
            conn
        } else {
            other
        };
        self.end(
            now,
            loser,
            DownReason::Sent(Notification::new(
                ErrorCode::CONNECTION_COLLISION_RESOLUTION,
                &[],
            )),
        );
    }

    pub(super) fn up(&mut self, now: Instant, conn: ConnectionId) {
        let others = self
            .sessions
            .iter()
            .map(|(c, _)| *c)
            .filter(|c| *c != conn)
            .collect::<Vec<_>>();
        for other in others {
            self.end(
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
        self.updated = false;
        self.counters.established += 1;
        if self.counters.established == 1 {
            // What went before were tries: nothing that was up has gone down.
            self.last_down = None;
        }
        let restart = negotiated.restart;
        self.outputs.push_back(PeerOutput::SessionUp(negotiated));
        if self.gr_state != GrState::Fresh {
            // Without the F bit the peer has lost its forwarding state: what it does not announce again is wrong now.
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
