//! What each kind of entry of a VNI provides, so that loading, saving, comparing and requests need
//! no list of kinds of their own.

use std::collections::BTreeMap;

use vtep_dataplane::addr::Vni;

use super::{Change, ChangeError};
use crate::config::diagnostic::Diagnostics;
use crate::config::model::{Config, VniConfig};
use crate::config::references::HostReferences;
use crate::config::table::TableReader;

/// The operation of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Verb {
    /// `KIND.add`.
    Add,
    /// `KIND.del`.
    Del,
}

/// A kind of entry of a VNI, such as the static remote MACs.
pub(in crate::config) trait EntryKind: Sync {
    /// First part of the method of requests: `fdb` of `fdb.add`.
    fn name(&self) -> &'static str;

    /// Reads the entries of one `[[vni]]`, and applies them.
    fn load(&self, table: &mut TableReader<'_>, loader: &mut VniLoader<'_>);

    /// Reads the parameters of a request. They are read, and so checked, even when the VNI is
    /// invalid.
    fn request(
        &self,
        verb: Verb,
        vni: Option<Vni>,
        table: &mut TableReader<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Change>;

    /// Writes entries that are a key of `[[vni]]`; in TOML these precede all tables below it.
    fn write_key(&self, _vni: &VniConfig, _out: &mut String) {}

    /// Writes entries that are tables below `[[vni]]`.
    fn write_tables(&self, _vni: &VniConfig, _out: &mut String) {}

    /// The changes that lead from `old` to `new`.
    fn diff(&self, vni: Vni, old: &VniConfig, new: &VniConfig, steps: &mut Steps);
}

/// Changes of a difference: removals are applied before additions.
#[derive(Debug, Default)]
pub(in crate::config) struct Steps {
    pub(in crate::config) removals: Vec<Change>,
    pub(in crate::config) additions: Vec<Change>,
}

impl Steps {
    /// Adds the changes that lead from the entries `old` to `new`. An entry for which `is_kept` is
    /// true stays although `new` has none with its key.
    pub(super) fn entries<K: Copy + Ord, E: Copy + PartialEq>(
        &mut self,
        (old, new): (&BTreeMap<K, E>, &BTreeMap<K, E>),
        is_kept: impl Fn(K, E) -> bool,
        add: impl Fn(K, E) -> Change,
        del: impl Fn(K) -> Change,
    ) {
        for (&key, &entry) in old {
            let wanted = new.get(&key);
            let stays = wanted.is_none() && is_kept(key, entry);
            if !stays && wanted != Some(&entry) {
                self.removals.push(del(key));
            }
        }
        let added = new
            .iter()
            .filter(|(key, entry)| old.get(key) != Some(entry));
        self.additions
            .extend(added.map(|(key, entry)| add(*key, *entry)));
    }
}

/// A `[[vni]]` that is being loaded.
pub(in crate::config) struct VniLoader<'a> {
    /// `None` when it is invalid: the entries are read, and so checked, but not applied.
    pub(in crate::config) vni: Option<Vni>,
    pub(in crate::config) config: &'a mut Config,
    pub(in crate::config) references: &'a mut HostReferences,
    pub(in crate::config) diagnostics: &'a mut Diagnostics,
}

impl VniLoader<'_> {
    /// Applies a change of this VNI, which the file makes on `line`.
    pub(super) fn apply(
        &mut self,
        line: u32,
        change: impl FnOnce(Vni) -> Change,
    ) -> Result<(), ChangeError> {
        let Some(change) = self.vni.map(change) else {
            return Ok(());
        };
        self.config.apply(&change)?;
        self.note(line, &change);
        Ok(())
    }

    /// Notes the line of an entry.
    pub(super) fn note(&mut self, line: u32, change: &Change) {
        let entries = &mut self.references.places.entries;
        entries.insert(change.subject(), line);
    }

    /// Reads each table of `[[vni.key]]`, which the key `identity` identifies, and applies the
    /// change that `read` makes of it.
    pub(super) fn tables<C: FnOnce(Vni) -> Change>(
        &mut self,
        table: &mut TableReader<'_>,
        (key, identity): (&'static str, &str),
        read: impl Fn(&mut TableReader<'_>, &mut Self) -> Option<C>,
    ) {
        for mut item in table.tables(key, self.diagnostics) {
            let change = read(&mut item, self);
            item.finish(self.diagnostics);
            let Some(change) = change.zip(self.vni).map(|(change, vni)| change(vni)) else {
                continue;
            };
            match self.config.apply(&change) {
                Ok(()) => self.note(item.line_of(identity), &change),
                Err(error) => item.reject(error.field(), &error, self.diagnostics),
            }
        }
    }
}
