//! Malformed attributes: each rule of RFC 7606 and of the RFCs of the attributes is a test here.

use super::super::wire::*;

pub(super) const INTERNAL: DecodeContext = DecodeContext {
    four_octet: true,
    internal: true,
    add_path: false,
};
const EXTERNAL: DecodeContext = DecodeContext {
    internal: false,
    ..INTERNAL
};

/// How an UPDATE is handled: by its strongest action.
#[derive(Debug, PartialEq, Eq)]
enum Handling {
    Accept,
    Discard,
    Withdraw,
    Reset(ErrorCode),
}
use Handling::{Accept, Discard, Reset, Withdraw};

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, value.len() as u8], value].concat()
}

/// A type 2 route without an address: 33 octets.
pub(super) fn mac() -> Vec<u8> {
    let mut route = vec![2, 33, 0, 1, 10, 0, 0, 1, 0, 2];
    route.extend_from_slice(&[0; 14]);
    route.extend_from_slice(&[48, 2, 0, 0, 0, 0, 1, 0, 0, 0, 100]);
    route
}

pub(super) fn reach(routes: &[u8]) -> Vec<u8> {
    attribute(
        0x80,
        14,
        &[&[0, 25, 70, 4, 10, 0, 0, 1, 0], routes].concat(),
    )
}

pub(super) fn origin() -> Vec<u8> {
    attribute(0x40, 1, &[0])
}

pub(super) fn path() -> Vec<u8> {
    attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe9])
}

pub(super) fn body(attributes: &[Vec<u8>]) -> Vec<u8> {
    let list = attributes.concat();
    [&[0, 0][..], &(list.len() as u16).to_be_bytes(), &list].concat()
}

fn handling_of(body: &[u8], context: DecodeContext) -> Handling {
    match Decoder::new(context).decode(body) {
        Err(notification) => Reset(notification.error),
        Ok(parts) => {
            let action = parts.action();
            let update = UpdateMessage::new(body, parts);
            let announced = update
                .changes()
                .filter(|c| matches!(c, RouteChange::Announce(_)))
                .count();
            assert_eq!(
                announced > 0,
                action != Some(AttrErrorAction::TreatAsWithdraw) && update.changes().count() > 0
            );
            match action {
                None => Accept,
                Some(AttrErrorAction::AttributeDiscard) => Discard,
                Some(AttrErrorAction::TreatAsWithdraw) => Withdraw,
            }
        }
    }
}

/// Handling of one more attribute in a valid UPDATE.
fn handling_with(extra: Vec<u8>, context: DecodeContext) -> Handling {
    handling_of(&body(&[reach(&mac()), origin(), path(), extra]), context)
}

/// Handling of attributes in place of ORIGIN and AS_PATH.
fn handling_instead(attributes: Vec<Vec<u8>>) -> Handling {
    handling_of(&body(&[vec![reach(&mac())], attributes].concat()), EXTERNAL)
}

#[test]
fn a_valid_update_is_accepted() {
    assert_eq!(handling_with(Vec::new(), INTERNAL), Accept);
    assert_eq!(
        handling_instead(vec![origin(), attribute(0x40, 2, &[])]),
        Accept
    );
}

#[test]
fn invalid_origin_is_treated_as_withdraw() {
    for value in [&[][..], &[0, 0], &[3], &[255]] {
        assert_eq!(
            handling_instead(vec![attribute(0x40, 1, value), path()]),
            Withdraw,
            "{value:?}"
        );
    }
}

#[test]
fn invalid_as_path_is_treated_as_withdraw() {
    let invalid: [&[u8]; 8] = [
        &[5, 1, 0, 0, 0, 1],
        &[3, 1, 0, 0, 0, 1],
        &[0, 1, 0, 0, 0, 1],
        &[2, 0],
        &[2, 2, 0, 0, 0, 1],
        &[2],
        &[2, 1, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 1, 1],
    ];
    for value in invalid {
        assert_eq!(
            handling_instead(vec![origin(), attribute(0x40, 2, value)]),
            Withdraw,
            "{value:?}"
        );
    }
}

/// NEXT_HOP says nothing about the routes in MP_REACH_NLRI (RFC 4760 section 3): whatever it holds,
/// wherever it stands and however often, it is ignored (finding C12).
#[test]
fn next_hop_beside_mp_reach_is_ignored() {
    for value in [
        &[][..],
        &[10, 0, 0],
        &[10, 0, 0, 1],
        &[10, 0, 0, 1, 1],
        &[0; 4],
        &[127, 0, 0, 1],
        &[224, 0, 0, 5],
        &[255; 4],
    ] {
        for flags in [0x40, 0xc0, 0x80, 0x00] {
            for context in [INTERNAL, EXTERNAL] {
                let next_hop = attribute(flags, 3, value);
                assert_eq!(
                    handling_with(next_hop.clone(), context),
                    Accept,
                    "{flags:x} {value:?}"
                );
                let first = [next_hop, reach(&mac()), origin(), path()];
                assert_eq!(handling_of(&body(&first), context), Accept);
            }
        }
    }
    let twice = [attribute(0x40, 3, &[0; 4]), attribute(0x40, 3, &[1])].concat();
    assert_eq!(handling_with(twice, INTERNAL), Discard);
    // It is that of IPv4 routes in the body, if there are any (RFC 7606 section 7.3).
    for (value, handling) in [(&[0; 4][..], Withdraw), (&[10, 0, 0, 1], Accept)] {
        let attributes = [reach(&mac()), origin(), path(), attribute(0x40, 3, value)];
        let with_route = [body(&attributes), vec![8, 10]].concat();
        assert_eq!(handling_of(&with_route, INTERNAL), handling, "{value:?}");
    }
}

/// An IPv6 next hop with a link-local address after it (RFC 2545 section 3) is the first one
/// (finding C20).
#[test]
fn a_next_hop_of_32_octets_is_the_global_address() {
    let global: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
    let link_local: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
    let value = [
        &[0, 25, 70, 32][..],
        &global.octets(),
        &link_local.octets(),
        &[0],
        &mac(),
    ]
    .concat();
    let update = body(&[attribute(0x80, 14, &value), origin(), path()]);
    assert_eq!(handling_of(&update, INTERNAL), Accept);
    let parts = Decoder::new(INTERNAL).decode(&update).unwrap();
    let update = UpdateMessage::new(&update, parts);
    assert_eq!(update.attributes().unwrap().next_hop, global);
    assert_eq!(update.changes().count(), 1);
}

#[test]
fn invalid_med_and_local_pref() {
    assert_eq!(
        handling_with(attribute(0x80, 4, &[0; 3]), INTERNAL),
        Withdraw
    );
    assert_eq!(
        handling_with(attribute(0x40, 5, &[0; 3]), INTERNAL),
        Withdraw
    );
    assert_eq!(
        handling_with(attribute(0x40, 5, &[0; 3]), EXTERNAL),
        Discard
    );
    assert_eq!(
        handling_with(attribute(0x40, 5, &[0, 0, 0, 100]), EXTERNAL),
        Discard
    );
    let body = body(&[
        reach(&mac()),
        origin(),
        path(),
        attribute(0x40, 5, &[0, 0, 0, 100]),
    ]);
    let parts = Decoder::new(EXTERNAL).decode(&body).unwrap();
    assert_eq!(
        UpdateMessage::new(&body, parts)
            .attributes()
            .unwrap()
            .local_pref,
        None
    );
}

#[test]
fn aggregates_of_invalid_length_are_discarded() {
    assert_eq!(handling_with(attribute(0x40, 6, &[0]), INTERNAL), Discard);
    assert_eq!(
        handling_with(attribute(0xc0, 7, &[0; 6]), INTERNAL),
        Discard
    );
    assert_eq!(handling_with(attribute(0xc0, 7, &[0; 8]), INTERNAL), Accept);
    assert_eq!(
        handling_with(attribute(0xc0, 18, &[0; 7]), INTERNAL),
        Discard
    );
}

#[test]
fn communities_of_invalid_length_are_treated_as_withdraw() {
    for (code, size) in [(8, 4), (16, 8), (25, 20), (32, 12)] {
        for length in [0, 1, size - 1, size + 1] {
            assert_eq!(
                handling_with(attribute(0xc0, code, &vec![0; length]), INTERNAL),
                Withdraw,
                "{code} {length}"
            );
        }
        assert_eq!(
            handling_with(attribute(0xc0, code, &vec![0; 2 * size]), INTERNAL),
            Accept,
            "{code}"
        );
    }
}

#[test]
fn reflection_attributes_from_external_peers_are_discarded() {
    for (code, value) in [
        (9, &[1, 2, 3][..]),
        (9, &[]),
        (10, &[]),
        (10, &[1, 2, 3, 4, 5]),
    ] {
        assert_eq!(
            handling_with(attribute(0x80, code, value), INTERNAL),
            Withdraw,
            "{code} {value:?}"
        );
        assert_eq!(
            handling_with(attribute(0x80, code, value), EXTERNAL),
            Discard,
            "{code} {value:?}"
        );
    }
    assert_eq!(
        handling_with(attribute(0x80, 9, &[1, 2, 3, 4]), INTERNAL),
        Accept
    );
    assert_eq!(
        handling_with(attribute(0x80, 9, &[1, 2, 3, 4]), EXTERNAL),
        Discard
    );
}

#[test]
fn routes_that_cannot_be_located_reset_the_session() {
    let mut cut = mac();
    cut.truncate(20);
    let invalid = [
        reach(&cut),
        reach(&[2]),
        attribute(0x80, 14, &[0, 25, 70, 5, 10, 0, 0, 1, 1, 0]),
        attribute(0x80, 14, &[0, 25, 70, 40, 10, 0, 0, 1, 0]),
        attribute(0x80, 14, &[0, 25, 70]),
        attribute(0x80, 14, &[0, 25]),
        attribute(0x80, 15, &[0, 25]),
        attribute(0x80, 15, &[&[0, 25, 70], &cut[..]].concat()),
    ];
    for attribute in invalid {
        assert_eq!(
            handling_of(&body(&[origin(), path(), attribute.clone()]), INTERNAL),
            Reset(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR),
            "{attribute:?}"
        );
    }
    let withdrawal = attribute(0x80, 15, &[0, 25, 70]);
    assert_eq!(
        handling_of(
            &body(&[reach(&mac()), reach(&mac()), origin(), path()]),
            INTERNAL
        ),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
    assert_eq!(
        handling_of(&body(&[withdrawal.clone(), withdrawal]), INTERNAL),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
}

#[test]
fn invalid_pmsi_is_treated_as_withdraw() {
    for value in [
        &[0, 6, 0, 0][..],
        &[],
        &[0, 200, 0, 0, 1],
        &[0, 6, 0, 0, 1, 1],
        &[0, 6, 0, 0, 1, 1, 2, 3, 4, 5],
    ] {
        assert_eq!(
            handling_with(attribute(0xc0, 22, value), INTERNAL),
            Withdraw,
            "{value:?}"
        );
    }
    let six = [&[0, 6, 0, 0, 1][..], &[0xfd; 16]].concat();
    for value in [&[0, 6, 0, 0, 1, 1, 2, 3, 4][..], &[0, 0, 0, 0, 1], &six] {
        assert_eq!(
            handling_with(attribute(0xc0, 22, value), INTERNAL),
            Accept,
            "{value:?}"
        );
    }
}

#[test]
fn as4_path_counts_only_from_2_octet_peers() {
    let two_octet = DecodeContext {
        four_octet: false,
        ..EXTERNAL
    };
    let two_octet_path = attribute(0x40, 2, &[2, 1, 0x5b, 0xa0]);
    let with = |as4: &[u8]| {
        body(&[
            reach(&mac()),
            origin(),
            two_octet_path.clone(),
            attribute(0xc0, 17, as4),
        ])
    };
    assert_eq!(handling_of(&with(&[2, 5, 0]), two_octet), Withdraw);
    assert_eq!(
        handling_with(attribute(0xc0, 17, &[2, 5, 0]), INTERNAL),
        Discard
    );
    let valid = with(&[2, 1, 0xfa, 0x56, 0xea, 0x02]);
    let parts = Decoder::new(two_octet).decode(&valid).unwrap();
    assert_eq!(
        UpdateMessage::new(&valid, parts)
            .attributes()
            .unwrap()
            .as_path
            .first(),
        Some(4_200_000_002)
    );
}

#[test]
fn unknown_attributes() {
    assert_eq!(
        handling_with(attribute(0x40, 99, &[1]), INTERNAL),
        Reset(ErrorCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE)
    );
    assert_eq!(handling_with(attribute(0x80, 99, &[1]), INTERNAL), Accept);
    let valid = body(&[
        reach(&mac()),
        origin(),
        path(),
        attribute(0xc0, 99, &[1, 2]),
        attribute(0x80, 98, &[1]),
    ]);
    let parts = Decoder::new(INTERNAL).decode(&valid).unwrap();
    let update = UpdateMessage::new(&valid, parts);
    let attributes = update.attributes().unwrap();
    assert_eq!(
        attributes.unknown,
        [UnknownAttribute {
            flags: 0xc0,
            code: 99,
            value: vec![1, 2]
        }]
    );
    announce(
        attributes,
        [],
        Encoding {
            four_octet: true,
            limit: MAX_MESSAGE_LEN,
        },
        |_| panic!("no route, no message"),
    );
    let EvpnRoute::MacIp(route) = (match update.changes().next() {
        Some(RouteChange::Announce(route)) => route,
        other => panic!("{other:?}"),
    }) else {
        panic!("not a type 2")
    };
    let mut sent = Vec::new();
    announce(
        attributes,
        [EvpnRoute::MacIp(route)],
        Encoding {
            four_octet: true,
            limit: MAX_MESSAGE_LEN,
        },
        |m| sent.extend_from_slice(m),
    );
    assert!(
        sent.ends_with(&[0xe0, 99, 2, 1, 2]),
        "passed on with the Partial bit"
    );
}

#[test]
fn invalid_flags_are_treated_as_withdraw() {
    for (flags, code, value) in [
        (0x80, 1, &[0][..]),
        (0x40, 4, &[0; 4]),
        (0x80, 6, &[]),
        (0x80, 8, &[0; 4]),
        (0x40, 22, &[0, 6, 0, 0, 1]),
    ] {
        let list = vec![
            reach(&mac()),
            attribute(flags, code, value),
            origin(),
            path(),
        ];
        assert_eq!(handling_of(&body(&list), INTERNAL), Withdraw, "{code}");
    }
    let mut invalid = reach(&mac());
    invalid[0] = 0x40;
    assert_eq!(
        handling_of(&body(&[invalid, origin(), path()]), INTERNAL),
        Withdraw
    );
}

#[test]
fn the_first_of_duplicate_attributes_is_kept() {
    let list = [
        reach(&mac()),
        origin(),
        path(),
        attribute(0x80, 4, &[0, 0, 0, 7]),
        attribute(0x80, 4, &[0, 0, 0, 9]),
        attribute(0x80, 4, &[]),
    ];
    let body = body(&list);
    assert_eq!(handling_of(&body, INTERNAL), Discard);
    let parts = Decoder::new(INTERNAL).decode(&body).unwrap();
    assert_eq!(
        UpdateMessage::new(&body, parts).attributes().unwrap().med,
        Some(7)
    );
}

#[test]
fn a_missing_mandatory_attribute_is_treated_as_withdraw() {
    assert_eq!(handling_instead(vec![origin()]), Withdraw);
    assert_eq!(handling_instead(vec![path()]), Withdraw);
    let mut with_body_route = body(&[origin(), path()]);
    with_body_route.extend_from_slice(&[8, 10]);
    assert_eq!(handling_of(&with_body_route, INTERNAL), Withdraw);
}

#[test]
fn the_strongest_action_applies() {
    let list = [
        reach(&mac()),
        origin(),
        path(),
        attribute(0x40, 6, &[0]),
        attribute(0x80, 4, &[]),
    ];
    assert_eq!(handling_of(&body(&list), INTERNAL), Withdraw);
    let list = [
        reach(&mac()),
        origin(),
        path(),
        attribute(0x80, 4, &[]),
        attribute(0x40, 99, &[]),
    ];
    assert_eq!(
        handling_of(&body(&list), INTERNAL),
        Reset(ErrorCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE)
    );
}

#[test]
fn an_overrun_is_treated_as_withdraw_only_if_the_routes_are_known() {
    let overrun = [0x40, 1, 9, 0];
    assert_eq!(
        handling_of(&body(&[reach(&mac()), overrun.to_vec()]), INTERNAL),
        Withdraw
    );
    assert_eq!(
        handling_of(&body(&[overrun.to_vec()]), INTERNAL),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
    assert_eq!(
        handling_of(&body(&[vec![0x80, 14, 99, 0]]), INTERNAL),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
}

#[test]
fn unusual_updates_are_handled() {
    // Empty: End-of-RIB for IPv4 unicast.
    let parts = Decoder::new(INTERNAL).decode(&[0, 0, 0, 0]).unwrap();
    assert_eq!(parts.end_of_rib(), Some(AddressFamily::IPV4_UNICAST));
    // IPv4 routes without attributes: treated as withdrawn, and not used.
    assert_eq!(handling_of(&[0, 0, 0, 0, 8, 10], INTERNAL), Withdraw);
    // IPv4 routes that cannot be delimited.
    assert_eq!(
        handling_of(&[0, 0, 0, 0, 33, 10], INTERNAL),
        Reset(ErrorCode::INVALID_NETWORK_FIELD)
    );
    assert_eq!(
        handling_of(&[0, 2, 24, 10, 0, 0], INTERNAL),
        Reset(ErrorCode::INVALID_NETWORK_FIELD)
    );
    // Lengths that exceed the body.
    for body in [&[0, 9, 0, 0][..], &[0, 0, 0, 9], &[0, 0, 0], &[]] {
        assert_eq!(
            handling_of(body, INTERNAL),
            Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST),
            "{body:?}"
        );
    }
    // Only unknown attributes.
    let unknown = body(&[attribute(0xc0, 99, &[]), attribute(0x80, 98, &[1])]);
    assert_eq!(handling_of(&unknown, INTERNAL), Accept);
    // An address family that was not offered is ignored with its routes.
    let other = attribute(
        0x80,
        14,
        &[
            0, 1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, 0, 1, 2, 3,
        ],
    );
    let other = body(&[other, origin(), path()]);
    assert_eq!(handling_of(&other, INTERNAL), Accept);
}

#[test]
fn a_withdrawal_needs_no_valid_attributes() {
    let withdrawal = attribute(0x80, 15, &[&[0, 25, 70], &mac()[..]].concat());
    for list in [
        vec![withdrawal.clone()],
        vec![withdrawal.clone(), attribute(0x40, 1, &[9])],
    ] {
        let body = body(&list);
        let parts = Decoder::new(INTERNAL).decode(&body).unwrap();
        assert_eq!(parts.end_of_rib(), None);
        assert!(matches!(
            UpdateMessage::new(&body, parts).changes().next(),
            Some(RouteChange::Withdraw(_))
        ));
    }
}

#[test]
fn repeated_attributes_are_shared_unless_invalid() {
    let valid = body(&[reach(&mac()), origin(), path()]);
    let faulty = body(&[reach(&mac()), attribute(0x40, 1, &[9]), path()]);
    let mut decoder = Decoder::new(INTERNAL);
    let mut first = |body: &[u8]| {
        UpdateMessage::new(body, decoder.decode(body).unwrap())
            .attributes()
            .cloned()
    };
    let one = first(&valid).unwrap();
    assert!(first(&faulty).is_none());
    assert!(std::sync::Arc::ptr_eq(&one, &first(&valid).unwrap()));
    let other = body(&[reach(&mac()), origin(), attribute(0x40, 2, &[])]);
    assert_ne!(one, first(&other).unwrap());
}
