//! VNIs, local MACs and static entries: what the configuration and the ports contribute.

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::EvpnSpeaker;
use crate::evpn::config::{LocalMac, MacVrfConfig};
use crate::evpn::mac_table::LocalMacError;
use crate::evpn::mac_vrf::VniError;

/// VNIs.
impl EvpnSpeaker {
    /// Adds a VNI, or changes one: its routes are originated, those of others imported.
    ///
    /// # Errors
    /// [`VniError`]; nothing changes.
    pub fn vni_add(&mut self, now: Instant, config: MacVrfConfig) -> Result<(), VniError> {
        let vni = config.vni;
        if let Some(vrf) = self.shared.vrfs.get(vni) {
            if vrf.config == config {
                return Ok(());
            }
        } else if self.changed_vnis.contains(&vni) {
            // Removed since the last evaluation: its entries must be gone before they are counted
            // anew.
            self.evaluate_changed_vnis(now);
        }
        let vrf = self.shared.vrfs.build(config)?;
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
        self.changed_vnis.insert(vni);
        Ok(())
    }

    /// Removes a VNI with its local MACs. Static entries stay until they are removed themselves.
    pub fn vni_del(&mut self, vni: Vni) {
        for mac in self.macs.locals_of(vni) {
            self.local_mac_del(vni, mac);
        }
        if self.shared.vrfs.remove(vni) {
            self.shared.originated.remove_vrf(vni);
            self.macs.remove_limit(vni);
            self.changed_vnis.insert(vni);
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
        self.update_affected_neighbors();
        added
    }

    /// Removes a local MAC. The next entry by priority replaces that of the caller.
    pub fn local_mac_del(&mut self, vni: Vni, mac: HostMac) {
        self.macs.remove_local(&mut self.shared, vni, mac);
        self.update_affected_neighbors();
    }

    /// Adds an address to a local MAC: a second route is originated, and requests for the address
    /// are answered.
    ///
    /// # Errors
    /// [`LocalMacError::UnknownMac`]; nothing changes.
    pub fn local_address_add(
        &mut self,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
    ) -> Result<(), LocalMacError> {
        if !self.macs.is_local(vni, mac) {
            return Err(LocalMacError::UnknownMac(vni, mac));
        }
        let shared = &mut self.shared;
        match self.neighbors.add_local(shared, vni, ip, mac) {
            Some(old) if old == mac => return Ok(()),
            Some(old) => self.macs.remove_address(shared, vni, old, ip),
            None => {}
        }
        self.macs.add_address(shared, vni, mac, ip);
        Ok(())
    }

    /// Removes an address of a local MAC.
    pub fn local_address_del(&mut self, vni: Vni, ip: IpAddr) {
        if let Some(mac) = self.neighbors.remove_local(&mut self.shared, vni, ip) {
            self.macs.remove_address(&mut self.shared, vni, mac, ip);
        }
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
        let entry = (mac, router);
        self.neighbors.set_static(&mut self.shared, vni, ip, entry);
    }

    /// Removes a static neighbor entry.
    pub fn static_address_del(&mut self, vni: Vni, ip: IpAddr) {
        self.neighbors.remove_static(&mut self.shared, vni, ip);
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
