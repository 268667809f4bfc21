//! The sessions of vtepd as its peers see them: how many TCP connections each opens, and how a
//! session without routes is reported.
//!
//! ```text
//! h1: vtepd, BGP ── eth0 ── fabric ──┬─ eth0 ── h8: bgp_peer.py, sends no routes
//!                                    └─ eth0 ── h9: bgp_peer.py
//! ```

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::Signal;
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::program::Program;
use vtep_tests::script::Script;
use vtep_tests::site;
use vtep_tests::vtepd::{Config, Vtepd};

/// vtepd at 1 with the neighbors `peers` and a VNI.
fn config(peers: &[u8], keys: &str) -> Config {
    site::bgp(1, 65000, &site::internal(peers), keys).vni(100, &[])
}

/// TCP connections that the peer has accepted, OPENs received, sessions established.
fn counted(peer: &Script) -> [usize; 3] {
    let events = peer.events();
    ["connected", "message 1", "established"]
        .map(|event| events.iter().filter(|e| *e == event).count())
}

/// Waits until `sessions` sessions were established in total, and for events that may follow: each
/// session has one connection and one OPEN.
fn expect_sessions(peer: &Script, sessions: usize, why: &str) {
    wait_for(&format!("session {sessions}: {why}"), 20, || {
        (counted(peer)[2] >= sessions).then_some(())
    });
    // vtepd attempts to connect every second.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        counted(peer),
        [sessions; 3],
        "connections, OPENs, sessions: {why}\n{:?}",
        peer.events()
    );
}

#[test]
fn a_session_opens_one_tcp_connection() {
    let fabric = Fabric::new(1600);
    let (ns, far) = (fabric.hypervisor(1), fabric.hypervisor(9));
    let mut peer = Script::listen(&far, 65000, vtep4(9));
    let mut vtepd = Vtepd::start(&ns, &config(&[9], ""));
    expect_sessions(&peer, 1, "vtepd starts");
    vtepd.done("bgp clear 203.0.113.9");
    expect_sessions(&peer, 2, "cleared");
    let reload = |vtepd: &Vtepd, applied: usize| {
        vtepd.program.signal(Signal::HUP);
        wait_for("SIGHUP to take effect", 10, || {
            (vtepd.program.log().matches("configuration applied").count() == applied).then_some(())
        });
    };
    reload(&vtepd, 1);
    expect_sessions(&peer, 2, "a reload changes nothing");
    peer.close();
    expect_sessions(&peer, 3, "the peer has closed");
    // Two changes of one batch that concern the neighbor: the global settings, and its own.
    let text = std::fs::read_to_string(vtepd.config()).expect("the configuration is readable");
    let text = text
        .replace("hold-time = 9", "hold-time = 12")
        .replace("connect-retry = 1", "connect-retry = 2");
    std::fs::write(vtepd.config(), text).expect("the scratch directory can be written");
    reload(&vtepd, 2);
    expect_sessions(&peer, 4, "a reload changes [bgp] and the neighbor");
    vtepd.kill();
    let _vtepd = vtepd.restart(&ns);
    expect_sessions(&peer, 5, "vtepd starts again");
}

#[test]
fn a_passive_session_opens_no_connection() {
    let fabric = Fabric::new(1600);
    let (ns, far) = (fabric.hypervisor(1), fabric.hypervisor(9));
    let waiting = Script::listen(&far, 65000, vtep4(9));
    let vtepd = Vtepd::start(&ns, &config(&[9], "passive = true"));
    let active = Script::connect(&far, vtep4(1), 65000, vtep4(9));
    expect_sessions(&waiting, 0, "vtepd is passive");
    assert_eq!(active.events()[..2], ["message 1", "established"]);
    assert_eq!(
        vtepd.show("bgp summary")["neighbors"][0]["state"],
        "Established"
    );
}

#[test]
fn a_session_without_routes_is_reported() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let far = [8, 9].map(|number| fabric.hypervisor(number));
    let _silent = Script::listen(&far[0], 65000, vtep4(8));
    let mut other = Script::listen(&far[1], 65000, vtep4(9));
    let vtepd = Vtepd::start(&ns, &config(&[8, 9], ""));
    expect_sessions(&other, 1, "vtepd starts");
    // End-of-RIB of L2VPN EVPN.
    other.send(&vtep_tests::script::withdraw(&[]));
    let degraded = || vtepd.show("status")["degraded"].clone();
    assert_eq!(degraded(), serde_json::json!([]));
    wait_for("a minute has passed", 70, || {
        (degraded() != serde_json::json!([])).then_some(())
    });
    let reasons = degraded().to_string();
    assert!(
        reasons.contains("BGP session with 203.0.113.8 is established without routes"),
        "{reasons}"
    );
    assert!(!reasons.contains("203.0.113.9"), "{reasons}");
    let detail = |neighbor: &str| vtepd.done(&format!("show bgp neighbor {neighbor}"));
    assert!(detail("203.0.113.8").contains("State: Established, silent: no routes"));
    assert!(detail("203.0.113.9").contains("State: Established\n"));
    let logged = vtepd.program.log();
    assert_eq!(
        logged.matches("is established without routes").count(),
        1,
        "{logged}"
    );
}

/// Writes another configuration and applies it with SIGHUP.
fn reload(vtepd: &Vtepd, change: impl Fn(String) -> String) {
    let text = std::fs::read_to_string(vtepd.config()).expect("the configuration is readable");
    let before = vtepd.program.log().matches("configuration applied").count();
    let changed = change(text.clone());
    assert_ne!(text, changed);
    std::fs::write(vtepd.config(), changed).expect("the scratch directory can be written");
    vtepd.program.signal(Signal::HUP);
    wait_for("SIGHUP to take effect", 10, || {
        (vtepd.program.log().matches("configuration applied").count() > before).then_some(())
    });
}

/// Changes each key that no session consists of, one after the other.
fn change_what_no_session_consists_of(vtepd: &Vtepd) {
    for key in [
        "description = \"b\"",
        "max-prefixes = 100",
        "max-prefixes = { limit = 100, retry = 9 }",
        "passive = true",
        "connect-retry = 7",
        "graceful-restart = { stale-time = 9 }",
    ] {
        let name = key.split(' ').next().expect("a key");
        reload(vtepd, |text| {
            let (head, tail) = text.split_at(text.rfind("[[bgp.neighbor]]").expect("two"));
            let (own, rest) = tail.split_at(tail.find("[[vni]]").expect("one"));
            let kept: Vec<_> = own.lines().filter(|line| !line.starts_with(name)).collect();
            format!("{head}{}\n{key}\n{rest}", kept.join("\n"))
        });
    }
    for keys in [
        "duplicate-moves = 9",
        "duplicate-window = 9",
        "duplicate-freeze = 9",
    ] {
        reload(vtepd, |text| {
            text.replace("[bgp]\n", &format!("[bgp]\n{keys}\n"))
        });
    }
    reload(vtepd, |text| {
        text.replace("learn-limit = 4", "learn-limit = 5")
    });
}

/// Each key that no session consists of changes without a reset, others reset the sessions that
/// consist of them (finding C10).
#[test]
fn a_change_resets_only_the_sessions_that_consist_of_it() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let far = [8, 9].map(|number| fabric.hypervisor(number));
    let peers = [0, 1].map(|place| Script::listen(&far[place], 65000, vtep4([8, 9][place])));
    let host = Host::new(&ns, 11);
    // The keys of the second neighbor are the last ones of [[bgp.neighbor]].
    let learning = site::bgp(1, 65000, &site::internal(&[8, 9]), "")
        .raw("description = \"a\"")
        .vni(100, &[])
        .raw("[[vni.port]]\ninterface = \"t11\"\nlearn-limit = 4");
    let vtepd = Vtepd::start(&ns, &learning);
    let sessions = || [counted(&peers[0])[2], counted(&peers[1])[2]];
    wait_for("both sessions", 20, || (sessions() == [1, 1]).then_some(()));
    let learned = || vtepd.mac(100, &mac(11)).is_some();

    wait_for("the host is learned", 10, || {
        let _ = host.ns.try_run("ping -c 1 -W 1 192.0.2.99");
        learned().then_some(())
    });
    change_what_no_session_consists_of(&vtepd);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(sessions(), [1, 1], "{:?}", peers[1].events());
    assert!(learned());

    // What the second session consists of resets that one only.
    reload(&vtepd, |text| {
        let place = text.rfind("[[bgp.neighbor]]").expect("two");
        let (head, tail) = text.split_at(place);
        head.to_owned()
            + &tail
                .replacen(
                    "connect-retry",
                    "extended-messages = false\nconnect-retry",
                    1,
                )
                .replace("passive = true\n", "")
    });
    wait_for("the second session is reset", 20, || {
        (sessions() == [1, 2]).then_some(())
    });

    // An operator's shutdown and the learned host survive even another identifier.
    vtepd.done("bgp shutdown 203.0.113.8");
    reload(&vtepd, |text| {
        text.replace("[bgp]\n", "[bgp]\nrouter-id = \"10.9.9.9\"\n")
    });
    wait_for("the second session is reset", 20, || {
        (sessions() == [1, 3]).then_some(())
    });
    assert!(learned());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(sessions(), [1, 3], "the first stays shut down");
    let own = vtepd.show("bgp routes --vni 100");
    let rows = own["rows"].as_array().expect("a list");
    assert!(!rows.is_empty());
    assert!(
        rows.iter()
            .all(|row| row["rd"].to_string().contains("10.9.9.9")),
        "{own}"
    );
    assert!(rows.iter().any(|row| row["mac"] == mac(11)), "{own}");
}

/// `show status`, `show bgp neighbor`, the log (once) and an event have the reason.
fn said_everywhere(vtepd: &Vtepd, monitor: &Program, neighbor: &str, reason: &str) {
    let degraded = vtepd.show("status")["degraded"].to_string();
    let line = format!("BGP session with {neighbor} is not established");
    assert!(
        degraded.contains(&line) && degraded.contains(reason),
        "{degraded}"
    );
    let detail = vtepd.done(&format!("show bgp neighbor {neighbor}"));
    assert!(
        detail.contains("Not established: ") && detail.contains(reason),
        "{detail}"
    );
    assert!(
        detail.contains(" failed: ") && detail.contains(" ago: "),
        "{detail}"
    );
    let log = vtepd.program.log();
    let logged = |line: &&str| line.contains(neighbor) && line.contains(reason);
    assert_eq!(log.lines().filter(logged).count(), 1, "{log}");
    wait_for(&format!("an event of {neighbor}"), 20, || {
        let events = monitor.log();
        let wanted = |line: &str| line.contains(neighbor) && line.contains(reason);
        events.lines().any(wanted).then_some(())
    });
}

/// Every way in which a session fails to come up is in the log, an event, `show status`,
/// `show bgp neighbor` and the metrics, with its reason (finding O1).
#[test]
fn a_session_that_does_not_come_up_is_visible() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let far = [4, 5, 7, 8, 9].map(|number| fabric.hypervisor(number));
    // 5 has another AS than configured, 4 does not listen, 7 has a host but no route to it: its
    // interface is down, 9 is fine.
    let _wrong = Script::listen(&far[1], 65009, vtep4(5));
    let _good = Script::listen(&far[4], 65000, vtep4(9));
    far[2].ip("link set eth0 down");
    let config = site::bgp(1, 65000, &site::internal(&[4, 5, 7, 9]), "")
        .raw(
            "[[bgp.neighbor]]\naddress = \"203.0.113.8\"\nremote-asn = 65000\nconnect-retry = 1\n\
             local-address = \"10.77.0.1\"",
        )
        .control("metrics = \"127.0.0.1:9464\"")
        .vni(100, &[]);
    let vtepd = Vtepd::start(&ns, &config);
    let monitor = vtepd.monitor(&ns, "bgp");
    let expected = [
        ("203.0.113.4", "connect-failed", "Connection refused"),
        ("203.0.113.5", "open-failed", "sent NOTIFICATION 2/2"),
        ("203.0.113.7", "connect-failed", "no answer to TCP SYN"),
        (
            "203.0.113.8",
            "connect-failed",
            "local-address 10.77.0.1 is not an address of this host",
        ),
    ];
    let row = |neighbor: &str| {
        let all = vtepd.show("bgp summary");
        let rows = all["neighbors"].as_array().expect("a list").clone();
        rows.into_iter()
            .find(|row| row["address"] == neighbor)
            .expect("it is configured")
    };
    for (neighbor, cause, reason) in expected {
        wait_for(&format!("{neighbor}: {reason}"), 20, || {
            let why = &row(neighbor)["not_established"];
            (why["cause"] == cause && why["reason"].to_string().contains(reason)).then_some(())
        });
        said_everywhere(&vtepd, &monitor, neighbor, reason);
    }
    let status = vtepd.show("status")["bgp"].clone();
    assert_eq!(
        (&status["configured"], &status["established"]),
        (&5.into(), &1.into())
    );
    let page = ns.run("curl -sf http://127.0.0.1:9464/metrics");
    for (cause, count) in [("connect-failed", 3), ("open-failed", 1), ("shutdown", 0)] {
        let line = format!("vtepd_bgp_sessions_not_established{{cause=\"{cause}\"}} {count}");
        assert!(page.contains(&line), "{line}\n{page}");
    }
    // Shut down: listed as well.
    vtepd.done("bgp shutdown all");
    for number in [4, 5, 7, 8, 9] {
        let why = row(&format!("203.0.113.{number}"))["not_established"].clone();
        assert_eq!(why["cause"], "shutdown", "{why}");
    }
    let degraded = vtepd.show("status")["degraded"].to_string();
    let shut_down = degraded.matches("shut down by an operator").count();
    assert_eq!(shut_down, 5, "{degraded}");
    let shown = vtepd.done("show status");
    assert!(shown.contains("BGP sessions: 0 of 5 established"));
    vtepd.done("bgp enable all");
    wait_for("the good session", 20, || {
        (row("203.0.113.9")["state"] == "Established").then_some(())
    });
}

/// What a neighbor says of itself and of the end of a session reaches no terminal as it is (finding
/// O10).
#[test]
fn texts_of_a_neighbor_are_escaped() {
    let fabric = Fabric::new(1600);
    let (ns, far) = (fabric.hypervisor(1), fabric.hypervisor(9));
    let mut peer = Script::listen(&far, 65000, vtep4(9));
    let vtepd = Vtepd::start(&ns, &config(&[9], ""));
    expect_sessions(&peer, 1, "vtepd starts");
    let monitor = vtepd.monitor(&ns, "bgp");
    let text = "\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}".as_bytes();
    peer.send(&vtep_tests::script::shutdown(text));
    wait_for("an event", 10, || {
        monitor.log().contains("owned").then_some(())
    });
    let shown = [
        monitor.log(),
        vtepd.program.log(),
        vtepd.done("show bgp summary"),
        vtepd.done("show bgp neighbor 203.0.113.9"),
        vtepd.done("show bgp neighbor 203.0.113.9 --json"),
        vtepd.done("show status"),
    ];
    let hidden = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    for text in &shown {
        assert!(text.contains("owned"), "{text}");
        let rest: String = text
            .replace("\u{1b}[", "")
            .chars()
            .filter(|c| hidden(*c))
            .collect();
        assert_eq!(rest, "", "{text:?}");
    }
}

/// A planned stop keeps routes; `bgp shutdown all` before it leaves for good (finding C11).
#[test]
fn shutting_all_sessions_down_notifies_all_neighbors() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let far = [8, 9].map(|number| fabric.hypervisor(number));
    let peers = [0, 1].map(|place| Script::listen(&far[place], 65000, vtep4([8, 9][place])));
    let vtepd = Vtepd::start(&ns, &config(&[8, 9], ""));
    for peer in &peers {
        expect_sessions(peer, 1, "vtepd starts");
    }
    vtepd.done("bgp shutdown all --message leaving");
    for peer in &peers {
        wait_for("a NOTIFICATION", 10, || {
            peer.printed("message 3").then_some(())
        });
    }
    vtepd.stop();
}

/// A connection from `ns` to the BGP port of `address` with a TTL or hop limit;
/// EINPROGRESS without an answer within two seconds.
fn connect_with_ttl(ns: &Netns, address: IpAddr, ttl: u8) -> io::Result<TcpStream> {
    ns.inside(|| {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        match address {
            IpAddr::V4(_) => sockopt::set_ip_ttl(&socket, ttl.into())?,
            IpAddr::V6(_) => sockopt::set_ipv6_unicast_hops(&socket, Some(ttl))?,
        }
        let patience = Some(Duration::from_secs(2));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, patience)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience)?;
        rustix::net::connect(&socket, &SocketAddr::new(address, 179))?;
        Ok(TcpStream::from(socket))
    })
}

/// OPEN of AS 65000 with L2VPN EVPN and 4-octet AS numbers, and KEEPALIVE.
fn open_and_keepalive() -> Vec<u8> {
    let message = |kind: u8, body: &[u8]| {
        let header = [&[255; 16], &[0, 19 + body.len() as u8, kind][..]].concat();
        [&header, body].concat()
    };
    let capabilities = [1, 4, 0, 25, 0, 70, 65, 4, 0, 0, 0xfd, 0xe8];
    let fixed = [4, 0xfd, 0xe8, 0, 90, 203, 0, 113, 8, 14, 2, 12];
    [message(1, &[fixed, capabilities].concat()), message(4, &[])].concat()
}

/// TCP segments that the kernel has dropped at the listening sockets.
fn listener_drops(vtepd: &Vtepd) -> u64 {
    let drops = &vtepd.show("status")["bgp"]["listener_drops"];
    drops.as_u64().expect("a number")
}

/// All neighbors share a listening socket. Of one with `ttl-security` nothing is taken that comes
/// from further away, not even before the connection is accepted, while one without is served.
#[test]
fn ttl_security_of_one_neighbor_holds_before_its_connection_is_accepted() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let [near, other] = [8, 9].map(|number| fabric.hypervisor(number));
    let families = [Underlay::V4, Underlay::V6];
    let mut config = config(&[], "");
    for (number, keys) in [(8, "ttl-security = 1"), (9, "")] {
        for address in families.map(|family| family.vtep(number)) {
            config = config.raw(&format!(
                "[[bgp.neighbor]]\naddress = \"{address}\"\nremote-asn = 65000\npassive = true\n{keys}"
            ));
        }
    }
    let vtepd = Vtepd::start(&ns, &config);
    let state = |neighbor: IpAddr| {
        let all = vtepd.show("bgp summary");
        let rows = all["neighbors"].as_array().expect("a list").clone();
        let row = |row: &&serde_json::Value| row["address"] == neighbor.to_string();
        rows.iter().find(row).expect("configured")["state"].clone()
    };
    for family in families {
        let (own, secured) = (family.vtep(1), family.vtep(8));
        // The peer has sent the last message of the handshake, which vtepd may not have read yet.
        let _open = Script::connect(&other, own, 65000, vtep4(9));
        wait_for("the session of the other neighbor", 10, || {
            (state(family.vtep(9)) == "Established").then_some(())
        });

        // vtepd accepts nothing while it is stopped: what arrives meanwhile is only checked by the
        // listening socket.
        let before = listener_drops(&vtepd);
        vtepd.program.signal(Signal::STOP);
        let far = connect_with_ttl(&near, own, 254).and_then(|mut stream| {
            stream.write_all(&open_and_keepalive())?;
            Ok(stream)
        });
        vtepd.program.signal(Signal::CONT);
        let error = far.as_ref().err().and_then(io::Error::raw_os_error);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(state(secured), "Active");
        let silence = Errno::INPROGRESS.raw_os_error();
        assert_eq!(error, Some(silence), "{far:?}");
        // Each SYN that it repeated.
        let dropped = listener_drops(&vtepd) - before;
        assert!(dropped > 0, "not counted");
        let text = vtepd.done("show status");
        assert!(
            text.contains("TCP segments dropped at the BGP port"),
            "{text}"
        );

        let mut direct = connect_with_ttl(&near, own, 255).expect("not dropped");
        direct.write_all(&open_and_keepalive()).expect("connected");
        wait_for("the session of the secured neighbor", 10, || {
            (state(secured) == "Established").then_some(())
        });
        let mut octets = [0; 19];
        direct.read_exact(&mut octets).expect("an OPEN");
        assert_eq!(state(family.vtep(9)), "Established");
    }
    // Without the key, it is like any other.
    reload(&vtepd, |text| text.replace("ttl-security = 1\n", ""));
    for family in families {
        let far = connect_with_ttl(&near, family.vtep(1), 254);
        far.expect("not dropped");
    }
}
