//! The program `vtepctl`, and the examples of the documentation.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

/// Runs vtepctl against a daemon that answers each request with the next of `answers`. Returns its
/// output and its requests.
fn vtepctl(name: &str, answers: &[&str], words: &[&str]) -> (Output, Vec<String>) {
    let path = socket(name);
    let listener = UnixListener::bind(&path).unwrap();
    let answers: Vec<_> = answers.iter().map(|&answer| answer.to_owned()).collect();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut asked = Vec::new();
        for answer in answers {
            asked.push(lines.next().unwrap().unwrap());
            writeln!(stream, "{answer}").unwrap();
        }
        asked
    });
    let output = run(&path, words);
    std::fs::remove_file(&path).unwrap();
    (output, daemon.join().unwrap())
}

fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vtepctl-{}-{name}", std::process::id()))
}

fn run(path: &PathBuf, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vtepctl"))
        .arg("--socket")
        .arg(path)
        .args(words)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_change_is_silent_unless_verbose() {
    let words = [
        "port",
        "add",
        "vnet10",
        "--vni",
        "100",
        "--mac",
        "50:54:33:00:00:0a",
        "--vlan",
        "7",
        "--lock",
    ];
    let done = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let (output, asked) = vtepctl("silent", &[done], &words);
    assert_eq!(
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr)
        ),
        (Some(0), "", "")
    );
    let asked: serde_json::Value = serde_json::from_str(&asked[0]).unwrap();
    assert_eq!(asked["method"], "port.add");
    let wanted =
        r#"{"interface":"vnet10","lock":true,"macs":["50:54:33:00:00:0a"],"vlan":7,"vni":100}"#;
    assert_eq!(asked["params"].to_string(), wanted);
    let (output, _) = vtepctl("verbose", &[done], &[&words[..], &["-v"]].concat());
    assert!(text(&output.stdout).starts_with("done: port.add"));
}

#[test]
fn a_rejection_is_status_1_with_the_reason() {
    let refused = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"vni: VNI 7 is not configured"}}"#;
    let (output, _) = vtepctl("refused", &[refused], &["vni", "del", "7"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "vtepctl: vni: VNI 7 is not configured\n"
    );
    let absent = run(&socket("absent"), &["show", "status"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(
        text(&absent.stderr).starts_with("vtepctl: vtepd is not running: no process listens on")
    );
}

#[test]
fn wrong_usage_is_status_2() {
    for words in [
        &["show", "nothing"][..],
        &["vni", "add", "0"],
        &["fdb", "add", "01:00:5e:00:00:01", "--vni", "1"],
    ] {
        let output = run(&socket("usage"), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn tables_come_in_pages_and_are_aligned() {
    let row = |mac: &str, rest: &str| {
        format!(r#"{{"vni":100,"mac":"{mac}","flags":[],"age":null,{rest}}}"#)
    };
    let local = row(
        "50:54:33:00:00:0a",
        r#""kind":"local","port":"vnet10","vtep":null"#,
    );
    let fixed = row(
        "50:54:33:00:00:0c",
        r#""kind":"static","port":null,"vtep":"203.0.113.3""#,
    );
    let first =
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"rows":[{local}],"next":"CURSOR"}}}}"#);
    let last = format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{"rows":[{fixed}],"next":null}}}}"#);
    let (output, asked) = vtepctl("pages", &[&first, &last], &["show", "mac", "--vni", "100"]);
    assert!(asked[1].contains(r#""after":"CURSOR""#), "{}", asked[1]);
    let wanted = "\
VNI  MAC                Type    Intf/Remote VTEP  Seq  IPs  Flags  Age
100  50:54:33:00:00:0a  local   vnet10              -    -  -        -
100  50:54:33:00:00:0c  static  203.0.113.3         -    -  -        -
";
    assert_eq!(text(&output.stdout), wanted);
    let (output, _) = vtepctl("json", &[&first, &last], &["--json", "show", "mac"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (all["rows"].as_array().map(Vec::len), &all["next"]),
        (Some(2), &serde_json::Value::Null)
    );
}

#[test]
fn the_documented_example_is_a_valid_configuration() {
    let docs = include_str!("../../docs/config.md");
    let example = docs
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let loaded = vtep_control::config::parse("docs/config.md", example).unwrap();
    assert_eq!(loaded.config.vnis().len(), 1);
}

#[test]
fn routes_show_why_they_are_not_used() {
    let row = r#"{"neighbor":"203.0.113.254","rd":"203.0.113.3:2","type":2,"tag":0,"mac":"50:54:33:00:00:0c","ip":"192.0.2.12","originator":null,"prefix":null,"next_hop":"203.0.113.3","vni":100,"route_targets":["65000:100"],"as_path":"","sequence":3,"sticky":false,"best":true,"installed":false,"unused_reason":"no VNI imports its targets","note":null,"stale":false}"#;
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"rows":[{row}],"next":null}}}}"#);
    let words = [
        "show",
        "bgp",
        "routes",
        "--vni",
        "100",
        "--type",
        "2",
        "--neighbor",
        "203.0.113.254",
    ];
    let (output, asked) = vtepctl("routes", &[&answer], &words);
    let asked: serde_json::Value = serde_json::from_str(&asked[0]).unwrap();
    let wanted = r#"{"by":"reason","limit":1000,"neighbor":"203.0.113.254","type":2,"vni":100}"#;
    assert_eq!(
        (
            asked["method"].as_str(),
            asked["params"].to_string().as_str()
        ),
        (Some("show.bgp.routes"), wanted)
    );
    let last = text(&output.stdout).lines().last().unwrap();
    let route =
        "203.0.113.3:2  [2]:[0]:[48]:[50:54:33:00:00:0c]:[32]:[192.0.2.12]  203.0.113.3  100";
    assert!(last.starts_with('>') && last.contains(route), "{last}");
    assert!(last.ends_with("3  no VNI imports its targets"), "{last}");
    let (output, _) = vtepctl(
        "routes-json",
        &[&answer],
        &["--json", "show", "bgp", "routes"],
    );
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        all["rows"][0],
        serde_json::from_str::<serde_json::Value>(row).unwrap()
    );
}

#[test]
fn a_clear_is_hard_unless_soft() {
    let done = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for (words, wanted) in [
        (&[][..], "hard"),
        (&["--soft"], "both"),
        (&["--soft", "in"], "in"),
    ] {
        let words = [&["bgp", "clear", "203.0.113.254"], words].concat();
        let (output, asked) = vtepctl(&format!("clear-{wanted}"), &[done], &words);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let asked: serde_json::Value = serde_json::from_str(&asked[0]).unwrap();
        assert_eq!(
            asked["params"],
            serde_json::json!({"neighbor": "203.0.113.254", "soft": wanted})
        );
    }
}

#[test]
fn monitor_prints_one_event_per_line_until_the_daemon_exits() {
    let answers = [r#"{"jsonrpc":"2.0","id":1,"result":{}}
{"jsonrpc":"2.0","method":"event","params":{"topic":"miss","vni":100,"mac":null,"ip":"192.0.2.12"}}
{"jsonrpc":"2.0","method":"event","params":{"topic":"lost","lost":7}}"#];
    let (output, asked) = vtepctl("monitor", &answers, &["monitor", "miss", "bgp"]);
    let asked: serde_json::Value = serde_json::from_str(&asked[0]).unwrap();
    assert_eq!(
        asked["params"],
        serde_json::json!({"topics": ["miss", "bgp"]})
    );
    assert_eq!(
        text(&output.stdout),
        "miss 192.0.2.12 vni 100\nlost 7 events: the reader is too slow\n"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("closed the connection"));
}
