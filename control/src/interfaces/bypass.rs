//! Drivers that stop running the XDP program although it stays attached: vmxnet3 does when its link
//! was down or its MTU or rings were changed (Linux 7.3). The guard on the host's ingress drops what
//! such a driver passes on, and counts it; attaching the program again makes the driver run it.

use std::time::Instant;

use super::repeated_looks::{LOOKS, LastLook};
use super::{InterfaceState, Interfaces};
use crate::config::InterfaceName;
use crate::workers::Workers;

/// What has passed the program of an open interface by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BypassWatch {
    /// The frames counted.
    last: LastLook<u64>,
    /// Looks in a row that have seen more.
    growing: u32,
}

impl BypassWatch {
    /// Looks at the count. Returns whether the driver does not run the program.
    fn look(&mut self, count: u64, now: Instant) -> bool {
        let Some(before) = self.last.replace(count, now) else {
            return false;
        };
        self.growing = if count > before { self.growing + 1 } else { 0 };
        self.growing >= LOOKS
    }
}

impl Interfaces {
    /// Attaches the program of an open interface again when its driver does not run it. Returns
    /// whether it did.
    pub(super) fn end_bypass(
        &mut self,
        name: &InterfaceName,
        workers: &mut Workers,
        now: Instant,
    ) -> bool {
        let Some(managed) = self.managed.get_mut(name) else {
            return false;
        };
        let InterfaceState::Open(open) = &mut managed.state else {
            return false;
        };
        let count = open
            .backend
            .drops()
            .iter()
            .map(|queue| queue.bypassed)
            .sum();
        if !open.bypass.look(count, now) || !managed.may_open_again(now) {
            return false;
        }
        tracing::warn!(
            interface = %name,
            frames = count,
            "the driver passes frames to the host without running the XDP program; it is attached again"
        );
        self.close_to_reopen(name, workers) | self.try_open(name, workers, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_at_two_looks_in_a_row_are_a_bypass() {
        let (mut watch, start) = (BypassWatch::default(), Instant::now());
        // Looks at 0, 1, 2 ... s.
        let seen: Vec<bool> = [5, 9, 9, 12, 12, 13, 14, 15]
            .into_iter()
            .zip(0..)
            .map(|(count, second)| watch.look(count, start + Duration::from_secs(second)))
            .collect();
        assert_eq!(seen, [false, false, false, false, false, false, true, true]);
    }

    #[test]
    fn looks_at_once_count_as_one() {
        let (mut watch, start) = (BypassWatch::default(), Instant::now());
        assert!(!watch.look(0, start));
        for count in 1..10 {
            let now = start + Duration::from_secs(1) + Duration::from_millis(count);
            assert!(!watch.look(count, now), "{count}");
        }
        assert!(watch.look(20, start + Duration::from_secs(2)));
    }
}
