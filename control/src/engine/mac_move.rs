//! `mac.move`: attaches a host after a live migration in one call: FIB entry, EVPN route, and a
//! gratuitous announcement that updates other hosts and switches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, MacAddr, Vni, host_ip};
use vtep_dataplane::wire::{arp, ethernet, nd, vlan};

use super::{Engine, EngineError};
use crate::api::action::MacMove;
use crate::config::{BatchError, Change, ChangeError};

/// Shortest Ethernet frame without its checksum, bytes.
const MIN_FRAME: usize = 60;

/// MAC of the IPv6 group of all nodes (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// A broadcast ARP or RARP message from `mac`.
fn arp_frame(mac: MacAddr, ethertype: u16, message: &arp::Repr) -> Vec<u8> {
    let mut frame = vec![0; MIN_FRAME];
    let header = ethernet::Repr {
        destination: MacAddr::BROADCAST,
        source: mac,
        ethertype,
    };
    header.emit(&mut frame);
    message.emit(&mut frame[ethernet::LEN..]);
    frame
}

/// Gratuitous ARP (RFC 5227 announcement): sender and target are the host's own address.
fn announce_v4(mac: MacAddr, ip: Ipv4Addr) -> Vec<u8> {
    let message = arp::Repr {
        operation: arp::REQUEST,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: MacAddr([0; 6]),
        target_ip: ip,
    };
    arp_frame(mac, arp::ETHERTYPE, &message)
}

/// Unsolicited neighbor advertisement to all nodes (RFC 4861 section 7.2.6).
fn announce_v6(mac: MacAddr, ip: Ipv6Addr, flags: nd::NdFlags) -> Vec<u8> {
    let mut frame = vec![0; ethernet::LEN + nd::ADVERTISEMENT_LEN];
    let header = ethernet::Repr {
        destination: ALL_NODES_MAC,
        source: mac,
        ethertype: ethernet::IPV6,
    };
    header.emit(&mut frame);
    let advertisement = nd::Advertisement {
        target: ip,
        requester: Ipv6Addr::UNSPECIFIED,
        mac,
        flags,
    };
    advertisement.emit(&mut frame[ethernet::LEN..]);
    frame
}

/// Reverse ARP request, as QEMU sends after a migration when no address is known: only the source
/// MAC matters.
fn announce_mac(mac: MacAddr) -> Vec<u8> {
    let message = arp::Repr {
        operation: arp::REVERSE_REQUEST,
        sender_mac: mac,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        target_mac: mac,
        target_ip: Ipv4Addr::UNSPECIFIED,
    };
    arp_frame(mac, arp::RARP_ETHERTYPE, &message)
}

impl Engine {
    /// Attaches a host to an existing port: detaches it from any other port of the VNI, raises its
    /// mobility sequence, and announces it.
    ///
    /// # Errors
    /// When the port does not exist, the MAC is a static remote one, or no host can have an address;
    /// nothing changes.
    pub fn mac_move(&mut self, request: &MacMove, now: Instant) -> Result<(), EngineError> {
        let key = request.port();
        let reject = |error| EngineError::Batch(BatchError { index: 0, error });
        for ip in &request.ips {
            host_ip(*ip).map_err(|error| reject(ChangeError::Address(error)))?;
        }
        let content = self
            .config
            .vnis()
            .get(&request.vni)
            .ok_or_else(|| reject(ChangeError::NoVni(request.vni)))?;
        let target = content.ports().get(&key);
        let mut target = target
            .ok_or_else(|| reject(ChangeError::NoPort(key.clone(), request.vni)))?
            .clone();
        let mut changes = Vec::new();
        if let Some(old) = content.local().get(&request.mac).filter(|old| **old != key) {
            let mut port = content.ports()[old].clone();
            port.macs.remove(&request.mac);
            port.ips.retain(|ip| !request.ips.contains(ip));
            changes.push(Change::PortSet {
                vni: request.vni,
                port,
            });
        }
        target.macs.insert(request.mac);
        target.ips.extend(request.ips.iter().copied());
        changes.push(Change::PortSet {
            vni: request.vni,
            port: target,
        });
        self.apply_batch(&changes, now)?;
        self.announce(request.vni, request.mac, &request.ips);
        Ok(())
    }

    /// Floods an announcement of a local host, as the host itself would send it.
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
            .filter_map(|ip| match ip {
                IpAddr::V4(v4) => Some(announce_v4(mac.get(), *v4)),
                // Without the flags, hosts might stop using a router: the MAC is announced only.
                IpAddr::V6(v6) => {
                    let flags = self.evpn.speaker.nd_flags(vni, *ip)?;
                    Some(announce_v6(mac.get(), *v6, flags))
                }
            })
            .collect();
        if frames.is_empty() {
            frames.push(announce_mac(mac.get()));
        }
        for mut frame in frames {
            if let Some(id) = key.vlan {
                frame.splice(..0, [0; vlan::LEN]);
                vlan::push(&mut frame, id);
            }
            if !self.workers.inject(queue.worker, managed.id, frame.into()) {
                tracing::error!(%vni, %mac, "the worker accepts no commands: the host is not announced");
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
        let target = "2001:db8::7".parse().unwrap();
        let router = announce_v6(mac, target, nd::NdFlags::ROUTER);
        assert_eq!(router[58], 0xa0, "router, override (finding C7)");
        let na = announce_v6(mac, target, nd::NdFlags::HOST);
        assert_eq!(na.len(), 14 + 40 + 32);
        let pseudo = [&na[22..54], &[0, 0, 0, 32, 0, 0, 0, 58], &na[54..]].concat();
        let sum: u32 = pseudo
            .chunks_exact(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        assert_eq!((folded & 0xffff) + (folded >> 16), 0xffff);
        assert_eq!(announce_mac(mac).len(), 60);
        assert_eq!(
            arp[..22],
            *b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01"
        );
        let rarp = announce_mac(mac);
        assert_eq!(rarp[12..22], *b"\x80\x35\0\x01\x08\0\x06\x04\0\x03");
        assert_eq!((&rarp[22..28], &rarp[32..38]), (&mac.0[..], &mac.0[..]));
        assert_eq!(na[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!((na[20], na[21], na[54], na[58]), (58, 255, 136, 0x20));
    }
}
