//! Changes of entries and of BGP, applied to a configuration.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::{Change, ChangeError, Undo};
use crate::config::bgp_neighbor::{BgpNeighbor, BgpSettings};
use crate::config::group::GroupAddr;
use crate::config::model::{Config, FdbEntry, NeighborEntry};

impl Config {
    /// Changes of FDB, flood list, group and neighbours.
    pub(in crate::config) fn entry_step(&mut self, change: &Change) -> Result<Undo, ChangeError> {
        match *change {
            Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime,
            } => self.fdb_add(vni, mac, FdbEntry { vtep, lifetime }),
            Change::FdbDel { vni, mac } => {
                let gone = self
                    .vni_mut(vni)?
                    .fdb
                    .remove(&mac)
                    .ok_or(ChangeError::NoFdb { mac, vni })?;
                Ok(Undo::Change(Change::FdbAdd {
                    vni,
                    mac,
                    vtep: gone.vtep,
                    lifetime: gone.lifetime,
                }))
            }
            Change::FloodAdd { vni, vtep } => self.flood_add(vni, vtep),
            Change::FloodDel { vni, vtep } => {
                if !self.vni_mut(vni)?.flood.remove(&vtep) {
                    return Err(ChangeError::NoFlood { vtep, vni });
                }
                Ok(Undo::Change(Change::FloodAdd { vni, vtep }))
            }
            Change::GroupAdd { vni, group } => self.group_add(vni, group),
            Change::GroupDel { vni, group } => {
                let place = &mut self.vni_mut(vni)?.group;
                place
                    .take_if(|found| *found == group)
                    .ok_or(ChangeError::NoGroup { group, vni })?;
                Ok(Undo::Change(Change::GroupAdd { vni, group }))
            }
            Change::NeighborAdd {
                vni,
                ip,
                mac,
                lifetime,
            } => self.neighbor_add(vni, ip, NeighborEntry { mac, lifetime }),
            Change::NeighborDel { vni, ip } => {
                let gone = self.vni_mut(vni)?.neighbors.remove(&ip);
                let NeighborEntry { mac, lifetime } =
                    gone.ok_or(ChangeError::NoNeighbor { ip, vni })?;
                Ok(Undo::Change(Change::NeighborAdd {
                    vni,
                    ip,
                    mac,
                    lifetime,
                }))
            }
            _ => unreachable!("Config::step keeps the others to itself"),
        }
    }

    /// A remote VTEP is not us, and we can send to its family. Before `[vtep]` has an address any will do.
    fn remote(&self, vtep: VtepAddr) -> Result<(), ChangeError> {
        let own = self.vtep.addresses;
        if own.iter().any(|address| address == vtep) {
            return Err(ChangeError::OwnAddress(vtep));
        }
        if !own.is_empty() && own.for_remote(vtep).is_none() {
            return Err(ChangeError::Family(vtep));
        }
        Ok(())
    }

    fn fdb_add(&mut self, vni: Vni, mac: HostMac, entry: FdbEntry) -> Result<Undo, ChangeError> {
        self.remote(entry.vtep)?;
        let content = self.vni_mut(vni)?;
        if let Some(port) = content.local.get(&mac) {
            return Err(ChangeError::FdbLocal {
                mac,
                port: port.clone(),
                vni,
            });
        }
        if let Some(old) = content.fdb.get_mut(&mac) {
            if old.lifetime.is_none() || entry.lifetime.is_none() {
                return Err(ChangeError::FdbExists {
                    mac,
                    vtep: old.vtep,
                    vni,
                });
            }
            let FdbEntry { vtep, lifetime } = std::mem::replace(old, entry);
            return Ok(Undo::Change(Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime,
            }));
        }
        content.fdb.insert(mac, entry);
        Ok(Undo::Change(Change::FdbDel { vni, mac }))
    }

    fn flood_add(&mut self, vni: Vni, vtep: VtepAddr) -> Result<Undo, ChangeError> {
        self.remote(vtep)?;
        let content = self.vni_mut(vni)?;
        if let Some(group) = content.group {
            return Err(ChangeError::GroupOrList { group, vni });
        }
        if !content.flood.insert(vtep) {
            return Err(ChangeError::FloodExists { vtep, vni });
        }
        Ok(Undo::Change(Change::FloodDel { vni, vtep }))
    }

    fn group_add(&mut self, vni: Vni, group: GroupAddr) -> Result<Undo, ChangeError> {
        let own = self.vtep.addresses;
        let ours = if group.is_v6() { own.v6 } else { own.v4 };
        if !own.is_empty() && ours.is_none() {
            return Err(ChangeError::GroupFamily(group));
        }
        let content = self.vni_mut(vni)?;
        if content.group.is_some() || !content.flood.is_empty() {
            return Err(ChangeError::GroupOrList {
                group: content.group.unwrap_or(group),
                vni,
            });
        }
        content.group = Some(group);
        Ok(Undo::Change(Change::GroupDel { vni, group }))
    }

    fn neighbor_add(
        &mut self,
        vni: Vni,
        ip: IpAddr,
        entry: NeighborEntry,
    ) -> Result<Undo, ChangeError> {
        let neighbors = &mut self.vni_mut(vni)?.neighbors;
        if let Some(old) = neighbors.get_mut(&ip) {
            if old.lifetime.is_none() || entry.lifetime.is_none() {
                return Err(ChangeError::NeighborExists {
                    ip,
                    mac: old.mac,
                    vni,
                });
            }
            let NeighborEntry { mac, lifetime } = std::mem::replace(old, entry);
            return Ok(Undo::Change(Change::NeighborAdd {
                vni,
                ip,
                mac,
                lifetime,
            }));
        }
        neighbors.insert(ip, entry);
        Ok(Undo::Change(Change::NeighborDel { vni, ip }))
    }

    /// Changes of BGP.
    pub(in crate::config) fn bgp_step(&mut self, change: &Change) -> Result<Undo, ChangeError> {
        match change {
            Change::BgpSet { settings } => self.bgp_set(settings.clone()),
            Change::BgpNeighborAdd { neighbor } => self.bgp_neighbor_add(neighbor),
            Change::BgpNeighborSet { neighbor } => {
                let place = self.bgp_neighbors.get_mut(&neighbor.address);
                let place = place.ok_or(ChangeError::NoBgpNeighbor(neighbor.address))?;
                let old = Box::new(std::mem::replace(place, BgpNeighbor::clone(neighbor)));
                Ok(Undo::Change(Change::BgpNeighborSet { neighbor: old }))
            }
            Change::BgpNeighborDel { address } => {
                let gone = self.bgp_neighbors.remove(address);
                let neighbor = Box::new(gone.ok_or(ChangeError::NoBgpNeighbor(*address))?);
                Ok(Undo::Change(Change::BgpNeighborAdd { neighbor }))
            }
            _ => unreachable!("Config::step keeps the others to itself"),
        }
    }

    fn bgp_set(&mut self, settings: Option<BgpSettings>) -> Result<Undo, ChangeError> {
        if settings.is_none() && !self.bgp_neighbors.is_empty() {
            return Err(ChangeError::BgpInUse);
        }
        let old = std::mem::replace(&mut self.bgp, settings);
        Ok(Undo::Change(Change::BgpSet { settings: old }))
    }

    fn bgp_neighbor_add(&mut self, neighbor: &BgpNeighbor) -> Result<Undo, ChangeError> {
        let address = neighbor.address;
        if self.bgp.is_none() {
            return Err(ChangeError::NoBgp);
        }
        if self.vtep.addresses.iter().any(|own| own.get() == address) {
            return Err(ChangeError::BgpOwnAddress(address));
        }
        if self.bgp_neighbors.contains_key(&address) {
            return Err(ChangeError::BgpNeighborExists(address));
        }
        self.bgp_neighbors.insert(address, neighbor.clone());
        Ok(Undo::Change(Change::BgpNeighborDel { address }))
    }
}
