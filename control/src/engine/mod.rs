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
mod events;
mod evpn;
mod groups;
mod learn;
mod lifetime;
mod mac_move;
mod setup;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Registry, Token};
use vtep_dataplane::addr::Vni;
use vtep_dataplane::afxdp::{HugePages, Umem, UmemConfig};
use vtep_dataplane::event::EventQueue;

use self::evpn::EvpnSessions;
use self::groups::Groups;
use self::learn::LearnedHosts;
use self::lifetime::Lifetimes;
use self::setup::{interface_settings, plan, settings, underlay_config};
pub(crate) use self::view::EngineView;
use crate::api::event as monitor;
use crate::api::show::PortState;
use crate::config::{self, BatchError, Change, Config, InterfaceName, PortKey};
use crate::fib::{Fib, FibError, VtepTracking};
use crate::interfaces::{InterfaceError, Interfaces, Purpose, RingBudget, TenantPorts};
use crate::speaker::BgpSpeaker;
use crate::underlay::Underlay;
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
    started: Instant,
    /// The same moment, seconds since 1970.
    started_unix: u64,
    evpn: EvpnSessions,
    bgp: BgpSpeaker,
    session_starts: bgp::SessionStarts,
    /// The daemon's poll, for BGP sockets.
    registry: Registry,
    learned: LearnedHosts,
    lifetimes: Lifetimes,
    groups: Groups,
    /// For monitoring clients, since the last [`Self::take_events`].
    events: Vec<monitor::ApiEvent>,
    /// EVPN changes since the start that were not installed because a table was full.
    not_installed: u64,
    /// When learned hosts are aged next.
    age_at: Instant,
    /// Until when sessions set the Restart State bit.
    restart_ends: Option<Instant>,
    /// The interface states that monitoring clients were notified of.
    notified_states: BTreeMap<InterfaceName, PortState>,
}

/// Maximum number of MAC entries, local and remote, over all VNIs.
pub const MAX_MACS: usize = 4 << 20;

impl Engine {
    /// Starts the workers and the underlay, then applies `config`. Interfaces that don't exist yet
    /// are opened when they appear. BGP sockets register with `registry`, with tokens after
    /// `tokens`.
    ///
    /// # Errors
    /// When the host refuses memory, threads or netlink, or a table is too small.
    pub fn start(
        config: &Config,
        registry: Registry,
        tokens: Token,
        now: Instant,
    ) -> Result<Self, EngineError> {
        let vtep = config.vtep();
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // The seed of timer jitter, which keeps daemons from acting at the same moment: process and
        // time differ enough.
        let seed = since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let tables_settings = settings(vtep);
        let underlay = Underlay::new(underlay_config(vtep)).map_err(io_error("netlink"))?;
        let plan = plan(vtep);
        let umem = Umem::new(UmemConfig {
            frames: vtep.afxdp.frames,
            frame_size: vtep.afxdp.frame_size,
            huge_pages: match vtep.afxdp.huge_pages {
                config::Tristate::Auto => HugePages::Auto,
                config::Tristate::On => HugePages::On,
                config::Tristate::Off => HugePages::Off,
            },
        })
        .map_err(InterfaceError::from)?;
        let fib = Fib::new(plan.cores.len(), MAX_MACS, tables_settings);
        let workers =
            Workers::start(&plan, &umem, &fib).map_err(io_error("starting the workers"))?;
        let share = vtep.afxdp.frames / workers.count() as u32;
        let interfaces = Interfaces::new(
            interface_settings(vtep),
            umem,
            RingBudget::new(workers.count(), share),
        );
        let mut engine = Self {
            config: Config::new(vtep.clone(), config.control().clone()),
            fib,
            interfaces,
            ports: TenantPorts::default(),
            workers,
            underlay,
            started: now,
            started_unix: since_1970.as_secs(),
            evpn: EvpnSessions::new(config),
            bgp: BgpSpeaker::new(config::BGP_PORT, tokens, seed),
            session_starts: bgp::SessionStarts::new(),
            registry,
            learned: LearnedHosts::default(),
            lifetimes: Lifetimes::default(),
            groups: Groups::default(),
            events: Vec::new(),
            not_installed: 0,
            age_at: now,
            restart_ends: Some(now + bgp::RESTART),
            notified_states: BTreeMap::new(),
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
        for name in self.config.vtep().underlay.clone() {
            self.request_interface(&name, Purpose::Underlay)
                .map_err(|error| EngineError::Table { index: 0, error })?;
            match self.interfaces.prepare(&name, Purpose::Underlay) {
                Ok(prepared) => self.interfaces.activate(&name, prepared, &self.workers),
                // It may appear later, as tenant interfaces may.
                Err(error) if error.is_absent() => {
                    tracing::warn!(interface = %name, "the underlay interface does not exist yet; waiting for it");
                }
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
        self.check_capacity(changes)?;
        let prepared = self.prepare(changes)?;
        if let Err(error) = self.config.apply_all(changes) {
            prepared
                .into_values()
                .for_each(|(_, p)| self.interfaces.discard(p));
            return Err(error.into());
        }
        for (name, (purpose, prepared)) in prepared {
            if self.request_interface(&name, purpose).is_ok() {
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
    ) -> Result<(), FibError> {
        if self.interfaces.get(name).is_none() {
            let id = self.fib.alloc_device_id()?;
            self.interfaces
                .request(name, id, purpose, self.fib.new_counters());
        }
        Ok(())
    }

    fn remove_port(&mut self, vni: Vni, key: &PortKey, now: Instant) {
        self.unlearn_where(|_, port| port == key);
        let before = self.ports.remove(key, &mut self.fib);
        self.evpn_port(vni, before.as_ref(), None, now);
        if self.ports.uses(&key.interface) {
            self.publish_interface(&key.interface);
        } else if let Some(id) = self.interfaces.release(&key.interface, &self.workers) {
            self.fib.set_device(id, None);
        }
    }

    fn publish_interface(&mut self, name: &InterfaceName) {
        self.ports
            .publish(name, &self.interfaces, self.workers.count(), &mut self.fib);
    }

    /// Installs routes, tracks new VTEPs, publishes the staged tables, and wakes sleeping workers.
    fn commit(&mut self, now: Instant) {
        self.install_routes(now);
        for change in self.fib.vtep_tracking() {
            match change {
                VtepTracking::Track(vtep) => self.underlay.track(vtep, now),
                VtepTracking::Untrack(vtep) => self.underlay.untrack(vtep),
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
        self.handle_worker_events(now);
        for name in self.interfaces.retry(&self.workers, now) {
            self.publish_interface(&name);
        }
        if now >= self.age_at {
            self.age_at = now + Duration::from_secs(1);
            self.age_learned(now);
        }
        self.expire_entries(now);
        self.notify_port_states();
        self.poll_bgp(now);
        self.commit(now);
        self.fib.reclaim();
    }

    /// How long the owner may wait before the next [`Self::poll`]; `None`: until an event.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let all = [
            self.underlay.next_timeout(now),
            self.bgp_timeout(now),
            self.lifetimes.next_timeout(now),
        ];
        all.into_iter().flatten().min()
    }

    /// Notifies monitoring clients of interfaces whose state has changed.
    fn notify_port_states(&mut self) {
        for (name, managed) in self.interfaces.all() {
            let (state, reason) = self.view().port_state(name, managed);
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
            let ports = self.ports.iter().filter(|(key, _)| key.interface == *name);
            self.events
                .extend(ports.map(|(key, port)| event(key.clone(), Some(port.vni))));
            if managed.purpose == Purpose::Underlay {
                self.events.push(event(
                    PortKey {
                        interface: name.clone(),
                        vlan: None,
                    },
                    None,
                ));
            }
        }
        self.notified_states
            .retain(|name, _| self.interfaces.get(name).is_some());
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

    /// Detaches all programs and ends the workers. Returns whether every worker ended in time.
    pub fn stop(mut self) -> bool {
        self.bgp
            .stop(&self.registry, &mut self.evpn, Instant::now());
        let names: Vec<_> = self.interfaces.all().keys().cloned().collect();
        for name in names {
            self.interfaces.close(&name, &self.workers);
        }
        self.workers.stop()
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Io { what, error }
}
