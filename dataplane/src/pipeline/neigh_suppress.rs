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

use super::context::Turn;
use super::learn_event::{NEWS_NS, Notice, STILL_THERE_NS};
use super::meta::Blame;
use super::parse::{Network, Packet, Part};
use super::port_output::{self, LocalFrame};
use crate::addr::{HostMac, MacAddr};
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, MacKey};
use crate::table::neighbor::NeighborEntry;
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::wire::arp::{self, Arp, NotArp};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::nd::{self, Nd};
use crate::wire::{ipv6, vlan};

/// Where the MAC of all IPv6 nodes is (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// Longest ARP reply: an Ethernet frame of minimum length, without its checksum.
const ARP_FRAME: usize = 60;

/// What an ARP or ND message says, in one form for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// The address that its sender says it has, or, in a probe, would like to have.
    pub(super) claims: Option<IpAddr>,
    /// The MAC that it says it has.
    pub(super) mac: MacAddr,
    /// The address that it asks for.
    asks: Option<IpAddr>,
    /// Its sender has no address yet: an ARP probe (RFC 5227), or duplicate address detection (RFC 4862).
    probe: bool,
}

/// True when the message must be looked at.
#[inline(always)]
pub(super) fn concerns(frame: &[u8], packet: Packet, port: &PortEntry, domain: &Domain) -> bool {
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
fn read(frame: &[u8], packet: Packet) -> Result<Option<Message>, DropReason> {
    match packet.network {
        Network::V6 if packet.part != Part::Whole || packet.routed => {
            Err(DropReason::ArpNdMalformed)
        }
        Network::V6 => read_nd(frame, packet).map(Some),
        _ => read_arp(frame),
    }
}

fn read_arp(frame: &[u8]) -> Result<Option<Message>, DropReason> {
    let Some((_, at)) = vlan::skip(frame) else {
        return Ok(None);
    };
    let arp = match Arp::parse(&frame[at..]) {
        Ok(arp) => arp,
        Err(NotArp::Foreign) => return Ok(None),
        Err(NotArp::Malformed) => return Err(DropReason::ArpNdMalformed),
    };
    let (sender, target) = (arp.sender_ip(), arp.target_ip());
    let probe = sender.is_unspecified();
    Ok(Some(Message {
        claims: Some(if probe { target } else { sender }.into()),
        mac: arp.sender_mac(),
        asks: (arp.is_request() && sender != target).then_some(target.into()),
        probe,
    }))
}

fn read_nd(frame: &[u8], packet: Packet) -> Result<Message, DropReason> {
    let (ip, end) = (usize::from(packet.ip), usize::from(packet.end));
    let offset = usize::from(packet.transport) - ip;
    // Nobody sends one that goes on in a second chunk.
    let message = frame.get(ip..end).ok_or(DropReason::ArpNdMalformed)?;
    let nd = Nd::parse(message, offset).map_err(|_| DropReason::ArpNdMalformed)?;
    let source = Ethernet::parse(frame).ok_or(DropReason::Runt)?.source();
    let (claims, asks, probe) = match nd.kind {
        nd::Kind::Solicitation if nd.source.is_unspecified() => {
            (Some(nd.target), Some(nd.target), true)
        }
        nd::Kind::Solicitation if nd.source == nd.target => (Some(nd.source), None, false),
        nd::Kind::Solicitation => (Some(nd.source), Some(nd.target), false),
        nd::Kind::Advertisement => (Some(nd.target), None, false),
        nd::Kind::Router => (
            Some(nd.source).filter(|ip| !ip.is_unspecified()),
            None,
            false,
        ),
    };
    Ok(Message {
        claims: claims.map(IpAddr::V6),
        mac: nd.link_address.unwrap_or(source),
        asks: asks.filter(|_| !nd.signed).map(IpAddr::V6),
        probe,
    })
}

/// Checks what ARP or ND from a port claims: on a locked port one of its MACs, and one of its addresses if it has any.
fn claim(message: Message, port: &PortEntry) -> Result<(), DropReason> {
    let Some(macs) = &port.lock else {
        return Ok(());
    };
    let right_ip = |ip| {
        port.ips.is_empty() || port.ips.binary_search(&ip).is_ok() || is_own_link_local(ip, macs)
    };
    if macs.binary_search(&message.mac).is_ok() && message.claims.is_none_or(right_ip) {
        Ok(())
    } else {
        Err(DropReason::ArpNdForged)
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
pub(super) enum Resolved {
    /// It goes on like any frame.
    Forward,
    /// It is answered.
    Answer(IpAddr, NeighborEntry),
    /// The host behind the same port answers.
    SamePort,
}

/// Checks a message, tells the control thread what it says, and decides.
#[cold]
pub(super) fn resolve<M: FrameMemory>(
    turn: &mut Turn<'_, '_, M>,
    frame: &Frame,
    packet: Packet,
    (port, domain): (&PortEntry, &Domain),
) -> Result<Resolved, DropReason> {
    let bytes = turn.pool.memory().bytes(frame);
    let Some(message) = read(bytes, packet)? else {
        return Ok(Resolved::Forward);
    };
    let header = Ethernet::parse(bytes).ok_or(DropReason::Runt)?;
    let (source, to_all) = (header.source(), header.destination().is_multicast());
    // Behind a tag is another network, whose addresses the table does not have.
    let ours = !vlan::is_tag(header.ethertype());
    let honest = claim(message, port);
    if !message.probe || message.mac != source {
        honest?;
    }
    let resolved = if ours && to_all {
        decide(turn, message, port, domain)
    } else {
        Resolved::Forward
    };
    if let Some(mac) = HostMac::new(source)
        .ok()
        .filter(|_| ours && honest.is_ok() && port.learn.is_some())
    {
        tell(turn, message, mac, port, domain);
    }
    match resolved {
        // Who asks whether an address is free is told that it is not, even if it may not have it.
        Resolved::Answer(..) => Ok(resolved),
        _ => honest.map(|()| resolved),
    }
}

/// Answers for known hosts; tells of unknown ones.
fn decide<M: FrameMemory>(
    turn: &mut Turn<'_, '_, M>,
    message: Message,
    port: &PortEntry,
    domain: &Domain,
) -> Resolved {
    let Some(ip) = message.asks else {
        return Resolved::Forward;
    };
    match turn.neighbors.lookup(domain.id, ip) {
        None => {
            if domain.miss_events {
                turn.tell(
                    port,
                    Notice::IpMissed {
                        domain: domain.id,
                        ip,
                    },
                    NEWS_NS,
                );
            }
            Resolved::Forward
        }
        Some(neighbor) if !domain.suppress || neighbor.mac.get() == message.mac => {
            Resolved::Forward
        }
        Some(neighbor) => {
            let place = turn.macs.lookup(MacKey::new(domain.id, neighbor.mac.get()));
            if place == Some(Destination::Port(port.id)) {
                Resolved::SamePort
            } else {
                Resolved::Answer(ip, neighbor)
            }
        }
    }
}

/// Tells whose address was seen. A message that names another MAC than its frame's says nothing for certain.
fn tell<M: FrameMemory>(
    turn: &mut Turn<'_, '_, M>,
    message: Message,
    mac: HostMac,
    port: &PortEntry,
    domain: &Domain,
) {
    let Some(ip) = message.claims.filter(|ip| is_host(*ip)) else {
        return;
    };
    if message.probe || message.mac != mac.get() {
        return;
    }
    let known = turn
        .neighbors
        .lookup(domain.id, ip)
        .is_some_and(|neighbor| neighbor.mac == mac);
    let notice = Notice::NeighborSeen {
        port: port.id,
        domain: domain.id,
        ip,
        mac,
    };
    turn.tell(port, notice, if known { STILL_THERE_NS } else { NEWS_NS });
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
pub(super) fn answer<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    mut frame: Frame,
    packet: Packet,
    (port, domain): (&'t PortEntry, &'t Domain),
    (ip, neighbor): (IpAddr, NeighborEntry),
) {
    let blame = Blame {
        port: Some(port),
        domain: Some(domain),
        hop: None,
    };
    let placed = match ip {
        IpAddr::V4(_) => {
            turn.pool.truncate(&mut frame, ARP_FRAME);
            write_arp(
                turn.pool.memory_mut().bytes_mut(&mut frame),
                neighbor.mac.get(),
            );
            Ok(())
        }
        IpAddr::V6(target) => {
            let asker = asker(turn.pool.memory().bytes(&frame), packet);
            let (start, len) = (frame.start(), ethernet::LEN + nd::ANSWER_LEN);
            turn.pool.truncate(&mut frame, len);
            frame
                .set_extent(start, len, turn.pool.memory().chunk_size())
                .map(|()| {
                    write_nd(
                        turn.pool.memory_mut().bytes_mut(&mut frame),
                        target,
                        asker,
                        neighbor,
                    );
                })
        }
    };
    match (
        placed,
        port_output::find(turn, port.id, domain, frame.len()),
    ) {
        (Ok(()), Some(exit)) => LocalFrame::new(frame).send(turn, exit),
        (Err(_), _) => turn.refuse(frame, DropReason::BadDescriptor, blame),
        (_, None) => turn.pool.free(frame),
    }
}

/// The IPv6 source of a message.
fn asker(frame: &[u8], packet: Packet) -> Ipv6Addr {
    ipv6::Ipv6::parse(&frame[usize::from(packet.ip)..])
        .map_or(Ipv6Addr::UNSPECIFIED, |header| header.source())
}

fn write_arp(frame: &mut [u8], mac: MacAddr) {
    ethernet::swap_addresses(frame);
    frame[6..ethernet::ETHERTYPE].copy_from_slice(&mac.0);
    let (message, padding) = frame[ethernet::LEN..].split_at_mut(arp::LEN);
    arp::answer(message, mac);
    padding.fill(0);
}

fn write_nd(frame: &mut [u8], target: Ipv6Addr, asker: Ipv6Addr, neighbor: NeighborEntry) {
    let mac = neighbor.mac.get();
    ethernet::swap_addresses(frame);
    if asker.is_unspecified() {
        frame[..6].copy_from_slice(&ALL_NODES_MAC.0);
    }
    frame[6..ethernet::ETHERTYPE].copy_from_slice(&mac.0);
    let NeighborEntry {
        router, overrides, ..
    } = neighbor;
    nd::Advertisement {
        target,
        asker,
        mac,
        router,
        overrides,
    }
    .emit(&mut frame[ethernet::LEN..]);
}
