//! The receive queues of an interface: bound when it is opened, and followed while it is open. A
//! guest attaches and detaches queues of a multi-queue tap, `ethtool -L` changes those of veth and
//! NICs.

use std::time::Instant;

use vtep_dataplane::addr::{DeviceId, WorkerId};

use super::backend::{QueueRings, SocketId};
use super::stall::StallWatch;
use super::{
    Backend, InterfaceError, InterfaceQueue, InterfaceState, Interfaces, IoKind, Purpose,
    RingBudget,
};
use crate::config::InterfaceName;
use crate::workers::{QueuePort, Workers};

/// A queue with a socket, not yet handed to its worker.
#[derive(Debug)]
pub(super) struct BoundQueue {
    pub(super) rings: Option<QueueRings>,
    pub(super) worker: WorkerId,
    pub(super) port: QueuePort,
}

/// A queue that has no socket. Its frames are dropped and counted as `no-socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnboundQueue {
    /// Queue number, from 0.
    pub number: u32,
    /// Why, and the remedy.
    pub reason: String,
}

impl BoundQueue {
    /// Hands the queue to its worker. `None` when the worker accepts no commands: the socket is
    /// closed.
    pub(super) fn attach(
        self,
        device: DeviceId,
        workers: &Workers,
        budget: &mut RingBudget,
    ) -> Option<InterfaceQueue> {
        let Self {
            rings,
            worker,
            port,
        } = self;
        let (number, socket) = (port.number(), SocketId::of(&port));
        let (mode, multi_buffer) = (port.bind_mode(), port.is_multi_buffer());
        if !workers.attach(worker, device, number, port) {
            tracing::error!(
                queue = number,
                worker = worker.0,
                "the worker accepts no commands"
            );
            budget.free(worker, rings);
            return None;
        }
        Some(InterfaceQueue {
            number,
            worker,
            mode,
            multi_buffer,
            socket,
            stall: StallWatch::default(),
            rings,
        })
    }
}

impl Interfaces {
    /// For each worker, the frames that further queues may take.
    #[must_use]
    pub fn frames_left(&self) -> &[u32] {
        self.budget.left()
    }

    /// Binds a socket to a queue, to be served by `worker`.
    pub(super) fn bind(
        &mut self,
        backend: &Backend,
        purpose: Purpose,
        number: u32,
        worker: WorkerId,
    ) -> Result<BoundQueue, InterfaceError> {
        let rings = match backend.io() {
            IoKind::Xdp => Some(
                self.budget
                    .allocate(worker, purpose, self.settings.busy_poll)?,
            ),
            IoKind::Packet => None,
        };
        let port = backend.bind(number, &self.umem, rings);
        let port = port.inspect_err(|_| self.budget.free(worker, rings))?;
        Ok(BoundQueue {
            rings,
            worker,
            port,
        })
    }

    /// Binds those queues of an open interface that are to have a socket and have none, and closes
    /// those that are to have none, as it has links and queues now. Returns whether that is a change.
    pub fn match_queues(
        &mut self,
        name: &InterfaceName,
        workers: &mut Workers,
        now: Instant,
    ) -> bool {
        let Some(InterfaceState::Open(open)) = self.managed.get(name).map(|managed| &managed.state)
        else {
            return false;
        };
        let wanted = open.wanted_sockets(open.backend.queues(), now);
        self.close_queues(name, wanted, workers)
            | self.bind_missing(name, wanted, workers)
            | self.end_bypass(name, workers, now)
            | self.end_stall(name, workers, now)
    }

    /// Closes the queues from number `count` on, which the interface no longer has.
    fn close_queues(&mut self, name: &InterfaceName, count: u32, workers: &mut Workers) -> bool {
        let Some(managed) = self.managed.get_mut(name) else {
            return false;
        };
        let InterfaceState::Open(open) = &mut managed.state else {
            return false;
        };
        open.unbound.retain(|queue| queue.number < count);
        if open.queues.iter().all(|queue| queue.number < count) {
            return false;
        }
        open.set_bound(name, count as usize);
        let closed = open.statistics_of(|queue| queue.number >= count);
        managed.earlier_sockets = managed.earlier_sockets + closed;
        if !workers.detach(managed.id, count) {
            tracing::error!(interface = %name, "a worker did not close its queues in time");
        }
        let (kept, closed) = std::mem::take(&mut open.queues)
            .into_iter()
            .partition(|queue: &InterfaceQueue| queue.number < count);
        open.queues = kept;
        for queue in closed {
            self.budget.free(queue.worker, queue.rings);
        }
        let (queues, link) = (count, open.link_up);
        tracing::info!(interface = %name, queues, link, "sockets closed: the interface has no link, or fewer queues");
        true
    }

    /// Binds those of the first `count` queues that have no socket.
    fn bind_missing(&mut self, name: &InterfaceName, count: u32, workers: &Workers) -> bool {
        let Some(managed) = self.managed.get_mut(name) else {
            return false;
        };
        let InterfaceState::Open(open) = &managed.state else {
            return false;
        };
        let missing: Vec<u32> = (0..count)
            .filter(|number| open.queues.iter().all(|queue| queue.number != *number))
            .collect();
        if missing.is_empty() {
            return false;
        }
        let (id, purpose) = (managed.id, managed.purpose);
        let first = open.queues.first().map_or(0, |queue| {
            let back = queue.number as usize % self.budget.workers();
            queue.worker.index() + self.budget.workers() - back
        });
        // Taken out while its queues are bound.
        let state = std::mem::replace(&mut managed.state, InterfaceState::Absent);
        let InterfaceState::Open(mut open) = state else {
            return false;
        };
        let before = open.queues.len();
        let mut unbound = Vec::new();
        for number in missing {
            let worker = self.budget.nth_worker(first + number as usize);
            match self.bind(&open.backend, purpose, number, worker) {
                Ok(bound) => {
                    let queue = bound.attach(id, workers, &mut self.budget);
                    open.queues.extend(queue);
                }
                Err(error) => unbound.push(UnboundQueue {
                    number,
                    reason: error.to_string(),
                }),
            }
        }
        open.queues.sort_by_key(|queue| queue.number);
        open.set_bound(name, open.queues.len());
        let grown = open.queues.len() > before;
        if grown {
            tracing::info!(interface = %name, queues = open.queues.len(), "sockets bound: the interface has a link again, or more queues");
        }
        if unbound != open.unbound {
            for queue in &unbound {
                tracing::warn!(interface = %name, queue = queue.number, reason = queue.reason, "a queue has no socket");
            }
            open.unbound = unbound;
        }
        if let Some(managed) = self.managed.get_mut(name) {
            managed.state = InterfaceState::Open(open);
        }
        grown
    }

    /// The open interface with this index.
    #[must_use]
    pub fn by_index(&self, ifindex: u32) -> Option<&InterfaceName> {
        self.by_index.get(&ifindex)
    }

    /// Up to `count` interfaces after `last` in the order of names, from the first one again after
    /// the last one: for a regular look at each, at bounded cost.
    #[must_use]
    pub fn next_after(&self, last: Option<&InterfaceName>, count: usize) -> Vec<InterfaceName> {
        let after = self
            .managed
            .keys()
            .filter(|name| last.is_none_or(|last| *name > last));
        let names: Vec<_> = after.take(count).cloned().collect();
        if names.is_empty() && last.is_some() {
            return self.next_after(None, count);
        }
        names
    }
}
