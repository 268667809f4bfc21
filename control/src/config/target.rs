//! Route distinguishers and route targets as texts: `AS:n` or `IP:n`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::diagnostic::Diagnostics;
use super::node::{Located, Node};
use super::table::TableReader;
use super::value::Read;
use crate::bgp::wire::{ExtendedCommunity, Rd};

/// The Ethernet tag of local routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EthernetTagMode {
    /// 0, as FRR sends (RFC 8365 section 5.1.3).
    #[default]
    Zero,
    /// The VNI, as Juniper sends.
    Vni,
}

/// Route targets of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTargets {
    /// Those derived from AS and VNI belong to them.
    pub auto: bool,
    /// Explicit ones.
    pub list: BTreeSet<ExtendedCommunity>,
}

impl Default for RouteTargets {
    fn default() -> Self {
        Self {
            auto: true,
            list: BTreeSet::new(),
        }
    }
}

/// The six octets that route distinguishers and route targets share, and their type: 0 for a
/// 2-octet AS and a 32-bit number, 1 for an IPv4 address and a 16-bit number, 2 for a 4-octet AS
/// and a 16-bit number (RFC 4364 section 4.2, RFC 4360 section 4, RFC 5668).
fn octets(text: &str) -> Option<(u8, [u8; 6])> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (admin, number) = text.rsplit_once(':').filter(|(_, number)| digits(number))?;
    let join = |kind, admin: &[u8], number: &[u8]| {
        let all = [admin, number].concat();
        all.try_into().ok().map(|octets| (kind, octets))
    };
    if let Ok(address) = admin.parse::<Ipv4Addr>() {
        return join(
            1,
            &address.octets(),
            &number.parse::<u16>().ok()?.to_be_bytes(),
        );
    }
    let asn: u32 = if digits(admin) {
        admin.parse().ok()?
    } else {
        return None;
    };
    match u16::try_from(asn) {
        Ok(asn) => join(
            0,
            &asn.to_be_bytes(),
            &number.parse::<u32>().ok()?.to_be_bytes(),
        ),
        Err(_) => join(
            2,
            &asn.to_be_bytes(),
            &number.parse::<u16>().ok()?.to_be_bytes(),
        ),
    }
}

/// A route distinguisher from its text. Types that have no text of their own are written as 16
/// hexadecimal digits.
#[must_use]
pub fn rd_of(text: &str) -> Option<Rd> {
    if let Some(raw) = text.strip_prefix("0x") {
        return u64::from_str_radix(raw, 16)
            .ok()
            .map(|raw| Rd(raw.to_be_bytes()));
    }
    octets(text).map(|(kind, [a, b, c, d, e, f])| Rd([0, kind, a, b, c, d, e, f]))
}

/// A route target from its text.
#[must_use]
pub fn target_of(text: &str) -> Option<ExtendedCommunity> {
    octets(text).map(|(kind, [a, b, c, d, e, f])| ExtendedCommunity([kind, 2, a, b, c, d, e, f]))
}

/// A text read by `parse`; `None` for `"auto"`.
fn read<T>(value: &Located, what: &str, parse: fn(&str) -> Option<T>) -> Read<Option<T>> {
    let found = match &value.node {
        Node::Text(text) if text == "auto" => return Ok(None),
        Node::Text(text) => parse(text),
        _ => None,
    };
    found.map(Some).ok_or_else(|| {
        format!(
            "invalid {what} {}: must be \"AS:n\" or \"IP:n\", such as \"65000:100\", where n has \
             16 bits after an IP or an AS above 65535",
            value.describe()
        )
    })
}

/// A route distinguisher; `None` for `"auto"`.
pub(super) fn rd(value: &Located) -> Read<Option<Rd>> {
    read(value, "route distinguisher", rd_of)
}

/// A route target; `None` for `"auto"`.
fn target(value: &Located) -> Read<Option<ExtendedCommunity>> {
    read(value, "route target", target_of)
}

/// A list of route targets, which may include `"auto"`.
pub(super) fn targets(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<RouteTargets> {
    if !table.has(key) {
        table.list(key, diagnostics, target);
        return None;
    }
    let before = diagnostics.errors();
    let mut found = RouteTargets {
        auto: false,
        list: BTreeSet::new(),
    };
    for (line, item) in table.list(key, diagnostics, target) {
        let (fresh, shown) = match item {
            None => (!std::mem::replace(&mut found.auto, true), "auto".to_owned()),
            Some(one) => (found.list.insert(one), target_text(one)),
        };
        if !fresh {
            table.reject_at(
                line,
                key,
                format_args!("{shown} is listed twice"),
                diagnostics,
            );
        }
    }
    if diagnostics.errors() == before && !found.auto && found.list.is_empty() {
        let message = "empty; list route targets, \"auto\" among them or not, or remove the key";
        table.reject(key, message, diagnostics);
    }
    Some(found)
}

/// A route target as configurations write it.
#[must_use]
pub fn target_text(target: ExtendedCommunity) -> String {
    target.to_string().trim_start_matches("RT:").to_owned()
}

/// Route targets as a file lists them.
pub(super) fn target_texts(targets: &RouteTargets) -> impl Iterator<Item = String> {
    let auto = targets.auto.then(|| "auto".to_owned());
    auto.into_iter()
        .chain(targets.list.iter().map(|target| target_text(*target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_the_types_of_the_rfcs() {
        let text = |text: &str| Located {
            line: 1,
            node: Node::Text(text.to_owned()),
        };
        let good = |given: &str| {
            (
                rd(&text(given)).unwrap().unwrap(),
                target(&text(given)).unwrap().unwrap(),
            )
        };
        for given in [
            "65000:268435556",
            "203.0.113.2:7",
            "4200000002:65535",
            "0:0",
        ] {
            let (rd, target) = good(given);
            assert_eq!(
                (rd.to_string(), target_text(target)),
                (given.to_owned(), given.to_owned())
            );
            assert!(target.is_route_target());
        }
        assert_eq!(
            good("65000:100").1,
            ExtendedCommunity::route_target(65000, 100)
        );
        assert_eq!(
            good("203.0.113.2:7").0,
            Rd::ipv4(Ipv4Addr::new(203, 0, 113, 2), 7)
        );
        assert_eq!(
            (rd(&text("auto")), target(&text("auto"))),
            (Ok(None), Ok(None))
        );
        let wrong = [
            "",
            "1",
            ":",
            "1:",
            ":1",
            "1:2:3",
            "+1:1",
            "1:-1",
            "65536:65536",
            "10.0.0.1:65536",
            "x:1",
        ];
        for given in wrong {
            assert!(
                rd(&text(given)).is_err() && target(&text(given)).is_err(),
                "{given}"
            );
        }
    }
}
