//! What a configuration change does to established BGP sessions.

use std::fmt;
use std::net::IpAddr;

use super::bgp::BgpSettings;
use super::bgp_neighbor::BgpNeighbor;
use super::model::Config;

/// What a change does to the session with a neighbor of the old configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEffect {
    /// It ends, and starts again with the new settings.
    Resets(IpAddr),
    /// It ends: the neighbor is no longer configured.
    Ends(IpAddr),
}

impl fmt::Display for SessionEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resets(neighbor) => write!(f, "resets session {neighbor}"),
            Self::Ends(neighbor) => write!(f, "ends session {neighbor}"),
        }
    }
}

/// What the change from `old` to `new` does to the sessions, in the order of their addresses. A
/// session that is not listed is not touched.
#[must_use]
pub fn session_effects(old: &Config, new: &Config) -> Vec<SessionEffect> {
    let effect = |(address, before): (&IpAddr, &BgpNeighbor)| {
        let Some((settings, after)) = new.bgp().zip(new.bgp_neighbors().get(address)) else {
            return Some(SessionEffect::Ends(*address));
        };
        let reset = !same_session((old.bgp()?, before), (settings, after));
        reset.then_some(SessionEffect::Resets(*address))
    };
    old.bgp_neighbors().iter().filter_map(effect).collect()
}

/// True if both describe the same session: the same TCP connection and the same OPEN.
fn same_session(
    (old_settings, old): (&BgpSettings, &BgpNeighbor),
    (settings, new): (&BgpSettings, &BgpNeighbor),
) -> bool {
    old.connection() == new.connection()
        && old
            .peer_config(old_settings, None)
            .same_session(&new.peer_config(settings, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const NEIGHBORS: [&str; 2] = ["10.8.0.253", "10.8.0.254"];

    /// A configuration with these lines in `[bgp]`, and in the second neighbor.
    fn config(bgp: &str, neighbor: &str) -> Config {
        let [one, two] = NEIGHBORS;
        let text = format!(
            "[vtep]\naddress = \"203.0.113.2\"\nunderlay = [\"eth0\"]\n[bgp]\n{bgp}\n\
             [[bgp.neighbor]]\naddress = \"{one}\"\nremote-asn = 65000\n\
             [[bgp.neighbor]]\naddress = \"{two}\"\n{neighbor}\n"
        );
        parse("test", &text).expect("valid").config
    }

    fn effects(old: &Config, new: &Config) -> String {
        let all = session_effects(old, new);
        assert_eq!(session_effects(new, old), all, "both directions");
        let all: Vec<_> = all.iter().map(ToString::to_string).collect();
        all.join(", ")
    }

    /// Each key of `[bgp]` and of a neighbor, and whether it resets sessions (finding C10).
    #[test]
    fn a_session_is_reset_by_what_it_consists_of_and_by_nothing_else() {
        let base = "asn = 65000";
        let old = config(base, "remote-asn = 65000");
        let all = "resets session 10.8.0.253, resets session 10.8.0.254";
        for (line, expected) in [
            ("hold-time = 30", all),
            ("router-id = \"10.0.0.1\"", all),
            ("duplicate-moves = 9", ""),
            ("duplicate-window = 9", ""),
            ("duplicate-freeze = 9", ""),
        ] {
            let new = config(&format!("{base}\n{line}"), "remote-asn = 65000");
            assert_eq!(effects(&old, &new), expected, "{line}");
        }
        let new = config("asn = 65001", "remote-asn = 65000");
        assert_eq!(effects(&old, &new), all, "asn");
        let one = "resets session 10.8.0.254";
        for (line, expected) in [
            ("local-address = \"10.8.0.1\"", one),
            ("port = 1179", one),
            ("ttl-security = 1", one),
            ("extended-messages = false", one),
            ("graceful-restart = false", one),
            ("graceful-restart = { restart-time = 60 }", one),
            ("graceful-restart = { stale-time = 60 }", ""),
            ("passive = true", ""),
            ("max-prefixes = 10", ""),
            ("max-prefixes = { limit = 10, retry = 5 }", ""),
            ("connect-retry = 3", ""),
            ("description = \"a spine\"", ""),
        ] {
            let new = config(base, &format!("remote-asn = 65000\n{line}"));
            assert_eq!(effects(&old, &new), expected, "{line}");
        }
        let new = config(base, "remote-asn = 65001");
        assert_eq!(effects(&old, &new), one, "remote-asn");
    }

    #[test]
    fn a_neighbor_that_is_removed_ends_its_session_only() {
        let old = config("asn = 65000", "remote-asn = 65000");
        let mut new = old.clone();
        let address = NEIGHBORS[1].parse().expect("an address");
        new.apply(&crate::config::Change::BgpNeighborDel { address })
            .expect("it is there");
        let all = session_effects(&old, &new);
        assert_eq!(all, [SessionEffect::Ends(address)]);
        assert_eq!(all[0].to_string(), "ends session 10.8.0.254");
        assert_eq!(session_effects(&new, &old), []);
    }
}
