//! Tests across the modules of `config`.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use vtep_dataplane::addr::{HostMac, MacAddr, Vni, VtepAddr};

use super::*;
use crate::bgp::{MaxPrefixes, RestartConfig};

const BASE: &str = r#"
[vtep]
address = ["203.0.113.2", "2001:db8::2"]
underlay = ["eth0"]
"#;

/// A host with everything that a configuration names.
struct AnyHost;

impl HostFacts for AnyHost {
    fn interface(&self, _: &str) -> Option<InterfaceFacts> {
        Some(InterfaceFacts { mtu: 1600 })
    }

    fn has_address(&self, _: std::net::IpAddr) -> bool {
        true
    }

    fn tenant_obstacle(&self, _: &str) -> Option<(String, bool)> {
        None
    }

    fn underlay_obstacle(&self, _: &str) -> Option<String> {
        None
    }

    fn cores(&self) -> usize {
        2
    }
}

fn base() -> Config {
    parse("base", BASE).unwrap().config
}

fn vni(number: u8) -> Vni {
    Vni::new(100 + u32::from(number)).unwrap()
}

fn mac(number: u8) -> HostMac {
    HostMac::new(MacAddr([2, 0, 0, 0, 0, number])).unwrap()
}

fn vtep(number: u8) -> VtepAddr {
    let text = if number.is_multiple_of(2) {
        format!("10.0.0.{number}")
    } else {
        format!("2001:db8:1::{number:x}")
    };
    text.parse().unwrap()
}

fn port(number: u8, vlan: Option<u16>, macs: &[u8]) -> Port {
    let key = PortKey {
        interface: format!("tap{number}").parse().unwrap(),
        vlan,
    };
    Port {
        macs: macs.iter().map(|m| mac(*m)).collect(),
        ..Port::new(key)
    }
}

fn bgp() -> impl Strategy<Value = Option<BgpSettings>> {
    let settings = (1..9u32, prop::option::of(1..99u64)).prop_map(|(asn, freeze)| BgpSettings {
        hold_time: 9,
        duplicates: DuplicateDetection {
            freeze: freeze.map(Duration::from_secs),
            ..DuplicateDetection::default()
        },
        ..BgpSettings::new(asn, [10, 0, 0, 1].into())
    });
    prop::option::weighted(0.8, settings)
}

fn neighbor((number, passive, limit): (u8, bool, Option<u32>)) -> Box<BgpNeighbor> {
    let address = format!("10.9.0.{number}").parse().unwrap();
    let retry = limit
        .filter(|limit| limit % 2 == 0)
        .map(|limit| Duration::from_secs(limit.into()));
    let restart = RestartConfig {
        time: 7,
        ..RestartConfig::default()
    };
    Box::new(BgpNeighbor {
        passive,
        local_address: passive.then(|| "10.9.0.9".parse().unwrap()),
        port: 179 + u16::from(passive),
        ttl_security: limit.map(|limit| limit as u8),
        max_prefixes: limit.map(|limit| MaxPrefixes { limit, retry }),
        connect_retry: Duration::from_secs(limit.unwrap_or(10).into()),
        extended_messages: passive,
        restart: limit.map(|limit| {
            if limit > 4 {
                restart
            } else {
                RestartConfig::default()
            }
        }),
        description: limit.map(|limit| format!("a \"spine\" {limit}")),
        ..BgpNeighbor::new(address, 65000)
    })
}

/// EVPN settings with a tag other than the default if `vni`.
fn tagged(vni: bool) -> EvpnSettings {
    let tag = if vni {
        EthernetTagMode::Vni
    } else {
        EthernetTagMode::Zero
    };
    EvpnSettings {
        tag,
        nd_flags: vni,
        ..EvpnSettings::default()
    }
}

/// Any settings of a VNI.
fn vni_settings() -> impl Strategy<Value = VniSettings> + Clone {
    let targets = |numbers: Vec<u16>| RouteTargets {
        auto: numbers.len() != 1,
        list: numbers
            .into_iter()
            .map(|n| target_of(&format!("65000:{n}")).unwrap())
            .collect(),
    };
    (
        any::<bool>(),
        prop::collection::vec(1..4u16, 0..3),
        prop::option::of(1..9u32),
    )
        .prop_map(move |(suppress, numbers, max_macs)| VniSettings {
            suppress,
            max_macs,
            miss_events: !suppress,
            max_addresses: max_macs.unwrap_or(65_536),
            storm: None,
            evpn: EvpnSettings {
                rd: max_macs.and_then(|n| rd_of(&format!("203.0.113.2:{n}"))),
                import: targets(numbers.clone()),
                export: targets(numbers),
                ..tagged(suppress)
            },
            ..VniSettings::default()
        })
}

/// Any port.
fn any_port() -> impl Strategy<Value = Port> + Clone {
    (
        0..4u8,
        prop::option::of(1..3u16),
        prop::collection::vec(1..8u8, 0..3),
        any::<bool>(),
    )
        .prop_map(|(number, vlan, macs, lock)| Port {
            lock,
            sticky: macs.len() > 1,
            anycast: macs.len() > 2,
            learn: (!lock).then_some(Learn {
                limit: 7,
                age: Duration::from_secs(300 + u64::from(number)),
            }),
            ..port(number, vlan, &macs)
        })
}

/// Any change within a small space, so that many apply and many conflict.
fn change() -> impl Strategy<Value = Change> {
    let (settings, port) = (vni_settings(), any_port());
    let neighbor = || (1..4u8, any::<bool>(), prop::option::of(1..9u32)).prop_map(neighbor);
    let group = || (1..3u8).prop_map(|n| format!("239.1.1.{n}").parse().unwrap());
    let v = || (0..3u8).prop_map(vni);
    let m = || (1..8u8).prop_map(mac);
    let t = || (1..5u8).prop_map(vtep);
    let ip = || (1..4u8).prop_map(|n| format!("192.0.2.{n}").parse().unwrap());
    prop_oneof![
        (v(), settings.clone()).prop_map(|(vni, settings)| Change::VniAdd { vni, settings }),
        (v(), settings).prop_map(|(vni, settings)| Change::VniSet { vni, settings }),
        v().prop_map(|vni| Change::VniDel { vni }),
        (v(), port.clone()).prop_map(|(vni, port)| Change::PortAdd { vni, port }),
        (v(), port.clone()).prop_map(|(vni, port)| Change::PortSet { vni, port }),
        (v(), port).prop_map(|(vni, port)| Change::PortDel {
            vni,
            port: port.key
        }),
        (v(), m(), t()).prop_map(|(vni, mac, vtep)| Change::FdbAdd {
            vni,
            mac,
            vtep,
            lifetime: None
        }),
        (v(), m()).prop_map(|(vni, mac)| Change::FdbDel { vni, mac }),
        (v(), t()).prop_map(|(vni, vtep)| Change::FloodAdd { vni, vtep }),
        (v(), t()).prop_map(|(vni, vtep)| Change::FloodDel { vni, vtep }),
        (v(), ip(), m()).prop_map(|(vni, ip, mac)| Change::NeighborAdd {
            vni,
            ip,
            mac,
            router: ip.is_ipv6(),
            lifetime: None
        }),
        (v(), ip()).prop_map(|(vni, ip)| Change::NeighborDel { vni, ip }),
        (v(), group()).prop_map(|(vni, group)| Change::GroupAdd { vni, group }),
        (v(), group()).prop_map(|(vni, group)| Change::GroupDel { vni, group }),
        bgp().prop_map(|settings| Change::BgpSet { settings }),
        neighbor().prop_map(|neighbor| Change::BgpNeighborAdd { neighbor }),
        neighbor().prop_map(|neighbor| Change::BgpNeighborSet { neighbor }),
        neighbor().prop_map(|neighbor| Change::BgpNeighborDel {
            address: neighbor.address
        }),
        (1..255u8).prop_map(|ttl| Change::Tunnel(Tunnel {
            ttl,
            ..Tunnel::default()
        })),
    ]
}

/// A configuration built by changes; those that conflict are skipped.
fn config() -> impl Strategy<Value = Config> {
    prop::collection::vec(change(), 0..80).prop_map(|changes| {
        let mut config = base();
        for number in 0..3 {
            let add = Change::VniAdd {
                vni: vni(number),
                settings: VniSettings::default(),
            };
            config.apply(&add).unwrap();
        }
        for change in changes {
            let _ = config.apply(&change);
        }
        config
    })
}

proptest! {
    #[test]
    fn the_difference_leads_from_old_to_new(old in config(), new in config()) {
        let diff = diff(&old, &new);
        prop_assert_eq!(&diff.restart, &Vec::<&str>::new());
        let described = describe(&old, &new, &diff);
        prop_assert_eq!(described.lines.is_empty(), diff.changes.is_empty());
        for neighbor in &described.resets {
            let said = described.lines.iter().any(|line| {
                line.contains("(resets session") && line.contains(&neighbor.to_string())
            });
            prop_assert!(said, "{}: {:?}", neighbor, described.lines);
        }
        for change in &diff.changes {
            let about = change.subject().to_string();
            let said = described.lines.iter().any(|line| line[2..].starts_with(&about));
            prop_assert!(said, "{}: {:?}", about, described.lines);
        }
        let mut now = old.clone();
        prop_assert_eq!(now.apply_all(&diff.changes), Ok(()));
        prop_assert_eq!(&now, &new);
        prop_assert_eq!(super::diff(&now, &new), Diff::default());
    }

    #[test]
    fn a_batch_is_all_or_nothing(start in config(), changes in prop::collection::vec(change(), 0..40)) {
        let mut now = start.clone();
        let mut one_by_one = start.clone();
        let first_wrong = changes.iter().position(|change| one_by_one.apply(change).is_err());
        match now.apply_all(&changes) {
            Ok(()) => prop_assert_eq!(first_wrong, None),
            Err(error) => {
                prop_assert_eq!(first_wrong, Some(error.index));
                prop_assert_eq!(now, start);
            }
        }
    }

    #[test]
    fn a_saved_configuration_loads_unchanged(config in config()) {
        let text = save(&config);
        let mut ports = config.vnis().values().flat_map(|v| v.ports().values());
        let lock_without_macs = ports.any(|p| p.lock && p.macs.is_empty());
        match parse("saved", &text) {
            Ok(loaded) => {
                prop_assert_eq!(&loaded.config, &config);
                prop_assert_eq!(save(&loaded.config), text);
            }
            Err(diagnostics) => prop_assert!(lock_without_macs, "{diagnostics}\n{text}"),
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse("random", &text).is_err());
        prop_assert!(parse("random", &String::from_utf8_lossy(&bytes)).is_err());
    }
}

#[test]
fn entries_with_a_lifetime_belong_to_the_client_that_added_them() {
    let mut config = base();
    let vni = vni(0);
    let add = |mac, to, lifetime: Option<u64>| {
        let lifetime = lifetime.map(Duration::from_secs);
        Change::FdbAdd {
            vni,
            mac,
            vtep: vtep(to),
            lifetime,
        }
    };
    config
        .apply(&Change::VniAdd {
            vni,
            settings: VniSettings::default(),
        })
        .unwrap();
    let file = config.clone();
    config.apply(&add(mac(1), 2, Some(60))).unwrap();
    let ip = "192.0.2.1".parse().unwrap();
    let lifetime = Some(Duration::from_secs(60));
    config
        .apply(&Change::NeighborAdd {
            vni,
            ip,
            mac: mac(1),
            router: true,
            lifetime,
        })
        .unwrap();
    // Adding again renews, also with another VTEP; a permanent entry requires a deletion first.
    config.apply(&add(mac(1), 4, Some(90))).unwrap();
    assert!(config.apply(&add(mac(1), 4, None)).is_err());
    assert_eq!(config.vnis()[&vni].fdb()[&mac(1)].vtep, vtep(4));
    assert_eq!(save(&config), save(&file));
    assert_eq!(diff(&config, &file), Diff::default());
    let mut wanting = file.clone();
    wanting.apply(&add(mac(1), 2, None)).unwrap();
    let wanted = [Change::FdbDel { vni, mac: mac(1) }, add(mac(1), 2, None)];
    assert_eq!(diff(&config, &wanting).changes, wanted);
    let mut attached = file.clone();
    attached
        .apply(&Change::PortAdd {
            vni,
            port: port(1, None, &[1]),
        })
        .unwrap();
    config.apply_all(&diff(&config, &attached).changes).unwrap();
    assert_eq!(config.vnis()[&vni].local().len(), 1);
}

#[test]
fn a_client_names_no_password_file_that_is_not_in_use() {
    use std::os::unix::fs::PermissionsExt;
    let file = std::env::temp_dir().join(format!("vtepd-key-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "{BASE}[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"10.9.0.1\"\nremote-asn = \
         65000\npassword-file = \"{}\"\n",
        file.display()
    );
    let running = parse("file", &text);
    std::fs::remove_file(&file).unwrap();
    let running = running.unwrap().config;
    let neighbor = running.bgp_neighbors().values().next().unwrap();
    assert_eq!(neighbor.password.as_ref().unwrap().key(), b"s3cret");
    assert!(!save(&running).contains("s3cret") && !format!("{running:?}").contains("s3cret"));
    let sent =
        |running: &Config| parse_request_on(("client", &text), running, &AnyHost, Missing::Refused);
    assert_eq!(sent(&running).0.unwrap().config, running);
    let refused = sent(&base()).1.to_string();
    assert!(
        refused.contains("vtepd opens no file that a client names"),
        "{refused}"
    );
    let ours = running.bgp().unwrap();
    assert_eq!(
        (ours.router_id.to_string(), ours.hold_time),
        ("203.0.113.2".to_owned(), 90)
    );
    assert_eq!(
        neighbor.peer_config(ours, None),
        crate::bgp::PeerConfig::new(65000, ours.router_id, 65000)
    );
}

#[test]
fn a_million_fdb_entries_take_microseconds_each() {
    let mut config = base();
    let vni = vni(0);
    config
        .apply(&Change::VniAdd {
            vni,
            settings: VniSettings::default(),
        })
        .unwrap();
    let add = |n: u64| {
        let mac =
            HostMac::new(MacAddr::from_bits(0x0200_0000_0000 + n * 7919 % 1_000_003)).unwrap();
        Change::FdbAdd {
            vni,
            mac,
            vtep: vtep(2),
            lifetime: None,
        }
    };
    let start = std::time::Instant::now();
    for n in 0..1_000_000 {
        config.apply(&add(n)).unwrap();
    }
    assert_eq!(config.vnis()[&vni].fdb().len(), 1_000_000);
    // About 2 us each in a dev build; the bound allows for a busy machine.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn keys_that_require_a_restart_are_named() {
    let new = BASE
        .replace("\"203.0.113.2\", ", "")
        .replace("eth0", "eth1")
        + "cores = [0]\nttl = 3\n";
    let diff = diff(&base(), &parse("new", &new).unwrap().config);
    assert_eq!(
        diff.restart,
        ["vtep.address", "vtep.underlay", "vtep.cores"]
    );
    assert_eq!(
        diff.changes,
        [Change::Tunnel(Tunnel {
            ttl: 3,
            ..Tunnel::default()
        })]
    );
}

#[test]
fn trunks_share_an_interface_by_vlan_only() {
    let mut config = base();
    let vni = vni(0);
    config
        .apply(&Change::VniAdd {
            vni,
            settings: VniSettings::default(),
        })
        .unwrap();
    let mut add = |port| {
        config
            .apply(&Change::PortAdd { vni, port })
            .map_err(|e| e.field())
    };
    assert_eq!(add(port(1, Some(10), &[1])), Ok(()));
    assert_eq!(add(port(1, Some(20), &[2])), Ok(()));
    assert_eq!(add(port(1, Some(20), &[3])), Err("interface"));
    assert_eq!(add(port(1, None, &[3])), Err("interface"));
    assert_eq!(add(port(2, None, &[2])), Err("macs"));
    assert_eq!(add(port(2, None, &[3])), Ok(()));
    assert_eq!(add(port(2, Some(10), &[4])), Err("interface"));
}

#[test]
fn all_ports_of_a_trunk_have_one_io_and_change_it_together() {
    let with = |io: &str| {
        let port = |vlan: u16| {
            format!("[[vni.port]]\ninterface = \"tap1\"\nvlan = {vlan}\nio = \"{io}\"\n")
        };
        let text = format!(
            "{BASE}[[vni]]\nid = 100\n{}[[vni]]\nid = 101\n{}",
            port(10),
            port(20)
        );
        parse("trunk", &text).unwrap().config
    };
    let (mut config, new) = (with("xdp"), with("packet"));
    let one = Port {
        io: Io::Packet,
        ..port(1, Some(10), &[])
    };
    for change in [
        Change::PortSet {
            vni: vni(0),
            port: one.clone(),
        },
        Change::PortAdd {
            vni: vni(0),
            port: Port {
                io: Io::Auto,
                ..port(1, Some(30), &[])
            },
        },
    ] {
        assert_eq!(config.apply(&change).unwrap_err().field(), "io");
    }
    config.apply_all(&diff(&config, &new).changes).unwrap();
    assert_eq!(config, new);
    // Alone on its interface, a port may change it.
    let last = Change::PortDel {
        vni: vni(1),
        port: port(1, Some(20), &[]).key,
    };
    config.apply(&last).unwrap();
    let port = Port { io: Io::Xdp, ..one };
    config
        .apply(&Change::PortSet { vni: vni(0), port })
        .unwrap();
}

#[test]
fn requests_are_read_as_the_file_is() {
    let params = serde_json::json!({"vni": 101, "interface": "tap1", "vlan": 2, "macs": ["02:00:00:00:00:03"]});
    let read = Change::from_request("port.add", &params).unwrap().unwrap();
    assert_eq!(
        read,
        Change::PortAdd {
            vni: vni(1),
            port: port(1, Some(2), &[3])
        }
    );
    let wrong = serde_json::json!({"vni": 0, "mca": "x", "vtep": "10.0.0.256"});
    let diagnostics = Change::from_request("fdb.add", &wrong)
        .unwrap()
        .unwrap_err();
    let keys: BTreeSet<_> = diagnostics.list().iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, BTreeSet::from(["vni", "mac", "mca", "vtep"]));
    assert!(
        diagnostics.to_string().contains("did you mean \"mac\"?"),
        "{diagnostics}"
    );
    assert!(Change::from_request("show.mac", &serde_json::Value::Null).is_none());
}

#[test]
fn every_key_is_documented() {
    fn names<S>(keys: &[key::Key<S>]) -> impl Iterator<Item = &'static str> {
        keys.iter().map(|key| key.name)
    }
    let docs = include_str!("../../../docs/config.md");
    let all = names(vtep::VTEP)
        .chain(names(vtep::AFXDP))
        .chain(names(control::CONTROL))
        .chain(names(bgp::BGP))
        .chain(names(bgp::DUPLICATES))
        .chain(names(bgp_neighbor::NEIGHBOR))
        .chain(names(vni::VNI))
        .chain(names(port::PORT));
    for key in all {
        assert!(docs.contains(&format!("\n| `{key}` |")), "{key}");
    }
}

/// Bounds of docs/limits.md.
#[test]
fn vnis_and_ports_have_limits() {
    let mut config = base();
    let number = |n: usize| Vni::new(n as u32 + 1).unwrap();
    let add = |n| Change::VniAdd {
        vni: number(n),
        settings: VniSettings::default(),
    };
    (0..MAX_VNIS).for_each(|n| config.apply(&add(n)).unwrap());
    assert_eq!(config.apply(&add(MAX_VNIS)), Err(ChangeError::TooManyVnis));
    let add = |n: usize| Change::PortAdd {
        vni: number(n % 100),
        port: Port::new(format!("tap{n}").parse().unwrap()),
    };
    (0..MAX_PORTS).for_each(|n| config.apply(&add(n)).unwrap());
    assert_eq!(
        config.apply(&add(MAX_PORTS)),
        Err(ChangeError::TooManyPorts)
    );
    config.apply(&Change::VniDel { vni: number(0) }).unwrap();
    config.apply(&add(MAX_PORTS + 1)).unwrap();
}

#[test]
fn an_invalid_file_has_a_bounded_number_of_diagnostics() {
    let text = "x = 1\n".replace('x', "unknown");
    let many: String = (0..1000)
        .map(|n| text.replace("unknown", &format!("unknown{n}")))
        .collect();
    let diagnostics = parse("f", &many).unwrap_err();
    assert_eq!(diagnostics.list().len(), 50);
    assert!(
        diagnostics.to_string().ends_with("and 951 more"),
        "{diagnostics}"
    );
}

#[test]
fn a_difference_is_described_in_a_bounded_number_of_lines() {
    let mut new = base();
    let add = |n: u32| Change::VniAdd {
        vni: Vni::new(n + 1).unwrap(),
        settings: VniSettings::default(),
    };
    (0..6000).for_each(|n| new.apply(&add(n)).unwrap());
    let described = describe(&base(), &new, &diff(&base(), &new));
    assert_eq!(described.lines.len(), 5001);
    assert_eq!(described.lines[5000], "... and 1000 more");
}

/// Route distinguishers may be exchanged in any way, also with automatic ones and together with the
/// router ID: what is valid by itself can be applied to any other.
#[test]
fn route_distinguishers_change_from_any_valid_configuration_to_any_other() {
    let with = |router_id: &str, all: &[Option<&str>]| {
        let vnis = all.iter().zip(1..).map(|(rd, vni)| match rd {
            Some(rd) => format!("[[vni]]\nid = {vni}\nrd = \"{rd}\"\n"),
            None => format!("[[vni]]\nid = {vni}\n"),
        });
        let vnis: String = vnis.collect();
        let bgp = format!("[bgp]\nasn = 65000\nrouter-id = \"{router_id}\"\n");
        parse("file", &format!("{BASE}{bgp}{vnis}")).map(|loaded| loaded.config)
    };
    let mut all = Vec::new();
    let choices = [
        None,
        Some("10.0.0.1:1"),
        Some("10.0.0.1:2"),
        Some("10.0.0.2:1"),
        Some("0:1"),
    ];
    for router_id in ["10.0.0.1", "10.0.0.2"] {
        for first in choices {
            for second in choices {
                all.extend(with(router_id, &[first, second]));
                all.extend(with(router_id, &[first, second, Some("10.0.0.2:2")]));
            }
        }
    }
    assert!(all.len() > 40, "{}", all.len());
    for old in &all {
        for new in &all {
            let mut config = old.clone();
            let changes = diff(old, new).changes;
            if let Err(error) = config.apply_all(&changes) {
                panic!("{error:?}\n{}\n{}", save(old), save(new));
            }
            assert_eq!(config, *new);
        }
    }
}

/// A terminal shows names and keys of a file as they are, and does nothing else with them.
#[test]
fn diagnostics_hold_no_control_characters() {
    let problems = parse("a\x1b[31m\nb", "\"\\u001b[32mx\" = 1\n").unwrap_err();
    let shown = problems.to_string();
    assert!(
        shown.contains(r"a\u{1b}[31m\nb:1: \u{1b}[32mx: unknown key"),
        "{shown}"
    );
    assert!(
        shown.lines().all(|line| !line.contains(char::is_control)),
        "{shown:?}"
    );
    for character in ['\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{2066}'] {
        let neighbor =
            format!("address = \"10.9.0.1\"\nremote-asn = 1\ndescription = \"a{character}b\"");
        let text = format!("{BASE}[bgp]\nasn = 1\n[[bgp.neighbor]]\n{neighbor}\n");
        let problems = parse("f", &text).unwrap_err().to_string();
        assert!(
            problems.contains("f:10: bgp.neighbor.description: ")
                || problems.contains("invalid TOML"),
            "{problems}"
        );
        assert!(!problems.contains(character), "{problems}");
    }
}
