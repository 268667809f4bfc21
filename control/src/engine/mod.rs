//! The engine: what the configuration says becomes tables, open interfaces and resolved next hops.
//!
//! ```text
//! Change (file, control socket) -> check -> open interfaces -> tables -> commit -> workers
//! netlink -> underlay -> next hops ----------------------------^
//! netlink -> link came or went -> devices ---------------------^
//! ```
//!
//! A change is made whole or not at all: all that can fail (rules between values, interfaces that can't be opened, full
//! tables) is tried before anything is touched.

mod bgp;
mod budget;
mod carry;
mod devices;
mod evpn;
mod groups;
mod ids;
mod learn;
mod lifetime;
mod make;
mod metrics;
mod moves;
mod neighbors;
mod page;
mod ports;
mod setup;
mod show;
mod show_bgp;
mod tables;
mod workers;

pub use tables::{MAX_DOMAINS, MAX_PORTS, TableError, TableWriter, VtepUse};
pub use workers::{WorkerPlan, Workers};

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Registry, Token};
use vtep_dataplane::addr::{Vni, VtepAddr};
use vtep_dataplane::afxdp::{HugePages, Umem, UmemConfig};
use vtep_dataplane::event::{Event, Events};
use vtep_dataplane::table::nexthop::{OuterHeader, Path};

use crate::api::event as monitor;
use crate::api::show::PortState;
use crate::config::{self, BatchError, Change, Config, InterfaceName, PortKey};
use crate::speaker::Speaker;
use crate::underlay::{self, Underlay};
use budget::Budget;
use devices::{DeviceError, Devices, Purpose};
use evpn::Evpn;
use groups::Groups;
use learn::Learned;
use lifetime::Lifetimes;
use ports::Ports;
use setup::{device_settings, plan, settings, underlay_config};

/// Why the engine did not start, or refused a change.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A change does not fit the configuration.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// An interface of a new port can't be opened.
    #[error("change {index}: {error}")]
    Interface {
        /// The change's place in the batch, from 0.
        index: usize,
        /// Why.
        error: Box<DeviceError>,
    },
    /// A table has no room for the change.
    #[error("change {index}: {error}")]
    Table {
        /// The change's place in the batch, from 0.
        index: usize,
        /// Why.
        error: TableError,
    },
    /// The memory for frames, or an underlay interface.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Netlink, threads, eventfds.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

/// The running configuration and all that was made of it.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    tables: TableWriter,
    // Before the workers: interfaces are closed while workers still run.
    devices: Devices,
    ports: Ports,
    workers: Workers,
    underlay: Underlay,
    started: Instant,
    /// The same moment, seconds since 1970.
    started_unix: u64,
    /// When each worker was looked at last, and how long it had slept by then, nanoseconds.
    looks: Vec<(Instant, u64)>,
    evpn: Evpn,
    speaker: Speaker,
    session_starts: bgp::SessionStarts,
    /// The daemon's poll, for sockets of BGP.
    registry: Registry,
    learned: Learned,
    lifetimes: Lifetimes,
    groups: Groups,
    /// For clients that monitor.
    news: Vec<monitor::Event>,
    /// Entries of EVPN that found no room in the tables.
    not_installed: u64,
    /// When learned hosts are aged next.
    age_at: Instant,
    /// Until when sessions say that we have restarted.
    restart_ends: Option<Instant>,
    /// What monitoring clients know of each interface.
    told_states: BTreeMap<InterfaceName, PortState>,
}

/// MAC entries at most: local and remote, over all VNIs.
pub const MAX_MACS: usize = 4 << 20;

impl Engine {
    /// Starts workers and underlay, then brings up what `config` says. Tenant interfaces that don't exist yet are
    /// waited for. BGP's sockets register with `registry`, with tokens after `tokens`.
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
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Jitter only keeps many daemons from acting at the same moment: process and time differ enough.
        let seed = since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let tables_settings = settings(vtep);
        let underlay = Underlay::new(underlay_config(vtep)).map_err(io_error("netlink"))?;
        let plan = plan(vtep);
        let umem = Umem::new(UmemConfig {
            frames: vtep.afxdp.frames,
            frame_size: vtep.afxdp.frame_size,
            huge_pages: match vtep.afxdp.huge_pages {
                config::Switch::Auto => HugePages::Auto,
                config::Switch::On => HugePages::On,
                config::Switch::Off => HugePages::Off,
            },
        })
        .map_err(DeviceError::from)?;
        let tables = TableWriter::new(plan.cores.len(), MAX_MACS, tables_settings);
        let workers = Workers::start(&plan, &umem, &tables).map_err(io_error("starting the workers"))?;
        let share = vtep.afxdp.frames / workers.count() as u32;
        let devices = Devices::new(device_settings(vtep), umem, Budget::new(workers.count(), share));
        let mut engine = Self {
            config: Config::new(vtep.clone(), config.control().clone()),
            tables,
            devices,
            ports: Ports::default(),
            workers,
            underlay,
            started: now,
            started_unix: since_1970.as_secs(),
            looks: Vec::new(),
            evpn: Evpn::new(config),
            speaker: Speaker::new(config::BGP_PORT, tokens, seed),
            session_starts: bgp::SessionStarts::new(),
            registry,
            learned: Learned::default(),
            lifetimes: Lifetimes::default(),
            groups: Groups::default(),
            news: Vec::new(),
            not_installed: 0,
            age_at: now,
            restart_ends: Some(now + bgp::RESTART),
            told_states: BTreeMap::new(),
        };
        engine.open_underlay()?;
        let all = config::diff(&engine.config, config).changes;
        engine.config.apply_all(&all)?;
        for (index, change) in all.iter().enumerate() {
            engine.make(change, now).map_err(|error| EngineError::Table { index, error })?;
        }
        engine.start_sessions(now);
        engine.finish(now);
        Ok(engine)
    }

    fn open_underlay(&mut self) -> Result<(), EngineError> {
        for name in self.config.vtep().underlay.clone() {
            self.want(&name, Purpose::Underlay).map_err(|error| EngineError::Table { index: 0, error })?;
            match self.devices.prepare(&name, Purpose::Underlay) {
                Ok(prepared) => self.devices.adopt(&name, prepared, &self.workers),
                // It may come yet, as tenant interfaces may.
                Err(error) if error.is_absent() => {
                    tracing::warn!(interface = %name, "the underlay interface does not exist yet; waiting for it");
                }
                // Another program has it, or the host refuses: starting anyway would only hide that.
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

    /// Makes a batch of changes, all or none.
    ///
    /// # Errors
    /// Which change was refused and why; nothing of the batch stands then.
    pub fn change(&mut self, changes: &[Change], now: Instant) -> Result<(), EngineError> {
        self.room(changes)?;
        let prepared = self.prepare(changes)?;
        if let Err(error) = self.config.apply_all(changes) {
            prepared.into_values().for_each(|(_, p)| self.devices.discard(p));
            return Err(error.into());
        }
        for (name, (purpose, prepared)) in prepared {
            if self.want(&name, purpose).is_ok() {
                self.devices.adopt(&name, prepared, &self.workers);
            }
        }
        for change in changes {
            self.lifetimes.note(change, now);
            if let Err(error) = self.make(change, now) {
                // `room` has counted: this can't happen, and if it does, what was asked for is not all there.
                tracing::error!(%error, ?change, "a checked change could not be made");
            }
        }
        self.start_sessions(now);
        self.finish(now);
        Ok(())
    }

    fn want(&mut self, name: &InterfaceName, purpose: Purpose) -> Result<(), TableError> {
        if self.devices.get(name).is_none() {
            let id = self.tables.take_device_id()?;
            self.devices.want(name, id, purpose, self.tables.new_counters());
        }
        Ok(())
    }

    fn remove_port(&mut self, vni: Vni, key: &PortKey, now: Instant) {
        self.unlearn_where(|_, port| port == key);
        let before = self.ports.remove(key, &mut self.tables);
        self.evpn_port(vni, before.as_ref(), None, now);
        if self.ports.uses(&key.interface) {
            self.publish_interface(&key.interface);
        } else if let Some(id) = self.devices.unwant(&key.interface, &self.workers) {
            self.tables.set_device(id, None);
        }
    }

    fn publish_interface(&mut self, name: &InterfaceName) {
        self.ports.publish(name, &self.devices, self.workers.count(), &mut self.tables);
    }

    /// Asks for new VTEPs to be resolved, publishes, and lets sleeping workers take it up.
    fn finish(&mut self, now: Instant) {
        self.carry(now);
        for change in self.tables.vtep_changes() {
            match change {
                VtepUse::Wanted(vtep) => self.underlay.want(vtep, now),
                VtepUse::Unwanted(vtep) => self.underlay.unwant(vtep),
            }
        }
        self.underlay_turn(now);
        if self.tables.commit() {
            self.workers.refresh();
        }
    }

    /// Reads what netlink has, resolves what has changed and publishes it. To be called when the underlay's socket is
    /// readable and when [`Self::next_timeout`] has passed.
    pub fn turn(&mut self, now: Instant) {
        self.workers.events.hush();
        while let Some(event) = self.workers.events.next() {
            match event {
                Event::SocketFailed { worker, device, queue, errno } => {
                    let name = self.tables.device(device).map_or("?", |device| device.name.as_str());
                    let error = io::Error::from_raw_os_error(errno);
                    tracing::warn!(interface = name, queue, worker = worker.0, %error, "a socket reports an error");
                }
                Event::BusyPollEnded { worker, device, queue } => {
                    let name = self.tables.device(device).map_or("?", |device| device.name.as_str());
                    let reason = show::BUSY_POLL_ENDED;
                    tracing::warn!(
                        interface = name,
                        queue,
                        worker = worker.0,
                        reason,
                        "busy polling was taken back"
                    );
                }
                Event::Notice(notice) => self.notice(notice, now),
            }
        }
        for name in self.devices.retry(&self.workers, now) {
            self.publish_interface(&name);
        }
        if now >= self.age_at {
            self.age_at = now + Duration::from_secs(1);
            self.age_learned(now);
        }
        self.end_lifetimes(now);
        self.tell_ports();
        self.bgp_turn(now);
        self.finish(now);
        self.tables.reclaim();
    }

    fn underlay_turn(&mut self, now: Instant) {
        match self.underlay.turn(now) {
            Ok(changes) => changes.into_iter().for_each(|change| self.take(change, now)),
            Err(error) => {
                tracing::error!(%error, "netlink failed; next hops stay as they are until it works again");
            }
        }
    }

    fn take(&mut self, change: underlay::Change, now: Instant) {
        match change {
            underlay::Change::Resolved(resolved) => self.set_paths(resolved.vtep, &resolved.paths),
            underlay::Change::Link(change) => self.link_changed(&change, now),
            underlay::Change::Address(change) => {
                if !change.present
                    && self.config.vtep().addresses.iter().any(|own| own.get() == change.address)
                {
                    tracing::warn!(address = %change.address, "our VTEP address is gone from this host; peers can't reach us");
                }
            }
        }
    }

    fn set_paths(&mut self, vtep: VtepAddr, paths: &[underlay::ResolvedPath]) {
        let mut table = Vec::new();
        for path in underlay::slots(paths) {
            let Some(header) = OuterHeader::new(&path.fields) else { continue };
            let name = path.device.parse::<InterfaceName>().ok();
            let Some(device) = name.and_then(|name| self.devices.get(&name)) else { continue };
            table.push(Path { device: device.id, header, max_frame: path.max_frame });
        }
        self.tables.set_paths(vtep, table.into());
    }

    /// Opens, closes or refreshes an interface whose link has changed.
    fn link_changed(&mut self, change: &underlay::LinkChange, now: Instant) {
        let Ok(name) = change.link.name.parse::<InterfaceName>() else { return };
        let Some(managed) = self.devices.get(&name) else { return };
        let open = managed.open().map(|open| open.xdp.ifindex());
        let changed = match open {
            Some(index) if !change.present && index == change.link.index => {
                self.devices.close(&name, &self.workers)
            }
            // Another interface under the same name: the old one went unnoticed.
            Some(index) if change.present && index != change.link.index => {
                self.devices.close(&name, &self.workers) | self.devices.try_open(&name, &self.workers, now)
            }
            Some(_) if self.devices.must_rebind(&name, change.link.mtu) => {
                tracing::info!(interface = %name, mtu = change.link.mtu, "the MTU changes how sockets are bound");
                self.devices.close(&name, &self.workers) | self.devices.try_open(&name, &self.workers, now)
            }
            Some(_) => self.devices.set_mtu(&name, change.link.mtu),
            None => change.present && self.devices.try_open(&name, &self.workers, now),
        };
        if changed {
            self.publish_interface(&name);
        }
    }

    /// How long the owner may wait before the next [`Self::turn`]; `None`: until something happens.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let all = [self.underlay.next_timeout(now), self.bgp_timeout(now), self.lifetimes.next(now)];
        all.into_iter().flatten().min()
    }

    /// Tells monitoring clients of interfaces whose state has changed.
    fn tell_ports(&mut self) {
        for (name, managed) in self.devices.all() {
            let (state, reason) = self.port_state(name, managed);
            if self.told_states.insert(name.clone(), state) == Some(state) {
                continue;
            }
            let tell = |port: PortKey, vni| {
                monitor::Event::Port(monitor::PortEvent { port, vni, state, reason: reason.clone() })
            };
            let ports = self.ports.iter().filter(|(key, _)| key.interface == *name);
            self.news.extend(ports.map(|(key, port)| tell(key.clone(), Some(port.vni))));
            if managed.purpose == Purpose::Underlay {
                self.news.push(tell(PortKey { interface: name.clone(), vlan: None }, None));
            }
        }
        self.told_states.retain(|name, _| self.devices.get(name).is_some());
    }

    /// What happened since the last call, for clients that monitor.
    pub fn take_news(&mut self) -> Vec<monitor::Event> {
        std::mem::take(&mut self.news)
    }

    /// What workers tell: its descriptor is readable when there is something, and [`Self::turn`] takes it up.
    #[must_use]
    pub const fn worker_events(&self) -> &Events {
        &self.workers.events
    }

    /// What is known of this host's network.
    #[must_use]
    pub const fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// The source of netlink events, to be registered with the daemon's poll.
    pub fn underlay_mut(&mut self) -> &mut Underlay {
        &mut self.underlay
    }

    /// Detaches all programs and ends the workers. Returns whether every worker ended in time.
    pub fn stop(mut self) -> bool {
        self.speaker.stop(&self.registry, &mut self.evpn, Instant::now());
        let names: Vec<_> = self.devices.all().keys().cloned().collect();
        for name in names {
            self.devices.close(&name, &self.workers);
        }
        self.workers.stop()
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Io { what, error }
}
