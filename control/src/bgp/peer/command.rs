//! What operators and the configuration request: start, shutdown, clear, other settings.

use std::time::Instant;

use super::super::negotiate::PeerConfig;
use super::super::output::PeerOutput;
use super::super::wire::{ErrorCode, Notification, RefreshKind};
use super::Peer;

impl Peer {
    /// Starts the peer, also after a shutdown: leaves Idle at once, and connects as soon as
    /// [`RECONNECT_DELAY`] has passed.
    pub fn start(&mut self, now: Instant) {
        if !self.enabled {
            self.down_since = Some(now);
        }
        self.enabled = true;
        self.idle_hold = self.config.idle_hold.0;
        self.leave_idle(now);
    }

    /// Applies another configuration. The session ends (6/6 Other Configuration Change) and starts
    /// again only if it consists of what has changed: [`PeerConfig::same_session`], or a `reset`
    /// because of other parameters of the connection. A peer that was shut down stays so. After a
    /// change without a reset, [`Peer::handle_prefix_count`] applies a new prefix limit. True if
    /// the session was reset.
    pub fn reconfigure(&mut self, now: Instant, config: PeerConfig, reset: bool) -> bool {
        let reset = reset || !self.config.same_session(&config);
        if reset {
            self.end_for_change(now);
        }
        let old = std::mem::replace(&mut self.config, config);
        let limit_changed = old.max_prefixes != self.config.max_prefixes;
        if self.enabled && (reset || self.prefix_limit_hit && limit_changed) {
            self.start(now);
        } else if self.enabled {
            self.apply_connect_settings(now);
        }
        reset
    }

    /// Ends the session before [`Peer::reconfigure`]: neither side keeps routes.
    pub fn end_for_change(&mut self, now: Instant) {
        self.cease_all(
            now,
            &Notification::new(ErrorCode::OTHER_CONFIGURATION_CHANGE, &[]),
        );
    }

    /// Ends the session for good: the neighbor is removed from the configuration.
    pub fn deconfigure(&mut self, now: Instant) {
        self.enabled = false;
        self.cease_all(now, &Notification::new(ErrorCode::PEER_DECONFIGURED, &[]));
    }

    /// When connections were last closed by this side, for [`Peer::set_last_closed`] of a new peer
    /// with the same address.
    #[must_use]
    pub const fn last_closed(&self) -> Option<Instant> {
        self.last_closed
    }

    /// Sets [`Peer::last_closed`]; call it before [`Peer::start`].
    pub const fn set_last_closed(&mut self, at: Option<Instant>) {
        self.last_closed = at;
    }

    /// Administrative shutdown: ends the session and stays Idle until [`Peer::start`]. `text` is
    /// sent to the peer (RFC 9003), truncated to 255 octets.
    pub fn shutdown(&mut self, now: Instant, text: Option<&str>) {
        self.enabled = false;
        self.cease_all(
            now,
            &Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, text),
        );
    }

    /// Hard clear (administrative reset): ends the session, then connects again after
    /// [`RECONNECT_DELAY`]. Neither side keeps routes. `text` is sent to the peer (RFC 9003),
    /// truncated to 255 octets.
    pub fn clear_hard(&mut self, now: Instant, text: Option<&str>) {
        self.cease_all(
            now,
            &Notification::with_text(ErrorCode::ADMINISTRATIVE_RESET, text),
        );
        if self.enabled {
            self.start(now);
        }
    }

    /// Soft clear inbound: requests all routes of the peer again (RFC 2918). False without a
    /// session or if the peer has no route refresh capability.
    pub fn clear_soft_in(&mut self, now: Instant) -> bool {
        self.negotiated().is_some_and(|a| a.refresh)
            && self.send_refresh(now, RefreshKind::Request).is_ok()
    }

    /// Soft clear outbound: requests all routes again from the owner, as if the peer had sent a
    /// ROUTE-REFRESH. False without a session.
    pub fn clear_soft_out(&mut self) -> bool {
        let up = self.established().is_some();
        if up {
            self.outputs.push_back(PeerOutput::RefreshRequested);
        }
        up
    }
}
