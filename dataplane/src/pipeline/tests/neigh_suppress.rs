//! ARP and ND from tenants: answered, forwarded, checked, reported.
//!
//! Host 1 is behind port 0, host 2 behind port 1, host 10 behind VTEP 0: 10.0.0.N and 2001:db8::N.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{ArpOperation, SlicedPacket};
use proptest::prelude::*;

use super::fixture::{Fixture, mac, outer, tagged, udp4};
use crate::addr::{DomainId, HostMac, MacAddr, PortId};
use crate::drop::DropReason;
use crate::pipeline::learn_event::{CHANGE_INTERVAL_NS, LearnEvent, REFRESH_INTERVAL_NS};
use crate::table::mac::Destination;
use crate::table::neighbor::NeighborEntry;
use crate::wire::checksum::Sum;
use crate::wire::{ipv6, nd, put16};

const BROADCAST: [u8; 6] = [0xff; 6];

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.set_domain(|domain| domain.suppress = true);
    for host in [1, 2, 10] {
        fixture.neighbor(&format!("10.0.0.{host}"), host);
        fixture.neighbor(&format!("2001:db8::{host:x}"), host);
    }
    fixture
}

/// An ARP message; hosts are given by their last octet, 0 is 0.0.0.0.
fn arp(operation: u8, from: u8, sender: u8, target: u8) -> Vec<u8> {
    let ip = |n| if n == 0 { [0; 4] } else { [10, 0, 0, n] };
    let to = if operation == 1 {
        BROADCAST
    } else {
        mac(target)
    };
    let head = [&to[..], &mac(from), &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    [
        &head[..],
        &mac(from),
        &ip(sender),
        &[0; 6],
        &ip(target),
        &[0x77; 18],
    ]
    .concat()
}

fn ip6(n: u8) -> Ipv6Addr {
    if n == 0 {
        Ipv6Addr::UNSPECIFIED
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())
    }
}

/// A neighbor solicitation, or another message of the same form; source 0 is `::`.
fn discovery(kind: u8, from: u8, source: u8, target: u8, options: &[u8]) -> Vec<u8> {
    let destination = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, target.into());
    let mut message = [
        &[kind, 0, 0, 0, 0, 0, 0, 0],
        &ip6(target).octets()[..],
        options,
    ]
    .concat();
    let mut header = vec![0; ipv6::LEN];
    let (payload_len, next_header) = (message.len() as u16, ipv6::ICMP);
    ipv6::Repr {
        payload_len,
        next_header,
        hop_limit: 255,
        source: ip6(source),
        destination,
    }
    .emit(&mut header);
    let sum = Sum::new()
        .pseudo_header(&header[8..], ipv6::ICMP, message.len())
        .bytes(&message);
    put16(&mut message, 2, sum.checksum());
    [
        &[0x33, 0x33, 0xff, 0, 0, target],
        &mac(from)[..],
        &[0x86, 0xdd],
        &header,
        &message,
    ]
    .concat()
}

fn solicitation(from: u8, target: u8) -> Vec<u8> {
    discovery(135, from, from, target, &[&[1, 1][..], &mac(from)].concat())
}

#[test]
fn arp_for_a_known_host_is_answered_on_the_ingress_port() {
    let mut fixture = fixture();
    for (target, padded) in [(10, true), (2, false)] {
        let mut request = arp(1, 1, 1, target);
        if !padded {
            request.truncate(42);
        }
        let sent = fixture.run(1, [&request]);
        let [(1, reply)] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(
            (reply.len(), &reply[..6], &reply[6..12]),
            (request.len(), &mac(1)[..], &mac(target)[..])
        );
        let Some(etherparse::NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(reply).unwrap().net
        else {
            panic!()
        };
        assert_eq!(arp.operation(), ArpOperation::REPLY);
        assert_eq!(
            (arp.sender_hw_addr(), arp.sender_protocol_addr()),
            (&mac(target)[..], &[10, 0, 0, target][..])
        );
        assert_eq!(
            (arp.target_hw_addr(), arp.target_protocol_addr()),
            (&mac(1)[..], &[10, 0, 0, 1][..])
        );
        assert!(reply[42..].iter().all(|byte| *byte == 0));
    }
    assert_eq!(
        (fixture.port(0).tx_frames, fixture.drops()),
        (2, [0; DropReason::COUNT])
    );
}

#[test]
fn a_solicitation_for_a_known_host_is_answered() {
    let mut fixture = fixture();
    let sent = fixture.run(1, [solicitation(1, 10)]);
    let [(1, reply)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(reply[..14], [&mac(1)[..], &mac(10), &[0x86, 0xdd]].concat());
    let answer = nd::Nd::parse(&reply[14..], 40).unwrap();
    assert_eq!(
        (answer.kind, answer.target),
        (nd::NdKind::Advertisement, ip6(10))
    );
    assert_eq!(
        (answer.link_address, reply[58]),
        (Some(MacAddr(mac(10))), 0x60),
        "solicited, override"
    );
}

#[test]
fn answers_on_a_trunk_are_tagged() {
    let mut fixture = fixture();
    for request in [arp(1, 3, 3, 10), solicitation(3, 10)] {
        let sent = fixture.run(3, [tagged(&request, 0x8100, 10)]);
        let [(3, reply)] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(
            (&reply[..6], &reply[12..16]),
            (&mac(3)[..], &[0x81, 0, 0, 10][..])
        );
    }
}

#[test]
fn messages_that_only_the_host_can_answer_are_forwarded() {
    let mut fixture = fixture();
    let mut to_one = arp(1, 1, 1, 10);
    to_one[..6].copy_from_slice(&mac(10));
    assert_eq!(fixture.run(1, [&to_one]).len(), 1, "NUD goes to the host");
    assert_eq!(fixture.run(1, [&to_one])[0].0, 0);
    let signed = discovery(135, 1, 1, 10, &[12, 1, 0, 0, 0, 0, 0, 0]);
    let advertisement = discovery(136, 1, 1, 1, &[]);
    // Unknown, gratuitous, announced, a probe of one's own address, another operation, signed.
    let floods = [
        arp(1, 1, 1, 99),
        arp(1, 1, 1, 1),
        arp(1, 1, 0, 1),
        arp(8, 1, 1, 10),
        solicitation(1, 99),
        discovery(135, 1, 0, 1, &[]),
        advertisement,
        signed,
    ];
    for mut frame in floods {
        frame[..6].copy_from_slice(&BROADCAST);
        assert_eq!(
            fixture.run(1, [&frame]).len(),
            4,
            "two VTEPs and two ports: {frame:x?}"
        );
    }
    fixture.set_domain(|domain| domain.suppress = false);
    assert_eq!(fixture.run(1, [arp(1, 1, 1, 10)]).len(), 4);
    assert_eq!(fixture.drops(), [0; DropReason::COUNT]);
}

#[test]
fn a_probe_for_an_address_in_use_is_answered() {
    let mut fixture = fixture();
    let sent = fixture.run(1, [arp(1, 1, 0, 10), discovery(135, 1, 0, 10, &[])]);
    let [(1, arp), (1, dad)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (&arp[22..32], &arp[38..42]),
        (&[&mac(10)[..], &[10, 0, 0, 10]].concat()[..], &[0; 4][..])
    );
    assert_eq!(
        dad[..12],
        [&[0x33, 0x33, 0, 0, 0, 1][..], &mac(10)].concat()
    );
    assert_eq!(
        (&dad[38..54], dad[58]),
        (&nd::ALL_NODES.octets()[..], 0x20),
        "to all nodes, unsolicited"
    );
}

#[test]
fn a_host_behind_the_same_port_answers_itself() {
    let mut fixture = fixture();
    fixture.learn(0, 2, Destination::Port(PortId(0)));
    fixture.assert_dropped(1, &arp(1, 1, 1, 2), DropReason::Hairpin);
    fixture.assert_dropped(1, &solicitation(1, 2), DropReason::Hairpin);
}

#[test]
fn malformed_messages_are_dropped() {
    let mut fixture = fixture();
    let change = |frame: &[u8], at: usize, value| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        frame
    };
    let (arp, nd) = (arp(1, 1, 1, 10), solicitation(1, 10));
    for frame in [
        &arp[..41],
        &change(&arp, 18, 8),
        &change(&nd, 21, 254),
        &change(&nd, 57, nd[57] ^ 1),
        &change(&nd, 79, 0),
    ] {
        fixture.assert_dropped(1, frame, DropReason::ArpNdMalformed);
    }
    let fragment = [
        &nd[..18],
        &[0, 40, 44, 255],
        &nd[22..54],
        &[58, 0, 0, 1, 0, 0, 0, 1],
        &nd[54..],
    ]
    .concat();
    fixture.assert_dropped(1, &fragment, DropReason::ArpNdMalformed);
}

#[test]
fn frames_from_the_overlay_are_never_answered() {
    let mut fixture = fixture();
    let sent = fixture.run(
        0,
        [
            outer(0, 100, 0, &arp(1, 10, 10, 1)),
            outer(0, 100, 0, &solicitation(10, 1)),
        ],
    );
    assert_eq!(
        sent.iter().map(|(device, _)| *device).collect::<Vec<_>>(),
        [1, 1, 2, 2, 3, 3]
    );
}

#[test]
fn a_locked_port_may_claim_only_its_own_addresses() {
    let mut fixture = fixture();
    let own: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), ip6(1).into()];
    fixture.set_port(0, |port| {
        port.lock = Some(Box::new([MacAddr(mac(1))]));
        port.ips = own.into();
        port.learn = Some(1);
    });
    let spoofed_option = discovery(135, 1, 1, 10, &[&[1, 1][..], &mac(2)].concat());
    let mut spoofed_sender = arp(1, 1, 1, 10);
    spoofed_sender[27] = 2;
    let in_tag = tagged(&arp(2, 1, 2, 10), 0x8100, 5);
    for frame in [
        arp(1, 1, 2, 10),
        arp(2, 1, 2, 10),
        arp(1, 1, 0, 99),
        discovery(136, 1, 1, 2, &[]),
        spoofed_option,
        spoofed_sender,
    ] {
        fixture.assert_dropped(1, &frame, DropReason::ArpNdSpoofed);
    }
    fixture.set_domain(|domain| domain.pass_tags = true);
    fixture.assert_dropped(1, &in_tag, DropReason::ArpNdSpoofed);
    assert_eq!(fixture.events, [], "nothing is learned from it");
    // A probe for another host's address is answered. The port's own addresses pass, and so does
    // its link-local address.
    assert_eq!(
        fixture
            .run(1, [arp(1, 1, 0, 10), arp(1, 1, 1, 10), solicitation(1, 10)])
            .len(),
        3
    );
    let mut link_local = solicitation(1, 99);
    let own = "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap();
    link_local[22..38].copy_from_slice(&own.octets());
    link_local[56..58].fill(0);
    let sum = Sum::new()
        .pseudo_header(&link_local[22..54], 58, 32)
        .bytes(&link_local[54..])
        .checksum();
    put16(&mut link_local, 56, sum);
    assert_eq!(fixture.run(1, [link_local]).len(), 4);
    fixture.set_port(0, |port| port.lock = Some(Box::new([MacAddr(mac(1))])));
    assert_eq!(
        fixture.run(1, [arp(2, 1, 2, 2)]).len(),
        1,
        "without ips any address"
    );
}

fn host(n: u8) -> HostMac {
    HostMac::new(MacAddr(mac(n))).unwrap()
}

fn mac_seen(n: u8) -> LearnEvent {
    LearnEvent::MacSeen {
        port: PortId(0),
        domain: DomainId(0),
        mac: host(n),
    }
}

fn neighbor_seen(ip: IpAddr, n: u8) -> LearnEvent {
    LearnEvent::NeighborSeen {
        port: PortId(0),
        domain: DomainId(0),
        ip,
        mac: host(n),
        nd: None,
    }
}

/// The event of an advertisement with these flags.
fn advertised(ip: IpAddr, n: u8, router: bool, overrides: bool) -> LearnEvent {
    LearnEvent::NeighborSeen {
        port: PortId(0),
        domain: DomainId(0),
        ip,
        mac: host(n),
        nd: Some(nd::NdFlags { router, overrides }),
    }
}

/// An advertisement of host `n` for its own address to all nodes, with these flags.
fn advertisement(n: u8, flags: u8) -> Vec<u8> {
    let mut frame = discovery(136, n, n, n, &[&[2, 1][..], &mac(n)].concat());
    let message = 14 + ipv6::LEN;
    frame[message + 4] = flags;
    put16(&mut frame, message + 2, 0);
    let sum = Sum::new()
        .pseudo_header(&frame[22..54], ipv6::ICMP, frame.len() - message)
        .bytes(&frame[message..]);
    put16(&mut frame, message + 2, sum.checksum());
    frame
}

/// A wrong Router flag would end the use of a default router, so that no answer is better than a
/// guess (finding C7).
#[test]
fn a_solicitation_for_a_target_with_unknown_flags_is_flooded() {
    let mut fixture = fixture();
    let mut entry = NeighborEntry::host(host(10));
    entry.nd = None;
    fixture.neighbor_entry("2001:db8::a", entry);
    let sent = fixture.run(1, [&solicitation(1, 10)]);
    assert!(
        sent.iter().all(|(port, _)| *port != 1) && !sent.is_empty(),
        "{sent:?}"
    );
    // Duplicate address detection too: its answer goes to all nodes.
    let sent = fixture.run(1, [&discovery(135, 1, 0, 10, &[])]);
    assert!(
        sent.iter().all(|(port, _)| *port != 1) && !sent.is_empty(),
        "{sent:?}"
    );
    // Without flags there is nothing to guess for IPv4.
    fixture.neighbor_entry("10.0.0.10", entry);
    assert_eq!(fixture.run(1, [&arp(1, 1, 1, 10)]).len(), 1);
    entry.nd = Some(nd::NdFlags::ROUTER);
    fixture.neighbor_entry("2001:db8::a", entry);
    let sent = fixture.run(1, [&solicitation(1, 10)]);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(
        sent[0].1[14 + ipv6::LEN + 4],
        0xe0,
        "router, solicited, override"
    );
}

/// The flags of advertisements are reported (finding C7): also of an address that the table has
/// with others.
#[test]
fn the_flags_of_advertisements_are_reported() {
    let mut fixture = fixture();
    fixture.now_ns = REFRESH_INTERVAL_NS;
    fixture.set_port(0, |port| port.learn = Some(8));
    let at = IpAddr::V6(ip6(1));
    let reported = |fixture: &mut Fixture| {
        let events = std::mem::take(&mut fixture.events);
        let is_address = |event: &LearnEvent| matches!(event, LearnEvent::NeighborSeen { .. });
        events.into_iter().filter(is_address).collect::<Vec<_>>()
    };
    fixture.run(1, [&advertisement(1, 0x20)]);
    assert_eq!(reported(&mut fixture), [advertised(at, 1, false, true)]);
    fixture.run(1, [&advertisement(1, 0xa0)]);
    assert_eq!(
        reported(&mut fixture),
        [advertised(at, 1, true, true)],
        "other flags are another event"
    );
    fixture.now_ns += CHANGE_INTERVAL_NS;
    fixture.run(1, [&advertisement(1, 0x20), &advertisement(1, 0xa0)]);
    assert_eq!(
        reported(&mut fixture),
        [advertised(at, 1, true, true)],
        "flags that the table has are a refresh, others a change"
    );
}

/// A locked port learns nothing, yet a claim of an address that the table has for another host is
/// reported: a virtual IP may move to the host behind it (finding C2).
#[test]
fn claims_of_known_addresses_are_reported_on_ports_that_do_not_learn() {
    let mut fixture = fixture();
    fixture.now_ns = REFRESH_INTERVAL_NS;
    fixture.set_port(0, |port| port.lock = Some([MacAddr(mac(1))].into()));
    fixture.run(1, [&arp(1, 1, 10, 10)]);
    assert_eq!(
        std::mem::take(&mut fixture.events),
        [neighbor_seen([10, 0, 0, 10].into(), 1)]
    );
    fixture.run(1, [&arp(1, 1, 77, 77)]);
    assert_eq!(std::mem::take(&mut fixture.events), [], "unknown");
}

#[test]
fn hosts_on_a_learning_port_are_reported_and_not_learned() {
    let mut fixture = fixture();
    fixture.now_ns = REFRESH_INTERVAL_NS;
    fixture.set_port(0, |port| port.learn = Some(2));
    let frame = udp4(50, mac(10), 20);
    fixture.run(1, [&frame, &frame]);
    assert_eq!(std::mem::take(&mut fixture.events), [mac_seen(50)]);
    fixture.now_ns += CHANGE_INTERVAL_NS;
    fixture.run(1, [&frame]);
    assert_eq!(
        std::mem::take(&mut fixture.events),
        [mac_seen(50)],
        "as long as it is not learned"
    );
    fixture.learn(0, 50, Destination::Port(PortId(0)));
    fixture.now_ns += CHANGE_INTERVAL_NS;
    fixture.run(1, [&frame]);
    assert_eq!(fixture.events, []);
    fixture.now_ns += REFRESH_INTERVAL_NS;
    fixture.run(1, [&frame]);
    assert_eq!(
        std::mem::take(&mut fixture.events),
        [mac_seen(50)],
        "still there"
    );
    fixture.run(
        1,
        [
            arp(1, 51, 51, 10),
            solicitation(52, 10),
            arp(1, 53, 0, 99),
            arp(1, 54, 55, 99),
        ],
    );
    let seen = std::mem::take(&mut fixture.events);
    for (ip, n) in [
        ([10, 0, 0, 51].into(), 51),
        (ip6(52).into(), 52),
        ([10, 0, 0, 55].into(), 54),
    ] {
        assert!(seen.contains(&neighbor_seen(ip, n)), "{ip} {n}: {seen:?}");
    }
    assert_eq!(seen.len(), 4 + 3, "a probe has no address: {seen:?}");
    fixture.run(2, [arp(1, 60, 60, 10)]);
    assert_eq!(fixture.events, [], "port 1 does not learn");
}

#[test]
fn events_of_a_port_that_invents_macs_are_suppressed_and_counted() {
    let mut fixture = fixture();
    fixture.now_ns = CHANGE_INTERVAL_NS;
    fixture.set_port(0, |port| port.learn = Some(2));
    let frames: Vec<_> = (0..3000u16)
        .map(|n| {
            let mut frame = udp4(1, mac(10), 20);
            frame[8..10].copy_from_slice(&n.to_be_bytes());
            frame
        })
        .collect();
    assert_eq!(
        fixture.run(1, &frames).len(),
        3000,
        "every frame is forwarded"
    );
    assert_eq!(
        fixture.events.len() as u64 + fixture.port(0).events_suppressed,
        3000
    );
    assert!(fixture.events.len() <= 500, "{}", fixture.events.len());
}

#[test]
fn unknown_destinations_are_reported_where_miss_events_are_on() {
    let mut fixture = fixture();
    let unknown = [
        udp4(1, mac(99), 20),
        arp(1, 1, 1, 99),
        solicitation(1, 99),
        udp4(1, BROADCAST, 20),
    ];
    fixture.now_ns = CHANGE_INTERVAL_NS;
    fixture.run(1, &unknown);
    // The addresses of the sender are known and reported as such.
    let is_miss = |event: &LearnEvent| !matches!(event, LearnEvent::NeighborSeen { .. });
    assert!(!std::mem::take(&mut fixture.events).iter().any(is_miss));
    fixture.set_domain(|domain| domain.miss_events = true);
    fixture.run(1, unknown.iter().chain(&unknown));
    let domain = DomainId(0);
    let wanted = [
        LearnEvent::MacMiss {
            domain,
            mac: MacAddr(mac(99)),
        },
        LearnEvent::NeighborMiss {
            domain,
            ip: [10, 0, 0, 99].into(),
        },
        LearnEvent::NeighborMiss {
            domain,
            ip: ip6(99).into(),
        },
    ];
    assert_eq!(fixture.events.len(), 3);
    assert!(
        wanted.iter().all(|event| fixture.events.contains(event)),
        "{:?}",
        fixture.events
    );
}

proptest! {
    #[test]
    fn malformed_messages_never_panic_or_leak(
        v6: bool,
        changes in prop::collection::vec((0usize..110, any::<u8>()), 0..6),
        cut in 0usize..110,
        locked: bool,
    ) {
        let mut fixture = fixture();
        fixture.set_port(0, |port| {
            port.learn = Some(1);
            port.lock = locked.then(|| [MacAddr(mac(1))].into());
        });
        let mut frame = if v6 { solicitation(1, 10) } else { arp(1, 1, 1, 10) };
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.max(1));
        fixture.run(1, [frame]);
    }
}

fn locked_fixture() -> Fixture {
    let mut fixture = fixture();
    let own: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), ip6(1).into()];
    fixture.set_domain(|domain| domain.pass_tags = true);
    fixture.set_port(0, |port| {
        port.lock = Some(Box::new([MacAddr(mac(1))]));
        port.ips = own.into();
    });
    fixture
}

/// `message` from the IPv6 header on behind extension headers, in an Ethernet frame.
fn behind(frame: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut headers = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let next = kinds.get(at + 1).copied().unwrap_or(58);
        // A fragment header without more fragments, else padding or a segment list without rest.
        headers.extend(match kind {
            44 => [next, 0, 0, 0, 0, 0, 0, 1],
            43 => [next, 0, 4, 0, 0, 0, 0, 0],
            _ => [next, 0, 1, 4, 0, 0, 0, 0],
        });
    }
    if let Some(first) = kinds.first() {
        frame[20] = *first;
    }
    let len = frame.len() - 54 + headers.len();
    put16(&mut frame, 18, len as u16);
    [&frame[..54], &headers, &frame[54..]].concat()
}

/// What can't be parsed to its end is dropped on a locked port (finding D3; RFC 7113, RFC 6980).
#[test]
fn a_locked_port_drops_what_cannot_be_parsed_to_its_end() {
    let mut fixture = locked_fixture();
    // True claims, to show that the encoding is what matters.
    let (good, advertisement) = (solicitation(1, 99), discovery(136, 1, 1, 1, &[]));
    let mut cut = good.clone();
    put16(&mut cut, 18, 300);
    let mut no_length = behind(&good, &[0]);
    put16(&mut no_length, 18, 0);
    let mut version = good.clone();
    version[14] = 0x40;
    let mut without_type = behind(&good, &[60]);
    put16(&mut without_type, 18, 8);
    let mut later_header = behind(&good, &[44, 60]);
    (later_header[57], later_header[63]) = (1, 200);
    let mut other_operation = arp(1, 1, 1, 99);
    other_operation[21] = 8;
    let mut other_hardware = arp(1, 1, 1, 99);
    other_hardware[15] = 24;
    let snap = |kind: [u8; 2], oui: u8| {
        let head = [
            &BROADCAST[..],
            &mac(1),
            &[0, 60, 0xaa, 0xaa, 3, 0, 0, oui],
            &kind,
        ];
        [&head.concat()[..], &[0; 60]].concat()
    };
    let tags = |count, tpid| (0..count).fold(arp(1, 1, 1, 99), |frame, _| tagged(&frame, tpid, 0));
    for frame in [
        behind(&good, &[60; 9]),
        behind(&advertisement, &[60; 30]),
        behind(&good, &[44]),
        behind(&good, &[60, 44, 60]),
        cut,
        no_length,
        version,
        without_type,
        later_header,
        other_operation,
        other_hardware,
        snap([8, 6], 0),
        snap([8, 6], 0xf8),
        snap([0x80, 0x35], 0),
        snap([0x86, 0xdd], 0),
        snap([0x81, 0], 0),
        tags(3, 0x8100),
        tags(3, 0x88a8),
        tags(1, 0x9100),
    ] {
        fixture.assert_dropped(1, &frame, DropReason::ArpNdMalformed);
    }
}

#[test]
fn a_locked_port_passes_what_is_true_or_neither_arp_nor_nd() {
    let mut fixture = locked_fixture();
    let true_nd = discovery(136, 1, 1, 1, &[&[2, 1][..], &mac(1)].concat());
    let mut hardware_6 = arp(2, 1, 1, 10);
    hardware_6[15] = 6;
    // A hypervisor's announcement after a migration.
    let mut announcement = arp(1, 1, 0, 0);
    (announcement[12], announcement[13], announcement[21]) = (0x80, 0x35, 3);
    let mut echo = solicitation(1, 99);
    echo[54] = 128;
    let mut later_fragment = behind(&solicitation(1, 99), &[44]);
    later_fragment[57] = 8;
    let spanning_tree = [
        &[1, 0x80, 0xc2, 0, 1, 0][..],
        &mac(1),
        &[0, 38, 0x42, 0x42, 3],
        &[0; 50],
    ];
    for frame in [
        arp(1, 1, 1, 99),
        hardware_6,
        announcement,
        tagged(&tagged(&arp(1, 1, 1, 99), 0x8100, 5), 0x88a8, 6),
        behind(&true_nd, &[0, 60, 43, 60]),
        behind(&echo, &[60]),
        later_fragment,
        spanning_tree.concat(),
        udp4(1, mac(10), 100),
    ] {
        assert!(!fixture.run(1, [&frame]).is_empty(), "{frame:x?}");
    }
    assert_eq!(fixture.drops().iter().sum::<u64>(), 0);
}

#[test]
fn a_locked_port_announces_no_other_host_in_any_message() {
    let mut fixture = locked_fixture();
    let mut hardware_6 = arp(2, 1, 2, 10);
    hardware_6[15] = 6;
    let mut reverse = arp(1, 1, 2, 10);
    (reverse[12], reverse[13], reverse[21]) = (0x80, 0x35, 4);
    let spoofed = discovery(136, 1, 1, 2, &[&[2, 1][..], &mac(1)].concat());
    // Target 2001:db8::2, destination address, and the target's MAC.
    let redirect = |target: u8, at: u8| {
        let rest = [&ip6(50).octets()[..], &[2, 1], &mac(at)].concat();
        discovery(137, 1, 1, target, &rest)
    };
    for frame in [
        hardware_6,
        reverse,
        behind(&spoofed, &[60; 7]),
        tagged(&tagged(&spoofed, 0x8100, 5), 0x8100, 6),
        redirect(2, 1),
        redirect(1, 2),
    ] {
        fixture.assert_dropped(1, &frame, DropReason::ArpNdSpoofed);
    }
    assert!(!fixture.run(1, [redirect(1, 1)]).is_empty());
}

/// An address of one family in the form of the other is no host's address.
#[test]
fn a_mapped_address_is_not_learned() {
    let mut fixture = fixture();
    fixture.set_port(0, |port| port.learn = Some(10));
    let mut frame = discovery(136, 1, 1, 1, &[&[2, 1][..], &mac(1)].concat());
    let mapped = "::ffff:10.0.0.2".parse::<Ipv6Addr>().unwrap();
    frame[62..78].copy_from_slice(&mapped.octets());
    frame[56..58].fill(0);
    let sum = Sum::new()
        .pseudo_header(&frame[22..54], 58, 32)
        .bytes(&frame[54..])
        .checksum();
    put16(&mut frame, 56, sum);
    fixture.run(1, [&frame]);
    let learned = |event: &LearnEvent| matches!(event, LearnEvent::NeighborSeen { .. });
    assert!(!fixture.events.iter().any(learned), "{:?}", fixture.events);
}
