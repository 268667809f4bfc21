//! Checks of a frame's Ethernet header, before anything is done with the frame.

use crate::addr;
use crate::drop::DropReason;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan;

/// Checks a frame from a tenant, without its port's VLAN tag; returns its header. [`has_tags`] is
/// not checked yet.
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

/// True for a frame with a VLAN tag in a domain that does not pass tags.
#[inline]
pub(super) fn has_tags(header: Ethernet<'_>, domain: &Domain) -> bool {
    vlan::is_tag(header.ethertype()) && !domain.pass_tags
}

/// Checks the inner frame of a VXLAN packet; returns its header.
#[inline(always)]
pub(super) fn inner<'f>(frame: &'f [u8], domain: &Domain) -> Result<Ethernet<'f>, DropReason> {
    inner_header(Ethernet::parse(frame).ok_or(DropReason::InnerRunt)?, domain)
}

/// [`inner`] for the header of the frame.
#[inline(always)]
pub(super) fn inner_header<'f>(
    header: Ethernet<'f>,
    domain: &Domain,
) -> Result<Ethernet<'f>, DropReason> {
    if !addr::is_host(header.source_bits()) {
        return Err(DropReason::InnerSourceMac);
    }
    if has_tags(header, domain) {
        return Err(DropReason::InnerTagged);
    }
    not_link_local(header)
}

/// Rejects destinations that no bridge forwards (IEEE 802.1Q section 8.6.3).
#[inline]
fn not_link_local(header: Ethernet<'_>) -> Result<Ethernet<'_>, DropReason> {
    if addr::is_link_local(header.destination_bits()) {
        Err(DropReason::LinkLocalGroup)
    } else {
        Ok(header)
    }
}
