//! Derives from a route the paths that a worker can use. Pure: reads the mirrors only.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use netlink_packet_route::route::RouteType;
use vtep_dataplane::addr::{HostMac, MacAddr, VtepAddr};
use vtep_dataplane::table::encapsulation::{self, HeaderFields};
use vtep_dataplane::table::vtep::MAX_PATHS;

use super::UnderlayConfig;
use super::addresses::Addresses;
use super::bonds::Bond;
use super::error::{ResolveError, nud_name};
use super::links::{Link, Links};
use super::neighbors::{KernelNeighbor, NeighborCache, NeighborKey, NudState};
use super::path_mtu::PathMtus;
use super::route::{NextHop, Route, RouteLookup, lookup_error};
use super::set_routes::SetRoutes;

/// One usable path to a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPath {
    /// Index of the underlay interface that frames are sent on: the parent, when the route uses
    /// its VLAN; a member, when it uses a bond.
    pub ifindex: u32,
    /// Its name.
    pub device: Arc<str>,
    /// Fields of the outer header.
    pub fields: HeaderFields,
    /// Longest inner frame that fits, from its destination MAC on, bytes.
    pub max_frame: u16,
    /// Weight among the paths, at least 1. Those over the members of a bond share that of the route's
    /// next hop.
    pub weight: u16,
}

/// One next hop of the route to a VTEP, usable or not, as `show underlay` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowPath {
    /// The gateway; `None` when the VTEP is on the link.
    pub via: Option<IpAddr>,
    /// The interface that the route uses.
    pub interface: String,
    /// The members of a bond that frames are sent on; empty for other interfaces.
    pub members: Vec<Arc<str>>,
    /// Index of the first underlay interface that frames are sent on; `None` when the path is not used.
    pub ifindex: Option<u32>,
    /// Weight among the next hops.
    pub weight: u16,
    /// The neighbor's MAC, if known.
    pub mac: Option<MacAddr>,
    /// The neighbor's state as `ip neigh` writes it; `NONE` when the kernel has no entry.
    pub neighbor: String,
    /// MTU of the path, bytes.
    pub mtu: u32,
    /// Why the path is not used; `None` when it is.
    pub error: Option<ResolveError>,
}

/// Result of resolving a VTEP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Usable paths, in the kernel's order.
    pub(super) paths: Vec<ResolvedPath>,
    /// Set when there is no usable path.
    pub(super) error: Option<ResolveError>,
    /// Neighbors that the result depends on and that the kernel should keep resolved.
    pub(super) neighbors: Vec<NeighborKey>,
    /// The route's prefix.
    pub(super) route: Option<String>,
    /// All next hops.
    pub(super) rows: Vec<ShowPath>,
}

/// The interfaces that default routes use, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DefaultLinks {
    pub(super) v4: HashSet<u32>,
    pub(super) v6: HashSet<u32>,
}

/// State of the host: the configuration and the mirrors of the kernel's tables.
#[derive(Debug, Default)]
pub(super) struct HostState {
    pub(super) config: UnderlayConfig,
    pub(super) links: Links,
    pub(super) neighbors: NeighborCache,
    pub(super) addresses: Addresses,
    pub(super) default_links: DefaultLinks,
    pub(super) set_routes: SetRoutes,
    pub(super) path_mtus: PathMtus,
}

/// The local VTEP address of the VTEP's family, if it is configured and on this host.
pub(super) fn local_address(vtep: VtepAddr, host: &HostState) -> Result<VtepAddr, ResolveError> {
    let local = if vtep.is_v6() {
        host.config.local_v6.map(IpAddr::V6)
    } else {
        host.config.local_v4.map(IpAddr::V4)
    };
    let address = local.ok_or(ResolveError::NoLocalAddress { vtep })?;
    if !host.addresses.contains(address) {
        return Err(ResolveError::LocalAddressMissing { address });
    }
    VtepAddr::new(address).map_err(|_| ResolveError::LocalAddressInvalid { address })
}

/// Derives the paths.
pub(super) fn resolve(vtep: VtepAddr, lookup: &RouteLookup, host: &HostState) -> Resolution {
    let mut result = Resolution::default();
    let outcome = match lookup {
        RouteLookup::Skipped(error) => Err(error.clone()),
        RouteLookup::Failed(errno) => Err(lookup_error(vtep, *errno)),
        RouteLookup::Found(route) => {
            result.route = Some(route.prefix.clone());
            check_type(vtep, route)
                .and_then(|()| local_address(vtep, host))
                .map(|source| (route, source))
        }
    };
    match outcome {
        Err(error) => result.error = Some(error),
        Ok((route, source)) => resolve_hops(vtep, source, route, host, &mut result),
    }
    result
}

/// Refuses routes that lead to no other host.
fn check_type(vtep: VtepAddr, route: &Route) -> Result<(), ResolveError> {
    let prefix = || route.prefix.clone();
    match route.kind {
        RouteType::Unicast if route.hops.is_empty() => Err(match route.nexthop_id {
            Some(id) => ResolveError::NexthopObject {
                id,
                prefix: prefix(),
            },
            None => ResolveError::RouteWithoutInterface { prefix: prefix() },
        }),
        RouteType::Unicast => Ok(()),
        RouteType::Multicast if vtep.is_group() => Ok(()),
        RouteType::Local => Err(ResolveError::LocalDestination { vtep }),
        RouteType::BlackHole => Err(ResolveError::RouteBlackhole { vtep }),
        RouteType::Unreachable => Err(ResolveError::RouteUnreachable { vtep }),
        RouteType::Prohibit => Err(ResolveError::RouteProhibited { vtep }),
        other => Err(ResolveError::RouteType {
            prefix: prefix(),
            kind: format!("{other:?}"),
        }),
    }
}

fn resolve_hops(
    vtep: VtepAddr,
    source: VtepAddr,
    route: &Route,
    host: &HostState,
    result: &mut Resolution,
) {
    let mut hops = Vec::new();
    for hop in &route.hops {
        let neighbor = (hop.ifindex, hop.via.unwrap_or(vtep.get()));
        let mtu = mtu(vtep, hop, route, host);
        let paths = egress(hop, host).and_then(|egress| {
            let mac = match vtep.group_mac() {
                Some(mac) => mac,
                None => {
                    result.neighbors.push(neighbor);
                    neighbor_mac(neighbor, host)?.get()
                }
            };
            build_paths((source, vtep), &egress, mac, mtu, host)
        });
        let entry = host.neighbors.get(neighbor);
        let error = paths.as_ref().err().cloned();
        let paths = paths.unwrap_or_default();
        let interface = host.links.name(hop.ifindex);
        let is_member = |path: &&ResolvedPath| {
            path.device != interface && host.links.bond_or_self(path.ifindex) != path.ifindex
        };
        let members = paths.iter().filter(is_member);
        result.rows.push(ShowPath {
            via: hop.via,
            members: members.map(|path| path.device.clone()).collect(),
            interface: interface.to_string(),
            ifindex: paths.first().map(|path| path.ifindex),
            weight: hop.weight,
            mac: entry.and_then(|entry| entry.mac).map(HostMac::get),
            neighbor: nud_name(entry.map_or(NudState::None, |entry| entry.state)),
            mtu,
            error,
        });
        hops.push((hop.weight, paths));
    }
    result.paths = share_weights(hops);
    if result.paths.is_empty() {
        let causes = result.rows.iter().filter_map(|row| row.error.clone());
        let mut causes: Vec<_> = causes.collect();
        causes.dedup();
        result.error = Some(ResolveError::NoUsablePath(causes));
    }
}

/// Gives the paths of each next hop equal parts of its weight: all weights are multiplied so that
/// the parts are whole.
fn share_weights(hops: Vec<(u16, Vec<ResolvedPath>)>) -> Vec<ResolvedPath> {
    let counts = hops.iter().map(|(_, paths)| paths.len().max(1));
    let factor = counts.fold(1, |all, count| all / gcd(all, count) * count);
    let share = |(weight, mut paths): (u16, Vec<ResolvedPath>)| {
        let part = usize::from(weight) * factor / paths.len().max(1);
        for path in &mut paths {
            path.weight = u16::try_from(part).unwrap_or(u16::MAX);
        }
        paths
    };
    hops.into_iter().flat_map(share).collect()
}

/// Where a next hop's frames leave: the devices with the sockets, and the interface that the route
/// names, whose MAC and VLAN they carry.
struct Egress<'a> {
    devices: Vec<&'a Link>,
    interface: &'a Link,
    vlan: Option<u16>,
}

fn egress<'a>(hop: &NextHop, host: &'a HostState) -> Result<Egress<'a>, ResolveError> {
    let ifindex = hop.ifindex;
    let interface = host.links.get(ifindex);
    let interface = interface.ok_or(ResolveError::UnknownInterface { ifindex })?;
    let name = || interface.name.clone();
    if hop.encapsulated {
        return Err(ResolveError::RouteEncapsulated { interface: name() });
    }
    let (device, vlan) = underlay_device(interface, host)?;
    for link in [device, interface] {
        let interface = link.name.clone();
        if !link.ethernet {
            return Err(ResolveError::NotEthernet { interface });
        }
        if !link.admin_up {
            return Err(ResolveError::InterfaceDown { interface });
        }
        if !link.carrier {
            return Err(ResolveError::NoCarrier { interface });
        }
    }
    if hop.dead {
        return Err(ResolveError::NexthopDead { interface: name() });
    }
    let devices = match &device.bond {
        Some(bond) => senders(device, bond, host)?,
        None => vec![device],
    };
    Ok(Egress {
        devices,
        interface,
        vlan,
    })
}

/// Whether the interface is in `[vtep] underlay`.
fn configured(link: &Link, host: &HostState) -> bool {
    host.config.devices.iter().any(|name| link.has_name(name))
}

/// The underlay device of a route's interface: itself, or the parent of a VLAN, with the VLAN ID. A
/// bond stands for its members.
fn underlay_device<'a>(
    interface: &'a Link,
    host: &'a HostState,
) -> Result<(&'a Link, Option<u16>), ResolveError> {
    let name = || interface.name.clone();
    let carries = |link: &Link| link.bond.is_some() || configured(link, host);
    if carries(interface) {
        return Ok((interface, None));
    }
    let elsewhere = || ResolveError::NotUnderlayInterface { interface: name() };
    let vlan = interface.vlan.ok_or_else(elsewhere)?;
    let parent = vlan.parent.and_then(|index| host.links.get(index));
    let parent = parent
        .filter(|parent| carries(parent))
        .ok_or_else(elsewhere)?;
    if !vlan.dot1q {
        return Err(ResolveError::ServiceVlan { interface: name() });
    }
    Ok((parent, Some(vlan.id)))
}

/// The members that send the frames of a bond, of those in `[vtep] underlay`. Frames of a flow keep
/// to one of them.
fn senders<'a>(
    link: &Link,
    bond: &Bond,
    host: &'a HostState,
) -> Result<Vec<&'a Link>, ResolveError> {
    let name = || link.name.clone();
    if let Some(mode) = bond.unsupported_mode() {
        return Err(ResolveError::BondMode { bond: name(), mode });
    }
    let mut senders = host.links.members(link.index);
    senders.retain(|member| member.up() && bond.sends_on(member.index, member.bond_member));
    if senders.is_empty() {
        return Err(ResolveError::BondWithoutActiveMember { bond: name() });
    }
    senders.retain(|member| configured(member, host));
    if senders.is_empty() {
        let members = host.links.member_names(link.index).join(", ");
        return Err(ResolveError::BondNotInUnderlay {
            bond: name(),
            members,
        });
    }
    Ok(senders)
}

/// The smallest of the interface's, its parent's, the route's and the path's MTU. A router reports
/// the path MTU of a VTEP, not which of several paths it is on: it applies to all of them. Where
/// routers may fragment, it does not matter.
fn mtu(vtep: VtepAddr, hop: &NextHop, route: &Route, host: &HostState) -> u32 {
    let Some(link) = host.links.get(hop.ifindex) else {
        return 0;
    };
    let parent = link
        .vlan
        .and_then(|vlan| vlan.parent)
        .and_then(|index| host.links.get(index));
    let path = host
        .path_mtus
        .get(vtep.get())
        .filter(|_| vtep.is_v6() || host.config.df);
    let path = path.map(|path| path.mtu);
    [parent.map(|parent| parent.mtu), route.mtu, path]
        .into_iter()
        .flatten()
        .fold(link.mtu, u32::min)
}

fn neighbor_mac(key: NeighborKey, host: &HostState) -> Result<HostMac, ResolveError> {
    let entry = host.neighbors.get(key);
    entry.and_then(KernelNeighbor::usable).ok_or_else(|| {
        let (interface, address) = (host.links.name(key.0), key.1);
        match entry.map(|entry| entry.state) {
            None => ResolveError::NeighborUnresolved { address, interface },
            Some(state) => ResolveError::NeighborUnusable {
                address,
                interface,
                state,
            },
        }
    })
}

/// The paths from `source` to `vtep` through a neighbor with this MAC.
fn build_paths(
    (source, vtep): (VtepAddr, VtepAddr),
    egress: &Egress<'_>,
    mac: MacAddr,
    mtu: u32,
    host: &HostState,
) -> Result<Vec<ResolvedPath>, ResolveError> {
    let headers = encapsulation::overhead(vtep.is_v6()) as u32;
    let interface = egress.interface.name.clone();
    let mtu = egress
        .devices
        .iter()
        .fold(mtu, |mtu, device| mtu.min(device.mtu));
    let max_frame = mtu.checked_sub(headers).filter(|left| *left > 14);
    let Some(max_frame) = max_frame else {
        return Err(ResolveError::MtuTooSmall {
            mtu,
            interface,
            headers,
        });
    };
    let source_mac = egress.interface.mac;
    let source_mac = source_mac.ok_or(ResolveError::NoInterfaceMac { interface })?;
    let path = |device: &&Link| ResolvedPath {
        ifindex: device.index,
        device: device.name.clone(),
        fields: HeaderFields {
            source_mac,
            next_hop_mac: mac,
            vlan: egress.vlan,
            source,
            destination: vtep,
            ttl: host.config.ttl,
            df: host.config.df,
            udp_port: host.config.udp_port,
        },
        max_frame: u16::try_from(max_frame).unwrap_or(u16::MAX),
        weight: 1,
    };
    Ok(egress.devices.iter().map(path).collect())
}

/// Distributes paths over at most [`MAX_PATHS`] slots in proportion to their weights, as exactly as
/// so few slots permit. Every path has at least one slot; of more than [`MAX_PATHS`] paths the
/// first are used.
#[must_use]
pub fn weighted_slots(paths: &[ResolvedPath]) -> Vec<&ResolvedPath> {
    let paths = &paths[..paths.len().min(MAX_PATHS)];
    let divisor = paths
        .iter()
        .fold(0, |divisor, path| gcd(divisor, usize::from(path.weight)))
        .max(1);
    let total: usize = paths
        .iter()
        .map(|path| usize::from(path.weight) / divisor)
        .sum();
    let count = total.min(MAX_PATHS);
    let mut shares = vec![1; paths.len()];
    // Each further slot goes to the path with the highest weight per slot.
    for _ in paths.len()..count {
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
