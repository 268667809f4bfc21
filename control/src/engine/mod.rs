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

mod budget;
mod devices;
mod neighbors;
mod ports;
mod show;
mod tables;
mod workers;

pub use tables::{MAX_DOMAINS, MAX_PORTS, TableError, TableWriter, VtepUse};
pub use workers::{WorkerPlan, Workers};

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vtep_dataplane::addr::VtepAddr;
use vtep_dataplane::afxdp::{self, BusyPoll, HugePages, Mode, Umem, UmemConfig};
use vtep_dataplane::event::Event;
use vtep_dataplane::table::nexthop::{OuterHeader, Path};
use vtep_dataplane::table::{Dscp, Settings};

use crate::config::{self, BatchError, Change, Config, InterfaceName, PortKey};
use crate::underlay::{self, Underlay};
use budget::Budget;
use devices::{DeviceError, DeviceSettings, Devices, Prepared, Purpose};
use ports::Ports;

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
}

/// MAC entries at most: local and remote, over all VNIs.
pub const MAX_MACS: usize = 4 << 20;

impl Engine {
    /// Starts workers and underlay, then brings up what `config` says. Tenant interfaces that don't exist yet are
    /// waited for.
    ///
    /// # Errors
    /// When the host refuses memory, threads or netlink, or a table is too small.
    pub fn start(config: &Config, now: Instant) -> Result<Self, EngineError> {
        let vtep = config.vtep();
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
            started_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            looks: Vec::new(),
        };
        engine.open_underlay()?;
        let all = config::diff(&engine.config, config).changes;
        engine.config.apply_all(&all)?;
        for (index, change) in all.iter().enumerate() {
            engine.make(change, now).map_err(|error| EngineError::Table { index, error })?;
        }
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
            if let Err(error) = self.make(change, now) {
                // `room` has counted: this can't happen, and if it does, what was asked for is not all there.
                tracing::error!(%error, ?change, "a checked change could not be made");
            }
        }
        self.finish(now);
        Ok(())
    }

    /// Checks that the tables have room for all that a batch adds.
    fn room(&self, changes: &[Change]) -> Result<(), EngineError> {
        let (mut macs, mut ports) = (self.tables.macs().len(), self.ports.iter().count());
        let full = |index, error| Err(EngineError::Table { index, error });
        for (index, change) in changes.iter().enumerate() {
            match change {
                Change::FdbAdd { .. } => macs += 1,
                Change::PortAdd { port, .. } | Change::PortSet { port, .. } => {
                    macs += port.macs.len();
                    ports += usize::from(matches!(change, Change::PortAdd { .. }));
                }
                _ => {}
            }
            if macs > MAX_MACS {
                let error = vtep_dataplane::table::mac::Full { limit: MAX_MACS };
                return full(index, TableError::MacsFull(error));
            }
            if ports > MAX_PORTS {
                return full(index, TableError::NoId(MAX_PORTS, "ports"));
            }
        }
        Ok(())
    }

    /// Opens the interfaces of new ports, so that one that can't be opened refuses the batch.
    fn prepare(
        &mut self,
        changes: &[Change],
    ) -> Result<BTreeMap<InterfaceName, (Purpose, Prepared)>, EngineError> {
        let mut all = BTreeMap::new();
        for (index, change) in changes.iter().enumerate() {
            let Change::PortAdd { port, .. } = change else { continue };
            let name = &port.key.interface;
            if self.devices.get(name).is_some() || all.contains_key(name) {
                continue;
            }
            match self.devices.prepare(name, purpose(&port.key)) {
                Ok(prepared) => drop(all.insert(name.clone(), (purpose(&port.key), prepared))),
                Err(error) => {
                    all.into_values().for_each(|(_, p)| self.devices.discard(p));
                    return Err(EngineError::Interface { index, error: Box::new(error) });
                }
            }
        }
        Ok(all)
    }

    /// Carries a change that the configuration has accepted into the tables.
    fn make(&mut self, change: &Change, now: Instant) -> Result<(), TableError> {
        match change {
            Change::Tunnel(_) => {
                self.tables.set_settings(settings(self.config.vtep()));
                self.underlay.set_config(underlay_config(self.config.vtep()));
            }
            Change::VniAdd { vni, settings } | Change::VniSet { vni, settings } => {
                self.tables.add_vni(*vni, settings.inner_vlan == config::InnerVlan::Pass)?;
                self.tables.set_resolution(*vni, settings.suppress, false);
            }
            Change::VniDel { vni } => {
                for key in self.ports.of_vni(*vni) {
                    self.remove_port(&key);
                }
                self.tables.remove_vni(*vni);
            }
            Change::PortAdd { vni, port } | Change::PortSet { vni, port } => {
                let name = &port.key.interface;
                self.want(name, purpose(&port.key))?;
                let before = self.ports.ips(&port.key);
                self.ports.put(*vni, port, &mut self.tables)?;
                self.sync_port_neighbors(*vni, &port.key, &before)?;
                self.devices.try_open(name, &self.workers, now);
                self.publish_interface(name);
            }
            Change::PortDel { vni, port } => {
                let before = self.ports.ips(port);
                self.remove_port(port);
                self.sync_port_neighbors(*vni, port, &before)?;
            }
            Change::FdbAdd { vni, mac, vtep, .. } => self.tables.set_remote_mac(*vni, *mac, *vtep)?,
            Change::FdbDel { vni, mac } => self.tables.remove_mac(*vni, *mac),
            Change::FloodAdd { vni, vtep } => self.tables.add_flood(*vni, *vtep)?,
            Change::FloodDel { vni, vtep } => self.tables.remove_flood(*vni, *vtep),
            Change::GroupAdd { .. }
            | Change::GroupDel { .. }
            | Change::BgpSet { .. }
            | Change::BgpNeighborAdd { .. }
            | Change::BgpNeighborSet { .. }
            | Change::BgpNeighborDel { .. } => {}
            Change::NeighborAdd { vni, ip, .. } | Change::NeighborDel { vni, ip } => {
                self.sync_neighbor(*vni, *ip)?;
            }
        }
        Ok(())
    }

    fn want(&mut self, name: &InterfaceName, purpose: Purpose) -> Result<(), TableError> {
        if self.devices.get(name).is_none() {
            let id = self.tables.take_device_id()?;
            self.devices.want(name, id, purpose, self.tables.new_counters());
        }
        Ok(())
    }

    fn remove_port(&mut self, key: &PortKey) {
        self.ports.remove(key, &mut self.tables);
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
        while let Some(event) = self.workers.events.next() {
            // Nothing learns from frames yet: no port asks for notices.
            let Event::SocketFailed { worker, device, queue, errno } = event else { continue };
            let name = self.tables.device(device).map_or("?", |device| device.name.as_str());
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(interface = name, queue, worker = worker.0, %error, "a socket reports an error");
        }
        for name in self.devices.retry(&self.workers, now) {
            self.publish_interface(&name);
        }
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
        self.underlay.next_timeout(now)
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
        let names: Vec<_> = self.devices.all().keys().cloned().collect();
        for name in names {
            self.devices.close(&name, &self.workers);
        }
        self.workers.stop()
    }
}

const fn purpose(key: &PortKey) -> Purpose {
    if key.vlan.is_some() { Purpose::Trunk } else { Purpose::Tenant }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Io { what, error }
}

/// Our VTEP addresses by family.
fn locals(vtep: &config::Vtep) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    for address in vtep.addresses.iter() {
        match address.get() {
            IpAddr::V4(address) => v4 = Some(address),
            IpAddr::V6(address) => v6 = Some(address),
        }
    }
    (v4, v6)
}

fn settings(vtep: &config::Vtep) -> Settings {
    let tunnel = &vtep.tunnel;
    let (v4, v6) = locals(vtep);
    Settings {
        local_v4: v4,
        local_v6: v6,
        udp_port: vtep.udp_port,
        dscp: match tunnel.dscp {
            config::Dscp::Inherit => Dscp::Inherit,
            config::Dscp::Fixed(value) => Dscp::Fixed(value),
        },
        strict_reserved: tunnel.strict_reserved,
        udp6_zero_rx: tunnel.udp6_zero_checksum_rx,
        udp6_zero_tx: tunnel.udp6_zero_checksum_tx,
    }
}

fn underlay_config(vtep: &config::Vtep) -> underlay::UnderlayConfig {
    let (local_v4, local_v6) = locals(vtep);
    underlay::UnderlayConfig {
        devices: vtep.underlay.iter().map(|name| name.as_str().into()).collect(),
        local_v4,
        local_v6,
        ttl: vtep.tunnel.ttl,
        df: vtep.tunnel.df,
        udp_port: vtep.udp_port,
    }
}

fn device_settings(vtep: &config::Vtep) -> DeviceSettings {
    DeviceSettings {
        locals: vtep.addresses.iter().map(VtepAddr::get).collect(),
        udp_port: vtep.udp_port,
        mode: match vtep.afxdp.mode {
            config::XdpMode::Auto => Mode::Auto,
            config::XdpMode::ZeroCopy => Mode::ZeroCopy,
            config::XdpMode::Copy => Mode::Copy,
            config::XdpMode::Generic => Mode::Generic,
        },
        busy_poll: match vtep.afxdp.busy_poll {
            config::Switch::Auto => BusyPoll::Auto,
            config::Switch::On => BusyPoll::On,
            config::Switch::Off => BusyPoll::Off,
        },
    }
}

/// One worker for each configured core, else for each queue of the underlay, as far as there are cores.
fn plan(vtep: &config::Vtep) -> WorkerPlan {
    let busy_poll = vtep.afxdp.busy_poll == config::Switch::On;
    if let Some(cores) = &vtep.cores {
        return WorkerPlan { cores: cores.iter().copied().map(Some).collect(), busy_poll };
    }
    let queues = vtep.underlay.iter().filter_map(|name| afxdp::queues(name.as_str()).ok()).max().unwrap_or(1);
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = (queues as usize).clamp(1, available);
    WorkerPlan { cores: vec![None; cores], busy_poll }
}
