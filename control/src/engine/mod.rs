//! The engine: turns the configuration into FIB entries, open interfaces and resolved VTEPs.
//!
//! ```text
//! Change (file, control socket) -> check -> open interfaces -> fib -> commit -> workers
//! netlink -> underlay -> paths of VTEPs --------------------^
//! netlink -> link event -> interfaces ----------------------^
//! ```
//!
//! A batch of changes is atomic: everything that can fail (rules between values, interfaces that
//! can't be opened, full tables) is checked before anything changes.

mod apply;
mod bgp;
mod deadlines;
mod event_log;
mod events;
mod evpn;
mod groups;
mod learn;
mod learned;
mod lifetime;
mod mac_move;
mod session_log;
mod setup;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Registry, Token, Waker};
use vtep_dataplane::addr::Vni;
use vtep_dataplane::afxdp::Umem;
use vtep_dataplane::event::EventQueue;

use self::events::RegularLook;
use self::evpn::EvpnSessions;
use self::groups::Groups;
use self::learned::LearnedHosts;
pub use self::learned::NotLearned;
pub(crate) use self::learned::PortUsage;
use self::lifetime::Lifetimes;
pub(crate) use self::setup::{interface_settings, underlay_config};
use self::setup::{plan, settings};
pub use self::setup::{umem_config, worker_count};
pub(crate) use self::view::EngineView;
use crate::api::event as monitor;
use crate::api::show::PortState;
use crate::background::Background;
use crate::config::{self, BatchError, Change, Config, InterfaceName, Io, PortKey};
use crate::fib::{Fib, FibError, VtepTracking};
use crate::interfaces::{
    BackendError, InterfaceError, Interfaces, Purpose, QueueEvents, RingBudget, TenantPorts,
};
use crate::iteration::{IterationClock, IterationPart};
use crate::speaker::BgpSpeaker;
use crate::underlay::{Reception, Underlay};
use crate::workers::Workers;

/// Why the engine did not start, or rejected a batch.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A change does not fit the configuration.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// An interface of a new port can't be opened.
    #[error("change {index}: {error}")]
    Interface {
        /// Index of the change in the batch, from 0.
        index: usize,
        /// The cause.
        error: Box<InterfaceError>,
    },
    /// A table can't hold the change.
    #[error("change {index}: {error}")]
    Table {
        /// Index of the change in the batch, from 0.
        index: usize,
        /// The cause.
        error: FibError,
    },
    /// Memory for frames, or an underlay interface.
    #[error(transparent)]
    Device(#[from] InterfaceError),
    /// Netlink, threads, eventfds.
    #[error("{what}: {error}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

impl EngineError {
    /// The change that was refused, by its position in the batch; its field at fault, and why.
    #[must_use]
    pub fn refused_change(&self) -> Option<(usize, &'static str, String)> {
        match self {
            Self::Batch(BatchError { index, error }) => {
                Some((*index, error.field(), error.to_string()))
            }
            Self::Interface { index, error } => Some((*index, "interface", error.to_string())),
            Self::Table { index, error } => Some((*index, "interface", error.to_string())),
            Self::Device(_) | Self::Io { .. } => None,
        }
    }
}

/// The running configuration and everything built from it.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    fib: Fib,
    // Declared before the workers, so that interfaces are closed while workers still run.
    interfaces: Interfaces,
    ports: TenantPorts,
    workers: Workers,
    underlay: Underlay,
    /// `None`: the kernel refused the socket, and only the regular look notices queues.
    queue_events: Option<QueueEvents>,
    look: RegularLook,
    background: Background,
    started: Instant,
    /// The same moment, seconds since 1970.
    started_unix: u64,
    evpn: EvpnSessions,
    bgp: BgpSpeaker,
    session_starts: bgp::SessionStarts,
    session_log: session_log::SessionLog,
    /// The daemon's poll, for BGP sockets.
    registry: Registry,
    learned: LearnedHosts,
    lifetimes: Lifetimes,
    groups: Groups,
    /// For monitoring clients, since the last [`Self::take_events`].
    events: Vec<monitor::ApiEvent>,
    /// Workers have reported more than one turn handles.
    events_left: bool,
    /// The groups that VNIs use, or the interfaces that they are joined on, have changed.
    groups_changed: bool,
    /// An underlay interface was opened or closed since the paths of VTEPs were set.
    paths_changed: bool,
    /// Until when sessions set the Restart State bit.
    restart_ends: Option<Instant>,
    /// The interface states that monitoring clients were notified of.
    notified_states: BTreeMap<InterfaceName, PortState>,
    /// Interfaces whose state may have changed since.
    touched: BTreeSet<InterfaceName>,
    turns: IterationClock,
}

/// Maximum number of MAC entries, local and remote, over all VNIs.
pub const MAX_MACS: usize = 4 << 20;

impl Engine {
    /// Starts the workers and the underlay, then applies `config`. Interfaces that don't exist yet
    /// are opened when they appear. BGP sockets register with `registry`, with tokens after
    /// `tokens`. Answers of the kernel in the background wake the owner's poll by `waker`.
    ///
    /// # Errors
    /// When the host refuses memory, threads or netlink, or a table is too small.
    pub fn start(
        config: &Config,
        registry: Registry,
        tokens: Token,
        waker: Waker,
        now: Instant,
    ) -> Result<Self, EngineError> {
        let background = setup::background(waker).map_err(io_error("starting a thread"))?;
        let vtep = config.vtep();
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // The seed of timer jitter, which keeps daemons from acting at the same moment: process and
        // time differ enough.
        let seed = since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let underlay = Underlay::new(underlay_config(vtep)).map_err(io_error("netlink"))?;
        let plan = plan(vtep);
        let umem = Umem::new(umem_config(vtep))
            .map_err(|error| InterfaceError::from(BackendError::from(error)))?;
        let mut fib = Fib::new(plan.cores.len(), MAX_MACS, settings(vtep));
        fib.reserve_for_local(MAX_MACS);
        let workers =
            Workers::start(&plan, &umem, &fib).map_err(io_error("starting the workers"))?;
        let interfaces = Interfaces::new(
            interface_settings(vtep),
            umem,
            RingBudget::new(workers.count(), vtep.afxdp.frames),
            background.clone(),
        );
        let mut engine = Self {
            config: Config::new(vtep.clone(), config.control().clone()),
            fib,
            interfaces,
            ports: TenantPorts::default(),
            workers,
            underlay,
            queue_events: setup::queue_events(),
            look: RegularLook::new(now),
            background,
            started: now,
            started_unix: since_1970.as_secs(),
            evpn: EvpnSessions::new(config),
            bgp: BgpSpeaker::new(config::BGP_PORT, tokens, seed),
            session_starts: bgp::SessionStarts::new(),
            session_log: session_log::SessionLog::default(),
            registry,
            learned: LearnedHosts::default(),
            lifetimes: Lifetimes::default(),
            groups: Groups::default(),
            events: Vec::new(),
            events_left: false,
            groups_changed: false,
            paths_changed: false,
            restart_ends: Some(now + bgp::RESTART),
            notified_states: BTreeMap::new(),
            touched: BTreeSet::new(),
            turns: IterationClock::default(),
        };
        engine.open_underlay()?;
        let all = config::diff(&engine.config, config).changes;
        engine.config.apply_all(&all)?;
        for (index, change) in all.iter().enumerate() {
            engine
                .apply(change, now)
                .map_err(|error| EngineError::Table { index, error })?;
        }
        engine.start_sessions(now);
        engine.commit(now);
        Ok(engine)
    }

    fn open_underlay(&mut self) -> Result<(), EngineError> {
        let io = self.config.vtep().underlay_io;
        for name in self.config.vtep().underlay.clone() {
            self.request_interface(&name, Purpose::Underlay, io)
                .map_err(|error| EngineError::Table { index: 0, error })?;
            self.check_suitable(&name);
            match self.interfaces.prepare(&name, Purpose::Underlay, io) {
                Ok(prepared) => self.interfaces.activate(&name, prepared, &self.workers),
                // It may appear later, as tenant interfaces may; the check of the host has said so.
                Err(error) if error.is_absent() => {}
                // Another program uses it, or the host refuses: starting anyway would only hide
                // that.
                Err(error) => return Err(error.into()),
            }
            self.publish_interface(&name);
        }
        Ok(())
    }

    /// The running configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Applies a batch of changes, all or none.
    ///
    /// # Errors
    /// [`EngineError`] names the rejected change and the cause; then nothing of the batch is
    /// applied.
    pub fn apply_batch(&mut self, changes: &[Change], now: Instant) -> Result<(), EngineError> {
        // What has happened to links counts for the ports that are added.
        self.poll_underlay(now);
        self.check_capacity(changes)?;
        let (prepared, absent) = self.prepare(changes)?;
        if let Err(error) = self.config.apply_all(changes) {
            prepared
                .into_values()
                .for_each(|prepared| self.interfaces.discard(prepared));
            return Err(error.into());
        }
        for interface in absent {
            tracing::info!(%interface, "the interface does not exist yet; waiting for it");
        }
        for (name, prepared) in prepared {
            let (purpose, io) = (prepared.purpose, prepared.io);
            if self.request_interface(&name, purpose, io).is_ok() {
                self.interfaces.activate(&name, prepared, &self.workers);
            }
        }
        for change in changes {
            self.lifetimes.track(change, now);
            if let Err(error) = self.apply(change, now) {
                // `check_capacity` has counted: this can't happen, and if it does, the batch is
                // applied in part.
                tracing::error!(%error, ?change, "can't apply a change that was checked");
            }
        }
        self.start_sessions(now);
        self.commit(now);
        Ok(())
    }

    fn request_interface(
        &mut self,
        name: &InterfaceName,
        purpose: Purpose,
        io: Io,
    ) -> Result<(), FibError> {
        if self.interfaces.get(name).is_none() {
            let id = self.fib.alloc_device_id()?;
            self.interfaces
                .request(name, id, (purpose, io), self.fib.new_counters());
        }
        Ok(())
    }

    fn remove_port(&mut self, vni: Vni, key: &PortKey, now: Instant) {
        self.unlearn_port(key, now);
        let before = self.ports.remove(key, &mut self.fib);
        self.evpn_port(vni, before.as_ref(), None, now);
        if self.ports.uses(&key.interface) {
            self.publish_interface(&key.interface);
        } else if let Some(id) = self.interfaces.release(&key.interface, &mut self.workers) {
            self.fib.set_device(id, None);
            self.touched.insert(key.interface.clone());
        }
    }

    /// Writes the rows of an interface, whose state or ports have changed.
    fn publish_interface(&mut self, name: &InterfaceName) {
        self.touched.insert(name.clone());
        let managed = self.interfaces.get(name);
        let is_underlay = managed.is_some_and(|managed| managed.purpose == Purpose::Underlay);
        self.groups_changed |= is_underlay;
        self.paths_changed |= is_underlay;
        let reception = match managed.and_then(|managed| managed.open()) {
            Some(open) if is_underlay => self.underlay.reception(open.backend.ifindex()),
            _ => Reception::default(),
        };
        let workers = self.workers.count();
        self.ports
            .publish(name, reception, &self.interfaces, workers, &mut self.fib);
    }

    /// Installs routes, tracks new VTEPs, publishes the staged tables, and wakes sleeping workers.
    fn commit(&mut self, now: Instant) {
        self.install_configured(now);
        if std::mem::take(&mut self.groups_changed) {
            self.sync_groups();
        }
        if std::mem::take(&mut self.paths_changed) {
            self.set_all_paths(now);
        }
        for change in self.fib.vtep_tracking() {
            match change {
                VtepTracking::Track(vtep) => self.underlay.track(vtep, now),
                VtepTracking::Untrack(vtep) => {
                    self.underlay.untrack(vtep);
                    self.evpn.speaker.vtep_resolved(now, vtep, None);
                }
            }
        }
        self.poll_underlay(now);
        if self.fib.commit() {
            self.workers.refresh();
        }
    }

    /// Handles worker events, netlink events and timers, and publishes what they changed. Must be
    /// called when a registered descriptor is readable and when [`Self::next_timeout`] has passed.
    pub fn poll(&mut self, now: Instant) {
        self.workers.events.clear_wakeup();
        self.workers.close_late();
        self.handle_worker_events(now);
        self.age_learned(now);
        self.expire_entries(now);
        self.turns.end_part(IterationPart::Hosts);
        for name in self.interfaces.due(now) {
            self.check_suitable(&name);
            if self.interfaces.try_open(&name, &self.workers, now) {
                self.interface_changed(&name);
            }
        }
        self.follow_queues(now);
        self.look_at_policies(now);
        self.poll_underlay(now);
        self.notify_port_states();
        self.turns.end_part(IterationPart::Underlay);
        self.poll_bgp(now);
        self.commit(now);
        self.fib.reclaim();
        self.turns.end_part(IterationPart::Tables);
    }

    /// How long the owner's turns took.
    #[must_use]
    pub const fn turns(&self) -> &IterationClock {
        &self.turns
    }

    /// The clock of the owner's turns, in which [`Self::poll`] notes its parts.
    pub const fn turns_mut(&mut self) -> &mut IterationClock {
        &mut self.turns
    }

    /// How long the owner may wait before the next [`Self::poll`]; `None`: until an event.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let all = [
            self.underlay.next_timeout(now),
            self.bgp_timeout(now),
            self.lifetimes.next_timeout(now),
            self.learned
                .next_age()
                .map(|at| at.saturating_duration_since(now)),
            self.events_left.then_some(Duration::ZERO),
        ];
        all.into_iter().flatten().min()
    }

    /// Notifies monitoring clients of interfaces whose state has changed.
    fn notify_port_states(&mut self) {
        for name in std::mem::take(&mut self.touched) {
            let Some(managed) = self.interfaces.get(&name) else {
                self.notified_states.remove(&name);
                continue;
            };
            let (state, reason) = self.view().port_state(&name, managed);
            if self.notified_states.insert(name.clone(), state) == Some(state) {
                continue;
            }
            let event = |port: PortKey, vni| {
                monitor::ApiEvent::Port(monitor::PortEvent {
                    port,
                    vni,
                    state,
                    reason: reason.clone(),
                })
            };
            let ports = self.ports.on(&name);
            self.events
                .extend(ports.map(|(key, port)| event(key.clone(), Some(port.vni))));
            if managed.purpose == Purpose::Underlay {
                let (interface, vlan) = (name, None);
                self.events.push(event(PortKey { interface, vlan }, None));
            }
        }
    }

    /// Events for monitoring clients since the last call.
    pub fn take_events(&mut self) -> Vec<monitor::ApiEvent> {
        std::mem::take(&mut self.events)
    }

    /// Events of the workers: the descriptor is readable when there are any, and [`Self::poll`]
    /// handles them.
    #[must_use]
    pub const fn worker_events(&self) -> &EventQueue {
        &self.workers.events
    }

    /// Links, addresses and routes of this host.
    #[must_use]
    pub const fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// The source of netlink events, which the daemon registers with its poll.
    pub fn underlay_mut(&mut self) -> &mut Underlay {
        &mut self.underlay
    }

    /// The source of events of queues, which the daemon registers with its poll.
    pub const fn queue_events_mut(&mut self) -> Option<&mut QueueEvents> {
        self.queue_events.as_mut()
    }

    /// Detaches all programs and ends the workers. Returns whether every worker ended in time.
    pub fn stop(mut self) -> bool {
        self.bgp
            .stop(&self.registry, &mut self.evpn, Instant::now());
        let names: Vec<_> = self.interfaces.all().keys().cloned().collect();
        for name in names {
            self.interfaces.close(&name, &mut self.workers);
        }
        self.workers.stop()
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Io { what, error }
}
