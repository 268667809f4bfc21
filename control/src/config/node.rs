//! Values with their line numbers: the common form of TOML files and JSON requests.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics};

/// A value and its line, from 1; 0 = from a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located {
    pub(crate) line: u32,
    pub(crate) node: Node,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Located>),
    Table(Vec<Entry>),
    /// Anything else, as written.
    Other(String),
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) value: Located,
}

impl Located {
    /// The value as a message shows it.
    pub(crate) fn describe(&self) -> String {
        match &self.node {
            Node::Text(text) => format!("{:?}", shorten(text)),
            Node::Integer(number) => number.to_string(),
            Node::Boolean(value) => value.to_string(),
            Node::Array(_) => "[...]".to_owned(),
            Node::Table(_) => "{...}".to_owned(),
            Node::Other(text) => shorten(text),
        }
    }

    /// The elements of an array, or the value itself.
    pub(crate) fn one_or_list(&self) -> &[Self] {
        match &self.node {
            Node::Array(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// A request's value; its nesting was bounded when it was parsed.
    pub(crate) fn from_json(value: &Value) -> Self {
        let node = match value {
            Value::String(text) => Node::Text(text.clone()),
            Value::Bool(value) => Node::Boolean(*value),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Node::Other(number.to_string()), Node::Integer),
            Value::Array(items) => Node::Array(items.iter().map(Self::from_json).collect()),
            Value::Object(map) => Node::Table(map.iter().map(Entry::from_json).collect()),
            Value::Null => Node::Other("null".to_owned()),
        };
        Self { line: 0, node }
    }
}

impl Entry {
    fn from_json((key, value): (&String, &Value)) -> Self {
        Self {
            key: key.clone(),
            line: 0,
            value: Located::from_json(value),
        }
    }
}

/// Long values stay recognizable without filling the terminal.
pub(crate) fn shorten(text: &str) -> String {
    shorten_to(text, 60)
}

/// The first characters of a text that is longer than `longest`.
pub(crate) fn shorten_to(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest).chain("...".chars()).collect()
}

/// The offsets of line breaks, to find the line of an offset.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(
            text.bytes()
                .enumerate()
                .filter_map(|(at, b)| (b == b'\n').then_some(at))
                .collect(),
        )
    }

    fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|at| *at < offset) + 1).unwrap_or(u32::MAX)
    }
}

/// Parses a TOML document. Every syntax error is a diagnostic; `None` when there is one.
pub(crate) fn parse_toml(text: &str, diagnostics: &mut Diagnostics) -> Option<Located> {
    let lines = Lines::of(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(Located {
            line: 1,
            node: table(document.get_ref(), &lines),
        });
    }
    for error in errors {
        let line = error.span().map_or(0, |span| lines.line(span.start));
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        diagnostics.push(Diagnostic::error(
            line,
            String::new(),
            format!("invalid TOML: {message}"),
        ));
    }
    None
}

fn table(table: &DeTable<'_>, lines: &Lines) -> Node {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        Entry {
            key: name.clone().into_owned(),
            line: lines.line(key.span().start),
            value: located(value, lines),
        }
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.line);
    Node::Table(entries)
}

fn located(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Located {
    let node = match value.get_ref() {
        DeValue::String(text) => Node::Text(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Node::Other(number.as_str().to_owned()), Node::Integer),
        DeValue::Float(number) => Node::Other(number.as_str().to_owned()),
        DeValue::Boolean(value) => Node::Boolean(*value),
        DeValue::Datetime(when) => Node::Other(when.to_string()),
        DeValue::Array(items) => {
            Node::Array(items.iter().map(|item| located(item, lines)).collect())
        }
        DeValue::Table(inner) => table(inner, lines),
    };
    Located {
        line: lines.line(value.span().start),
        node,
    }
}
