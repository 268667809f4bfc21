//! Many routes in one message have the same effect as one message for each: hints that are computed
//! ahead never decide.

use std::net::IpAddr;

use proptest::prelude::*;

use super::fixture::{ENCODING, Fixture, ONE, TWO, attributes, host, ip, mac, moved, vni};
use crate::bgp::wire::{
    Attributes, EvpnRoute, ExtendedCommunity, HEADER_LEN, MacIp, announce, withdraw,
};
use crate::evpn::{MacVrfConfig, NeighborId};

/// An UPDATE: withdrawn routes, then announced ones with their attributes.
type Message = (NeighborId, Vec<EvpnRoute>, Vec<EvpnRoute>, Attributes);

/// Few distinguishers, MACs, addresses and labels, so that keys are freed and reused within a
/// message.
fn route() -> impl Strategy<Value = EvpnRoute> {
    let address = prop_oneof![
        Just(None),
        (100..103_u8).prop_map(|last| Some(ip(last))),
        (1..3_u16).prop_map(|last| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]))),
    ];
    let label = prop_oneof![6 => Just(100_u32), 2 => Just(101), 1 => Just(0)];
    (2..6_u8, 0..2_u32, 1..9_u8, address, label).prop_map(|(from, tag, last, ip, label)| {
        EvpnRoute::MacIp(MacIp {
            ip,
            label,
            tag: tag * 101,
            ..host(from, mac(last))
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let routes = || prop::collection::vec(route(), 0..70);
    let neighbor = prop_oneof![Just(ONE), Just(TWO)];
    (neighbor, routes(), routes(), 2..6_u8, 0..3_u32).prop_map(
        |(from, gone, come, at, sequence)| {
            let mut attributes = if sequence == 0 {
                attributes(at)
            } else {
                moved(at, sequence)
            };
            attributes
                .extended
                .push(ExtendedCommunity::route_target(65000, 101));
            (from, gone, come, attributes)
        },
    )
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    prop::collection::vec(message(), 1..8)
}

/// The path attributes of the one message that these routes fit into.
fn octets(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut octets = Vec::new();
    write(&mut |message| octets.extend_from_slice(&message[HEADER_LEN + 4..]));
    octets
}

/// One UPDATE with all routes.
fn one_message((_, gone, come, attributes): &Message) -> Vec<u8> {
    let mut all = octets(|sink| withdraw(gone.iter().copied(), 4096, sink));
    all.extend(octets(|sink| {
        assert!(announce(attributes, come.iter().copied(), ENCODING, sink));
    }));
    let length = u16::try_from(all.len())
        .expect("some kilobytes")
        .to_be_bytes();
    [&[0; HEADER_LEN + 2][..], &length, &all].concat()
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .vni_add(fixture.now, MacVrfConfig::new(vni(101)))
        .expect("added");
    fixture
}

/// All properties of the routes, sorted.
fn routes(fixture: &Fixture) -> Vec<String> {
    let mut all: Vec<_> = fixture
        .views()
        .iter()
        .map(|view| format!("{view:?}"))
        .collect();
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn many_routes_in_one_message_equal_many_messages(messages in messages()) {
        let (mut together, mut alone) = (fixture(), fixture());
        for message in &messages {
            let (from, gone, come, attributes) = message;
            together.octets(*from, &one_message(message));
            gone.iter().for_each(|route| alone.withdraw(*from, &[*route]));
            come.iter().for_each(|route| alone.announce(*from, attributes, &[*route]));
            prop_assert_eq!(&together.tables, &alone.tables);
            prop_assert_eq!(routes(&together), routes(&alone));
            prop_assert_eq!(&together.events, &alone.events);
        }
    }
}

#[test]
fn a_message_empties_the_rib_while_it_looks_ahead() {
    let mut fixture = fixture();
    for count in 1..60 {
        let routes: Vec<_> = (1..=count)
            .map(|last| EvpnRoute::MacIp(host(2, mac(last))))
            .collect();
        fixture.announce(ONE, &attributes(2), &routes);
        assert_eq!(fixture.tables.macs.len(), usize::from(count));
        // Many times: routes are still looked up when none is left.
        let gone = routes.iter().copied().cycle().take(110).collect();
        fixture.octets(ONE, &one_message(&(ONE, gone, Vec::new(), attributes(2))));
        assert!(fixture.tables.macs.is_empty() && fixture.views().is_empty());
    }
}
