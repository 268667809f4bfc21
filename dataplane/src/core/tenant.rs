//! Frames from tenants: the only ones that can be encapsulated.
//!
//! ```text
//! admit: port, guard, checksum, classify, hash -> TenantFrame -> forward: unicast, or flood (replicate.rs)
//! ```

use super::classify::Packet;
use super::encap::{self, Beyond, Variable};
use super::frame::{Frame, FrameMemory};
use super::local::{Exit, LocalFrame};
use super::notice::{NEWS_NS, Notice};
use super::suppress::{self, Resolved};
use super::turn::{Blame, Leaving, Turn};
use super::verdict::Reason;
use super::{checksum, ecn, flow, guard, too_big};
use crate::addr::{NextHopId, PortId};
use crate::table::mac::{Destination, MacKey};
use crate::table::nexthop::{NextHop, Path};
use crate::table::port::{PortEntry, Role};
use crate::table::vni::Domain;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Ethernet;
use crate::wire::{ethernet, vlan};

/// A frame from a tenant, checked, without its port's VLAN tag.
#[derive(Debug)]
pub(super) struct TenantFrame {
    pub(super) frame: Frame,
    pub(super) packet: Packet,
    pub(super) flow: u64,
    pub(super) port: PortId,
}

/// An encapsulated frame of a tenant. Nothing else can be sent to the underlay.
#[derive(Debug)]
pub(super) struct UnderlayFrame(Frame);

impl Leaving for UnderlayFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'t> {
    Port(Exit<'t>),
    Hop(&'t NextHop, &'t Path),
}

/// Finds the port that a frame of the turn's device came from, and takes the port's VLAN tag off.
#[inline]
fn ingress<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    frame: &mut Frame,
) -> Result<&'t PortEntry, Reason> {
    let ports = &turn.snapshot.ports;
    match &turn.device.role {
        Role::Access(id) => ports.port(*id).ok_or(Reason::PortDown),
        Role::Underlay => Err(Reason::NotOurs),
        Role::Trunk(vlans) => {
            let bytes = turn.pool.memory_mut().bytes_mut(frame);
            if bytes.len() < ethernet::LEN {
                return Err(Reason::Runt);
            }
            let id = vlan::id(bytes).ok_or(Reason::UnknownVlan)?;
            let place = vlans.binary_search_by_key(&id, |(id, _)| *id).map_err(|_| Reason::UnknownVlan)?;
            let port = ports.port(vlans[place].1).ok_or(Reason::PortDown)?;
            vlan::close(bytes);
            frame.trim_front(vlan::LEN as u16).map_err(|_| Reason::Runt)?;
            Ok(port)
        }
    }
}

impl TenantFrame {
    /// Checks a frame of the turn's device and makes its transport checksum right. Returns it with the key to look up;
    /// `None`: it was dropped and counted.
    #[inline]
    pub(super) fn admit<M: FrameMemory>(
        turn: &mut Turn<'_, '_, M>,
        mut frame: Frame,
    ) -> Option<(Self, MacKey)> {
        let port = match ingress(turn, &mut frame) {
            Ok(port) => port,
            Err(reason) => {
                turn.refuse(frame, reason, Blame::default());
                return None;
            }
        };
        turn.from_port.add(port.counters.row(turn.worker), frame.len());
        let domain = turn.snapshot.vnis.domain(port.domain);
        let bytes = turn.pool.memory().bytes(&frame);
        let admitted = match domain {
            Some(domain) => guard::tenant(bytes, port, domain),
            None => Err(Reason::UnknownVni),
        };
        match admitted {
            Ok(destination) => {
                let packet = Packet::of_first(bytes, frame.len());
                checksum::complete(turn.pool.memory_mut(), &mut frame, 0, packet, port.checksum);
                let bytes = turn.pool.memory().bytes(&frame);
                let flow = flow::hash(bytes, packet);
                let key = MacKey::new(port.domain, destination);
                let looks = domain.filter(|domain| suppress::concerns(bytes, packet, port, domain));
                let source = Ethernet::parse(bytes).map(Ethernet::source).filter(|_| port.learn.is_some());
                let this = Self { frame, packet, flow, port: port.id };
                if let Some(source) = source {
                    turn.sources.push((port.id, MacKey::new(port.domain, source)));
                }
                match looks {
                    Some(domain) => this.resolve(turn, port, domain).map(|this| (this, key)),
                    None => Some((this, key)),
                }
            }
            Err(reason) => {
                turn.refuse(frame, reason, Blame { port: Some(port), domain, hop: None });
                None
            }
        }
    }

    /// Handles ARP and ND; gives back what goes on like any frame.
    #[cold]
    fn resolve<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        port: &'t PortEntry,
        domain: &'t Domain,
    ) -> Option<Self> {
        let blame = Blame { port: Some(port), domain: Some(domain), hop: None };
        match suppress::resolve(turn, &self.frame, self.packet, (port, domain)) {
            Ok(Resolved::Forward) => return Some(self),
            Ok(Resolved::Answer(ip, neighbor)) => {
                suppress::answer(turn, self.frame, self.packet, (port, domain), (ip, neighbor));
            }
            Ok(Resolved::SamePort) => turn.refuse(self.frame, Reason::SamePort, blame),
            Err(reason) => {
                // Nothing is learned from what lies: its source was collected last.
                if port.learn.is_some() {
                    turn.sources.pop();
                }
                turn.refuse(self.frame, reason, blame);
            }
        }
        None
    }

    /// Sends the frame to what was found for its key: one place, or everybody.
    #[inline]
    pub(super) fn forward<M: FrameMemory>(
        self,
        turn: &mut Turn<'_, '_, M>,
        key: MacKey,
        found: Option<Destination>,
    ) {
        let snapshot = turn.snapshot;
        let port = snapshot.ports.port(self.port);
        let blame = Blame { port, domain: snapshot.vnis.domain(key.domain()), hop: None };
        let Some(domain) = blame.domain else { return turn.refuse(self.frame, Reason::UnknownVni, blame) };
        let unicast = !key.mac().is_multicast();
        let target = match found.filter(|_| unicast) {
            Some(Destination::Port(port)) if port == self.port => {
                return turn.refuse(self.frame, Reason::SamePort, blame);
            }
            Some(Destination::Port(port)) => {
                Exit::find(turn, port, domain, self.frame.len()).map(Target::Port)
            }
            Some(Destination::NextHop(hop)) => self.find_hop(turn, hop, domain, unicast),
            None => {
                let storm = port.and_then(|port| port.storm);
                if !turn.limits.may_flood(self.port, storm, turn.now_ns) {
                    return turn.refuse(self.frame, Reason::Storm, blame);
                }
                if let Some(port) = port.filter(|_| unicast && domain.miss_events) {
                    turn.tell(port, Notice::MacMissed { domain: domain.id, mac: key.mac() }, NEWS_NS);
                }
                return self.flood(turn, domain, unicast);
            }
        };
        match target {
            Some(target) => self.send(turn, target, domain),
            None => turn.pool.give(self.frame),
        }
    }

    /// Finds the path to a VTEP for this frame. `None`: the drop has been counted, and, if `answer`, the tenant told
    /// when its packet is too long.
    #[inline]
    pub(super) fn find_hop<'t, M: FrameMemory>(
        &self,
        turn: &mut Turn<'t, '_, M>,
        id: NextHopId,
        domain: &'t Domain,
        answer: bool,
    ) -> Option<Target<'t>> {
        let hop = turn.snapshot.next_hops.get(id);
        let path = hop.and_then(|hop| hop.path(flow::path_hash(self.flow)));
        if let (Some(hop), Some(path)) = (hop, path)
            && self.frame.len() <= usize::from(path.max_frame)
        {
            return Some(Target::Hop(hop, path));
        }
        let blame = Blame { port: turn.snapshot.ports.port(self.port), domain: Some(domain), hop };
        match path {
            None => turn.count(Reason::Unresolved, blame),
            Some(path) => {
                turn.count(Reason::TooBig, blame);
                if answer {
                    too_big::answer(turn, &self.frame, self.packet, (self.port, domain), path.max_frame);
                }
            }
        }
        None
    }

    #[inline]
    pub(super) fn send<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        target: Target<'t>,
        domain: &'t Domain,
    ) {
        match target {
            Target::Port(exit) => LocalFrame::new(self.frame).deliver(turn, exit),
            Target::Hop(hop, path) => self.encapsulate(turn, hop, path, domain),
        }
    }

    /// Puts the path's outer header before the frame, in its own headroom, and sends it to the underlay.
    #[inline]
    fn encapsulate<'t, M: FrameMemory>(
        mut self,
        turn: &mut Turn<'t, '_, M>,
        hop: &'t NextHop,
        path: &'t Path,
        domain: &'t Domain,
    ) {
        let inner_len = self.frame.len();
        if self.frame.prepend(path.header.bytes().len() as u16).is_err() {
            let blame = Blame { port: None, domain: Some(domain), hop: Some(hop) };
            return turn.refuse(self.frame, Reason::BadDescriptor, blame);
        }
        let beyond = self.beyond(turn, path.header.is_v6() && !turn.snapshot.settings.udp6_zero_tx);
        self.write_outer(turn, beyond, (hop, path), (domain, inner_len));
    }

    /// Writes the outer header to the front of the frame, where there is room for it, and sends it to the underlay.
    #[inline]
    pub(super) fn write_outer<'t, M: FrameMemory>(
        mut self,
        turn: &mut Turn<'t, '_, M>,
        beyond: Beyond,
        (hop, path): (&'t NextHop, &'t Path),
        (domain, inner_len): (&'t Domain, usize),
    ) {
        let blame = Blame { port: None, domain: Some(domain), hop: Some(hop) };
        let Some(device) = turn.snapshot.ports.device(path.device) else {
            return turn.refuse(self.frame, Reason::PortDown, blame);
        };
        let settings = &turn.snapshot.settings;
        *turn.identification = turn.identification.wrapping_add(1);
        let variable = Variable {
            tos: ecn::outer_tos(self.packet.tos, settings.dscp),
            source_port: flow::source_port(self.flow),
            vni: domain.vni.get(),
            identification: *turn.identification,
            no_udp6_checksum: settings.udp6_zero_tx,
        };
        encap::write(turn.pool.memory_mut().bytes_mut(&mut self.frame), beyond, &path.header, variable);
        if turn.queue(device, UnderlayFrame(self.frame), blame) {
            turn.to_domain.add(domain.counters.row(turn.worker), inner_len);
            turn.to_hop.add(hop.counters.row(turn.worker), inner_len);
        }
    }

    /// What follows the frame's first chunk.
    #[inline]
    fn beyond<M: FrameMemory>(&self, turn: &Turn<'_, '_, M>, with_sum: bool) -> Beyond {
        if !self.frame.is_chained() {
            return Beyond::default();
        }
        let (first, len) = (self.frame.first().len(), self.frame.len());
        let sum = if with_sum { turn.pool.memory().sum(&self.frame, first..len) } else { Sum::new() };
        Beyond { len: len - first, sum }
    }
}
