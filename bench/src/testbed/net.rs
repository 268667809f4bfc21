//! Network namespaces, and `ip` and `bridge` in them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::{
    CpuSet, LinkNameSpaceType, Pid, move_into_link_name_space, sched_setaffinity,
};

use crate::row::Failure;

/// Prefix of the namespaces of vtep-bench; the ID of the process that created it follows.
const PREFIX: &str = "vtbench-";

/// Where `ip netns` keeps the names.
const NETNS: &str = "/run/netns";

/// Runs a program and waits for it; its arguments are separated by spaces.
///
/// # Errors
/// [`Failure`] with the command line and its output.
pub fn run(program: &str, arguments: &str) -> Result<String, Failure> {
    run_arguments(program, &arguments.split_whitespace().collect::<Vec<_>>())
}

fn run_arguments(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|why| Failure::new(format!("{line}: {why}; is {program} installed?")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{line}: {}; this needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN)",
        said.trim()
    )))
}

/// The NAPI threads of interfaces with this name, in any namespace.
fn napi_threads(interface: &str) -> Result<Vec<i32>, Failure> {
    let name = format!("napi/{interface}-");
    let is_one = |id: &i32| {
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.starts_with(&name))
    };
    let processes = fs::read_dir("/proc").map_err(Failure::of("/proc"))?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(ids.filter(is_one).collect())
}

/// A network namespace, deleted when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates `vtbench-PID-SUFFIX`, with its loopback up.
    ///
    /// # Errors
    /// [`Failure`] if it can't be created.
    pub fn new(suffix: &str) -> Result<Self, Failure> {
        let name = format!("{PREFIX}{}-{suffix}", std::process::id());
        run("ip", &format!("netns add {name}"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in the namespace.
    ///
    /// # Errors
    /// [`Failure`] with the output of `ip`.
    pub fn ip(&self, arguments: &str) -> Result<String, Failure> {
        run("ip", &format!("-n {} {arguments}", self.name))
    }

    /// Writes `value` to a file of the namespace's /proc/sys or /sys.
    ///
    /// # Errors
    /// [`Failure`] when it can't be written.
    pub fn write(&self, path: &str, value: &str) -> Result<(), Failure> {
        let script = format!("echo {value} > {path}");
        run_arguments("ip", &["netns", "exec", &self.name, "sh", "-c", &script]).map(drop)
    }

    /// Moves the calling thread into this namespace permanently. Threads that it starts are in it
    /// too.
    ///
    /// # Errors
    /// [`Failure`] if the kernel refuses.
    pub fn enter(&self) -> Result<(), Failure> {
        let path = format!("{NETNS}/{}", self.name);
        let file = File::open(&path).map_err(Failure::of(&path))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(Failure::of(&path))
    }

    /// Runs `work` on a new thread in the namespace.
    ///
    /// # Errors
    /// [`Failure`] of entering the namespace, or of `work`.
    pub fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().and_then(|()| work()));
            inside
                .join()
                .unwrap_or_else(|_| Err(Failure::new("a thread of the bench panicked")))
        })
    }

    /// Makes a kernel thread pinned to `core` receive for `interface` (threaded NAPI,
    /// Documentation/networking/napi.rst); `None` = softirqs of the sender's core. The interface
    /// must have NAPI: on veth, GRO or XDP. Returns the threads.
    ///
    /// # Errors
    /// [`Failure`] if the kernel has no threaded NAPI or the thread can't be found.
    pub fn receive_on(&self, interface: &str, core: Option<usize>) -> Result<Vec<i32>, Failure> {
        let (path, before) = (
            format!("/sys/class/net/{interface}/threaded"),
            napi_threads(interface)?,
        );
        let Some(core) = core else {
            return self.write(&path, "0").map(|()| Vec::new());
        };
        self.write(&path, "1")?;
        let started: Vec<_> = napi_threads(interface)?
            .into_iter()
            .filter(|t| !before.contains(t))
            .collect();
        if started.is_empty() {
            return Err(Failure::new(format!("{interface}: no NAPI thread")));
        }
        pin_receivers(&started, core)?;
        Ok(started)
    }

    /// Packets that `interface` has received, as the kernel counts them.
    ///
    /// # Errors
    /// [`Failure`] if there is no such interface.
    pub fn received(&self, interface: &str) -> Result<u64, Failure> {
        self.within(|| {
            let table =
                fs::read_to_string("/proc/thread-self/net/dev").map_err(Failure::of("net/dev"))?;
            rx_packets(&table, interface).ok_or_else(|| {
                Failure::new(format!("{interface}: no such interface in {}", self.name))
            })
        })
    }
}

/// Pins the threads of [`Namespace::receive_on`] to `core`.
///
/// # Errors
/// [`Failure`] if they have ended.
pub fn pin_receivers(threads: &[i32], core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    threads.iter().try_for_each(|thread| {
        let thread = Pid::from_raw(*thread);
        sched_setaffinity(thread, &cores).map_err(Failure::of("pinning a NAPI thread"))?;
        // Otherwise the generator, which never sleeps, would starve it.
        setpriority_process(thread, -20).map_err(Failure::of("priority of a NAPI thread"))
    })
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(why) = run("ip", &format!("netns del {}", self.name)) {
            eprintln!(
                "vtep-bench: {why}; remove it manually: ip netns del {}",
                self.name
            );
        }
    }
}

/// The second column of an interface's line in /proc/net/dev: bytes, packets, ...
fn rx_packets(table: &str, interface: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        (name.trim() == interface).then(|| figures.split_whitespace().nth(1)?.parse().ok())?
    })
}

/// Removes namespaces that a killed run left behind: those whose process no longer exists.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(NETNS) else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        if owner(&name).is_some_and(|pid| fs::metadata(format!("/proc/{pid}")).is_err()) {
            drop(Namespace { name });
        }
    }
}

/// The process that created a namespace of vtep-bench.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_the_whole_name() {
        let table = "Inter-| Receive\n face |bytes packets\n  ab1: 900 9 0\n   b1: 700 7 0\n";
        assert_eq!(rx_packets(table, "b1"), Some(7));
        assert_eq!(rx_packets(table, "1"), None);
    }

    #[test]
    fn only_names_of_vtep_bench_have_an_owner() {
        assert_eq!(owner("vtbench-77-sink"), Some(77));
        assert_eq!(owner("vtbench-x-sink"), None);
        assert_eq!(owner("other"), None);
    }

    #[test]
    fn a_namespace_is_deleted_when_it_is_dropped() {
        let path = {
            let namespace = Namespace::new("drop").unwrap();
            assert_eq!(namespace.received("lo").unwrap(), 0);
            assert!(namespace.received("eth9").is_err());
            format!("{NETNS}/{}", namespace.name())
        };
        assert!(fs::metadata(path).is_err());
    }
}
