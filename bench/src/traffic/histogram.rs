//! A histogram of latencies: 32 buckets for each power of two, so a percentile is off by 3% at
//! most.

/// Bits of a value that select the bucket within its power of two.
const FINE: u32 = 5;

/// Counts by value; recording neither allocates nor searches.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; ((65 - FINE) << FINE) as usize],
            total: 0,
        }
    }
}

fn bucket(value: u64) -> usize {
    let power = (63 - (value | 1).leading_zeros()).saturating_sub(FINE);
    ((u64::from(power) << FINE) + (value >> power)) as usize
}

fn highest(bucket: usize) -> u64 {
    let power = (bucket >> FINE).saturating_sub(1);
    let mantissa = (bucket - (power << FINE)) as u64;
    (mantissa << power) + ((1 << power) - 1)
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
    }

    /// How many values were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The value that `percent` of all values do not exceed; 0 if there are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = (self.total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest(place);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50.0), 0);
        (1..=100_000).for_each(|value| histogram.record(value));
        for (percent, value) in [
            (1.0, 1_000.0),
            (50.0, 50_000.0),
            (99.0, 99_000.0),
            (100.0, 100_000.0),
        ] {
            let found = histogram.percentile(percent) as f64;
            assert!(
                found >= value && found <= value * 1.04,
                "{percent}%: {found}"
            );
        }
    }

    #[test]
    fn every_value_has_a_bucket_that_holds_it() {
        for value in [
            0,
            1,
            31,
            32,
            33,
            63,
            64,
            65,
            1 << 40,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let top = highest(bucket(value));
            assert!(top >= value && top - value <= value / 32, "{value}: {top}");
        }
    }
}
