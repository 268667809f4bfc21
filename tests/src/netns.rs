//! Network namespaces with unique names, and commands in them.

use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Default time limit for an external command, seconds.
const LIMIT: u32 = 60;

/// Deadlines are multiplied by this factor: the tests state what an idle machine needs, and a
/// longer deadline costs nothing when the test passes.
const PATIENCE: u64 = 4;

/// A network namespace; dropping it kills every process in it and deletes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates a namespace named `vt-<pid>-<n>-<label>` with its loopback up and without autonomous
    /// IPv6 traffic.
    ///
    /// # Panics
    /// If `ip netns add` fails (not root, or no network namespaces in this kernel).
    #[must_use]
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep_once();
        let name = format!(
            "vt-{}-{}-{label}",
            std::process::id(),
            NEXT.fetch_add(1, Relaxed)
        );
        must(
            &command(LIMIT, &["ip", "netns", "add", &name]),
            &format!("ip netns add {name}"),
        );
        let ns = Self { name };
        ns.ip("link set lo up");
        ns.sysctl("net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0");
        ns.sysctl("net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.autoconf=0");
        // Echo requests are sent from ping sockets (icmp(7)).
        ns.inside(|| std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"))
            .expect("a kernel with ping sockets");
        ns
    }

    /// Runs `work` on a thread in the namespace and returns its result. Sockets that it opens
    /// remain in the namespace.
    ///
    /// # Panics
    /// If `work` panics, or this process may not enter the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = std::fs::File::open(path).expect("the namespace was created");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the tests run as root");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip -n NS <args>`, which must succeed; returns its standard output.
    ///
    /// # Panics
    /// If the command fails.
    #[expect(
        clippy::must_use_candidate,
        reason = "most callers want only the effect"
    )]
    pub fn ip(&self, args: &str) -> String {
        let mut words = vec!["ip", "-n", &self.name];
        words.extend(args.split_whitespace());
        must(
            &command(LIMIT, &words),
            &format!("ip -n {} {args}", self.name),
        )
    }

    /// Runs a command line (split at blanks) in the namespace, which must succeed; returns its
    /// standard output.
    ///
    /// # Panics
    /// If the command fails.
    #[expect(
        clippy::must_use_candidate,
        reason = "most callers want only the effect"
    )]
    pub fn run(&self, line: &str) -> String {
        must(&self.try_run(line), &format!("in {}: {line}", self.name))
    }

    /// Runs a command line in the namespace, regardless of its exit status; 124 means that it took
    /// longer than a minute.
    #[must_use]
    pub fn try_run(&self, line: &str) -> Output {
        self.try_run_for(LIMIT, &line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `words` in the namespace for at most `seconds`, regardless of the exit status.
    #[must_use]
    pub fn try_run_for(&self, seconds: u32, words: &[&str]) -> Output {
        let mut all = vec!["ip", "netns", "exec", &self.name];
        all.extend(words);
        command(seconds, &all)
    }

    /// Sets kernel parameters, `key=value` each.
    ///
    /// # Panics
    /// If one does not exist.
    pub fn sysctl(&self, settings: &str) {
        self.run(&format!("sysctl -q -w {settings}"));
    }

    /// The properties of a link, as printed by `ip -d -j link show`.
    ///
    /// # Panics
    /// If there is no such link.
    #[must_use]
    pub fn link(&self, name: &str) -> serde_json::Value {
        let json = self.ip(&format!("-d -j link show dev {name}"));
        let mut all: Vec<serde_json::Value> =
            serde_json::from_str(&json).expect("ip -j prints JSON");
        all.remove(0)
    }

    /// The MAC address of a link, as text.
    ///
    /// # Panics
    /// If there is no such link.
    #[must_use]
    pub fn mac(&self, name: &str) -> String {
        self.link(name)["address"]
            .as_str()
            .expect("an Ethernet link")
            .to_owned()
    }

    /// Process IDs in the namespace.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let out = command(LIMIT, &["ip", "netns", "pids", &self.name]);
        String::from_utf8_lossy(&out.stdout)
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Kills the processes in the namespace `name` (all of them belong to tests) and deletes it.
fn delete(name: &str) {
    let pids = command(LIMIT, &["ip", "netns", "pids", name]);
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        let _ = command(5, &["kill", "-KILL", pid]);
    }
    let _ = command(LIMIT, &["ip", "netns", "del", name]);
}

/// Deletes, once per process, the namespaces of earlier test processes that were killed before they
/// could do so.
fn sweep_once() {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(|| {
        let list =
            String::from_utf8_lossy(&command(LIMIT, &["ip", "netns", "list"]).stdout).into_owned();
        for name in list
            .lines()
            .filter_map(|line| line.split_whitespace().next())
        {
            let Some(owner) = name
                .strip_prefix("vt-")
                .and_then(|rest| rest.split('-').next())
            else {
                continue;
            };
            if owner.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(owner).exists() {
                delete(name);
            }
        }
    });
}

/// Runs `words` for at most `seconds` (then TERM, and KILL two seconds later; exit status 124).
///
/// # Panics
/// If `timeout` from coreutils cannot be started.
#[must_use]
pub fn command(seconds: u32, words: &[&str]) -> Output {
    Command::new("timeout")
        .args(["--kill-after=2", &seconds.to_string()])
        .args(words)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("timeout (coreutils) is installed: run scripts/setup")
}

/// The standard output of a command that must have succeeded.
///
/// # Panics
/// If it failed; the message has the command and its output.
#[expect(
    clippy::must_use_candidate,
    reason = "most callers want only the check"
)]
pub fn must(output: &Output, what: &str) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: {}\n{out}{err}",
        output.status
    );
    out
}

/// Polls every 20 ms until `ready` returns a value, for at most `seconds` times [`PATIENCE`].
///
/// # Panics
/// When the time has passed; the message names `what` was expected.
pub fn wait_for<T>(what: &str, seconds: u64, mut ready: impl FnMut() -> Option<T>) -> T {
    let seconds = PATIENCE * seconds;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(
            std::time::Instant::now() < end,
            "timeout after {seconds} s, waiting for: {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
