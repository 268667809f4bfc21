//! Changes of BGP.

use std::net::IpAddr;

use super::kind::Steps;
use super::{Change, ChangeError, Undo, vni};
use crate::config::bgp::BgpSettings;
use crate::config::bgp_neighbor::BgpNeighbor;
use crate::config::model::Config;

pub(super) fn set(config: &mut Config, settings: Option<BgpSettings>) -> Result<Undo, ChangeError> {
    if settings.is_none() && !config.bgp_neighbors.is_empty() {
        return Err(ChangeError::BgpInUse);
    }
    let old = std::mem::replace(&mut config.bgp, settings);
    if let Err(error) = vni::check_all_automatic(config) {
        config.bgp = old;
        return Err(error);
    }
    Ok(Undo::Change(Change::BgpSet { settings: old }))
}

pub(super) fn add_neighbor(
    config: &mut Config,
    neighbor: &BgpNeighbor,
) -> Result<Undo, ChangeError> {
    let address = neighbor.address;
    if config.bgp.is_none() {
        return Err(ChangeError::NoBgp);
    }
    if config.vtep.addresses.iter().any(|own| own.get() == address) {
        return Err(ChangeError::BgpOwnAddress(address));
    }
    if config.bgp_neighbors.contains_key(&address) {
        return Err(ChangeError::BgpNeighborExists(address));
    }
    config.bgp_neighbors.insert(address, neighbor.clone());
    Ok(Undo::Change(Change::BgpNeighborDel { address }))
}

pub(super) fn set_neighbor(
    config: &mut Config,
    neighbor: &BgpNeighbor,
) -> Result<Undo, ChangeError> {
    let address = neighbor.address;
    let current = config.bgp_neighbors.get_mut(&address);
    let current = current.ok_or(ChangeError::NoBgpNeighbor(address))?;
    let old = Box::new(std::mem::replace(current, neighbor.clone()));
    Ok(Undo::Change(Change::BgpNeighborSet { neighbor: old }))
}

pub(super) fn del_neighbor(config: &mut Config, address: IpAddr) -> Result<Undo, ChangeError> {
    let removed = config.bgp_neighbors.remove(&address);
    let neighbor = Box::new(removed.ok_or(ChangeError::NoBgpNeighbor(address))?);
    Ok(Undo::Change(Change::BgpNeighborAdd { neighbor }))
}

/// The changes that lead from `old` to `new`: BGP starts before its first neighbor is added, and
/// ends after its last is deleted.
pub(in crate::config) fn diff(old: &Config, new: &Config, steps: &mut Steps) {
    let (before, after) = (old.bgp_neighbors(), new.bgp_neighbors());
    for address in before.keys().filter(|address| !after.contains_key(address)) {
        steps
            .removals
            .push(Change::BgpNeighborDel { address: *address });
    }
    if old.bgp() != new.bgp() {
        steps.additions.push(Change::BgpSet {
            settings: new.bgp().cloned(),
        });
    }
    for (address, neighbor) in after {
        match before.get(address) {
            None => steps.additions.push(Change::BgpNeighborAdd {
                neighbor: Box::new(neighbor.clone()),
            }),
            Some(old) if old != neighbor => {
                steps.additions.push(Change::BgpNeighborSet {
                    neighbor: Box::new(neighbor.clone()),
                });
            }
            Some(_) => (),
        }
    }
}
