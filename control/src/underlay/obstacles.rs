//! What of the host stands in the way: interfaces that can't be tenant ports, since the host or a
//! bridge uses them, and set-ups of the underlay in which VXLAN can't pass.

use std::net::IpAddr;
use std::time::Instant;

use crossbeam::channel::TryRecvError;
use hashbrown::HashSet;

use super::links::Link;
use super::policies::HostPolicies;
use super::resolve::HostState;
use super::set_routes::SetRoutes;
use super::{Underlay, UnderlayConfig};
use crate::background::{Background, Pending};

/// Kinds of interface whose members can't be underlay interfaces in their place.
const SWITCHES: [&str; 3] = ["bridge", "openvswitch", "team"];

/// Kinds of interface that receive and send on another one.
const STACKED: [&str; 6] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];

/// Those of them whose frames a program reads: a virtual machine.
const READ_BY_GUESTS: [&str; 2] = ["macvtap", "ipvtap"];

/// How many times as long as it took to read the routes they are not read again.
const ROUTES_PAUSE: u32 = 100;

/// What a tun, WireGuard or PPP interface, or an IP tunnel, is.
const NO_ETHERNET: &str = "its frames have no Ethernet header";

/// Why an interface can't be a tenant port: the XDP program would take all frames from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantObstacle {
    /// The reason and the remedy.
    pub reason: String,
    /// It may have been caused by router advertisements of a guest, while vtepd was not running:
    /// that must not keep other ports from being opened.
    pub autoconfigured: bool,
}

/// What is read in the background: it may take long.
#[derive(Debug)]
pub(super) struct HostLook {
    policies: HostPolicies,
    /// `None`: they were not read, or can't be.
    routes: Option<SetRoutes>,
    /// When to read them again: on a host with very many, seldom.
    routes_due: Option<Instant>,
}

impl HostLook {
    /// Reads the policies, and the routes `with_routes`.
    pub(super) fn read(with_routes: bool) -> Self {
        let began = Instant::now();
        let routes = with_routes.then(SetRoutes::read);
        let took = began.elapsed();
        if let Some(Err(error)) = &routes {
            tracing::debug!(%error, "can't read the routes that were set");
        }
        Self {
            policies: HostPolicies::read(),
            routes_due: with_routes.then(|| began + took * ROUTES_PAUSE),
            routes: routes.and_then(Result::ok),
        }
    }
}

/// Why the interface with this name can't be a tenant port; `None` if it can, or does not exist.
pub(super) fn of_tenant(name: &str, host: &HostState) -> Option<TenantObstacle> {
    let link = host.links.by_name(name)?;
    let cut_off = "its traffic would be taken from the host";
    let stack = stack(link, host);
    let uses_default = |links: &HashSet<u32>| stack.iter().find(|on| links.contains(&on.index));
    let (what, autoconfigured) = if link.loopback {
        (
            "it is the loopback interface; use another interface".to_owned(),
            false,
        )
    } else if !link.ethernet {
        (format!("{NO_ETHERNET}; use a tap instead"), false)
    } else if link.kind == "bridge" || link.kind == "openvswitch" {
        let remedy = "add the interfaces of its guests as ports instead";
        (format!("it is a bridge; {remedy}"), false)
    } else if let Some(what) = stack.iter().find_map(|on| used_for_others(on, link, host)) {
        (what, false)
    } else if let Some(on) = uses_default(&host.default_links.v4) {
        let through = &on.name;
        (
            format!("the default route uses {through}, and {cut_off}; use another interface"),
            false,
        )
    } else if let Some((address, on)) = stack_address(&stack, host) {
        let on = &on.name;
        let remedy = format!("remove it with `ip address del {address} dev {on}`");
        let what = format!("the host has address {address} on {on}, and {cut_off}; {remedy}");
        (what, address.is_ipv6())
    } else if let Some(what) = stack.iter().find_map(|on| set_route(on, host)) {
        (what, false)
    } else {
        let on = uses_default(&host.default_links.v6)?;
        let through = &on.name;
        (
            format!("the IPv6 default route uses {through}, and {cut_off}; use another interface"),
            true,
        )
    };
    Some(TenantObstacle {
        reason: format!("interface {name} can't be a tenant port: {what}"),
        autoconfigured,
    })
}

/// A route of the host through `on`, and why it is in the way.
fn set_route(on: &Link, host: &HostState) -> Option<String> {
    let (route, through) = (host.set_routes.on(on.index)?, &on.name);
    let removal = route.removal(through);
    Some(format!(
        "the host's route {} uses {through}, and its traffic would be taken from the host; remove it with `{removal}`, \
         or use another interface",
        route.prefix
    ))
}

/// What takes the frames of `on`, which is `link` or stacked on it, for others than the host.
fn used_for_others(on: &Link, link: &Link, host: &HostState) -> Option<String> {
    let name = &on.name;
    let it = |is: &str| {
        if on.index == link.index {
            format!("it is {is}")
        } else {
            format!("{name}, which receives on it, is {is}")
        }
    };
    if let Some(master) = master_of(on, host) {
        let is = it(&format!("a member of {} {}", master.kind, master.name));
        Some(format!(
            "{is}; remove it with `ip link set {name} nomaster`"
        ))
    } else if on.index == link.index {
        None
    } else if READ_BY_GUESTS.contains(&&*on.kind) {
        let is = it(&format!("the {} of a guest", on.kind));
        Some(format!("{is}; remove it with `ip link del {name}`"))
    } else if host.config.devices.iter().any(|device| on.has_name(device)) {
        Some(format!(
            "{}; use another interface",
            it("an underlay interface")
        ))
    } else {
        None
    }
}

/// The interface that takes all frames of a link: a bridge, a bond, or any other master but a VRF,
/// whose members receive as before.
fn master_of<'a>(link: &Link, host: &'a HostState) -> Option<&'a Link> {
    let master = host.links.get(link.master?)?;
    (master.kind != "vrf").then_some(master)
}

/// A link, and those whose frames pass it too: they are stacked on it, or on one of them.
fn stack<'a>(link: &'a Link, host: &'a HostState) -> Vec<&'a Link> {
    let mut found = vec![link];
    let mut at = 0;
    while let Some(lower) = found.get(at).map(|lower| lower.index) {
        at += 1;
        let is_over = |upper: &&Link| {
            upper.lower == Some(lower)
                && STACKED.contains(&&*upper.kind)
                && found.iter().all(|known| known.index != upper.index)
        };
        let mut over: Vec<_> = host.links.iter().filter(is_over).collect();
        over.sort_by_key(|upper| upper.index);
        found.extend(over);
    }
    found
}

/// The first of the other ports whose frames those of `link` are too: it is stacked on it.
fn port_over(link: &Link, host: &HostState, is_port: impl Fn(&Link) -> bool) -> Option<String> {
    let stack = stack(link, host);
    let mut others = stack.iter().filter(|on| on.index != link.index);
    let upper = others.find(|on| is_port(on))?;
    let (name, upper) = (&link.name, &upper.name);
    Some(format!(
        "interface {upper} receives on {name}, and both are tenant ports: {name} takes all frames, and {upper} receives \
         none; remove one of them, or write a port of {name} with the vlan instead of {upper}"
    ))
}

/// An address of the host on a link or on one that is stacked on it ([`stack`]). Every interface has a
/// link-local IPv6 address by default; one of IPv4 was added, as for a metadata service.
fn stack_address<'a>(stack: &[&'a Link], host: &'a HostState) -> Option<(IpAddr, &'a Link)> {
    let of = |on: &&'a Link| {
        let on = *on;
        host.addresses
            .on(on.index)
            .map(move |address| (address, on))
    };
    let routable = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let all = stack.iter().flat_map(of);
    // IPv4 first: it is no guest's doing.
    all.filter(|(address, _)| routable(address))
        .min_by_key(|(address, on)| (address.is_ipv6(), on.index, *address))
}

/// Why the interface with this name can't be an underlay interface, with the remedy; `None` if it
/// can, or does not exist.
pub(super) fn of_underlay_interface(name: &str, host: &HostState) -> Option<String> {
    let link = host.links.by_name(name)?;
    let without = match (link.loopback, link.ethernet) {
        (true, _) => Some("it is the loopback interface"),
        (false, false) => Some(NO_ETHERNET),
        (false, true) => None,
    };
    if let Some(what) = without {
        return Some(format!(
            "interface {name} can't be an underlay interface: {what}; write the Ethernet interface that packets to \
             other VTEPs leave on (`ip route get VTEP`)"
        ));
    }
    let instead = |link: &Link| match link.bond {
        Some(_) => host.links.member_names(link.index).join(", "),
        None => link.name.to_string(),
    };
    let (what, remedy) = if link.bond.is_some() {
        (
            "a bond, whose driver runs the program on its members",
            instead(link),
        )
    } else {
        // Of another namespace or a bridge nothing else can be named.
        let parent = link.vlan.and_then(|vlan| host.links.get(vlan.parent?))?;
        if SWITCHES.contains(&&*parent.kind) {
            return None;
        }
        ("a VLAN, on which frames would be copied", instead(parent))
    };
    Some(format!(
        "interface {name} can't be an underlay interface: it is {what}; write {remedy} instead, and leave addresses and \
         routes on {name}"
    ))
}

/// Why nothing is sent on an underlay interface that is a member of another one.
fn of_member(name: &str, host: &HostState) -> Option<String> {
    let master = host.links.get(host.links.by_name(name)?.master?)?;
    if master.bond.is_some() {
        return None;
    }
    let (kind, over) = (&*master.kind, &master.name);
    if kind == "vrf" {
        return Some(format!(
            "underlay interface {name} is in VRF {over}: routes of VRFs are not used, so nothing is sent; move it out \
             of {over} (`ip link set {name} nomaster`), or use another interface"
        ));
    }
    Some(format!(
        "underlay interface {name} is a member of {kind} {over}: routes over {over} are not used, so nothing is sent; \
         move the addresses and routes of {over} to {name} (`ip link set {name} nomaster`), or use another interface"
    ))
}

/// The bonds of which only some members are underlay interfaces.
fn of_bonds(host: &HostState, devices: &[String]) -> Vec<String> {
    let is_configured = |name: &&str| {
        let link = host.links.by_name(name);
        link.is_some_and(|link| devices.iter().any(|device| link.has_name(device)))
    };
    let partly = host.links.iter().filter_map(|bond| {
        bond.bond?;
        let members = host.links.member_names(bond.index);
        let (ours, others): (Vec<&str>, Vec<&str>) = members.into_iter().partition(is_configured);
        let (name, others) = (&bond.name, others.join(", "));
        (!ours.is_empty() && !others.is_empty()).then(|| {
            format!(
                "members of bond {name} are not in [vtep] underlay: {others}; VXLAN that arrives there is not received: \
                 write all members"
            )
        })
    });
    partly.collect()
}

/// Set-ups in which vtepd does not receive or send, one sentence each with the remedy.
pub(super) fn of_underlay(host: &HostState, config: &UnderlayConfig) -> Vec<String> {
    let members = config
        .devices
        .iter()
        .filter_map(|name| of_member(name, host));
    let locals = [
        config.local_v4.map(IpAddr::V4),
        config.local_v6.map(IpAddr::V6),
    ];
    let ours = |local: Option<IpAddr>| local.is_none() || locals.contains(&local);
    let vxlan = host.links.iter().filter_map(|link| {
        let device = link.vxlan.filter(|device| ours(device.local))?;
        let (name, port) = (&link.name, config.udp_port);
        (device.port == port).then(|| {
            format!(
                "the Linux VXLAN interface {name} uses UDP port {port} too, and receives nothing: vtepd takes its \
                 packets; remove it with `ip link del {name}`, or give one of them another port"
            )
        })
    });
    let mut all: Vec<_> = members.chain(vxlan).collect();
    all.extend(of_bonds(host, &config.devices));
    all.sort();
    all
}

impl Underlay {
    /// Why the interface with this name can't be a tenant port; `None` if it can, or does not exist.
    #[must_use]
    pub fn tenant_obstacle(&self, name: &str) -> Option<TenantObstacle> {
        of_tenant(name, &self.host)
    }

    /// That another tenant port receives on the one with this name, and gets nothing, with the remedy.
    /// `is_port` is true for the names of tenant ports.
    pub fn port_over(&self, name: &str, is_port: impl Fn(&str) -> bool) -> Option<String> {
        let is_port = |link: &Link| link.names().any(|name| is_port(name));
        port_over(self.link(name)?, &self.host, is_port)
    }

    /// Why the interface with this name can't be an underlay interface, with the remedy; `None` if it
    /// can, or does not exist.
    #[must_use]
    pub fn underlay_obstacle(&self, name: &str) -> Option<String> {
        of_underlay_interface(name, &self.host)
    }

    /// What of the host prevents VXLAN with this configuration from being sent or received, and the
    /// host's IPsec policies that do not apply to it: one sentence each, with the remedy.
    #[must_use]
    pub fn problems(&self, config: &UnderlayConfig) -> Vec<String> {
        let remotes: Vec<IpAddr> = self.tracked.keys().copied().collect();
        let mut all = of_underlay(&self.host, config);
        all.extend(self.policies.bypassed(config, &remotes));
        all
    }

    /// That tc and nftables of an interface do not apply, one sentence each with the remedy.
    /// `tenant`: it is one of tenants, else of the underlay.
    #[must_use]
    pub fn bypassed_on(&self, name: &str, tenant: bool) -> Vec<String> {
        let link = self.link(name);
        link.map_or_else(Vec::new, |link| {
            self.policies.bypassed_on(&link.name, link.index, tenant)
        })
    }

    /// Reads the host's policies, and the routes that were set on it, again in the background, unless
    /// they are being read.
    pub fn read_policies(&mut self, background: &Background, now: Instant) {
        if self.pending_policies.is_none() {
            let routes = self.routes_due.is_none_or(|due| due <= now);
            let look = background.ask(move || HostLook::read(routes), now);
            self.pending_policies = Some(look);
        }
    }

    /// Takes what was read.
    pub(super) fn set_policies(&mut self, look: HostLook) {
        self.policies = look.policies;
        self.routes_due = look.routes_due.or(self.routes_due);
        if let Some(routes) = look.routes {
            self.host.set_routes = routes;
        }
    }

    /// Takes what [`Self::read_policies`] has read. Returns whether there was something.
    pub fn take_policies(&mut self) -> bool {
        match self.pending_policies.as_ref().map(Pending::answer) {
            Some(Ok(look)) => self.set_policies(look),
            Some(Err(TryRecvError::Disconnected)) => {}
            Some(Err(TryRecvError::Empty)) | None => return false,
        }
        self.pending_policies = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::{AddressAttribute, AddressMessage};
    use netlink_packet_route::link::{
        BondMode, BondPortState, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
        LinkLayerType, LinkMessage, MiiStatus,
    };
    use netlink_packet_route::route::{
        RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
    };

    use super::*;
    use crate::underlay::links::tests::{bond_message, member_message, message, vlan_message};

    /// A host with `eth0`, a bridge with a member, VLAN 20 of `eth1`, a tap and a VXLAN device.
    fn host() -> HostState {
        let mut host = HostState::default();
        host.config.devices = vec!["eth0".into(), "member".into()];
        host.config.udp_port = 4789;
        host.config.local_v4 = Some([203, 0, 113, 2].into());
        let mut add = |mut link: LinkMessage, kind: Option<InfoKind>, more: Vec<LinkAttribute>| {
            let kind = kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
            link.attributes.extend(kind);
            link.attributes.extend(more);
            host.links.update(&link);
        };
        let link = |index, name| message(index, name, true, 1500);
        let mut loopback = link(1, "lo");
        loopback.header.flags |= LinkFlags::Loopback;
        add(loopback, None, vec![]);
        add(link(2, "eth0"), None, vec![]);
        add(link(3, "br0"), Some(InfoKind::Bridge), vec![]);
        add(link(4, "member"), None, vec![LinkAttribute::Controller(3)]);
        add(link(5, "eth1"), None, vec![]);
        let parent = LinkAttribute::Link(5);
        add(link(6, "eth1.20"), Some(InfoKind::Vlan), vec![parent]);
        add(link(7, "tap0"), Some(InfoKind::Tun), vec![]);
        let mut tun = link(8, "tun0");
        tun.header.link_layer_type = LinkLayerType::None;
        add(tun, Some(InfoKind::Tun), vec![]);
        host
    }

    fn give(host: &mut HostState, index: u32, address: IpAddr) {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Address(address)];
        host.addresses.update(&message);
    }

    fn route_message(link: u32, protocol: RouteProtocol, to: Option<[u8; 4]>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        message.header.protocol = protocol;
        message.header.table = 254;
        message.attributes = vec![RouteAttribute::Oif(link)];
        if let Some(to) = to {
            message.header.destination_prefix_length = 32;
            let to = RouteAttribute::Destination(RouteAddress::Inet(to.into()));
            message.attributes.push(to);
        }
        message
    }

    /// Only IPv6 gives each interface a link-local address by itself (finding O3).
    #[test]
    fn an_interface_with_an_ipv4_link_local_address_is_no_tenant_port() {
        let mut host = host();
        give(&mut host, 7, "fe80::1".parse().unwrap());
        assert_eq!(reason(&host, "tap0"), None);
        give(&mut host, 7, "169.254.1.1".parse().unwrap());
        let said = reason(&host, "tap0").unwrap();
        assert!(said.contains("169.254.1.1 on tap0"), "{said}");
    }

    /// A route that was set, in any table, keeps its interface from being a port (finding O3).
    #[test]
    fn an_interface_with_a_route_that_was_set_is_no_tenant_port() {
        let mut host = host();
        let learned = route_message(7, RouteProtocol::Kernel, Some([198, 18, 0, 0]));
        host.set_routes.add(&learned);
        assert_eq!(reason(&host, "tap0"), None);
        let one = route_message(7, RouteProtocol::Boot, Some([198, 18, 0, 1]));
        host.set_routes.add(&one);
        let said = reason(&host, "tap0").unwrap();
        let remedy = "remove it with `ip route del 198.18.0.1/32 dev tap0`";
        assert!(said.contains(remedy), "{said}");
        host.set_routes.remove(&one);
        assert_eq!(reason(&host, "tap0"), None);
        let mut default = route_message(6, RouteProtocol::Static, None);
        default.attributes.push(RouteAttribute::Table(1000));
        host.set_routes.add(&default);
        let said = reason(&host, "eth1").unwrap();
        let remedy = "remove it with `ip route del default dev eth1.20 table 1000`";
        assert!(said.contains(remedy), "{said}");
    }

    fn reason(host: &HostState, name: &str) -> Option<String> {
        of_tenant(name, host).map(|obstacle| obstacle.reason)
    }

    #[test]
    fn what_the_host_or_a_bridge_uses_is_no_tenant_port() {
        let mut host = host();
        for (name, part) in [
            ("lo", "loopback"),
            ("br0", "is a bridge"),
            ("member", "`ip link set member nomaster`"),
            ("tun0", "no Ethernet header; use a tap"),
        ] {
            assert!(reason(&host, name).unwrap().contains(part), "{name}");
        }
        for name in ["eth0", "eth1", "eth1.20", "tap0", "absent"] {
            assert_eq!(reason(&host, name), None, "{name}");
        }
        for (name, part) in [("lo", "loopback"), ("tun0", "no Ethernet header")] {
            let said = of_underlay_interface(name, &host).unwrap();
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(of_underlay_interface("eth0", &host), None);
        give(&mut host, 7, "2001:db8::7".parse().unwrap());
        assert!(of_tenant("tap0", &host).unwrap().autoconfigured);
        give(&mut host, 7, "192.0.2.7".parse().unwrap());
        let both = of_tenant("tap0", &host).unwrap();
        assert!(!both.autoconfigured);
        assert!(
            both.reason.ends_with("`ip address del 192.0.2.7 dev tap0`"),
            "{}",
            both.reason
        );
        // What is stacked on an interface passes it.
        give(&mut host, 6, "192.0.2.20".parse().unwrap());
        assert!(
            reason(&host, "eth1")
                .unwrap()
                .contains("192.0.2.20 on eth1.20")
        );
        // VLAN 20 of eth1 as a bridge's member, as a host with VLANs for its own guests has it.
        let eth1_20 = message(6, "eth1.20", true, 1500);
        for (member, attributes) in [(true, vec![LinkAttribute::Controller(3)]), (false, vec![])] {
            let mut link = eth1_20.clone();
            link.attributes.extend([
                LinkAttribute::Link(5),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]),
            ]);
            link.attributes.extend(attributes);
            host.links.remove(&eth1_20);
            host.links.update(&link);
            let said = reason(&host, "eth1").unwrap();
            assert_eq!(
                said.contains("eth1.20, which receives on it, is a member of bridge br0"),
                member,
                "{said}"
            );
        }
        host.default_links.v4.insert(2);
        assert!(
            reason(&host, "eth0")
                .unwrap()
                .contains("default route uses eth0")
        );
        host.default_links.v4.insert(6);
        assert!(
            reason(&host, "eth1")
                .unwrap()
                .contains("default route uses eth1.20")
        );
    }

    #[test]
    fn a_port_stacked_on_another_port_is_named() {
        let host = host();
        let eth1 = host.links.by_name("eth1").unwrap();
        let over = |ports: &[&str]| port_over(eth1, &host, |link| ports.contains(&&*link.name));
        assert_eq!(over(&["eth1", "eth0"]), None);
        let said = over(&["eth1", "eth1.20"]).unwrap();
        assert!(
            said.starts_with("interface eth1.20 receives on eth1"),
            "{said}"
        );
    }

    #[test]
    fn a_bridge_over_the_underlay_and_a_vxlan_device_on_its_port_are_named() {
        let mut host = host();
        let found = of_underlay(&host, &host.config);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("member of bridge br0"), "{found:?}");
        for (index, port, local, expected) in [
            (8, 4789, None, 2),
            (8, 4790, None, 1),
            (8, 4789, Some([203, 0, 113, 2]), 2),
            (8, 4789, Some([203, 0, 113, 3]), 1),
        ] {
            let mut data = vec![InfoVxlan::Port(port)];
            data.extend(local.map(|local| InfoVxlan::Local(local.into())));
            let mut link = message(index, "vx100", true, 1500);
            link.attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(data)),
            ]));
            host.links.update(&link);
            let found = of_underlay(&host, &host.config);
            assert_eq!(found.len(), expected, "{port} {local:?}: {found:?}");
        }
    }

    /// What is not supported is said with a remedy (finding C19).
    #[test]
    fn bonds_and_vrfs_of_the_underlay_are_named() {
        let mut host = host();
        let (active, up) = (BondPortState::Active, MiiStatus::Up);
        let bond = bond_message(8, "bond0", BondMode::BalanceXor, None);
        host.links.update(&bond);
        host.links.update(&member_message(2, "eth0", 8, active, up));
        host.links.update(&member_message(5, "eth1", 8, active, up));
        let found = of_underlay(&host, &host.config);
        assert!(
            found[0].starts_with("members of bond bond0 are not in [vtep] underlay: eth1;"),
            "{found:?}"
        );
        assert_eq!(found.len(), 2, "{found:?}");
        host.config.devices = vec!["eth0".into(), "eth1".into()];
        assert!(of_underlay(&host, &host.config).is_empty());
        assert!(of_underlay_interface("eth0", &host).is_none());
        let refused = of_underlay_interface("bond0", &host).unwrap();
        assert!(refused.contains("write eth0, eth1 instead"), "{refused}");
        // Finding N5.
        for (name, parent, instead) in [("eth2.20", 10, "eth2"), ("bond0.20", 8, "eth0, eth1")] {
            host.links.update(&message(10, "eth2", true, 1500));
            host.links.update(&vlan_message(11, name, parent, 20));
            let refused = of_underlay_interface(name, &host).unwrap();
            assert!(
                refused.contains(&format!("write {instead} instead")),
                "{refused}"
            );
        }
        host.links.update(&vlan_message(11, "br0.20", 3, 20));
        assert_eq!(of_underlay_interface("br0.20", &host), None);
        host.links.update(&vlan_message(11, "far.20", 99, 20));
        assert_eq!(of_underlay_interface("far.20", &host), None);

        let mut vrf = message(9, "red", true, 1500);
        let kind = LinkInfo::Kind(InfoKind::Vrf);
        vrf.attributes.push(LinkAttribute::LinkInfo(vec![kind]));
        host.links.update(&vrf);
        let mut inside = message(5, "eth1", true, 1500);
        inside.attributes.push(LinkAttribute::Controller(9));
        host.links.update(&inside);
        let found = of_underlay(&host, &host.config);
        assert!(found[0].contains("eth1 is in VRF red"), "{found:?}");
    }
}
