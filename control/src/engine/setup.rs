//! What the engine is started with: configuration values in the types of the modules below, and
//! sources of events.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mio::Waker;
use vtep_dataplane::addr::VtepAddr;
use vtep_dataplane::afxdp::{self, BusyPoll, HugePages, Mode, UmemConfig};
use vtep_dataplane::table::{Dscp, Settings};

use crate::background::Background;
use crate::config;
use crate::interfaces::{InterfaceSettings, QueueEvents};
use crate::underlay;
use crate::workers::WorkerPlan;

/// The thread for questions to the kernel, whose answers wake the owner's poll.
pub(super) fn background(waker: Waker) -> io::Result<Background> {
    let wake = move || {
        if let Err(error) = waker.wake() {
            tracing::debug!(%error, "can't wake the event loop: it looks at the next tick");
        }
    };
    Background::start(wake)
}

pub(super) fn queue_events() -> Option<QueueEvents> {
    let opened = QueueEvents::open();
    opened
        .inspect_err(|error| {
            tracing::warn!(%error, "no events of queues: changes are noticed within seconds");
        })
        .ok()
}

/// Local VTEP addresses by family.
pub(super) fn locals(vtep: &config::Vtep) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    for address in vtep.addresses.iter() {
        match address.get() {
            IpAddr::V4(address) => v4 = Some(address),
            IpAddr::V6(address) => v6 = Some(address),
        }
    }
    (v4, v6)
}

pub(super) fn settings(vtep: &config::Vtep) -> Settings {
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

pub(crate) fn underlay_config(vtep: &config::Vtep) -> underlay::UnderlayConfig {
    let (local_v4, local_v6) = locals(vtep);
    underlay::UnderlayConfig {
        devices: vtep
            .underlay
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        local_v4,
        local_v6,
        ttl: vtep.tunnel.ttl,
        df: vtep.tunnel.df,
        udp_port: vtep.udp_port,
    }
}

pub(crate) fn interface_settings(vtep: &config::Vtep) -> InterfaceSettings {
    InterfaceSettings {
        locals: vtep.addresses.iter().map(VtepAddr::get).collect(),
        udp_port: vtep.udp_port,
        mode: match vtep.afxdp.mode {
            config::XdpMode::Auto => Mode::Auto,
            config::XdpMode::ZeroCopy => Mode::ZeroCopy,
            config::XdpMode::Copy => Mode::Copy,
            config::XdpMode::Generic => Mode::Generic,
        },
        busy_poll: match vtep.afxdp.busy_poll {
            config::Tristate::On => BusyPoll::On,
            config::Tristate::Auto | config::Tristate::Off => BusyPoll::Off,
        },
    }
}

/// The packet memory.
#[must_use]
pub const fn umem_config(vtep: &config::Vtep) -> UmemConfig {
    UmemConfig {
        frames: vtep.afxdp.frames,
        frame_size: vtep.afxdp.frame_size,
        huge_pages: match vtep.afxdp.huge_pages {
            config::Tristate::Auto => HugePages::Auto,
            config::Tristate::On => HugePages::On,
            config::Tristate::Off => HugePages::Off,
        },
    }
}

/// Number of workers that a start on this host would have.
#[must_use]
pub fn worker_count(vtep: &config::Vtep) -> usize {
    plan(vtep).cores.len()
}

/// One worker for each configured core, or else for each queue of the underlay, limited by the
/// cores available.
pub(super) fn plan(vtep: &config::Vtep) -> WorkerPlan {
    let busy_poll = vtep.afxdp.busy_poll == config::Tristate::On;
    if let Some(cores) = &vtep.cores {
        return WorkerPlan {
            cores: cores.iter().copied().map(Some).collect(),
            busy_poll,
        };
    }
    let queues = vtep
        .underlay
        .iter()
        .filter_map(|name| afxdp::queues(name.as_str()).ok())
        .max()
        .unwrap_or(1);
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = (queues as usize).clamp(1, available);
    WorkerPlan {
        cores: vec![None; cores],
        busy_poll,
    }
}
