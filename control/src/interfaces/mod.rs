//! Underlay and tenant interfaces: opened when they appear, their queues assigned to workers,
//! closed when they disappear.
//!
//! ```text
//! request -> Absent -> Open <-> Failed (retried when the link changes, and every 5 s)
//! ```

mod backend;
mod bind_notes;
mod bypass;
mod error;
mod io_choice;
mod link;
mod look;
mod packet_interface;
mod ports;
mod program_drops;
mod program_facts;
mod purpose;
mod queue_events;
mod queues;
mod reopen;
mod repeated_looks;
mod ring_budget;
mod stall;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{DeviceId, WorkerId};
use vtep_dataplane::afxdp::Umem;
use vtep_dataplane::stats::Counters;

pub use self::backend::{
    AttachMode, Backend, BindMode, ENDPOINT_LIMIT, InterfaceSettings, QueueDrops, SocketStatistics,
    VlanTags,
};
use self::backend::{QueueRings, SocketId};
pub use self::bind_notes::BUSY_POLL_ENDED;
use self::bypass::BypassWatch;
pub use self::error::{BackendError, InterfaceError};
pub use self::io_choice::{IoChoice, IoKind};
use self::look::Looks;
use self::packet_interface::Programs;
pub use self::ports::TenantPorts;
pub use self::program_drops::ProgramDrops;
use self::program_facts::{Fact, UnwrittenFacts};
pub use self::purpose::Purpose;
pub use self::queue_events::QueueEvents;
use self::queues::BoundQueue;
pub use self::queues::UnboundQueue;
pub use self::ring_budget::RingBudget;
use self::stall::StallWatch;
use crate::background::Background;
use crate::config::{InterfaceName, Io};
use crate::workers::Workers;

/// Delay before a failed interface is retried if no link event comes first.
const RETRY: Duration = Duration::from_secs(5);

/// Failed interfaces that are retried at a time: each costs system calls that attach a program.
const RETRIES: usize = 8;

/// One receive queue, or packet socket, and the worker that serves it.
#[derive(Debug)]
pub struct InterfaceQueue {
    /// Queue or socket number, from 0.
    pub number: u32,
    /// The worker that owns its socket.
    pub worker: WorkerId,
    /// Whether the kernel copies frames of AF_XDP.
    pub mode: Option<BindMode>,
    /// Whether frames may span several chunks (`XDP_USE_SG`).
    pub multi_buffer: bool,
    socket: SocketId,
    stall: StallWatch,
    /// Its part of the budget; a packet socket holds no chunks.
    rings: Option<QueueRings>,
}

/// An interface that is in use.
#[derive(Debug)]
pub struct OpenInterface {
    /// What carries its frames.
    pub backend: Backend,
    /// Why it is of this kind.
    pub choice: IoChoice,
    /// Its queues with sockets, in the order of their numbers.
    pub queues: Vec<InterfaceQueue>,
    /// Its queues without sockets.
    pub unbound: Vec<UnboundQueue>,
    /// Its MTU now, bytes.
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub link_up: bool,
    /// When its sockets are closed unless the link returns.
    close_at: Option<Instant>,
    bypass: BypassWatch,
    unwritten: UnwrittenFacts,
    /// The packet memory of its AF_XDP sockets.
    umem: Umem,
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
    /// How its frames are to enter and leave.
    io: Io,
    /// Its state.
    pub state: InterfaceState,
    /// Counters of all its frames that workers received or sent.
    pub counters: Arc<Counters>,
    /// Frames that its programs dropped before the present one was attached.
    earlier_drops: ProgramDrops,
    /// Counters of its sockets that were closed.
    earlier_sockets: SocketStatistics,
    /// When it was last opened again because its driver did not run the program, or the kernel did not
    /// fill a socket.
    attached_again: Option<Instant>,
    /// Drops what its sockets took while it is closed to be opened again.
    barrier: Option<Programs>,
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
    /// Why interfaces can't be used as configured now.
    obstacles: BTreeMap<InterfaceName, String>,
    /// Open interfaces by the kernel's index.
    by_index: HashMap<u32, InterfaceName>,
    looks: Looks,
}

/// An interface that was opened for a change that is not yet applied.
#[derive(Debug)]
pub struct PreparedInterface {
    /// What it is to be used for.
    pub purpose: Purpose,
    /// How its frames are to enter and leave.
    pub io: Io,
    backend: Backend,
    choice: IoChoice,
    ports: Vec<BoundQueue>,
}

impl Interfaces {
    /// No interface yet. The kernel is asked about them in the `background`.
    #[must_use]
    pub fn new(
        settings: InterfaceSettings,
        umem: Umem,
        budget: RingBudget,
        background: Background,
    ) -> Self {
        Self {
            own: settings.locals.clone(),
            settings,
            umem,
            budget,
            next_worker: 0,
            managed: BTreeMap::new(),
            obstacles: BTreeMap::new(),
            by_index: HashMap::new(),
            looks: Looks::new(background),
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

    /// Sets why an interface can't be used as configured; `None` = it can. It then stays closed.
    pub fn set_obstacle(&mut self, name: &InterfaceName, obstacle: Option<String>) {
        match obstacle {
            Some(reason) => drop(self.obstacles.insert(name.clone(), reason)),
            None => drop(self.obstacles.remove(name)),
        }
    }

    /// Registers an interface. It is opened by [`Self::activate`] or [`Self::try_open`].
    pub fn request(
        &mut self,
        name: &InterfaceName,
        id: DeviceId,
        (purpose, io): (Purpose, Io),
        counters: Arc<Counters>,
    ) {
        self.managed
            .entry(name.clone())
            .or_insert(ManagedInterface {
                id,
                purpose,
                io,
                state: InterfaceState::Absent,
                counters,
                earlier_drops: ProgramDrops::default(),
                earlier_sockets: SocketStatistics::default(),
                attached_again: None,
                barrier: None,
            });
    }

    /// Attaches the programs and binds every queue if there is a link, but hands nothing to a worker
    /// yet.
    ///
    /// # Errors
    /// The interface, the cause and the remedy; nothing stays attached.
    pub fn prepare(
        &mut self,
        name: &InterfaceName,
        purpose: Purpose,
        io: Io,
    ) -> Result<PreparedInterface, InterfaceError> {
        if let Some(reason) = self.obstacles.get(name) {
            return Err(InterfaceError::Unsuitable(reason.clone()));
        }
        let workers = self.budget.workers() as u32;
        let mut choice = IoChoice::of(name, purpose, io, self.settings.names_afxdp())?;
        let backend = Backend::open(name, purpose, &mut choice, &self.settings, workers)?;
        let first = match purpose {
            Purpose::Underlay => 0,
            Purpose::Tenant | Purpose::Trunk => self.next_worker,
        };
        let mut ports = Vec::new();
        let wanted = if backend.link_up() {
            backend.queues()
        } else {
            0
        };
        for number in 0..wanted {
            let worker = self.budget.nth_worker(first + number as usize);
            match self.bind(&backend, purpose, number, worker) {
                Ok(queue) => ports.push(queue),
                Err(error) => {
                    self.discard(PreparedInterface {
                        purpose,
                        io,
                        backend,
                        choice,
                        ports,
                    });
                    return Err(error);
                }
            }
        }
        Ok(PreparedInterface {
            purpose,
            io,
            backend,
            choice,
            ports,
        })
    }

    /// Undoes [`Self::prepare`] for a change that is not applied. No worker has used the sockets:
    /// the kernel frees them, and no chunk was in them.
    pub fn discard(&mut self, prepared: PreparedInterface) {
        for queue in prepared.ports {
            self.budget.free(queue.worker, queue.rings);
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
        let handed_over = prepared
            .ports
            .into_iter()
            .filter_map(|queue| queue.attach(managed.id, workers, &mut self.budget));
        let queues: Vec<_> = handed_over.collect();
        if managed.purpose != Purpose::Underlay {
            self.next_worker = (self.next_worker + queues.len()) % workers.count().max(1);
        }
        if let Some(reason) = bind_notes::invisible_tags(name, managed.purpose, &prepared.backend) {
            tracing::warn!(%reason, "VLAN tags may be lost");
        }
        let mtu = prepared.backend.mtu();
        let copied = prepared.backend.copied_because(&self.umem, &queues, mtu);
        if let Some(reason) = copied {
            tracing::warn!(%reason, "frames are copied");
        }
        tracing::info!(
            interface = %name,
            io = prepared.choice.kind.word(),
            why = prepared.choice.why,
            attach = prepared.backend.attach_mode().map(AttachMode::name),
            queues = queues.len(),
            "interface opened"
        );
        let mut unwritten = UnwrittenFacts::default();
        let told = prepared.backend.set_bound(queues.len());
        unwritten.note(name, Fact::Sockets, told);
        self.by_index
            .insert(prepared.backend.ifindex(), name.clone());
        let link_up = prepared.backend.link_up();
        managed.state = InterfaceState::Open(Box::new(OpenInterface {
            backend: prepared.backend,
            choice: prepared.choice,
            queues,
            unbound: Vec::new(),
            mtu,
            link_up,
            close_at: None,
            bypass: BypassWatch::default(),
            unwritten,
            umem: self.umem.clone(),
        }));
    }

    /// Opens an interface that was requested and is not open. Returns whether its state changed.
    pub fn try_open(&mut self, name: &InterfaceName, workers: &Workers, now: Instant) -> bool {
        let Some((purpose, io)) = self
            .managed
            .get(name)
            .filter(|m| m.open().is_none())
            .map(|m| (m.purpose, m.io))
        else {
            return false;
        };
        let prepared = self.prepare(name, purpose, io);
        let managed = self.managed.get_mut(name).expect("looked up above");
        managed.end_barrier();
        let next = match prepared {
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

    /// The failed interfaces whose retry is due.
    #[must_use]
    pub fn due(&self, now: Instant) -> Vec<InterfaceName> {
        let due = |managed: &ManagedInterface| match managed.state {
            InterfaceState::Failed { retry, .. } => retry <= now,
            _ => false,
        };
        let failed = self.managed.iter().filter(|(_, managed)| due(managed));
        failed.map(|(name, _)| name.clone()).take(RETRIES).collect()
    }

    /// Closes an interface: workers close its queues, its program is detached. It stays requested.
    /// Returns whether it was open.
    pub fn close(&mut self, name: &InterfaceName, workers: &mut Workers) -> bool {
        let Some(managed) = self.managed.get_mut(name) else {
            return false;
        };
        let InterfaceState::Open(open) =
            std::mem::replace(&mut managed.state, InterfaceState::Absent)
        else {
            return false;
        };
        self.by_index.remove(&open.backend.ifindex());
        if let Err(error) = open.backend.set_bound(0) {
            tracing::warn!(interface = %name, %error, "frames are not counted while the interface is closed");
        }
        managed.earlier_drops = managed.earlier_drops + ProgramDrops::of(&open.backend.drops());
        managed.earlier_sockets = managed.earlier_sockets + open.statistics_of(|_| true);
        if !workers.detach(managed.id, 0) {
            tracing::error!(interface = %name, "a worker did not close its queues in time");
        }
        for queue in &open.queues {
            self.budget.free(queue.worker, queue.rings);
        }
        tracing::info!(interface = %name, "interface closed");
        true
    }

    /// Multicast groups that the XDP program has no room for.
    #[must_use]
    pub const fn endpoints_left_out(&self) -> usize {
        self.settings.locals.len().saturating_sub(ENDPOINT_LIMIT)
    }

    /// Closes and removes an interface that is no longer used. Returns its ID.
    pub fn release(&mut self, name: &InterfaceName, workers: &mut Workers) -> Option<DeviceId> {
        self.close(name, workers);
        self.managed.remove(name).map(|managed| managed.id)
    }
}
