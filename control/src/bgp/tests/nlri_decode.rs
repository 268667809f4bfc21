//! Malformed and unknown EVPN NLRI (RFC 7606 sections 5.3 and 5.4).

use super::super::wire::*;
use super::attribute_decode::{INTERNAL, body, mac, origin, path, reach};

#[test]
fn routes_of_unknown_types_are_skipped_and_counted() {
    let above = EvpnRoute::TYPES.len() as u8 + 1..=11;
    for kind in above.chain([0, 255]) {
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

/// Which of a malformed and a valid route, in this order, are announced.
fn announced(route: &[u8]) -> Result<Vec<bool>, ErrorCode> {
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
fn only_a_malformed_type_2_with_a_valid_key_is_withdrawn() {
    let change = |at: usize, value: u8| {
        let mut route = mac();
        route[at] = value;
        route
    };
    // Invalid MAC length, then IP length; the length of the NLRI determines the fields.
    for route in [
        change(24, 40),
        change(24, 0),
        change(31, 24),
        with_length([mac(), vec![0]].concat()),
        with_length(mac()[..34].to_vec()),
    ] {
        assert_eq!(announced(&route), Ok(vec![false, true]), "{route:?}");
    }
    // The key is truncated or ambiguous.
    for route in [
        with_length(mac()[..30].to_vec()),
        change(31, 32),
        with_length([change(31, 24), vec![0]].concat()),
    ] {
        assert_eq!(
            announced(&route),
            Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR),
            "{route:?}"
        );
    }
}

#[test]
fn only_a_malformed_type_5_with_a_valid_key_is_withdrawn() {
    let mut route = vec![5, 34];
    route.extend_from_slice(&[0; 22]);
    route.push(33);
    route.extend_from_slice(&[10; 11]);
    assert_eq!(announced(&route), Ok(vec![false, true]));
    route.push(0);
    assert_eq!(
        announced(&with_length(route)),
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
    assert_eq!(announced(&of(1, 24)), Ok(vec![false, true]));
    assert_eq!(
        announced(&of(1, 21)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
    // IP length 0, although the originator is mandatory.
    assert_eq!(
        announced(&of(3, 17)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
    assert_eq!(
        announced(&of(4, 23)),
        Err(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR)
    );
    let mut three = of(3, 17);
    three[14] = 24;
    assert_eq!(announced(&three), Ok(vec![false, true]));
    let mut four = of(4, 23);
    four[20] = 33;
    assert_eq!(announced(&four), Ok(vec![false, true]));
}
