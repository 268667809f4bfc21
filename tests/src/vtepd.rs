//! vtepd in a namespace, and vtepctl to control it.

use std::fmt::Write as _;
use std::io::{BufRead, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::Value;

pub use crate::config::Config;
use crate::netns::{Netns, command, must, wait_for};
use crate::program::{Program, Scratch};

/// A running vtepd with its directory: configuration, control socket, log.
#[derive(Debug)]
pub struct Vtepd {
    /// The process.
    pub program: Program,
    scratch: Scratch,
    ns: String,
}

impl Vtepd {
    /// Writes the configuration, starts vtepd in `ns`, and waits until it answers.
    ///
    /// # Panics
    /// If it is not ready within 20 s.
    #[must_use]
    pub fn start(ns: &Netns, config: &Config) -> Self {
        let scratch = Scratch::new(ns);
        write_config(scratch.path(), config);
        let program = launch(ns, scratch.path());
        let mut vtepd = Self {
            program,
            scratch,
            ns: ns.name().to_owned(),
        };
        vtepd.wait_ready();
        vtepd
    }

    /// Writes the configuration and runs vtepd in `ns` until it exits, for at most a minute.
    #[must_use]
    pub fn try_start(ns: &Netns, config: &Config) -> Output {
        let scratch = Scratch::new(ns);
        write_config(scratch.path(), config);
        let (program, file) = (binary("vtepd"), scratch.path().join("vtepd.toml"));
        let words = [
            program.to_str().expect("ASCII"),
            "--config",
            file.to_str().expect("ASCII"),
        ];
        ns.try_run_for(60, &words)
    }

    /// Starts it again after it has exited, with the same directory.
    ///
    /// # Panics
    /// If it is not ready within 20 s.
    #[must_use]
    pub fn restart(self, ns: &Netns) -> Self {
        let Self {
            program,
            scratch,
            ns: name,
        } = self;
        drop(program);
        let program = launch(ns, scratch.path());
        let mut vtepd = Self {
            program,
            scratch,
            ns: name,
        };
        vtepd.wait_ready();
        vtepd
    }

    fn wait_ready(&mut self) {
        let path = self.socket();
        self.program
            .wait_until("an answer of its control socket", 20, |_| {
                UnixStream::connect(&path).is_ok()
            });
        wait_for("vtepctl show status", 20, || {
            self.ctl("show status").status.success().then_some(())
        });
    }

    /// Waits until each of `vteps` has an underlay path with a resolved neighbor.
    ///
    /// # Panics
    /// If one is not within 10 s.
    pub fn expect_up(&self, vteps: &[IpAddr]) {
        for vtep in vteps {
            wait_for(&format!("{}: a path to {vtep}", self.ns), 10, || {
                let shown = self.show("underlay");
                let mut rows = shown["rows"].as_array().into_iter().flatten();
                rows.any(|row| row["vtep"] == vtep.to_string() && row["state"] == "up")
                    .then_some(())
            });
        }
    }

    /// Writes another configuration file, without notifying vtepd.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn rewrite(&self, config: &Config) {
        write_config(self.scratch.path(), config);
    }

    /// Sends one line to the control socket, and returns the line of the answer.
    ///
    /// # Panics
    /// If the socket fails, or the answer is not JSON.
    #[must_use]
    pub fn request(&self, line: &str) -> Value {
        let mut stream = UnixStream::connect(self.socket()).expect("vtepd listens");
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(30)))
            .expect("a time");
        stream
            .write_all(format!("{line}\n").as_bytes())
            .expect("vtepd reads");
        let mut answer = String::new();
        std::io::BufReader::new(stream)
            .read_line(&mut answer)
            .expect("vtepd answers");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }

    /// The path of its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("control.sock")
    }

    /// The path of its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("vtepd.toml")
    }

    /// The test's directory, removed when this is dropped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs `vtepctl --socket ... <line>`, regardless of its exit status.
    #[must_use]
    pub fn ctl(&self, line: &str) -> Output {
        let program = binary("vtepctl");
        let socket = self.socket();
        let mut words = vec![
            program.to_str().expect("ASCII"),
            "--socket",
            socket.to_str().expect("ASCII"),
        ];
        words.extend(line.split_whitespace());
        command(30, &words)
    }

    /// `vtepctl monitor <topic>` in `ns`, which has subscribed when this returns.
    ///
    /// # Panics
    /// If it does not within 10 s.
    #[must_use]
    pub fn monitor(&self, ns: &Netns, topic: &str) -> Program {
        let (ctl, socket) = (binary("vtepctl"), self.socket());
        let words = [
            ctl.to_str().expect("ASCII"),
            "--socket",
            socket.to_str().expect("ASCII"),
            "-v",
            "monitor",
            topic,
        ];
        let mut monitor = Program::start(ns, self.dir(), &words);
        monitor.wait_for_output("subscribed", 10);
        monitor
    }

    /// Runs a vtepctl command, which must succeed; returns its output.
    ///
    /// # Panics
    /// If vtepctl fails.
    #[expect(clippy::must_use_candidate, reason = "a change prints nothing")]
    pub fn done(&self, line: &str) -> String {
        must(&self.ctl(line), &format!("vtepctl {line} ({})", self.ns))
    }

    /// `vtepctl show <what> --json`.
    ///
    /// # Panics
    /// If it fails or does not print JSON.
    #[must_use]
    pub fn show(&self, what: &str) -> Value {
        let text = self.done(&format!("show {what} --json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("show {what} --json: {e}\n{text}"))
    }

    /// The row of `show mac` of a MAC, if it is known.
    #[must_use]
    pub fn mac(&self, vni: u32, mac: &str) -> Option<Value> {
        self.show(&format!("mac --vni {vni}"))["rows"]
            .as_array()?
            .iter()
            .find(|row| row["mac"] == mac)
            .cloned()
    }

    /// The VTEP that `mac` is behind; `None` if it is unknown or local.
    #[must_use]
    pub fn remote_mac(&self, vni: u32, mac: &str) -> Option<String> {
        self.mac(vni, mac)?["vtep"].as_str().map(str::to_owned)
    }

    /// The VTEPs that VNI `vni` floods to.
    #[must_use]
    pub fn flood(&self, vni: u32) -> Vec<String> {
        let shown = self.show(&format!("flood --vni {vni}"));
        let list = shown["rows"][0]["vteps"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        // Shown in the order in which they were learned.
        let mut vteps: Vec<_> = list
            .iter()
            .filter_map(|vtep| vtep.as_str().map(str::to_owned))
            .collect();
        vteps.sort();
        vteps
    }

    /// How many frames were dropped for `reason` so far, in total.
    #[must_use]
    pub fn drops(&self, reason: &str) -> u64 {
        find_number(&self.show("drops --by reason"), reason)
    }

    /// Waits until exactly `more` frames were dropped for `reason` since `before` was read.
    ///
    /// # Panics
    /// If they are not counted within 5 s.
    pub fn expect_drops(&self, reason: &str, before: u64, more: u64) {
        wait_for(&format!("{more} more drops for {reason}"), 5, || {
            (self.drops(reason) >= before + more).then_some(())
        });
        assert_eq!(self.drops(reason), before + more, "drops for {reason}");
    }

    /// Runs `work` while vtepd is stopped, so that it sees everything at once.
    pub fn while_stopped(&self, work: impl FnOnce()) {
        self.program.signal(Signal::STOP);
        work();
        self.program.signal(Signal::CONT);
    }

    /// Sends SIGTERM; vtepd must exit with status 0.
    ///
    /// # Panics
    /// If it exits with another status, or not within 10 s.
    pub fn stop(mut self) {
        self.program.signal(Signal::TERM);
        let status = self.program.wait(10);
        assert!(
            status.success(),
            "vtepd exited with {status} after SIGTERM:\n{}",
            self.program.log()
        );
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.program.signal(Signal::KILL);
        self.program.wait(10);
    }
}

/// Runs `vtepd --check` on a configuration.
///
/// # Panics
/// If the file cannot be written.
#[must_use]
pub fn check(ns: &Netns, config: &str) -> Output {
    let scratch = Scratch::new(ns);
    let file = scratch.path().join("vtepd.toml");
    std::fs::write(&file, config).expect("the scratch directory can be written");
    let program = binary("vtepd");
    let path = |p: &Path| p.to_str().expect("ASCII").to_owned();
    ns.try_run_for(30, &[&path(&program), "--config", &path(&file), "--check"])
}

/// Runs vtepd with the configuration file of a running one, as a second instance; returns its
/// output when it exits.
#[must_use]
pub fn second_instance(ns: &Netns, first: &Vtepd) -> Output {
    let (program, file) = (binary("vtepd"), first.config());
    ns.try_run_for(
        30,
        &[
            program.to_str().expect("ASCII"),
            "--config",
            file.to_str().expect("ASCII"),
        ],
    )
}

/// The number at `key` in a JSON document that contains `{"<key>": n}` or `{"reason": "<key>",
/// "frames": n}` at any depth; else 0.
fn find_number(value: &Value, key: &str) -> u64 {
    match value {
        Value::Array(all) => all.iter().map(|v| find_number(v, key)).sum(),
        Value::Object(map) if map.get("reason").and_then(Value::as_str) == Some(key) => {
            map.values().find_map(Value::as_u64).unwrap_or(0)
        }
        Value::Object(map) => match map.get(key).and_then(Value::as_u64) {
            Some(number) => number,
            None => map.values().map(|v| find_number(v, key)).sum(),
        },
        _ => 0,
    }
}

fn write_config(dir: &Path, config: &Config) {
    let mut text = format!(
        "[control]\nsocket = \"{}\"\n",
        dir.join("control.sock").display()
    );
    write!(text, "{}{}", config.control_lines(), config.text())
        .expect("writing to a string cannot fail");
    std::fs::write(dir.join("vtepd.toml"), text).expect("the scratch directory can be written");
}

fn launch(ns: &Netns, dir: &Path) -> Program {
    let program = binary("vtepd");
    let file = dir.join("vtepd.toml");
    let words = [
        program.to_str().expect("ASCII"),
        "--config",
        file.to_str().expect("ASCII"),
    ];
    Program::start(ns, dir, &words)
}

/// The path of a program of the workspace: in `$VTEP_BIN`, else in the target directory of the
/// tests, built first.
///
/// # Panics
/// If the build fails.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("VTEP_BIN") {
            return PathBuf::from(dir);
        }
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let cargo = [
            "cargo",
            "build",
            "--quiet",
            "--manifest-path",
            manifest,
            "-p",
            "vtep-control",
            "--bins",
        ];
        must(&command(600, &cargo), "cargo build -p vtep-control");
        let test = std::env::current_exe().expect("a running program has a path");
        test.ancestors()
            .nth(2)
            .expect("target/<profile>/deps/<test>")
            .to_path_buf()
    });
    dir.join(name)
}
