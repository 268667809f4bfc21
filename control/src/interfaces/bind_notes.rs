//! What drivers made of the options of an open interface: options are verified by their effect.

use super::{
    Backend, Interfaces, IoKind, ManagedInterface, OpenInterface, ProgramDrops, Purpose, VlanTags,
};
use crate::config::InterfaceName;

/// Why a queue is not busy-polled although busy-poll = true, and the remedy.
pub const BUSY_POLL_ENDED: &str = "busy polling was switched off: the driver does not transmit while it is polled \
    (frames stayed in the tx ring for 250 ms, until it was woken), or it can't be polled (it names no NAPI instance); \
    set [vtep.afxdp] busy-poll = false";

/// Why the VLAN tags of a tenant's frames may be lost, and the remedy.
pub(super) fn invisible_tags(
    name: &InterfaceName,
    purpose: Purpose,
    backend: &Backend,
) -> Option<String> {
    let lost = purpose != Purpose::Underlay && backend.vlan_tags() == VlanTags::Invisible;
    lost.then(|| {
        format!(
            "interface {name}: a VLAN tag that is kept beside the frame can't be seen, and is lost; use native \
             XDP on Linux 6.8 or later, or have the other end put tags into the frame (`ethtool -K PEER txvlan off`)"
        )
    })
}

/// That what the host sends on a tenant's interface reaches the tenant, and the remedy.
fn not_isolated(name: &InterfaceName, purpose: Purpose, backend: &Backend) -> Option<String> {
    let open = purpose != Purpose::Underlay && backend.host_frames().is_none();
    open.then(|| {
        format!(
            "interface {name}: what the host sends on it reaches the tenant, since no tcx program could be attached \
             (the log has the cause); use Linux 6.6 or later, and no addresses or routes on the interface"
        )
    })
}

impl Interfaces {
    /// The queues of an open interface whose busy polling was switched off.
    pub fn not_polling(&self, open: &OpenInterface) -> impl Iterator<Item = u32> {
        open.queues
            .iter()
            .filter(|queue| queue.socket.busy_poll_ended(&self.umem))
            .map(|queue| queue.number)
    }

    /// Notes on an open interface that works as configured: one sentence each, with the remedy.
    #[must_use]
    pub fn notes(
        &self,
        name: &InterfaceName,
        purpose: Purpose,
        open: &OpenInterface,
    ) -> Vec<String> {
        let copied = open
            .backend
            .copied_because(&self.umem, &open.queues, open.mtu);
        let drops = ProgramDrops::of(&open.backend.drops());
        let segments = Some(drops.segments).filter(|segments| *segments > 0);
        let segments = segments.map(|segments| {
            let mtu = open.mtu;
            format!(
                "interface {name}: {segments} segments of frames longer than its MTU {mtu} were dropped; \
                 give all interfaces of that network one MTU"
            )
        });
        let no_socket = Some(drops.no_socket).filter(|frames| *frames > 0);
        let no_socket = no_socket.map(|frames| match open.backend.io() {
            IoKind::Xdp => format!(
                "interface {name}: {frames} frames were dropped on queues that had no socket at the time; \
                 `show ports --json` has them by queue"
            ),
            IoKind::Packet => {
                format!("interface {name}: {frames} frames were dropped while it had no socket")
            }
        });
        let one_by_one = open
            .queues
            .iter()
            .any(|queue| queue.socket.refuses_superframes());
        let one_by_one = one_by_one.then(|| {
            format!(
                "interface {name}: the kernel has refused a superframe; frames are sent one by one"
            )
        });
        copied
            .map(|reason| reason.to_string())
            .into_iter()
            .chain(no_socket)
            .chain(one_by_one)
            .chain(open.backend.not_joined())
            .chain(segments)
            .chain(invisible_tags(name, purpose, &open.backend))
            .chain(not_isolated(name, purpose, &open.backend))
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
