//! `mac.move`: a host is attached here after a live migration, in one call: the table, EVPN, and an announcement that
//! turns the traffic of everyone who still knows it elsewhere.

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use super::{Engine, EngineError};
use crate::api::action::MacMove;
use crate::config::{BatchError, Change, ChangeError};

/// Gratuitous ARP (RFC 5227 announcement): sender and target are the host's own address.
fn announce_v4(mac: MacAddr, ip: std::net::Ipv4Addr) -> Vec<u8> {
    let mut frame = [&MacAddr::BROADCAST.0[..], &mac.0, &[0x08, 0x06]].concat();
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame.resize(60, 0);
    frame
}

/// Unsolicited neighbour advertisement to all nodes (RFC 4861 section 7.2.6), override flag set.
fn announce_v6(mac: MacAddr, ip: std::net::Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend(ip.octets());
    icmp.extend([2, 1]);
    icmp.extend(mac.0);
    let pseudo = [
        &ip.octets()[..],
        &ALL_NODES,
        &[0, 0, 0, 32, 0, 0, 0, 58],
        &icmp,
    ]
    .concat();
    let sum: u32 = pseudo
        .chunks_exact(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [&[0x33, 0x33, 0, 0, 0, 1][..], &mac.0, &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(ip.octets());
    frame.extend(ALL_NODES);
    frame.extend(icmp);
    frame
}

/// Reverse ARP request, as QEMU sends after a migration when no address is known: only the source MAC matters.
fn announce_mac(mac: MacAddr) -> Vec<u8> {
    let mut frame = [&MacAddr::BROADCAST.0[..], &mac.0, &[0x80, 0x35]].concat();
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 3]);
    frame.extend(mac.0);
    frame.extend([0; 4]);
    frame.extend(mac.0);
    frame.resize(60, 0);
    frame
}

impl Engine {
    /// Attaches a host to a port that exists: takes it off any other port of the VNI, raises its mobility sequence, and
    /// announces it.
    ///
    /// # Errors
    /// When there is no such port, or the MAC is a static remote one; nothing changes.
    pub fn mac_move(&mut self, asked: &MacMove, now: Instant) -> Result<(), EngineError> {
        let key = asked.port();
        let refuse = |error| EngineError::Batch(BatchError { index: 0, error });
        let content = self
            .config
            .vnis()
            .get(&asked.vni)
            .ok_or_else(|| refuse(ChangeError::NoVni(asked.vni)))?;
        let target = content.ports().get(&key);
        let mut target = target
            .ok_or_else(|| refuse(ChangeError::NoPort(key.clone(), asked.vni)))?
            .clone();
        let mut changes = Vec::new();
        if let Some(old) = content.local().get(&asked.mac).filter(|old| **old != key) {
            let mut port = content.ports()[old].clone();
            port.macs.remove(&asked.mac);
            port.ips.retain(|ip| !asked.ips.contains(ip));
            changes.push(Change::PortSet {
                vni: asked.vni,
                port,
            });
        }
        target.macs.insert(asked.mac);
        target.ips.extend(asked.ips.iter().copied());
        changes.push(Change::PortSet {
            vni: asked.vni,
            port: target,
        });
        self.unlearn(asked.vni, asked.mac);
        self.apply_batch(&changes, now)?;
        self.announce(asked.vni, asked.mac, &asked.ips);
        Ok(())
    }

    /// Floods an announcement of a local host, as the host itself would.
    fn announce(&mut self, vni: Vni, mac: HostMac, ips: &[IpAddr]) {
        let Some(key) = self.port_of(vni, mac) else {
            return;
        };
        let Some(managed) = self.interfaces.get(&key.interface) else {
            return;
        };
        let Some(queue) = managed.open().and_then(|open| open.queues.first()) else {
            return;
        };
        let known = self
            .config
            .vnis()
            .get(&vni)
            .and_then(|content| content.ports().get(&key));
        let mut all: Vec<IpAddr> = ips.to_vec();
        if let Some(port) = known.filter(|port| port.macs.len() == 1) {
            all.extend(port.ips.iter().copied().filter(|ip| !ips.contains(ip)));
        }
        let mut frames: Vec<_> = all
            .iter()
            .map(|ip| match ip {
                IpAddr::V4(v4) => announce_v4(mac.get(), *v4),
                IpAddr::V6(v6) => announce_v6(mac.get(), *v6),
            })
            .collect();
        if frames.is_empty() {
            frames.push(announce_mac(mac.get()));
        }
        for mut frame in frames {
            if let Some(vlan) = key.vlan {
                frame.splice(12..12, [&[0x81, 0x00][..], &vlan.to_be_bytes()].concat());
            }
            if !self.workers.inject(queue.worker, managed.id, frame.into()) {
                tracing::error!(%vni, %mac, "the worker takes no commands: the host is not announced");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_well_formed() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let arp = announce_v4(mac, [192, 0, 2, 7].into());
        assert_eq!(arp.len(), 60);
        assert_eq!(&arp[28..32], &arp[38..42], "sender and target are the same");
        let na = announce_v6(mac, "2001:db8::7".parse().unwrap());
        assert_eq!(na.len(), 14 + 40 + 32);
        let pseudo = [&na[22..54], &[0, 0, 0, 32, 0, 0, 0, 58], &na[54..]].concat();
        let sum: u32 = pseudo
            .chunks_exact(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        assert_eq!((folded & 0xffff) + (folded >> 16), 0xffff);
        assert_eq!(announce_mac(mac).len(), 60);
    }
}
