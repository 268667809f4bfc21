//! Head-end replication: a tenant's frame for everybody goes once to each other port and each VTEP of its VNI
//! (RFC 7348 section 4.2 by unicast).
//!
//! ```text
//! flood --> pending, in order, bounded a port --each ctx: at most COPIES_PER_ITERATION--> ports: copies
//!                                                                        \-> VTEPs: [header] -> payload, shared
//! ```
//!
//! A flood to a thousand VTEPs must not keep the frames of other ports pending, so that a ctx makes only half as
//! many copies as a port gives frames, and goes on in the next one where it ended. Lists are in the order of their identifiers: where a
//! list changes meanwhile, who was served is not served again. Ports take turns as well; the floods of one port keep their
//! order.
//!
//! Where the underlay device sends several buffers a frame, a copy is an outer header in a chunk of its own that goes on in
//! the payload's chunks ([`crate::frame::chain`]): they are sent to all without being copied, and nobody writes to them any more.
//! Elsewhere, and for short frames, a copy is one copy; the last VTEP gets the frame itself.

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

/// Copies that one ctx of a worker makes: half as many as a port gives frames, for a copy may cost as much as a frame that
/// is forwarded, and a port that is always busy shall keep more than half of the worker's time.
pub const COPIES_PER_ITERATION: usize = BURST / 2;

/// Copies of one port's floods before another port's.
const QUANTUM: usize = 16;

/// The shortest frame that is copies_left. Below, one copy costs less than what a second buffer costs the kernel.
const MIN_SHARED_LEN: usize = 256;

/// The part of a sorted list behind `last`.
fn after<T: Ord + Copy>(list: &[T], last: Option<T>) -> &[T] {
    last.map_or(list, |last| {
        &list[list.partition_point(|one| *one <= last)..]
    })
}

impl TenantFrame {
    /// Lets the frame wait to be sent to every member of the domain but its own port.
    pub(super) fn flood<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
        unicast: bool,
    ) {
        let scope = DropScope {
            port: ctx.snapshot.ports.port(self.meta.port),
            domain: Some(domain),
            vtep: None,
        };
        let others = domain
            .flood
            .ports
            .iter()
            .filter(|port| **port != self.meta.port);
        match (&*domain.flood.vteps, others.count()) {
            ([], 0) => return ctx.drop_frame(self.frame, DropReason::NoFloodTarget, scope),
            // As much work as unicast.
            ([one], 0) if !ctx.floods.has_pending(self.meta.port) => {
                return match self.find_tunnel(ctx, *one, domain, unicast) {
                    Some(tunnel) => self.send_to_vtep(ctx, tunnel),
                    None => ctx.pool.free(self.frame),
                };
            }
            _ if !ctx.floods.has_capacity(self.meta.port) => {
                return ctx.drop_frame(self.frame, DropReason::FloodFull, scope);
            }
            _ => {}
        }
        ctx.floods.pending.push_back(PendingFlood {
            frame: self,
            device: ctx.device.id,
            domain: domain.id,
            report_too_big: unicast,
            next: NextReceiver::Port(None),
            copies_left: None,
            sum: None,
        });
    }
}

/// Serves up to [`COPIES_PER_ITERATION`] receivers of the frames that wait. Returns how many, so that 0 means that nothing waits.
pub(super) fn replicate<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>) -> usize {
    // Nothing is flooded here, so that nothing is added meanwhile.
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
        // A flood that finds nobody any more costs a little too.
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
    /// Serves up to `limit` receivers. Returns how many.
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
            // Removed from the tables while the frame waited: there is no row to count in.
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

    /// Copies for up to `limit` local ports behind `last`.
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
            let Some(exit) = port_output::find(ctx, *port, domain, self.frame.frame.len()) else {
                continue;
            };
            match ctx.copy(&self.frame.frame) {
                Some(copy) => TenantBoundFrame::new(copy).send(ctx, exit),
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

    /// Copies for up to `limit` VTEPs, at most [`QUANTUM`], behind `last`; but none for the one that gets the frame itself.
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
            // Who is last may have the frame itself.
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

    /// No copy for a VTEP: says and counts why.
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

    /// What copies for a VTEP may end in: the frame's chunks. Shares them with the first for which they may, and with those
    /// behind it, `left` in all. `None`: the frame must be copied.
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
            let chains = ctx.pool.memory().segments();
            chains.share(self.frame.frame.chunk(), copies + 1);
            chains
                .rest(&self.frame.frame)
                .for_each(|piece| chains.share(piece.chunk(), copies + 1));
            self.copies_left = Some(copies);
        }
        // The list may have grown since: what was not foreseen is copied.
        (self.copies_left > Some(0)).then_some(payload)
    }

    /// Sends to the VTEP of `first`, and to those of `others` one after the other whose paths are by the same device: a header
    /// before the payload, or a copy. Returns how many of `others` were served.
    #[inline(never)]
    fn send_batch<'t, M: FrameMemory>(
        &mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        first: &TxTunnel<'t>,
        others: &[VtepId],
        payload: Option<SharedPayload>,
    ) -> usize {
        let &TxTunnel { device, domain, .. } = first;
        let fields = self.frame.meta.fields(&ctx.snapshot.settings, domain);
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

    /// An outer header in a chunk of its own, that goes on in the payload; `None` when there is no chunk for it.
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

    /// A copy of the frame, with the outer header before it; `None` when there are no chunks for it.
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

    /// The sum of the frame, where UDP checksums are sent over IPv6.
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
