//! Addresses: who has one, when it moves, and what is announced (findings C1, C2, C7, C8).

use std::net::IpAddr;

use vtep_dataplane::addr::HostMac;
use vtep_dataplane::wire::nd::NdFlags;

use super::fixture::{
    Fixture, ONE, SECOND, attributes, claim, host, ip, mac, moved, sticky, vni, vtep,
};
use crate::bgp::wire::{Attributes, EvpnRoute, ExtendedCommunity, MacIp};
use crate::evpn::{
    AddressClaim, AddressError, EntryOrigin, EvpnConfig, EvpnEvent, LocalKind, LocalMac,
    LocalMacError, MacVrfConfig,
};

/// The addresses that each test is run with.
fn families() -> [IpAddr; 2] {
    [ip(101), "2001:db8::101".parse().expect("an address")]
}

fn with_ip(route: MacIp, ip: IpAddr) -> MacIp {
    MacIp {
        ip: Some(ip),
        ..route
    }
}

impl Fixture {
    fn local(&mut self, mac: HostMac, kind: LocalKind) {
        let (now, default) = (self.now, LocalMac::default());
        self.speaker
            .local_mac_add(now, vni(100), mac, LocalMac { kind, ..default })
            .expect("local");
        self.settle();
    }

    fn attach(&mut self, mac: HostMac, ip: IpAddr) {
        self.local(mac, LocalKind::Attached);
        self.speaker
            .local_address_add(vni(100), mac, ip, false)
            .expect("local");
        self.settle();
    }

    fn claim(&mut self, mac: HostMac, ip: IpAddr) -> Result<LocalKind, AddressError> {
        let result = self
            .speaker
            .address_claim(self.now, vni(100), claim(mac, ip));
        self.settle();
        result
    }

    /// The MAC that requests for an address are answered with, and its origin.
    fn answer(&self, ip: IpAddr) -> Option<(HostMac, EntryOrigin)> {
        let entry = self.tables.neighbors.get(&(vni(100), ip));
        entry.map(|(mac, _, origin)| (*mac, *origin))
    }

    /// The MACs whose routes announce an address.
    fn announced(&self, ip: IpAddr) -> Vec<HostMac> {
        let mut all: Vec<_> = self
            .speaker
            .own_routes()
            .filter_map(|view| match view.route {
                EvpnRoute::MacIp(route) if route.ip == Some(ip) => HostMac::new(route.mac).ok(),
                _ => None,
            })
            .collect();
        all.sort();
        all
    }

    fn route(&mut self, attributes: &Attributes, route: MacIp, ip: IpAddr) {
        self.host(ONE, attributes, with_ip(route, ip));
    }
}

/// A configured address stays with its host, whatever claims it: a local host, or a route with
/// any sequence; and it is answered and announced as before (finding C2).
#[test]
fn a_configured_address_stays() {
    for at in families() {
        let mut fixture = Fixture::new();
        fixture.attach(mac(1), at);
        fixture.local(mac(2), LocalKind::Learned);
        let refused = Err(AddressError::Attached(mac(1)));
        assert_eq!(fixture.claim(mac(2), at), refused);
        fixture.route(&moved(3, 7), host(3, mac(3)), at);
        let is_refused = |event: &EvpnEvent| {
            matches!(event, EvpnEvent::AddressRefused { ip, mac: by, .. }
                if *ip == at && *by == mac(3))
        };
        assert!(
            fixture.events.iter().any(is_refused),
            "{:?}",
            fixture.events
        );
        assert_eq!(
            fixture.answer(at),
            Some((mac(1), EntryOrigin::Local)),
            "{at}"
        );
        assert_eq!(fixture.announced(at), [mac(1)]);
        // When the host is detached, the route is what remains.
        fixture.speaker.local_address_del(vni(100), mac(1), at);
        fixture.settle();
        assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
        assert_eq!(fixture.announced(at), []);
    }
}

/// The same for a static entry, which is another VTEP's host or a local one (finding C2).
#[test]
fn a_static_entry_stays() {
    for at in families() {
        let mut fixture = Fixture::new();
        fixture
            .speaker
            .static_address_add(vni(100), at, mac(1), false);
        fixture.local(mac(2), LocalKind::Learned);
        let refused = Err(AddressError::Static(mac(1)));
        assert_eq!(fixture.claim(mac(2), at), refused);
        fixture.route(&moved(3, 7), host(3, mac(3)), at);
        assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Static)));
        assert_eq!(fixture.announced(at), []);
        // The host of the entry itself may announce it.
        fixture.local(mac(1), LocalKind::Learned);
        assert_eq!(fixture.claim(mac(1), at), Ok(LocalKind::Learned));
        assert_eq!(fixture.announced(at), [mac(1)]);
        assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Static)));
        // A static entry that is added later has priority too.
        fixture
            .speaker
            .static_address_add(vni(100), at, mac(9), false);
        fixture.settle();
        assert_eq!(fixture.answer(at), Some((mac(9), EntryOrigin::Static)));
        assert_eq!(fixture.announced(at), []);
        fixture.speaker.static_address_del(vni(100), at);
        fixture.settle();
        assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Local)));
        assert_eq!(fixture.announced(at), [mac(1)]);
    }
}

/// No learned host takes an address of a MAC that its VTEP announces as sticky, as the default
/// gateway, or with an immutable binding, whichever route says so (finding C2).
#[test]
fn an_address_that_never_moves_is_not_learned_elsewhere() {
    let with = |community| {
        let mut attributes = attributes(3);
        attributes.extended.push(community);
        attributes
    };
    let immutable = with(ExtendedCommunity([6, 8, 8, 0, 0, 0, 0, 0]));
    let gateway = with(ExtendedCommunity::DEFAULT_GATEWAY);
    for at in families() {
        for (of_mac, of_address) in [
            (attributes(3), sticky(3)),
            // FRR marks the route without an address only.
            (sticky(3), attributes(3)),
            (attributes(3), immutable.clone()),
            (attributes(3), gateway.clone()),
        ] {
            let mut fixture = Fixture::new();
            fixture.host(ONE, &of_mac, host(3, mac(3)));
            fixture.route(&of_address, host(3, mac(3)), at);
            fixture.local(mac(2), LocalKind::Learned);
            let refused = Err(AddressError::Sticky(mac(3)));
            assert_eq!(fixture.claim(mac(2), at), refused);
            assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
            assert_eq!(fixture.announced(at), []);
            // And one that was learned before gives way.
            let mut fixture = Fixture::new();
            fixture.local(mac(2), LocalKind::Learned);
            assert_eq!(fixture.claim(mac(2), at), Ok(LocalKind::Learned));
            fixture.host(ONE, &of_mac, host(3, mac(3)));
            fixture.route(&of_address, host(3, mac(3)), at);
            assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
            assert_eq!(fixture.announced(at), []);
        }
    }
}

/// Nor does a host behind a third VTEP take it with a higher sequence, whichever route comes first
/// (finding C2).
#[test]
fn an_address_that_never_moves_is_not_taken_by_another_vtep() {
    let with = |community| {
        let mut attributes = attributes(5);
        attributes.extended.push(community);
        attributes
    };
    let immutable = with(ExtendedCommunity([6, 8, 8, 0, 0, 0, 0, 0]));
    let gateway = with(ExtendedCommunity::DEFAULT_GATEWAY);
    for at in families() {
        for fixed in [sticky(5), immutable.clone(), gateway.clone()] {
            for intruder_first in [false, true] {
                let mut fixture = Fixture::new();
                if intruder_first {
                    fixture.route(&moved(3, 9), host(3, mac(3)), at);
                }
                fixture.route(&fixed, host(5, mac(5)), at);
                fixture.route(&moved(3, 9), host(3, mac(3)), at);
                assert_eq!(fixture.answer(at), Some((mac(5), EntryOrigin::Evpn)));
                fixture.withdraw(ONE, &[EvpnRoute::MacIp(with_ip(host(5, mac(5)), at))]);
                assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
            }
        }
    }
}

/// The MAC of a default gateway behind another VTEP is not learned here: any sender with that MAC
/// would get the frames to the gateway. One that was learned before gives way (finding C2).
#[test]
fn the_mac_of_a_gateway_elsewhere_is_not_learned() {
    let mut gateway = attributes(3);
    gateway.extended.push(ExtendedCommunity::DEFAULT_GATEWAY);
    let learned = LocalMac {
        kind: LocalKind::Learned,
        ..LocalMac::default()
    };
    let mut fixture = Fixture::new();
    fixture.host(ONE, &gateway, host(3, mac(3)));
    let now = fixture.now;
    let refused = fixture
        .speaker
        .local_mac_add(now, vni(100), mac(3), learned);
    assert_eq!(refused, Err(LocalMacError::Gateway(vni(100), mac(3))));
    assert_eq!(fixture.at(mac(3)), Some(vtep(3)));
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(3, mac(3)))]);
    fixture.local(mac(3), LocalKind::Learned);
    assert_eq!(fixture.own_sequence(mac(3)), Some(0));
    fixture.host(ONE, &gateway, host(3, mac(3)));
    assert_eq!(fixture.own_sequence(mac(3)), None, "withdrawn");
    assert_eq!(fixture.at(mac(3)), Some(vtep(3)));
}

/// A virtual IP fails over from a local host to one behind another VTEP, which announces it with
/// the same, a higher, or no sequence; and back (finding C2).
#[test]
fn a_virtual_ip_moves_to_another_vtep_and_back() {
    for at in families() {
        for theirs in [attributes(3), moved(3, 1), moved(3, 9)] {
            let mut fixture = Fixture::new();
            fixture.local(mac(1), LocalKind::Learned);
            assert_eq!(fixture.claim(mac(1), at), Ok(LocalKind::Learned));
            assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Local)));
            fixture.route(&theirs, host(3, mac(3)), at);
            assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
            assert_eq!(fixture.announced(at), [], "the local claim is withdrawn");
            assert!(fixture.speaker.mac(vni(100), mac(1)).is_some());
            // The host that lost it sends its other messages, which changes nothing.
            assert_eq!(fixture.claim(mac(1), ip(77)), Ok(LocalKind::Learned));
            assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
            // Back: the sequence exceeds that of the route (RFC 9721).
            assert_eq!(fixture.claim(mac(1), at), Ok(LocalKind::Learned));
            assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Local)));
            assert_eq!(fixture.announced(at), [mac(1)]);
            let info = theirs.extended.iter().find_map(|c| c.as_mac_mobility());
            let sequence = info.map_or(0, |(_, sequence)| sequence);
            assert_eq!(fixture.own_sequence(mac(1)), Some(sequence + 1));
            // Their route is not news until it has a higher sequence.
            fixture.route(&moved(3, sequence + 2), host(3, mac(3)), at);
            assert_eq!(fixture.answer(at), Some((mac(3), EntryOrigin::Evpn)));
            // The intruder or new owner leaves: who claimed it before has it again.
            fixture.withdraw(ONE, &[EvpnRoute::MacIp(with_ip(host(3, mac(3)), at))]);
            assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Local)));
            assert_eq!(fixture.announced(at), [mac(1)]);
        }
    }
}

/// An old route for the address, in the first table of a session that came up again, is no later
/// claim (finding C2).
#[test]
fn the_first_table_of_a_session_takes_no_address() {
    for at in families() {
        let mut fixture = Fixture::new();
        fixture.local(mac(1), LocalKind::Learned);
        assert_eq!(fixture.claim(mac(1), at), Ok(LocalKind::Learned));
        let negotiated = super::fixture::negotiated_with(65000, 65000, 201);
        fixture.speaker.peer_down(ONE, false);
        fixture.speaker.peer_up(fixture.now, ONE, &negotiated);
        fixture.route(&attributes(3), host(3, mac(3)), at);
        assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Local)));
        assert_eq!(fixture.announced(at), [mac(1)]);
    }
}

/// An address moves between local hosts of any kind: learned or attached MACs, and configured
/// addresses that several hosts have (finding C2).
#[test]
fn an_address_moves_between_local_hosts() {
    for at in families() {
        for kinds in [
            [LocalKind::Learned, LocalKind::Learned],
            [LocalKind::Attached, LocalKind::Learned],
            [LocalKind::Learned, LocalKind::Attached],
            [LocalKind::Attached, LocalKind::Attached],
        ] {
            let mut fixture = Fixture::new();
            fixture.local(mac(1), kinds[0]);
            fixture.local(mac(2), kinds[1]);
            for holder in [mac(1), mac(2), mac(1)] {
                assert_eq!(fixture.claim(holder, at), Ok(LocalKind::Learned));
                assert_eq!(fixture.answer(at), Some((holder, EntryOrigin::Local)));
                assert_eq!(fixture.announced(at), [holder]);
            }
            // The holder leaves: the other one still claims it.
            fixture.speaker.local_mac_del(fixture.now, vni(100), mac(1));
            fixture.settle();
            assert_eq!(fixture.answer(at), Some((mac(2), EntryOrigin::Local)));
            assert_eq!(fixture.announced(at), [mac(2)]);
            fixture.speaker.local_address_del(vni(100), mac(2), at);
            fixture.settle();
            assert_eq!((fixture.answer(at), fixture.announced(at)), (None, vec![]));
        }
        let mut fixture = Fixture::new();
        fixture.attach(mac(1), at);
        fixture.attach(mac(2), at);
        assert_eq!(fixture.announced(at), [mac(1)], "it has it first");
        for holder in [mac(2), mac(1), mac(2)] {
            assert_eq!(fixture.claim(holder, at), Ok(LocalKind::Attached));
            assert_eq!(fixture.answer(at), Some((holder, EntryOrigin::Local)));
            assert_eq!(fixture.announced(at), [holder]);
        }
        fixture.speaker.local_address_del(vni(100), mac(2), at);
        fixture.settle();
        assert_eq!(fixture.answer(at), Some((mac(1), EntryOrigin::Local)));
        assert_eq!(fixture.announced(at), [mac(1)]);
    }
}

/// Two hosts that keep claiming an address: after five moves in three minutes it stays where it is,
/// until the window is over (RFC 9161 section 3.7).
#[test]
fn a_duplicate_address_stays_after_five_moves() {
    for at in families() {
        let mut fixture = Fixture::new();
        fixture.local(mac(1), LocalKind::Learned);
        fixture.local(mac(2), LocalKind::Learned);
        assert_eq!(fixture.claim(mac(1), at), Ok(LocalKind::Learned));
        for holder in [2, 1, 2, 1, 2].map(mac) {
            assert_eq!(fixture.claim(holder, at), Ok(LocalKind::Learned));
        }
        let refused = Err(AddressError::Frozen(mac(2)));
        assert_eq!(fixture.claim(mac(1), at), refused);
        assert_eq!(fixture.answer(at), Some((mac(2), EntryOrigin::Local)));
        fixture.later(180 * SECOND);
        assert_eq!(fixture.claim(mac(1), at), Ok(LocalKind::Learned));
    }
}

/// One new address costs one route, whatever the number of addresses (finding C1).
#[test]
fn a_new_address_is_one_route() {
    let mut fixture = Fixture::new();
    fixture.local(mac(1), LocalKind::Learned);
    let mut sent = Vec::new();
    for last in 10..30 {
        let mut octets = 0;
        fixture.claim(mac(1), ip(last)).expect("free");
        fixture.speaker.pump_messages(ONE, |message| {
            octets += message.len();
            true
        });
        sent.push(octets);
    }
    // The first message has the route of the MAC and the type 3 route too.
    assert!(
        sent[2..].iter().all(|octets| *octets == sent[1]),
        "{sent:?}"
    );
}

/// The flags of an IPv6 address: known by configuration, by an advertisement of the host or by the
/// route, or unknown (finding C7).
#[test]
fn the_flags_of_an_address_are_known_or_not_answered() {
    let at = families()[1];
    let nd = |fixture: &Fixture| fixture.tables.neighbors[&(vni(100), at)].1;
    let mut fixture = Fixture::new();
    fixture.local(mac(1), LocalKind::Learned);
    fixture.claim(mac(1), at).expect("free");
    assert_eq!(nd(&fixture), None, "a solicitation has no flags");
    let told = |flags| AddressClaim {
        nd: Some(flags),
        ..claim(mac(1), at)
    };
    let anycast = NdFlags {
        router: true,
        overrides: false,
    };
    for flags in [NdFlags::HOST, NdFlags::ROUTER, anycast] {
        let claimed = fixture
            .speaker
            .address_claim(fixture.now, vni(100), told(flags));
        claimed.expect("its own");
        fixture.settle();
        assert_eq!(nd(&fixture), Some(flags));
        fixture.claim(mac(1), at).expect("its own");
        assert_eq!(nd(&fixture), Some(flags), "kept");
    }
    // By configuration.
    for (router, flags) in [(false, NdFlags::HOST), (true, NdFlags::ROUTER)] {
        let mut fixture = Fixture::new();
        fixture.local(mac(1), LocalKind::Attached);
        fixture
            .speaker
            .local_address_add(vni(100), mac(1), at, router)
            .expect("local");
        fixture.settle();
        assert_eq!(nd(&fixture), Some(flags));
        let told = fixture
            .speaker
            .address_claim(fixture.now, vni(100), told(NdFlags::ROUTER));
        told.expect("its own");
        fixture.settle();
        assert_eq!(nd(&fixture), Some(NdFlags::ROUTER), "it says so itself");
        fixture
            .speaker
            .static_address_add(vni(100), ip(9), mac(9), router);
        fixture.settle();
        assert_eq!(fixture.tables.neighbors[&(vni(100), ip(9))].1, Some(flags));
    }
    // By a route.
    for (octets, flags) in [(0, (false, false)), (1, (true, false)), (2, (false, true))] {
        let mut fixture = Fixture::new();
        let mut attributes = attributes(3);
        fixture.route(&attributes, host(3, mac(3)), at);
        assert_eq!(nd(&fixture), None);
        let community = ExtendedCommunity([6, 8, octets, 0, 0, 0, 0, 0]);
        attributes.extended.push(community);
        fixture.route(&attributes, host(3, mac(3)), at);
        let (router, overrides) = flags;
        assert_eq!(nd(&fixture), Some(NdFlags { router, overrides }));
    }
}

/// The flags are announced only if asked, and only with IPv6 addresses (finding C7): GoBGP 3.10
/// treats the whole UPDATE as withdrawn.
#[test]
fn the_flags_are_announced_on_request() {
    for wanted in [false, true] {
        let mut vrf = MacVrfConfig::new(vni(100));
        vrf.nd_flags = wanted;
        let config = EvpnConfig::new(65000, [192, 0, 2, 1].into(), vtep(1));
        let mut fixture = Fixture::with(config, vrf);
        for at in families() {
            fixture.local(mac(1), LocalKind::Attached);
            fixture
                .speaker
                .local_address_add(vni(100), mac(1), at, true)
                .expect("local");
        }
        let communities: Vec<_> = fixture
            .speaker
            .own_routes()
            .filter_map(|view| match view.route {
                EvpnRoute::MacIp(route) => {
                    let nd = view.attributes.extended.iter().find_map(|c| c.as_nd());
                    Some((route.ip.is_some_and(|ip| ip.is_ipv6()), nd))
                }
                _ => None,
            })
            .collect();
        assert_eq!(communities.len(), 3);
        for (is_v6, nd) in communities {
            let expected = (wanted && is_v6).then_some((NdFlags::ROUTER, false));
            assert_eq!(nd, expected);
        }
    }
}

/// A host that moves between local ports, or leaves and comes back within minutes, keeps its
/// mobility sequence: peers may ignore a lower one (finding C8).
#[test]
fn the_sequence_survives_a_detachment() {
    for kind in [LocalKind::Learned, LocalKind::Attached] {
        let mut fixture = Fixture::new();
        fixture.host(ONE, &moved(2, 4), host(2, mac(1)));
        fixture.local(mac(1), kind);
        assert_eq!(fixture.own_sequence(mac(1)), Some(5));
        fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
        for away in [0, 1, 300] {
            fixture.speaker.local_mac_del(fixture.now, vni(100), mac(1));
            fixture.later(away * SECOND);
            fixture.local(mac(1), kind);
            assert_eq!(fixture.own_sequence(mac(1)), Some(5), "after {away} s");
        }
    }
    // Behind another VTEP it counts as well, after its route is gone.
    let mut fixture = Fixture::new();
    fixture.host(ONE, &moved(2, 4), host(2, mac(1)));
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    fixture.later(300 * SECOND);
    fixture.local(mac(1), LocalKind::Learned);
    assert_eq!(fixture.own_sequence(mac(1)), Some(5));
}
