//! Head-end replication: a tenant's broadcast, multicast or unknown unicast frame is sent once to
//! each other port and to each VTEP of its VNI (RFC 7348 section 4.2, by unicast).
//!
//! ```text
//! enqueue -> FloodQueue -> replicate, once per iteration -> ports: copies
//!                                                        -> VTEPs: [header] -> shared payload
//! ```
//!
//! A flood to a thousand VTEPs must not delay the frames of other ports. Each iteration therefore
//! makes at most [`COPIES_PER_ITERATION`] copies, and the next one continues after the last
//! receiver that was served. Receivers are sorted by ID, so that none is served twice when the list
//! changes in between. The ports' floods, and what the overlay floods to each domain, are served by
//! deficit round robin ([`super::flood_queue`]); those of one source keep their order.
//!
//! Where the underlay device sends multi-buffer frames, a copy is an outer header that is linked to
//! the payload's chunks ([`crate::frame::chain`]). All copies share these; nothing writes to them any
//! more. On other devices, and for short frames, the payload is copied. Headers and short copies lie
//! side by side in a chunk ([`super::flood_copy`]). The last VTEP gets the frame itself, unless its
//! chunks are shared. A superframe is cut for each receiver that takes none.

use super::cache::TxTunnel;
use super::context::BurstContext;
use super::cut::Superframe;
use super::encap::Tail;
use super::flood_copy::Copies;
use super::flood_queue::{FloodSource, NextReceiver, Pending, PendingFlood, after, after_place};
use super::meta::{DropScope, TenantBoundFrame, TenantFrame};
use super::port_output;
use super::vxlan_output::cut_to_vtep;
use crate::addr::{PortId, VtepId};
use crate::drop::DropReason;
use crate::frame::chain::SharedPayload;
use crate::frame::{BURST, FrameMemory};
use crate::table::encapsulation::MAX_HEADER;
use crate::table::vni::Domain;
use crate::wire::checksum::Sum;

/// Copies that a worker makes in one iteration: half a burst. A copy may cost as much as forwarding
/// a frame, and a busy port must keep more than half of the worker's time.
pub const COPIES_PER_ITERATION: usize = BURST / 2;

/// The shortest frame whose chunks are shared, bytes. Copying a shorter one costs less than the
/// second buffer costs the kernel.
const MIN_SHARED_LEN: usize = 256;

/// Queues a frame to be flooded to all ports of `domain`, except its ingress port, and to all of
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
        copies_left: None,
        sum: None,
    };
    ctx.queue_flood(source, Pending::Tenant(flood), scope);
}

/// Serves up to [`COPIES_PER_ITERATION`] receivers of the pending frames. Returns the number of
/// receivers; 0 means that no frame is pending.
pub(super) fn replicate<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>) -> usize {
    let mut left = COPIES_PER_ITERATION;
    while left > 0
        && let Some((flood, allowed)) = ctx.floods.next()
    {
        let (made, flood) = match flood {
            Pending::Tenant(flood) => flood.serve(ctx, allowed.min(left)),
            Pending::Overlay(flood) => flood.serve(ctx, allowed.min(left)),
        };
        // A flood without receivers left counts as one too.
        let made = made.clamp(1, left);
        left -= made;
        ctx.floods.served(made, flood);
    }
    COPIES_PER_ITERATION - left
}

impl PendingFlood {
    /// Serves up to `limit` receivers. Returns their number, and the flood while it has others.
    fn serve<M: FrameMemory>(
        mut self,
        ctx: &mut BurstContext<'_, '_, M>,
        limit: usize,
    ) -> (usize, Option<Pending>) {
        // Segments are copies too.
        let segments = ctx.frames_of(&self.frame.frame) as usize;
        let made = self.advance(ctx, limit.div_ceil(segments)) * segments;
        match self.next {
            NextReceiver::Last(vtep) => self.serve_last(ctx, vtep),
            NextReceiver::Done => self.free(ctx.pool),
            NextReceiver::Port(_) | NextReceiver::Vtep(_) => {
                return (made, Some(Pending::Tenant(self)));
            }
        }
        (made, None)
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
            // The last VTEP may get the frame itself.
            let keep = usize::from(is_end && self.copies_left.is_none());
            if others.len() < keep {
                self.next = NextReceiver::Last(*id);
                break;
            }
            let served = match self.frame.lookup_tunnel(ctx, *id, domain) {
                Some(tunnel) if self.frame.frame.has_offload() => {
                    let superframe = Superframe::Kept(&self.frame.frame);
                    cut_to_vtep(ctx, superframe, &self.frame.meta, tunnel);
                    1
                }
                Some(tunnel) => {
                    let left = vteps.len() - now.len() + rest.len();
                    let payload = self.share(ctx, &tunnel, left);
                    let keep = payload.map_or(keep, |_| 0);
                    self.send_batch(ctx, tunnel, &rest[..rest.len() - keep], payload)
                }
                None => {
                    self.count_unreachable(ctx, *id, domain);
                    1
                }
            };
            rest = &rest[served..];
        }
        now.len()
    }

    /// Counts the drop of the copy for a VTEP that can't be reached.
    #[cold]
    fn count_unreachable<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) {
        self.frame.find_tunnel(ctx, id, domain, self.report_too_big);
        self.report_too_big = false;
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

    /// The frame's chunks, when the copy for a VTEP may share them. The first such copy shares them
    /// with all that follow, `left` in total. `None`: the payload must be copied.
    #[inline]
    fn share<M: FrameMemory>(
        &mut self,
        ctx: &BurstContext<'_, '_, M>,
        tunnel: &TxTunnel<'_>,
        left: usize,
    ) -> Option<SharedPayload> {
        if !tunnel.device.multi_buffer || self.frame.frame.len() < MIN_SHARED_LEN {
            return None;
        }
        let payload = SharedPayload::new(&self.frame.frame, MAX_HEADER)?;
        if self.copies_left.is_none() {
            let copies = left as u32;
            let table = ctx.pool.memory().segments();
            table.share(self.frame.frame.chunk(), copies + 1);
            table
                .rest(&self.frame.frame)
                .for_each(|segment| table.share(segment.chunk(), copies + 1));
            self.copies_left = Some(copies);
        }
        // The list may have grown since: copies that were not counted then don't share.
        (self.copies_left > Some(0)).then_some(payload)
    }

    /// Sends to VTEPs of `ids`, of which the first is that of `first`, whose path is on the same
    /// device. Each gets a header before the shared payload, or a copy. Returns how many of them
    /// were served, at least one.
    #[inline(never)]
    fn send_batch<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        first: TxTunnel<'t>,
        ids: &[VtepId],
        payload: Option<SharedPayload>,
    ) -> usize {
        let TxTunnel { device, domain, .. } = first;
        let len = self.frame.frame.len();
        let tail = match payload {
            Some(payload) if first.path.rewrite.is_v6() => Tail {
                len: payload.len(),
                sum: self.sum(ctx),
            },
            Some(payload) => Tail {
                len: payload.len(),
                sum: Sum::new(),
            },
            None if self.frame.frame.is_chained() => return self.send_copy(ctx, first),
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
            let scope = DropScope {
                port: None,
                domain: Some(domain),
                vtep: Some(first.vtep),
            };
            ctx.count_refused(device, scope, 1);
            return 1;
        }
        let shared = payload.and(self.copies_left);
        let limit = accepted.min(shared.map_or(usize::MAX, |left| left as usize));
        let made = copies.make(ctx, first.path, &ids[..ids.len().min(limit)], chunks);
        if made == 0 {
            self.count_no_frame(ctx, domain);
            return 1;
        }
        if payload.is_some() {
            self.copies_left = shared.map(|left| left - made as u32);
        }
        let (sent, bytes) = (made as u64, (made * len) as u64);
        let headers = sent * u64::from(first.path.rewrite.size());
        device.counters.row(ctx.worker).sent(sent, bytes + headers);
        domain.counters.row(ctx.worker).sent(sent, bytes);
        made
    }

    /// Sends a copy of a frame of several chunks, which the device does not take shared. Returns 1.
    #[cold]
    fn send_copy<'t, M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'t, '_, M>,
        tunnel: TxTunnel<'t>,
    ) -> usize {
        match ctx.copy(&self.frame.frame) {
            Some(frame) => {
                let meta = self.frame.meta;
                TenantFrame { frame, meta }.send_to_vtep(ctx, tunnel);
            }
            None => self.count_no_frame(ctx, tunnel.domain),
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
