//! Properties of the machine that figures were measured on.

use std::fs;

use serde::Serialize;

use crate::clock;
use crate::cores;

/// The machine that a figure depends on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Usable cores.
    pub cores: usize,
    /// Measured clock of a core, GHz; absent where it can't be measured.
    pub core_ghz: Option<f64>,
    /// Caches of the first core: "L1 32K Data" and so on.
    pub caches: Vec<String>,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// True under a hypervisor.
    pub virtual_machine: bool,
    /// Load average of the minute before the run: other load on the machine distorts figures.
    pub load: f64,
    /// The time of the run, seconds since 1970.
    pub time: u64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The value of the first line `key: value`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn caches() -> Vec<String> {
    let place = |i: usize, name: &str| {
        read(&format!(
            "/sys/devices/system/cpu/cpu0/cache/index{i}/{name}"
        ))
    };
    (0..8)
        .map(|i| (place(i, "level"), place(i, "size"), place(i, "type")))
        .take_while(|(level, ..)| !level.is_empty())
        .map(|(level, size, kind)| format!("L{level} {size} {kind}"))
        .collect()
}

impl Machine {
    /// Reads the properties of this machine.
    #[must_use]
    pub fn look() -> Self {
        let cpu = read("/proc/cpuinfo");
        let memory = read("/proc/meminfo");
        let kib = value(&memory, "MemTotal").and_then(|m| m.split(' ').next()?.parse::<u64>().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            cpu: value(&cpu, "model name").unwrap_or("unknown").to_owned(),
            cores: cores::count(),
            core_ghz: clock::core_ghz(),
            caches: caches(),
            memory_mib: kib.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            virtual_machine: value(&cpu, "flags")
                .is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or(f64::NAN),
            time: now.map_or(0, |t| t.as_secs()),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ghz = self
            .core_ghz
            .map_or_else(|| "clock unknown".to_owned(), |ghz| format!("{ghz:.2} GHz"));
        let place = if self.virtual_machine {
            "virtual machine"
        } else {
            "bare metal"
        };
        write!(
            f,
            "{}, {} cores, {ghz}, {}, {} MiB, Linux {}, {place}, load {}",
            self.cpu,
            self.cores,
            self.caches.join(", "),
            self.memory_mib,
            self.kernel,
            self.load
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: A core: fast\nflags\t: fpu hypervisor\n";
        assert_eq!(value(text, "model name"), Some("A core: fast"));
        assert_eq!(value(text, "vendor"), None);
    }

    #[test]
    fn this_machine_has_a_core_and_a_kernel() {
        let machine = Machine::look();
        assert!(machine.cores >= 1);
        assert!(!machine.kernel.is_empty());
    }
}
