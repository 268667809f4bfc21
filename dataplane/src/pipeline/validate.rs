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

/// The bits of a link-local group ([`addr::is_link_local`]), without the last four.
const LINK_LOCAL: u64 = 0x0018_0c20_0000;

const _: () = assert!(addr::is_link_local(LINK_LOCAL << 4) && !addr::is_host(1 << 40));

/// The top bit of the result is set for MACs because of which [`tenant`] and [`inner`] reject a frame.
/// It is meant to be tested together with other conditions, by one branch.
#[inline(always)]
pub(super) const fn rejected_macs(header: Ethernet<'_>) -> u64 {
    let (destination, source) = (header.destination_bits(), header.source_bits());
    let group = source << 23;
    group | source.wrapping_sub(1) | (destination >> 4 ^ LINK_LOCAL).wrapping_sub(1)
}

/// The top bit of the result is set for the EtherType of a tag, and for a few others, but not for those
/// of IP and ARP: as [`rejected_macs`].
#[inline(always)]
pub(super) const fn may_have_tag(header: Ethernet<'_>) -> u64 {
    const COMMON: u16 = !(vlan::TPID ^ vlan::SERVICE_TPID);
    let differences = (header.ethertype() ^ vlan::TPID) & COMMON;
    (differences as u64).wrapping_sub(1)
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
