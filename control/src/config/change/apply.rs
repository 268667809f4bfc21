//! Applies changes: one by one, or a batch that is all or nothing.

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::{BatchError, Change, ChangeError, Undo, step, vni};
use crate::config::model::{Config, VniConfig};

impl Config {
    /// Applies one change. Costs O(log n) in the size of the tables, except for [`Change::VniDel`].
    ///
    /// # Errors
    /// [`ChangeError`] when it conflicts; nothing has changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        step(self, change).map(drop)
    }

    /// Applies changes in order, all or none.
    ///
    /// # Errors
    /// [`BatchError`] names the first that conflicts; nothing has changed then.
    pub fn apply_all(&mut self, changes: &[Change]) -> Result<(), BatchError> {
        let mut undo = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            match step(self, change) {
                Ok(inverse) => undo.push(inverse),
                Err(error) => {
                    while let Some(inverse) = undo.pop() {
                        self.revert(inverse);
                    }
                    return Err(BatchError { index, error });
                }
            }
        }
        Ok(())
    }

    fn revert(&mut self, undo: Undo) {
        match undo {
            Undo::Change(change) => {
                let undone = step(self, &change);
                debug_assert!(undone.is_ok(), "the inverse of an applied change fits");
            }
            Undo::Vni(vni, content) => vni::restore(self, vni, *content),
        }
    }

    pub(super) fn vni_mut(&mut self, vni: Vni) -> Result<&mut VniConfig, ChangeError> {
        self.vnis.get_mut(&vni).ok_or(ChangeError::NoVni(vni))
    }

    /// Checks that a remote VTEP is not local, and that its address family can be sent to. Before
    /// `[vtep]` has an address every VTEP passes.
    pub(super) fn check_remote(&self, vtep: VtepAddr) -> Result<(), ChangeError> {
        let own = self.vtep.addresses;
        if own.iter().any(|address| address == vtep) {
            return Err(ChangeError::OwnAddress(vtep));
        }
        if !own.is_empty() && own.for_remote(vtep).is_none() {
            return Err(ChangeError::Family(vtep));
        }
        Ok(())
    }
}
