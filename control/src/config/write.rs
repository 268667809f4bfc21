//! TOML text: the parts that keys and tables are written with.

use std::fmt::{Display, Write};

/// One line. Writing to a string can't fail.
pub(super) fn line(out: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A string in quotes.
pub(super) fn quoted(text: impl Display) -> String {
    toml::Value::from(text.to_string()).to_string()
}

/// An array of values that are TOML already.
pub(super) fn array<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}
