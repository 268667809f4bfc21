//! What is known of a frame on its path: what the first stage found out, what is to be done with it, the port it came
//! from, and what a drop is counted for.

use crate::addr::PortId;
use crate::frame::Frame;
use crate::table::Snapshot;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;

/// What the first stage found out of a frame, for the last one. Small: there is one for each frame of a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameMeta {
    pub(super) flow: u64,
    pub(super) port: PortId,
    pub(super) tos: u8,
    pub(super) disposition: Disposition,
}

/// What the last stage does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It goes to what is found for its key.
    Forward,
    /// It is ARP or ND, which may be answered here.
    Suppress,
    /// It was refused and counted.
    Dropped,
}

impl FrameMeta {
    /// Of a frame that goes nowhere.
    pub(super) const NONE: Self = Self {
        flow: 0,
        port: PortId(0),
        tos: 0,
        disposition: Disposition::Dropped,
    };
}

/// A frame from a tenant, checked, without its port's VLAN tag.
#[derive(Debug)]
pub(super) struct TenantFrame {
    pub(super) frame: Frame,
    pub(super) meta: FrameMeta,
}

/// A port and the domain of its VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct IngressPort<'t> {
    pub(super) port: &'t PortEntry,
    pub(super) domain: &'t Domain,
}

impl<'t> IngressPort<'t> {
    /// The port `id`, if it and its domain exist.
    #[inline]
    pub(super) fn find(snapshot: &'t Snapshot, id: PortId) -> Option<Self> {
        let port = snapshot.ports.port(id)?;
        Some(Self {
            port,
            domain: snapshot.vnis.domain(port.domain)?,
        })
    }

    #[inline]
    pub(super) fn scope(self) -> DropScope<'t> {
        DropScope {
            port: Some(self.port),
            domain: Some(self.domain),
            vtep: None,
        }
    }
}

/// What else a drop is counted for, besides a device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DropScope<'t> {
    pub(super) port: Option<&'t PortEntry>,
    pub(super) domain: Option<&'t Domain>,
    pub(super) vtep: Option<&'t RemoteVtep>,
}

/// A frame that is ready to leave by the device that it was made for. Only frames for tenants
/// (`TenantBoundFrame`) and encapsulated frames of tenants (`EncapsulatedFrame`) are.
pub(super) trait TxFrame {
    /// The frame itself.
    fn into_frame(self) -> Frame;
}
