//! What a configuration asks of the host that it runs on.

use std::net::IpAddr;

use vtep_dataplane::addr::VtepAddr;
use vtep_dataplane::table::encapsulation;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::interface::InterfaceName;
use super::model::Config;

/// What is known of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its MTU, bytes, without the Ethernet header.
    pub mtu: u32,
}

/// What is on this host.
pub trait HostFacts {
    /// The interface of this name, if there is one.
    fn interface(&self, name: &str) -> Option<InterfaceFacts>;
    /// True when the address is on an interface.
    fn has_address(&self, address: IpAddr) -> bool;
    /// How many CPUs there are; they are numbered from 0.
    fn cores(&self) -> usize;
}

/// Where in the file stands what the host must have: (line, value).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HostReferences {
    pub(super) addresses: Vec<(u32, VtepAddr)>,
    pub(super) underlay: Vec<(u32, InterfaceName)>,
    pub(super) cores: Vec<(u32, usize)>,
    pub(super) ports: Vec<(u32, InterfaceName)>,
}

/// The smallest MTU that IPv4 hosts may rely on (RFC 791): an underlay that carries less is no use to tenants.
const SMALLEST_TENANT_MTU: u32 = 576;

/// Bytes that VXLAN adds to a tenant's MTU: inner Ethernet 14, outer IP, UDP 8, VXLAN 8.
#[must_use]
pub const fn overhead(v6: bool) -> u32 {
    encapsulation::mtu_overhead(v6) as u32
}

/// Checks a configuration against the host. An address, an underlay interface or a core that is missing is an error; a
/// tenant interface that is missing is a warning, as the daemon waits for it. An underlay MTU that leaves tenants less
/// than 576 bytes is an error, one that is merely smaller than a tenant's MTU and the overhead a warning.
pub(super) fn check(
    config: &Config,
    references: &HostReferences,
    host: &dyn HostFacts,
    diagnostics: &mut Diagnostics,
) {
    for (line, address) in &references.addresses {
        if !host.has_address(address.get()) {
            let message = format!(
                "{address} is on no interface of this host; add it (`ip address add`) or write one that is"
            );
            diagnostics.push(Diagnostic::error(*line, "vtep.address".to_owned(), message));
        }
    }
    for (line, core) in &references.cores {
        if *core >= host.cores() {
            let last = host.cores().saturating_sub(1);
            let message = format!("this host has no core {core}; its cores are 0 to {last}");
            diagnostics.push(Diagnostic::error(*line, "vtep.cores".to_owned(), message));
        }
    }
    let overhead = overhead(config.vtep().addresses.v6.is_some());
    let room = underlay(references, overhead, host, diagnostics);
    for (line, name) in &references.ports {
        let key = || "vni.port.interface".to_owned();
        match (host.interface(name.as_str()), room) {
            (None, _) => {
                let message = format!(
                    "no interface {name} on this host yet; the port stays down until it appears"
                );
                diagnostics.push(Diagnostic::warning(*line, key(), message));
            }
            (Some(facts), Some(room)) if facts.mtu > room => {
                let message = format!(
                    "{name} has MTU {}, but the underlay has room for {room}: longer frames are dropped; set the MTU of {name} to {room} or that of the underlay to {}",
                    facts.mtu,
                    facts.mtu + overhead
                );
                diagnostics.push(Diagnostic::warning(*line, key(), message));
            }
            _ => (),
        }
    }
}

/// The largest tenant MTU that every underlay interface has room for.
fn underlay(
    references: &HostReferences,
    overhead: u32,
    host: &dyn HostFacts,
    diagnostics: &mut Diagnostics,
) -> Option<u32> {
    let mut room: Option<u32> = None;
    for (line, name) in &references.underlay {
        let key = "vtep.underlay".to_owned();
        let Some(facts) = host.interface(name.as_str()) else {
            let message =
                format!("no interface {name} on this host; `ip link` shows those that there are");
            diagnostics.push(Diagnostic::error(*line, key, message));
            continue;
        };
        let least = SMALLEST_TENANT_MTU + overhead;
        if facts.mtu < least {
            let message = format!(
                "the MTU of {name}, {}, is too small for the overhead of {overhead} bytes; set it to {least} or more, 1500 + {overhead} is best",
                facts.mtu
            );
            diagnostics.push(Diagnostic::error(*line, key, message));
            continue;
        }
        let here = facts.mtu - overhead;
        room = Some(room.map_or(here, |room| room.min(here)));
    }
    room
}
