//! Import: which VNI a route belongs to, and whether its paths can be used there (RFC 7432 section
//! 7.10, RFC 8365 section 5.1.3).

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::shared::SharedState;
use super::status::RouteStatus;
use super::targets;
use crate::rib::{AttrId, Rib, RouteId};

/// The VNI of a type 2 route: its label, or its Ethernet tag if the label is zero, as Juniper may
/// send. Never zero.
pub(super) fn vni_of(rib: &Rib, id: RouteId, label: u32) -> Option<Vni> {
    Vni::new(if label == 0 { rib.tag(id) } else { label }).ok()
}

impl SharedState {
    /// Whether a path can be used in a VNI, by everything that does not depend on other routes.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn usable(&self, vni: Vni, attrs: AttrId) -> Result<(), RouteStatus> {
        if let Some(ineligible) = self.rib.attributes().path_info(attrs).ineligible {
            return Err(RouteStatus::Ineligible(ineligible));
        }
        let vrf = self.vrfs.get(vni).ok_or(RouteStatus::UnknownVni)?;
        let communities = &self.rib.attributes().attributes(attrs).extended;
        if targets::imports(&vrf.config, communities) {
            Ok(())
        } else {
            Err(RouteStatus::NoTarget)
        }
    }

    /// True if attributes are those of a default gateway.
    pub(super) fn is_gateway(&self, attrs: Option<AttrId>) -> bool {
        attrs.is_some_and(|attrs| self.rib.attributes().path_info(attrs).gateway)
    }

    /// The VTEP that a path leads to: its next hop, if that is a valid VTEP address.
    pub(super) fn vtep_of(&self, attrs: AttrId) -> Option<VtepAddr> {
        self.rib.attributes().path_info(attrs).vtep
    }
}
