//! Read access to the engine for `show` and the metrics.

use std::time::Instant;

use super::Engine;
use super::evpn::EvpnSessions;
use super::groups::Groups;
use super::learned::LearnedHosts;
use super::setup::underlay_config;
use crate::api::show::PortState;
use crate::config::{Config, InterfaceName};
use crate::fib::Fib;
use crate::interfaces::{
    ENDPOINT_LIMIT, InterfaceState, Interfaces, ManagedInterface, Purpose, TenantPorts,
};
use crate::iteration::IterationClock;
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
    /// Multicast groups that VNIs flood to.
    pub(super) groups: &'a Groups,
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
    /// The turns of the daemon's loop.
    pub(crate) turns: &'a IterationClock,
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
            turns: &self.turns,
            groups: &self.groups,
        }
    }
}

impl EngineView<'_> {
    /// What of the host prevents vtepd from working as configured, or does not apply to its frames:
    /// one sentence each, with the remedy.
    pub(crate) fn host_problems(&self) -> Vec<String> {
        let mut all = self.underlay.problems(&underlay_config(self.config.vtep()));
        for (name, managed) in self.interfaces.all() {
            if managed.purpose == Purpose::Underlay || managed.open().is_none() {
                continue;
            }
            let obstacle = self.underlay.tenant_obstacle(name.as_str());
            all.extend(obstacle.map(|obstacle| obstacle.reason));
            all.extend(self.underlay.bypassed_on(name.as_str(), true));
            let is_port = |other: &str| {
                let other = other.parse::<InterfaceName>().ok();
                other.is_some_and(|other| self.ports.uses(&other))
            };
            all.extend(self.underlay.port_over(name.as_str(), is_port));
        }
        all.extend(self.underlay.icmp_problems());
        all.extend(self.groups.problem());
        let groups = self.interfaces.endpoints_left_out();
        if groups > 0 {
            all.push(format!(
                "{groups} multicast groups are not received: an interface accepts VXLAN for at most \
                 {ENDPOINT_LIMIT} addresses; use flood lists or fewer groups"
            ));
        }
        all
    }

    /// What of the host does not apply to VXLAN on its underlay interfaces, as it does to other traffic:
    /// one sentence each, with the remedy.
    pub(crate) fn underlay_notes(&self) -> Vec<String> {
        let names = self.config.vtep().underlay.iter();
        names
            .flat_map(|name| self.underlay.bypassed_on(name.as_str(), false))
            .collect()
    }

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
                Some(_) => (PortState::Up, None),
                None => (
                    PortState::Down,
                    Some("the interface was removed".to_owned()),
                ),
            },
        }
    }
}
