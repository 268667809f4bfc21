//! Hosts behind remote VTEPs, as a route reflector advertises them.

use std::net::{IpAddr, Ipv4Addr};

use vtep_control::bgp::PeerConfig;
use vtep_control::bgp::wire::{
    Attributes, Encoding, Esi, EvpnRoute, ExtendedCommunity, KEEPALIVE, MAX_MESSAGE_LEN, MacIp, Rd,
    announce, withdraw,
};
use vtep_dataplane::addr::{MacAddr, VtepAddr};

use super::super::fdb;
use crate::row::{Effort, Failure};
use crate::tables::VNI;

/// The AS of both ends.
pub const ASN: u32 = 65_000;
/// The router ID of the neighbor.
pub const NEIGHBOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

/// Remote VTEPs and the hosts behind them: host n is behind VTEP n modulo the number of VTEPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosts {
    /// MACs, each with one type 2 route.
    pub hosts: usize,
    /// Remote VTEPs, 1..=250.
    pub vteps: usize,
}

impl Hosts {
    /// Ten VTEPs; a million hosts in a full run.
    #[must_use]
    pub fn of(effort: Effort) -> Self {
        Self {
            hosts: effort.pick(250_000, 1_000_000),
            vteps: 10,
        }
    }

    /// The address of a VTEP.
    #[must_use]
    pub const fn address(vtep: usize) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, vtep as u8 + 1)
    }

    /// The same as a [`VtepAddr`].
    ///
    /// # Errors
    /// [`Failure`] for an address that no VTEP can have.
    pub fn vtep(vtep: usize) -> Result<VtepAddr, Failure> {
        VtepAddr::new(IpAddr::V4(Self::address(vtep))).map_err(Failure::of("VTEP"))
    }

    /// The hosts behind a VTEP.
    pub fn behind(self, vtep: usize) -> impl Iterator<Item = usize> {
        (vtep..self.hosts).step_by(self.vteps)
    }

    fn routes(self, vtep: usize) -> Result<Vec<EvpnRoute>, Failure> {
        self.behind(vtep)
            .map(|host| Ok(route(fdb::mac(host)?.get(), vtep)))
            .collect()
    }

    /// UPDATEs of at most 4096 octets that advertise the hosts behind a VTEP.
    ///
    /// # Errors
    /// [`Failure`] if a message can't be encoded.
    pub fn announced(self, vtep: usize) -> Result<Vec<u8>, Failure> {
        let mut attributes = Attributes::local(IpAddr::V4(Self::address(vtep)));
        attributes.local_pref = Some(100);
        attributes.extended = vec![
            ExtendedCommunity::route_target(ASN as u16, VNI),
            ExtendedCommunity::VXLAN,
        ];
        let encoding = Encoding {
            four_octet: true,
            limit: MAX_MESSAGE_LEN,
        };
        let mut stream = Vec::new();
        if announce(&attributes, self.routes(vtep)?, encoding, |message| {
            stream.extend_from_slice(message);
        }) {
            Ok(stream)
        } else {
            Err(Failure::new("the attributes leave no space for a route"))
        }
    }

    /// UPDATEs that advertise all hosts, VTEP after VTEP.
    ///
    /// # Errors
    /// [`Failure`] if a message can't be encoded.
    pub fn all_announced(self) -> Result<Vec<u8>, Failure> {
        Ok((0..self.vteps)
            .map(|vtep| self.announced(vtep))
            .collect::<Result<Vec<_>, _>>()?
            .concat())
    }

    /// UPDATEs that withdraw the hosts behind a VTEP.
    ///
    /// # Errors
    /// [`Failure`] if a message can't be encoded.
    pub fn withdrawn(self, vtep: usize) -> Result<Vec<u8>, Failure> {
        let mut stream = Vec::new();
        withdraw(self.routes(vtep)?, MAX_MESSAGE_LEN, |message| {
            stream.extend_from_slice(message);
        });
        Ok(stream)
    }
}

fn route(mac: MacAddr, vtep: usize) -> EvpnRoute {
    let rd = Rd::ipv4(Hosts::address(vtep), VNI as u16);
    EvpnRoute::MacIp(MacIp {
        rd,
        esi: Esi::ZERO,
        tag: 0,
        mac,
        ip: None,
        label: VNI,
        label2: None,
    })
}

/// The messages of the neighbor before its routes: OPEN and KEEPALIVE.
///
/// # Errors
/// [`Failure`] if the OPEN can't be encoded.
pub fn greeting() -> Result<[Vec<u8>; 2], Failure> {
    let open = PeerConfig::new(ASN, NEIGHBOR, ASN)
        .open(false, false)
        .emit();
    Ok([
        open.ok_or_else(|| Failure::new("the OPEN is too long"))?,
        KEEPALIVE.to_vec(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_behind_one_vtep() {
        let hosts = Hosts {
            hosts: 1003,
            vteps: 10,
        };
        let mut all: Vec<_> = (0..10).flat_map(|vtep| hosts.behind(vtep)).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1003));
        assert!(hosts.behind(3).all(|host| host % 10 == 3));
    }

    #[test]
    fn messages_are_packed() {
        let hosts = Hosts {
            hosts: 1000,
            vteps: 1,
        };
        // 35 octets per route (RFC 7432 section 7.2, with type and length), and less than 1 octet
        // of the rest per route.
        let (up, down) = (
            hosts.announced(0).unwrap().len(),
            hosts.withdrawn(0).unwrap().len(),
        );
        assert!((35_000..36_500).contains(&up), "{up}");
        assert!((35_000..36_000).contains(&down), "{down}");
        assert_eq!(hosts.all_announced().unwrap().len(), up);
    }
}
