//! Checks a configuration against the host that it runs on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vtep_dataplane::table::encapsulation;
use vtep_dataplane::wire::vlan;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::interface::InterfaceName;
use super::model::Config;
use super::references::HostReferences;
use super::vni::InnerVlan;

/// Properties of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its MTU, bytes, without the Ethernet header.
    pub mtu: u32,
}

/// How to treat an underlay interface, its MTU, or a local address that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// As an error, as `--check` does.
    Refused,
    /// As a warning: the daemon waits for it, at its start and while it runs.
    Awaited,
}

/// What else a host says about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The full name of the key that it is about, such as `control.group`.
    pub key: String,
    /// What is wrong, and the remedy.
    pub message: String,
    /// Whether the configuration can't run here.
    pub severity: Severity,
}

impl Finding {
    /// The configuration can't run here.
    #[must_use]
    pub fn error(key: &str, message: String) -> Self {
        Self {
            key: key.to_owned(),
            message,
            severity: Severity::Error,
        }
    }

    /// It works, but perhaps not as intended.
    #[must_use]
    pub fn warning(key: &str, message: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(key, message)
        }
    }
}

/// The properties of a host that configurations depend on.
pub trait HostFacts {
    /// Findings of other kinds.
    fn findings(&self, _config: &Config) -> Vec<Finding> {
        Vec::new()
    }
    /// The interface of this name, if it exists.
    fn interface(&self, name: &str) -> Option<InterfaceFacts>;
    /// True when an interface has the address.
    fn has_address(&self, address: IpAddr) -> bool;
    /// Why the interface of this name can't be a tenant port, and whether that only concerns this
    /// port: the rest of the configuration is applied.
    fn tenant_obstacle(&self, name: &str) -> Option<(String, bool)>;
    /// Why the interface of this name can't be an underlay interface, with the remedy.
    fn underlay_obstacle(&self, name: &str) -> Option<String>;
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

/// Why an underlay interface can't carry tenants: it leaves them less than 576 bytes.
#[must_use]
pub fn underlay_mtu_too_small(name: &InterfaceName, mtu: u32, overhead: u32) -> Option<String> {
    let least = SMALLEST_TENANT_MTU + overhead;
    (mtu < least).then(|| {
        format!(
            "the MTU of {name}, {mtu}, is too small for the overhead of {overhead} bytes; set it to \
             {least} or more, 1500 + {overhead} is best"
        )
    })
}

/// Why frames of a tenant interface are dropped where the underlay carries at most `carried` bytes
/// of a tenant's MTU. The second part of `interface`: its frames may have a tag in addition.
#[must_use]
pub fn tenant_mtu_too_large(
    (name, has_tag): (&InterfaceName, bool),
    mtu: u32,
    carried: u32,
    overhead: u32,
) -> Option<String> {
    let tag = if has_tag { vlan::LEN as u32 } else { 0 };
    let carried = carried.saturating_sub(tag);
    (mtu > carried).then(|| {
        format!(
            "{name} has MTU {mtu}, but the underlay carries at most {carried}: longer frames are \
             dropped; set the MTU of {name} to {carried} or that of the underlay to {}",
            mtu + overhead + tag
        )
    })
}

impl Missing {
    fn diagnostic(self, line: u32, key: &str, message: String) -> Diagnostic {
        match self {
            Self::Refused => Diagnostic::error(line, key.to_owned(), message),
            Self::Awaited => Diagnostic::warning(
                line,
                key.to_owned(),
                format!("{message}; vtepd waits for it"),
            ),
        }
    }
}

/// Checks a configuration against the host. A missing core is an error; a missing tenant interface
/// is a warning, since the daemon waits for it. A missing address or underlay interface, and an
/// underlay MTU that leaves tenants less than 576 bytes, are what `missing` says; an MTU that is
/// merely smaller than a tenant's MTU and the overhead is a warning.
pub(super) fn check(
    config: &Config,
    references: &HostReferences,
    host: &dyn HostFacts,
    missing: Missing,
    diagnostics: &mut Diagnostics,
) {
    for finding in host.findings(config) {
        if !diagnostics.has_error_of(&finding.key) {
            diagnostics.push(Diagnostic {
                severity: finding.severity,
                line: references.places.line_of_key(&finding.key),
                key: finding.key,
                message: finding.message,
            });
        }
    }
    for (line, address) in &references.addresses {
        if !host.has_address(address.get()) {
            let message = format!(
                "{address} is on no interface of this host; add it (`ip address add`) or write a \
                 local address"
            );
            diagnostics.push(missing.diagnostic(*line, "vtep.address", message));
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
    let carried = underlay(references, overhead, host, missing, diagnostics);
    let tagged = with_tags(config);
    // Once for each interface: the ports of a trunk share what there is to say.
    let mut seen = BTreeSet::new();
    let first = references
        .ports
        .iter()
        .filter(|(_, name)| seen.insert(name));
    for (line, name) in first {
        let key = || "vni.port.interface".to_owned();
        if let Some((message, only_this)) = host.tenant_obstacle(name.as_str()) {
            // At a start that port stays closed, and all others are opened.
            let waits = only_this || missing == Missing::Awaited;
            diagnostics.push(if waits {
                Diagnostic::warning(*line, key(), message)
            } else {
                Diagnostic::error(*line, key(), message)
            });
            continue;
        }
        match (host.interface(name.as_str()), carried) {
            (None, _) => {
                let message = format!(
                    "no interface {name} on this host yet; the port stays down until it appears"
                );
                diagnostics.push(Diagnostic::warning(*line, key(), message));
            }
            (Some(facts), Some(carried)) => {
                let has_tag = tagged.contains(name);
                let message = tenant_mtu_too_large((name, has_tag), facts.mtu, carried, overhead);
                let warning = |message| Diagnostic::warning(*line, key(), message);
                message
                    .map(warning)
                    .into_iter()
                    .for_each(|w| diagnostics.push(w));
            }
            _ => (),
        }
    }
}

/// The interfaces whose frames may exceed their MTU by a VLAN tag: a VNI passes tags, and Linux
/// interfaces take one more.
#[must_use]
pub fn with_tags(config: &Config) -> BTreeSet<&InterfaceName> {
    let passing = config
        .vnis()
        .values()
        .filter(|vni| vni.settings().inner_vlan == InnerVlan::Pass);
    passing
        .flat_map(|vni| vni.ports().keys())
        .map(|key| &key.interface)
        .collect()
}

/// The largest tenant MTU that every underlay interface can carry.
fn underlay(
    references: &HostReferences,
    overhead: u32,
    host: &dyn HostFacts,
    missing: Missing,
    diagnostics: &mut Diagnostics,
) -> Option<u32> {
    let mut carried: Option<u32> = None;
    for (line, name) in &references.underlay {
        let key = "vtep.underlay";
        let Some(facts) = host.interface(name.as_str()) else {
            let message =
                format!("no interface {name} on this host; `ip link` lists the interfaces");
            diagnostics.push(missing.diagnostic(*line, key, message));
            continue;
        };
        if let Some(message) = host.underlay_obstacle(name.as_str()) {
            diagnostics.push(Diagnostic::error(*line, key.to_owned(), message));
            continue;
        }
        if let Some(message) = underlay_mtu_too_small(name, facts.mtu, overhead) {
            diagnostics.push(missing.diagnostic(*line, key, message));
            continue;
        }
        let here = facts.mtu - overhead;
        carried = Some(carried.map_or(here, |carried| carried.min(here)));
    }
    carried
}
