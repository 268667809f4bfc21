//! What a frame must be like before anything is done with it.

use crate::addr;
use crate::drop::DropReason;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan;

/// Checks a frame from a tenant, its port's VLAN tag already taken off; returns its header. What is left to be checked is
/// [`has_tags`].
#[inline(always)]
pub(super) fn tenant<'f>(frame: &'f [u8], port: &PortEntry) -> Result<Ethernet<'f>, DropReason> {
    let header = Ethernet::parse(frame).ok_or(DropReason::Runt)?;
    if !addr::is_host(header.source_bits()) {
        return Err(DropReason::SourceMac);
    }
    if port
        .lock
        .as_ref()
        .is_some_and(|allowed| allowed.binary_search(&header.source()).is_err())
    {
        return Err(DropReason::Locked);
    }
    not_link_local(header)
}

/// True for a frame with a tag that its domain does not pass.
#[inline]
pub(super) fn has_tags(header: Ethernet<'_>, domain: &Domain) -> bool {
    vlan::is_tag(header.ethertype()) && !domain.pass_tags
}

/// Checks a frame that came out of a VXLAN packet; returns its header.
#[inline(always)]
pub(super) fn inner<'f>(frame: &'f [u8], domain: &Domain) -> Result<Ethernet<'f>, DropReason> {
    let header = Ethernet::parse(frame).ok_or(DropReason::InnerRunt)?;
    if !addr::is_host(header.source_bits()) {
        return Err(DropReason::InnerSourceMac);
    }
    if has_tags(header, domain) {
        return Err(DropReason::InnerTagged);
    }
    not_link_local(header)
}

#[inline]
fn not_link_local(header: Ethernet<'_>) -> Result<Ethernet<'_>, DropReason> {
    if addr::is_link_local(header.destination_bits()) {
        Err(DropReason::LinkLocalGroup)
    } else {
        Ok(header)
    }
}
