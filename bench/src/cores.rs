//! Which core a thread runs on, and how much CPU time it uses.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use core_affinity::CoreId;

use crate::row::Failure;

/// The cores of the process at the first call. A pinned thread, and each that it starts, sees only
/// the core that it is pinned to.
fn all() -> &'static [CoreId] {
    static ALL: OnceLock<Vec<CoreId>> = OnceLock::new();
    ALL.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Cores that this process may use, at least 1.
#[must_use]
pub fn count() -> usize {
    all().len().max(1)
}

/// Pins the calling thread to the `place`-th core that this process may use, modulo the number of
/// cores. A thread that can't be pinned runs where the kernel schedules it.
pub fn pin(place: usize) {
    if let Some(core) = all().get(place % count()) {
        core_affinity::set_for_current(*core);
    }
}

/// CPU time of a thread or process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// In user space.
    pub user: Duration,
    /// In the kernel, including interrupts charged to it.
    pub kernel: Duration,
}

/// Length of a clock tick in /proc (`USER_HZ`), which is 100 per second on every Linux
/// architecture.
const TICK: Duration = Duration::from_millis(10);

impl Spent {
    /// Reads `path`, a `stat` file below /proc: proc_pid_stat(5), fields 14 and 15.
    ///
    /// # Errors
    /// [`Failure`] if the thread has ended.
    pub fn read(path: &str) -> Result<Self, Failure> {
        let stat = fs::read_to_string(path).map_err(Failure::of(path))?;
        parse(&stat).ok_or_else(|| Failure::new(format!("{path}: invalid stat line {stat:?}")))
    }

    /// The time since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            kernel: self.kernel.saturating_sub(before.kernel),
        }
    }
}

fn parse(stat: &str) -> Option<Spent> {
    // The second field is the program's name in parentheses, and may contain spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields
        .split_whitespace()
        .skip(11)
        .map(|ticks| ticks.parse::<u32>().ok());
    Some(Spent {
        user: TICK * times.next()??,
        kernel: TICK * times.next()??,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_can_be_pinned_elsewhere() {
        let before = count();
        std::thread::spawn(move || {
            for place in 0..before {
                pin(place);
                assert_eq!(core_affinity::get_core_ids().unwrap(), [all()[place]]);
                assert_eq!(count(), before);
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 30 0 0 20 0 1 0 5 0 0";
        let spent = parse(stat).unwrap();
        assert_eq!(
            (spent.user.as_millis(), spent.kernel.as_millis()),
            (2500, 300)
        );
        assert!(Spent::read("/proc/self/stat").is_ok());
        assert!(Spent::read("/proc/self/no-stat").is_err());
    }
}
