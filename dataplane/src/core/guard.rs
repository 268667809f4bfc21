//! What a frame must be like before anything is done with it.

use super::verdict::Reason;
use crate::addr::MacAddr;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan;

/// Checks a frame from a tenant, its port's VLAN tag already taken off; returns its destination.
#[inline]
pub(super) fn tenant(frame: &[u8], port: &PortEntry, domain: &Domain) -> Result<MacAddr, Reason> {
    let header = Ethernet::parse(frame).ok_or(Reason::Runt)?;
    if vlan::is_tag(header.ethertype()) && !domain.pass_tags {
        return Err(Reason::Tagged);
    }
    let source = header.source();
    if source.is_multicast() || source.is_zero() {
        return Err(Reason::SourceMac);
    }
    if port.lock.as_ref().is_some_and(|allowed| allowed.binary_search(&source).is_err()) {
        return Err(Reason::Locked);
    }
    not_link_local(header)
}

/// Checks a frame that came out of a VXLAN packet; returns its destination.
#[inline]
pub(super) fn inner(frame: &[u8], domain: &Domain) -> Result<MacAddr, Reason> {
    let header = Ethernet::parse(frame).ok_or(Reason::InnerRunt)?;
    let source = header.source();
    if source.is_multicast() || source.is_zero() {
        return Err(Reason::InnerSourceMac);
    }
    if vlan::is_tag(header.ethertype()) && !domain.pass_tags {
        return Err(Reason::InnerTagged);
    }
    not_link_local(header)
}

#[inline]
fn not_link_local(header: Ethernet<'_>) -> Result<MacAddr, Reason> {
    let destination = header.destination();
    if destination.is_link_local() { Err(Reason::LinkLocalGroup) } else { Ok(destination) }
}
