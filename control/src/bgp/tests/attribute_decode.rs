//! Each row of the table of malformed attributes (RFC 7606 and the RFCs of the attributes) is a test here.

use super::super::wire::*;

const INTERNAL: DecodeContext = DecodeContext {
    four_octet: true,
    internal: true,
    add_path: false,
};
const EXTERNAL: DecodeContext = DecodeContext {
    internal: false,
    ..INTERNAL
};

/// What the strongest action of an UPDATE is.
#[derive(Debug, PartialEq, Eq)]
enum Cost {
    Accept,
    Discard,
    Withdraw,
    Reset(ErrorCode),
}
use Cost::{Accept, Discard, Reset, Withdraw};

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, value.len() as u8], value].concat()
}

/// A type 2 route without an address: 33 octets.
fn mac() -> Vec<u8> {
    let mut route = vec![2, 33, 0, 1, 10, 0, 0, 1, 0, 2];
    route.extend_from_slice(&[0; 14]);
    route.extend_from_slice(&[48, 2, 0, 0, 0, 0, 1, 0, 0, 0, 100]);
    route
}

fn reach(routes: &[u8]) -> Vec<u8> {
    attribute(
        0x80,
        14,
        &[&[0, 25, 70, 4, 10, 0, 0, 1, 0], routes].concat(),
    )
}

fn origin() -> Vec<u8> {
    attribute(0x40, 1, &[0])
}

fn path() -> Vec<u8> {
    attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe9])
}

fn body(attributes: &[Vec<u8>]) -> Vec<u8> {
    let list = attributes.concat();
    [&[0, 0][..], &(list.len() as u16).to_be_bytes(), &list].concat()
}

fn cost_of(body: &[u8], context: DecodeContext) -> Cost {
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

/// The cost of one more attribute in a sound UPDATE.
fn cost(extra: Vec<u8>, context: DecodeContext) -> Cost {
    cost_of(&body(&[reach(&mac()), origin(), path(), extra]), context)
}

/// The cost of an attribute in place of ORIGIN and AS_PATH.
fn instead(attributes: Vec<Vec<u8>>) -> Cost {
    cost_of(&body(&[vec![reach(&mac())], attributes].concat()), EXTERNAL)
}

#[test]
fn a_sound_update_is_accepted() {
    assert_eq!(cost(Vec::new(), INTERNAL), Accept);
    assert_eq!(instead(vec![origin(), attribute(0x40, 2, &[])]), Accept);
}

#[test]
fn origin_of_a_wrong_length_or_value_withdraws() {
    for value in [&[][..], &[0, 0], &[3], &[255]] {
        assert_eq!(
            instead(vec![attribute(0x40, 1, value), path()]),
            Withdraw,
            "{value:?}"
        );
    }
}

#[test]
fn as_path_faults_withdraw() {
    let wrong: [&[u8]; 8] = [
        &[5, 1, 0, 0, 0, 1],
        &[3, 1, 0, 0, 0, 1],
        &[0, 1, 0, 0, 0, 1],
        &[2, 0],
        &[2, 2, 0, 0, 0, 1],
        &[2],
        &[2, 1, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 1, 1],
    ];
    for value in wrong {
        assert_eq!(
            instead(vec![origin(), attribute(0x40, 2, value)]),
            Withdraw,
            "{value:?}"
        );
    }
}

#[test]
fn next_hop_of_a_wrong_length_or_no_unicast_withdraws() {
    for value in [
        &[][..],
        &[10, 0, 0],
        &[10, 0, 0, 1, 1],
        &[0, 1, 2, 3],
        &[127, 0, 0, 1],
        &[224, 0, 0, 5],
        &[240, 0, 0, 1],
        &[255; 4],
    ] {
        assert_eq!(
            cost(attribute(0x40, 3, value), INTERNAL),
            Withdraw,
            "{value:?}"
        );
    }
    assert_eq!(cost(attribute(0x40, 3, &[10, 0, 0, 1]), INTERNAL), Accept);
}

#[test]
fn med_and_local_pref() {
    assert_eq!(cost(attribute(0x80, 4, &[0; 3]), INTERNAL), Withdraw);
    assert_eq!(cost(attribute(0x40, 5, &[0; 3]), INTERNAL), Withdraw);
    assert_eq!(cost(attribute(0x40, 5, &[0; 3]), EXTERNAL), Discard);
    assert_eq!(cost(attribute(0x40, 5, &[0, 0, 0, 100]), EXTERNAL), Discard);
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
fn aggregates_of_a_wrong_length_are_discarded() {
    assert_eq!(cost(attribute(0x40, 6, &[0]), INTERNAL), Discard);
    assert_eq!(cost(attribute(0xc0, 7, &[0; 6]), INTERNAL), Discard);
    assert_eq!(cost(attribute(0xc0, 7, &[0; 8]), INTERNAL), Accept);
    assert_eq!(cost(attribute(0xc0, 18, &[0; 7]), INTERNAL), Discard);
}

#[test]
fn communities_that_are_empty_or_no_multiple_withdraw() {
    for (code, size) in [(8, 4), (16, 8), (25, 20), (32, 12)] {
        for length in [0, 1, size - 1, size + 1] {
            assert_eq!(
                cost(attribute(0xc0, code, &vec![0; length]), INTERNAL),
                Withdraw,
                "{code} {length}"
            );
        }
        assert_eq!(
            cost(attribute(0xc0, code, &vec![0; 2 * size]), INTERNAL),
            Accept,
            "{code}"
        );
    }
}

#[test]
fn reflection_attributes_withdraw_inside_and_are_discarded_outside() {
    for (code, value) in [
        (9, &[1, 2, 3][..]),
        (9, &[]),
        (10, &[]),
        (10, &[1, 2, 3, 4, 5]),
    ] {
        assert_eq!(
            cost(attribute(0x80, code, value), INTERNAL),
            Withdraw,
            "{code} {value:?}"
        );
        assert_eq!(
            cost(attribute(0x80, code, value), EXTERNAL),
            Discard,
            "{code} {value:?}"
        );
    }
    assert_eq!(cost(attribute(0x80, 9, &[1, 2, 3, 4]), INTERNAL), Accept);
    assert_eq!(cost(attribute(0x80, 9, &[1, 2, 3, 4]), EXTERNAL), Discard);
}

#[test]
fn routes_that_cannot_be_found_reset() {
    let mut cut = mac();
    cut.truncate(20);
    let wrong = [
        reach(&cut),
        reach(&[2]),
        attribute(0x80, 14, &[0, 25, 70, 5, 10, 0, 0, 1, 1, 0]),
        attribute(0x80, 14, &[0, 25, 70, 40, 10, 0, 0, 1, 0]),
        attribute(0x80, 14, &[0, 25, 70]),
        attribute(0x80, 14, &[0, 25]),
        attribute(0x80, 15, &[0, 25]),
        attribute(0x80, 15, &[&[0, 25, 70], &cut[..]].concat()),
    ];
    for attribute in wrong {
        assert_eq!(
            cost_of(&body(&[origin(), path(), attribute.clone()]), INTERNAL),
            Reset(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR),
            "{attribute:?}"
        );
    }
    let gone = attribute(0x80, 15, &[0, 25, 70]);
    assert_eq!(
        cost_of(
            &body(&[reach(&mac()), reach(&mac()), origin(), path()]),
            INTERNAL
        ),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
    assert_eq!(
        cost_of(&body(&[gone.clone(), gone]), INTERNAL),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
}

#[test]
fn pmsi_faults_withdraw() {
    for value in [
        &[0, 6, 0, 0][..],
        &[],
        &[0, 200, 0, 0, 1],
        &[0, 6, 0, 0, 1, 1],
        &[0, 6, 0, 0, 1, 1, 2, 3, 4, 5],
    ] {
        assert_eq!(
            cost(attribute(0xc0, 22, value), INTERNAL),
            Withdraw,
            "{value:?}"
        );
    }
    let six = [&[0, 6, 0, 0, 1][..], &[0xfd; 16]].concat();
    for value in [&[0, 6, 0, 0, 1, 1, 2, 3, 4][..], &[0, 0, 0, 0, 1], &six] {
        assert_eq!(
            cost(attribute(0xc0, 22, value), INTERNAL),
            Accept,
            "{value:?}"
        );
    }
}

#[test]
fn as4_path_withdraws_from_narrow_peers_only() {
    let narrow = DecodeContext {
        four_octet: false,
        ..EXTERNAL
    };
    let narrow_path = attribute(0x40, 2, &[2, 1, 0x5b, 0xa0]);
    let with = |as4: &[u8]| {
        body(&[
            reach(&mac()),
            origin(),
            narrow_path.clone(),
            attribute(0xc0, 17, as4),
        ])
    };
    assert_eq!(cost_of(&with(&[2, 5, 0]), narrow), Withdraw);
    assert_eq!(cost(attribute(0xc0, 17, &[2, 5, 0]), INTERNAL), Discard);
    let sound = with(&[2, 1, 0xfa, 0x56, 0xea, 0x02]);
    let parts = Decoder::new(narrow).decode(&sound).unwrap();
    assert_eq!(
        UpdateMessage::new(&sound, parts)
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
        cost(attribute(0x40, 99, &[1]), INTERNAL),
        Reset(ErrorCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE)
    );
    assert_eq!(cost(attribute(0x80, 99, &[1]), INTERNAL), Accept);
    let sound = body(&[
        reach(&mac()),
        origin(),
        path(),
        attribute(0xc0, 99, &[1, 2]),
        attribute(0x80, 98, &[1]),
    ]);
    let parts = Decoder::new(INTERNAL).decode(&sound).unwrap();
    let update = UpdateMessage::new(&sound, parts);
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
        panic!("no type 2")
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
fn wrong_flags_withdraw() {
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
        assert_eq!(cost_of(&body(&list), INTERNAL), Withdraw, "{code}");
    }
    let mut wrong = reach(&mac());
    wrong[0] = 0x40;
    assert_eq!(
        cost_of(&body(&[wrong, origin(), path()]), INTERNAL),
        Withdraw
    );
}

#[test]
fn of_two_the_first_is_kept() {
    let list = [
        reach(&mac()),
        origin(),
        path(),
        attribute(0x80, 4, &[0, 0, 0, 7]),
        attribute(0x80, 4, &[0, 0, 0, 9]),
        attribute(0x80, 4, &[]),
    ];
    let body = body(&list);
    assert_eq!(cost_of(&body, INTERNAL), Discard);
    let parts = Decoder::new(INTERNAL).decode(&body).unwrap();
    assert_eq!(
        UpdateMessage::new(&body, parts).attributes().unwrap().med,
        Some(7)
    );
}

#[test]
fn a_missing_mandatory_attribute_withdraws() {
    assert_eq!(instead(vec![origin()]), Withdraw);
    assert_eq!(instead(vec![path()]), Withdraw);
    let mut with_body_route = body(&[origin(), path()]);
    with_body_route.extend_from_slice(&[8, 10]);
    assert_eq!(cost_of(&with_body_route, INTERNAL), Withdraw);
}

#[test]
fn routes_of_unknown_types_are_skipped_and_counted() {
    for kind in [0, 6, 7, 8, 9, 10, 11, 255] {
        let body = body(&[
            reach(&[&[kind, 3, 1, 2, 3], &mac()[..]].concat()),
            origin(),
            path(),
        ]);
        let parts = Decoder::new(INTERNAL).decode(&body).unwrap();
        assert_eq!((parts.skipped(), parts.action()), (1, None));
        assert_eq!(
            UpdateMessage::new(&body, parts).changes().count(),
            1,
            "{kind}"
        );
    }
}

/// What becomes of one damaged route before a sound one.
fn damaged(route: &[u8]) -> Result<Vec<bool>, ErrorCode> {
    let body = body(&[reach(&[route, &mac()].concat()), origin(), path()]);
    let parts = Decoder::new(INTERNAL).decode(&body).map_err(|n| n.error)?;
    assert_eq!(parts.malformed(), 1);
    Ok(UpdateMessage::new(&body, parts)
        .changes()
        .map(|c| matches!(c, RouteChange::Announce(_)))
        .collect())
}

fn with_length(mut route: Vec<u8>) -> Vec<u8> {
    route[1] = (route.len() - 2) as u8;
    route
}

#[test]
fn a_malformed_type_2_is_withdrawn_alone_where_its_key_can_be_read() {
    let change = |at: usize, value: u8| {
        let mut route = mac();
        route[at] = value;
        route
    };
    // MAC length, then IP length; its place is known by the length of the whole.
    for route in [
        change(24, 40),
        change(24, 0),
        change(31, 24),
        with_length([mac(), vec![0]].concat()),
        with_length(mac()[..34].to_vec()),
    ] {
        assert_eq!(damaged(&route), Ok(vec![false, true]), "{route:?}");
    }
    // The key itself is cut off, or can't be told.
    for route in [
        with_length(mac()[..30].to_vec()),
        change(31, 32),
        with_length([change(31, 24), vec![0]].concat()),
    ] {
        assert_eq!(
            damaged(&route),
            Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR),
            "{route:?}"
        );
    }
}

#[test]
fn a_malformed_type_5_is_withdrawn_alone_where_its_key_can_be_read() {
    let mut route = vec![5, 34];
    route.extend_from_slice(&[0; 22]);
    route.push(33);
    route.extend_from_slice(&[10; 11]);
    assert_eq!(damaged(&route), Ok(vec![false, true]));
    route.push(0);
    assert_eq!(
        damaged(&with_length(route)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
}

#[test]
fn malformed_types_1_3_and_4() {
    let of = |kind: u8, length: usize| {
        let mut route = vec![kind, 0];
        route.resize(2 + length, 0);
        with_length(route)
    };
    assert_eq!(damaged(&of(1, 24)), Ok(vec![false, true]));
    assert_eq!(
        damaged(&of(1, 21)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
    // IP length 0 where an originator must be.
    assert_eq!(
        damaged(&of(3, 17)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
    assert_eq!(
        damaged(&of(4, 23)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
    let mut three = of(3, 17);
    three[14] = 24;
    assert_eq!(damaged(&three), Ok(vec![false, true]));
    let mut four = of(4, 23);
    four[20] = 33;
    assert_eq!(damaged(&four), Ok(vec![false, true]));
}

#[test]
fn the_strongest_action_wins() {
    let list = [
        reach(&mac()),
        origin(),
        path(),
        attribute(0x40, 6, &[0]),
        attribute(0x80, 4, &[]),
    ];
    assert_eq!(cost_of(&body(&list), INTERNAL), Withdraw);
    let list = [
        reach(&mac()),
        origin(),
        path(),
        attribute(0x80, 4, &[]),
        attribute(0x40, 99, &[]),
    ];
    assert_eq!(
        cost_of(&body(&list), INTERNAL),
        Reset(ErrorCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE)
    );
}

#[test]
fn a_list_that_overruns_withdraws_if_the_routes_are_known_and_resets_if_not() {
    let overrun = [0x40, 1, 9, 0];
    assert_eq!(
        cost_of(&body(&[reach(&mac()), overrun.to_vec()]), INTERNAL),
        Withdraw
    );
    assert_eq!(
        cost_of(&body(&[overrun.to_vec()]), INTERNAL),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
    assert_eq!(
        cost_of(&body(&[vec![0x80, 14, 99, 0]]), INTERNAL),
        Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST)
    );
}

#[test]
fn odd_updates_are_no_error() {
    // Nothing at all: End-of-RIB of IPv4.
    let parts = Decoder::new(INTERNAL).decode(&[0, 0, 0, 0]).unwrap();
    assert_eq!(parts.end_of_rib(), Some(AddressFamily::IPV4_UNICAST));
    // Routes of IPv4 without an attribute: withdrawn, and we don't use them.
    assert_eq!(cost_of(&[0, 0, 0, 0, 8, 10], INTERNAL), Withdraw);
    // IPv4 routes that can't be delimited.
    assert_eq!(
        cost_of(&[0, 0, 0, 0, 33, 10], INTERNAL),
        Reset(ErrorCode::INVALID_NETWORK_FIELD)
    );
    assert_eq!(
        cost_of(&[0, 2, 24, 10, 0, 0], INTERNAL),
        Reset(ErrorCode::INVALID_NETWORK_FIELD)
    );
    // Lengths that don't fit.
    for body in [&[0, 9, 0, 0][..], &[0, 0, 0, 9], &[0, 0, 0], &[]] {
        assert_eq!(
            cost_of(body, INTERNAL),
            Reset(ErrorCode::MALFORMED_ATTRIBUTE_LIST),
            "{body:?}"
        );
    }
    // Only unknown attributes.
    let unknown = body(&[attribute(0xc0, 99, &[]), attribute(0x80, 98, &[1])]);
    assert_eq!(cost_of(&unknown, INTERNAL), Accept);
    // A family that we did not offer is ignored, routes and all.
    let other = attribute(
        0x80,
        14,
        &[
            0, 1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, 0, 1, 2, 3,
        ],
    );
    let other = body(&[other, origin(), path()]);
    assert_eq!(cost_of(&other, INTERNAL), Accept);
}

#[test]
fn a_withdrawal_needs_no_attributes_and_survives_their_faults() {
    let gone = attribute(0x80, 15, &[&[0, 25, 70], &mac()[..]].concat());
    for list in [
        vec![gone.clone()],
        vec![gone.clone(), attribute(0x40, 1, &[9])],
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
fn attributes_that_repeat_are_shared_and_those_of_a_fault_are_not() {
    let sound = body(&[reach(&mac()), origin(), path()]);
    let faulty = body(&[reach(&mac()), attribute(0x40, 1, &[9]), path()]);
    let mut decoder = Decoder::new(INTERNAL);
    let mut first = |body: &[u8]| {
        UpdateMessage::new(body, decoder.decode(body).unwrap())
            .attributes()
            .cloned()
    };
    let one = first(&sound).unwrap();
    assert!(first(&faulty).is_none());
    assert!(std::sync::Arc::ptr_eq(&one, &first(&sound).unwrap()));
    let other = body(&[reach(&mac()), origin(), attribute(0x40, 2, &[])]);
    assert_ne!(one, first(&other).unwrap());
}
