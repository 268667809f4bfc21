//! Metadata of a frame on its path: what `parse` leaves for `forward`, the ingress port, and what a
//! drop is counted for.

use crate::addr::PortId;
use crate::frame::Frame;
use crate::table::Snapshot;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;

/// What `parse` found in a tenant's frame. Kept small, because each frame of a burst has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameMeta {
    /// Hash of the flow.
    pub(super) flow: u64,
    /// The ingress port.
    pub(super) port: PortId,
    /// DSCP and ECN; 0 when not IP.
    pub(super) tos: u8,
    pub(super) disposition: Disposition,
}

/// What `forward` does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Sends it to the destination of its key.
    Forward,
    /// Sends it to the destination of its key, cut into segments where that takes no superframes.
    Superframe,
    /// Handles it as ARP or ND first, which may be answered locally.
    Suppress,
    /// Frees it: it was dropped and counted.
    Dropped,
}

impl FrameMeta {
    /// The metadata of a frame that was dropped and counted.
    pub(super) const DROPPED: Self = Self {
        flow: 0,
        port: PortId(0),
        tos: 0,
        disposition: Disposition::Dropped,
    };
}

/// A validated frame from a tenant, without its port's VLAN tag.
#[derive(Debug)]
pub(super) struct TenantFrame {
    pub(super) frame: Frame,
    pub(super) meta: FrameMeta,
}

/// The port that a frame came from, and the bridge domain of its VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct IngressPort<'t> {
    pub(super) port: &'t PortEntry,
    pub(super) domain: &'t Domain,
}

impl<'t> IngressPort<'t> {
    /// The port `id`; `None` unless it and its domain are in the tables.
    #[inline]
    pub(super) fn find(snapshot: &'t Snapshot, id: PortId) -> Option<Self> {
        let port = snapshot.ports.port(id)?;
        Some(Self {
            port,
            domain: snapshot.vnis.domain(port.domain)?,
        })
    }

    /// Drops are counted for the port and its domain.
    #[inline]
    pub(super) fn scope(self) -> DropScope<'t> {
        DropScope {
            port: Some(self.port),
            domain: Some(self.domain),
            vtep: None,
        }
    }
}

/// What a drop is counted for, in addition to a device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DropScope<'t> {
    pub(super) port: Option<&'t PortEntry>,
    pub(super) domain: Option<&'t Domain>,
    pub(super) vtep: Option<&'t RemoteVtep>,
}

/// A frame that may be put into a transmit queue. Only `TenantBoundFrame` and `EncapsulatedFrame`
/// implement it, so that a frame from the overlay can't be sent to the underlay (split horizon).
pub(super) trait TxFrame {
    /// The frame itself.
    fn into_frame(self) -> Frame;
}

/// A frame that can only be sent to tenants.
#[derive(Debug)]
pub(super) struct TenantBoundFrame(Frame);

impl TenantBoundFrame {
    /// Restricts a frame to tenants: it can't be encapsulated any more.
    pub(super) const fn new(frame: Frame) -> Self {
        Self(frame)
    }

    /// The frame itself.
    pub(super) const fn frame(&self) -> &Frame {
        &self.0
    }

    /// The frame itself.
    pub(super) const fn frame_mut(&mut self) -> &mut Frame {
        &mut self.0
    }
}

impl TxFrame for TenantBoundFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}
