//! Where the file names what: each key and entry, and things that this host must have.

use std::collections::BTreeMap;

use vtep_dataplane::addr::VtepAddr;

use super::interface::InterfaceName;
use super::subject::Subject;

/// The lines of keys and entries, for refusals that come after reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Places {
    /// Keys of the tables that exist once, by their full names, such as `vtep.udp-port`.
    pub(super) keys: BTreeMap<String, u32>,
    /// Entries of arrays of tables.
    pub(super) entries: BTreeMap<Subject, u32>,
}

impl Places {
    /// The line of a key of a table that exists once, or of the table where the key is not in the
    /// file; 0 without either.
    pub(super) fn line_of_key(&self, key: &str) -> u32 {
        let table = || self.keys.get(key.rsplit_once('.')?.0);
        self.keys.get(key).or_else(table).copied().unwrap_or(0)
    }
}

/// What the host must have, each with the line that names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HostReferences {
    pub(super) addresses: Vec<(u32, VtepAddr)>,
    pub(super) underlay: Vec<(u32, InterfaceName)>,
    pub(super) cores: Vec<(u32, usize)>,
    pub(super) ports: Vec<(u32, InterfaceName)>,
    pub(super) places: Places,
}
