//! What drivers made of the options of an open interface: options are verified by their effect.

use super::{Interfaces, ManagedInterface, OpenInterface};
use crate::config::InterfaceName;

/// Why a queue is not busy-polled although busy-poll = true, and the remedy.
pub const BUSY_POLL_ENDED: &str = "busy polling was switched off: frames stayed in its tx ring for 10 ms, since the \
    driver does not transmit while it is polled; set [vtep.afxdp] busy-poll = false";

impl Interfaces {
    /// The queues of an open interface whose busy polling was switched off.
    pub fn not_polling(&self, open: &OpenInterface) -> impl Iterator<Item = u32> {
        open.queues
            .iter()
            .filter(|queue| open.backend.busy_poll_ended(&self.umem, queue.socket))
            .map(|queue| queue.number)
    }

    /// Notes on an open interface that works as configured: one sentence each, with the remedy.
    #[must_use]
    pub fn notes(&self, name: &InterfaceName, open: &OpenInterface) -> Vec<String> {
        let copied = open
            .backend
            .copied_because(&self.umem, &open.queues, open.mtu);
        let segments = Some(open.backend.segments_dropped()).filter(|segments| *segments > 0);
        let segments = segments.map(|segments| {
            let mtu = open.mtu;
            format!(
                "interface {name}: {segments} segments of frames longer than its MTU {mtu} were dropped; \
                 give all interfaces of that network one MTU"
            )
        });
        copied
            .map(|reason| reason.to_string())
            .into_iter()
            .chain(segments)
            .collect()
    }

    /// Whether an open interface's sockets must be bound again for this MTU: a whole frame no
    /// longer fits a chunk, or fits again.
    #[must_use]
    pub fn must_rebind(&self, name: &InterfaceName, mtu: u32) -> bool {
        let fits = |open: &OpenInterface, mtu| open.backend.zero_copy_possible(&self.umem, mtu);
        self.get(name)
            .and_then(ManagedInterface::open)
            .is_some_and(|open| fits(open, mtu) != fits(open, open.mtu))
    }
}
