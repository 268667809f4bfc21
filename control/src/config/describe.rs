//! The difference of two configurations in words: for each entry the old and the new value of each
//! key, and what the change costs.
//!
//! ```text
//! + vni 200: suppress = true                                          added
//! - vni 300                                                           deleted, with its entries
//! ~ vtep: ttl: 64 -> 32                                               changed
//! ~ vtep: udp-port: 4789 -> 4790 (takes a restart)
//! ~ bgp neighbor 10.8.0.254: remote-asn: 65000 -> 65001 (resets session 10.8.0.254)
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::bgp;
use super::bgp_neighbor::{self, BgpNeighbor};
use super::control::CONTROL;
use super::diff::Diff;
use super::key::{Effect, KeyValue, values};
use super::model::{Config, VniConfig};
use super::node::shorten_to;
use super::port::{self, PORT};
use super::session_effect::{SessionEffect, session_effects};
use super::subject::Subject;
use super::vni::{VNI, VniSettings};
use super::vtep::{AFXDP, VTEP};
use super::write::quoted;

/// Limit on lines; a response of the control socket must hold them.
const MAX_LINES: usize = 5000;

/// Characters of a value that are shown.
const MAX_VALUE: usize = 200;

/// What a difference changes, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// One line for each key that changes, and for each entry that is added or deleted; at most
    /// 5000, then one with the number of the others.
    pub lines: Vec<String>,
    /// Neighbors whose established sessions are reset.
    pub resets: BTreeSet<IpAddr>,
}

/// Describes `diff`, the difference of `old` and `new`.
#[must_use]
pub fn describe(old: &Config, new: &Config, diff: &Diff) -> Description {
    let reset = |effect| match effect {
        SessionEffect::Resets(neighbor) => Some(neighbor),
        SessionEffect::Ends(_) => None,
    };
    let resets = session_effects(old, new).into_iter().filter_map(reset);
    let mut out = Description {
        lines: Vec::new(),
        resets: resets.collect(),
    };
    let mut more = 0;
    let single = [Subject::Vtep, Subject::AfXdp, Subject::Control];
    let changed = diff.changes.iter().map(super::change::Change::subject);
    let mut seen = BTreeSet::new();
    for subject in single.into_iter().chain(changed) {
        if !seen.insert(subject.clone()) {
            continue;
        }
        for line in lines_of(&subject, old, new, &out.resets) {
            if out.lines.len() < MAX_LINES {
                out.lines.push(line);
            } else {
                more += 1;
            }
        }
    }
    if more > 0 {
        out.lines.push(format!("... and {more} more"));
    }
    out
}

fn lines_of(
    subject: &Subject,
    old: &Config,
    new: &Config,
    resets: &BTreeSet<IpAddr>,
) -> Vec<String> {
    match (subject.values(old), subject.values(new)) {
        (None, None) => Vec::new(),
        (None, Some(values)) => vec![added(subject, new, &values)],
        (Some(_), None) => vec![deleted(subject, old)],
        (Some(before), Some(after)) => {
            let changes = before
                .iter()
                .zip(&after)
                .filter(|(a, b)| a.value != b.value);
            let mut lines: Vec<_> = changes
                .map(|(a, b)| {
                    let cost = cost(subject, a.effect, resets);
                    let (was, is) = (shown(a.value.as_ref()), shown(b.value.as_ref()));
                    format!("~ {subject}: {}: {was} -> {is}{cost}", a.name)
                })
                .collect();
            if let Some(key) = replaced_password(subject, old, new) {
                let cost = cost(subject, Effect::Session, resets);
                lines.push(format!(
                    "~ {subject}: password-file: a new key in {key}{cost}"
                ));
            }
            lines
        }
    }
}

fn added(subject: &Subject, new: &Config, values: &[KeyValue]) -> String {
    let defaults = subject.defaults(new);
    let is_default = |(at, value): &(usize, &KeyValue)| {
        defaults
            .as_ref()
            .is_some_and(|all| all[*at].value == value.value)
    };
    let set = values.iter().enumerate().filter(|item| !is_default(item));
    let set: Vec<_> = set
        .filter_map(|(_, key)| Some((key.name, key.value.as_ref()?)))
        .map(|(name, value)| format!("{name} = {}", shown(Some(value))))
        .collect();
    if set.is_empty() {
        format!("+ {subject}")
    } else {
        format!("+ {subject}: {}", set.join(", "))
    }
}

fn deleted(subject: &Subject, old: &Config) -> String {
    match subject {
        Subject::BgpNeighbor(address) => format!("- {subject} (ends session {address})"),
        Subject::Vni(vni) => {
            let ports = old.vnis().get(vni).map_or(0, |vni| vni.ports().len());
            match ports {
                0 => format!("- {subject}"),
                1 => format!("- {subject} (with 1 port)"),
                _ => format!("- {subject} (with {ports} ports)"),
            }
        }
        _ => format!("- {subject}"),
    }
}

fn lifetime(lifetime: Option<Duration>) -> KeyValue {
    KeyValue::live("lifetime", lifetime.map(|time| time.as_secs().to_string()))
}

fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| shorten_to(value, MAX_VALUE))
}

/// What a new value of a key costs, in parentheses; empty when it costs nothing.
fn cost(subject: &Subject, effect: Effect, resets: &BTreeSet<IpAddr>) -> String {
    let all: Vec<_> = match (subject, effect) {
        (Subject::Vtep | Subject::AfXdp | Subject::Control, Effect::Restart) => {
            return " (takes a restart)".to_owned();
        }
        (Subject::BgpNeighbor(address), Effect::Session) => {
            resets.get(address).into_iter().collect()
        }
        (Subject::Bgp, Effect::Session) => resets.iter().collect(),
        _ => Vec::new(),
    };
    let list: Vec<_> = all.into_iter().map(IpAddr::to_string).collect();
    match list.len() {
        0 => String::new(),
        1 => format!(" (resets session {})", list[0]),
        _ => format!(" (resets sessions {})", list.join(", ")),
    }
}

/// The file of a neighbor's password, when its name is the same and its content is not.
fn replaced_password(subject: &Subject, old: &Config, new: &Config) -> Option<String> {
    let Subject::BgpNeighbor(address) = subject else {
        return None;
    };
    let password = |config: &Config| config.bgp_neighbors().get(address)?.password.clone();
    let (before, after) = password(old).zip(password(new))?;
    (before != after && before.file() == after.file()).then(|| after.file().display().to_string())
}

impl Subject {
    /// The value of each of its keys, in the same order for every configuration; `None` where the
    /// configuration does not have it.
    fn values(&self, config: &Config) -> Option<Vec<KeyValue>> {
        let vni = |vni| config.vnis().get(vni);
        Some(match self {
            Self::Vtep => values(VTEP, config.vtep()),
            Self::AfXdp => values(AFXDP, &config.vtep().afxdp),
            Self::Control => values(CONTROL, config.control()),
            Self::Bgp => bgp::all_values(config.bgp()?),
            Self::BgpNeighbor(address) => {
                bgp_neighbor::all_values(config.bgp_neighbors().get(address)?)
            }
            Self::Vni(number) => values(VNI, vni(number)?.settings()),
            Self::Port(number, key) => values(PORT, vni(number)?.ports().get(key)?),
            Self::Flood(number, target) => {
                let listed = |vni: &VniConfig| {
                    let group = vni.group().is_some_and(|group| group.get() == *target);
                    group || vni.flood().iter().any(|vtep| vtep.get() == *target)
                };
                vni(number).filter(|vni| listed(vni)).map(|_| Vec::new())?
            }
            Self::Fdb(number, mac) => {
                let entry = vni(number)?.fdb().get(mac)?;
                vec![
                    KeyValue::live("vtep", Some(quoted(entry.vtep))),
                    lifetime(entry.lifetime),
                ]
            }
            Self::Neighbor(number, ip) => {
                let entry = vni(number)?.neighbors().get(ip)?;
                vec![
                    KeyValue::live("mac", Some(quoted(entry.mac))),
                    KeyValue::live("router", entry.router.then(|| "true".to_owned())),
                    lifetime(entry.lifetime),
                ]
            }
        })
    }

    /// The defaults of its keys, for those that have any.
    fn defaults(&self, config: &Config) -> Option<Vec<KeyValue>> {
        match self {
            Self::Vni(_) => Some(values(VNI, &VniSettings::default())),
            Self::Port(vni, key) => {
                let port = config.vnis().get(vni)?.ports().get(key)?;
                Some(values(PORT, &port::defaults(port)))
            }
            Self::BgpNeighbor(address) => {
                let neighbor = config.bgp_neighbors().get(address)?;
                let default = BgpNeighbor::new(*address, neighbor.remote_asn);
                let mut all = bgp_neighbor::all_values(&default);
                // It has no default, and is shown.
                all[0].value = None;
                Some(all)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{diff, parse};

    const OLD: &str = r#"
[vtep]
address = "203.0.113.2"
underlay = ["eth0"]
[bgp]
asn = 65000
[[bgp.neighbor]]
address = "10.8.0.253"
remote-asn = 65000
[[bgp.neighbor]]
address = "10.8.0.254"
remote-asn = 65000
[[vni]]
id = 100
flood = ["203.0.113.9"]
[[vni.port]]
interface = "vnet10"
macs = ["50:54:33:00:00:0a"]
[[vni.fdb]]
mac = "50:54:33:00:00:0c"
vtep = "203.0.113.3"
[[vni]]
id = 300
[[vni.port]]
interface = "vnet30"
"#;

    /// The description of what replacing each first text by the second changes.
    fn described(replaced: &[(&str, &str)]) -> Description {
        let new = replaced.iter().fold(OLD.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        let [old, new] = [OLD, &new].map(|text| parse("file", text).unwrap().config);
        describe(&old, &new, &diff(&old, &new))
    }

    /// Text, what replaces it, and the line that this gives.
    const CASES: &[(&str, &str, &str)] = &[
        ("[bgp]", "ttl = 32\n[bgp]", "~ vtep: ttl: 64 -> 32"),
        (
            "[bgp]",
            "udp-port = 4790\n[bgp]",
            "~ vtep: udp-port: 4789 -> 4790 (takes a restart)",
        ),
        (
            "\"vnet30\"\n",
            "\"vnet30\"\nlearn-limit = 7\nlearn-age = 60\n",
            "~ vni 300 port vnet30: learn-limit: none -> 7",
        ),
        (
            "[[vni]]\nid = 300",
            "[[vni.port]]\ninterface = \"a\"\nlearn-limit = 7\n[[vni]]\nid = 300",
            "+ vni 100 port a: learn-limit = 7",
        ),
        (
            "id = 100\n",
            "id = 100\nrd = \"65000:7\"\n",
            "~ vni 100: rd: \"auto\" -> \"65000:7\"",
        ),
        (
            "[bgp]",
            "cores = [0]\n[bgp]",
            "~ vtep: cores: none -> [0] (takes a restart)",
        ),
        (
            "[bgp]",
            "[vtep.afxdp]\nframes = 4096\n[bgp]",
            "~ vtep.afxdp: frames: 32768 -> 4096 (takes a restart)",
        ),
        (
            "[bgp]",
            "[control]\nmetrics = \"127.0.0.1:1\"\n[bgp]",
            "~ control: metrics: none -> \"127.0.0.1:1\" (takes a restart)",
        ),
        (
            "asn = 65000\n",
            "asn = 65001\n",
            "~ bgp: asn: 65000 -> 65001 (resets sessions 10.8.0.253, 10.8.0.254)",
        ),
        (
            "asn = 65000\n",
            "asn = 65000\nduplicate-moves = 9\n",
            "~ bgp: duplicate-moves: 5 -> 9",
        ),
        (
            "254\"\n",
            "254\"\ndescription = \"spine\"\n",
            "~ bgp neighbor 10.8.0.254: description: none -> \"spine\"",
        ),
        (
            "254\"\nremote-asn = 65000",
            "254\"\nremote-asn = 65009",
            "~ bgp neighbor 10.8.0.254: remote-asn: 65000 -> 65009 (resets session 10.8.0.254)",
        ),
        (
            "[[vni]]",
            "[[bgp.neighbor]]\naddress = \"10.8.0.1\"\nremote-asn = 7\npassive = true\n[[vni]]",
            "+ bgp neighbor 10.8.0.1: remote-asn = 7, passive = true",
        ),
        (
            "[[bgp.neighbor]]\naddress = \"10.8.0.254\"\nremote-asn = 65000\n",
            "",
            "- bgp neighbor 10.8.0.254 (ends session 10.8.0.254)",
        ),
        (
            "id = 100",
            "id = 100\nsuppress = true",
            "~ vni 100: suppress: false -> true",
        ),
        (
            "0a\"]",
            "0a\"]\nlock = true",
            "~ vni 100 port vnet10: lock: false -> true",
        ),
        (
            "0:0a\"]",
            "0:0b\"]",
            "~ vni 100 port vnet10: macs: [\"50:54:33:00:00:0a\"] -> [\"50:54:33:00:00:0b\"]",
        ),
        (
            "vtep = \"203.0.113.3\"",
            "vtep = \"203.0.113.4\"",
            "~ vni 100 fdb 50:54:33:00:00:0c: vtep: \"203.0.113.3\" -> \"203.0.113.4\"",
        ),
        (
            "flood = [\"203.0.113.9\"]",
            "",
            "- vni 100 flood 203.0.113.9",
        ),
        (
            "[[vni.fdb]]",
            "[[vni.neighbor]]\nip = \"192.0.2.1\"\nmac = \"50:54:33:00:00:0c\"\n[[vni.fdb]]",
            "+ vni 100 neighbor 192.0.2.1: mac = \"50:54:33:00:00:0c\"",
        ),
        (
            "[[vni]]\nid = 300\n[[vni.port]]\ninterface = \"vnet30\"\n",
            "",
            "- vni 300 (with 1 port)",
        ),
        (
            "id = 300",
            "id = 300\n[[vni]]\nid = 400\nsuppress = true",
            "+ vni 400: suppress = true",
        ),
    ];

    /// Each line has the old and the new value, or what is added or deleted, and the cost (finding
    /// O5).
    #[test]
    fn each_key_is_shown_with_its_old_and_new_value_and_its_cost() {
        for (from, to, line) in CASES {
            let lines = described(&[(*from, *to)]).lines;
            assert!(lines.iter().any(|shown| shown == line), "{line}: {lines:?}");
        }
    }

    #[test]
    fn the_sessions_that_are_reset_are_listed_once() {
        let asn = ("asn = 65000\n", "asn = 65001\n");
        let remote = ("254\"\nremote-asn = 65000", "254\"\nremote-asn = 65009");
        let resets = described(&[asn, remote]).resets;
        let all: Vec<_> = resets.iter().map(IpAddr::to_string).collect();
        assert_eq!(all, ["10.8.0.253", "10.8.0.254"]);
        let live = (
            "254\"\n",
            "254\"\ndescription = \"spine\"\npassive = true\n",
        );
        assert_eq!(described(&[live]).resets, BTreeSet::new());
    }

    #[test]
    fn every_key_of_bgp_says_whether_it_resets_sessions() {
        let (old, _) = (parse("file", OLD).unwrap().config, ());
        let neighbor = old.bgp_neighbors().values().next().unwrap();
        let settings = old.bgp().unwrap();
        let all = [
            bgp::all_values(settings),
            bgp_neighbor::all_values(neighbor),
        ];
        for key in all.iter().flatten() {
            assert_ne!(key.effect, Effect::Restart, "{}", key.name);
        }
    }
}
