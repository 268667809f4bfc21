//! Frames from tenants: the only ones that can be encapsulated.
//!
//! ```text
//! admit: port, guard, checksum, classify, hash -> TenantFrame -> forward: unicast, or flood (replicate.rs)
//! ```

use super::cache::{Exit, Ingress, Tunnel};
use super::checksum::{self, Pending};
use super::context::Turn;
use super::learn_event::{NEWS_NS, Notice};
use super::meta::{Blame, Facts, Member, Next, TenantFrame};
use super::neigh_suppress::{self, Resolved};
use super::parse::Packet;
use super::port_output::{self, LocalFrame};
use super::stages::Side;
use super::vxlan_output::{encapsulate, goes_on};
use super::{flow, validate};
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::port::{PortEntry, Role};
use crate::wire::ethernet::Ethernet;
use crate::wire::{ethernet, vlan};

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
enum Target<'t> {
    Port(Exit<'t>),
    Tunnel(Tunnel<'t>),
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

impl TenantFrame {
    /// All but the usual.
    #[inline(never)]
    fn pass_on<M: FrameMemory>(
        self,
        turn: &mut Turn<'_, '_, M>,
        key: MacKey,
        found: Option<Destination>,
    ) {
        if self.facts.next == Next::Free {
            return turn.pool.free(self.frame);
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
            Some(Target::Port(exit)) => LocalFrame::new(self.frame).send(turn, exit),
            Some(Target::Tunnel(tunnel)) => self.send_to_vtep(turn, tunnel),
            None => turn.pool.free(self.frame),
        }
    }
}
