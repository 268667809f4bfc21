//! What the programs of an open interface have to be told: its MTU, whether it has sockets, which
//! addresses are VXLAN's. What could not be told is said in `show status`, and tried again at each
//! look until it succeeds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{BackendError, InterfaceState, Interfaces, OpenInterface, Purpose};
use crate::config::InterfaceName;

/// What programs are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    /// The MTU of the interface.
    Mtu,
    /// Whether packet sockets take its frames.
    Sockets,
    /// The addresses and the port of VXLAN.
    Endpoints,
}

impl Fact {
    /// What follows while the programs do not know it.
    const fn consequence(self) -> &'static str {
        match self {
            Self::Mtu => {
                "its XDP program does not know its MTU, and may pass pieces of longer frames to the host"
            }
            Self::Sockets => {
                "its tcx programs do not know whether it has sockets: frames count as dropped that are not, or do not \
                 count"
            }
            Self::Endpoints => {
                "its programs have other addresses than configured: VXLAN to new ones is not received"
            }
        }
    }
}

/// What could not be told, with the error.
#[derive(Debug, Default)]
pub(super) struct UnwrittenFacts(BTreeMap<Fact, String>);

impl UnwrittenFacts {
    /// Notes whether a fact could be told.
    pub(super) fn note(
        &mut self,
        name: &InterfaceName,
        fact: Fact,
        told: Result<(), BackendError>,
    ) {
        match told {
            Ok(()) => {
                if self.0.remove(&fact).is_some() {
                    tracing::info!(interface = %name, ?fact, "the programs were told what they could not be before");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if self.0.get(&fact) != Some(&error) {
                    let consequence = fact.consequence();
                    tracing::error!(interface = %name, error, consequence, "a BPF map can't be written; it is tried again");
                }
                self.0.insert(fact, error);
            }
        }
    }
}

impl OpenInterface {
    /// What its programs could not be told: one sentence each, with the remedy.
    pub fn unwritten<'a>(&'a self, name: &'a InterfaceName) -> impl Iterator<Item = String> + 'a {
        self.unwritten.0.iter().map(move |(fact, error)| {
            format!(
                "interface {name}: {}: {error}; it is tried again; if it stays so, restart vtepd",
                fact.consequence()
            )
        })
    }

    /// Tells the programs how many sockets there are, or are to be.
    pub(super) fn set_bound(&mut self, name: &InterfaceName, sockets: usize) {
        let told = self.backend.set_bound(sockets);
        self.unwritten.note(name, Fact::Sockets, told);
    }

    fn set_endpoints(&mut self, name: &InterfaceName, addresses: &[IpAddr], udp_port: u16) {
        let told = self.backend.set_endpoints(addresses, udp_port);
        self.unwritten.note(name, Fact::Endpoints, told);
    }
}

impl Interfaces {
    /// Sets an interface's MTU, bytes. Returns whether it changed.
    pub fn set_mtu(&mut self, name: &InterfaceName, mtu: u32) -> bool {
        let Some(InterfaceState::Open(open)) =
            self.managed.get_mut(name).map(|managed| &mut managed.state)
        else {
            return false;
        };
        if open.mtu != mtu {
            let told = open.backend.set_mtu(mtu);
            open.unwritten.note(name, Fact::Mtu, told);
        }
        std::mem::replace(&mut open.mtu, mtu) != mtu
    }

    /// Accepts VXLAN to these multicast groups in addition to the local VTEP addresses.
    pub fn set_groups(&mut self, groups: &[IpAddr]) {
        let own = self.own.clone();
        let all: Vec<_> = own.iter().chain(groups).copied().collect();
        if all == self.settings.locals {
            return;
        }
        self.settings.locals.clone_from(&all);
        for (name, managed) in &mut self.managed {
            if let (Purpose::Underlay, InterfaceState::Open(open)) =
                (managed.purpose, &mut managed.state)
            {
                open.set_endpoints(name, &all, self.settings.udp_port);
            }
        }
    }

    /// Tells the programs of an interface again what they could not be told.
    pub(super) fn tell_again(&mut self, name: &InterfaceName) {
        let Some(InterfaceState::Open(open)) =
            self.managed.get_mut(name).map(|managed| &mut managed.state)
        else {
            return;
        };
        for fact in open.unwritten.0.keys().copied().collect::<Vec<_>>() {
            match fact {
                Fact::Mtu => {
                    let told = open.backend.set_mtu(open.mtu);
                    open.unwritten.note(name, fact, told);
                }
                Fact::Sockets => open.set_bound(name, open.queues.len()),
                Fact::Endpoints => {
                    open.set_endpoints(name, &self.settings.locals, self.settings.udp_port);
                }
            }
        }
    }
}
