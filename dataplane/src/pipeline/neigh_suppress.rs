//! ARP and ND from tenants: checked on locked ports, reported to the control thread, and answered
//! locally for known hosts (RFC 9161), so that requests don't cross the overlay. Frames from the
//! overlay are not handled here.
//!
//! ```text
//! parse -> check (locked ports) -> report the sender -> known target? -> reply to the ingress port
//!                                                                    -> forward like any frame
//! ```
//!
//! | message | action |
//! |---|---|
//! | request, target behind another port or VTEP | answered |
//! | request, target behind the same port | dropped: the target has received it itself |
//! | request, unknown target | flooded, and reported as a miss |
//! | solicitation, flags of the target unknown | flooded: a wrong Router flag would end the use of a router |
//! | unicast request (NUD) | forwarded: only the host itself can confirm that it is reachable |
//! | probe, DAD | answered when another host has the address, else flooded |
//! | gratuitous ARP, unsolicited advertisement | flooded: other hosts learn of a move |
//! | signed (RFC 3971) | flooded: only the target can sign the answer |
//! | on a locked port: not parsed to its end | dropped, whatever it is (RFC 7113, RFC 6980) |

use std::net::{IpAddr, Ipv6Addr};

use super::context::BurstContext;
use super::learn_event::{CHANGE_INTERVAL_NS, LearnEvent, REFRESH_INTERVAL_NS};
use super::meta::{DropScope, TenantBoundFrame};
use super::parse::{L3Info, Network, Part};
use super::port_output;
use crate::addr::{HostMac, MacAddr, host_ip};
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, MacKey};
use crate::table::neighbor::NeighborEntry;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::wire::arp::{self, Arp, ArpError};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::nd::{self, Nd};
use crate::wire::{ipv6, vlan};

/// The MAC of the all-nodes multicast address (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// Longest ARP reply, bytes: a minimum Ethernet frame without FCS.
const ARP_FRAME: usize = 60;

/// The contents of an ARP or ND message, in one form for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NeighMessage {
    /// The address that the sender claims, or, in a probe, is about to claim.
    claimed_ip: Option<IpAddr>,
    /// The MAC that the sender claims.
    mac: MacAddr,
    /// The address and MAC of another host that a redirect announces.
    redirect: Option<(IpAddr, MacAddr)>,
    /// The address that the sender requests.
    requested_ip: Option<IpAddr>,
    /// The flags of the claimed address, if the message tells them.
    flags: Option<nd::NdFlags>,
    /// The sender has no address yet: an ARP probe (RFC 5227), or duplicate address detection (RFC
    /// 4862).
    probe: bool,
}

/// True for a frame that [`process`] must handle on this port: ARP or ND, and on a locked port
/// whatever might be.
#[inline(always)]
pub(super) fn applies(frame: &[u8], l3: L3Info, port: &PortEntry, domain: &Domain) -> bool {
    if l3.network == Network::V4 {
        return false;
    }
    if port.lock.is_some() {
        return may_be_neighbor_message(frame, l3);
    }
    if l3.network == Network::V6 && (l3.protocol != ipv6::ICMP || l3.part == Part::Later) {
        return false;
    }
    let enabled = domain.suppress | domain.miss_events | port.learn.is_some();
    enabled
        && match l3.transport_range() {
            Some(range) => frame.get(range.start).is_some_and(|kind| nd::is_nd(*kind)),
            None => matches!(vlan::skip(frame), Some((arp::ETHERTYPE, _))),
        }
}

/// True unless a frame is known not to be ARP or ND in any encoding that a host might accept. In
/// doubt it is one, and [`process`] drops it when it can't be parsed to its end (RFC 7113 section
/// 3): an attacker chooses the encoding.
#[inline(never)]
fn may_be_neighbor_message(frame: &[u8], l3: L3Info) -> bool {
    if l3.network != Network::V6 {
        return LinkPayload::of(frame) != LinkPayload::Other;
    }
    match l3.transport_range() {
        // The header chain ends beyond the packet or the first segment, or has too many headers.
        None => true,
        // The first fragment has the whole header chain, or it is dropped (RFC 7112).
        Some(_) if l3.part == Part::Later => false,
        Some(range) => {
            l3.protocol == ipv6::ICMP
                && frame
                    .get(range)
                    .and_then(|message| message.first())
                    .is_none_or(|kind| nd::is_nd(*kind))
        }
    }
}

/// What a frame other than IP carries, as far as it matters here. Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkPayload {
    /// ARP at this offset.
    Arp(usize),
    /// Reverse ARP at this offset.
    Rarp(usize),
    /// ARP or IPv6 in an encapsulation that is not parsed, or behind more than two VLAN tags.
    Unparsed,
    /// Neither ARP nor IPv6.
    Other,
}

impl LinkPayload {
    fn of(frame: &[u8]) -> Self {
        match vlan::skip(frame) {
            Some((arp::ETHERTYPE, at)) => Self::Arp(at),
            Some((arp::RARP_ETHERTYPE, at)) => Self::Rarp(at),
            Some((length, at)) if length < ethernet::MIN_ETHERTYPE => Self::of_llc(&frame[at..]),
            // IPv6 here is not version 6, or cut off.
            Some((kind, _)) if kind == ethernet::IPV6 || vlan::is_legacy_tag(kind) => {
                Self::Unparsed
            }
            Some(_) => Self::Other,
            None => Self::Unparsed,
        }
    }

    /// IEEE 802.2 LLC: with SNAP (RFC 1042, IEEE 802.1H), which access points and old hosts turn
    /// into EtherTypes, or with the SAP of ARP.
    fn of_llc(header: &[u8]) -> Self {
        match *header {
            [0xaa | 0xab, 0xaa | 0xab, 3, 0, 0, 0 | 0xf8, high, low, ..] => {
                let kind = u16::from_be_bytes([high, low]);
                let is_harmless =
                    !matches!(kind, arp::ETHERTYPE | arp::RARP_ETHERTYPE | ethernet::IPV6)
                        && !vlan::is_tag(kind)
                        && !vlan::is_legacy_tag(kind);
                if is_harmless {
                    Self::Other
                } else {
                    Self::Unparsed
                }
            }
            [0x98, ..] => Self::Unparsed,
            _ => Self::Other,
        }
    }
}

/// Parses the message; `None` for kinds that are forwarded like any frame, which there are not on a
/// `locked` port.
fn parse(frame: &[u8], l3: L3Info, locked: bool) -> Result<Option<NeighMessage>, DropReason> {
    if l3.network == Network::V6 {
        if l3.part != Part::Whole || l3.has_routing_header || l3.transport == 0 {
            return Err(DropReason::ArpNdMalformed);
        }
        return parse_nd(frame, l3).map(Some);
    }
    match LinkPayload::of(frame) {
        LinkPayload::Arp(at) => match Arp::parse(&frame[at..]) {
            Ok(arp) => Ok(Some(of_arp(arp))),
            Err(ArpError::Unsupported) if !locked => Ok(None),
            Err(_) => Err(DropReason::ArpNdMalformed),
        },
        LinkPayload::Rarp(at) => Arp::parse_reverse(&frame[at..])
            .map(|arp| Some(of_reverse_arp(arp)))
            .map_err(|_| DropReason::ArpNdMalformed),
        LinkPayload::Unparsed => Err(DropReason::ArpNdMalformed),
        LinkPayload::Other => Ok(None),
    }
}

fn of_arp(arp: Arp<'_>) -> NeighMessage {
    let (sender, target) = (arp.sender_ip(), arp.target_ip());
    let probe = sender.is_unspecified();
    NeighMessage {
        claimed_ip: Some(if probe { target } else { sender }.into()),
        mac: arp.sender_mac(),
        redirect: None,
        requested_ip: (arp.is_request() && sender != target).then_some(target.into()),
        flags: None,
        probe,
    }
}

/// Hypervisors announce a VM that has moved with a reverse request; its sender has no address.
fn of_reverse_arp(arp: Arp<'_>) -> NeighMessage {
    let sender = arp.sender_ip();
    NeighMessage {
        claimed_ip: (!sender.is_unspecified()).then_some(sender.into()),
        mac: arp.sender_mac(),
        redirect: None,
        requested_ip: None,
        flags: None,
        probe: false,
    }
}

fn parse_nd(frame: &[u8], l3: L3Info) -> Result<NeighMessage, DropReason> {
    let (ip, end) = (usize::from(l3.ip), l3.end as usize);
    let offset = usize::from(l3.transport) - ip;
    // A valid one fits into the first segment.
    let message = frame.get(ip..end).ok_or(DropReason::ArpNdMalformed)?;
    let nd = Nd::parse(message, offset).map_err(|_| DropReason::ArpNdMalformed)?;
    let source = Ethernet::parse(frame).ok_or(DropReason::Runt)?.source();
    let (claimed_ip, requested_ip, probe) = match nd.kind {
        nd::NdKind::Solicitation if nd.source.is_unspecified() => {
            (Some(nd.target), Some(nd.target), true)
        }
        nd::NdKind::Solicitation if nd.source == nd.target => (Some(nd.source), None, false),
        nd::NdKind::Solicitation => (Some(nd.source), Some(nd.target), false),
        nd::NdKind::Advertisement => (Some(nd.target), None, false),
        nd::NdKind::Router => (
            Some(nd.source).filter(|ip| !ip.is_unspecified()),
            None,
            false,
        ),
    };
    Ok(NeighMessage {
        claimed_ip: claimed_ip.map(IpAddr::V6),
        mac: nd.link_address.unwrap_or(source),
        redirect: nd.redirect.map(|(ip, mac)| (ip.into(), mac)),
        requested_ip: requested_ip.filter(|_| !nd.signed).map(IpAddr::V6),
        flags: nd.flags,
        probe,
    })
}

/// Checks what the sender claims: on a locked port, one of the port's MACs, and one of its
/// addresses if it has any.
fn check_claim(message: NeighMessage, port: &PortEntry) -> Result<(), DropReason> {
    let Some(macs) = &port.lock else {
        return Ok(());
    };
    let is_allowed = |ip| {
        port.ips.is_empty() || port.ips.binary_search(&ip).is_ok() || is_own_link_local(ip, macs)
    };
    let is_own = |mac| macs.binary_search(&mac).is_ok();
    // Who redirects to another host names that host's MAC, and receivers believe it.
    if is_own(message.mac)
        && message.claimed_ip.is_none_or(is_allowed)
        && message
            .redirect
            .is_none_or(|(ip, mac)| is_own(mac) && is_allowed(ip))
    {
        Ok(())
    } else {
        Err(DropReason::ArpNdSpoofed)
    }
}

/// True for the link-local address that a host forms from one of these MACs (RFC 4291 appendix A).
fn is_own_link_local(ip: IpAddr, macs: &[MacAddr]) -> bool {
    let IpAddr::V6(ip) = ip else { return false };
    macs.iter().any(|MacAddr([a, b, c, d, e, f])| {
        let id = [a ^ 2, *b, *c, 0xff, 0xfe, *d, *e, *f];
        ip == Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes(id)))
    })
}

/// What to do with a message that passed the checks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// Forward it like any frame.
    Forward,
    /// Answer it: the requested address, and its neighbor entry.
    Reply(IpAddr, NeighborEntry),
    /// Drop it: the target is behind the same port, and answers itself.
    Hairpin,
}

/// Checks a message, reports its sender to the control thread, and decides what to do with it.
#[cold]
pub(super) fn process<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frame: &Frame,
    l3: L3Info,
    (port, domain): (&PortEntry, &Domain),
) -> Result<Action, DropReason> {
    let bytes = ctx.pool.memory().bytes(frame);
    let Some(message) = parse(bytes, l3, port.lock.is_some())? else {
        return Ok(Action::Forward);
    };
    let header = Ethernet::parse(bytes).ok_or(DropReason::Runt)?;
    let (source, multicast) = (header.source(), header.destination().is_multicast());
    // Tagged messages belong to another network, whose addresses are not in the table.
    let untagged = !vlan::is_tag(header.ethertype());
    let claim_check = check_claim(message, port);
    if !message.probe || message.mac != source {
        claim_check?;
    }
    let action = if untagged && multicast {
        lookup_target(ctx, message, port, domain)
    } else {
        Action::Forward
    };
    if let Some(mac) = HostMac::new(source)
        .ok()
        .filter(|_| untagged && claim_check.is_ok())
    {
        notify_sender(ctx, message, mac, port, domain);
    }
    match action {
        // A probe for an address in use is answered even if the port may not claim that address.
        Action::Reply(..) => Ok(action),
        _ => claim_check.map(|()| action),
    }
}

/// Looks up the target: known hosts are answered for, unknown ones are reported as a miss.
fn lookup_target<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    message: NeighMessage,
    port: &PortEntry,
    domain: &Domain,
) -> Action {
    let Some(ip) = message.requested_ip else {
        return Action::Forward;
    };
    match ctx.neighbors.lookup(domain.id, ip) {
        None => {
            if domain.miss_events {
                ctx.notify(
                    port,
                    LearnEvent::NeighborMiss {
                        domain: domain.id,
                        ip,
                    },
                    CHANGE_INTERVAL_NS,
                );
            }
            Action::Forward
        }
        Some(neighbor) if !domain.suppress || neighbor.mac.get() == message.mac => Action::Forward,
        Some(neighbor) => {
            let destination = ctx.macs.lookup(MacKey::new(domain.id, neighbor.mac.get()));
            match destination {
                Some(Destination::Port(id)) if id == port.id => Action::Hairpin,
                _ if ip.is_ipv6() && neighbor.nd.is_none() => Action::Forward,
                _ => Action::Reply(ip, neighbor),
            }
        }
    }
}

/// Reports the sender's address to the control thread: on a port that learns, and on others if the
/// table has the address, which may be another host's there. Not for a probe, nor for a message
/// whose MAC differs from the frame's source.
fn notify_sender<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    message: NeighMessage,
    mac: HostMac,
    port: &PortEntry,
    domain: &Domain,
) {
    let Some(ip) = message.claimed_ip.filter(|ip| host_ip(*ip).is_ok()) else {
        return;
    };
    if message.probe || message.mac != mac.get() {
        return;
    }
    let entry = ctx.neighbors.lookup(domain.id, ip);
    if port.learn.is_none() && entry.is_none() {
        return;
    }
    let same_flags = |neighbor: NeighborEntry| {
        let told = message.flags.filter(|_| ip.is_ipv6());
        told.is_none_or(|told| neighbor.nd == Some(told))
    };
    let known = entry.is_some_and(|neighbor| neighbor.mac == mac && same_flags(neighbor));
    let event = LearnEvent::NeighborSeen {
        port: port.id,
        domain: domain.id,
        ip,
        mac,
        nd: message.flags,
    };
    ctx.notify(
        port,
        event,
        if known {
            REFRESH_INTERVAL_NS
        } else {
            CHANGE_INTERVAL_NS
        },
    );
}

/// Turns a request for `ip` into the reply, in the same frame, and sends it to the ingress port.
#[cold]
pub(super) fn reply<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    mut frame: Frame,
    l3: L3Info,
    (port, domain): (&'t PortEntry, &'t Domain),
    (ip, neighbor): (IpAddr, NeighborEntry),
) {
    let scope = DropScope {
        port: Some(port),
        domain: Some(domain),
        vtep: None,
    };
    let written = match ip {
        IpAddr::V4(_) => {
            ctx.pool.truncate(&mut frame, ARP_FRAME);
            write_arp(
                ctx.pool.memory_mut().bytes_mut(&mut frame),
                neighbor.mac.get(),
            );
            Ok(())
        }
        IpAddr::V6(target) => {
            let requester = requester(ctx.pool.memory().bytes(&frame), l3);
            let (start, len) = (frame.start(), ethernet::LEN + nd::ADVERTISEMENT_LEN);
            ctx.pool.truncate(&mut frame, len);
            frame
                .set_extent(start, len, ctx.pool.memory().chunk_size())
                .map(|()| {
                    write_nd(
                        ctx.pool.memory_mut().bytes_mut(&mut frame),
                        target,
                        requester,
                        neighbor,
                    );
                })
        }
    };
    match (
        written,
        port_output::find(ctx, port.id, domain, frame.len()),
    ) {
        (Ok(()), Some(tx_port)) => TenantBoundFrame::new(frame).send(ctx, tx_port),
        (Err(_), _) => ctx.drop_frame(frame, DropReason::BadDescriptor, scope),
        (_, None) => ctx.pool.free(frame),
    }
}

/// The IPv6 source address of a message.
fn requester(frame: &[u8], l3: L3Info) -> Ipv6Addr {
    ipv6::Ipv6::parse(&frame[usize::from(l3.ip)..])
        .map_or(Ipv6Addr::UNSPECIFIED, |header| header.source())
}

fn write_arp(frame: &mut [u8], mac: MacAddr) {
    ethernet::swap_addresses(frame);
    frame[6..ethernet::ETHERTYPE].copy_from_slice(&mac.0);
    let (message, padding) = frame[ethernet::LEN..].split_at_mut(arp::LEN);
    arp::make_reply(message, mac);
    padding.fill(0);
}

fn write_nd(frame: &mut [u8], target: Ipv6Addr, requester: Ipv6Addr, neighbor: NeighborEntry) {
    let mac = neighbor.mac.get();
    ethernet::swap_addresses(frame);
    if requester.is_unspecified() {
        frame[..6].copy_from_slice(&ALL_NODES_MAC.0);
    }
    frame[6..ethernet::ETHERTYPE].copy_from_slice(&mac.0);
    nd::Advertisement {
        target,
        requester,
        mac,
        // Only entries with known flags are answered.
        flags: neighbor.nd.unwrap_or(nd::NdFlags::HOST),
    }
    .emit(&mut frame[ethernet::LEN..]);
}
