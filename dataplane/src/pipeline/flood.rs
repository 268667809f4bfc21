//! Head-end replication: a tenant's frame for everybody goes once to each other port and each VTEP of its VNI
//! (RFC 7348 section 4.2 by unicast).
//!
//! ```text
//! flood --> waiting, in order, bounded a port --each turn: at most COPIES_PER_ITERATION--> ports: copies
//!                                                                        \-> VTEPs: [header] -> payload, shared
//! ```
//!
//! A flood to a thousand VTEPs must not keep the frames of other ports waiting, so that a turn makes only half as
//! many copies as a port gives frames, and goes on in the next one where it ended. Lists are in the order of their identifiers: where a
//! list changes meanwhile, who was served is not served again. Ports take turns as well; the floods of one port keep their
//! order.
//!
//! Where the underlay device sends several buffers a frame, a copy is an outer header in a chunk of its own that goes on in
//! the payload's chunks ([`crate::frame::chain`]): they are sent to all without being copied, and nobody writes to them any more.
//! Elsewhere, and for short frames, a copy is one copy; the last VTEP gets the frame itself.

use super::cache::Tunnel;
use super::context::Turn;
use super::encap::{Beyond, Variable};
use super::flood_queue::{Flood, Next};
use super::meta::{Blame, TenantFrame};
use super::port_output::{self, LocalFrame};
use super::vxlan_output::UnderlayFrame;
use crate::addr::{PortId, VtepId};
use crate::drop::DropReason;
use crate::frame::chain::SharedPayload;
use crate::frame::{self, BURST, FrameMemory};
use crate::table::encapsulation::MAX_HEADER;
use crate::table::vni::Domain;
use crate::table::vtep::Adjacency;
use crate::wire::checksum::Sum;

/// Copies that one turn of a worker makes: half as many as a port gives frames, for a copy may cost as much as a frame that
/// is forwarded, and a port that is always busy shall keep more than half of the worker's time.
pub const COPIES_PER_ITERATION: usize = BURST / 2;

/// Copies of one port's floods before another port's.
const QUANTUM: usize = 16;

/// The shortest frame that is shared. Below, one copy costs less than what a second buffer costs the kernel.
const SHARE_FROM: usize = 256;

/// The part of a sorted list behind `last`.
fn behind<T: Ord + Copy>(list: &[T], last: Option<T>) -> &[T] {
    last.map_or(list, |last| {
        &list[list.partition_point(|one| *one <= last)..]
    })
}

impl TenantFrame {
    /// Lets the frame wait to be sent to every member of the domain but its own port.
    pub(super) fn flood<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        unicast: bool,
    ) {
        let blame = Blame {
            port: turn.snapshot.ports.port(self.facts.port),
            domain: Some(domain),
            hop: None,
        };
        let others = domain
            .flood
            .ports
            .iter()
            .filter(|port| **port != self.facts.port);
        match (&*domain.flood.vteps, others.count()) {
            ([], 0) => return turn.refuse(self.frame, DropReason::NoReceiver, blame),
            // As much work as unicast.
            ([one], 0) if !turn.floods.has(self.facts.port) => {
                return match self.find_tunnel(turn, *one, domain, unicast) {
                    Some(tunnel) => self.send_to_vtep(turn, tunnel),
                    None => turn.pool.free(self.frame),
                };
            }
            _ if !turn.floods.has_room(self.facts.port) => {
                return turn.refuse(self.frame, DropReason::FloodFull, blame);
            }
            _ => {}
        }
        turn.floods.waiting.push_back(Flood {
            frame: self,
            device: turn.device.id,
            domain: domain.id,
            answer: unicast,
            next: Next::Port(None),
            shared: None,
            sum: None,
        });
    }
}

/// Serves up to [`COPIES_PER_ITERATION`] receivers of the frames that wait. Returns how many, so that 0 means that nothing waits.
pub(super) fn replicate<M: FrameMemory>(turn: &mut Turn<'_, '_, M>) -> usize {
    // Nothing is flooded here, so that nothing is added meanwhile.
    let mut waiting = std::mem::take(&mut turn.floods.waiting);
    let mut left = COPIES_PER_ITERATION;
    let mut at = 0;
    while left > 0 && !waiting.is_empty() {
        at = if at < waiting.len() { at } else { 0 };
        let port = waiting[at].frame.facts.port;
        if waiting
            .iter()
            .take(at)
            .any(|before| before.frame.facts.port == port)
        {
            at += 1;
            continue;
        }
        let flood = &mut waiting[at];
        // A flood that finds nobody any more costs a little too.
        left -= flood.advance(turn, QUANTUM.min(left)).max(1);
        let next = flood.next;
        if !matches!(next, Next::Last(_) | Next::Nobody) {
            at += 1;
            continue;
        }
        match (waiting.remove(at), next) {
            (Some(flood), Next::Last(hop)) => flood.serve_last(turn, hop),
            (flood, _) => flood.into_iter().for_each(|flood| flood.end(turn.pool)),
        }
    }
    turn.floods.waiting = waiting;
    COPIES_PER_ITERATION - left
}

impl Flood {
    /// Serves up to `limit` receivers. Returns how many.
    fn advance<M: FrameMemory>(&mut self, turn: &mut Turn<'_, '_, M>, limit: usize) -> usize {
        let snapshot = turn.snapshot;
        let (device, domain) = (
            snapshot.ports.device(self.device),
            snapshot.vnis.domain(self.domain),
        );
        let (Some(device), Some(domain)) = (device, domain) else {
            // Removed from the tables while the frame waited: there is no row to count in.
            self.next = Next::Nobody;
            return 0;
        };
        turn.device = device;
        let mut served = 0;
        if let Next::Port(last) = self.next {
            served = self.serve_ports(turn, domain, last, limit);
        }
        if let Next::Hop(last) = self.next
            && served < limit
        {
            served += self.serve_hops(turn, domain, last, limit - served);
        }
        served
    }

    /// Copies for up to `limit` local ports behind `last`.
    fn serve_ports<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        last: Option<PortId>,
        limit: usize,
    ) -> usize {
        let from = self.frame.facts.port;
        let mut others = behind(&domain.flood.ports, last)
            .iter()
            .filter(|port| **port != from);
        let mut served = 0;
        for port in others.by_ref().take(limit) {
            served += 1;
            self.next = Next::Port(Some(*port));
            let Some(exit) = port_output::find(turn, *port, domain, self.frame.frame.len()) else {
                continue;
            };
            match turn.copy(&self.frame.frame) {
                Some(copy) => LocalFrame::new(copy).send(turn, exit),
                None => self.count_no_frame(turn, domain),
            }
        }
        if others.next().is_none() {
            self.next = if domain.flood.vteps.is_empty() {
                Next::Nobody
            } else {
                Next::Hop(None)
            };
        }
        served
    }

    /// Copies for up to `limit` VTEPs, at most [`QUANTUM`], behind `last`; but none for the one that gets the frame itself.
    fn serve_hops<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        last: Option<VtepId>,
        limit: usize,
    ) -> usize {
        let hops = behind(&domain.flood.vteps, last);
        let mut now = &hops[..limit.min(hops.len())];
        if self.shared.is_none() && now.len() == hops.len() {
            // Who is last may have the frame itself.
            match now {
                [last] => {
                    self.next = Next::Last(*last);
                    return 0;
                }
                [others @ .., _] => now = others,
                [] => {}
            }
        }
        let left = hops.len() - now.len();
        let mut rest = now;
        while let [id, others @ ..] = rest {
            rest = others;
            match self.frame.tunnel(turn, *id, domain) {
                Some(tunnel) => {
                    let payload = self.share(turn, &tunnel, left + 1 + others.len());
                    rest = &others[self.send_run(turn, &tunnel, others, payload)..];
                }
                None => self.miss(turn, *id, domain),
            }
        }
        self.next = match now.last() {
            Some(last) if left > 0 => Next::Hop(Some(*last)),
            _ => Next::Nobody,
        };
        now.len()
    }

    /// No copy for a VTEP: says and counts why.
    #[cold]
    fn miss<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) {
        self.frame.find_tunnel(turn, id, domain, self.answer);
        self.answer = false;
    }

    /// Sends the frame itself to the last VTEP.
    fn serve_last<M: FrameMemory>(self, turn: &mut Turn<'_, '_, M>, id: VtepId) {
        let Self {
            frame,
            domain,
            answer,
            ..
        } = self;
        let domain = turn.snapshot.vnis.domain(domain);
        match domain.and_then(|domain| frame.find_tunnel(turn, id, domain, answer)) {
            Some(tunnel) => frame.send_to_vtep(turn, tunnel),
            None => turn.pool.free(frame.frame),
        }
    }

    /// What copies for a VTEP may end in: the frame's chunks. Shares them with the first for which they may, and with those
    /// behind it, `left` in all. `None`: the frame must be copied.
    #[inline]
    fn share<M: FrameMemory>(
        &mut self,
        turn: &Turn<'_, '_, M>,
        tunnel: &Tunnel<'_>,
        left: usize,
    ) -> Option<SharedPayload> {
        if !tunnel.device.multi_buffer || self.frame.frame.len() < SHARE_FROM {
            return None;
        }
        let payload = SharedPayload::new(&self.frame.frame, MAX_HEADER)?;
        if self.shared.is_none() {
            let copies = left as u32;
            let chains = turn.pool.memory().segments();
            chains.share(self.frame.frame.chunk(), copies + 1);
            chains
                .rest(&self.frame.frame)
                .for_each(|piece| chains.share(piece.chunk(), copies + 1));
            self.shared = Some(copies);
        }
        // The list may have grown since: what was not foreseen is copied.
        (self.shared > Some(0)).then_some(payload)
    }

    /// Sends to the VTEP of `first`, and to those of `others` one after the other whose paths are by the same device: a header
    /// before the payload, or a copy. Returns how many of `others` were served.
    #[inline(never)]
    fn send_run<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        first: &Tunnel<'t>,
        others: &[VtepId],
        payload: Option<SharedPayload>,
    ) -> usize {
        let &Tunnel { device, domain, .. } = first;
        let variable = self.frame.facts.variable(&turn.snapshot.settings, domain);
        let len = self.frame.frame.len() as u64;
        let (snapshot, worker) = (turn.snapshot, turn.worker);
        let (mut made, mut sent, mut bytes, mut done) = (0, 0, 0, 0);
        let allowed = payload.map_or(usize::MAX, |_| self.shared.unwrap_or(0) as usize - 1);
        let (mut hop, mut path) = (first.hop, first.path);
        let mut others = others.iter().take(allowed);
        loop {
            let frame = match payload {
                Some(payload) => self.header(turn, path, payload, variable),
                None => self.copy(turn, path, variable),
            };
            match frame {
                None => self.count_no_frame(turn, domain),
                Some(frame) => {
                    made += 1;
                    if turn.queue_for(device, frame, domain, hop) {
                        hop.counters.row(worker).sent(1, len);
                        sent += 1;
                        bytes += len + u64::from(path.rewrite.size());
                    }
                }
            }
            let Some(next) = others.next().and_then(|id| self.frame.way(snapshot, *id)) else {
                break;
            };
            if next.1.device != device.id {
                break;
            }
            (hop, path) = next;
            done += 1;
        }
        if payload.is_some() {
            self.shared = self.shared.map(|left| left - made);
        }
        device.counters.row(worker).sent(sent, bytes);
        domain.counters.row(worker).sent(sent, sent * len);
        done
    }

    /// An outer header in a chunk of its own, that goes on in the payload; `None` when there is no chunk for it.
    #[inline(always)]
    fn header<M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'_, '_, M>,
        path: &Adjacency,
        payload: SharedPayload,
        variable: Variable,
    ) -> Option<UnderlayFrame> {
        let mut header = turn.pool.alloc()?;
        let chunk_size = turn.pool.memory().chunk_size();
        let start = frame::cache_color(header.chunk(), MAX_HEADER, chunk_size);
        if header
            .set_extent(start, path.rewrite.size().into(), chunk_size)
            .is_err()
        {
            turn.pool.free(header);
            return None;
        }
        payload.append_to(turn.pool.memory().segments(), &mut header);
        let sum = if path.rewrite.is_v6() {
            self.sum(turn)
        } else {
            Sum::new()
        };
        Some(UnderlayFrame::write(
            turn,
            header,
            Beyond {
                len: payload.len(),
                sum,
            },
            path,
            variable,
        ))
    }

    /// A copy of the frame, with the outer header before it; `None` when there are no chunks for it.
    #[inline(always)]
    fn copy<M: FrameMemory>(
        &self,
        turn: &mut Turn<'_, '_, M>,
        path: &Adjacency,
        variable: Variable,
    ) -> Option<UnderlayFrame> {
        let copy = turn.copy(&self.frame.frame)?;
        match UnderlayFrame::prepend(turn, copy, path, variable) {
            Ok(frame) => Some(frame),
            Err(copy) => {
                turn.pool.free(copy);
                None
            }
        }
    }

    /// The sum of the frame, where UDP checksums are sent over IPv6.
    #[inline(never)]
    fn sum<M: FrameMemory>(&mut self, turn: &Turn<'_, '_, M>) -> Sum {
        if turn.snapshot.settings.udp6_zero_tx {
            return Sum::new();
        }
        let frame = &self.frame.frame;
        *self
            .sum
            .get_or_insert_with(|| turn.pool.memory().sum(frame, 0..frame.len()))
    }

    #[cold]
    fn count_no_frame<M: FrameMemory>(&self, turn: &Turn<'_, '_, M>, domain: &Domain) {
        let port = turn.snapshot.ports.port(self.frame.facts.port);
        turn.count(
            DropReason::NoFrame,
            Blame {
                port,
                domain: Some(domain),
                hop: None,
            },
        );
    }
}
