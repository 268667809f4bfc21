//! Frames from tenants: the only ones that can be encapsulated.
//!
//! ```text
//! parse: port, guard, checksum, classify, hash -> TenantFrame -> forward: unicast, or flood (replicate.rs)
//! ```

use super::cache::{RxPort, TxPort, TxTunnel};
use super::checksum::{self, Pending};
use super::context::BurstContext;
use super::learn_event::{CHANGE_INTERVAL_NS, LearnEvent};
use super::meta::{Disposition, DropScope, FrameMeta, IngressPort, TenantFrame};
use super::neigh_suppress::{self, Action};
use super::parse::L3Info;
use super::port_output::{self, TenantBoundFrame};
use super::stages::Input;
use super::vxlan_output::{encapsulate, same_path};
use super::{flow, validate};
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::port::{PortEntry, Role};
use crate::wire::ethernet::Ethernet;
use crate::wire::{ethernet, vlan};

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
enum Egress<'t> {
    Port(TxPort<'t>),
    Vtep(TxTunnel<'t>),
}

/// Finds and counts the port that a frame came from, where the device alone does not say it, and takes the port's VLAN
/// tag off.
fn find_ingress_port<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
) -> Result<IngressPort<'t>, (DropReason, DropScope<'t>)> {
    let snapshot = ctx.snapshot;
    let reject = |reason| (reason, DropScope::default());
    let id = match &ctx.device.role {
        Role::Access(id) => *id,
        Role::Underlay => return Err(reject(DropReason::WrongDestination)),
        Role::Trunk(vlans) => {
            let bytes = ctx.pool.memory_mut().bytes_mut(frame);
            if bytes.len() < ethernet::LEN {
                return Err(reject(DropReason::Runt));
            }
            let id = vlan::id(bytes).ok_or(reject(DropReason::UnknownVlan))?;
            let place = vlans.binary_search_by_key(&id, |(id, _)| *id);
            let (_, id) = vlans[place.map_err(|_| reject(DropReason::UnknownVlan))?];
            vlan::pop(bytes);
            frame
                .trim_front(vlan::LEN as u16)
                .map_err(|_| reject(DropReason::Runt))?;
            id
        }
    };
    let port = snapshot
        .ports
        .port(id)
        .ok_or(reject(DropReason::PortDown))?;
    if ctx.rx_port.current().is_none_or(|way| way.0.id != id) {
        ctx.rx_port.switch(RxPort(port));
    }
    ctx.rx_port.add(frame.len());
    IngressPort::find(snapshot, id).ok_or((
        DropReason::UnknownVni,
        DropScope {
            port: Some(port),
            ..DropScope::default()
        },
    ))
}

/// Frames of tenants' devices.
pub(super) struct TenantInput;

impl<'t> Input<'t> for TenantInput {
    type FrameMeta = FrameMeta;
    const DROPPED: FrameMeta = FrameMeta::NONE;
    const PREPENDS: bool = true;

    /// Also makes the frame's transport checksum right.
    #[inline(always)]
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut FrameMeta,
    ) -> MacKey {
        let member = match ctx.access {
            Some(member) => member,
            None => match find_ingress_port(ctx, frame) {
                Ok(member) => member,
                Err((reason, scope)) => return reject(ctx, meta, reason, scope),
            },
        };
        let IngressPort { port, domain } = member;
        let bytes = ctx.pool.memory().bytes(frame);
        let header = match validate::tenant(bytes, port) {
            Ok(header) => header,
            Err(reason) => return reject(ctx, meta, reason, member.scope()),
        };
        let key = MacKey::of_bits(port.domain, header.destination_bits());
        if port.learn.is_some() {
            ctx.sources
                .push((port.id, MacKey::new(port.domain, header.source())));
        }
        // Twice the same: once for what nearly all frames are, with offsets that the compiler knows.
        let pending = match L3Info::of_plain_v4(bytes) {
            Some(packet) => fill_meta(bytes, packet, member, meta),
            None if validate::has_tags(header, domain) => {
                return reject(ctx, meta, DropReason::Tagged, member.scope());
            }
            None => fill_meta_any(bytes, frame.len(), member, meta),
        };
        if let Some(pending) = pending {
            checksum::fill(ctx.pool.memory_mut(), frame, 0, pending);
        }
        key
    }

    #[inline(always)]
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        meta: &FrameMeta,
        key: MacKey,
        found: LookupResult,
    ) {
        match found.vtep() {
            // Only MACs of hosts are ever found.
            Some(id) if same_path(ctx, &frame, meta, (id, key)) => encapsulate(ctx, frame, meta),
            _ => TenantFrame { frame, meta: *meta }.forward_slow(ctx, key, found.destination()),
        }
    }
}

#[cold]
fn reject<M>(
    ctx: &BurstContext<'_, '_, M>,
    meta: &mut FrameMeta,
    reason: DropReason,
    scope: DropScope<'_>,
) -> MacKey
where
    M: FrameMemory,
{
    ctx.count_drop(reason, scope);
    *meta = FrameMeta::NONE;
    MacKey::default()
}

#[inline(never)]
fn fill_meta_any(
    bytes: &[u8],
    len: usize,
    member: IngressPort<'_>,
    meta: &mut FrameMeta,
) -> Option<Pending> {
    let packet = L3Info::of_first(bytes, len);
    fill_meta(bytes, packet, member, meta)
}

/// Leaves what is found in `meta`; returns the checksum that must be computed. `bytes`: the frame's first ones.
#[inline(always)]
fn fill_meta(
    bytes: &[u8],
    packet: L3Info,
    IngressPort { port, domain }: IngressPort<'_>,
    meta: &mut FrameMeta,
) -> Option<Pending> {
    meta.flow = flow::hash(bytes, packet);
    meta.port = port.id;
    meta.tos = packet.tos;
    let concerns = neigh_suppress::applies(bytes, packet, port, domain);
    meta.disposition = if concerns {
        Disposition::Suppress
    } else {
        Disposition::Forward
    };
    checksum::pending(bytes, packet, port.checksum)
}

impl TenantFrame {
    /// All but the usual.
    #[inline(never)]
    fn forward_slow<M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'_, '_, M>,
        key: MacKey,
        found: Option<Destination>,
    ) {
        if self.meta.disposition == Disposition::Dropped {
            return ctx.pool.free(self.frame);
        }
        let Some(IngressPort { port, domain }) = IngressPort::find(ctx.snapshot, self.meta.port)
        else {
            return ctx.drop_frame(self.frame, DropReason::PortDown, DropScope::default());
        };
        if self.meta.disposition == Disposition::Suppress {
            if let Some(this) = self.suppress(ctx, key, IngressPort { port, domain }) {
                this.dispatch(ctx, key, found, IngressPort { port, domain });
            }
        } else {
            self.dispatch(ctx, key, found, IngressPort { port, domain });
        }
    }

    /// Handles ARP and ND; gives back what goes on like any frame.
    fn suppress<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        key: MacKey,
        member: IngressPort<'t>,
    ) -> Option<Self> {
        let IngressPort { port, domain } = member;
        let packet = self.packet(ctx);
        match neigh_suppress::process(ctx, &self.frame, packet, (port, domain)) {
            Ok(Action::Forward) => return Some(self),
            Ok(Action::Reply(ip, neighbor)) => {
                neigh_suppress::reply(ctx, self.frame, packet, (port, domain), (ip, neighbor));
            }
            Ok(Action::Hairpin) => ctx.drop_frame(self.frame, DropReason::Hairpin, member.scope()),
            Err(reason) => {
                self.forget_source(ctx, port, key);
                ctx.drop_frame(self.frame, reason, member.scope());
            }
        }
        None
    }

    /// Nothing is learned from what lies.
    fn forget_source<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        port: &PortEntry,
        key: MacKey,
    ) {
        let bytes = ctx.pool.memory().bytes(&self.frame);
        let Some(header) = Ethernet::parse(bytes).filter(|_| port.learn.is_some()) else {
            return;
        };
        let source = (port.id, MacKey::new(key.domain(), header.source()));
        if let Some(place) = ctx
            .sources
            .iter()
            .rposition(|collected| *collected == source)
        {
            ctx.sources.swap_remove(place);
        }
    }

    /// Sends the frame to what was found for its key: one place, or everybody.
    fn dispatch<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        key: MacKey,
        found: Option<Destination>,
        member: IngressPort<'t>,
    ) {
        let IngressPort { port, domain } = member;
        let target = match found {
            Some(Destination::Port(id)) if id == port.id => {
                return ctx.drop_frame(self.frame, DropReason::Hairpin, member.scope());
            }
            Some(Destination::Port(id)) => {
                port_output::find(ctx, id, domain, self.frame.len()).map(Egress::Port)
            }
            Some(Destination::Vtep(vtep)) => {
                self.find_tunnel(ctx, vtep, domain, true).map(Egress::Vtep)
            }
            None => {
                if !ctx.limits.may_flood(port.id, port.storm, ctx.now_ns) {
                    return ctx.drop_frame(self.frame, DropReason::Storm, member.scope());
                }
                let unicast = !key.mac().is_multicast();
                if unicast && domain.miss_events {
                    ctx.notify(
                        port,
                        LearnEvent::MacMiss {
                            domain: domain.id,
                            mac: key.mac(),
                        },
                        CHANGE_INTERVAL_NS,
                    );
                }
                return self.flood(ctx, domain, unicast);
            }
        };
        match target {
            Some(Egress::Port(exit)) => TenantBoundFrame::new(self.frame).send(ctx, exit),
            Some(Egress::Vtep(tunnel)) => self.send_to_vtep(ctx, tunnel),
            None => ctx.pool.free(self.frame),
        }
    }
}
