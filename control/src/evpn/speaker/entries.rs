//! VNIs, local MACs and static entries: what the configuration and the ports contribute.

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::wire::nd::NdFlags;

use super::EvpnSpeaker;
use crate::evpn::address::{AddressClaim, AddressError};
use crate::evpn::config::{EvpnConfig, LocalKind, LocalMac, MacVrfConfig};
use crate::evpn::mac_table::LocalMacError;
use crate::evpn::mac_vrf::{MacVrf, VniError};
use crate::evpn::neighbors::EvpnNeighborEntry;

/// VNIs.
impl EvpnSpeaker {
    /// Adds a VNI, or changes one: its routes are originated, those of others imported. An automatic
    /// route distinguisher of another VNI that equals the new one's gives way.
    ///
    /// # Errors
    /// [`VniError`]; nothing changes.
    pub fn vni_add(&mut self, now: Instant, config: MacVrfConfig) -> Result<(), VniError> {
        let vni = config.vni;
        if let Some(vrf) = self.shared.vrfs.get(vni) {
            if vrf.config == config {
                return Ok(());
            }
        } else if !self.is_evaluated(vni) {
            // Removed a short while ago: its entries must be gone before they are counted anew.
            self.finish_evaluation(now, vni);
        }
        if let Some(rd) = config.rd
            && let Some(other) = self.shared.vrfs.build_apart_from(rd, vni)?
        {
            self.vni_changed(other.config.vni);
            self.originate_in(other);
        }
        self.originate_anew(config)?;
        self.vni_changed(vni);
        Ok(())
    }

    /// Withdraws the routes of a VNI, and originates them with another configuration or identity.
    fn originate_anew(&mut self, config: MacVrfConfig) -> Result<(), VniError> {
        let vrf = self.shared.vrfs.build(config)?;
        self.originate_in(vrf);
        Ok(())
    }

    /// Withdraws the routes of a VNI, and originates them in this MAC-VRF.
    fn originate_in(&mut self, vrf: MacVrf) {
        let vni = vrf.config.vni;
        let locals = self.macs.locals_of(vni);
        for mac in &locals {
            self.macs.withdraw(&mut self.shared, vni, *mac);
        }
        self.shared.originated.remove_vrf(vni);
        self.shared.originated.add_vrf(&vrf);
        self.macs.set_limit(vni, vrf.config.max_macs);
        self.shared.vrfs.insert(vrf);
        for mac in &locals {
            self.macs.advertise(&mut self.shared, vni, *mac);
        }
    }

    /// Changes duplicate detection, and the AS and BGP identifier of this speaker. Local MACs,
    /// their addresses and sequences stay; with another AS or identifier all routes are originated
    /// anew, which requires that no peer has an established session or routes.
    pub fn set_config(&mut self, now: Instant, config: EvpnConfig) {
        self.macs.set_duplicates(config.duplicate);
        let known = &self.shared.config;
        let same = (known.local_as, known.router_id) == (config.local_as, config.router_id);
        // The order of paths depends on the identifier.
        while !same && self.has_passes() {
            self.continue_passes(now);
        }
        self.shared.set_config(config);
        if same {
            return;
        }
        let all: Vec<_> = self.shared.vrfs.iter().map(|(vni, _)| vni).collect();
        for vni in all {
            let known = self.shared.vrfs.get(vni).map(|vrf| vrf.config.clone());
            // A VNI that has a route distinguisher keeps its number: this does not fail.
            let _ = known.map(|config| self.originate_anew(config));
            self.vni_changed(vni);
        }
    }

    /// Removes a VNI with its local MACs. Static entries stay until they are removed themselves.
    pub fn vni_del(&mut self, now: Instant, vni: Vni) {
        for mac in self.macs.locals_of(vni) {
            self.local_mac_del(now, vni, mac);
        }
        if self.shared.vrfs.remove(vni) {
            self.shared.originated.remove_vrf(vni);
            self.macs.remove_limit(vni);
            self.vni_changed(vni);
        }
    }
}

/// Local MACs and their addresses.
impl EvpnSpeaker {
    /// Adds a local MAC and originates its routes. Its table entry is written by the caller.
    ///
    /// # Errors
    /// [`LocalMacError`]; nothing changes. An attached MAC is refused only if the VNI is unknown.
    pub fn local_mac_add(
        &mut self,
        now: Instant,
        vni: Vni,
        mac: HostMac,
        local: LocalMac,
    ) -> Result<(), LocalMacError> {
        let added = self.macs.add_local(&mut self.shared, now, vni, mac, local);
        self.update_affected_neighbors(now);
        added
    }

    /// Removes a local MAC. The next entry by priority replaces that of the caller.
    pub fn local_mac_del(&mut self, now: Instant, vni: Vni, mac: HostMac) {
        self.macs.remove_local(&mut self.shared, now, vni, mac);
        self.update_affected_neighbors(now);
    }

    /// Adds a configured address of a local MAC: a second route is originated, and requests for the
    /// address are answered. If it is a configured address of several hosts, it stays with the one
    /// that has it until another claims it ([`Self::address_claim`]). `router`: the host is a
    /// router.
    ///
    /// # Errors
    /// [`LocalMacError::UnknownMac`]; nothing changes.
    pub fn local_address_add(
        &mut self,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
        router: bool,
    ) -> Result<(), LocalMacError> {
        if !self.macs.is_local(vni, mac) {
            return Err(LocalMacError::UnknownMac(vni, mac));
        }
        let (shared, macs) = (&mut self.shared, &mut self.macs);
        self.neighbors.attach(shared, macs, vni, (mac, ip), router);
        Ok(())
    }

    /// A local host claims an address by an ARP or ND message. Returns whether it has the address
    /// by configuration or has learned it now; a learned one has to be removed when it ages.
    ///
    /// # Errors
    /// [`AddressError`]; nothing changes.
    pub fn address_claim(
        &mut self,
        now: Instant,
        vni: Vni,
        claim: AddressClaim,
    ) -> Result<LocalKind, AddressError> {
        let (shared, macs) = (&mut self.shared, &mut self.macs);
        self.neighbors.claim(shared, macs, now, vni, claim)
    }

    /// True if an address is a configured one of the local host.
    #[must_use]
    pub fn is_attached_address(&self, vni: Vni, mac: HostMac, ip: IpAddr) -> bool {
        self.neighbors.is_attached(vni, mac, ip)
    }

    /// Removes an address of a local MAC. Another host that claims it gets it.
    pub fn local_address_del(&mut self, vni: Vni, mac: HostMac, ip: IpAddr) {
        let (shared, macs) = (&mut self.shared, &mut self.macs);
        self.neighbors.release(shared, macs, vni, (mac, ip));
    }
}

/// Static entries.
impl EvpnSpeaker {
    /// Adds a static MAC entry, or changes it.
    pub fn static_mac_add(&mut self, vni: Vni, mac: HostMac, vtep: VtepAddr) {
        self.macs.set_static(&mut self.shared, vni, mac, vtep);
    }

    /// Removes a static MAC entry.
    pub fn static_mac_del(&mut self, vni: Vni, mac: HostMac) {
        self.macs.remove_static(&mut self.shared, vni, mac);
    }

    /// Adds a static neighbor entry, or changes it.
    pub fn static_address_add(&mut self, vni: Vni, ip: IpAddr, mac: HostMac, router: bool) {
        let nd = Some(if router {
            NdFlags::ROUTER
        } else {
            NdFlags::HOST
        });
        let (shared, macs) = (&mut self.shared, &mut self.macs);
        let entry = EvpnNeighborEntry { mac, nd };
        self.neighbors.set_static(shared, macs, vni, ip, entry);
    }

    /// Removes a static neighbor entry.
    pub fn static_address_del(&mut self, vni: Vni, ip: IpAddr) {
        let (shared, macs) = (&mut self.shared, &mut self.macs);
        self.neighbors.remove_static(shared, macs, vni, ip);
    }

    /// Adds a VTEP, or a multicast group, to the flood list of a VNI.
    pub fn static_flood_add(&mut self, vni: Vni, vtep: VtepAddr) {
        self.flood_lists.add_static(&mut self.shared, vni, vtep);
    }

    /// Removes what [`EvpnSpeaker::static_flood_add`] added.
    pub fn static_flood_del(&mut self, vni: Vni, vtep: VtepAddr) {
        self.flood_lists.remove_static(&mut self.shared, vni, vtep);
    }

    /// Removes all static entries of a VNI: MACs, neighbors and flood list.
    pub fn statics_del(&mut self, vni: Vni) {
        for mac in self.macs.statics_of(vni) {
            self.static_mac_del(vni, mac);
        }
        for ip in self.neighbors.statics_of(vni) {
            self.static_address_del(vni, ip);
        }
        let flooded = self.flood_lists.list(vni).filter(|entry| entry.2);
        for (vtep, ..) in flooded.collect::<Vec<_>>() {
            self.static_flood_del(vni, vtep);
        }
    }
}
