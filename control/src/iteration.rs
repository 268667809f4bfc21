//! What the control thread spends its time on: the parts of each turn of the daemon's loop, and those
//! of the longest turn, for `show status` and the metrics.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A part of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IterationPart {
    /// Clients of the control socket, with the changes that they request, and reload at SIGHUP.
    Clients,
    /// Scrapes of the metrics.
    Metrics,
    /// BGP: messages read, what their routes change, messages queued and sent.
    Sessions,
    /// What follows for the tables, and their publication.
    Tables,
    /// Hosts learned from frames, and entries that age.
    Hosts,
    /// Links, addresses, neighbors and routes of the host; interfaces, their queues and sockets.
    Underlay,
}

impl IterationPart {
    /// All, in the order of [`IterationTimes::parts`].
    pub const ALL: [Self; 6] = [
        Self::Clients,
        Self::Metrics,
        Self::Sessions,
        Self::Tables,
        Self::Hosts,
        Self::Underlay,
    ];

    /// A stable kebab-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Metrics => "metrics",
            Self::Sessions => "sessions",
            Self::Tables => "tables",
            Self::Hosts => "hosts",
            Self::Underlay => "underlay",
        }
    }
}

/// How long something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time that passed.
    pub wall: Duration,
    /// Time that the thread ran: less when it waited for a lock of the kernel, or for a core.
    pub cpu: Duration,
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// The parts of one turn.
#[derive(Debug, Clone, Copy, Default)]
pub struct IterationTimes {
    /// In the order of [`IterationPart::ALL`].
    pub parts: [Spent; IterationPart::ALL.len()],
}

impl IterationTimes {
    /// The whole turn.
    #[must_use]
    pub fn total(&self) -> Spent {
        let mut total = Spent::default();
        self.parts.iter().for_each(|part| total.add(*part));
        total
    }

    /// The part that took longest.
    #[must_use]
    pub fn longest_part(&self) -> (IterationPart, Spent) {
        let parts = IterationPart::ALL.into_iter().zip(self.parts);
        // There are parts.
        parts
            .max_by_key(|(_, spent)| spent.wall)
            .unwrap_or((IterationPart::Clients, Spent::default()))
    }
}

/// The clocks of [`Spent`].
#[derive(Debug, Clone, Copy)]
struct Clocks {
    wall: Instant,
    cpu: Duration,
}

impl Clocks {
    fn now() -> Self {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        Self {
            wall: Instant::now(),
            cpu: Duration::new(
                u64::try_from(cpu.tv_sec).unwrap_or(0),
                u32::try_from(cpu.tv_nsec).unwrap_or(0),
            ),
        }
    }

    fn since(&self, earlier: &Self) -> Spent {
        Spent {
            wall: self.wall.saturating_duration_since(earlier.wall),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }
}

/// Measures turns. The parts of a turn are measured from one call to the next.
#[derive(Debug)]
pub struct IterationClock {
    last: Clocks,
    current: IterationTimes,
    longest: IterationTimes,
}

impl Default for IterationClock {
    fn default() -> Self {
        Self {
            last: Clocks::now(),
            current: IterationTimes::default(),
            longest: IterationTimes::default(),
        }
    }
}

impl IterationClock {
    /// A turn begins.
    pub fn begin(&mut self) {
        self.current = IterationTimes::default();
        self.last = Clocks::now();
    }

    /// What was done since the last call was this part.
    pub fn end_part(&mut self, part: IterationPart) {
        let now = Clocks::now();
        self.current.parts[part as usize].add(now.since(&self.last));
        self.last = now;
    }

    /// The turn is over.
    pub fn end(&mut self) {
        if self.current.total().wall > self.longest.total().wall {
            self.longest = self.current;
        }
    }

    /// The parts of the last turn.
    #[must_use]
    pub const fn last(&self) -> &IterationTimes {
        &self.current
    }

    /// The parts of the longest turn since the start.
    #[must_use]
    pub const fn longest(&self) -> &IterationTimes {
        &self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_the_order_of_their_numbers() {
        for (number, part) in IterationPart::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, number);
        }
    }

    #[test]
    fn the_longest_turn_is_kept_with_its_parts() {
        let mut clock = IterationClock::default();
        let mut turn = |parts: &[(IterationPart, u64)]| {
            clock.begin();
            for (part, ms) in parts {
                std::thread::sleep(Duration::from_millis(*ms));
                clock.end_part(*part);
            }
            clock.end();
            clock.longest().longest_part()
        };
        turn(&[(IterationPart::Clients, 5), (IterationPart::Sessions, 30)]);
        let (part, spent) = turn(&[(IterationPart::Tables, 1)]);
        assert_eq!(part, IterationPart::Sessions);
        assert!(spent.wall >= Duration::from_millis(30), "{spent:?}");
        assert!(spent.cpu < Duration::from_millis(30), "it slept: {spent:?}");
        let times = clock.longest();
        assert!(times.total().wall >= Duration::from_millis(35), "{times:?}");
        assert!(clock.last().total().wall < times.total().wall);
    }
}
