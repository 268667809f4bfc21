//! Readers of single values: each returns the value, or an error message.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use vtep_dataplane::addr::host_ip;

use super::node::{Located, Node};

/// The result of reading one value: the value, or an error message.
pub(crate) type Read<T> = Result<T, String>;

/// The longest time that a timer of the configuration may take, seconds: a week.
const WEEK: u32 = 7 * 24 * 3600;

/// A message of the form `invalid value X: must be Y`.
pub(super) fn invalid(value: &Located, must_be: impl Display) -> String {
    format!("invalid value {}: must be {must_be}", value.describe())
}

/// The text of a string.
pub(super) fn string(value: &Located) -> Read<&str> {
    match &value.node {
        Node::Text(text) => Ok(text),
        _ => Err(invalid(value, "a string in quotes")),
    }
}

/// A string that parses as `T`.
pub(crate) fn text<T: FromStr<Err: Display>>(value: &Located) -> Read<T> {
    string(value)?
        .parse()
        .map_err(|error: T::Err| error.to_string())
}

/// An IP address of any kind.
pub(super) fn any_ip(value: &Located) -> Read<IpAddr> {
    let text = string(value)?;
    text.parse()
        .map_err(|_| format!("invalid IP address {text:?}: must be an IPv4 or IPv6 address"))
}

/// The address of a host.
pub(super) fn ip(value: &Located) -> Read<IpAddr> {
    any_ip(value).and_then(|address| host_ip(address).map_err(|error| error.to_string()))
}

/// An integer within bounds.
pub(crate) fn integer<T: TryFrom<i64> + Into<i64> + Copy>(
    range: RangeInclusive<T>,
) -> impl Fn(&Located) -> Read<T> {
    move |value| {
        let (low, high): (i64, i64) = ((*range.start()).into(), (*range.end()).into());
        let found = match value.node {
            Node::Integer(number) if (low..=high).contains(&number) => T::try_from(number).ok(),
            _ => None,
        };
        found.ok_or_else(|| invalid(value, format_args!("an integer from {low} to {high}")))
    }
}

/// Seconds, 1 to a week.
pub(super) fn seconds(value: &Located) -> Read<Duration> {
    integer(1..=WEEK)(value).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `true` or `false`.
pub(crate) fn boolean(value: &Located) -> Read<bool> {
    match value.node {
        Node::Boolean(value) => Ok(value),
        _ => Err(invalid(value, "true or false")),
    }
}

/// One of several words.
pub(crate) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Located) -> Read<T> {
    move |value| {
        let found = match &value.node {
            Node::Text(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            invalid(value, format_args!("one of {}", all.join(", ")))
        })
    }
}
