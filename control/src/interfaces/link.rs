//! Follows the links of open interfaces: without one nothing is sent, and the sockets are closed,
//! so that they hold no chunks. The program stays attached, and drops what a tenant sends as the
//! link comes up, until its sockets are bound again.

use std::time::{Duration, Instant};

use super::{BindMode, InterfaceState, Interfaces, OpenInterface};
use crate::config::InterfaceName;

/// How long a link with zero-copy sockets must be down before they are closed: some drivers take
/// the link down for a moment while a socket is bound.
const SETTLE: Duration = Duration::from_secs(2);

impl OpenInterface {
    /// How many of its `queues` queues are to have sockets.
    pub(super) fn wanted_sockets(&self, queues: u32, now: Instant) -> u32 {
        let settling = self.close_at.is_some_and(|at| at > now);
        if self.link_up || settling { queues } else { 0 }
    }
}

impl Interfaces {
    /// Sets whether an open interface is up and has a carrier; [`Interfaces::match_queues`] then closes
    /// or binds its sockets. Returns whether that is a change.
    pub fn set_link(&mut self, name: &InterfaceName, up: bool, now: Instant) -> bool {
        let Some(InterfaceState::Open(open)) =
            self.managed.get_mut(name).map(|managed| &mut managed.state)
        else {
            return false;
        };
        if open.link_up == up {
            return false;
        }
        open.link_up = up;
        let copies = open
            .queues
            .iter()
            .all(|queue| queue.mode != Some(BindMode::ZeroCopy));
        let settle = if copies { Duration::ZERO } else { SETTLE };
        open.close_at = (!up).then_some(now + settle);
        true
    }
}
