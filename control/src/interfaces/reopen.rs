//! Interfaces that are closed and opened again in another way: meanwhile, too, nothing passes between
//! the tenant and the host, and no VXLAN to this VTEP reaches the host.

use super::backend::QueueDrops;
use super::packet_interface::{Endpoints, Programs};
use super::{Interfaces, ManagedInterface, ProgramDrops, Purpose};
use crate::config::{InterfaceName, Io};
use crate::workers::Workers;

impl Interfaces {
    /// Sets how the frames of an interface are to enter and leave: if that changes, it is closed,
    /// and stays apart from the host until [`Self::try_open`].
    pub fn set_io(&mut self, name: &InterfaceName, io: Io, workers: &mut Workers) {
        let Some(managed) = self.managed.get_mut(name) else {
            return;
        };
        if std::mem::replace(&mut managed.io, io) != io {
            self.close_to_reopen(name, workers);
        }
    }

    /// As [`Self::close`], for an interface that [`Self::try_open`] opens next. Until then tcx
    /// programs drop what the tenant and the host send, or VXLAN to this VTEP, where the kernel has
    /// tcx.
    pub fn close_to_reopen(&mut self, name: &InterfaceName, workers: &mut Workers) -> bool {
        let managed = self.managed.get(name);
        let barrier = managed.and_then(|managed| {
            let ifindex = managed.open()?.backend.ifindex();
            barrier(name, ifindex, managed.purpose, self.settings.endpoints())
        });
        let closed = self.close(name, workers);
        if let (Some(managed), Some(barrier)) = (self.managed.get_mut(name), barrier) {
            // The sockets took the frames until now.
            if let Err(error) = barrier.set_taken(false) {
                tracing::warn!(interface = %name, %error, "frames are not counted");
            }
            managed.barrier = Some(barrier);
        }
        closed
    }
}

impl ManagedInterface {
    /// Detaches the programs of [`Interfaces::close_to_reopen`].
    pub(super) fn end_barrier(&mut self) {
        if let Some(barrier) = self.barrier.take() {
            let drops = QueueDrops {
                no_socket: barrier.untaken(),
                ..QueueDrops::default()
            };
            self.earlier_drops = self.earlier_drops + ProgramDrops::of(&[drops]);
        }
    }
}

/// Programs that drop what the sockets of the interface took; `None` where the kernel has no tcx.
fn barrier(
    name: &InterfaceName,
    ifindex: u32,
    purpose: Purpose,
    endpoints: Endpoints<'_>,
) -> Option<Programs> {
    let interface = (name.as_str(), ifindex);
    let barrier = Programs::attach(interface, purpose, endpoints)
        .inspect_err(|error| tracing::warn!(%error, "frames reach the host for a moment"))
        .ok()?;
    // Sockets take the frames still: they are not counted as dropped.
    if let Err(error) = barrier.set_taken(true) {
        tracing::warn!(interface = %name, %error, "frames may be counted twice");
    }
    Some(barrier)
}
