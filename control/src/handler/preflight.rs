//! What a start would meet on this host, looked at without changing anything there: `--check`
//! reports all of it at once, and a start fails before it touches an interface.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use vtep_dataplane::addr::WorkerId;
use vtep_dataplane::afxdp::{self, BusyPoll, Umem};

use super::NetlinkHost;
use crate::api::server::{self, BindError};
use crate::config::{BGP_PORT, Config, Finding, HostFacts, InterfaceFacts, InterfaceName, XdpMode};
use crate::engine;
use crate::interfaces::{IoChoice, IoKind, Purpose, RingBudget};

/// This host, with everything that a start needs of it.
#[derive(Debug, Clone, Copy)]
pub struct StartHost<'a> {
    host: NetlinkHost<'a>,
    asked_by: AskedBy<'a>,
}

/// Who wants to know what a start would meet.
#[derive(Debug, Clone, Copy)]
enum AskedBy<'a> {
    Start,
    /// `--check`: a daemon may be running with this configuration, and what it holds is not missing.
    Check,
    /// The daemon that runs with this configuration.
    Daemon(&'a Config),
}

impl<'a> StartHost<'a> {
    /// For `--check`: a daemon that is running already is no problem, nor is what it uses.
    #[must_use]
    pub const fn to_check(host: NetlinkHost<'a>) -> Self {
        Self {
            host,
            asked_by: AskedBy::Check,
        }
    }

    /// For a start.
    #[must_use]
    pub const fn to_start(host: NetlinkHost<'a>) -> Self {
        Self {
            host,
            asked_by: AskedBy::Start,
        }
    }

    /// For a daemon that is asked whether it could be started again: what it holds itself, in
    /// `running`, is no problem.
    #[must_use]
    pub const fn of_running(host: NetlinkHost<'a>, running: &'a Config) -> Self {
        Self {
            host,
            asked_by: AskedBy::Daemon(running),
        }
    }
}

/// The kind of sockets of each underlay interface that exists, and why: a line each.
#[must_use]
pub fn underlay_kinds(config: &Config) -> Vec<String> {
    let kind = |name: &InterfaceName| {
        let IoChoice { kind, why, .. } = io_choice(config, name, Purpose::Underlay)?;
        Some(format!("underlay {name}: I/O {}: {why}", kind.word()))
    };
    config.vtep().underlay.iter().filter_map(kind).collect()
}

impl HostFacts for StartHost<'_> {
    fn interface(&self, name: &str) -> Option<InterfaceFacts> {
        self.host.interface(name)
    }

    fn has_address(&self, address: std::net::IpAddr) -> bool {
        self.host.has_address(address)
    }

    fn tenant_obstacle(&self, name: &str) -> Option<(String, bool)> {
        self.host.tenant_obstacle(name)
    }

    fn underlay_obstacle(&self, name: &str) -> Option<String> {
        self.host.underlay_obstacle(name)
    }

    fn cores(&self) -> usize {
        self.host.cores()
    }

    fn findings(&self, config: &Config) -> Vec<Finding> {
        let mut all = self.host.findings(config);
        let control = config.control();
        let mut running = matches!(self.asked_by, AskedBy::Daemon(_));
        for error in server::refusals(&control.socket, control.group.as_deref()) {
            let is_live = matches!(error, BindError::Live(_));
            running |= is_live;
            let key = match error {
                BindError::NoGroup(_) => "control.group",
                _ => "control.socket",
            };
            let allowed = match self.asked_by {
                AskedBy::Start => false,
                AskedBy::Check => is_live,
                AskedBy::Daemon(own) => is_live && own.control().socket == control.socket,
            };
            if !allowed {
                all.push(Finding::error(key, error.to_string()));
            }
        }
        let only_warn = !matches!(self.asked_by, AskedBy::Start);
        all.extend(missing_capabilities(only_warn));
        all.extend(zero_copy(config));
        all.extend(frames(config, only_warn));
        all.extend(small_share(config));
        all.extend(open_files(config));
        // A running daemon holds its addresses and its memory.
        if !running {
            all.extend(bgp_listener(config));
            all.extend(memory(config));
            all.extend(foreign_programs(config));
        }
        let held = match self.asked_by {
            AskedBy::Daemon(own) => own.control().metrics == control.metrics,
            AskedBy::Start | AskedBy::Check => running,
        };
        if !held {
            all.extend(metrics_listener(config));
        }
        all
    }
}

/// The capabilities that vtepd needs and does not have. `--check` may be run by anyone.
fn missing_capabilities(only_warn: bool) -> Option<Finding> {
    use caps::{CapSet, Capability, has_cap};
    let needed = [
        Capability::CAP_NET_ADMIN,
        Capability::CAP_NET_RAW,
        Capability::CAP_BPF,
    ];
    let lacks =
        |capability: &Capability| !has_cap(None, CapSet::Effective, *capability).unwrap_or(true);
    let missing: Vec<_> = needed
        .iter()
        .filter(|c| lacks(c))
        .map(Capability::to_string)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!(
        "this process has no {}; run vtepd as root, or grant them",
        missing.join(", ")
    );
    Some(if only_warn {
        Finding::warning("vtep", message)
    } else {
        Finding::error("vtep", message)
    })
}

/// The address of the metrics.
fn metrics_listener(config: &Config) -> Option<Finding> {
    let address = config.control().metrics?;
    let error = TcpListener::bind(address).err()?;
    let message = format!(
        "can't listen on {address}: {error}; set another address and port, or remove the key"
    );
    Some(Finding::error("control.metrics", message))
}

/// The port of BGP.
fn bgp_listener(config: &Config) -> Option<Finding> {
    config.bgp()?;
    let error = TcpListener::bind((Ipv4Addr::UNSPECIFIED, BGP_PORT)).err()?;
    let message = format!(
        "TCP port {BGP_PORT} is in use, so that neighbors can't connect to vtepd; stop the other \
         BGP speaker, or let it use another port"
    );
    (error.kind() == ErrorKind::AddrInUse).then(|| Finding::warning("bgp", message))
}

/// The packet memory, and huge pages for it.
fn memory(config: &Config) -> Option<Finding> {
    let key = match config.vtep().afxdp.huge_pages {
        crate::config::Tristate::On => "vtep.afxdp.huge-pages",
        _ => "vtep.afxdp.frames",
    };
    let error = Umem::new(engine::umem_config(config.vtep())).err()?;
    Some(Finding::error(key, error.to_string()))
}

/// Underlay interfaces that exist and can't be bound zero-copy although nothing else is allowed.
fn zero_copy(config: &Config) -> Vec<Finding> {
    let afxdp = &config.vtep().afxdp;
    if afxdp.mode != XdpMode::ZeroCopy {
        return Vec::new();
    }
    let underlay = config.vtep().underlay.iter();
    let refused = underlay.filter_map(|name| afxdp::no_zero_copy(name.as_str(), afxdp.frame_size));
    refused
        .map(|message| Finding::error("vtep.afxdp.mode", message))
        .collect()
}

/// Interfaces with an XDP program of someone else: vtepd can't attach its own, or does not get the
/// frames. Only warnings, as it may be gone at the start.
fn foreign_programs(config: &Config) -> Vec<Finding> {
    let found = interfaces(config).filter_map(|(name, purpose)| {
        let id = afxdp::attached_program(name.as_str())?;
        let effect = match (takes_rings(config, name, purpose), purpose) {
            (true, _) => "so that vtepd can't attach its own",
            (false, Purpose::Underlay) => "which takes VXLAN before vtepd",
            (false, _) => "which takes the tenant's frames before vtepd",
        };
        let key = match purpose {
            Purpose::Underlay => "vtep.underlay",
            Purpose::Tenant | Purpose::Trunk => "vni.port.interface",
        };
        let message = format!(
            "interface {name} has XDP program {id} of another process, {effect}; remove it (`ip link set {name} xdp off`, \
             or end that process: `bpftool net list dev {name}`)"
        );
        Some(Finding::warning(key, message))
    });
    found.collect()
}

/// Whether the frames suffice for the queues of all interfaces that exist. A start without them
/// leaves ports without a queue.
fn frames(config: &Config, is_error: bool) -> Option<Finding> {
    let have = config.vtep().afxdp.frames;
    let queues: Vec<_> = interfaces(config)
        .filter(|(name, purpose)| takes_rings(config, name, *purpose))
        .filter_map(|(name, purpose)| Some((afxdp::queues(name.as_str()).ok()?, purpose)))
        .collect();
    let workers = engine::worker_count(config.vtep());
    let suffices = |frames: u32| {
        let mut budget = RingBudget::new(workers, frames);
        let mut next = 0;
        queues.iter().all(|(count, purpose)| {
            (0..*count).all(|queue| {
                let at = match purpose {
                    Purpose::Underlay => queue as usize,
                    Purpose::Tenant | Purpose::Trunk => next,
                } % workers;
                next += usize::from(*purpose != Purpose::Underlay);
                let worker = WorkerId(at as u16);
                budget.allocate(worker, *purpose, BusyPoll::Off).is_ok()
            })
        })
    };
    if suffices(have) {
        return None;
    }
    let total: u32 = queues.iter().map(|(count, _)| count).sum();
    let doubled = std::iter::successors(Some(have), |frames| frames.checked_mul(2));
    let enough = doubled
        .take_while(|frames| *frames <= crate::config::AfXdp::MAX_FRAMES)
        .find(|frames| suffices(*frames));
    let remedy = enough.map_or_else(
        || "use fewer interfaces or queues".to_owned(),
        |frames| format!("write frames = {frames}"),
    );
    let message = format!(
        "{have} frames are too few for the {total} queues of the interfaces that exist; {remedy}"
    );
    let key = "vtep.afxdp.frames";
    Some(if is_error {
        Finding::error(key, message)
    } else {
        Finding::warning(key, message)
    })
}

/// Frames of a worker below which it drops superframes between its ports: a burst of them takes 165,
/// and one port may hold a quarter of what is free.
const LEAST_SHARE: u32 = 1024;

/// Whether the frames of each worker suffice for the superframes that packet sockets receive.
fn small_share(config: &Config) -> Option<Finding> {
    let workers = engine::worker_count(config.vtep()) as u32;
    let message = share_too_small(config.vtep().afxdp.frames, workers)?;
    let has_packet_port =
        interfaces(config).any(|(name, purpose)| has_io(config, name, purpose, IoKind::Packet));
    has_packet_port.then(|| Finding::warning("vtep.afxdp.frames", message))
}

fn share_too_small(frames: u32, workers: u32) -> Option<String> {
    let share = frames / workers;
    let enough = (LEAST_SHARE * workers).next_power_of_two();
    (share < LEAST_SHARE).then(|| {
        format!(
            "{frames} frames are {share} for each of {workers} workers; with fewer than {LEAST_SHARE}, frames of 64 KiB \
             that tenants leave to be segmented are lost; write frames = {enough}, or fewer cores"
        )
    })
}

/// Whether the process may open as many files as the interfaces take. Only a warning: `--check` may
/// have another limit than the service.
fn open_files(config: &Config) -> Option<Finding> {
    use rustix::process::{Resource, getrlimit};
    let most = getrlimit(Resource::Nofile).maximum?;
    let workers = engine::worker_count(config.vtep()) as u64;
    let needed = OTHER_FILES + interfaces(config).count() as u64 * (FILES + 2 * workers);
    let message = format!(
        "the interfaces may take {needed} open files, and this process may have {most}; raise the limit \
         (`ulimit -Hn {needed}`, systemd: LimitNOFILE)"
    );
    (needed > most).then(|| Finding::warning("vni.port", message))
}

/// Open files of an interface: programs, maps and links. Each worker has two sockets beside them.
const FILES: u64 = 12;

/// Open files of everything else: clients, scrapers, neighbors, workers.
const OTHER_FILES: u64 = 512;

/// Whether an interface gets AF_XDP sockets: packet sockets hold no frames.
fn takes_rings(config: &Config, name: &InterfaceName, purpose: Purpose) -> bool {
    has_io(config, name, purpose, IoKind::Xdp)
}

/// Whether an interface exists and gets this kind of sockets.
fn has_io(config: &Config, name: &InterfaceName, purpose: Purpose, io: IoKind) -> bool {
    io_choice(config, name, purpose).is_some_and(|choice| choice.kind == io)
}

/// The kind of sockets that an interface gets; `None` if it does not exist, or is no Ethernet.
fn io_choice(config: &Config, name: &InterfaceName, purpose: Purpose) -> Option<IoChoice> {
    let names_afxdp = engine::interface_settings(config.vtep()).names_afxdp();
    IoChoice::of(name, purpose, config.interface_io(name), names_afxdp).ok()
}

/// Every interface of the configuration, the underlay first.
fn interfaces(config: &Config) -> impl Iterator<Item = (&InterfaceName, Purpose)> {
    let underlay = config.vtep().underlay.iter();
    let tenants = config.port_interfaces();
    underlay
        .map(|name| (name, Purpose::Underlay))
        .chain(tenants.map(|name| (name, Purpose::Tenant)))
}

#[cfg(test)]
mod tests {
    use super::share_too_small;

    #[test]
    fn each_worker_has_frames_for_superframes() {
        for (frames, workers) in [(2048, 1), (2048, 2), (4096, 4), (32768, 32)] {
            assert_eq!(share_too_small(frames, workers), None);
        }
        for (frames, workers, share, enough) in [(2048, 3, 682, 4096), (2048, 8, 256, 8192)] {
            let text = share_too_small(frames, workers).unwrap();
            let shown = format!("{frames} frames are {share} for each of {workers} workers");
            assert!(text.contains(&shown), "{text}");
            assert!(
                text.contains(&format!("write frames = {enough}, ")),
                "{text}"
            );
        }
    }
}
