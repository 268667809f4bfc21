//! A change as the operator would type it: `fdb add 50:54:33:00:00:0c --vni 100 --vtep 203.0.113.3`.

use super::change::Change;
use std::fmt;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(_) => write!(f, "vtep set"),
            Self::VniAdd { vni, .. } => write!(f, "vni add {vni}"),
            Self::VniSet { vni, .. } => write!(f, "vni set {vni}"),
            Self::VniDel { vni } => write!(f, "vni del {vni}"),
            Self::PortAdd { vni, port } => write!(f, "port add {} --vni {vni}", port.key),
            Self::PortSet { vni, port } => write!(f, "port set {} --vni {vni}", port.key),
            Self::PortDel { vni, port } => write!(f, "port del {port} --vni {vni}"),
            Self::FdbAdd { vni, mac, vtep } => write!(f, "fdb add {mac} --vni {vni} --vtep {vtep}"),
            Self::FdbDel { vni, mac } => write!(f, "fdb del {mac} --vni {vni}"),
            Self::FloodAdd { vni, vtep } => write!(f, "flood add {vtep} --vni {vni}"),
            Self::FloodDel { vni, vtep } => write!(f, "flood del {vtep} --vni {vni}"),
            Self::NeighborAdd { vni, ip, mac } => write!(f, "neigh add {ip} --vni {vni} --mac {mac}"),
            Self::NeighborDel { vni, ip } => write!(f, "neigh del {ip} --vni {vni}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_as_the_command_that_makes_it() {
        let vni = vtep_dataplane::addr::Vni::new(100).unwrap();
        let mac = "50:54:33:00:00:0c".parse().unwrap();
        let vtep = "203.0.113.3".parse().unwrap();
        assert_eq!(
            Change::FdbAdd { vni, mac, vtep }.to_string(),
            "fdb add 50:54:33:00:00:0c --vni 100 --vtep 203.0.113.3"
        );
    }
}
