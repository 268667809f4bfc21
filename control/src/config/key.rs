//! Keys of a table, declared once: reading, saving and comparing follow from the declaration.
//!
//! ```text
//! keys! { const AFXDP: AfXdp { "frames" => frames: plain(frames); ... } }
//!         the table, its section  the key   its field  how it is read and written
//! ```

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::node::Located;
use super::table::TableReader;
use super::value::{Read, seconds, word};
use super::write::{array, line, quoted};

/// One key of the section `S`.
pub(super) struct Key<S> {
    /// As files and requests spell it.
    pub(super) name: &'static str,
    /// Sets the field when the key is present and valid.
    pub(super) read: fn(&mut S, &mut TableReader<'_>, &mut Diagnostics),
    /// The value as TOML; `None` = nothing to write.
    pub(super) write: fn(&S) -> Option<String>,
    /// What a new value costs.
    pub(super) effect: Effect,
}

/// What it takes for a new value of a key to have effect. Tables of VNIs and ports have no marks:
/// all of their keys are live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it has effect at once, or at the next event that it is about.
    Live,
    /// BGP sessions must be reset: the value is part of what a session is made of.
    Session,
    /// The daemon must be restarted.
    Restart,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyValue {
    /// The key.
    pub(super) name: &'static str,
    /// The value as TOML; `None` = not set.
    pub(super) value: Option<String>,
    /// What a new value costs.
    pub(super) effect: Effect,
}

impl KeyValue {
    /// Of a key that is live.
    pub(super) const fn live(name: &'static str, value: Option<String>) -> Self {
        Self {
            name,
            value,
            effect: Effect::Live,
        }
    }

    /// Of a key that sessions are made of.
    pub(super) const fn session(name: &'static str, value: Option<String>) -> Self {
        Self {
            name,
            value,
            effect: Effect::Session,
        }
    }
}

/// The values of all keys of a section, in the order of the declaration.
pub(super) fn values<S>(keys: &[Key<S>], section: &S) -> Vec<KeyValue> {
    let value = |key: &Key<S>| KeyValue {
        name: key.name,
        value: (key.write)(section),
        effect: key.effect,
    };
    keys.iter().map(value).collect()
}

/// Declares the keys of a section, in the order in which they are saved. A new value of a key
/// marked `@live` costs nothing, of one marked `@session` a reset of the BGP sessions that it is
/// about, of any other a restart of the daemon.
macro_rules! keys {
    (
        $(#[$doc:meta])*
        $vis:vis const $table:ident: $section:ty {
            $($(@$effect:ident)? $name:literal => $($field:ident).+: $codec:expr;)*
        }
    ) => {
        $(#[$doc])*
        $vis const $table: &[$crate::config::key::Key<$section>] = &[$(
            $crate::config::key::Key {
                name: $name,
                read: |section, table, diagnostics| {
                    let codec = $codec;
                    let value = $crate::config::key::Codec::read(
                        &codec, table, $name, diagnostics,
                    );
                    if let Some(value) = value {
                        section.$($field).+ = value;
                    }
                },
                write: |section| $crate::config::key::Codec::write(&$codec, &section.$($field).+),
                effect: keys!(@is $($effect)?),
            },
        )*];
    };
    (@is live) => { $crate::config::key::Effect::Live };
    (@is session) => { $crate::config::key::Effect::Session };
    (@is) => { $crate::config::key::Effect::Restart };
}

/// Reads every key of a section; those that are missing or invalid leave the section as it is.
pub(super) fn read_keys<S>(
    keys: &[Key<S>],
    section: &mut S,
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) {
    for key in keys {
        (key.read)(section, table, diagnostics);
    }
}

/// Writes the keys of a section that differ from `default`; all without one.
pub(super) fn write_keys<S>(keys: &[Key<S>], section: &S, default: Option<&S>, out: &mut String) {
    for key in keys {
        let Some(text) = (key.write)(section) else {
            continue;
        };
        if default.and_then(key.write).as_ref() != Some(&text) {
            line(out, key.name, text);
        }
    }
}

/// The keys whose values differ and whose new values require a restart.
pub(super) fn restart_keys<'a, S>(
    keys: &'a [Key<S>],
    old: &'a S,
    new: &'a S,
) -> impl Iterator<Item = &'static str> + 'a {
    keys.iter()
        .filter(|key| key.effect == Effect::Restart && (key.write)(old) != (key.write)(new))
        .map(|key| key.name)
}

/// How the value of a key is read and written.
pub(super) trait Codec {
    /// The type of the field.
    type Value;
    /// The value of `key`; `None` when it is missing or invalid.
    fn read(
        &self,
        table: &mut TableReader<'_>,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self::Value>;
    /// The value as TOML; `None` = nothing to write.
    fn write(&self, value: &Self::Value) -> Option<String>;
}

/// A [`Codec`] of two functions.
struct Functions<R, W>(R, W);

impl<T, R, W> Codec for Functions<R, W>
where
    R: Fn(&mut TableReader<'_>, &'static str, &mut Diagnostics) -> Option<T>,
    W: Fn(&T) -> Option<String>,
{
    type Value = T;

    fn read(
        &self,
        table: &mut TableReader<'_>,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<T> {
        (self.0)(table, key, diagnostics)
    }

    fn write(&self, value: &T) -> Option<String> {
        (self.1)(value)
    }
}

/// Reads with access to the whole table.
pub(super) fn custom<T>(
    read: impl Fn(&mut TableReader<'_>, &'static str, &mut Diagnostics) -> Option<T>,
    write: impl Fn(&T) -> Option<String>,
) -> impl Codec<Value = T> {
    Functions(read, write)
}

/// The section's own code reads the key; the declaration defines how it is saved.
pub(super) fn write_only<T>(write: impl Fn(&T) -> Option<String>) -> impl Codec<Value = T> {
    custom(|_, _, _| None, write)
}

/// A single value.
pub(super) fn single<T>(
    read: impl Fn(&Located) -> Read<T>,
    write: impl Fn(&T) -> String,
) -> impl Codec<Value = T> {
    custom(
        move |table, key, diagnostics| table.optional(key, diagnostics, &read),
        move |value| Some(write(value)),
    )
}

/// A value whose text is TOML: a number or a boolean.
pub(super) fn plain<T: Display>(read: impl Fn(&Located) -> Read<T>) -> impl Codec<Value = T> {
    single(read, T::to_string)
}

/// A value that is written as a string.
pub(super) fn string_of<T: Display>(read: impl Fn(&Located) -> Read<T>) -> impl Codec<Value = T> {
    single(read, |value| quoted(value))
}

/// One of several words.
pub(super) fn one_of<T: Copy + PartialEq>(
    words: &'static [(&'static str, T)],
) -> impl Codec<Value = T> {
    single(word(words), |value| {
        let found = words.iter().find(|(_, meaning)| meaning == value);
        quoted(found.map_or("", |(word, _)| word))
    })
}

/// Seconds, 1 to a week.
pub(super) fn duration() -> impl Codec<Value = Duration> {
    single(seconds, |time| time.as_secs().to_string())
}

/// A key without a default: nothing is written for `None`.
pub(super) fn optional<C: Codec>(codec: C) -> impl Codec<Value = Option<C::Value>> {
    Optional(codec)
}

struct Optional<C>(C);

impl<C: Codec> Codec for Optional<C> {
    type Value = Option<C::Value>;

    fn read(
        &self,
        table: &mut TableReader<'_>,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self::Value> {
        self.0.read(table, key, diagnostics).map(Some)
    }

    fn write(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(|value| self.0.write(value))
    }
}

/// An array of strings without duplicates.
pub(super) fn set<T: Display + Ord + Clone>(
    read: impl Fn(&Located) -> Read<T>,
) -> impl Codec<Value = BTreeSet<T>> {
    custom(
        move |table, key, diagnostics| {
            Some(table.set(key, diagnostics, &read).into_iter().collect())
        },
        |items: &BTreeSet<T>| Some(array(items.iter().map(quoted))),
    )
}
