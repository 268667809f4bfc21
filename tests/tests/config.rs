//! `config diff`, `check`, `apply` and `save`, and reload: what an operator is told.
//!
//! ```text
//! t11 ── h1: vtepd, vtepctl ── eth0 ── fabric
//! ```

use std::process::Output;

use rustix::process::Signal;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::wait_for;
use vtep_tests::program::{Program, Scratch};
use vtep_tests::topology::one_vtepd;
use vtep_tests::vtepd::{Config, Vtepd, binary};

/// Tenant 11 in VNI 100, followed by `more`.
fn config(more: &str) -> Config {
    Config::new(vtep4(1))
        .vni(100, &[vtep4(2)])
        .port("t11", &[mac(11)])
        .raw(more)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line of the configuration file that contains `text`, from 1.
fn line_of(vtepd: &Vtepd, text: &str) -> usize {
    lines_of(vtepd, text)[0]
}

fn lines_of(vtepd: &Vtepd, text: &str) -> Vec<usize> {
    let file = std::fs::read_to_string(vtepd.config()).expect("the test wrote it");
    let with_text = (1..)
        .zip(file.lines())
        .filter(|(_, line)| line.contains(text));
    let lines: Vec<_> = with_text.map(|(number, _)| number).collect();
    assert!(!lines.is_empty(), "{text}: {file}");
    lines
}

/// The same file of a client is refused with its own name.
fn refused_as_a_copy(vtepd: &Vtepd, line: usize, key: &str) {
    let copy = vtepd.dir().join("copy.toml");
    std::fs::copy(vtepd.config(), &copy).expect("the directory can be written");
    let refused = vtepd.ctl(&format!("config apply {}", copy.display()));
    let of_copy = format!("{}:{line}: {key}", copy.display());
    assert!(
        stderr(&refused).contains(&of_copy),
        "{of_copy}: {}",
        stderr(&refused)
    );
}

/// Whatever refuses a file, the refusal names file, line and key: at SIGHUP in the log, over the
/// socket in the answer, for the daemon's own file and for one of the client (finding O4).
#[test]
fn a_refused_file_is_named_with_line_and_key_at_sighup_and_over_the_socket() {
    let (_fabric, ns, _host, vtepd) = one_vtepd(&config(""));
    // Another daemon uses it, so that the port can't be opened.
    ns.ip("link add busy0 type veth peer name busy1");
    let scratch = Scratch::below(vtepd.dir(), &ns);
    let (socket, file) = (scratch.path().join("s"), scratch.path().join("other.toml"));
    let other = Config::with_underlay(vtep4(1), "busy1")
        .raw("udp-port = 4790")
        .raw("underlay-io = \"xdp\"");
    let text = format!("[control]\nsocket = {socket:?}\n{}", other.text());
    std::fs::write(&file, text).expect("the directory can be written");
    let (program, file) = (binary("vtepd"), file.display().to_string());
    let words = [program.to_str().expect("ASCII"), "--config", &file];
    let mut other = Program::start(&ns, scratch.path(), &words);
    other.wait_for_output("ready", 20);
    for (more, at, key) in [
        ("[[vni]]\nid = 16777216", "id = 16777216", "vni.id: "),
        ("[[vni]]\nid = 100", "id = 100", "vni.id: "),
        (
            "[[vni]]\nid = 200\nsupress = true",
            "supress",
            "vni.supress: ",
        ),
        (
            "[[vni]]\nid = 200\nflood = [\"203.0.113.1\"]",
            "flood = [\"203.0.113.1\"]",
            "vni.flood: ",
        ),
        ("[[vni]\nid = 200", "id = 200", "invalid TOML"),
        ("[bgp]\nasn = 0", "asn = 0", "bgp.asn: "),
        (
            "[vtep.afxdp]\nframes = 4096",
            "frames = 4096",
            "vtep.afxdp.frames: ",
        ),
        (
            "[[vni]]\nid = 200\n[[vni.port]]\nio = \"xdp\"\ninterface = \"busy1\"",
            "interface = \"busy1\"",
            "vni.port.interface: ",
        ),
    ] {
        vtepd.rewrite(&config(more));
        // The first line with the text; of VNI 100 the second.
        let line = match more {
            "[[vni]]\nid = 100" => lines_of(&vtepd, at)[1],
            "[[vni]\nid = 200" => line_of(&vtepd, at) - 1,
            _ => line_of(&vtepd, at),
        };
        let file = vtepd.config();
        let wanted = format!("{}:{line}: {key}", file.display());
        let refused = vtepd.ctl("config apply");
        assert_eq!(refused.status.code(), Some(1), "{more}");
        assert!(
            stderr(&refused).contains(&wanted),
            "{wanted}: {}",
            stderr(&refused)
        );
        refused_as_a_copy(&vtepd, line, key);
        let before = vtepd.program.log().len();
        vtepd.program.signal(Signal::HUP);
        wait_for(&format!("the log to say {wanted}"), 10, || {
            vtepd.program.log()[before..]
                .contains(&wanted)
                .then_some(())
        });
    }
    other.terminate();
    vtepd.rewrite(&config(""));
    vtepd.done("config apply");
}

/// Old and new values, what they cost, and the exit status: 0 without and 1 with differences
/// (finding O5).
#[test]
fn config_diff_shows_values_and_costs_and_its_exit_status_says_whether_any_differ() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let bgp = |more: &str| {
        config(&format!(
            "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"10.8.0.254\"\nremote-asn = 65000\n{more}"
        ))
    };
    let vtepd = Vtepd::start(&ns, &bgp(""));
    let same = vtepd.ctl("config diff");
    assert_eq!((same.status.code(), &same.stdout[..]), (Some(0), &b""[..]));
    vtepd.rewrite(&bgp("port = 1179\n[[vni]]\nid = 200\nsuppress = true"));
    let file = std::fs::read_to_string(vtepd.config()).expect("the test wrote it");
    let file = file
        .replace("cores = [0]", "cores = [0]\nttl = 32\nudp-port = 4790")
        .replace(&mac(11), &mac(12));
    std::fs::write(vtepd.config(), file).expect("the directory can be written");
    let different = vtepd.ctl("config diff");
    assert_eq!(different.status.code(), Some(1), "{}", stderr(&different));
    let (a, b) = (mac(11), mac(12));
    let wanted = format!(
        "~ vtep: udp-port: 4789 -> 4790 (takes a restart)\n\
         ~ vtep: ttl: 64 -> 32\n\
         ~ vni 100 port t11: macs: [\"{a}\"] -> [\"{b}\"]\n\
         ~ bgp neighbor 10.8.0.254: port: 179 -> 1179 (resets session 10.8.0.254)\n\
         + vni 200: suppress = true\n"
    );
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let shown = String::from_utf8_lossy(&different.stdout);
    assert_eq!(sorted(&shown), sorted(&wanted));
    let json = vtepd.ctl("config diff --json");
    assert_eq!(json.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["restart"], serde_json::json!(["vtep.udp-port"]));
    assert_eq!(json["resets"], serde_json::json!(["10.8.0.254"]));
}

/// What is asked about and does not exist is an error with its name, not an empty table; a remedy
/// names what can be done (findings O11, O12).
#[test]
fn unknown_vnis_macs_and_ports_are_errors_with_their_names() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    for (line, named) in [
        ("show vni 777", "VNI 777 is not configured"),
        ("show mac --vni 777", "VNI 777 is not configured"),
        (
            "show mac --vni 777 50:54:33:00:00:77",
            "VNI 777 is not configured",
        ),
        (
            "show mac 50:54:33:00:00:77",
            "50:54:33:00:00:77 is not known in any VNI",
        ),
        (
            "show mac --vni 100 50:54:33:00:00:77",
            "50:54:33:00:00:77 is not known in VNI 100",
        ),
        ("show neighbors --vni 777", "VNI 777 is not configured"),
        ("show flood --vni 777", "VNI 777 is not configured"),
        (
            "vni del 777",
            "VNI 777 is not configured; `show vni` lists the VNIs",
        ),
        ("port del t11 --vni 777", "VNI 777 is not configured"),
        ("port del t99 --vni 100", "VNI 100 has no port t99"),
        (
            "fdb del 50:54:33:00:00:77 --vni 100",
            "50:54:33:00:00:77 is not in the fdb of VNI 100",
        ),
        (
            "neigh del 192.0.2.77 --vni 100",
            "192.0.2.77 is not a static neighbor in VNI 100",
        ),
        (
            "flood del 203.0.113.77 --vni 100",
            "203.0.113.77 is not in the static flood list",
        ),
        (
            "mac move 50:54:33:00:00:0b --vni 777 --interface t11",
            "VNI 777 is not configured",
        ),
        (
            "mac unfreeze 50:54:33:00:00:77 --vni 100",
            "50:54:33:00:00:77 of VNI 100 is not frozen",
        ),
        (
            "mac unfreeze 50:54:33:00:00:77 --vni 777",
            "VNI 777 is not configured",
        ),
    ] {
        for line in [line.to_owned(), format!("--json {line}")] {
            let refused = vtepd.ctl(&line);
            let error = stderr(&refused);
            assert_eq!(refused.status.code(), Some(1), "{line}: {error}");
            assert!(error.contains(named), "{line}: {error}");
            assert!(!error.contains("add it first"), "{line}: {error}");
        }
    }
    assert!(vtepd.done(&format!("show mac {}", mac(11))).contains("t11"));
    assert!(vtepd.done("show vni 100").contains("100"));
}

/// `config save` keeps what the file is, and pins nothing that was automatic (finding O9).
#[test]
fn config_save_keeps_mode_owner_and_link_and_pins_no_router_id() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let vtepd = Vtepd::start(&ns, &config("[bgp]\nasn = 65000"));
    let (link, file) = (vtepd.config(), vtepd.dir().join("real.toml"));
    std::fs::rename(&link, &file).expect("the same directory");
    symlink("real.toml", &link).expect("its name is free");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("it is ours");
    chown(&file, None, Some(65533)).expect("tests run as root");
    vtepd.done("vni add 200");
    vtepd.done("config save");
    let saved = std::fs::metadata(&file).expect("it was written");
    assert_eq!((saved.mode() & 0o777, saved.gid()), (0o640, 65533));
    let kept = std::fs::symlink_metadata(&link).expect("it was not removed");
    assert!(kept.is_symlink());
    let text = std::fs::read_to_string(&file).expect("UTF-8");
    assert!(
        text.contains("id = 200") && !text.contains("router-id"),
        "{text}"
    );
    assert_eq!(vtepd.ctl("config diff").status.code(), Some(0));
    // An identifier that is not the default stays.
    vtepd.rewrite(&config("[bgp]\nasn = 65000\nrouter-id = \"192.0.2.1\""));
    vtepd.done("config apply");
    vtepd.done("config save");
    let text = std::fs::read_to_string(&file).expect("UTF-8");
    assert!(text.contains("router-id = \"192.0.2.1\""), "{text}");
}

/// `show neighbors` is in order, on every page (finding O12).
#[test]
fn neighbors_are_shown_in_order_and_each_once_over_all_pages() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    let mut more = String::new();
    for n in 0..2500_u32 {
        // Not in order.
        let n = n * 7919 % 2500;
        more.push_str(&format!(
            "[[vni.neighbor]]\nip = \"10.{}.{}.{}\"\nmac = \"02:00:00:00:{:02x}:{:02x}\"\n",
            n % 3,
            n >> 8,
            n & 255,
            n >> 8,
            n & 255
        ));
    }
    vtepd.rewrite(&config(&more));
    vtepd.done("config apply");
    let shown = vtepd.show("neighbors");
    let rows = shown["rows"].as_array().expect("rows");
    let all: Vec<std::net::IpAddr> = rows
        .iter()
        .map(|row| {
            row["ip"]
                .as_str()
                .expect("text")
                .parse()
                .expect("an address")
        })
        .collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(all.len(), 2500);
    assert_eq!(all, sorted);
}

/// A reload and the three commands report everything in one round, of the file and of the host;
/// `config check` looks at what a start would meet, as `vtepd --check` does (findings O4, O6).
#[test]
fn commands_report_problems_of_the_file_and_of_the_host_in_one_round() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    let file = vtepd.config();
    let text = config("[[vni]]\nid = 200\nsupress = true\n[[vni.port]]\ninterface = \"lo\"\n");
    let text = text.control("group = \"nosuchgroup\"\nmetrics = \"198.51.100.1:9464\"");
    vtepd.rewrite(&text);
    let at =
        |text: &str, key: &str| format!("{}:{}: {key}: ", file.display(), line_of(&vtepd, text));
    let in_file = [
        at("supress", "vni.supress"),
        at("interface = \"lo\"", "warning: vni.port.interface"),
    ];
    let of_a_start = [
        at("supress", "vni.supress"),
        at("interface = \"lo\"", "vni.port.interface"),
        at("group", "control.group"),
        at("metrics", "control.metrics"),
    ];
    for (command, wanted) in [
        ("config check", &of_a_start[..]),
        ("config diff", &in_file),
        ("config apply", &in_file),
    ] {
        let refused = vtepd.ctl(command);
        assert_eq!(refused.status.code(), Some(1), "{command}");
        for wanted in wanted {
            assert!(
                stderr(&refused).contains(wanted),
                "{command}: {wanted}: {}",
                stderr(&refused)
            );
        }
    }
    vtepd.program.signal(Signal::HUP);
    for wanted in &in_file {
        wait_for(&format!("the log to say {wanted}"), 10, || {
            vtepd.program.log().contains(wanted).then_some(())
        });
    }
    // What the daemon itself holds is no problem of its own file.
    vtepd.rewrite(&config(""));
    assert_eq!(vtepd.done("config check"), "");
}

/// What `config apply` would refuse, `config diff` refuses as well, with the same words.
#[test]
fn config_diff_refuses_ports_that_could_not_be_added() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    vtepd.rewrite(&config(
        "[[vni]]\nid = 200\n[[vni.port]]\ninterface = \"lo\"\n",
    ));
    let [diff, apply] = ["diff", "apply"].map(|what| stderr(&vtepd.ctl(&format!("config {what}"))));
    let line = line_of(&vtepd, "\"lo\"");
    let wanted =
        format!("vtepd.toml:{line}: vni.port.interface: interface lo can't be a tenant port");
    assert!(diff.contains(&wanted), "{wanted}: {diff}");
    assert_eq!(diff, apply);
}

/// A file that could block the daemon is not opened: the control thread keeps running, and with it BGP
/// and the watchdog.
#[test]
fn a_configuration_that_is_a_pipe_is_refused_at_once() {
    let (_fabric, ns, _host, vtepd) = one_vtepd(&config(""));
    let file = vtepd.config();
    for make in ["mkfifo", "ln -s /dev/zero", "mkdir"] {
        let _ = std::fs::remove_file(&file);
        ns.run(&format!("{make} {}", file.display()));
        let before = vtepd.program.log().len();
        vtepd.program.signal(Signal::HUP);
        let diff = format!("config diff {}", file.display());
        let save = format!("config save {}", file.display());
        for (command, what) in [
            ("config diff", ": can't be read"),
            ("config check", ": can't be read"),
            ("config apply", ": can't be read"),
            ("config save", ": can't be written"),
            (diff.as_str(), ""),
            (save.as_str(), ""),
        ] {
            let refused = vtepd.ctl(command);
            assert_eq!(refused.status.code(), Some(1), "{command}");
            let wanted = format!("vtepd.toml{what}: must be a regular file");
            assert!(stderr(&refused).contains(&wanted), "{}", stderr(&refused));
        }
        let log = vtepd.program.log();
        assert!(log[before..].contains("must be a regular file"), "{log}");
    }
}

/// `config save FILE` leaves the old file or the new one, whatever happens meanwhile, with its mode
/// and links (finding O9).
#[test]
fn config_save_to_a_file_of_the_client_replaces_it_as_a_whole() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let (_fabric, ns, _host, vtepd) = one_vtepd(&config(""));
    let (file, link) = (vtepd.dir().join("mine.toml"), vtepd.dir().join("link.toml"));
    std::fs::write(&file, "the old text").expect("the directory can be written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it is ours");
    symlink("mine.toml", &link).expect("its name is free");
    let vnis: String = (200..300)
        .map(|vni| format!("[[vni]]\nid = {vni}\n"))
        .collect();
    vtepd.rewrite(&config(&vnis));
    vtepd.done("config apply");
    let program = binary("vtepctl");
    // The kernel stops it after 512 bytes, or 1024, depending on the shell.
    let line = format!(
        "ulimit -f 1; {} --socket {} config save {}",
        program.display(),
        vtepd.socket().display(),
        link.display()
    );
    let stopped = ns.try_run_for(30, &["sh", "-c", &line]);
    assert!(!stopped.status.success());
    let text = || std::fs::read_to_string(&file).expect("UTF-8");
    assert_eq!(text(), "the old text");
    vtepd.done(&format!("config save {}", link.display()));
    assert_eq!(text(), vtepd.done("config save -"));
    let saved = std::fs::metadata(&file).expect("it was written");
    assert_eq!(saved.mode() & 0o777, 0o600);
    assert!(link.is_symlink());
}

/// A file that is longer than a request may be is not sent, and the message says what to do; the
/// daemon's own may be longer.
#[test]
fn a_file_longer_than_a_request_must_be_the_daemons_own() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    let long = config(&format!("# {}\n[[vni]]\nid = 200\n", "x".repeat(1 << 20)));
    let file = vtepd.dir().join("long.toml");
    std::fs::write(&file, long.text()).expect("the directory can be written");
    for command in ["check", "diff", "apply"] {
        let refused = vtepd.ctl(&format!("config {command} {}", file.display()));
        assert_eq!(refused.status.code(), Some(1), "{command}");
        let wanted =
            "long.toml: longer than the 1 MiB of a request; install it as the file of vtepd";
        assert!(stderr(&refused).contains(wanted), "{}", stderr(&refused));
    }
    vtepd.rewrite(&long);
    vtepd.done("config apply");
    vtepd.done("show vni 200");
}

/// A daemon that is stopped is told from one that is not running.
#[test]
fn a_daemon_that_does_not_answer_is_reported_as_such() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    let program = binary("vtepctl");
    let socket = vtepd.socket();
    vtepd.program.signal(Signal::STOP);
    let words = [
        program.to_str(),
        Some("--socket"),
        socket.to_str(),
        Some("show"),
        Some("status"),
    ];
    let words: Vec<_> = words.into_iter().map(|word| word.expect("ASCII")).collect();
    let refused = vtep_tests::netns::command(60, &words);
    vtepd.program.signal(Signal::CONT);
    assert_eq!(refused.status.code(), Some(1));
    let error = stderr(&refused);
    assert!(error.contains("vtepd has not answered for 30 s"), "{error}");
    vtepd.done("show status");
}
