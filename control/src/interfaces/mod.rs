//! Underlay and tenant interfaces: opened when they appear, their queues assigned to workers,
//! closed when they disappear.
//!
//! ```text
//! request -> Absent -> Open <-> Failed (retried when the link changes, and every 5 s)
//! ```

mod backend;
mod bind_notes;
mod ports;
mod purpose;
mod ring_budget;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{DeviceId, WorkerId};
use vtep_dataplane::afxdp::Umem;
use vtep_dataplane::stats::Counters;

pub use self::backend::{
    AttachMode, Backend, BackendError, BindMode, InterfaceSettings, SocketStatistics,
};
use self::backend::{QueueRings, SocketId};
pub use self::bind_notes::BUSY_POLL_ENDED;
pub use self::ports::TenantPorts;
pub use self::purpose::Purpose;
pub use self::ring_budget::RingBudget;
use crate::config::InterfaceName;
use crate::workers::{QueuePort, Workers};

/// Delay before a failed interface is retried if no link event comes first.
const RETRY: Duration = Duration::from_secs(5);

/// Why an interface can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The kernel refused the interface or a queue.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The worker's UMEM frames are all in use.
    #[error(
        "no frames left for another queue: a worker has {share}, and {wanted} more are needed; \
         raise [vtep.afxdp] frames"
    )]
    NoFrames {
        /// The worker's share of the frames.
        share: u32,
        /// Frames that the shortest ring needs.
        wanted: u32,
    },
}

impl InterfaceError {
    /// True when there is no such interface.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let Self::Backend(error) = self else {
            return false;
        };
        // ENODEV, ENXIO (include/uapi/asm-generic/errno-base.h).
        matches!(error.errno(), Some(19 | 6))
    }
}

/// One receive queue and the worker that serves it.
#[derive(Debug)]
pub struct InterfaceQueue {
    /// Queue number, from 0.
    pub number: u32,
    /// The worker that owns its socket.
    pub worker: WorkerId,
    /// Whether the kernel copies frames.
    pub mode: BindMode,
    /// Whether frames may span several chunks (`XDP_USE_SG`).
    pub multi_buffer: bool,
    socket: SocketId,
    rings: QueueRings,
}

/// An interface that is in use.
#[derive(Debug)]
pub struct OpenInterface {
    /// What carries its frames.
    pub backend: Backend,
    /// Its queues.
    pub queues: Vec<InterfaceQueue>,
    /// Its MTU now, bytes.
    pub mtu: u32,
}

impl OpenInterface {
    /// Whether every queue accepts frames of several chunks.
    #[must_use]
    pub fn is_multi_buffer(&self) -> bool {
        self.queues.iter().all(|queue| queue.multi_buffer)
    }
}

/// State of an interface.
#[derive(Debug)]
pub enum InterfaceState {
    /// The interface does not exist.
    Absent,
    /// It exists, but can't be used.
    Failed {
        /// The cause and the remedy.
        reason: String,
        /// When to try again.
        retry: Instant,
    },
    /// In use.
    Open(Box<OpenInterface>),
}

/// An interface that the underlay or tenant ports use.
#[derive(Debug)]
pub struct ManagedInterface {
    /// Its ID, the same until it is released.
    pub id: DeviceId,
    /// What it is used for.
    pub purpose: Purpose,
    /// Its state.
    pub state: InterfaceState,
    /// Counters of all its frames.
    pub counters: Arc<Counters>,
}

impl ManagedInterface {
    /// The open interface.
    #[must_use]
    pub const fn open(&self) -> Option<&OpenInterface> {
        match &self.state {
            InterfaceState::Open(open) => Some(open),
            _ => None,
        }
    }

    /// For each of `workers` workers, the worker that transmits its frames on this interface.
    #[must_use]
    pub fn tx_workers(&self, workers: usize) -> Box<[WorkerId]> {
        let queues = self.open().map_or(&[][..], |open| &open.queues[..]);
        let first = queues.first().map(|queue| queue.worker);
        let sender = |worker| {
            let own = queues
                .iter()
                .any(|queue| queue.worker == worker)
                .then_some(worker);
            own.or(first).unwrap_or(worker)
        };
        (0..workers as u16)
            .map(|worker| sender(WorkerId(worker)))
            .collect()
    }
}

/// All requested interfaces.
#[derive(Debug)]
pub struct Interfaces {
    settings: InterfaceSettings,
    /// Local VTEP addresses; `settings.locals` also has multicast groups.
    own: Vec<IpAddr>,
    umem: Umem,
    budget: RingBudget,
    /// The worker that gets the first queue of the next tenant interface.
    next_worker: usize,
    managed: BTreeMap<InterfaceName, ManagedInterface>,
}

/// An interface that was opened for a change that is not yet applied.
#[derive(Debug)]
pub struct PreparedInterface {
    backend: Backend,
    ports: Vec<(QueueRings, WorkerId, QueuePort)>,
}

impl Interfaces {
    /// No interface yet.
    #[must_use]
    pub fn new(settings: InterfaceSettings, umem: Umem, budget: RingBudget) -> Self {
        Self {
            own: settings.locals.clone(),
            settings,
            umem,
            budget,
            next_worker: 0,
            managed: BTreeMap::new(),
        }
    }

    /// Every requested interface.
    #[must_use]
    pub const fn all(&self) -> &BTreeMap<InterfaceName, ManagedInterface> {
        &self.managed
    }

    /// The interface, if it was requested.
    #[must_use]
    pub fn get(&self, name: &InterfaceName) -> Option<&ManagedInterface> {
        self.managed.get(name)
    }

    /// Registers an interface. It is opened by [`Self::activate`] or [`Self::try_open`].
    pub fn request(
        &mut self,
        name: &InterfaceName,
        id: DeviceId,
        purpose: Purpose,
        counters: Arc<Counters>,
    ) {
        self.managed
            .entry(name.clone())
            .or_insert(ManagedInterface {
                id,
                purpose,
                state: InterfaceState::Absent,
                counters,
            });
    }

    /// Attaches the program and binds every queue, but hands nothing to a worker yet.
    ///
    /// # Errors
    /// The interface, the cause and the remedy; nothing stays attached.
    pub fn prepare(
        &mut self,
        name: &InterfaceName,
        purpose: Purpose,
    ) -> Result<PreparedInterface, InterfaceError> {
        let backend = Backend::open(name, purpose, &self.settings)?;
        let workers = self.budget.workers();
        let first = match purpose {
            Purpose::Underlay => 0,
            Purpose::Tenant | Purpose::Trunk => self.next_worker,
        };
        let mut ports = Vec::new();
        for number in 0..backend.queues() {
            let worker = WorkerId(((first + number as usize) % workers) as u16);
            let busy_poll = self.settings.busy_poll;
            let bound = self
                .budget
                .allocate(worker, purpose, busy_poll)
                .and_then(|rings| {
                    let port = backend.bind(number, &self.umem, rings);
                    let port = port.inspect_err(|_| self.budget.free(worker, rings))?;
                    Ok((rings, worker, port))
                });
            match bound {
                Ok(queue) => ports.push(queue),
                Err(error) => {
                    self.discard(PreparedInterface { backend, ports });
                    return Err(error);
                }
            }
        }
        Ok(PreparedInterface { backend, ports })
    }

    /// Undoes [`Self::prepare`] for a change that is not applied. No worker has used the sockets:
    /// the kernel frees them, and no chunk was in them.
    pub fn discard(&mut self, prepared: PreparedInterface) {
        for (rings, worker, port) in prepared.ports {
            self.budget.free(worker, rings);
            drop(port);
        }
        drop(prepared.backend);
    }

    /// Hands a prepared interface's queues to the workers. The interface must be requested and not
    /// open.
    pub fn activate(
        &mut self,
        name: &InterfaceName,
        prepared: PreparedInterface,
        workers: &Workers,
    ) {
        let Some(managed) = self.managed.get_mut(name) else {
            self.discard(prepared);
            return;
        };
        let mut queues = Vec::new();
        for (rings, worker, port) in prepared.ports {
            let (number, mode, socket) = (port.queue(), port.bind_mode(), port.id());
            let multi_buffer = port.is_multi_buffer();
            if workers.attach(worker, managed.id, number, port) {
                queues.push(InterfaceQueue {
                    number,
                    worker,
                    mode,
                    multi_buffer,
                    socket,
                    rings,
                });
            } else {
                tracing::error!(interface = %name, queue = number, worker = worker.0, "the worker accepts no commands");
                self.budget.free(worker, rings);
            }
        }
        if managed.purpose != Purpose::Underlay {
            self.next_worker = (self.next_worker + queues.len()) % workers.count().max(1);
        }
        if managed.purpose == Purpose::Trunk && !prepared.backend.restores_tags() {
            tracing::warn!(
                interface = %name,
                "the XDP program can't see tags that the driver keeps beside the frame: if no VLAN arrives, run \
                 `ethtool -K {name} rxvlan off` (veth: `ethtool -K PEER txvlan off` at the other end)"
            );
        }
        let mtu = prepared.backend.mtu();
        let copied = prepared.backend.copied_because(&self.umem, &queues, mtu);
        if let Some(reason) = copied {
            tracing::warn!(%reason, "frames are copied");
        }
        tracing::info!(
            interface = %name,
            attach = %prepared.backend.attach_mode(),
            queues = queues.len(),
            "interface opened"
        );
        managed.state = InterfaceState::Open(Box::new(OpenInterface {
            backend: prepared.backend,
            queues,
            mtu,
        }));
    }

    /// Opens an interface that was requested and is not open. Returns whether its state changed.
    pub fn try_open(&mut self, name: &InterfaceName, workers: &Workers, now: Instant) -> bool {
        let Some(purpose) = self
            .managed
            .get(name)
            .filter(|m| m.open().is_none())
            .map(|m| m.purpose)
        else {
            return false;
        };
        let next = match self.prepare(name, purpose) {
            Ok(prepared) => {
                self.activate(name, prepared, workers);
                return true;
            }
            Err(error) if error.is_absent() => InterfaceState::Absent,
            Err(error) => InterfaceState::Failed {
                reason: error.to_string(),
                retry: now + RETRY,
            },
        };
        let managed = self.managed.get_mut(name).expect("looked up above");
        let changed = match (&managed.state, &next) {
            (InterfaceState::Absent, InterfaceState::Absent) => false,
            (
                InterfaceState::Failed { reason: old, .. },
                InterfaceState::Failed { reason: new, .. },
            ) => old != new,
            _ => true,
        };
        if let (true, InterfaceState::Failed { reason, .. }) = (changed, &next) {
            tracing::warn!(interface = %name, reason, "interface can't be used");
        }
        managed.state = next;
        changed
    }

    /// Retries failed interfaces that are due. Returns those whose state changed.
    pub fn retry(&mut self, workers: &Workers, now: Instant) -> Vec<InterfaceName> {
        let due = |managed: &ManagedInterface| match managed.state {
            InterfaceState::Failed { retry, .. } => retry <= now,
            _ => false,
        };
        let names: Vec<_> = self
            .managed
            .iter()
            .filter(|(_, m)| due(m))
            .map(|(name, _)| name.clone())
            .collect();
        names
            .into_iter()
            .filter(|name| self.try_open(name, workers, now))
            .collect()
    }

    /// Closes an interface: workers close its queues, its program is detached. It stays requested.
    /// Returns whether it was open.
    pub fn close(&mut self, name: &InterfaceName, workers: &Workers) -> bool {
        let Some(managed) = self.managed.get_mut(name) else {
            return false;
        };
        let InterfaceState::Open(open) =
            std::mem::replace(&mut managed.state, InterfaceState::Absent)
        else {
            return false;
        };
        if !workers.detach(managed.id) {
            tracing::error!(interface = %name, "a worker did not close its queues in time");
        }
        for queue in &open.queues {
            self.budget.free(queue.worker, queue.rings);
        }
        tracing::info!(interface = %name, "interface closed");
        true
    }

    /// Accepts VXLAN to these multicast groups in addition to the local VTEP addresses.
    pub fn set_groups(&mut self, groups: &[IpAddr]) {
        let own = self.own.clone();
        let all: Vec<_> = own.iter().chain(groups).copied().collect();
        if all == self.settings.locals {
            return;
        }
        self.settings.locals.clone_from(&all);
        for (name, managed) in &mut self.managed {
            if let (Purpose::Underlay, InterfaceState::Open(open)) =
                (managed.purpose, &mut managed.state)
                && let Err(error) = open.backend.set_endpoints(&all, self.settings.udp_port)
            {
                tracing::error!(interface = %name, %error, "can't add the multicast groups to the XDP program");
            }
        }
    }

    /// The kernel's counters of an open interface, summed over its sockets.
    #[must_use]
    pub fn statistics(&self, open: &OpenInterface) -> SocketStatistics {
        let all = open
            .queues
            .iter()
            .filter_map(|queue| open.backend.statistics(&self.umem, queue.socket));
        all.fold(SocketStatistics::default(), |sum, one| sum + one)
    }

    /// Sets an interface's MTU, bytes. Returns whether it changed.
    pub fn set_mtu(&mut self, name: &InterfaceName, mtu: u32) -> bool {
        let Some(InterfaceState::Open(open)) =
            self.managed.get_mut(name).map(|managed| &mut managed.state)
        else {
            return false;
        };
        if open.mtu != mtu
            && let Err(error) = open.backend.set_mtu(mtu)
        {
            tracing::error!(%error, "can't pass the new MTU to the XDP program");
        }
        std::mem::replace(&mut open.mtu, mtu) != mtu
    }

    /// Closes and removes an interface that is no longer used. Returns its ID.
    pub fn release(&mut self, name: &InterfaceName, workers: &Workers) -> Option<DeviceId> {
        self.close(name, workers);
        self.managed.remove(name).map(|managed| managed.id)
    }
}
