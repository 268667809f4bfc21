//! The control socket over a real Unix socket: misbehaving clients do not affect others, and
//! batches are all or nothing.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use proptest::prelude::*;
use serde_json::{Value, json};
use vtep_control::api::action::Action;
use vtep_control::api::client::{Client, ClientError};
use vtep_control::api::dispatch::{Handler, dispatch};
use vtep_control::api::event::{ApiEvent, MAX_SUBSCRIBERS, MissEvent};
use vtep_control::api::message::{ApiError, ConfigRequest, code};
use vtep_control::api::server::{BindError, ControlServer, MAX_CLIENTS, TOKENS};
use vtep_control::api::show::{MacCursor, MacKind, MacRow, Rows, ShowQuery, ShowRequest};
use vtep_control::config::{Change, Config, parse, save};

const BASE: &str = "[vtep]\naddress = \"203.0.113.2\"\nunderlay = [\"eth0\"]\n[[vni]]\nid = 100\n";

/// The time that the action `mac.unfreeze` takes.
const ACTION: Duration = Duration::from_millis(4);

/// The VNIs of the actions, in their order.
type Actions = Arc<Mutex<Vec<u32>>>;

/// A daemon that consists of its configuration only.
struct Daemon(Config, Actions);

impl Handler for Daemon {
    fn change(&mut self, changes: Vec<Change>) -> Result<(), ApiError> {
        Ok(self.0.apply_all(&changes)?)
    }

    type Progress = u8;

    /// Answers at the third call. Flood lists take a while.
    fn show(
        &mut self,
        request: &ShowRequest,
        progress: &mut u8,
    ) -> Option<Result<String, ApiError>> {
        *progress += 1;
        if matches!(request, ShowRequest::Flood(_)) {
            std::thread::sleep(Duration::from_millis(4));
        }
        if let (ShowRequest::Workers(_), 1) = (request, *progress) {
            // Longer than a turn spends on clients.
            std::thread::sleep(Duration::from_millis(15));
        }
        if *progress < 3 {
            return None;
        }
        let ShowRequest::Mac(query) = request else {
            return Some(Ok(r#"{"rows":[],"next":null}"#.to_owned()));
        };
        let row = |(vni, mac, vtep)| MacRow {
            vni,
            mac,
            kind: MacKind::Static,
            port: None,
            vtep: Some(vtep),
            esi: None,
            vteps: Vec::new(),
            sequence: None,
            flags: Vec::new(),
            age: None,
            addresses: None,
        };
        let all = self.0.vnis().iter().flat_map(|(vni, content)| {
            content
                .fdb()
                .iter()
                .map(|(mac, entry)| (*vni, mac.get(), entry.vtep))
        });
        let rows = Rows::page(all.map(row), |row| MacCursor(row.vni, row.mac), query);
        let rows = rows.map_err(ApiError::refused);
        Some(rows.map(|rows| serde_json::to_string(&rows).unwrap()))
    }

    fn act(&mut self, action: &Action) -> Result<Value, ApiError> {
        if let Action::MacUnfreeze(unfreeze) = action {
            std::thread::sleep(ACTION);
            self.1.lock().unwrap().push(unfreeze.vni.get());
        }
        Ok(json!({}))
    }

    fn config(&mut self, request: &ConfigRequest) -> Result<Value, ApiError> {
        match request {
            ConfigRequest::Save(_) => Ok(json!({"text": save(&self.0)})),
            ConfigRequest::Check(source) => {
                let text = source.text.as_deref().unwrap_or_default();
                parse("request", text)
                    .map(|_| json!({"warnings": []}))
                    .map_err(ApiError::from)
            }
            _ => Ok(json!({"changes": [], "resets": [], "restart": []})),
        }
    }
}

/// A server on a thread, in a directory of its own that is removed at the end.
struct Fixture {
    directory: PathBuf,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    /// Seconds that the server's clock is ahead.
    ahead: Arc<AtomicU64>,
    /// Events that the server still has to publish.
    events: Arc<AtomicU64>,
    actions: Actions,
    thread: Option<JoinHandle<()>>,
}

impl Fixture {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "vtep-api-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let directory = std::env::temp_dir().join(name);
        let path = directory.join("control.sock");
        let server = ControlServer::<u8>::bind(&path, None).unwrap();
        let (stop, ahead) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let events = Arc::<AtomicU64>::default();
        let actions = Actions::default();
        let thread = {
            let (stop, ahead, events) = (stop.clone(), ahead.clone(), events.clone());
            let daemon = Daemon(parse("base", BASE).unwrap().config, actions.clone());
            std::thread::spawn(move || serve(server, daemon, &stop, &ahead, &events))
        };
        Self {
            directory,
            path,
            stop,
            ahead,
            events,
            actions,
            thread: Some(thread),
        }
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    fn exchange(&self, request: &Value) -> Value {
        serde_json::from_str(&self.client().exchange(&request.to_string()).unwrap()).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn serve(
    mut server: ControlServer<u8>,
    mut daemon: Daemon,
    stop: &AtomicBool,
    ahead: &AtomicU64,
    wanted: &AtomicU64,
) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(TOKENS);
    server.register(poll.registry(), Token(7)).unwrap();
    while !stop.load(Relaxed) {
        let wait = server
            .next_deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.unwrap_or(Duration::MAX).min(Duration::from_millis(20));
        poll.poll(&mut events, Some(wait)).unwrap();
        let now = Instant::now() + Duration::from_secs(ahead.load(Relaxed));
        for event in &events {
            assert!(server.owns(event.token()));
            server.event(poll.registry(), event.token(), now);
        }
        server.tick(poll.registry(), &mut daemon, now);
        for _ in 0..wanted.load(Relaxed) {
            let miss = MissEvent {
                vni: "100".parse().unwrap(),
                mac: None,
                ip: Some([192, 0, 2, 1].into()),
            };
            server.publish(poll.registry(), &ApiEvent::Miss(miss), now);
            wanted.fetch_sub(1, Relaxed);
        }
    }
}

fn request(id: u32, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn fdb(mac: &str) -> Value {
    json!({"vni": 100, "mac": mac, "vtep": "203.0.113.3"})
}

fn macs(fixture: &Fixture) -> usize {
    let mut count = 0;
    let query = ShowQuery {
        limit: 2,
        ..ShowQuery::default()
    };
    let count_rows = |rows: Vec<MacRow>| {
        assert!(rows.len() <= 2);
        count += rows.len();
        Ok::<_, ClientError>(())
    };
    fixture
        .client()
        .pages("show.mac", query, count_rows)
        .unwrap();
    count
}

#[test]
fn a_batch_with_an_invalid_request_changes_nothing_and_names_index_and_field() {
    let fixture = Fixture::new();
    let good = |id| request(id, "fdb.add", &fdb(&format!("02:00:00:00:00:0{id}")));
    // Invalid, and valid but conflicting.
    for (wrong, field) in [(fdb("02:00"), "mac"), (fdb("02:00:00:00:00:01"), "mac")] {
        let answer = fixture.exchange(&json!([good(1), request(2, "fdb.add", &wrong), good(3)]));
        let answers = answer.as_array().unwrap();
        assert_eq!(answers.len(), 3);
        for (answer, id) in answers.iter().zip(1..) {
            assert_eq!(answer["id"], id);
            assert_eq!(
                answer["error"]["data"],
                json!({"index": 1, "field": field}),
                "{answer}"
            );
        }
        assert_eq!(macs(&fixture), 0);
    }
    let answer = fixture.exchange(&json!([good(1), good(2), good(3)]));
    assert_eq!(answer[2], json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    assert_eq!(macs(&fixture), 3);
    let mixed = fixture.exchange(&json!([good(4), request(5, "show.status", &json!({}))]));
    assert_eq!(mixed[0]["error"]["data"]["index"], 1);
    assert_eq!(macs(&fixture), 3);
}

#[test]
fn invalid_requests_get_the_codes_of_json_rpc() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let deep = "[".repeat(100_000);
    let many = format!("[{}0]", "0,".repeat(400_000));
    for (line, wanted) in [
        ("{", code::PARSE),
        (deep.as_str(), code::PARSE),
        ("[]", code::INVALID_REQUEST),
        ("7", code::INVALID_REQUEST),
        (many.as_str(), code::INVALID_REQUEST),
        (
            r#"{"jsonrpc":"1.0","id":1,"method":"show.status"}"#,
            code::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":{},"method":"show.status"}"#,
            code::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"show.nothing"}"#,
            code::NO_METHOD,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"vni.add","params":[1]}"#,
            code::INVALID_PARAMS,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"show.mac","params":{"limit":0}}"#,
            code::INVALID_PARAMS,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"vni.del","params":{"vni":7}}"#,
            code::REFUSED,
        ),
    ] {
        let answer: Value = serde_json::from_str(&client.exchange(line).unwrap()).unwrap();
        assert_eq!(answer["error"]["code"], wanted, "{line:.60}: {answer}");
    }
    let error = client
        .call("fdb.add", json!({"vni": 100, "mca": 1}))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("did you mean \"mac\"?") && error.contains("vtep: missing"),
        "{error}"
    );
}

#[test]
fn an_endless_request_is_cut_at_one_mebibyte() {
    let fixture = Fixture::new();
    let mut stream = fixture.raw();
    let chunk = vec![b'x'; 1 << 16];
    let mut sent = 0usize;
    let failed = loop {
        match stream.write(&chunk) {
            Ok(more) => sent += more,
            Err(error) => break error.kind(),
        }
        assert!(sent < 1 << 30, "the server accepted a gibibyte");
    };
    assert!(
        matches!(failed, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        "{failed}"
    );
    assert!(sent < 4 << 20, "{sent}");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("exceeds 1 MiB"), "{answer}");
    assert_eq!(macs(&fixture), 0);
}

#[test]
fn half_a_request_times_out_and_an_idle_client_may_stay_longer() {
    let fixture = Fixture::new();
    let (mut half, mut idle) = (fixture.raw(), fixture.raw());
    half.write_all(b"{\"jsonrpc\":").unwrap();
    // Served after both, so the server has seen them.
    assert_eq!(macs(&fixture), 0);
    fixture.ahead.store(60, Relaxed);
    let end = half.read(&mut [0; 16]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    idle.write_all(format!("{}\n", request(1, "show.vni", &json!({}))).as_bytes())
        .unwrap();
    assert!(idle.read(&mut [0; 16]).unwrap() > 0);
    fixture.ahead.store(1000, Relaxed);
    let mut rest = Vec::new();
    assert!(idle.read_to_end(&mut rest).is_ok());
}

#[test]
fn a_client_that_does_not_read_is_closed_and_others_are_served() {
    let fixture = Fixture::new();
    let stuck = fixture.raw();
    stuck.set_nonblocking(true).unwrap();
    let line = format!("{}\n", request(1, "config.save", &json!({}))).repeat(500);
    let mut sent = 0usize;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        match (&stuck).write(line.as_bytes()) {
            Ok(more) => sent += more,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
        assert!(sent < 16 << 20, "the server never stops reading");
    }
    assert_eq!(macs(&fixture), 0);
    fixture.ahead.store(60, Relaxed);
    let start = Instant::now();
    while (&stuck).write(b"x").err().map(|e| e.kind()) != Some(ErrorKind::BrokenPipe) {
        assert!(start.elapsed() < Duration::from_secs(60), "never closed");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A client that waits for the daemon is neither passed over nor closed, however busy the others
/// keep the daemon (finding C13).
#[test]
fn busy_clients_are_served_in_turn() {
    const CLIENTS: u32 = 6;
    const REQUESTS: usize = 20;
    let fixture = Fixture::new();
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|vni| {
            let mut client = fixture.raw();
            let params = json!({"vni": vni, "mac": "02:00:00:00:00:01"});
            let line = format!("{}\n", request(vni, "mac.unfreeze", &params));
            client.write_all(line.repeat(REQUESTS).as_bytes()).unwrap();
            client
        })
        .collect();
    fixture.ahead.store(60, Relaxed);
    for client in clients {
        let answers = BufReader::new(client).lines().take(REQUESTS);
        assert_eq!(answers.map_while(Result::ok).count(), REQUESTS);
    }
    let served = fixture.actions.lock().unwrap().clone();
    for vni in 1..=CLIENTS {
        let at: Vec<_> = (0..served.len()).filter(|at| served[*at] == vni).collect();
        assert_eq!(at.len(), REQUESTS);
        let between = at.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(between <= Some(CLIENTS as usize), "{served:?}");
    }
}

#[test]
fn a_thousand_idle_clients_are_bounded_and_replaced() {
    let fixture = Fixture::new();
    let crowd: Vec<_> = (0..1000)
        .map_while(|_| UnixStream::connect(&fixture.path).ok())
        .collect();
    assert!(crowd.len() > MAX_CLIENTS);
    let mut last = String::new();
    let newest = crowd.last().unwrap();
    newest
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    BufReader::new(newest).read_line(&mut last).unwrap();
    assert!(last.contains("at most 64 may connect"), "{last}");
    fixture.ahead.store(5, Relaxed);
    // Clients are accepted at the time of their iteration: one that connects before it ends
    // exceeds the limit.
    let start = Instant::now();
    while fixture.client().call("show.status", json!({})).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no place is given up"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(macs(&fixture), 0);
}

/// Connections that come faster than they are accepted (a monitoring script in a loop, or an attack)
/// do not keep the daemon from everything else: accepting them never ended.
#[test]
fn connections_without_end_do_not_keep_a_client_waiting() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.call("show.status", json!({})).unwrap();
    let done = AtomicBool::new(false);
    let limit = Instant::now() + Duration::from_secs(30);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Relaxed) && Instant::now() < limit {
                    drop(UnixStream::connect(&fixture.path));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        for _ in 0..10 {
            client.call("show.status", json!({})).unwrap();
        }
        done.store(true, Relaxed);
    });
    assert!(Instant::now() < limit, "answered only after the others");
}

/// Clients whose requests wait for their turn behind those of others are neither idle nor late,
/// however long it takes.
#[test]
fn a_client_that_waits_for_its_turn_is_neither_replaced_nor_closed() {
    let fixture = Fixture::new();
    let connect = |line: &str, times| {
        let stream = fixture.raw();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        (&stream).write_all(line.repeat(times).as_bytes()).unwrap();
        stream
    };
    let slow = format!("{}\n", request(1, "show.workers", &json!({})));
    let busy: Vec<_> = (0..MAX_CLIENTS - 1).map(|_| connect(&slow, 2)).collect();
    let fast = format!("{}\n", request(1, "show.mac", &json!({})));
    let waiting = connect(&fast, 1);
    fixture.ahead.store(60, Relaxed);
    let late: Vec<_> = (0..8).map(|_| connect(&fast, 1)).collect();
    let answers = |stream: &UnixStream, count| {
        let lines = BufReader::new(stream).lines().take(count);
        lines
            .filter(|line| line.as_ref().is_ok_and(|line| line.contains("result")))
            .count()
    };
    assert_eq!(answers(&waiting, 1), 1);
    let served: Vec<_> = busy.iter().map(|stream| answers(stream, 2)).collect();
    assert_eq!(served, vec![2; busy.len()]);
    drop(late);
}

#[test]
fn requests_may_arrive_in_parts_or_many_at_once() {
    let fixture = Fixture::new();
    let mut stream = fixture.raw();
    let line = format!("{}\r\n", request(1, "show.vni", &json!({})));
    for piece in line.as_bytes().chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    stream.write_all(line.repeat(99).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers = BufReader::new(stream)
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.contains("result"))
        .count();
    assert_eq!(answers, 100);
}

#[test]
fn sockets_are_private_stale_ones_are_replaced_and_live_ones_are_kept() {
    let fixture = Fixture::new();
    let mode = std::fs::metadata(&fixture.path)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(matches!(
        ControlServer::<u8>::bind(&fixture.path, None),
        Err(BindError::Live(_))
    ));
    let stale = fixture.directory.join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let server = ControlServer::<u8>::bind(&stale, Some("root")).unwrap();
    drop(server);
    assert!(!stale.exists(), "removed at the end");
    let file = fixture.directory.join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(
        ControlServer::<u8>::bind(&file, None),
        Err(BindError::NotSocket(_))
    ));
    assert!(matches!(
        ControlServer::<u8>::bind(&stale, Some("no such group")),
        Err(BindError::NoGroup(_))
    ));
    let absent = Client::connect(Path::new("/nonexistent/vtepd.sock")).unwrap_err();
    assert!(
        absent.to_string().starts_with("vtepd is not running"),
        "{absent}"
    );
}

#[test]
fn another_user_is_refused_before_anything_is_parsed() {
    let fixture = Fixture::new();
    // Even if the socket's mode is changed to permit all users, only root and members of the group
    // are accepted.
    for path in [&fixture.directory, &fixture.path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    // The user can't reach the build directory, so a copy of the program runs.
    let program = fixture.directory.join("vtepctl");
    std::fs::copy(env!("CARGO_BIN_EXE_vtepctl"), &program).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .arg("--socket")
        .arg(&fixture.path)
        .args(["vni", "add", "200"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("permission denied: must be root or a member"),
        "{stderr}"
    );
    let error = fixture
        .client()
        .call("vni.del", json!({"vni": 200}))
        .unwrap_err();
    assert!(
        error.to_string().contains("VNI 200 is not configured"),
        "{error}"
    );
}

#[test]
fn every_example_of_the_documentation_parses_and_answers() {
    let mut daemon = Daemon(parse("base", BASE).unwrap().config, Actions::default());
    let known = request(0, "fdb.add", &fdb("50:54:33:00:00:0c"));
    dispatch(known.to_string().as_bytes(), &mut daemon).unwrap();
    let (mut examples, mut answers, mut last) = (0, 0, Value::Null);
    for line in include_str!("../../docs/api.md").lines() {
        if let Some(answer) = line.strip_prefix("    <-- ") {
            assert_eq!(
                serde_json::from_str::<Value>(answer).unwrap(),
                last,
                "{line}"
            );
            answers += 1;
        }
        let (good, asked) = (line.strip_prefix("    --> "), line.strip_prefix("    -!> "));
        let Some(asked) = good.or(asked) else {
            continue;
        };
        let answer = dispatch(asked.as_bytes(), &mut daemon).unwrap();
        last = serde_json::from_str(&answer).unwrap();
        let all = last
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![last.clone()]);
        assert!(
            all.iter()
                .all(|answer| answer["error"].is_null() == good.is_some()),
            "{line}\n{last}"
        );
        examples += 1;
    }
    assert!(examples >= 26 && answers >= 5, "{examples} {answers}");
}

/// Clients are served in turn: however many requests some have sent, another waits for one part of
/// an answer of each (finding C13).
#[test]
fn clients_with_many_requests_do_not_keep_another_waiting() {
    let fixture = Fixture::new();
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let line = format!("{}\n", request(1, "show.flood", &json!({})));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut stream = UnixStream::connect(&fixture.path).unwrap();
                stream.write_all(line.repeat(16).as_bytes()).unwrap();
                let mut answer = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !stop.load(Relaxed) {
                    answer.clear();
                    reader.read_line(&mut answer).unwrap();
                    answers.fetch_add(1, Relaxed);
                    stream.write_all(line.as_bytes()).unwrap();
                }
            });
        }
        while answers.load(Relaxed) < 6 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = answers.load(Relaxed);
        let mut client = fixture.client();
        for _ in 0..20 {
            client.call("show.vni", json!({})).unwrap();
        }
        let meanwhile = answers.load(Relaxed) - before;
        stop.store(true, Relaxed);
        assert!(meanwhile <= 20 * 6, "{meanwhile} answers to others");
    });
}

#[test]
fn a_slow_subscriber_loses_events_and_is_notified() {
    let fixture = Fixture::new();
    let mut reader = fixture.client();
    reader
        .call("monitor.subscribe", json!({"topics": ["mac"]}))
        .unwrap();
    let slow = fixture.raw();
    (&slow).write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"monitor.subscribe\",\"params\":{\"topics\":[\"miss\"]}}\n").unwrap();
    let mut lines = BufReader::new(slow).lines().map(Result::unwrap);
    assert_eq!(
        lines.next().unwrap(),
        r#"{"id":1,"jsonrpc":"2.0","result":{}}"#
    );
    // Nothing is read while far more is sent than the socket and the server can buffer.
    fixture.events.store(50_000, Relaxed);
    while fixture.events.load(Relaxed) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut got, mut lost) = (0, 0);
    while got + lost < 50_000 {
        let line: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        match serde_json::from_value(line["params"].clone()).unwrap() {
            ApiEvent::Miss(miss) => got += u64::from(miss.vni.get() == 100),
            ApiEvent::Lost { lost: more } => lost += more,
            other => panic!("not subscribed to {other:?}"),
        }
    }
    assert!(got > 0 && lost > 0, "{got} {lost}");
    assert_eq!(got + lost, 50_000);
    // A subscriber of another topic received nothing between request and answer.
    reader.call("show.status", json!({})).unwrap();
}

#[test]
fn subscribers_leave_connections_for_commands() {
    let fixture = Fixture::new();
    let subscribe =
        |client: &mut Client| client.call("monitor.subscribe", json!({"topics": ["all"]}));
    let mut watching: Vec<_> = (0..MAX_SUBSCRIBERS).map(|_| fixture.client()).collect();
    watching
        .iter_mut()
        .for_each(|client| drop(subscribe(client).unwrap()));
    let mut more = fixture.client();
    let refused = subscribe(&mut more).unwrap_err().to_string();
    assert!(
        refused.contains("at most 48 clients may watch events"),
        "{refused}"
    );
    more.call("show.status", json!({})).unwrap();
    // A subscriber may choose other topics; when one disconnects, another can subscribe.
    subscribe(&mut watching[0]).unwrap();
    watching[0]
        .call("monitor.subscribe", json!({"topics": []}))
        .unwrap();
    subscribe(&mut more).unwrap();
    assert!(subscribe(&mut watching[0]).is_err());
    let crowd: Vec<_> = (MAX_SUBSCRIBERS + 1..MAX_CLIENTS)
        .map(|_| fixture.client())
        .collect();
    for mut client in crowd {
        client.call("show.status", json!({})).unwrap();
    }
}

/// Any JSON, with the words of the protocol in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "jsonrpc", "2.0", "id", "method", "params", "vni", "fdb.add", "show.mac", "mac", "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let pairs = prop::collection::vec((word.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            pairs.prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_line_makes_the_server_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), json in any_json()) {
        let config = parse("base", BASE).unwrap().config;
        let mut daemon = Daemon(config.clone(), Actions::default());
        let answer = dispatch(&bytes, &mut daemon);
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        prop_assert!(answer["error"].is_object());
        dispatch(json.to_string().as_bytes(), &mut daemon);
        let wrapped = json!({"jsonrpc": "2.0", "id": 1, "method": "fdb.add", "params": json});
        dispatch(wrapped.to_string().as_bytes(), &mut daemon);
        prop_assert_eq!(daemon.0, config);
    }
}
