//! From a route to the paths that a worker can use. Pure: reads the mirrors, asks nobody.

use std::net::IpAddr;
use std::sync::Arc;

use netlink_packet_route::route::RouteType;
use vtep_dataplane::addr::{HostMac, MacAddr, VtepAddr};
use vtep_dataplane::table::encapsulation::{self, HeaderFields};
use vtep_dataplane::table::vtep::MAX_PATHS;

use super::UnderlayConfig;
use super::addresses::Addresses;
use super::links::{Link, Links};
use super::neighbors::{Key, NeighbourState, Neighbours};
use super::route::{Answer, Hop, Route, refusal};

/// One usable way to a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPath {
    /// Index of the underlay interface that frames leave by; of the parent when the route leaves by a VLAN of it.
    pub ifindex: u32,
    /// Its name.
    pub device: Arc<str>,
    /// What the outer header is made of.
    pub fields: HeaderFields,
    /// Longest inner frame (from its destination MAC on) that fits. Bytes.
    pub max_frame: u16,
    /// Share of the flows, 1..=256, against the other paths' weights.
    pub weight: u16,
}

/// One next hop of the route to a VTEP, usable or not, as `show underlay` prints it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ShowPath {
    /// The gateway; absent when the VTEP is on the link.
    pub via: Option<IpAddr>,
    /// The interface that the route leaves by.
    pub interface: String,
    /// Weight among the next hops.
    pub weight: u16,
    /// The neighbour's MAC, if known.
    pub mac: Option<String>,
    /// The neighbour's state as `ip neigh` writes it; `NONE` when the kernel has no entry.
    pub neighbour: String,
    /// MTU of the path. Bytes.
    pub mtu: u32,
    /// Why the path is not used; absent when it is.
    pub fault: Option<String>,
}

/// What a VTEP resolved to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Usable paths, in the kernel's order.
    pub(super) paths: Vec<ResolvedPath>,
    /// Set when there is none.
    pub(super) why_not: Option<String>,
    /// Neighbours that the result depends on and that the kernel should keep resolved.
    pub(super) neighbours: Vec<Key>,
    /// The route's prefix.
    pub(super) route: Option<String>,
    /// All next hops.
    pub(super) rows: Vec<ShowPath>,
}

/// What is known about the host: the configuration and the mirrors of the kernel's tables.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) config: UnderlayConfig,
    pub(super) links: Links,
    pub(super) neighbours: Neighbours,
    pub(super) addresses: Addresses,
}

/// Our own address for the VTEP's family, when it is configured and on this host.
pub(super) fn source(vtep: VtepAddr, host: &Host) -> Result<VtepAddr, String> {
    let (local, family) = if vtep.is_v6() {
        (host.config.local_v6.map(IpAddr::V6), "IPv6")
    } else {
        (host.config.local_v4.map(IpAddr::V4), "IPv4")
    };
    let local = local
        .ok_or_else(|| format!("{vtep} is {family}, but [vtep] address has no {family} address"))?;
    if !host.addresses.contains(local) {
        return Err(format!(
            "our VTEP address {local} is not on this host; add it to an interface"
        ));
    }
    VtepAddr::new(local).map_err(|error| error.to_string())
}

/// Works out the paths.
pub(super) fn resolve(vtep: VtepAddr, answer: &Answer, host: &Host) -> Resolution {
    let mut result = Resolution::default();
    let outcome = match answer {
        Answer::NotAsked(why) => Err(why.clone()),
        Answer::Refused(error) => Err(refusal(vtep, *error)),
        Answer::Route(route) => {
            result.route = Some(route.prefix.clone());
            usable(vtep, route)
                .and_then(|()| source(vtep, host))
                .map(|source| (route, source))
        }
    };
    match outcome {
        Err(why) => result.why_not = Some(why),
        Ok((route, source)) => follow(vtep, source, route, host, &mut result),
    }
    result
}

/// Refuses routes that lead to no other host.
fn usable(vtep: VtepAddr, route: &Route) -> Result<(), String> {
    match route.kind {
        RouteType::Unicast if route.hops.is_empty() => Err(match route.object {
            Some(id) => format!(
                "the kernel does not spell out nexthop object {id} of route {}; set sysctl net.ipv4.nexthop_compat_mode=1",
                route.prefix
            ),
            None => format!("route {} has no interface", route.prefix),
        }),
        RouteType::Unicast => Ok(()),
        RouteType::Multicast if vtep.is_group() => Ok(()),
        RouteType::Local => Err(format!("{vtep} is an address of this host")),
        RouteType::BlackHole => Err(format!("route to {vtep} is blackhole")),
        RouteType::Unreachable => Err(format!("route to {vtep} is unreachable")),
        RouteType::Prohibit => Err(format!("route to {vtep} is prohibit")),
        other => Err(format!(
            "route {} is of type {other:?}, not unicast",
            route.prefix
        )),
    }
}

fn follow(vtep: VtepAddr, source: VtepAddr, route: &Route, host: &Host, result: &mut Resolution) {
    for hop in &route.hops {
        let neighbour = (hop.link, hop.via.unwrap_or(vtep.get()));
        let link = host.links.get(hop.link);
        let out = output(hop, host);
        let mtu = mtu(hop, route, host);
        let path = out.and_then(|out| {
            let mac = match vtep.group_mac() {
                Some(mac) => mac,
                None => {
                    result.neighbours.push(neighbour);
                    neighbour_mac(neighbour, host)?.get()
                }
            };
            finish(vtep, source, out, mac, mtu, hop.weight, host)
        });
        let entry = host.neighbours.get(neighbour);
        let fault = path.as_ref().err().cloned();
        result.paths.extend(path);
        result.rows.push(ShowPath {
            via: hop.via,
            interface: link
                .map_or_else(|| host.links.name(hop.link), |link| link.name.clone())
                .to_string(),
            weight: hop.weight,
            mac: entry.and_then(|entry| entry.mac).map(|mac| mac.to_string()),
            neighbour: state_name(entry.map_or(NeighbourState::None, |entry| entry.state)),
            mtu,
            fault,
        });
    }
    if result.paths.is_empty() {
        let mut faults: Vec<_> = result
            .rows
            .iter()
            .filter_map(|row| row.fault.as_deref())
            .collect();
        faults.dedup();
        result.why_not = Some(faults.join("; "));
    }
}

/// Where a path's frames leave: the device with our sockets, and the interface whose MAC and VLAN they carry.
struct Output<'a> {
    device: &'a Link,
    face: &'a Link,
    vlan: Option<u16>,
}

fn output<'a>(hop: &Hop, host: &'a Host) -> Result<Output<'a>, String> {
    let face = host
        .links
        .get(hop.link)
        .ok_or_else(|| format!("route leaves by unknown interface {}", hop.link))?;
    let name = &face.name;
    if hop.encapsulated {
        return Err(format!(
            "route by {name} adds another encapsulation, which can't be combined with VXLAN here"
        ));
    }
    let configured = |link: &Link| {
        host.config
            .devices
            .iter()
            .any(|device| **device == *link.name)
    };
    let elsewhere = || format!("route leaves by {name}, which is not in [vtep] underlay");
    let (device, vlan) = match face.vlan {
        _ if configured(face) => (face, None),
        None => return Err(elsewhere()),
        Some(vlan) => {
            let parent = vlan.parent.and_then(|index| host.links.get(index));
            let parent = parent
                .filter(|parent| configured(parent))
                .ok_or_else(elsewhere)?;
            if !vlan.dot1q {
                return Err(format!(
                    "{name} is an 802.1ad VLAN; the underlay carries 802.1Q tags only"
                ));
            }
            (parent, Some(vlan.id))
        }
    };
    for link in [device, face] {
        if !link.ethernet {
            return Err(format!("{} is no Ethernet interface", link.name));
        }
        if !link.admin_up {
            return Err(format!("{} is down", link.name));
        }
        if !link.carrier {
            return Err(format!("{} has no carrier", link.name));
        }
    }
    if hop.dead {
        return Err(format!("the kernel holds the next hop by {name} for dead"));
    }
    Ok(Output { device, face, vlan })
}

/// The smallest of the interface's, its parent's and the route's MTU.
fn mtu(hop: &Hop, route: &Route, host: &Host) -> u32 {
    let Some(face) = host.links.get(hop.link) else {
        return 0;
    };
    let parent = face
        .vlan
        .and_then(|vlan| vlan.parent)
        .and_then(|index| host.links.get(index));
    [parent.map(|parent| parent.mtu), route.mtu]
        .into_iter()
        .flatten()
        .fold(face.mtu, u32::min)
}

fn neighbour_mac(key: Key, host: &Host) -> Result<HostMac, String> {
    let entry = host.neighbours.get(key);
    entry
        .and_then(super::neighbors::Neighbour::usable)
        .ok_or_else(|| {
            let (link, address) = (host.links.name(key.0), key.1);
            match entry {
                None => format!("neighbour {address} on {link} is not resolved yet"),
                Some(entry) => format!(
                    "neighbour {address} on {link} is {}",
                    state_name(entry.state)
                ),
            }
        })
}

fn finish(
    vtep: VtepAddr,
    source: VtepAddr,
    out: Output<'_>,
    mac: MacAddr,
    mtu: u32,
    weight: u16,
    host: &Host,
) -> Result<ResolvedPath, String> {
    let headers = encapsulation::overhead(vtep.is_v6()) as u32;
    let max_frame = mtu.checked_sub(headers).filter(|room| *room > 14).ok_or_else(|| {
        format!(
            "MTU {mtu} of the path by {} leaves no room for a frame after {headers} bytes of headers",
            out.face.name
        )
    })?;
    let source_mac: MacAddr = out
        .face
        .mac
        .ok_or_else(|| format!("{} has no MAC address", out.face.name))?;
    Ok(ResolvedPath {
        ifindex: out.device.index,
        device: out.device.name.clone(),
        fields: HeaderFields {
            source_mac,
            next_hop_mac: mac,
            vlan: out.vlan,
            source,
            destination: vtep,
            ttl: host.config.ttl,
            df: host.config.df,
            udp_port: host.config.udp_port,
        },
        max_frame: u16::try_from(max_frame).unwrap_or(u16::MAX),
        weight,
    })
}

fn state_name(state: NeighbourState) -> String {
    state.to_string().to_uppercase()
}

/// Spreads paths over at most [`MAX_PATHS`] slots, a path of weight n standing n times as often as one of weight 1, as
/// near as so few slots permit. Every path has at least one slot; of more than [`MAX_PATHS`] paths the first are taken.
#[must_use]
pub fn slots(paths: &[ResolvedPath]) -> Vec<&ResolvedPath> {
    let paths = &paths[..paths.len().min(MAX_PATHS)];
    let divisor = paths
        .iter()
        .fold(0, |divisor, path| gcd(divisor, usize::from(path.weight)))
        .max(1);
    let total: usize = paths
        .iter()
        .map(|path| usize::from(path.weight) / divisor)
        .sum();
    let room = total.min(MAX_PATHS);
    let mut shares = vec![1; paths.len()];
    // Each further slot goes to the path with the most weight for the slots that it has.
    for _ in paths.len()..room {
        let most = (0..paths.len()).max_by(|a, b| {
            let left = usize::from(paths[*a].weight) * shares[*b];
            let right = usize::from(paths[*b].weight) * shares[*a];
            left.cmp(&right).then(b.cmp(a))
        });
        most.into_iter().for_each(|place| shares[place] += 1);
    }
    paths
        .iter()
        .zip(shares)
        .flat_map(|(path, share)| std::iter::repeat_n(path, share))
        .collect()
}

const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
