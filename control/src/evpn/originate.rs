//! Our VNIs and hosts -> routes: a type 3 for each VNI, a type 2 for each local MAC, and one with each address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use super::config::{EthernetTag, EvpnConfig, VniConfig};
use super::mac_vrf::{MacVrf, VniError, distinguisher};
use super::speaker::EvpnSpeaker;
use super::targets;
use crate::bgp::wire::{
    Attributes, Esi, EvpnRoute, ExtendedCommunity, InclusiveMulticast, MacIp, Pmsi, PmsiTunnel, Rd,
};
use crate::rib::Mobility;

/// Attributes of a type 2. The default gateway, the router's MAC and the like are never sent.
fn host_attributes(config: &EvpnConfig, vni: &VniConfig, mobility: Mobility) -> Attributes {
    let mut attributes = Attributes::local(config.vtep.get());
    attributes.extended = targets::exports(vni, config.local_as);
    attributes.extended.push(ExtendedCommunity::VXLAN);
    if mobility != Mobility::default() {
        attributes.extended.push(ExtendedCommunity::mac_mobility(
            mobility.sticky,
            mobility.sequence,
        ));
    }
    attributes
}

/// Attributes of a type 3: ingress replication to our address.
fn flood_attributes(config: &EvpnConfig, vni: &VniConfig) -> Attributes {
    let tunnel = PmsiTunnel::IngressReplication(Some(config.vtep.get()));
    let pmsi = Pmsi {
        flags: 0,
        label: vni.vni.get(),
        tunnel,
    };
    Attributes {
        pmsi: Some(pmsi),
        ..host_attributes(config, vni, Mobility::default())
    }
}

impl MacVrf {
    const fn tag(&self) -> u32 {
        match self.config.tag {
            EthernetTag::Zero => 0,
            EthernetTag::Vni => self.config.vni.get(),
        }
    }

    fn host(&self, mac: HostMac, ip: Option<IpAddr>) -> EvpnRoute {
        let (rd, tag, label) = (self.rd, self.tag(), self.config.vni.get());
        EvpnRoute::MacIp(MacIp {
            rd,
            esi: Esi::ZERO,
            tag,
            mac: mac.get(),
            ip,
            label,
            label2: None,
        })
    }

    fn flood(&self, originator: IpAddr) -> EvpnRoute {
        EvpnRoute::InclusiveMulticast(InclusiveMulticast {
            rd: self.rd,
            tag: self.tag(),
            originator,
        })
    }
}

impl EvpnSpeaker {
    /// Adds a VNI, or changes one. Its routes are announced, those of others imported.
    ///
    /// # Errors
    /// [`VniError`]; nothing changes.
    pub fn vni_add(&mut self, now: Instant, config: VniConfig) -> Result<(), VniError> {
        let vni = config.vni;
        if self
            .mac_vrfs
            .get(&vni)
            .is_some_and(|state| state.config == config)
        {
            return Ok(());
        }
        if !self.mac_vrfs.contains_key(&vni) && self.reconsider.contains(&vni) {
            self.reconsider(now);
        }
        let number = match (
            config.rd,
            self.mac_vrfs.get(&vni).and_then(|state| state.number),
        ) {
            (Some(_), _) => None,
            (None, Some(number)) => Some(number),
            (None, None) => Some(self.free_number(vni)?),
        };
        let automatic = number.map(|number| Rd::ipv4(self.config.router_id, number));
        let rd = config.rd.or(automatic).unwrap_or_default();
        let hosts = self.local_hosts(vni);
        hosts
            .iter()
            .for_each(|mac| self.stop_advertising(vni, *mac));
        let (mut macs, mut waiting, mut full) = (0, Default::default(), false);
        if let Some(old) = self.mac_vrfs.remove(&vni) {
            self.out.remove(&old.flood(self.config.vtep.get()));
            (macs, waiting, full) = (old.macs, old.waiting, old.full);
        }
        let attributes = Arc::new(flood_attributes(&self.config, &config));
        let state = MacVrf {
            config,
            rd,
            number,
            macs,
            waiting,
            full,
            attributes: Default::default(),
        };
        self.out
            .set(state.flood(self.config.vtep.get()), &attributes);
        self.mac_vrfs.insert(vni, state);
        hosts.iter().for_each(|mac| self.advertise(vni, *mac));
        self.reconsider.insert(vni);
        Ok(())
    }

    fn free_number(&self, vni: Vni) -> Result<u16, VniError> {
        let taken = |number| {
            self.mac_vrfs
                .values()
                .any(|state| state.number == Some(number))
        };
        distinguisher(vni, taken).ok_or(VniError::NoDistinguisher(vni))
    }

    fn local_hosts(&self, vni: Vni) -> Vec<HostMac> {
        self.locals
            .keys()
            .filter(|(of, _)| *of == vni)
            .map(|(_, mac)| *mac)
            .collect()
    }

    /// Removes a VNI with its local hosts. Static entries stay until they are removed themselves.
    pub fn vni_del(&mut self, vni: Vni) {
        for mac in self.local_hosts(vni) {
            self.local_mac_del(vni, mac);
        }
        if let Some(state) = self.mac_vrfs.remove(&vni) {
            self.out.remove(&state.flood(self.config.vtep.get()));
            self.reconsider.insert(vni);
        }
    }

    /// Announces a local MAC and its addresses as they are now.
    pub(super) fn advertise(&mut self, vni: Vni, mac: HostMac) {
        let (Some(local), Some(state)) =
            (self.locals.get(&(vni, mac)), self.mac_vrfs.get_mut(&vni))
        else {
            return;
        };
        let mobility = local.mobility();
        let vni = state.config.clone();
        let attributes =
            state.attributes(mobility, || host_attributes(&self.config, &vni, mobility));
        for ip in local.addresses.iter().map(|ip| Some(*ip)).chain([None]) {
            self.out.set(state.host(mac, ip), &attributes);
        }
    }

    /// Withdraws all routes of a local MAC.
    pub(super) fn stop_advertising(&mut self, vni: Vni, mac: HostMac) {
        let Some(local) = self.locals.get(&(vni, mac)) else {
            return;
        };
        let addresses: Vec<_> = local
            .addresses
            .iter()
            .map(|ip| Some(*ip))
            .chain([None])
            .collect();
        for ip in addresses {
            self.withdraw_host(vni, mac, ip);
        }
    }

    pub(super) fn withdraw_host(&mut self, vni: Vni, mac: HostMac, ip: Option<IpAddr>) {
        if let Some(state) = self.mac_vrfs.get(&vni) {
            self.out.remove(&state.host(mac, ip));
        }
    }
}
