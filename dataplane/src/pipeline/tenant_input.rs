//! Frames from tenants: the only ones that can be encapsulated.
//!
//! ```text
//! admit: port, guard, checksum, classify, hash -> TenantFrame -> forward: unicast, or flood (replicate.rs)
//! ```

use super::cache::{Exit, Ingress, Tunnel};
use super::checksum::{self, Pending};
use super::context::{Blame, Leaving, Turn};
use super::encap::{self, Beyond, Variable};
use super::learn_event::{NEWS_NS, Notice};
use super::neigh_suppress::{self, Resolved};
use super::parse::Packet;
use super::port_output::{self, LocalFrame};
use super::stages::Side;
use super::{ecn, flow, pmtu, validate};
use crate::addr::{PortId, VtepId};
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::port::{PortEntry, Role};
use crate::table::vni::Domain;
use crate::table::vtep::{Adjacency, RemoteVtep};
use crate::table::{Settings, Snapshot};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Ethernet;
use crate::wire::{ethernet, vlan};

/// What the first stage found out of a frame, for the last one. Small: there is one for each frame of a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    flow: u64,
    pub(super) port: PortId,
    tos: u8,
    next: Next,
}

/// What the last stage does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It goes to what is found for its key.
    Forward,
    /// It is ARP or ND, which may be answered here.
    Resolve,
    /// It was refused and counted.
    Free,
}

impl Facts {
    /// Of a frame that goes nowhere.
    pub(super) const NONE: Self = Self {
        flow: 0,
        port: PortId(0),
        tos: 0,
        next: Next::Free,
    };

    /// What the outer header has of the frame and its VNI.
    #[inline(always)]
    pub(super) const fn variable(&self, settings: &Settings, domain: &Domain) -> Variable {
        Variable {
            tos: ecn::outer_tos(self.tos, settings.dscp),
            source_port: flow::source_port(self.flow),
            vni: domain.vni.get(),
            no_udp6_checksum: settings.udp6_zero_tx,
        }
    }
}

/// A frame from a tenant, checked, without its port's VLAN tag.
#[derive(Debug)]
pub(super) struct TenantFrame {
    pub(super) frame: Frame,
    pub(super) facts: Facts,
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
    Tunnel(Tunnel<'t>),
}

/// A port and the domain of its VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'t> {
    pub(super) port: &'t PortEntry,
    pub(super) domain: &'t Domain,
}

impl<'t> Member<'t> {
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
    fn blame(self) -> Blame<'t> {
        Blame {
            port: Some(self.port),
            domain: Some(self.domain),
            hop: None,
        }
    }
}

/// Finds and counts the port that a frame came from, where the device alone does not say it, and takes the port's VLAN
/// tag off.
fn ingress<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    frame: &mut Frame,
) -> Result<Member<'t>, (DropReason, Blame<'t>)> {
    let snapshot = turn.snapshot;
    let refuse = |reason| (reason, Blame::default());
    let id = match &turn.device.role {
        Role::Access(id) => *id,
        Role::Underlay => return Err(refuse(DropReason::NotOurs)),
        Role::Trunk(vlans) => {
            let bytes = turn.pool.memory_mut().bytes_mut(frame);
            if bytes.len() < ethernet::LEN {
                return Err(refuse(DropReason::Runt));
            }
            let id = vlan::id(bytes).ok_or(refuse(DropReason::UnknownVlan))?;
            let place = vlans.binary_search_by_key(&id, |(id, _)| *id);
            let (_, id) = vlans[place.map_err(|_| refuse(DropReason::UnknownVlan))?];
            vlan::close(bytes);
            frame
                .trim_front(vlan::LEN as u16)
                .map_err(|_| refuse(DropReason::Runt))?;
            id
        }
    };
    let port = snapshot
        .ports
        .port(id)
        .ok_or(refuse(DropReason::PortDown))?;
    if turn.ingress.way().is_none_or(|way| way.0.id != id) {
        turn.ingress.turn_to(Ingress(port));
    }
    turn.ingress.add(frame.len());
    Member::find(snapshot, id).ok_or((
        DropReason::UnknownVni,
        Blame {
            port: Some(port),
            ..Blame::default()
        },
    ))
}

/// Frames of tenants' devices.
pub(super) struct FromTenants;

impl<'t> Side<'t> for FromTenants {
    type Facts = Facts;
    const NOWHERE: Facts = Facts::NONE;
    const PREPENDS: bool = true;

    /// Also makes the frame's transport checksum right.
    #[inline(always)]
    fn admit<M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: &mut Frame,
        facts: &mut Facts,
    ) -> MacKey {
        let member = match turn.access {
            Some(member) => member,
            None => match ingress(turn, frame) {
                Ok(member) => member,
                Err((reason, blame)) => return refuse(turn, facts, reason, blame),
            },
        };
        let Member { port, domain } = member;
        let bytes = turn.pool.memory().bytes(frame);
        let header = match validate::tenant(bytes, port) {
            Ok(header) => header,
            Err(reason) => return refuse(turn, facts, reason, member.blame()),
        };
        let key = MacKey::of_bits(port.domain, header.destination_bits());
        if port.learn.is_some() {
            turn.sources
                .push((port.id, MacKey::new(port.domain, header.source())));
        }
        // Twice the same: once for what nearly all frames are, with offsets that the compiler knows.
        let pending = match Packet::of_plain_v4(bytes) {
            Some(packet) => digest(bytes, packet, member, facts),
            None if validate::has_tags(header, domain) => {
                return refuse(turn, facts, DropReason::Tagged, member.blame());
            }
            None => digest_any(bytes, frame.len(), member, facts),
        };
        if let Some(pending) = pending {
            checksum::fill(turn.pool.memory_mut(), frame, 0, pending);
        }
        key
    }

    #[inline(always)]
    fn pass<M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: Frame,
        facts: &Facts,
        key: MacKey,
        found: LookupResult,
    ) {
        match found.vtep() {
            // Only MACs of hosts are ever found.
            Some(id) if goes_on(turn, &frame, facts, (id, key)) => encapsulate(turn, frame, facts),
            _ => TenantFrame {
                frame,
                facts: *facts,
            }
            .pass_on(turn, key, found.destination()),
        }
    }
}

#[cold]
fn refuse<M>(
    turn: &Turn<'_, '_, M>,
    facts: &mut Facts,
    reason: DropReason,
    blame: Blame<'_>,
) -> MacKey
where
    M: FrameMemory,
{
    turn.count(reason, blame);
    *facts = Facts::NONE;
    MacKey::default()
}

#[inline(never)]
fn digest_any(bytes: &[u8], len: usize, member: Member<'_>, facts: &mut Facts) -> Option<Pending> {
    let packet = Packet::of_first(bytes, len);
    digest(bytes, packet, member, facts)
}

/// Leaves what is found in `facts`; returns the checksum that must be computed. `bytes`: the frame's first ones.
#[inline(always)]
fn digest(
    bytes: &[u8],
    packet: Packet,
    Member { port, domain }: Member<'_>,
    facts: &mut Facts,
) -> Option<Pending> {
    facts.flow = flow::hash(bytes, packet);
    facts.port = port.id;
    facts.tos = packet.tos;
    let concerns = neigh_suppress::concerns(bytes, packet, port, domain);
    facts.next = if concerns {
        Next::Resolve
    } else {
        Next::Forward
    };
    checksum::pending(bytes, packet, port.checksum)
}

/// True when the frame goes the same way as the one before it.
#[inline(always)]
fn goes_on<M: FrameMemory>(
    turn: &Turn<'_, '_, M>,
    frame: &Frame,
    facts: &Facts,
    (id, key): (VtepId, MacKey),
) -> bool {
    turn.tunnel.way().is_some_and(|way| {
        let path = way.hop.path(flow::path_hash(facts.flow));
        facts.next == Next::Forward
            && way.id == id
            && way.domain.id == key.domain()
            && path.is_some_and(|path| std::ptr::eq(path, way.path))
            && frame.len() <= usize::from(way.path.max_frame)
    })
}

/// Puts the outer header of the way that is taken now before the frame, in its own headroom, and sends it to the underlay.
#[inline(always)]
fn encapsulate<M: FrameMemory>(turn: &mut Turn<'_, '_, M>, frame: Frame, facts: &Facts) {
    let Some(&Tunnel {
        path,
        device,
        domain,
        hop,
        ..
    }) = turn.tunnel.way()
    else {
        return turn.refuse(frame, DropReason::Unresolved, Blame::default());
    };
    let (inner_len, blame) = (
        frame.len(),
        Blame {
            port: None,
            domain: Some(domain),
            hop: Some(hop),
        },
    );
    let variable = facts.variable(&turn.snapshot.settings, domain);
    match UnderlayFrame::prepend(turn, frame, path, variable) {
        Ok(frame) => {
            if turn.queue(device, frame, blame) {
                turn.tunnel.add(inner_len);
            }
        }
        Err(frame) => turn.refuse(frame, DropReason::BadDescriptor, blame),
    }
}

/// What follows the first chunk of a frame.
#[cold]
fn beyond<M: FrameMemory>(turn: &Turn<'_, '_, M>, frame: &Frame, path: &Adjacency) -> Beyond {
    let (first, len) = (frame.first().len(), frame.len());
    let with_sum = path.rewrite.is_v6() && !turn.snapshot.settings.udp6_zero_tx;
    let sum = if with_sum {
        turn.pool.memory().sum(frame, first..len)
    } else {
        Sum::new()
    };
    Beyond {
        len: len - first,
        sum,
    }
}

impl UnderlayFrame {
    /// Puts the outer header of `path` before a frame, in its own headroom; gives the frame back when that is too short.
    #[inline(always)]
    pub(super) fn prepend<M: FrameMemory>(
        turn: &mut Turn<'_, '_, M>,
        mut frame: Frame,
        path: &Adjacency,
        variable: Variable,
    ) -> Result<Self, Frame> {
        if frame.prepend(path.rewrite.size()).is_err() {
            return Err(frame);
        }
        let beyond = if frame.is_chained() {
            beyond(turn, &frame, path)
        } else {
            Beyond::default()
        };
        Ok(Self::write(turn, frame, beyond, path, variable))
    }

    /// Writes the outer header of `path` to the front of a frame, where there is room for it.
    #[inline(always)]
    pub(super) fn write<M: FrameMemory>(
        turn: &mut Turn<'_, '_, M>,
        mut frame: Frame,
        beyond: Beyond,
        path: &Adjacency,
        variable: Variable,
    ) -> Self {
        let packet = turn.pool.memory_mut().bytes_mut(&mut frame);
        encap::write(packet, beyond, &path.rewrite, variable, turn.identification);
        Self(frame)
    }
}

impl TenantFrame {
    /// The path to a VTEP for this frame, if it fits.
    #[inline(always)]
    pub(super) fn tunnel<'t, M: FrameMemory>(
        &self,
        turn: &Turn<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) -> Option<Tunnel<'t>> {
        let (hop, path) = self.way(turn.snapshot, id)?;
        let device = turn.snapshot.ports.device(path.device)?;
        Some(Tunnel {
            id,
            hop,
            path,
            device,
            domain,
        })
    }

    /// A VTEP and the path to it, if the frame fits.
    #[inline(always)]
    pub(super) fn way<'t>(
        &self,
        snapshot: &'t Snapshot,
        id: VtepId,
    ) -> Option<(&'t RemoteVtep, &'t Adjacency)> {
        let hop = snapshot.vteps.get(id)?;
        let path = hop.path(flow::path_hash(self.facts.flow))?;
        (self.frame.len() <= usize::from(path.max_frame)).then_some((hop, path))
    }

    /// All but the usual.
    #[inline(never)]
    fn pass_on<M: FrameMemory>(
        self,
        turn: &mut Turn<'_, '_, M>,
        key: MacKey,
        found: Option<Destination>,
    ) {
        if self.facts.next == Next::Free {
            return turn.pool.give(self.frame);
        }
        let Some(Member { port, domain }) = Member::find(turn.snapshot, self.facts.port) else {
            return turn.refuse(self.frame, DropReason::PortDown, Blame::default());
        };
        if self.facts.next == Next::Resolve {
            if let Some(this) = self.resolve(turn, key, Member { port, domain }) {
                this.forward(turn, key, found, Member { port, domain });
            }
        } else {
            self.forward(turn, key, found, Member { port, domain });
        }
    }

    /// What the frame carries: looked at once more, where it is not the usual.
    fn packet<M: FrameMemory>(&self, turn: &Turn<'_, '_, M>) -> Packet {
        Packet::of_first(turn.pool.memory().bytes(&self.frame), self.frame.len())
    }

    /// Handles ARP and ND; gives back what goes on like any frame.
    fn resolve<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        key: MacKey,
        member: Member<'t>,
    ) -> Option<Self> {
        let Member { port, domain } = member;
        let packet = self.packet(turn);
        match neigh_suppress::resolve(turn, &self.frame, packet, (port, domain)) {
            Ok(Resolved::Forward) => return Some(self),
            Ok(Resolved::Answer(ip, neighbor)) => {
                neigh_suppress::answer(turn, self.frame, packet, (port, domain), (ip, neighbor));
            }
            Ok(Resolved::SamePort) => turn.refuse(self.frame, DropReason::SamePort, member.blame()),
            Err(reason) => {
                self.unlearn(turn, port, key);
                turn.refuse(self.frame, reason, member.blame());
            }
        }
        None
    }

    /// Nothing is learned from what lies.
    fn unlearn<M: FrameMemory>(&self, turn: &mut Turn<'_, '_, M>, port: &PortEntry, key: MacKey) {
        let bytes = turn.pool.memory().bytes(&self.frame);
        let Some(header) = Ethernet::parse(bytes).filter(|_| port.learn.is_some()) else {
            return;
        };
        let source = (port.id, MacKey::new(key.domain(), header.source()));
        if let Some(place) = turn
            .sources
            .iter()
            .rposition(|collected| *collected == source)
        {
            turn.sources.swap_remove(place);
        }
    }

    /// Sends the frame to what was found for its key: one place, or everybody.
    fn forward<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        key: MacKey,
        found: Option<Destination>,
        member: Member<'t>,
    ) {
        let Member { port, domain } = member;
        let target = match found {
            Some(Destination::Port(id)) if id == port.id => {
                return turn.refuse(self.frame, DropReason::SamePort, member.blame());
            }
            Some(Destination::Port(id)) => {
                port_output::find(turn, id, domain, self.frame.len()).map(Target::Port)
            }
            Some(Destination::Vtep(hop)) => self
                .find_tunnel(turn, hop, domain, true)
                .map(Target::Tunnel),
            None => {
                if !turn.limits.may_flood(port.id, port.storm, turn.now_ns) {
                    return turn.refuse(self.frame, DropReason::Storm, member.blame());
                }
                let unicast = !key.mac().is_multicast();
                if unicast && domain.miss_events {
                    turn.tell(
                        port,
                        Notice::MacMissed {
                            domain: domain.id,
                            mac: key.mac(),
                        },
                        NEWS_NS,
                    );
                }
                return self.flood(turn, domain, unicast);
            }
        };
        match target {
            Some(target) => self.send(turn, target),
            None => turn.pool.give(self.frame),
        }
    }

    /// Finds the path to a VTEP for this frame. `None`: the drop has been counted, and, if `answer`, the tenant told
    /// when its packet is too long.
    #[inline(never)]
    pub(super) fn find_tunnel<'t, M: FrameMemory>(
        &self,
        turn: &mut Turn<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
        answer: bool,
    ) -> Option<Tunnel<'t>> {
        if let Some(tunnel) = self.tunnel(turn, id, domain) {
            return Some(tunnel);
        }
        let hop = turn.snapshot.vteps.get(id);
        let blame = Blame {
            port: turn.snapshot.ports.port(self.facts.port),
            domain: Some(domain),
            hop,
        };
        match hop.and_then(|hop| hop.path(flow::path_hash(self.facts.flow))) {
            None => turn.count(DropReason::Unresolved, blame),
            Some(path) if self.frame.len() <= usize::from(path.max_frame) => {
                turn.count(DropReason::PortDown, blame);
            }
            Some(path) => {
                turn.count(DropReason::TooBig, blame);
                if answer {
                    let packet = self.packet(turn);
                    pmtu::answer(
                        turn,
                        &self.frame,
                        packet,
                        (self.facts.port, domain),
                        path.max_frame,
                    );
                }
            }
        }
        None
    }

    #[inline(never)]
    pub(super) fn send<'t, M: FrameMemory>(self, turn: &mut Turn<'t, '_, M>, target: Target<'t>) {
        match target {
            Target::Port(exit) => LocalFrame::new(self.frame).send(turn, exit),
            Target::Tunnel(tunnel) => {
                turn.enter(tunnel);
                encapsulate(turn, self.frame, &self.facts);
            }
        }
    }
}
