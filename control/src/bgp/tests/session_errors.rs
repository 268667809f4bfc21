//! Sessions with invalid messages: the NOTIFICATION sent, counters and limits.

use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The NOTIFICATION that A sends in response to octets on a new connection.
fn response(octets: &[u8]) -> Option<Notification> {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    net.raw_peer(octets);
    net.sent_notification()
}

#[test]
fn each_open_error_has_its_subcode() {
    let code = |octets: &[u8]| response(octets).map(|n| n.error);
    assert_eq!(code(&open_message(|_| {})), None);
    let other_as = open_message(|o| {
        o.capabilities
            .retain(|c| !matches!(c, Capability::FourOctetAs(_)));
    });
    assert_eq!(code(&other_as), None, "AS 65000 fits into 2 octets");
    let other_as = open_message(|o| {
        o.my_as = 65001;
        o.capabilities
            .retain(|c| !matches!(c, Capability::FourOctetAs(_)));
    });
    assert_eq!(code(&other_as), Some(ErrorCode::BAD_PEER_AS));
    assert_eq!(
        code(&open_message(|o| o
            .capabilities
            .insert(0, Capability::FourOctetAs(0)))),
        Some(ErrorCode::BAD_PEER_AS)
    );
    assert_eq!(
        code(&open_message(|o| o.router_id = [0; 4].into())),
        Some(ErrorCode::BAD_BGP_IDENTIFIER)
    );
    assert_eq!(
        code(&open_message(|o| o.router_id = id(1))),
        Some(ErrorCode::BAD_BGP_IDENTIFIER),
        "our own identifier"
    );
    for hold in [1, 2] {
        assert_eq!(
            code(&open_message(|o| o.hold_time = hold)),
            Some(ErrorCode::UNACCEPTABLE_HOLD_TIME)
        );
    }
    for hold in [0, 3, 65535] {
        assert_eq!(code(&open_message(|o| o.hold_time = hold)), None);
    }
    let without = open_message(|o| {
        o.capabilities
            .retain(|c| !matches!(c, Capability::Multiprotocol(_)));
    });
    assert_eq!(
        response(&without),
        Some(Notification::new(
            ErrorCode::UNSUPPORTED_CAPABILITY,
            &[1, 4, 0, 25, 0, 70]
        ))
    );
    let mut version = open_message(|_| {});
    version[HEADER_LEN] = 3;
    assert_eq!(
        response(&version),
        Some(Notification::new(
            ErrorCode::UNSUPPORTED_VERSION_NUMBER,
            &[0, 4]
        ))
    );
}

#[test]
fn header_errors_and_unexpected_messages_have_their_subcodes() {
    let open = open_message(|_| {});
    let after_open = |octets: &[u8]| response(&[&open, octets].concat()).map(|n| n.error);
    let up = [&open[..], &KEEPALIVE].concat();
    let after_up = |octets: &[u8]| response(&[&up, octets].concat()).map(|n| n.error);
    assert_eq!(
        response(&[0; 19]),
        Some(Notification::new(
            ErrorCode::CONNECTION_NOT_SYNCHRONIZED,
            &[]
        ))
    );
    assert_eq!(
        response(&KEEPALIVE).map(|n| n.error),
        Some(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_SENT)
    );
    assert_eq!(
        after_open(&open),
        Some(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM)
    );
    assert_eq!(
        after_open(&end_of_rib()),
        Some(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM)
    );
    assert_eq!(
        after_up(&open),
        Some(ErrorCode::UNEXPECTED_MESSAGE_IN_ESTABLISHED)
    );
    assert_eq!(after_up(&end_of_rib()), None);
    let mut long = KEEPALIVE;
    long[17] = 20;
    assert_eq!(after_up(&long), Some(ErrorCode::BAD_MESSAGE_LENGTH));
    long[18] = 77;
    assert_eq!(after_up(&long), Some(ErrorCode::BAD_MESSAGE_TYPE));
    let refresh = |safi| {
        RouteRefresh {
            family: AddressFamily { afi: 25, safi },
            kind: RefreshKind::Request,
        }
        .emit()
    };
    assert_eq!(
        after_up(&refresh(1)),
        None,
        "a family that was not offered is ignored"
    );
}

#[test]
fn a_malformed_update_ends_the_session_for_longer_each_time() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, 23, 2, 0, 9, 0, 0]);
    let mut last = Duration::ZERO;
    for round in 0..4 {
        net.raw_peer(&[open_message(|_| {}), KEEPALIVE.to_vec(), message.clone()].concat());
        assert_eq!(
            net.sent_notification(),
            Some(Notification::new(ErrorCode::MALFORMED_ATTRIBUTE_LIST, &[])),
            "round {round}"
        );
        assert_eq!(net.state(A), FsmState::Idle);
        assert_eq!(
            net.peers[A].handle_accepted(net.now),
            None,
            "Idle takes no connection"
        );
        let until = net.peers[A].status().idle_until.unwrap();
        let pause = until - net.now;
        assert!(
            pause > last * 3 / 2 || round == 0,
            "{pause:?} after {last:?}"
        );
        assert!(pause >= Duration::from_millis(750 << round) && pause <= secs(1 << round));
        last = pause;
        net.now = until;
        net.peers[A].handle_timeout(net.now);
        assert_eq!(net.state(A), FsmState::Active);
    }
}

#[test]
fn a_treat_as_withdraw_is_counted_and_the_session_stays_up() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    let mut good = Vec::new();
    announce(
        &Attributes::local(id(2).into()),
        [route(1)],
        Encoding {
            four_octet: true,
            limit: 4096,
        },
        |m| {
            good = m.to_vec();
        },
    );
    let mut bad = good.clone();
    // ORIGIN is the first attribute after MP_REACH_NLRI: its value becomes 9.
    let origin = bad.windows(4).position(|w| w == [0x40, 1, 1, 0]).unwrap();
    bad[origin + 3] = 9;
    net.raw_peer(&[open_message(|_| {}), KEEPALIVE.to_vec(), bad, good].concat());
    net.settle();
    let announced = PeerEvent::Changes(vec![RouteChange::Announce(route(1))]);
    assert_eq!(
        net.events_of(A),
        [
            PeerEvent::Up,
            PeerEvent::Changes(vec![RouteChange::Withdraw(route(1))]),
            announced
        ]
    );
    assert_eq!(net.state(A), FsmState::Established);
    assert_eq!(net.peers[A].status().treated_as_withdrawn, 1);
}

#[test]
fn half_open_connections_are_bounded() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    let mut alive = Vec::new();
    for _ in 0..100_000 {
        alive.push(net.peers[A].handle_accepted(net.now).unwrap());
        while let Some(output) = net.peers[A].poll_output(net.now) {
            if let PeerOutput::Close { conn, .. } = output {
                alive.retain(|c| *c != conn);
            }
        }
        assert!(alive.len() <= 2);
    }
    assert_eq!(
        net.peers[A].recv_capacity(alive[0]),
        2 * MAX_EXTENDED_MESSAGE_LEN
    );
    assert_eq!(net.peers[A].recv_capacity(ConnectionId(1 << 40)), 0);
}
