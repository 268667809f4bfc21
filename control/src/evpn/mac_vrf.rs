//! MAC-VRFs: the configured VNIs with their route distinguishers (RFC 7432 section 7.9). An EVI has
//! one VNI here, and so one MAC-VRF (RFC 8365 section 5.1.2, VLAN-based service).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vtep_dataplane::addr::Vni;

use super::config::MacVrfConfig;
use crate::bgp::wire::Rd;

/// Why a VNI can't be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VniError {
    /// All numbers of automatic route distinguishers are taken.
    #[error("VNI {0}: all 65535 automatic route distinguishers are in use; set rd for it")]
    NoDistinguisher(Vni),
}

/// One MAC-VRF.
#[derive(Debug)]
pub(super) struct MacVrf {
    pub(super) config: MacVrfConfig,
    pub(super) rd: Rd,
    /// The number in an automatic route distinguisher.
    number: Option<u16>,
}

/// All MAC-VRFs, by VNI.
#[derive(Debug)]
pub(super) struct MacVrfs {
    router_id: Ipv4Addr,
    vrfs: BTreeMap<Vni, MacVrf>,
    /// The route distinguishers in use.
    distinguishers: BTreeSet<Rd>,
}

impl MacVrfs {
    pub(super) const fn new(router_id: Ipv4Addr) -> Self {
        Self {
            router_id,
            vrfs: BTreeMap::new(),
            distinguishers: BTreeSet::new(),
        }
    }

    /// Sets the BGP identifier for automatic route distinguishers that are built from now on.
    pub(super) const fn set_router_id(&mut self, router_id: Ipv4Addr) {
        self.router_id = router_id;
    }

    #[inline]
    pub(super) fn get(&self, vni: Vni) -> Option<&MacVrf> {
        self.vrfs.get(&vni)
    }

    pub(super) fn contains(&self, vni: Vni) -> bool {
        self.vrfs.contains_key(&vni)
    }

    /// All MAC-VRFs in the order of their VNIs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Vni, &MacVrf)> {
        self.vrfs.iter().map(|(vni, vrf)| (*vni, vrf))
    }

    /// The MAC-VRF that `config` describes, not inserted yet. The number of an automatic route
    /// distinguisher stays the same while the VNI is configured.
    ///
    /// # Errors
    /// [`VniError::NoDistinguisher`].
    pub(super) fn build(&self, config: MacVrfConfig) -> Result<MacVrf, VniError> {
        let vni = config.vni;
        let number = match (config.rd, self.get(vni).and_then(|vrf| vrf.number)) {
            (Some(_), _) => None,
            (None, Some(number)) => Some(number),
            (None, None) => Some(self.free_number(vni)?),
        };
        Ok(self.with_number(config, number))
    }

    /// The MAC-VRF whose automatic route distinguisher `rd` is to be that of `vni`, with another
    /// number, not inserted yet. `None` if there is none.
    ///
    /// # Errors
    /// [`VniError::NoDistinguisher`].
    pub(super) fn build_apart_from(&self, rd: Rd, vni: Vni) -> Result<Option<MacVrf>, VniError> {
        if !self.distinguishers.contains(&rd) {
            return Ok(None);
        }
        let is_other =
            |vrf: &&MacVrf| vrf.rd == rd && vrf.number.is_some() && vrf.config.vni != vni;
        let Some(other) = self.vrfs.values().find(is_other) else {
            return Ok(None);
        };
        let number = self.free_number(other.config.vni)?;
        Ok(Some(self.with_number(other.config.clone(), Some(number))))
    }

    fn with_number(&self, config: MacVrfConfig, number: Option<u16>) -> MacVrf {
        let automatic = number.map(|number| Rd::ipv4(self.router_id, number));
        MacVrf {
            rd: config.rd.or(automatic).unwrap_or_default(),
            config,
            number,
        }
    }

    pub(super) fn insert(&mut self, vrf: MacVrf) {
        let rd = vrf.rd;
        if let Some(old) = self.vrfs.insert(vrf.config.vni, vrf) {
            self.distinguishers.remove(&old.rd);
        }
        self.distinguishers.insert(rd);
    }

    /// Removes a MAC-VRF. False if there is none.
    pub(super) fn remove(&mut self, vni: Vni) -> bool {
        let Some(vrf) = self.vrfs.remove(&vni) else {
            return false;
        };
        self.distinguishers.remove(&vrf.rd);
        true
    }

    fn free_number(&self, vni: Vni) -> Result<u16, VniError> {
        let taken = |number| {
            let rd = Rd::ipv4(self.router_id, number);
            self.distinguishers.contains(&rd)
        };
        distinguisher(vni, taken).ok_or(VniError::NoDistinguisher(vni))
    }
}

/// The number for an automatic route distinguisher: the VNI itself where it fits and is free, so
/// that it is the same after a restart; else the first free number from the folded VNI on.
fn distinguisher(vni: Vni, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let folded = u16::try_from(vni.get()).unwrap_or((vni.get() ^ (vni.get() >> 8)) as u16);
    (0..=u16::MAX)
        .map(|step| folded.wrapping_add(step))
        .find(|number| *number != 0 && !taken(*number))
}
