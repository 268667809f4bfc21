//! Input from tenant devices: the only frames that can be encapsulated.
//!
//! ```text
//! parse: port, validate, L3, flow hash, checksum
//!   -> lookup -> forward: vxlan_output | port_output | flood
//! ```

use super::cache::{RxPort, TxPort, TxTunnel};
use super::checksum::{self, Work};
use super::context::BurstContext;
use super::learn_event::{CHANGE_INTERVAL_NS, LearnEvent};
use super::meta::{Disposition, DropScope, FrameMeta, IngressPort, TenantBoundFrame, TenantFrame};
use super::neigh_suppress::{self, Action};
use super::parse::L3Info;
use super::port_output;
use super::stages::{Addresses, Input, prefetch_headroom};
use super::superframe::{self, WireSize};
use super::vxlan_output::{encapsulate, encapsulate_run, same_path};
use super::{flood, flow, validate};
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::port::{PortEntry, Role};
use crate::wire::ethernet::Ethernet;
use crate::wire::{ethernet, vlan};

/// Where a frame is sent.
#[derive(Debug, Clone, Copy)]
enum Egress<'t> {
    Port(TxPort<'t>),
    Vtep(TxTunnel<'t>),
}

/// The ingress port of a frame from a trunk, by its VLAN tag, which is removed. Counts the frame
/// for the port.
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
            let index = vlans.binary_search_by_key(&id, |(id, _)| *id);
            let (_, id) = vlans[index.map_err(|_| reject(DropReason::UnknownVlan))?];
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
    if ctx
        .rx_port
        .current()
        .is_none_or(|current| current.0.id != id)
    {
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

/// Access and trunk devices.
pub(super) struct TenantInput;

impl<'t> Input<'t> for TenantInput {
    type Meta = FrameMeta;
    const DROPPED: FrameMeta = FrameMeta::DROPPED;

    /// Also completes the transport checksum, where the sender left that to its hardware.
    #[inline(always)]
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut FrameMeta,
    ) -> MacKey {
        Self::parse_frame::<M, false>(ctx, frame, meta)
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
            // The MAC table has unicast MACs only.
            Some(id) if same_path(ctx, &frame, meta, (id, key)) => encapsulate(ctx, frame, meta),
            _ => TenantFrame { frame, meta: *meta }.forward_slow(ctx, key, found.destination()),
        }
    }

    /// Encapsulates runs of frames of one path together.
    #[inline(always)]
    fn forward_all<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frames: &mut [Frame],
        meta: &[FrameMeta],
        (keys, found): (&[MacKey], &[LookupResult]),
        addresses: &Addresses,
    ) {
        addresses.prefetch_headrooms();
        let mut at = 0;
        while at < frames.len() {
            let (looked_up, ahead) = ((&keys[at..], &found[at..]), addresses.ahead(at));
            let run = encapsulate_run(ctx, &mut frames[at..], &meta[at..], looked_up, ahead);
            at += run;
            if run == 0 {
                prefetch_headroom(ahead[0]);
                Self::forward(ctx, frames[at].take(), &meta[at], keys[at], found[at]);
                at += 1;
            }
        }
    }
}

impl TenantInput {
    /// `SUPERFRAME`: the frame is one that can be cut; its checksum is completed then.
    #[inline(always)]
    fn parse_frame<'t, M: FrameMemory, const SUPERFRAME: bool>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut FrameMeta,
    ) -> MacKey {
        let ingress = match ctx.access {
            Some(ingress) => ingress,
            None => match find_ingress_port(ctx, frame) {
                Ok(ingress) => ingress,
                Err(rejected) => return reject(ctx, frame, meta, rejected),
            },
        };
        let IngressPort { port, domain } = ingress;
        let bytes = ctx.pool.memory().bytes(frame);
        let header = match validate::tenant(bytes, port) {
            Ok(header) => header,
            Err(reason) => return reject(ctx, frame, meta, (reason, ingress.scope())),
        };
        let key = MacKey::of_bits(port.domain, header.destination_bits());
        let source = header.source();
        // Specialized for untagged IPv4 without options, with constant offsets; the general version
        // follows.
        let work = match L3Info::of_plain_v4(bytes) {
            Some(l3) => fill_meta(bytes, l3, ingress, meta),
            None if validate::has_tags(header, domain) => {
                return reject(ctx, frame, meta, (DropReason::Tagged, ingress.scope()));
            }
            None => fill_meta_any(bytes, frame.len(), ingress, meta),
        };
        // Only now: a host is learned from frames that its VNI accepts.
        if port.learn.is_some() {
            ctx.sources
                .push((port.id, MacKey::new(port.domain, source)));
        }
        if SUPERFRAME {
            meta.disposition = Disposition::Superframe;
        } else if let Some(work) = work {
            checksum::finish(ctx.pool.memory_mut(), frame, work);
        }
        key
    }
}

/// [`TenantInput`] for a burst with frames whose senders left something to hardware.
pub(super) struct OffloadInput;

impl<'t> Input<'t> for OffloadInput {
    type Meta = FrameMeta;
    const DROPPED: FrameMeta = FrameMeta::DROPPED;

    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut FrameMeta,
    ) -> MacKey {
        if frame.has_offload() {
            parse_offload(ctx, frame, meta)
        } else {
            TenantInput::parse(ctx, frame, meta)
        }
    }

    #[inline(always)]
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        meta: &FrameMeta,
        key: MacKey,
        found: LookupResult,
    ) {
        TenantInput::forward(ctx, frame, meta, key, found);
    }
}

/// Parses a frame whose sender left something to hardware.
#[inline(never)]
fn parse_offload<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    meta: &mut FrameMeta,
) -> MacKey {
    let received = frame.len() as u64;
    let memory = ctx.pool.memory_mut();
    let finished = superframe::receive(memory, frame);
    let WireSize { frames, bytes, .. } =
        match finished.and_then(|()| WireSize::checked(memory, frame)) {
            Ok(size) => size,
            Err(reason) => {
                let scope = ctx.access.map_or(DropScope::default(), IngressPort::scope);
                return reject(ctx, frame, meta, (reason, scope));
            }
        };
    // What the device has received beyond what was counted: segments, and a tag beside the frame.
    let more = (frames - 1, bytes - received);
    let access = ctx.access.map(|ingress| &ingress.port.counters);
    for counters in [Some(&ctx.device.counters), access].into_iter().flatten() {
        counters.row(ctx.worker).received(more.0, more.1);
    }
    if !frame.has_offload() {
        return TenantInput::parse(ctx, frame, meta);
    }
    let tagged = frame.len();
    let key = TenantInput::parse_frame::<M, true>(ctx, frame, meta);
    let tag = (tagged - frame.len()) as u64;
    if tag > 0 {
        let bytes = bytes - frames * tag;
        ctx.rx_port.add_many(frames - 1, bytes - frame.len() as u64);
    }
    key
}

/// Counts the drop of `frame`; returns a key that no entry has.
#[cold]
fn reject<M>(
    ctx: &BurstContext<'_, '_, M>,
    frame: &Frame,
    meta: &mut FrameMeta,
    (reason, scope): (DropReason, DropScope<'_>),
) -> MacKey
where
    M: FrameMemory,
{
    ctx.count_drops_at(ctx.device, reason, scope, ctx.frames_of(frame));
    *meta = FrameMeta::DROPPED;
    MacKey::default()
}

/// [`fill_meta`] for frames of any kind.
#[inline(never)]
fn fill_meta_any(
    bytes: &[u8],
    len: usize,
    ingress: IngressPort<'_>,
    meta: &mut FrameMeta,
) -> Option<Work> {
    let l3 = L3Info::of_first(bytes, len);
    let work = fill_meta(bytes, l3, ingress, meta);
    if ingress.port.is_unsegmented(len) && meta.disposition == Disposition::Forward {
        meta.disposition = Disposition::Superframe;
    }
    work
}

/// Fills in `meta`; returns what must be done with its checksums. `bytes`: the frame's first segment.
#[inline(always)]
fn fill_meta(
    bytes: &[u8],
    l3: L3Info,
    IngressPort { port, domain }: IngressPort<'_>,
    meta: &mut FrameMeta,
) -> Option<Work> {
    meta.flow = flow::hash(bytes, l3);
    meta.port = port.id;
    meta.tos = l3.tos;
    let is_neighbor_message = neigh_suppress::applies(bytes, l3, port, domain);
    meta.disposition = if is_neighbor_message {
        Disposition::Suppress
    } else {
        Disposition::Forward
    };
    checksum::work(bytes, l3, port.checksum)
}

impl TenantFrame {
    /// Slow path.
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

    /// Handles ARP and ND. Returns the frame when it is forwarded like any other.
    fn suppress<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        key: MacKey,
        ingress: IngressPort<'t>,
    ) -> Option<Self> {
        let IngressPort { port, domain } = ingress;
        let l3 = self.l3_info(ctx);
        match neigh_suppress::process(ctx, &self.frame, l3, (port, domain)) {
            Ok(Action::Forward) => return Some(self),
            Ok(Action::Reply(ip, neighbor)) => {
                neigh_suppress::reply(ctx, self.frame, l3, (port, domain), (ip, neighbor));
            }
            Ok(Action::Hairpin) => ctx.drop_frame(self.frame, DropReason::Hairpin, ingress.scope()),
            Err(reason) => {
                self.forget_source(ctx, port, key);
                ctx.drop_frame(self.frame, reason, ingress.scope());
            }
        }
        None
    }

    /// Discards the source MAC of a spoofed or malformed message, so that it is not learned.
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
        if let Some(index) = ctx
            .sources
            .iter()
            .rposition(|collected| *collected == source)
        {
            ctx.sources.swap_remove(index);
        }
    }

    /// Makes a superframe of a frame that is longer than its port's MTU, where that is possible.
    #[cold]
    fn infer_segments<M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'_, '_, M>,
        port: &PortEntry,
    ) {
        let memory = ctx.pool.memory_mut();
        superframe::infer(memory, &mut self.frame, port);
        let WireSize { frames, bytes, .. } = WireSize::of(memory, &self.frame);
        let (frames, bytes) = (frames - 1, bytes - self.frame.len() as u64);
        let tags = port.vlan.map_or(0, |_| frames * vlan::LEN as u64);
        let row = ctx.device.counters.row(ctx.worker);
        row.received(frames, bytes + tags);
        port.counters.row(ctx.worker).received(frames, bytes);
    }

    /// Sends the frame to the destination of its key, or floods it.
    fn dispatch<'t, M: FrameMemory>(
        mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        key: MacKey,
        found: Option<Destination>,
        ingress: IngressPort<'t>,
    ) {
        let IngressPort { port, domain } = ingress;
        if self.meta.disposition == Disposition::Superframe && !self.frame.has_offload() {
            self.infer_segments(ctx, port);
        }
        let egress = match found.filter(|to| ctx.snapshot.vteps.is_reachable(*to)) {
            Some(Destination::Port(id)) if id == port.id => {
                return ctx.drop_frame(self.frame, DropReason::Hairpin, ingress.scope());
            }
            Some(Destination::Port(id)) => {
                port_output::find_for(ctx, id, domain, &self.frame, Some(port)).map(Egress::Port)
            }
            Some(Destination::Vtep(vtep)) => {
                self.find_tunnel(ctx, vtep, domain, true).map(Egress::Vtep)
            }
            None => {
                let frames = ctx.frames_of(&self.frame);
                if !ctx
                    .limits
                    .may_flood(port.id, port.storm, ctx.now_ns, frames)
                {
                    return ctx.drop_frame(self.frame, DropReason::Storm, ingress.scope());
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
                return flood::enqueue(self, ctx, domain, unicast);
            }
        };
        match egress {
            Some(Egress::Port(tx_port)) => TenantBoundFrame::new(self.frame).send(ctx, tx_port),
            Some(Egress::Vtep(tunnel)) => self.send_to_vtep(ctx, tunnel),
            None => ctx.pool.free(self.frame),
        }
    }
}
