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
//! changes in between. The floods of different ports are served round-robin; those of one port keep
//! their order.
//!
//! Where the underlay device sends multi-buffer frames, a copy is an outer header in a chunk of its
//! own that is linked to the payload's chunks ([`crate::frame::chain`]). All copies share these;
//! nothing writes to them any more. On other devices, and for short frames, the payload is copied.
//! The last VTEP gets the frame itself, unless its chunks are shared.

use super::cache::TxTunnel;
use super::context::BurstContext;
use super::encap::{PerPacketFields, Tail};
use super::flood_queue::{NextReceiver, PendingFlood};
use super::meta::{DropScope, TenantFrame};
use super::port_output::{self, TenantBoundFrame};
use super::vxlan_output::EncapsulatedFrame;
use crate::addr::{PortId, VtepId};
use crate::drop::DropReason;
use crate::frame::chain::SharedPayload;
use crate::frame::{self, BURST, FrameMemory};
use crate::table::encapsulation::MAX_HEADER;
use crate::table::vni::Domain;
use crate::table::vtep::Adjacency;
use crate::wire::checksum::Sum;

/// Copies that a worker makes in one iteration: half a burst. A copy may cost as much as forwarding
/// a frame, and a busy port must keep more than half of the worker's time.
pub const COPIES_PER_ITERATION: usize = BURST / 2;

/// Copies that are made for one port's floods before another port's.
const QUANTUM: usize = 16;

/// The shortest frame whose chunks are shared, bytes. Copying a shorter one costs less than the
/// second buffer costs the kernel.
const MIN_SHARED_LEN: usize = 256;

/// The part of a sorted list after `last`.
fn after<T: Ord + Copy>(list: &[T], last: Option<T>) -> &[T] {
    last.map_or(list, |last| {
        &list[list.partition_point(|one| *one <= last)..]
    })
}

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
    let others = domain
        .flood
        .ports
        .iter()
        .filter(|port| **port != frame.meta.port);
    match (&*domain.flood.vteps, others.count()) {
        ([], 0) => return ctx.drop_frame(frame.frame, DropReason::NoFloodTarget, scope),
        // A single VTEP, and no order to keep: as cheap as unicast.
        ([one], 0) if !ctx.floods.has_pending(frame.meta.port) => {
            return match frame.find_tunnel(ctx, *one, domain, unicast) {
                Some(tunnel) => frame.send_to_vtep(ctx, tunnel),
                None => ctx.pool.free(frame.frame),
            };
        }
        _ if !ctx.floods.has_capacity(frame.meta.port) => {
            return ctx.drop_frame(frame.frame, DropReason::FloodFull, scope);
        }
        _ => {}
    }
    ctx.floods.pending.push_back(PendingFlood {
        frame,
        device: ctx.device.id,
        domain: domain.id,
        report_too_big: unicast,
        next: NextReceiver::Port(None),
        copies_left: None,
        sum: None,
    });
}

/// Serves up to [`COPIES_PER_ITERATION`] receivers of the pending frames. Returns the number of
/// receivers; 0 means that no frame is pending.
pub(super) fn replicate<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>) -> usize {
    // Nothing is queued meanwhile: the steps below flood no frame.
    let mut pending = std::mem::take(&mut ctx.floods.pending);
    let mut left = COPIES_PER_ITERATION;
    let mut at = 0;
    while left > 0 && !pending.is_empty() {
        at = if at < pending.len() { at } else { 0 };
        let port = pending[at].frame.meta.port;
        if pending
            .iter()
            .take(at)
            .any(|before| before.frame.meta.port == port)
        {
            at += 1;
            continue;
        }
        let flood = &mut pending[at];
        // A flood without receivers left counts as one too.
        left -= flood.advance(ctx, QUANTUM.min(left)).max(1);
        let next = flood.next;
        if !matches!(next, NextReceiver::Last(_) | NextReceiver::Done) {
            at += 1;
            continue;
        }
        match (pending.remove(at), next) {
            (Some(flood), NextReceiver::Last(vtep)) => flood.serve_last(ctx, vtep),
            (flood, _) => flood.into_iter().for_each(|flood| flood.free(ctx.pool)),
        }
    }
    ctx.floods.pending = pending;
    COPIES_PER_ITERATION - left
}

impl PendingFlood {
    /// Serves up to `limit` receivers. Returns the number of receivers.
    fn advance<M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'_, '_, M>,
        limit: usize,
    ) -> usize {
        let snapshot = ctx.snapshot;
        let (device, domain) = (
            snapshot.ports.device(self.device),
            snapshot.vnis.domain(self.domain),
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
        let from = self.frame.meta.port;
        let mut others = after(&domain.flood.ports, last)
            .iter()
            .filter(|port| **port != from);
        let mut served = 0;
        for port in others.by_ref().take(limit) {
            served += 1;
            self.next = NextReceiver::Port(Some(*port));
            let Some(tx_port) = port_output::find(ctx, *port, domain, self.frame.frame.len())
            else {
                continue;
            };
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

    /// Sends copies to up to `limit` VTEPs, at most [`QUANTUM`], after `last`, but not to the one
    /// that gets the frame itself. Returns the number of VTEPs.
    fn serve_vteps<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
        last: Option<VtepId>,
        limit: usize,
    ) -> usize {
        let vteps = after(&domain.flood.vteps, last);
        let mut now = &vteps[..limit.min(vteps.len())];
        if self.copies_left.is_none() && now.len() == vteps.len() {
            // The last VTEP may get the frame itself.
            match now {
                [last] => {
                    self.next = NextReceiver::Last(*last);
                    return 0;
                }
                [others @ .., _] => now = others,
                [] => {}
            }
        }
        let left = vteps.len() - now.len();
        let mut rest = now;
        while let [id, others @ ..] = rest {
            rest = others;
            match self.frame.lookup_tunnel(ctx, *id, domain) {
                Some(tunnel) => {
                    let payload = self.share(ctx, &tunnel, left + 1 + others.len());
                    rest = &others[self.send_batch(ctx, &tunnel, others, payload)..];
                }
                None => self.count_unreachable(ctx, *id, domain),
            }
        }
        self.next = match now.last() {
            Some(last) if left > 0 => NextReceiver::Vtep(Some(*last)),
            _ => NextReceiver::Done,
        };
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
            domain,
            report_too_big,
            ..
        } = self;
        let domain = ctx.snapshot.vnis.domain(domain);
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

    /// Sends to the VTEP of `first`, and to the VTEPs of `others` up to the first one whose path is
    /// on another device. Each gets a header before the shared payload, or a copy. Returns how many
    /// of `others` were served.
    #[inline(never)]
    fn send_batch<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        first: &TxTunnel<'t>,
        others: &[VtepId],
        payload: Option<SharedPayload>,
    ) -> usize {
        let &TxTunnel { device, domain, .. } = first;
        let fields = self
            .frame
            .meta
            .per_packet_fields(&ctx.snapshot.settings, domain);
        let len = self.frame.frame.len() as u64;
        let (snapshot, worker) = (ctx.snapshot, ctx.worker);
        let (mut made, mut sent, mut bytes, mut done) = (0, 0, 0, 0);
        let allowed = payload.map_or(usize::MAX, |_| self.copies_left.unwrap_or(0) as usize - 1);
        let (mut vtep, mut path) = (first.vtep, first.path);
        let mut others = others.iter().take(allowed);
        loop {
            let frame = match payload {
                Some(payload) => self.make_header(ctx, path, payload, fields),
                None => self.copy(ctx, path, fields),
            };
            match frame {
                None => self.count_no_frame(ctx, domain),
                Some(frame) => {
                    made += 1;
                    if ctx.enqueue_to_vtep(device, frame, domain, vtep) {
                        vtep.counters.row(worker).sent(1, len);
                        sent += 1;
                        bytes += len + u64::from(path.rewrite.size());
                    }
                }
            }
            let Some(next) = others
                .next()
                .and_then(|id| self.frame.adjacency(snapshot, *id))
            else {
                break;
            };
            if next.1.device != device.id {
                break;
            }
            (vtep, path) = next;
            done += 1;
        }
        if payload.is_some() {
            self.copies_left = self.copies_left.map(|left| left - made);
        }
        device.counters.row(worker).sent(sent, bytes);
        domain.counters.row(worker).sent(sent, sent * len);
        done
    }

    /// An outer header in a chunk of its own, linked to the payload; `None` when chunks run out.
    #[inline(always)]
    fn make_header<M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'_, '_, M>,
        path: &Adjacency,
        payload: SharedPayload,
        fields: PerPacketFields,
    ) -> Option<EncapsulatedFrame> {
        let mut header = ctx.pool.alloc()?;
        let chunk_size = ctx.pool.memory().chunk_size();
        let start = frame::cache_color(header.chunk(), MAX_HEADER, chunk_size);
        if header
            .set_extent(start, path.rewrite.size().into(), chunk_size)
            .is_err()
        {
            ctx.pool.free(header);
            return None;
        }
        payload.append_to(ctx.pool.memory().segments(), &mut header);
        let sum = if path.rewrite.is_v6() {
            self.sum(ctx)
        } else {
            Sum::new()
        };
        Some(EncapsulatedFrame::write(
            ctx,
            header,
            Tail {
                len: payload.len(),
                sum,
            },
            path,
            fields,
        ))
    }

    /// A copy of the frame with the outer header; `None` when chunks run out.
    #[inline(always)]
    fn copy<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        path: &Adjacency,
        fields: PerPacketFields,
    ) -> Option<EncapsulatedFrame> {
        let copy = ctx.copy(&self.frame.frame)?;
        match EncapsulatedFrame::prepend(ctx, copy, path, fields) {
            Ok(frame) => Some(frame),
            Err(copy) => {
                ctx.pool.free(copy);
                None
            }
        }
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
