//! Programs beside the bench: the daemon that is measured, and a guest behind a tap.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::net::{Namespace, run};
use crate::row::Failure;

/// The time within which a program must be ready, or gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of this process, removed when it is dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("vtbench-{process}-{number}"));
        fs::create_dir_all(&path).map_err(Failure::of(path.display()))?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A temporary directory that remains does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child process, stopped when it is dropped.
#[derive(Debug)]
struct Running(Child);

impl Running {
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !self.has_ended()) {
            // Only a process that has ended meanwhile can't be signaled.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.has_ended() {
            // It ignored SIGTERM; if it ends before this, nothing is left to do.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// `program` in `namespace`; it ends with this process.
fn within(namespace: &Namespace, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "ip",
        "netns",
        "exec",
        namespace.name(),
    ]);
    command.arg(program).stdin(Stdio::null());
    command
}

/// A running vtepd: the program beside this one, as it is installed.
#[derive(Debug)]
pub struct Daemon {
    // Stopped before its directory is removed.
    _running: Running,
    control: PathBuf,
    scratch: Scratch,
}

impl Daemon {
    /// Starts it in `namespace` with `config`, which has no table `[control]`, and waits until it
    /// answers.
    ///
    /// # Errors
    /// [`Failure`] with its output, if it can't be started or exits.
    pub fn start(namespace: &Namespace, config: &str) -> Result<Self, Failure> {
        let (program, control) = (beside("vtepd")?, beside("vtepctl")?);
        let scratch = Scratch::new()?;
        let (file, log) = (scratch.file("vtepd.toml"), scratch.file("log"));
        let socket = scratch.file("control.sock");
        let text = format!("[control]\nsocket = {socket:?}\n{config}");
        fs::write(&file, text).map_err(Failure::of(file.display()))?;
        let output = fs::File::create(&log).map_err(Failure::of(log.display()))?;
        let child = within(namespace, &program)
            .arg("--config")
            .arg(&file)
            .stdout(output.try_clone().map_err(Failure::of(log.display()))?)
            .stderr(output)
            .spawn()
            .map_err(Failure::of("starting vtepd with setpriv (util-linux)"))?;
        let mut daemon = Self {
            _running: Running(child),
            control,
            scratch,
        };
        let deadline = Instant::now() + PATIENCE;
        while daemon.show("status").is_err() {
            if daemon._running.has_ended() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!("vtepd does not start: {said}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// The output of `vtepctl show WHAT --json`.
    ///
    /// # Errors
    /// [`Failure`] if vtepd does not answer.
    pub fn show(&self, what: &str) -> Result<serde_json::Value, Failure> {
        let socket = self.scratch.file("control.sock");
        let control = self.control.to_string_lossy();
        let arguments = format!("--socket {} show {what} --json", socket.display());
        serde_json::from_str(&run(&control, &arguments)?).map_err(Failure::of(what))
    }

    /// Frames that it dropped so far, by reason; empty if none.
    ///
    /// # Errors
    /// [`Failure`] if vtepd does not answer.
    pub fn drops(&self) -> Result<String, Failure> {
        let shown = self.show("drops --by reason")?;
        let rows = shown["rows"].as_array().map_or(&[][..], Vec::as_slice);
        let dropped = rows.iter().filter_map(|row| {
            let count = row["count"].as_u64()?;
            (count > 0).then(|| format!("{} {count}", row["reason"].as_str().unwrap_or("?")))
        });
        Ok(dropped.collect::<Vec<_>>().join(", "))
    }
}

/// The path of a program in the directory of this one; for a test of the bench, one above.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(Failure::of("/proc/self/exe"))?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let directory = own.parent().unwrap_or(&own).display();
            Failure::new(format!(
                "{name} is not in {directory}: cargo build --release -p vtep-control"
            ))
        })
}

/// The source of the program that stands for QEMU.
const GUEST: &str = include_str!("../../../tests/tools/guest.c");

/// A guest whose `eth0` is a virtio NIC, as far as the host can tell: a program copies superframes
/// with their virtio-net headers between it and a tap of the host.
#[derive(Debug)]
pub struct Guest(#[expect(dead_code, reason = "it is stopped when this is dropped")] Running);

impl Guest {
    /// Gives `guest` an interface `inside` behind the tap `outside` of `host`, with `queues` queues.
    /// Both are down.
    ///
    /// # Errors
    /// [`Failure`] if the program can't be compiled (cc) or the taps can't be created.
    pub fn start(
        guest: (&Namespace, &str),
        host: (&Namespace, &str),
        queues: u32,
    ) -> Result<Self, Failure> {
        let scratch = Scratch::new()?;
        let (source, program) = (scratch.file("guest.c"), scratch.file("guest"));
        fs::write(&source, GUEST).map_err(Failure::of(source.display()))?;
        let (from, to) = (source.display(), program.display());
        run("cc", &format!("-O2 -pthread -o {to} {from}"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&program)
            .args([guest.0.name(), guest.1, host.0.name(), host.1])
            .arg(queues.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::of("starting the guest"))?;
        let mut running = Running(child);
        let mut line = String::new();
        if let Some(output) = running.0.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(Failure::of("the guest"))?;
        }
        match line.trim() {
            "ready" => Ok(Self(running)),
            _ => Err(Failure::new("the guest ended before it was ready")),
        }
    }
}
