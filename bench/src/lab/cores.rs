//! Which core a thread runs on, and how much of it it uses.

use crate::row::Failure;
use std::fs;
use std::time::Duration;

/// Pins the calling thread to the `place`-th core that this process may use, counted round when there are fewer.
/// A thread that can't be pinned runs where the kernel puts it.
pub fn pin(place: usize) {
    let Some(cores) = core_affinity::get_core_ids().filter(|cores| !cores.is_empty()) else { return };
    core_affinity::set_for_current(cores[place % cores.len()]);
}

/// Time that a thread or process spent on a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// In user space.
    pub user: Duration,
    /// In the kernel, with interrupts that it was charged for.
    pub kernel: Duration,
}

/// Length of a clock tick in /proc (`USER_HZ`), which is 100 a second on every Linux architecture.
const TICK: Duration = Duration::from_millis(10);

impl Spent {
    /// What `path`, a `stat` file below /proc, says: proc_pid_stat(5), fields 14 and 15.
    ///
    /// # Errors
    /// [`Failure`] when the thread is gone.
    pub fn read(path: &str) -> Result<Self, Failure> {
        let stat = fs::read_to_string(path).map_err(Failure::of(path))?;
        parse(&stat).ok_or_else(|| Failure::new(format!("{path}: {stat:?} is no stat line")))
    }

    /// What was spent since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            kernel: self.kernel.saturating_sub(before.kernel),
        }
    }
}

fn parse(stat: &str) -> Option<Spent> {
    // The second field is the program's name in parentheses, and may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|ticks| ticks.parse::<u32>().ok());
    Some(Spent { user: TICK * times.next()??, kernel: TICK * times.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 30 0 0 20 0 1 0 5 0 0";
        let spent = parse(stat).unwrap();
        assert_eq!((spent.user.as_millis(), spent.kernel.as_millis()), (2500, 300));
        assert!(Spent::read("/proc/self/stat").is_ok());
        assert!(Spent::read("/proc/self/no-stat").is_err());
    }
}
