//! Head-end replication: a tenant's broadcast, multicast or unknown unicast frame is sent once to
//! each other port and to each VTEP of its VNI (RFC 7348 section 4.2, by unicast).
//!
//! ```text
//! enqueue -> FloodQueue -> replicate, once per iteration -> ports: copies
//!    |                                                   -> VTEPs: [header] -> shared payload
//!    +-> at once, while nothing waits and the receivers are few
//! ```
//!
//! A flood to a thousand VTEPs must not delay the frames of other ports. Each iteration therefore
//! makes at most [`COPIES_PER_ITERATION`] copies, and the next one continues after the last
//! receiver that was served. Receivers are sorted by ID, so that none is served twice when the list
//! changes in between. The ports' floods, and what the overlay floods to each domain, are served by
//! deficit round robin ([`super::flood_queue`]); those of one source keep their order. A frame to a few
//! receivers is served at once when none waits: it needs no place in a queue.
//!
//! Where the underlay device sends multi-buffer frames, a copy is an outer header that is linked to
//! the payload's chunks ([`crate::frame::chain`]). All copies share these; nothing writes to them any
//! more. On other devices, and for short frames, the payload is copied. Headers and short copies lie
//! side by side in a chunk ([`super::flood_copy`]). The last VTEP gets the frame itself, unless its
//! chunks are shared or a copy costs less. A superframe is cut for each receiver that takes none.

use super::context::BurstContext;
use super::cut::Superframe;
use super::encap::Tail;
use super::flood_copy::{Copies, CopyPath, Shared};
use super::flood_queue::{
    FloodSource, NextReceiver, Pending, PendingFlood, Slot, after, after_place,
};
use super::meta::{DropScope, TenantBoundFrame, TenantFrame};
use super::port_output;
use super::vxlan_output::cut_to_vtep;
use crate::addr::{PortId, VtepId};
use crate::drop::DropReason;
use crate::frame::{BURST, FrameMemory};
use crate::table::port::Device;
use crate::table::vni::Domain;
use crate::wire::checksum::Sum;

/// Copies that a worker makes in one iteration: half a burst. A copy may cost as much as forwarding
/// a frame, and a busy port must keep more than half of the worker's time.
pub const COPIES_PER_ITERATION: usize = BURST / 2;

/// Floods a frame, at once or later, to all ports of `domain`, except its ingress port, and to all of
/// the domain's VTEPs. `unicast`: the sender may be sent an ICMP error when it is too long.
pub(super) fn enqueue<'t, M: FrameMemory>(
    frame: TenantFrame,
    ctx: &mut BurstContext<'t, '_, M>,
    domain: &'t Domain,
    unicast: bool,
) {
    let scope = DropScope {
        port: ctx.snapshot.ports.port(frame.meta.port),
        domain: Some(domain),
        vtep: None,
    };
    let source = FloodSource::Port(frame.meta.port);
    let no_other_port = match &*domain.flood.ports {
        [] => true,
        [one] => *one == frame.meta.port,
        _ => false,
    };
    match &*domain.flood.vteps {
        [] if no_other_port => {
            return ctx.drop_frame(frame.frame, DropReason::NoFloodTarget, scope);
        }
        // A single VTEP, and no order to keep: as cheap as unicast.
        [one] if no_other_port && !ctx.floods.has_pending(source) => {
            return match frame.find_tunnel(ctx, *one, domain, unicast) {
                Some(tunnel) => frame.send_to_vtep(ctx, tunnel),
                None => ctx.pool.free(frame.frame),
            };
        }
        _ => {}
    }
    let flood = PendingFlood {
        frame,
        origin: ctx.flood_origin(domain.id),
        report_too_big: unicast,
        next: NextReceiver::Port(None),
        served: 0,
        references: None,
        sum: None,
    };
    let receivers = domain.flood.ports.len() + domain.flood.vteps.len();
    let at_once = !flood.frame.frame.has_offload() && ctx.floods.may_serve_at_once(receivers);
    let unserved = if at_once {
        flood.serve_at_once(ctx, domain)
    } else {
        Some(flood)
    };
    if let Some(flood) = unserved {
        ctx.queue_flood(source, Pending::Tenant(flood), scope);
    }
}

/// Serves receivers of the pending frames, up to [`COPIES_PER_ITERATION`] with those that were served
/// at once since the last call. Returns the number of both; fewer mean that no frame is pending.
pub(super) fn replicate<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    at_once: usize,
) -> usize {
    let mut left = COPIES_PER_ITERATION - at_once.min(COPIES_PER_ITERATION);
    // Served where they are: moving one costs as much as some copies.
    let mut slots = ctx.floods.take_slots();
    while left > 0
        && let Some((slot, allowed)) = ctx.floods.next()
    {
        let Slot { flood, next } = &mut slots[slot];
        let made = serve(flood, ctx, allowed.min(left));
        // A flood without receivers left counts as one too.
        let made = made.clamp(1, left);
        left -= made;
        ctx.floods.served(made, flood.is_none().then_some(*next));
    }
    ctx.floods.restore(slots);
    COPIES_PER_ITERATION - left
}

/// Serves up to `limit` receivers of a flood, and takes it when it has no others. Returns their number.
fn serve<M: FrameMemory>(
    flood: &mut Option<Pending>,
    ctx: &mut BurstContext<'_, '_, M>,
    limit: usize,
) -> usize {
    if let Some(Pending::Tenant(tenant)) = flood {
        let made = tenant.serve(ctx, limit);
        if tenant.is_served()
            && let Some(Pending::Tenant(tenant)) = flood.take()
        {
            tenant.finish(ctx);
        }
        return made;
    }
    let Some(Pending::Overlay(overlay)) = flood.take() else {
        return 0;
    };
    let (made, rest) = overlay.serve(ctx, limit);
    *flood = rest;
    made
}

impl PendingFlood {
    /// Serves up to `limit` receivers. Returns their number.
    fn serve<M: FrameMemory>(&mut self, ctx: &mut BurstContext<'_, '_, M>, limit: usize) -> usize {
        // Segments are copies too.
        let segments = ctx.frames_of(&self.frame.frame) as usize;
        if segments == 1 {
            return self.advance(ctx, limit);
        }
        self.advance(ctx, limit.div_ceil(segments)) * segments
    }

    /// True when no other receiver is left than one that gets the frame itself.
    const fn is_served(&self) -> bool {
        matches!(self.next, NextReceiver::Last(_) | NextReceiver::Done)
    }

    /// Serves all receivers, in the burst that received the frame. Returns the flood if any are left.
    #[inline(never)]
    fn serve_at_once<'t, M: FrameMemory>(
        mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
    ) -> Option<Self> {
        self.serve_ports(ctx, domain, None, usize::MAX);
        if let NextReceiver::Vtep(last) = self.next {
            self.serve_vteps(ctx, domain, last, usize::MAX);
        }
        if self.is_served() {
            self.finish(ctx);
            return None;
        }
        Some(self)
    }

    /// Sends the frame itself to the last receiver, if one is left, or frees it.
    fn finish<M: FrameMemory>(self, ctx: &mut BurstContext<'_, '_, M>) {
        match self.next {
            NextReceiver::Last(vtep) => self.serve_last(ctx, vtep),
            NextReceiver::Done | NextReceiver::Port(_) | NextReceiver::Vtep(_) => {
                self.free(ctx.pool);
            }
        }
    }

    /// Serves up to `limit` receivers. Returns the number of receivers.
    fn advance<M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'_, '_, M>,
        limit: usize,
    ) -> usize {
        let snapshot = ctx.snapshot;
        let (device, domain) = (
            snapshot.ports.device(self.origin.device),
            snapshot.vnis.domain(self.origin.domain),
        );
        let (Some(device), Some(domain)) = (device, domain) else {
            // Removed from the tables while the frame was pending: the counters are gone.
            self.next = NextReceiver::Done;
            return 0;
        };
        ctx.device = device;
        let mut served = 0;
        if let NextReceiver::Port(last) = self.next {
            served = self.serve_ports(ctx, domain, last, limit);
        }
        if let NextReceiver::Vtep(last) = self.next
            && served < limit
        {
            served += self.serve_vteps(ctx, domain, last, limit - served);
        }
        served
    }

    /// Sends copies to up to `limit` local ports after `last`. Returns the number of ports.
    fn serve_ports<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
        last: Option<PortId>,
        limit: usize,
    ) -> usize {
        let (snapshot, from) = (ctx.snapshot, self.frame.meta.port);
        let mut others = after(&domain.flood.ports, last)
            .iter()
            .filter(|port| **port != from);
        let mut served = 0;
        for port in others.by_ref().take(limit) {
            served += 1;
            self.next = NextReceiver::Port(Some(*port));
            let Some(tx_port) = port_output::find_for(
                ctx,
                *port,
                domain,
                &self.frame.frame,
                snapshot.ports.port(from),
            ) else {
                continue;
            };
            if self.frame.frame.has_offload() {
                port_output::send_copy(ctx, &self.frame.frame, tx_port);
                continue;
            }
            match ctx.copy(&self.frame.frame) {
                Some(copy) => TenantBoundFrame::new(copy).send(ctx, tx_port),
                None => self.count_no_frame(ctx, domain),
            }
        }
        if others.next().is_none() {
            self.next = if domain.flood.vteps.is_empty() {
                NextReceiver::Done
            } else {
                NextReceiver::Vtep(None)
            };
        }
        served
    }

    /// Sends copies to up to `limit` VTEPs after `last`, but not to the one that gets the frame
    /// itself. Returns the number of VTEPs.
    fn serve_vteps<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
        last: Option<VtepId>,
        limit: usize,
    ) -> usize {
        let all = &*domain.flood.vteps;
        let vteps = after_place(all, last, self.served as usize);
        let now = &vteps[..limit.min(vteps.len())];
        let is_end = now.len() == vteps.len();
        self.served = (all.len() - vteps.len() + now.len()) as u32;
        let mut rest = now;
        self.next = match now.last() {
            Some(last) if !is_end => NextReceiver::Vtep(Some(*last)),
            _ => NextReceiver::Done,
        };
        while let [id, others @ ..] = rest {
            let path = if self.frame.frame.has_offload() {
                None
            } else {
                CopyPath::find(ctx.snapshot, &self.frame, *id)
            };
            // The last VTEP may get the frame itself.
            let len = self.frame.frame.len();
            let wants_frame = path.is_none_or(|path| !path.prefers_copies(len));
            let keep = usize::from(is_end && self.references.is_none() && wants_frame);
            if others.len() < keep {
                self.next = NextReceiver::Last(*id);
                break;
            }
            let served = match path {
                Some(path) => {
                    let left = vteps.len() - now.len() + rest.len();
                    let payload = self.share(ctx, &path, left);
                    let keep = payload.map_or(keep, |_| 0);
                    self.send_batch(ctx, &path, domain, &rest[..rest.len() - keep], payload)
                }
                None => {
                    self.send_other(ctx, *id, domain);
                    1
                }
            };
            rest = &rest[served..];
        }
        now.len()
    }

    /// Sends the segments of a superframe to a VTEP, or counts the drop of the copy for one that can't
    /// be reached.
    #[cold]
    fn send_other<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) {
        match self.frame.lookup_tunnel(ctx, id, domain) {
            Some(tunnel) => {
                let superframe = Superframe::Kept(&self.frame.frame);
                cut_to_vtep(ctx, superframe, &self.frame.meta, tunnel);
            }
            None => {
                self.frame.find_tunnel(ctx, id, domain, self.report_too_big);
                self.report_too_big = false;
            }
        }
    }

    /// Sends the frame itself to the last VTEP.
    fn serve_last<M: FrameMemory>(self, ctx: &mut BurstContext<'_, '_, M>, id: VtepId) {
        let Self {
            frame,
            origin,
            report_too_big,
            ..
        } = self;
        let domain = ctx.snapshot.vnis.domain(origin.domain);
        match domain.and_then(|domain| frame.find_tunnel(ctx, id, domain, report_too_big)) {
            Some(tunnel) => frame.send_to_vtep(ctx, tunnel),
            None => ctx.pool.free(frame.frame),
        }
    }

    /// Sends to VTEPs of `ids`, of which the first has the path `first`, while their paths are on the
    /// same device. Each gets a header before the shared payload, or a copy. Returns how many of them
    /// were served, at least one.
    #[inline(never)]
    fn send_batch<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        first: &CopyPath<'t>,
        domain: &'t Domain,
        ids: &[VtepId],
        shared: Option<Shared>,
    ) -> usize {
        let (device, len) = (first.device, self.frame.frame.len());
        let payload = shared.map(|shared| shared.payload);
        let tail = match payload {
            Some(payload) => Tail {
                len: payload.len(),
                sum: if first.is_v6() {
                    self.sum(ctx)
                } else {
                    Sum::new()
                },
            },
            None if self.frame.frame.is_chained() => return self.send_copy(ctx, ids, domain),
            None => Tail::default(),
        };
        let copies = Copies {
            frame: &self.frame,
            payload,
            tail,
            device: device.id,
            fields: self
                .frame
                .meta
                .per_packet_fields(&ctx.snapshot.settings, domain),
        };
        let chunks = copies.chunks(ctx);
        let accepted = ctx.out.accepts(device.id, chunks);
        if accepted == 0 {
            self.count_refused(ctx, device, domain, ids);
            return 1;
        }
        let limit = accepted.min(shared.map_or(usize::MAX, |shared| shared.limit));
        let made = copies.make(ctx, first, &ids[..ids.len().min(limit)], chunks);
        if made == 0 {
            self.count_no_frame(ctx, domain);
            return 1;
        }
        if shared.is_some() {
            self.references = self.references.map(|left| left - made as u32);
        }
        let bytes = (made * len) as u64;
        let headers = (made * first.header_len()) as u64;
        device
            .counters
            .row(ctx.worker)
            .sent(made as u64, bytes + headers);
        domain.counters.row(ctx.worker).sent(made as u64, bytes);
        made
    }

    /// Counts the copy for the first of `ids` as refused by its device.
    #[cold]
    fn count_refused<M: FrameMemory>(
        &self,
        ctx: &BurstContext<'_, '_, M>,
        device: &Device,
        domain: &Domain,
        ids: &[VtepId],
    ) {
        let len = self.frame.frame.len();
        let first = ids
            .first()
            .and_then(|id| self.frame.adjacency(ctx.snapshot, *id, len));
        let scope = DropScope {
            port: None,
            domain: Some(domain),
            vtep: first.map(|(vtep, _)| vtep),
        };
        ctx.count_refused(device, scope, 1);
    }

    /// Sends a copy of a frame of several chunks, which the device does not take shared, to the first of
    /// `ids`. Returns 1.
    #[cold]
    fn send_copy<'t, M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'t, '_, M>,
        ids: &[VtepId],
        domain: &'t Domain,
    ) -> usize {
        let first = ids
            .first()
            .and_then(|id| self.frame.lookup_tunnel(ctx, *id, domain));
        if let Some(tunnel) = first {
            match ctx.copy(&self.frame.frame) {
                Some(frame) => {
                    let meta = self.frame.meta;
                    TenantFrame { frame, meta }.send_to_vtep(ctx, tunnel);
                }
                None => self.count_no_frame(ctx, domain),
            }
        }
        1
    }

    /// The checksum of the payload, where UDP checksums are sent over IPv6.
    #[inline(never)]
    fn sum<M: FrameMemory>(&mut self, ctx: &BurstContext<'_, '_, M>) -> Sum {
        if ctx.snapshot.settings.udp6_zero_tx {
            return Sum::new();
        }
        let frame = &self.frame.frame;
        *self
            .sum
            .get_or_insert_with(|| ctx.pool.memory().sum(frame, 0..frame.len()))
    }

    #[cold]
    fn count_no_frame<M: FrameMemory>(&self, ctx: &BurstContext<'_, '_, M>, domain: &Domain) {
        let port = ctx.snapshot.ports.port(self.frame.meta.port);
        ctx.count_drop(
            DropReason::NoFrame,
            DropScope {
                port,
                domain: Some(domain),
                vtep: None,
            },
        );
    }
}
