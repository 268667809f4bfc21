//! What happens to a frame, as pure functions: no I/O, no clock, no allocation, no `unsafe`.
//!
//! ```text
//! tenant port -> tenant_input -> lookup -> vxlan_output -> underlay
//!                                       -> port_output  -> tenant port
//!                                       -> flood        -> both
//! underlay    -> vxlan_input  -> lookup -> port_output  -> tenant port   (never to the underlay)
//! ```
//!
//! [`Pipeline`] is the entry point. It takes a burst of frames that one device received through
//! these nodes; each frame ends in a transmit queue, in the queue of floods, or is dropped, counted
//! with a [`crate::drop::DropReason`] and freed.
//!
//! - `stages`: runs a burst through parse, lookup and forward, in groups, with prefetching.
//! - `tenant_input`, `vxlan_input`: the two inputs; what parse and forward do.
//! - `vxlan_output`, `port_output`, `flood`: the three outputs.
//! - `encap`, `decap`, `ecn`, `flow`, `parse`, `checksum`, `validate`: headers.
//! - `neigh_suppress`, `pmtu`: ARP and ND, and ICMP errors.
//! - `learn_event`, `rate_limit`: events for the control thread, and limits for each port.
//! - `meta`, `cache`, `context`: state of a frame, from frame to frame, and of a burst.
//! - `flood_queue`, `tx_queues`: state that is kept from burst to burst.
//!
//! Imports between these files form no circle. Frames of one flow keep their order.

mod cache;
mod checksum;
mod context;
mod decap;
mod ecn;
mod encap;
pub mod flood;
mod flood_queue;
mod flow;
pub mod learn_event;
mod meta;
mod neigh_suppress;
mod parse;
mod pmtu;
mod port_output;
mod rate_limit;
mod stages;
mod tenant_input;
#[cfg(test)]
mod tests;
pub mod tx_queues;
mod validate;
mod vxlan_input;
mod vxlan_output;

use self::cache::PathCache;
use self::context::BurstContext;
use self::flood_queue::FloodQueue;
use self::learn_event::{LearnEvent, LearnEvents};
use self::meta::IngressPort;
use self::rate_limit::RateLimits;
use self::tenant_input::TenantInput;
use self::tx_queues::TxQueues;
use self::vxlan_input::VxlanInput;
use crate::addr::{DeviceId, PortId, WorkerId};
use crate::frame::{BURST, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::mac::{Lookup, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::{Device, Role};

/// The tables that are used for one burst.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'t> {
    /// Settings, VNIs, VTEPs, devices and ports.
    pub snapshot: &'t Snapshot,
    /// The MAC table.
    pub macs: &'t MacReader,
    /// The neighbor table (ARP and ND).
    pub neighbors: &'t NeighborReader,
}

/// The packet path of one worker, with the state that it keeps from burst to burst. Nothing is
/// allocated after [`Pipeline::new`].
#[derive(Debug)]
pub struct Pipeline {
    state: PipelineState,
    unknown_devices: u64,
    lookups: [Lookup; BURST],
}

/// The part of the state that each burst borrows as a [`BurstContext`].
#[derive(Debug)]
struct PipelineState {
    worker: WorkerId,
    limits: RateLimits,
    identification: u16,
    events: LearnEvents,
    floods: FloodQueue,
    sources: Vec<(PortId, MacKey)>,
}

impl PipelineState {
    fn context<'t, 'p, M>(
        &'p mut self,
        tables: Tables<'t>,
        now_ns: u64,
        device: &'t Device,
        pool: &'p mut Pool<M>,
        out: &'p mut TxQueues,
    ) -> BurstContext<'t, 'p, M> {
        BurstContext {
            snapshot: tables.snapshot,
            macs: tables.macs,
            neighbors: tables.neighbors,
            worker: self.worker,
            now_ns,
            device,
            access: match &device.role {
                Role::Access(id) => IngressPort::find(tables.snapshot, *id),
                Role::Trunk(_) | Role::Underlay => None,
            },
            pool,
            limits: &mut self.limits,
            events: &mut self.events,
            floods: &mut self.floods,
            sources: &mut self.sources,
            identification: &mut self.identification,
            out,
            rx_port: PathCache::new(self.worker),
            rx_tunnel: PathCache::new(self.worker),
            tx_tunnel: PathCache::new(self.worker),
            tx_port: PathCache::new(self.worker),
        }
    }
}

impl Pipeline {
    /// The pipeline of `worker`, which writes that worker's row of all counters.
    #[must_use]
    pub fn new(worker: WorkerId) -> Self {
        Self {
            state: PipelineState {
                worker,
                limits: RateLimits::new(),
                // Spread out, so that workers that send to one VTEP use different values at any
                // time.
                identification: worker.0.wrapping_mul(0x2f1b),
                events: LearnEvents::new(),
                floods: FloodQueue::new(),
                sources: Vec::with_capacity(BURST),
            },
            unknown_devices: 0,
            lookups: [Lookup::NONE; BURST],
        }
    }

    /// Consumes `frames`, which `device` received. Each frame is queued in `out`, waits for
    /// [`Pipeline::replicate`], or is freed to `pool` and counted with a
    /// [`crate::drop::DropReason`]. `now_ns`: nanoseconds of any monotonic clock.
    ///
    /// Counts frames and bytes that are received from, and queued for, devices, ports, VNIs and
    /// VTEPs. Byte counters of devices include all headers; all others count the tenant's frame
    /// without VLAN tag and outer header.
    pub fn burst<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        device: DeviceId,
        frames: &mut Vec<Frame>,
        pool: &mut Pool<M>,
        out: &mut TxQueues,
    ) {
        let Some(device) = tables.snapshot.ports.device(device) else {
            // Just removed from the tables: its counters are gone.
            self.unknown_devices += frames.len() as u64;
            frames.drain(..).for_each(|frame| pool.free(frame));
            return;
        };
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        device
            .counters
            .row(self.state.worker)
            .received(frames.len() as u64, bytes);
        let mut ctx = self.state.context(tables, now_ns, device, pool, out);
        if let Some(ingress) = ctx.access {
            ingress
                .port
                .counters
                .row(ctx.worker)
                .received(frames.len() as u64, bytes);
        }
        while !frames.is_empty() {
            match device.role {
                Role::Underlay => {
                    stages::process::<VxlanInput, M>(&mut ctx, &mut self.lookups, frames);
                }
                Role::Access(_) | Role::Trunk(_) => {
                    stages::process::<TenantInput, M>(&mut ctx, &mut self.lookups, frames);
                    ctx.notify_sources();
                }
            }
        }
    }

    /// Continues to flood pending frames, to up to [`flood::COPIES_PER_ITERATION`] receivers. The
    /// worker calls it once per iteration, after all ports. Returns the number of receivers served;
    /// fewer than the maximum means that no flood is pending any more.
    pub fn replicate<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        pool: &mut Pool<M>,
        out: &mut TxQueues,
    ) -> usize {
        match self.state.floods.first_device(tables.snapshot, pool) {
            Some(device) => {
                flood::replicate(&mut self.state.context(tables, now_ns, device, pool, out))
            }
            None => 0,
        }
    }

    /// Frees all pending floods to `pool`, before the worker ends.
    pub fn close<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.state.floods.clear(pool);
    }

    /// The next event of the last burst for the control thread; `None` when there are no more. Must
    /// be drained after each burst, because events that are left take the space of later ones.
    #[inline]
    pub fn next_event(&mut self) -> Option<LearnEvent> {
        self.state.events.next()
    }

    /// Frames received from devices that were not in the tables.
    #[must_use]
    pub const fn unknown_devices(&self) -> u64 {
        self.unknown_devices
    }
}
