//! Programs in namespaces: start, wait, log, and stop by their own process ID.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::netns::{Netns, wait_for};

/// A running program with its log. Dropping it kills its process group, and prints the log if the
/// test has failed.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where its own output starts in the log, which an earlier program of the same name may have
    /// written to.
    from: u64,
}

/// A command that runs `words` in `ns`, in its own process group, and is killed when the test dies.
#[must_use]
pub fn command_in(ns: &Netns, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "ip", "netns", "exec", ns.name()])
        .args(words)
        .process_group(0);
    command
}

impl Program {
    /// Starts `words` in `ns`; standard output and error go to a log in `dir`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(ns: &Netns, dir: &Path, words: &[&str]) -> Self {
        Self::start_in(ns, None, dir, words)
    }

    /// As [`Program::start`], with `root` as its root directory, if there is one.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_in(ns: &Netns, root: Option<&Path>, dir: &Path, words: &[&str]) -> Self {
        let name = Path::new(words[0])
            .file_name()
            .map_or(words[0].into(), |n| n.to_string_lossy().into_owned());
        let change = root.map(|root| ["chroot", root.to_str().expect("ASCII")]);
        let words = &[change.as_ref().map_or(&[][..], |change| change), words].concat();
        let log = dir.join(format!("{name}.{}.log", ns.name()));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be written");
        let from = file.metadata().map_or(0, |m| m.len());
        let child = command_in(ns, words)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be cloned"))
            .stderr(file)
            .spawn()
            .expect("setpriv (util-linux) is installed: run scripts/setup");
        Self {
            name,
            child,
            log,
            from,
        }
    }

    /// Its process ID: `ip netns exec` and `setpriv` execute the program in the same process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The time that its threads whose names begin with `prefix` have run, and that they have waited
    /// for a CPU while they could run (Documentation/scheduler/sched-stats.rst).
    ///
    /// # Panics
    /// If it has ended, or the kernel keeps no such times (`CONFIG_SCHED_INFO`).
    #[must_use]
    pub fn run_and_wait(&self, prefix: &str) -> [Duration; 2] {
        let tasks = format!("/proc/{}/task", self.pid());
        let mut sum = [Duration::ZERO; 2];
        for task in std::fs::read_dir(tasks).expect("it runs") {
            let task = task.expect("it runs").path();
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            if !name.starts_with(prefix) {
                continue;
            }
            let text = std::fs::read_to_string(task.join("schedstat")).expect("CONFIG_SCHED_INFO");
            for (sum, nanoseconds) in sum.iter_mut().zip(text.split(' ')) {
                *sum += Duration::from_nanos(nanoseconds.parse().expect("a number"));
            }
        }
        sum
    }

    /// Its output so far.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.from).unwrap_or(0).min(text.len());
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    /// If it exits first, or does not print it within `seconds`.
    pub fn wait_for_output(&mut self, text: &str, seconds: u64) {
        self.wait_until(&format!("\"{text}\""), seconds, |p| p.log().contains(text));
    }

    /// Waits until `ready` holds.
    ///
    /// # Panics
    /// If the program exits first, or `seconds` pass.
    pub fn wait_until(&mut self, what: &str, seconds: u64, ready: impl Fn(&Self) -> bool) {
        let name = self.name.clone();
        wait_for(&format!("{name}: {what}"), seconds, || {
            if ready(self) {
                return Some(());
            }
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                panic!("{name} exited ({status}) before: {what}");
            }
            None
        });
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.id() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it exits.
    ///
    /// # Panics
    /// If it still runs after `seconds`.
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let name = format!("the end of {}", self.name);
        wait_for(&name, seconds, || {
            self.child.try_wait().expect("a child of this process")
        })
    }

    /// Sends SIGTERM and returns the exit status.
    ///
    /// # Panics
    /// If it still runs 10 s later.
    #[expect(
        clippy::must_use_candidate,
        reason = "callers may only want it stopped"
    )]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(10)
    }

    /// Sends SIGKILL and reaps the process.
    ///
    /// # Panics
    /// If it does not exit.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(10);
    }

    fn id(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if let Some(pid) = self.id() {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(80);
            eprintln!(
                "--- {} (pid {}), last lines of {}",
                self.name,
                self.child.id(),
                self.log.display()
            );
            log.lines()
                .skip(from)
                .for_each(|line| eprintln!("    {line}"));
        }
    }
}

/// A temporary directory, removed when the test passes, and kept when it fails; then its path is
/// printed.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory below the system's temporary one.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    pub fn new(ns: &Netns) -> Self {
        Self::below(&std::env::temp_dir(), ns)
    }

    /// A new directory below `parent`.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    pub fn below(parent: &Path, ns: &Netns) -> Self {
        let path = parent.join(ns.name());
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- kept: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
