//! Head-end replication: a tenant's frame for everybody goes once to each other port and each VTEP of its VNI
//! (RFC 7348 section 4.2 by unicast).
//!
//! ```text
//! flood --> waiting, in order, bounded a port --each turn: at most COPIES--> ports: copies
//!                                                                        \-> VTEPs: [header] -> payload, shared
//! ```
//!
//! A flood to a thousand VTEPs must not keep the frames of other ports waiting, so that a turn makes only as many copies as
//! a port gives frames, and goes on in the next one where it ended. Lists are in the order of their identifiers: where a
//! list changes meanwhile, who was served is not served again. Ports take turns as well; the floods of one port keep their
//! order.
//!
//! Where the underlay device sends several buffers a frame, a copy is an outer header in a chunk of its own that goes on in
//! the payload's chunks ([`super::chain`]): they are sent to all without being copied, and nobody writes to them any more.
//! Elsewhere, and for short frames, a copy is one copy; the last VTEP gets the frame itself.

use super::chain;
use super::encap::{Beyond, Variable};
use super::frame::{BURST, FrameMemory, HEADROOM, Pool};
use super::local::{self, LocalFrame};
use super::run::Tunnel;
use super::tenant::{Target, TenantFrame, write_outer_of};
use super::turn::{Blame, Turn};
use super::verdict::Reason;
use crate::addr::{DeviceId, DomainId, NextHopId, PortId, WorkerId};
use crate::table::Snapshot;
use crate::table::port::Device;
use crate::table::vni::Domain;
use crate::wire::checksum::Sum;
use std::collections::VecDeque;
use std::ptr;

/// Copies that one turn of a worker makes: as many as a port gives frames.
pub const COPIES: usize = BURST;

/// Copies of one port's floods before another port's.
const QUANTUM: usize = 16;

/// Frames that wait to be flooded: of all ports, and of one, which may give two bursts at once.
const WAITING: usize = 512;
const WAITING_OF_PORT: usize = 2 * BURST;

/// The shortest frame that is shared. Below, one copy costs less than what a second buffer costs the kernel.
const SHARE_FROM: usize = 256;

/// Places in a chunk for the headers of copies, each on a line of the cache.
const HEADER_PLACES: u32 = 16;

/// The frames that wait to be flooded. Nothing is allocated after [`Floods::new`].
#[derive(Debug)]
pub(super) struct Floods {
    waiting: VecDeque<Flood>,
}

impl Floods {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::with_capacity(WAITING) }
    }

    /// The device that the first frame came from; `None` when nothing waits. Gives up frames whose device was removed from
    /// the tables meanwhile: there is no row to count them in.
    #[inline]
    pub(super) fn first_device<'t, M: FrameMemory>(
        &mut self,
        snapshot: &'t Snapshot,
        pool: &mut Pool<M>,
    ) -> Option<&'t Device> {
        while let Some(first) = self.waiting.front() {
            let device = snapshot.ports.device(first.device);
            if device.is_some() {
                return device;
            }
            self.waiting.pop_front().into_iter().for_each(|flood| flood.end(pool));
        }
        None
    }

    /// Gives up what waits.
    pub(super) fn clear<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.waiting.drain(..).for_each(|flood| flood.end(pool));
    }

    fn has(&self, port: PortId) -> bool {
        self.waiting.iter().any(|flood| flood.frame.facts.port == port)
    }

    fn has_room(&self, port: PortId) -> bool {
        let of_port = || self.waiting.iter().filter(|flood| flood.frame.facts.port == port).count();
        self.waiting.len() < WAITING && (self.waiting.len() < WAITING_OF_PORT || of_port() < WAITING_OF_PORT)
    }
}

/// A frame that is being flooded.
#[derive(Debug)]
struct Flood {
    frame: TenantFrame,
    /// Where it came from.
    device: DeviceId,
    domain: DomainId,
    /// Its tenant may be told that it is too long for a path: one frame has one answer, however many are too narrow.
    answer: bool,
    next: Next,
    /// How many more copies may end in its chunks; `None` while they are its own.
    shared: Option<u32>,
    /// The sum of its bytes, once a header needed it.
    sum: Option<Sum>,
}

/// Who comes next: the first one behind this, or the first of all.
#[derive(Debug, Clone, Copy)]
enum Next {
    Port(Option<PortId>),
    Hop(Option<NextHopId>),
    /// This VTEP gets the frame itself.
    Last(NextHopId),
    /// Everybody was served.
    Nobody,
}

/// The part of a sorted list behind `last`.
fn behind<T: Ord + Copy>(list: &[T], last: Option<T>) -> &[T] {
    last.map_or(list, |last| &list[list.partition_point(|one| *one <= last)..])
}

impl TenantFrame {
    /// Lets the frame wait to be sent to every member of the domain but its own port.
    pub(super) fn flood<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        unicast: bool,
    ) {
        let blame =
            Blame { port: turn.snapshot.ports.port(self.facts.port), domain: Some(domain), hop: None };
        let others = domain.flood.ports.iter().filter(|port| **port != self.facts.port);
        match (&*domain.flood.next_hops, others.count()) {
            ([], 0) => return turn.refuse(self.frame, Reason::NoReceiver, blame),
            // As much work as unicast.
            ([one], 0) if !turn.floods.has(self.facts.port) => {
                return match self.find_tunnel(turn, *one, domain, unicast) {
                    Some(tunnel) => self.send(turn, Target::Tunnel(tunnel)),
                    None => turn.pool.give(self.frame),
                };
            }
            _ if !turn.floods.has_room(self.facts.port) => {
                return turn.refuse(self.frame, Reason::FloodFull, blame);
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

/// Serves up to [`COPIES`] receivers of the frames that wait. Returns how many, so that 0 means that nothing waits.
pub(super) fn replicate<M: FrameMemory>(turn: &mut Turn<'_, '_, M>) -> usize {
    // Nothing is flooded here, so that nothing is added meanwhile.
    let mut waiting = std::mem::take(&mut turn.floods.waiting);
    let mut left = COPIES;
    let mut at = 0;
    while left > 0 && !waiting.is_empty() {
        at = if at < waiting.len() { at } else { 0 };
        let port = waiting[at].frame.facts.port;
        if waiting.iter().take(at).any(|before| before.frame.facts.port == port) {
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
    COPIES - left
}

impl Flood {
    /// Serves up to `limit` receivers. Returns how many.
    fn advance<M: FrameMemory>(&mut self, turn: &mut Turn<'_, '_, M>, limit: usize) -> usize {
        let snapshot = turn.snapshot;
        let (device, domain) = (snapshot.ports.device(self.device), snapshot.vnis.domain(self.domain));
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
        let mut others = behind(&domain.flood.ports, last).iter().filter(|port| **port != from);
        let mut served = 0;
        for port in others.by_ref().take(limit) {
            served += 1;
            self.next = Next::Port(Some(*port));
            let Some(exit) = local::find(turn, *port, domain, self.frame.frame.len()) else { continue };
            match turn.copy(&self.frame.frame) {
                Some(copy) => LocalFrame::new(copy).send(turn, exit),
                None => self.count_no_frame(turn, domain),
            }
        }
        if others.next().is_none() {
            self.next = if domain.flood.next_hops.is_empty() { Next::Nobody } else { Next::Hop(None) };
        }
        served
    }

    /// Copies for up to `limit` VTEPs, at most [`QUANTUM`], behind `last`; but none for the one that gets the frame itself.
    fn serve_hops<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        last: Option<NextHopId>,
        limit: usize,
    ) -> usize {
        let hops = behind(&domain.flood.next_hops, last);
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
        // First all paths, so that the ways to them through memory overlap, and then the copies.
        let mut tunnels = [None; QUANTUM];
        let mut found = 0;
        for id in now {
            match self.frame.find_tunnel(turn, *id, domain, self.answer) {
                Some(tunnel) => {
                    tunnels[found] = Some(tunnel);
                    found += 1;
                }
                None => self.answer = false,
            }
        }
        let left = hops.len() - now.len();
        self.send_copies(turn, domain, &tunnels[..found], left);
        self.next = match now.last() {
            Some(last) if left > 0 => Next::Hop(Some(*last)),
            _ => Next::Nobody,
        };
        now.len()
    }

    /// One copy for each of `tunnels`. `left` VTEPs come later.
    fn send_copies<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        tunnels: &[Option<Tunnel<'t>>],
        left: usize,
    ) {
        let mut sent = Sent::new(turn.worker, domain);
        let variable = self.frame.facts.variable(&turn.snapshot.settings, domain);
        for (at, tunnel) in tunnels.iter().flatten().enumerate() {
            if !self.may_share(turn, tunnel, left + tunnels.len() - at) {
                self.send_copy(turn, *tunnel);
            } else if self.send_shared(turn, tunnel, variable) {
                sent.add(tunnel, self.frame.frame.len());
            }
        }
    }

    /// Sends the frame itself to the last VTEP.
    fn serve_last<M: FrameMemory>(self, turn: &mut Turn<'_, '_, M>, id: NextHopId) {
        let Self { frame, domain, answer, .. } = self;
        let domain = turn.snapshot.vnis.domain(domain);
        match domain.and_then(|domain| frame.find_tunnel(turn, id, domain, answer)) {
            Some(tunnel) => frame.send(turn, Target::Tunnel(tunnel)),
            None => turn.pool.give(frame.frame),
        }
    }

    /// One copy, with room for the header before it.
    fn send_copy<'t, M: FrameMemory>(&self, turn: &mut Turn<'t, '_, M>, tunnel: Tunnel<'t>) {
        match turn.copy(&self.frame.frame) {
            Some(frame) => {
                TenantFrame { frame, facts: self.frame.facts }.send(turn, Target::Tunnel(tunnel));
            }
            None => self.count_no_frame(turn, tunnel.domain),
        }
    }

    /// Whether the copy for a VTEP may end in the frame's chunks. Shares them with the first for which it may, and with
    /// those behind it, `left` in all.
    #[inline]
    fn may_share<M: FrameMemory>(
        &mut self,
        turn: &Turn<'_, '_, M>,
        tunnel: &Tunnel<'_>,
        left: usize,
    ) -> bool {
        if !tunnel.device.multi_buffer || self.frame.frame.len() < SHARE_FROM {
            return false;
        }
        if self.shared.is_none() {
            let copies = left as u32;
            let chains = turn.pool.memory().chains();
            chains.share(self.frame.frame.chunk(), copies + 1);
            chains.rest(&self.frame.frame).for_each(|piece| chains.share(piece.chunk(), copies + 1));
            self.shared = Some(copies);
        }
        // The list may have grown since: what was not foreseen is copied.
        self.shared > Some(0)
    }

    /// A header in a chunk of its own, that goes on in the frame's chunks. False when it was not sent.
    #[inline(always)]
    fn send_shared<'t, M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'t, '_, M>,
        tunnel: &Tunnel<'t>,
        variable: Variable,
    ) -> bool {
        let Some(mut header) = turn.pool.take() else {
            self.count_no_frame(turn, tunnel.domain);
            return false;
        };
        let chunk_size = turn.pool.memory().chunk_size();
        // Chunks lie a power of two apart: headers at the same place of each would share a few lines of the cache.
        let start = HEADROOM + (header.chunk() % HEADER_PLACES) as u16 * 64;
        let placed = header.place(start, tunnel.path.header.bytes().len(), chunk_size);
        if placed.is_err()
            || chain::join(turn.pool.memory().chains(), &mut header, &self.frame.frame).is_err()
        {
            turn.pool.give(header);
            self.count_no_frame(turn, tunnel.domain);
            return false;
        }
        self.shared = self.shared.map(|left| left - 1);
        let beyond = Beyond { len: self.frame.frame.len(), sum: self.sum_for(turn, tunnel) };
        write_outer_of(turn, header, variable, beyond, tunnel)
    }

    /// The sum of the frame where the path needs it.
    #[inline]
    fn sum_for<M: FrameMemory>(&mut self, turn: &Turn<'_, '_, M>, tunnel: &Tunnel<'_>) -> Sum {
        if !tunnel.path.header.is_v6() || turn.snapshot.settings.udp6_zero_tx {
            return Sum::new();
        }
        let frame = &self.frame.frame;
        *self.sum.get_or_insert_with(|| turn.pool.memory().sum(frame, 0..frame.len()))
    }

    #[cold]
    fn count_no_frame<M: FrameMemory>(&self, turn: &Turn<'_, '_, M>, domain: &Domain) {
        let port = turn.snapshot.ports.port(self.frame.facts.port);
        turn.count(Reason::NoFrame, Blame { port, domain: Some(domain), hop: None });
    }

    /// Gives up the frame: its chunks, or its hold on them and those of copies that were not made.
    fn end<M: FrameMemory>(self, pool: &mut Pool<M>) {
        match self.shared {
            None => pool.give(self.frame.frame),
            Some(copies_left) => pool.give_up(self.frame.frame, copies_left + 1),
        }
    }
}

/// Copies that were sent one after the other: each counts for its VTEP, and all of them for their device and the VNI.
#[derive(Debug)]
struct Sent<'t> {
    worker: WorkerId,
    domain: &'t Domain,
    device: Option<&'t Device>,
    frames: u64,
    /// Of the tenant's frames.
    bytes: u64,
    /// Of the outer headers.
    headers: u64,
}

impl<'t> Sent<'t> {
    const fn new(worker: WorkerId, domain: &'t Domain) -> Self {
        Self { worker, domain, device: None, frames: 0, bytes: 0, headers: 0 }
    }

    #[inline]
    fn add(&mut self, tunnel: &Tunnel<'t>, bytes: usize) {
        if !self.device.is_some_and(|device| ptr::eq(device, tunnel.device)) {
            self.count();
            self.device = Some(tunnel.device);
        }
        self.frames += 1;
        self.bytes += bytes as u64;
        self.headers += tunnel.path.header.bytes().len() as u64;
        tunnel.hop.counters.row(self.worker).sent(1, bytes as u64);
    }

    fn count(&mut self) {
        let Some(device) = self.device.take() else { return };
        device.counters.row(self.worker).sent(self.frames, self.bytes + self.headers);
        self.domain.counters.row(self.worker).sent(self.frames, self.bytes);
        *self = Self::new(self.worker, self.domain);
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.count();
    }
}
