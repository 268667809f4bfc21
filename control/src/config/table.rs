//! Reads one table key by key, and reports every key that is missing, invalid or unknown.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::node::{Entry, Located, Node};
use super::value::Read;

/// A table that is being read. Every key that is read is known; [`TableReader::finish`] rejects
/// the others.
pub(crate) struct TableReader<'a> {
    /// Path of the table, such as `vni.port`; empty at the top and in requests.
    path: String,
    /// The line where the table begins.
    line: u32,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// Reads `value`, which must be a table.
    pub(crate) fn new(
        path: &str,
        value: &'a Located,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let Node::Table(entries) = &value.node else {
            let message = format!(
                "invalid value {}: must be a table; write its keys below [{path}]",
                value.describe()
            );
            diagnostics.push(Diagnostic::error(value.line, path.to_owned(), message));
            return None;
        };
        Some(Self {
            path: path.to_owned(),
            line: value.line,
            entries,
            known: Vec::new(),
        })
    }

    /// The full name of `key`.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The line of `key`, or of the table where the key is missing.
    pub(crate) fn line_of(&self, key: &str) -> u32 {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map_or(self.line, |entry| entry.line)
    }

    /// Notes the line of each key that is present, and of the table itself.
    pub(crate) fn note_lines(&self, lines: &mut BTreeMap<String, u32>) {
        lines.insert(self.path.clone(), self.line);
        let keys = self.entries.iter();
        lines.extend(keys.map(|entry| (self.name(&entry.key), entry.line)));
    }

    /// Reports an error of `key`.
    pub(crate) fn reject(&self, key: &str, message: impl Display, diagnostics: &mut Diagnostics) {
        diagnostics.push(Diagnostic::error(
            self.line_of(key),
            self.name(key),
            message.to_string(),
        ));
    }

    /// Reports an error of an element of `key` on another line.
    pub(crate) fn reject_at(
        &self,
        line: u32,
        key: &str,
        message: impl Display,
        diagnostics: &mut Diagnostics,
    ) {
        diagnostics.push(Diagnostic::error(line, self.name(key), message.to_string()));
    }

    /// True when the key is present.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// True when the key is present and holds a table.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.key == key && matches!(entry.value.node, Node::Table(_)))
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Located> {
        self.known.push(key);
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// The value of `key`; `None` when it is missing or invalid.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
        read: impl Fn(&Located) -> Read<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        match read(value) {
            Ok(good) => Some(good),
            Err(message) => {
                self.reject_at(value.line, key, message, diagnostics);
                None
            }
        }
    }

    /// As [`Self::optional`], and a missing key is an error. `example` shows what to write.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        diagnostics: &mut Diagnostics,
        read: impl Fn(&Located) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            self.reject(
                key,
                format!("missing; write {key} = {example}"),
                diagnostics,
            );
            return None;
        }
        self.optional(key, diagnostics, read)
    }

    /// The valid elements of an array, with their lines.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
        read: impl Fn(&Located) -> Read<T>,
    ) -> Vec<(u32, T)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        if let Node::Array(items) = &value.node {
            return self.elements(key, items, diagnostics, read);
        }
        let message = format!("invalid value {}: must be an array [...]", value.describe());
        self.reject_at(value.line, key, message, diagnostics);
        Vec::new()
    }

    /// As [`Self::list`]; a single value counts as an array of one.
    pub(crate) fn one_or_list<T>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
        read: impl Fn(&Located) -> Read<T>,
    ) -> Vec<(u32, T)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        self.elements(key, value.one_or_list(), diagnostics, read)
    }

    fn elements<T>(
        &self,
        key: &str,
        items: &[Located],
        diagnostics: &mut Diagnostics,
        read: impl Fn(&Located) -> Read<T>,
    ) -> Vec<(u32, T)> {
        let mut good = Vec::with_capacity(items.len());
        for item in items {
            match read(item) {
                Ok(value) => good.push((item.line, value)),
                Err(message) => self.reject_at(item.line, key, message, diagnostics),
            }
        }
        good
    }

    /// As [`Self::list`], and a duplicate is an error.
    pub(crate) fn set<T: Display + Ord + Clone>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
        read: impl Fn(&Located) -> Read<T>,
    ) -> Vec<T> {
        let mut seen = std::collections::BTreeSet::new();
        let mut good = Vec::new();
        for (line, value) in self.list(key, diagnostics, read) {
            if seen.insert(value.clone()) {
                good.push(value);
            } else {
                let message = format!("{value} is listed twice");
                diagnostics.push(Diagnostic::error(line, self.name(key), message));
            }
        }
        good
    }

    /// The table below `key`, if there is one.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<TableReader<'a>> {
        let path = self.name(key);
        let value = self.get(key)?;
        TableReader::new(&path, value, diagnostics)
    }

    /// The tables of an array of tables such as `[[vni]]`.
    pub(crate) fn tables(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Vec<TableReader<'a>> {
        let path = self.name(key);
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Node::Array(items) = &value.node else {
            let message = format!(
                "invalid value {}: must be an array of tables, [[{path}]]",
                value.describe()
            );
            diagnostics.push(Diagnostic::error(value.line, path, message));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| TableReader::new(&path, item, diagnostics))
            .collect()
    }

    /// Rejects every key that was not read.
    pub(crate) fn finish(&self, diagnostics: &mut Diagnostics) {
        for entry in self
            .entries
            .iter()
            .filter(|entry| !self.known.contains(&entry.key.as_str()))
        {
            let place = if self.path.is_empty() {
                "here".to_owned()
            } else {
                format!("in [{}]", self.path)
            };
            let known = self.known.join(", ");
            let near = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, &entry.key), known));
            let near = near.min().filter(|(distance, _)| *distance <= 3);
            let remedy = near.map_or_else(
                || format!("known {place} are: {known}"),
                |(_, known)| format!("did you mean {known:?}?"),
            );
            let message = format!("unknown key; {remedy}");
            diagnostics.push(Diagnostic::error(
                entry.line,
                self.name(&entry.key),
                message,
            ));
        }
    }
}
