//! How the connections of a peer begin and end, which of two survives, and the way back after an end.

use std::time::{Duration, Instant};

use super::super::fsm::State;
use super::super::negotiate::Negotiated;
use super::super::output::{Conn, DownReason, Output};
use super::super::restart::{Kept, keeps};
use super::super::session::Session;
use super::super::timer::Timer;
use super::super::wire::{CEASE, Notification, cease};
use super::{Peer, RECONNECT_PAUSE};

/// A new connection this soon after the session came up is what is left of a collision, not a restart of the peer.
const COLLISION_WINDOW: Duration = Duration::from_secs(5);

impl Peer {
    pub(super) fn add(&mut self, session: Session) -> Conn {
        let conn = Conn(self.next_conn);
        self.next_conn += 1;
        self.sessions.push((conn, session));
        conn
    }

    pub(super) fn begin(&mut self, now: Instant, conn: Conn) {
        let Some(at) = self.place(conn) else { return };
        // A session that ended took nothing from our forwarding tables (RFC 8538 section 4).
        let preserved = self.restarting || self.counters.established > 0;
        let session = &mut self.sessions[at].1;
        if matches!(session.state, State::Connect | State::Active)
            && !session.begin(now, &self.config, self.restarting, preserved)
        {
            self.end(now, conn, DownReason::Sent(Notification::cease(cease::RESOURCES, None)));
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
        if !self.enabled || self.barred || self.established().is_some() || self.config.passive {
            return;
        }
        self.timers.set(Timer::ConnectRetry, now + self.jitter.apply(self.config.connect_retry));
        let slow = self.sessions.iter().find(|(_, s)| s.state == State::Connect).map(|(c, _)| *c);
        if let Some(conn) = slow {
            self.end_quietly(now, conn, DownReason::Closed);
            self.outputs.push_back(Output::Close { conn, farewell: Vec::new() });
        }
        // A connection of the peer that has not brought its OPEN may never do so: ours is tried beside it.
        let under_way = |(_, s): &(Conn, Session)| s.outgoing || s.state >= State::OpenConfirm;
        if !self.sessions.iter().any(under_way) {
            let conn = self.add(Session::new(true));
            self.outputs.push_back(Output::Connect(conn));
        }
    }

    /// A NOTIFICATION of ours, as a hard reset where the peer would keep our routes otherwise (RFC 8538 section 4).
    pub(super) fn hard_if_agreed(&self, notification: Notification) -> Notification {
        if self.agreed().is_some_and(|a| a.hard_reset) { notification.hard() } else { notification }
    }

    pub(super) fn cease_all(&mut self, now: Instant, notification: &Notification) {
        let notification = self.hard_if_agreed(notification.clone());
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
    pub(super) fn end(&mut self, now: Instant, conn: Conn, reason: DownReason) {
        let error = matches!(&reason, DownReason::Sent(n) if n.code != CEASE);
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
            self.timers.set(Timer::ConnectRetry, now + self.jitter.apply(self.config.connect_retry));
        }
        if error || was_up.is_some() {
            self.idle_hold = (self.idle_hold * 2).min(self.config.idle_hold.1);
        }
    }

    /// Ends a connection. False if it was gone.
    pub(super) fn end_quietly(&mut self, now: Instant, conn: Conn, reason: DownReason) -> bool {
        let Some(at) = self.place(conn) else { return false };
        let (_, session) = self.sessions.remove(at);
        self.counters.received += session.received;
        self.counters.sent += session.sent;
        let established = session.state == State::Established;
        if !matches!(reason, DownReason::Closed) {
            let farewell = match &reason {
                DownReason::Sent(n) if session.state >= State::OpenSent => {
                    self.counters.sent += 1;
                    session.outbox.farewell(&n.emit())
                }
                _ => Vec::new(),
            };
            self.outputs.push_back(Output::Close { conn, farewell });
        }
        if let Some(agreed) = session.agreed.filter(|_| established) {
            self.down(now, &agreed, reason.clone());
        }
        // One connection of two that ends, as of a collision, is not the end of the session.
        if established || self.sessions.is_empty() {
            self.last_down = Some(reason);
        }
        true
    }

    pub(super) fn down(&mut self, now: Instant, agreed: &Negotiated, reason: DownReason) {
        self.up_since = None;
        // Stale routes that outlived one absence don't outlive a second (RFC 4724 section 4.2).
        self.sweep();
        let kept = keeps(agreed, &reason);
        let keep_stale_for = kept.map(|restart| restart.time + restart.long_lived);
        self.outputs.push_back(Output::SessionDown { reason, keep_stale_for });
        if let Some(restart) = kept {
            self.kept = Kept::Away { long_lived: restart.long_lived };
            self.timers.set(Timer::Stale, now + restart.time);
        }
    }

    /// The peer's OPEN came on `conn`; there may be another connection (RFC 4271 section 6.8). The one survives that
    /// was opened by the side with the higher identifier, or the higher AS where they are equal (RFC 6286).
    pub(super) fn resolve_collision(&mut self, now: Instant, conn: Conn) {
        let other = self.sessions.iter().find(|(c, s)| *c != conn && s.state >= State::OpenConfirm);
        let Some((other, standing)) = other.map(|(c, s)| (*c, s)) else { return };
        if standing.state == State::Established {
            let fresh = self.up_since.is_some_and(|since| now.duration_since(since) < COLLISION_WINDOW);
            if standing.agreed.as_ref().is_some_and(|a| a.restart.is_some()) && !fresh {
                self.end(now, other, DownReason::Replaced);
                return;
            }
            self.end(now, conn, DownReason::Sent(Notification::cease(cease::COLLISION, None)));
            return;
        }
        let Some(agreed) = standing.agreed.clone() else { return };
        let ours = (self.config.router_id, self.config.local_as);
        let ours_survives = ours > (agreed.router_id, agreed.peer_as);
        let loser = if standing.outgoing == ours_survives { conn } else { other };
        self.end(now, loser, DownReason::Sent(Notification::cease(cease::COLLISION, None)));
    }

    pub(super) fn up(&mut self, now: Instant, conn: Conn) {
        let others = self.sessions.iter().map(|(c, _)| *c).filter(|c| *c != conn).collect::<Vec<_>>();
        for other in others {
            self.end(now, other, DownReason::Sent(Notification::cease(cease::COLLISION, None)));
        }
        let Some(agreed) = self.session(conn).and_then(|s| s.agreed.clone()) else { return };
        self.timers.stop(Timer::ConnectRetry);
        self.up_since = Some(now);
        self.updated = false;
        self.counters.established += 1;
        if self.counters.established == 1 {
            // What went before were tries: nothing that was up has gone down.
            self.last_down = None;
        }
        let restart = agreed.restart;
        self.outputs.push_back(Output::SessionUp(agreed));
        if self.kept != Kept::Fresh {
            // Without the F bit the peer has lost its forwarding state: what it does not announce again is wrong now.
            match (restart.filter(|r| r.preserved || !r.restarting), self.config.restart) {
                (Some(_), Some(ours)) => {
                    self.kept = Kept::Back;
                    self.timers.set(Timer::Stale, now + ours.stale_limit);
                }
                _ => self.sweep(),
            }
        }
    }

    pub(super) fn stale_expired(&mut self, now: Instant) {
        match self.kept {
            Kept::Away { long_lived } if !long_lived.is_zero() => {
                self.kept = Kept::LongLived;
                self.timers.set(Timer::Stale, now + long_lived);
                self.outputs.push_back(Output::StaleLongLived);
            }
            _ => self.sweep(),
        }
    }

    pub(super) fn sweep(&mut self) {
        self.timers.stop(Timer::Stale);
        if std::mem::take(&mut self.kept) != Kept::Fresh {
            self.outputs.push_back(Output::SweepStale);
        }
    }
}
