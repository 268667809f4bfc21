//! Read access to the engine for `show` and the metrics.

use std::time::Instant;

use super::Engine;
use super::evpn::EvpnSessions;
use super::learn::LearnedHosts;
use crate::api::show::PortState;
use crate::config::{Config, InterfaceName};
use crate::fib::Fib;
use crate::interfaces::{InterfaceState, Interfaces, ManagedInterface, TenantPorts};
use crate::speaker::BgpSpeaker;
use crate::underlay::Underlay;
use crate::workers::Workers;

/// Borrows of the engine's live state, never a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineView<'a> {
    /// The running configuration.
    pub(crate) config: &'a Config,
    /// The workers' tables, as the control thread writes them.
    pub(crate) fib: &'a Fib,
    /// Underlay and tenant interfaces.
    pub(crate) interfaces: &'a Interfaces,
    /// Tenant ports.
    pub(crate) ports: &'a TenantPorts,
    /// The worker threads.
    pub(crate) workers: &'a Workers,
    /// Links, addresses and resolved VTEPs.
    pub(crate) underlay: &'a Underlay,
    /// BGP sessions.
    pub(crate) bgp: &'a BgpSpeaker,
    /// EVPN routes.
    pub(crate) evpn: &'a EvpnSessions,
    /// Hosts learned from frames.
    pub(crate) learned: &'a LearnedHosts,
    /// When the engine started.
    pub(crate) started: Instant,
    /// The same moment, seconds since 1970.
    pub(crate) started_unix: u64,
    /// EVPN changes since the start that were not installed because a table was full.
    pub(crate) not_installed: u64,
}

impl Engine {
    /// Read access for `show` and the metrics.
    pub(crate) const fn view(&self) -> EngineView<'_> {
        EngineView {
            config: &self.config,
            fib: &self.fib,
            interfaces: &self.interfaces,
            ports: &self.ports,
            workers: &self.workers,
            underlay: &self.underlay,
            bgp: &self.bgp,
            evpn: &self.evpn,
            learned: &self.learned,
            started: self.started,
            started_unix: self.started_unix,
            not_installed: self.not_installed,
        }
    }
}

impl EngineView<'_> {
    /// The state of an interface, with the cause if it is not up.
    pub(crate) fn port_state(
        &self,
        name: &InterfaceName,
        managed: &ManagedInterface,
    ) -> (PortState, Option<String>) {
        match &managed.state {
            InterfaceState::Absent => (
                PortState::Absent,
                Some("the interface does not exist; waiting for it".to_owned()),
            ),
            InterfaceState::Failed { reason, .. } => (PortState::Failed, Some(reason.clone())),
            InterfaceState::Open(_) => match self.underlay.link(name.as_str()) {
                Some(link) if !link.admin_up => (
                    PortState::Down,
                    Some("administratively down; `ip link set up`".to_owned()),
                ),
                Some(link) if !link.carrier => (PortState::Down, Some("no carrier".to_owned())),
                _ => (PortState::Up, None),
            },
        }
    }
}
