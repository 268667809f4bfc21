//! What is known of a configured VNI beside its routes.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::Vni;

use super::config::VniConfig;
use crate::bgp::wire::{Attributes, Rd};
use crate::rib::Mobility;

/// Why a VNI can't be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VniError {
    /// All automatic numbers are taken.
    #[error("VNI {0}: all 65535 automatic route distinguishers are in use; set rd for it")]
    NoDistinguisher(Vni),
}

/// A configured VNI.
#[derive(Debug)]
pub(super) struct MacVrf {
    pub(super) config: VniConfig,
    pub(super) rd: Rd,
    /// The number in an automatic route distinguisher.
    pub(super) number: Option<u16>,
    /// MACs that EVPN has installed.
    pub(super) macs: u32,
    /// Places of MACs that wait for room; some may have changed since.
    pub(super) waiting: VecDeque<u32>,
    /// The limit was told.
    pub(super) full: bool,
    /// Attributes of our type 2 routes, by mobility.
    pub(super) attributes: HashMap<(bool, u32), Arc<Attributes>>,
}

impl MacVrf {
    pub(super) fn attributes(
        &mut self,
        mobility: Mobility,
        make: impl FnOnce() -> Attributes,
    ) -> Arc<Attributes> {
        let key = (mobility.sticky, mobility.sequence);
        // Sequences of long ago are not kept for ever.
        if self.attributes.len() >= 1024 && !self.attributes.contains_key(&key) {
            self.attributes.clear();
        }
        self.attributes
            .entry(key)
            .or_insert_with(|| Arc::new(make()))
            .clone()
    }
}

/// The number for an automatic route distinguisher: the VNI itself where it fits and is free, so that it is the same
/// after a restart; else the next free one after its low and high bits folded.
pub(super) fn distinguisher(vni: Vni, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let folded = u16::try_from(vni.get()).unwrap_or((vni.get() ^ (vni.get() >> 8)) as u16);
    (0..=u16::MAX)
        .map(|step| folded.wrapping_add(step))
        .find(|number| *number != 0 && !taken(*number))
}
