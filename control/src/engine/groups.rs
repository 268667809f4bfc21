//! Multicast groups that VNIs flood to: joined by the kernel on the underlay, accepted by the XDP
//! program.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, UdpSocket};

use rustix::net::sockopt;

use super::Engine;
use crate::interfaces::Purpose;

/// Sockets that hold the memberships: one for each group and underlay interface.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    joined: BTreeMap<(IpAddr, u32), UdpSocket>,
    /// Memberships that the kernel refused, and the error of the first.
    refused: Option<(usize, String)>,
}

impl Groups {
    /// True when no group is used.
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.refused.is_none()
    }

    /// Why frames of some groups do not arrive, and the remedy.
    pub(super) fn problem(&self) -> Option<String> {
        let (count, error) = self.refused.as_ref()?;
        Some(format!(
            "{count} multicast groups could not be joined: {error}; raise the limit of open files \
             (systemd: LimitNOFILE) or net.ipv4.igmp_max_memberships, or use flood lists"
        ))
    }
}

/// Joins a group on an interface for as long as the socket lives.
fn join(group: IpAddr, ifindex: u32) -> io::Result<UdpSocket> {
    // An ephemeral port: the socket only holds the membership, frames go to AF_XDP.
    let any: IpAddr = if group.is_ipv6() {
        [0u8; 16].into()
    } else {
        [0u8; 4].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    match group {
        IpAddr::V4(group) => {
            let any = std::net::Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_add_membership_with_ifindex(&socket, &group, &any, ifindex)?;
        }
        IpAddr::V6(group) => sockopt::set_ipv6_add_membership(&socket, &group, ifindex)?,
    }
    Ok(socket)
}

impl Engine {
    /// Joins and leaves groups, so that every open underlay interface receives exactly those that
    /// VNIs use.
    pub(super) fn sync_groups(&mut self) {
        let wanted: Vec<IpAddr> = {
            let groups = self
                .config
                .vnis()
                .values()
                .filter_map(crate::config::VniConfig::group);
            let mut all: Vec<_> = groups.map(|group| group.get()).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let mut indexes = BTreeSet::new();
        for managed in self
            .interfaces
            .all()
            .values()
            .filter(|managed| managed.purpose == Purpose::Underlay)
        {
            // A bond's membership is one of all its members.
            let open = managed.open();
            indexes.extend(open.map(|open| self.underlay.bond_or_self(open.backend.ifindex())));
        }
        self.groups
            .joined
            .retain(|(group, index), _| wanted.contains(group) && indexes.contains(index));
        let mut refused: Option<(usize, String)> = None;
        for group in &wanted {
            for index in &indexes {
                let place = (*group, *index);
                if self.groups.joined.contains_key(&place) {
                    continue;
                }
                match join(*group, *index) {
                    Ok(socket) => drop(self.groups.joined.insert(place, socket)),
                    Err(error) => {
                        tracing::debug!(%group, ifindex = index, %error, "can't join the multicast group");
                        let (count, _) = refused.get_or_insert((0, error.to_string()));
                        *count += 1;
                    }
                }
            }
        }
        self.groups.refused = refused;
        self.interfaces.set_groups(&wanted);
    }
}
