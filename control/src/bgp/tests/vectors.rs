//! Recorded messages: each decodes as in tshark, and encodes so that tshark decodes the same again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::wire::*;
use super::render::render;

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("tests")
}

/// Name and octets of every recorded message.
pub(super) fn vectors() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(tests_dir().join("vectors")).unwrap();
    let mut all: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "bin"))
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                std::fs::read(path).unwrap(),
            )
        })
        .collect();
    all.sort();
    assert!(all.len() > 45, "only {} recorded messages", all.len());
    all
}

pub(super) fn context(name: &str) -> DecodeContext {
    let external = name.contains("ebgp");
    DecodeContext {
        four_octet: true,
        internal: !external,
        add_path: name.contains("addpath") && !name.starts_with("open"),
    }
}

/// Decodes a recorded message.
pub(super) fn read<'a>(name: &str, message: &'a [u8]) -> BgpMessage<'a> {
    let (kind, length) = read_header(message, MAX_EXTENDED_MESSAGE_LEN)
        .unwrap()
        .unwrap();
    assert_eq!(length, message.len(), "{name}");
    decode(kind, message, &mut Decoder::new(context(name)))
        .unwrap_or_else(|n| panic!("{name}: {n}"))
}

/// The output of tshark for each message, by name.
fn golden() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(tests_dir().join("golden/bgp.txt")).unwrap();
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("== ") {
            Some(name) => all.push((name.to_owned(), Vec::new())),
            None => all.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    all
}

#[test]
fn messages_decode_as_in_tshark() {
    let (vectors, golden) = (vectors(), golden());
    assert_eq!(vectors.len(), golden.len());
    for ((name, message), (golden_name, lines)) in vectors.iter().zip(&golden) {
        assert_eq!(name, golden_name);
        if message.len() > MAX_MESSAGE_LEN {
            assert!(lines[0].starts_with("too long"), "{name}");
            assert_eq!(
                render(name, message)
                    .iter()
                    .filter(|l| l.starts_with("announce 2"))
                    .count(),
                1863
            );
        } else {
            let mut ours = render(name, message);
            if context(name).add_path {
                // After a path identifier tshark 4.0 shows no labels.
                ours.iter_mut()
                    .for_each(|line| line.truncate(line.find(" labels=").unwrap_or(line.len())));
            }
            assert_eq!(ours, *lines, "{name}");
        }
    }
}

/// Decodes a message and encodes it again.
fn reencode(name: &str, message: &[u8]) -> Vec<u8> {
    match read(name, message) {
        BgpMessage::Keepalive => KEEPALIVE.to_vec(),
        BgpMessage::Open(open) => open.emit().unwrap(),
        BgpMessage::Notification(n) => n.emit(),
        BgpMessage::RouteRefresh(refresh) => refresh.unwrap().emit(),
        BgpMessage::Update(update) => {
            let mut out = Vec::new();
            let encoding = Encoding {
                four_octet: true,
                limit: message.len().max(MAX_MESSAGE_LEN),
            };
            let routes = |c| match c {
                RouteChange::Announce(r) | RouteChange::Withdraw(r) => r,
            };
            let all = update.changes().map(routes);
            match update.attributes() {
                Some(attributes) => {
                    assert!(announce(attributes, all, encoding, |m| out.push(m.to_vec())));
                }
                None if update.parts().end_of_rib().is_some() => out.push(end_of_rib().to_vec()),
                None => withdraw(all, encoding.limit, |m| out.push(m.to_vec())),
            }
            out.concat()
        }
    }
}

#[test]
fn messages_in_our_attribute_order_encode_identically() {
    let mut same = 0;
    for (name, message) in vectors() {
        let frr_update = name.starts_with("frr-") && message[18] == 2;
        if frr_update || message[18] > 2 {
            assert!(reencode(&name, &message) == message, "{name}");
            same += 1;
        }
    }
    assert!(same >= 26, "{same}");
}

#[test]
fn tshark_decodes_our_encoding_identically() {
    let dir = std::env::temp_dir().join(format!("vtep-bgp-golden-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut wanted = String::new();
    let mut files = Vec::new();
    for ((name, message), (_, lines)) in vectors().iter().zip(golden()) {
        let again = reencode(name, message);
        let (_, length) = read_header(&again, MAX_EXTENDED_MESSAGE_LEN)
            .unwrap()
            .unwrap();
        // tshark does not decode longer messages; path identifiers are never encoded.
        if again.len() > MAX_MESSAGE_LEN || again.len() != length || context(name).add_path {
            continue;
        }
        let file = dir.join(format!("{name}.bin"));
        std::fs::write(&file, again).unwrap();
        files.push(file);
        writeln!(wanted, "== {name}\n{}", lines.join("\n")).unwrap();
    }
    assert!(files.len() > 45, "{}", files.len());
    let output = Command::new(tests_dir().join("golden/bgp-read"))
        .args(&files)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(
        output.status.success(),
        "bgp-read needs python3 and tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (line, wanted) in String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .zip(wanted.lines())
    {
        assert_eq!(line, wanted);
    }
}

#[test]
fn routes_are_packed_up_to_the_message_limit() {
    let (name, message) = vectors()
        .into_iter()
        .find(|(n, _)| n.starts_with("frr-extmsg"))
        .unwrap();
    let BgpMessage::Update(update) = read(&name, &message) else {
        panic!("{name}")
    };
    let attributes = update.attributes().unwrap();
    let routes: Vec<_> = update
        .changes()
        .filter_map(|c| {
            if let RouteChange::Announce(r) = c {
                Some(r)
            } else {
                None
            }
        })
        .collect();
    for (limit, at_most) in [(MAX_MESSAGE_LEN, 17), (MAX_EXTENDED_MESSAGE_LEN, 1)] {
        let (mut messages, mut again) = (0, Vec::new());
        let packed = announce(
            attributes,
            routes.iter().copied(),
            Encoding {
                four_octet: true,
                limit,
            },
            |m| {
                assert!(m.len() <= limit);
                messages += 1;
                let BgpMessage::Update(update) = read(&name, m) else {
                    panic!("{name}")
                };
                assert_eq!(update.attributes(), Some(attributes));
                again.extend(update.changes());
            },
        );
        assert!(
            packed && messages <= at_most,
            "{messages} messages of {limit} octets"
        );
        assert!(
            again
                .iter()
                .copied()
                .eq(routes.iter().map(|r| RouteChange::Announce(*r)))
        );
        let mut withdrawn = Vec::new();
        withdraw(routes.iter().copied(), limit, |m| {
            let BgpMessage::Update(update) = read(&name, m) else {
                panic!("{name}")
            };
            withdrawn.extend(update.changes());
        });
        assert!(
            withdrawn
                .iter()
                .copied()
                .eq(routes.iter().map(|r| RouteChange::Withdraw(*r)))
        );
    }
}

/// Compares the routes with those from the UPDATE decoder of the crate.
#[test]
fn rustbgpd_wire_decodes_the_same_routes() {
    let mut routes = 0;
    for (name, message) in vectors()
        .iter()
        .filter(|(n, m)| m[18] == 2 && !context(n).add_path)
    {
        let BgpMessage::Update(update) = read(name, message) else {
            panic!("{name}")
        };
        let mut bytes = bytes::Bytes::copy_from_slice(&message[HEADER_LEN..]);
        let body = bytes.len();
        let theirs = rustbgpd_wire::UpdateMessage::decode(&mut bytes, body).unwrap();
        let theirs = theirs
            .parse_revised(true, context(name).internal, false, &[])
            .unwrap();
        let mut octets = Vec::new();
        for attribute in &theirs.update.attributes {
            let list = match attribute {
                rustbgpd_wire::PathAttribute::MpReachNlri(mp) => &mp.evpn_announced,
                rustbgpd_wire::PathAttribute::MpUnreachNlri(mp) => &mp.evpn_withdrawn,
                _ => continue,
            };
            rustbgpd_wire::evpn::encode_evpn_nlri(list, &mut octets).unwrap();
        }
        let mut ours = Vec::new();
        for change in update.changes() {
            routes += 1;
            match change {
                RouteChange::Announce(r) | RouteChange::Withdraw(r) => {
                    withdraw([r], MAX_MESSAGE_LEN, |m| {
                        ours.extend_from_slice(&m[HEADER_LEN + 4 + 4 + 3..]);
                    });
                }
            }
        }
        assert_eq!(ours, octets, "{name}");
    }
    assert!(routes > 2000);
}

#[test]
fn fields_that_tshark_does_not_show() {
    let all = vectors();
    let find = |name: &str| &all.iter().find(|(n, _)| n == name).unwrap().1;
    let BgpMessage::Update(update) = read("frr-t3-vni100", find("frr-t3-vni100")) else {
        panic!("no update")
    };
    assert_eq!(
        update.attributes().unwrap().pmsi.as_ref().unwrap().label,
        100
    );
    let sticky = find("frr-t2-sticky");
    let BgpMessage::Update(update) = read("frr-t2-sticky", sticky) else {
        panic!("no update")
    };
    let mobility = update
        .attributes()
        .unwrap()
        .extended
        .iter()
        .find_map(|c| c.as_mac_mobility());
    assert_eq!(mobility, Some((true, 0)));
    let BgpMessage::Notification(n) = read("notif", find("notif-frr84-admin-shutdown")) else {
        panic!("no notification")
    };
    assert!(n.is_hard_reset());
    let BgpMessage::Open(open) = read("open", find("open-frr84-as4")) else {
        panic!("no open")
    };
    assert_eq!((open.my_as, open.asn()), (AS_TRANS, 4_200_000_002));
    for name in ["frr-eor-evpn", "gobgp-eor-evpn"] {
        let BgpMessage::Update(update) = read(name, find(name)) else {
            panic!("no update")
        };
        assert_eq!(update.parts().end_of_rib(), Some(AddressFamily::EVPN));
        assert_eq!(update.changes().count(), 0);
        assert_eq!(find(name)[..], end_of_rib());
    }
    // FRR withdraws with ESI and label zero a route announced with others: the key is the same.
    let key = |route: &EvpnRoute| route.key();
    let BgpMessage::Update(withdrawn) = read("frr-withdraw-t2-mac", find("frr-withdraw-t2-mac"))
    else {
        panic!("no update")
    };
    let RouteChange::Withdraw(withdrawn) = withdrawn.changes().next().unwrap() else {
        panic!("no withdraw")
    };
    let EvpnRoute::MacIp(mut announced) = withdrawn else {
        panic!("no type 2")
    };
    announced.label = 100;
    announced.esi = Esi([1; 10]);
    assert_eq!(key(&EvpnRoute::MacIp(announced)), key(&withdrawn));
}
