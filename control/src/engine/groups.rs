//! Multicast groups that VNIs flood to: joined by the kernel on the underlay, accepted by the XDP
//! program.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, UdpSocket};

use rustix::net::sockopt;

use super::Engine;
use crate::interfaces::Purpose;

/// Sockets that hold the memberships: one for each group and underlay interface.
#[derive(Debug, Default)]
pub(super) struct Groups {
    joined: BTreeMap<(IpAddr, u32), UdpSocket>,
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
        let mut indexes = Vec::new();
        for managed in self
            .interfaces
            .all()
            .values()
            .filter(|managed| managed.purpose == Purpose::Underlay)
        {
            indexes.extend(managed.open().map(|open| open.backend.ifindex()));
        }
        self.groups
            .joined
            .retain(|(group, index), _| wanted.contains(group) && indexes.contains(index));
        for group in &wanted {
            for index in &indexes {
                let place = (*group, *index);
                if self.groups.joined.contains_key(&place) {
                    continue;
                }
                match join(*group, *index) {
                    Ok(socket) => drop(self.groups.joined.insert(place, socket)),
                    Err(error) => {
                        tracing::error!(%group, ifindex = index, %error, "can't join the multicast group");
                    }
                }
            }
        }
        self.interfaces.set_groups(&wanted);
    }
}
