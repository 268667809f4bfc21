//! ARP and ND from tenants: checked on locked ports, told to the control thread, and answered for known hosts
//! (RFC 9161), so that the questions don't cross the overlay. Frames from the overlay never come here.
//!
//! ```text
//! read -> guard -> tell who was seen -> known? -> answer, back to the port it came from
//!                                          \-> flood as any broadcast
//! ```
//!
//! | message | what happens |
//! |---|---|
//! | request, known host elsewhere | answered |
//! | request, host behind the same port | dropped: it has heard it itself |
//! | request, unknown host | flooded, and told as missed |
//! | request to one MAC (NUD) | forwarded: only the host itself knows that it is there |
//! | probe, DAD | answered when another host has the address, else flooded |
//! | announcement (gratuitous ARP, unsolicited advertisement) | flooded: others learn of a move |
//! | signed (RFC 3971) | flooded: nobody else can answer |

use std::net::{IpAddr, Ipv6Addr};

use super::context::BurstContext;
use super::learn_event::{CHANGE_INTERVAL_NS, LearnEvent, REFRESH_INTERVAL_NS};
use super::meta::DropScope;
use super::parse::{L3Info, Network, Part};
use super::port_output::{self, TenantBoundFrame};
use crate::addr::{HostMac, MacAddr};
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

/// Where the MAC of all IPv6 nodes is (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// Longest ARP reply: an Ethernet frame of minimum length, without its checksum.
const ARP_FRAME: usize = 60;

/// What an ARP or ND message says, in one form for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeighMessage {
    /// The address that its sender says it has, or, in a probe, would like to have.
    pub(super) claimed_ip: Option<IpAddr>,
    /// The MAC that it says it has.
    pub(super) mac: MacAddr,
    /// The address that it requested_ip for.
    requested_ip: Option<IpAddr>,
    /// Its sender has no address yet: an ARP probe (RFC 5227), or duplicate address detection (RFC 4862).
    probe: bool,
}

/// True when the message must be looked at.
#[inline(always)]
pub(super) fn applies(frame: &[u8], packet: L3Info, port: &PortEntry, domain: &Domain) -> bool {
    match packet.network {
        Network::V4 => return false,
        Network::V6 if packet.protocol != ipv6::ICMP || packet.part == Part::Later => return false,
        _ => {}
    }
    let looks = domain.suppress | domain.miss_events | port.learn.is_some() | port.lock.is_some();
    looks
        && match packet.transport_range() {
            Some(range) => frame.get(range.start).is_some_and(|kind| nd::is_nd(*kind)),
            None => matches!(vlan::skip(frame), Some((arp::ETHERTYPE, _))),
        }
}

/// Reads the message; `None`: of a kind that nobody here knows.
fn read(frame: &[u8], packet: L3Info) -> Result<Option<NeighMessage>, DropReason> {
    match packet.network {
        Network::V6 if packet.part != Part::Whole || packet.has_routing_header => {
            Err(DropReason::ArpNdMalformed)
        }
        Network::V6 => read_nd(frame, packet).map(Some),
        _ => read_arp(frame),
    }
}

fn read_arp(frame: &[u8]) -> Result<Option<NeighMessage>, DropReason> {
    let Some((_, at)) = vlan::skip(frame) else {
        return Ok(None);
    };
    let arp = match Arp::parse(&frame[at..]) {
        Ok(arp) => arp,
        Err(ArpError::Unsupported) => return Ok(None),
        Err(ArpError::Malformed) => return Err(DropReason::ArpNdMalformed),
    };
    let (sender, target) = (arp.sender_ip(), arp.target_ip());
    let probe = sender.is_unspecified();
    Ok(Some(NeighMessage {
        claimed_ip: Some(if probe { target } else { sender }.into()),
        mac: arp.sender_mac(),
        requested_ip: (arp.is_request() && sender != target).then_some(target.into()),
        probe,
    }))
}

fn read_nd(frame: &[u8], packet: L3Info) -> Result<NeighMessage, DropReason> {
    let (ip, end) = (usize::from(packet.ip), usize::from(packet.end));
    let offset = usize::from(packet.transport) - ip;
    // Nobody sends one that goes on in a second chunk.
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
        requested_ip: requested_ip.filter(|_| !nd.signed).map(IpAddr::V6),
        probe,
    })
}

/// Checks what ARP or ND from a port claimed_ip: on a locked port one of its MACs, and one of its addresses if it has any.
fn check_claim(message: NeighMessage, port: &PortEntry) -> Result<(), DropReason> {
    let Some(macs) = &port.lock else {
        return Ok(());
    };
    let right_ip = |ip| {
        port.ips.is_empty() || port.ips.binary_search(&ip).is_ok() || is_own_link_local(ip, macs)
    };
    if macs.binary_search(&message.mac).is_ok() && message.claimed_ip.is_none_or(right_ip) {
        Ok(())
    } else {
        Err(DropReason::ArpNdSpoofed)
    }
}

/// True for the link-local address that a host with one of these MACs forms by itself (RFC 4291 appendix A).
fn is_own_link_local(ip: IpAddr, macs: &[MacAddr]) -> bool {
    let IpAddr::V6(ip) = ip else { return false };
    macs.iter().any(|MacAddr([a, b, c, d, e, f])| {
        let id = [a ^ 2, *b, *c, 0xff, 0xfe, *d, *e, *f];
        ip == Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes(id)))
    })
}

/// What is done with a message that may stay.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// It goes on like any frame.
    Forward,
    /// It is answered.
    Reply(IpAddr, NeighborEntry),
    /// The host behind the same port answers.
    Hairpin,
}

/// Checks a message, tells the control thread what it says, and decides.
#[cold]
pub(super) fn process<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frame: &Frame,
    packet: L3Info,
    (port, domain): (&PortEntry, &Domain),
) -> Result<Action, DropReason> {
    let bytes = ctx.pool.memory().bytes(frame);
    let Some(message) = read(bytes, packet)? else {
        return Ok(Action::Forward);
    };
    let header = Ethernet::parse(bytes).ok_or(DropReason::Runt)?;
    let (source, multicast) = (header.source(), header.destination().is_multicast());
    // Behind a tag is another network, whose addresses the table does not have.
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
        .filter(|_| untagged && claim_check.is_ok() && port.learn.is_some())
    {
        notify_sender(ctx, message, mac, port, domain);
    }
    match action {
        // Who requested_ip whether an address is free is told that it is not, even if it may not have it.
        Action::Reply(..) => Ok(action),
        _ => claim_check.map(|()| action),
    }
}

/// Answers for known hosts; tells of unknown ones.
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
            let place = ctx.macs.lookup(MacKey::new(domain.id, neighbor.mac.get()));
            if place == Some(Destination::Port(port.id)) {
                Action::Hairpin
            } else {
                Action::Reply(ip, neighbor)
            }
        }
    }
}

/// Tells whose address was seen. A message that names another MAC than its frame's says nothing for certain.
fn notify_sender<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    message: NeighMessage,
    mac: HostMac,
    port: &PortEntry,
    domain: &Domain,
) {
    let Some(ip) = message.claimed_ip.filter(|ip| is_host(*ip)) else {
        return;
    };
    if message.probe || message.mac != mac.get() {
        return;
    }
    let known = ctx
        .neighbors
        .lookup(domain.id, ip)
        .is_some_and(|neighbor| neighbor.mac == mac);
    let event = LearnEvent::NeighborSeen {
        port: port.id,
        domain: domain.id,
        ip,
        mac,
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

/// True for an address that one host can have.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_loopback(),
    }
}

/// Turns a request for `ip` into its answer, in the same frame, and sends it to the port that asked.
#[cold]
pub(super) fn reply<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    mut frame: Frame,
    packet: L3Info,
    (port, domain): (&'t PortEntry, &'t Domain),
    (ip, neighbor): (IpAddr, NeighborEntry),
) {
    let scope = DropScope {
        port: Some(port),
        domain: Some(domain),
        vtep: None,
    };
    let placed = match ip {
        IpAddr::V4(_) => {
            ctx.pool.truncate(&mut frame, ARP_FRAME);
            write_arp(
                ctx.pool.memory_mut().bytes_mut(&mut frame),
                neighbor.mac.get(),
            );
            Ok(())
        }
        IpAddr::V6(target) => {
            let requester = requester(ctx.pool.memory().bytes(&frame), packet);
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
    match (placed, port_output::find(ctx, port.id, domain, frame.len())) {
        (Ok(()), Some(exit)) => TenantBoundFrame::new(frame).send(ctx, exit),
        (Err(_), _) => ctx.drop_frame(frame, DropReason::BadDescriptor, scope),
        (_, None) => ctx.pool.free(frame),
    }
}

/// The IPv6 source of a message.
fn requester(frame: &[u8], packet: L3Info) -> Ipv6Addr {
    ipv6::Ipv6::parse(&frame[usize::from(packet.ip)..])
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
    let NeighborEntry {
        router, overrides, ..
    } = neighbor;
    nd::Advertisement {
        target,
        requester,
        mac,
        router,
        overrides,
    }
    .emit(&mut frame[ethernet::LEN..]);
}
