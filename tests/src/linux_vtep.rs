//! The VTEP of Linux: a bridge and a vxlan device, with static tables.

use std::net::IpAddr;

use crate::link::bridge;
use crate::netns::Netns;

/// A bridge `br<vni>` with the vxlan device `vx<vni>` in it. It exists as long as its namespace.
#[derive(Debug)]
pub struct LinuxVtep<'a> {
    ns: &'a Netns,
    vni: u32,
}

impl<'a> LinuxVtep<'a> {
    /// A VTEP at `local` for `vni` that learns nothing from the overlay.
    #[must_use]
    pub fn new(ns: &'a Netns, vni: u32, local: IpAddr) -> Self {
        Self::with(ns, vni, local, "nolearning")
    }

    /// As [`LinuxVtep::new`], with other options of `ip link add type vxlan`.
    #[must_use]
    pub fn with(ns: &'a Netns, vni: u32, local: IpAddr, options: &str) -> Self {
        bridge(ns, &format!("br{vni}"));
        ns.ip(&format!(
            "link add vx{vni} type vxlan id {vni} dstport 4789 local {local} {options}"
        ));
        ns.ip(&format!(
            "link set vx{vni} master br{vni} addrgenmode none up"
        ));
        ns.run(&format!("bridge link set dev vx{vni} learning off"));
        Self { ns, vni }
    }

    /// The existing VTEP for `vni` in `ns`.
    #[must_use]
    pub const fn of(ns: &'a Netns, vni: u32) -> Self {
        Self { ns, vni }
    }

    /// Adds an interface to the bridge.
    #[must_use]
    pub fn port(self, name: &str) -> Self {
        self.ns
            .ip(&format!("link set {name} master br{}", self.vni));
        self
    }

    /// The host `mac` is behind the VTEP `vtep`.
    #[must_use]
    pub fn fdb(self, mac: &str, vtep: IpAddr) -> Self {
        let vni = self.vni;
        // The bridge may have learned it already, from a frame before learning was turned off.
        self.ns.run(&format!(
            "bridge fdb replace {mac} dev vx{vni} master static"
        ));
        self.ns.run(&format!(
            "bridge fdb add {mac} dev vx{vni} self dst {vtep} permanent"
        ));
        self
    }

    /// Broadcast, unknown unicast and multicast go to `vtep` too.
    #[must_use]
    pub fn flood(self, vtep: IpAddr) -> Self {
        self.ns.run(&format!(
            "bridge fdb append 00:00:00:00:00:00 dev vx{} dst {vtep} permanent",
            self.vni
        ));
        self
    }
}
