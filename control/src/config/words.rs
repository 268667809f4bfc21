//! Changes in words, as `config diff` tells them: the commands that would do the same.

use std::fmt;
use std::time::Duration;

use super::change::Change;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(_) => f.write_str("vtep set"),
            Self::VniAdd { vni, .. } => write!(f, "vni add {vni}"),
            Self::VniSet { vni, .. } => write!(f, "vni set {vni}"),
            Self::VniDel { vni } => write!(f, "vni del {vni}"),
            Self::PortAdd { vni, port } => write!(f, "port add {} --vni {vni}", Words(&port.key)),
            Self::PortSet { vni, port } => write!(f, "port set {} --vni {vni}", Words(&port.key)),
            Self::PortDel { vni, port } => write!(f, "port del {} --vni {vni}", Words(port)),
            Self::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime,
            } => {
                write!(
                    f,
                    "fdb add {mac} --vni {vni} --vtep {vtep}{}",
                    Lifetime(*lifetime)
                )
            }
            Self::FdbDel { vni, mac } => write!(f, "fdb del {mac} --vni {vni}"),
            Self::FloodAdd { vni, vtep } => write!(f, "flood add {vtep} --vni {vni}"),
            Self::FloodDel { vni, vtep } => write!(f, "flood del {vtep} --vni {vni}"),
            Self::GroupAdd { vni, group } => write!(f, "flood add {group} --vni {vni}"),
            Self::GroupDel { vni, group } => write!(f, "flood del {group} --vni {vni}"),
            Self::BgpSet { settings: Some(_) } => f.write_str("bgp set"),
            Self::BgpSet { settings: None } => f.write_str("bgp del"),
            Self::BgpNeighborAdd { neighbor } => write!(f, "bgp neighbor add {}", neighbor.address),
            Self::BgpNeighborSet { neighbor } => write!(f, "bgp neighbor set {}", neighbor.address),
            Self::BgpNeighborDel { address } => write!(f, "bgp neighbor del {address}"),
            Self::NeighborAdd {
                vni,
                ip,
                mac,
                lifetime,
            } => {
                write!(
                    f,
                    "neigh add {ip} --vni {vni} --mac {mac}{}",
                    Lifetime(*lifetime)
                )
            }
            Self::NeighborDel { vni, ip } => write!(f, "neigh del {ip} --vni {vni}"),
        }
    }
}

/// A port as the options of a command.
struct Words<'a>(&'a super::PortKey);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.interface.fmt(f)?;
        self.0
            .vlan
            .map_or(Ok(()), |vlan| write!(f, " --vlan {vlan}"))
    }
}

/// A lifetime as an option of a command, if there is one.
struct Lifetime(Option<Duration>);

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lifetime| {
            write!(f, " --lifetime {}", lifetime.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Change, Port};

    #[test]
    fn changes_read_as_commands() {
        let vni = "100".parse().unwrap();
        let port = Port::new("vnet10 vlan 7".parse().unwrap());
        assert_eq!(
            Change::PortAdd { vni, port }.to_string(),
            "port add vnet10 --vlan 7 --vni 100"
        );
        let (mac, vtep) = (
            "02:00:00:00:00:01".parse().unwrap(),
            "203.0.113.3".parse().unwrap(),
        );
        let lifetime = Some(Duration::from_secs(60));
        let add = Change::FdbAdd {
            vni,
            mac,
            vtep,
            lifetime,
        };
        assert_eq!(
            add.to_string(),
            "fdb add 02:00:00:00:00:01 --vni 100 --vtep 203.0.113.3 --lifetime 60"
        );
    }
}
