//! Checks a configuration against the host that it runs on.

use std::net::IpAddr;

use vtep_dataplane::table::encapsulation;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::model::Config;
use super::references::HostReferences;

/// Properties of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its MTU, bytes, without the Ethernet header.
    pub mtu: u32,
}

/// The properties of a host that configurations depend on.
pub trait HostFacts {
    /// The interface of this name, if it exists.
    fn interface(&self, name: &str) -> Option<InterfaceFacts>;
    /// True when an interface has the address.
    fn has_address(&self, address: IpAddr) -> bool;
    /// Number of CPUs; they are numbered from 0.
    fn cores(&self) -> usize;
}

/// The smallest MTU that IPv4 hosts may rely on (RFC 791); the underlay must carry it for tenants.
const SMALLEST_TENANT_MTU: u32 = 576;

/// Bytes that VXLAN adds to a tenant's MTU: inner Ethernet 14, outer IP, UDP 8, VXLAN 8.
#[must_use]
pub const fn overhead(v6: bool) -> u32 {
    encapsulation::mtu_overhead(v6) as u32
}

/// Checks a configuration against the host. A missing address, underlay interface or core is an
/// error; a missing tenant interface is a warning, since the daemon waits for it. An underlay MTU
/// that leaves tenants less than 576 bytes is an error, one that is merely smaller than a tenant's
/// MTU and the overhead a warning.
pub(super) fn check(
    config: &Config,
    references: &HostReferences,
    host: &dyn HostFacts,
    diagnostics: &mut Diagnostics,
) {
    for (line, address) in &references.addresses {
        if !host.has_address(address.get()) {
            let message = format!(
                "{address} is on no interface of this host; add it (`ip address add`) or write a \
                 local address"
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
    let carried = underlay(references, overhead, host, diagnostics);
    for (line, name) in &references.ports {
        let key = || "vni.port.interface".to_owned();
        match (host.interface(name.as_str()), carried) {
            (None, _) => {
                let message = format!(
                    "no interface {name} on this host yet; the port stays down until it appears"
                );
                diagnostics.push(Diagnostic::warning(*line, key(), message));
            }
            (Some(facts), Some(carried)) if facts.mtu > carried => {
                let message = format!(
                    "{name} has MTU {}, but the underlay carries at most {carried}: longer frames \
                     are \
                     dropped; set the MTU of {name} to {carried} or that of the underlay to {}",
                    facts.mtu,
                    facts.mtu + overhead
                );
                diagnostics.push(Diagnostic::warning(*line, key(), message));
            }
            _ => (),
        }
    }
}

/// The largest tenant MTU that every underlay interface can carry.
fn underlay(
    references: &HostReferences,
    overhead: u32,
    host: &dyn HostFacts,
    diagnostics: &mut Diagnostics,
) -> Option<u32> {
    let mut carried: Option<u32> = None;
    for (line, name) in &references.underlay {
        let key = "vtep.underlay".to_owned();
        let Some(facts) = host.interface(name.as_str()) else {
            let message =
                format!("no interface {name} on this host; `ip link` lists the interfaces");
            diagnostics.push(Diagnostic::error(*line, key, message));
            continue;
        };
        let least = SMALLEST_TENANT_MTU + overhead;
        if facts.mtu < least {
            let message = format!(
                "the MTU of {name}, {}, is too small for the overhead of {overhead} bytes; set it \
                 to \
                 {least} or more, 1500 + {overhead} is best",
                facts.mtu
            );
            diagnostics.push(Diagnostic::error(*line, key, message));
            continue;
        }
        let here = facts.mtu - overhead;
        carried = Some(carried.map_or(here, |carried| carried.min(here)));
    }
    carried
}
