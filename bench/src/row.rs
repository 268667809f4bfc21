//! A row: one thing that is measured, with its bar, its warm-up and its repetitions.
//!
//! ```text
//! Spec (name, unit, bar) --open--> Measure --once, once, ...--> Outcome --> report
//! ```

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

/// Why a row could not be measured: the thing, the value and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure that says `why`.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// Adds what was being done to the reason of an error.
    pub fn of<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |why| Self(format!("{what}: {why}"))
    }
}

/// What a row must reach. Compared with the median of its repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    /// The median may not be higher.
    AtMost(f64),
    /// The median may not be lower.
    AtLeast(f64),
    /// Shown, never judged.
    Report,
}

impl Bar {
    /// True when `figure` is good enough. A figure that is no number is not.
    #[must_use]
    pub fn is_reached(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
            Self::Report => figure.is_finite(),
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::Report => f.write_str("-"),
        }
    }
}

/// How much time to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Enough to see that a row works; its figures mean little.
    Quick,
    /// Enough for figures to be published.
    Full,
}

impl Effort {
    /// `quick` or `full`, whichever this is.
    #[must_use]
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// A row as it stands in the list of rows.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The name that `vtep-bench run` takes.
    pub name: &'static str,
    /// What is measured, in one sentence.
    pub measures: &'static str,
    /// The unit of the figure.
    pub unit: &'static str,
    /// What the median must reach.
    pub bar: Bar,
    /// Builds what is measured, and checks that its work is right.
    pub open: fn(Effort) -> Result<Box<dyn Measure>, Failure>,
}

/// Something built and ready to be measured again and again.
pub trait Measure {
    /// Measures once, in the row's unit.
    ///
    /// # Errors
    /// [`Failure`] when nothing could be measured or the work done was wrong.
    fn once(&mut self) -> Result<f64, Failure>;

    /// How often to measure without keeping the figure, and how often to keep it.
    fn plan(&self) -> Plan;

    /// What a reader must know to judge the figure: what was counted, what bounds it, its parts.
    fn notes(&self) -> Vec<String>;
}

/// Warm-up and repetitions.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Measurements that are thrown away, so that caches, tables and the core's clock settle.
    pub warm_ups: usize,
    /// Measurements that are kept; at least 1.
    pub repetitions: usize,
}

/// A measured row.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The row's name.
    pub name: &'static str,
    /// What is measured.
    pub measures: &'static str,
    /// Unit of the figures.
    pub unit: &'static str,
    /// What the median must reach.
    pub bar: Bar,
    /// Lowest figure.
    pub min: f64,
    /// The middle figure; the mean of the two middle ones when their number is even.
    pub median: f64,
    /// Highest figure.
    pub max: f64,
    /// Warm-up and repetitions.
    #[serde(flatten)]
    pub plan: Plan,
    /// True when the median reaches the bar.
    pub pass: bool,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

impl Spec {
    /// Builds, warms up, measures. Ends after the running repetition when `stop` is set.
    ///
    /// # Errors
    /// The first [`Failure`].
    pub fn run(&self, effort: Effort, stop: &AtomicBool) -> Result<Outcome, Failure> {
        let mut measure = (self.open)(effort)?;
        let plan = measure.plan();
        let mut once = || match stop.load(Relaxed) {
            false => measure.once(),
            true => Err(Failure::new("interrupted")),
        };
        for _ in 0..plan.warm_ups {
            once()?;
        }
        let mut figures = Vec::with_capacity(plan.repetitions);
        for _ in 0..plan.repetitions.max(1) {
            figures.push(once()?);
        }
        figures.sort_by(f64::total_cmp);
        let median = median(&figures);
        Ok(Outcome {
            name: self.name,
            measures: self.measures,
            unit: self.unit,
            bar: self.bar,
            min: figures[0],
            median,
            max: figures[figures.len() - 1],
            plan,
            pass: self.bar.is_reached(median),
            notes: measure.notes(),
        })
    }
}

/// The middle of sorted figures; not a number when there are none.
#[must_use]
pub fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => f64::NAN,
        _ if sorted.len() % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(f64);

    impl Measure for Counting {
        fn once(&mut self) -> Result<f64, Failure> {
            self.0 += 1.0;
            Ok(self.0)
        }

        fn plan(&self) -> Plan {
            Plan {
                warm_ups: 2,
                repetitions: 4,
            }
        }

        fn notes(&self) -> Vec<String> {
            vec![format!("{} calls", self.0)]
        }
    }

    fn spec(bar: Bar) -> Spec {
        Spec {
            name: "counting",
            measures: "calls",
            unit: "calls",
            bar,
            open: |_| Ok(Box::new(Counting(0.0))),
        }
    }

    #[test]
    fn warm_ups_are_discarded_and_the_median_is_judged() {
        let outcome = spec(Bar::AtMost(4.0))
            .run(Effort::Quick, &AtomicBool::new(false))
            .unwrap();
        assert_eq!((outcome.min, outcome.median, outcome.max), (3.0, 4.5, 6.0));
        assert!(!outcome.pass);
        assert_eq!(outcome.notes, ["6 calls"]);
        assert!(
            spec(Bar::AtLeast(4.5))
                .run(Effort::Quick, &AtomicBool::new(false))
                .unwrap()
                .pass
        );
    }

    #[test]
    fn an_interrupted_row_has_no_figure() {
        let why = spec(Bar::Report)
            .run(Effort::Quick, &AtomicBool::new(true))
            .unwrap_err();
        assert_eq!(why.to_string(), "interrupted");
    }

    #[test]
    fn a_figure_that_is_not_a_number_reaches_no_bar() {
        for bar in [Bar::AtMost(1.0), Bar::AtLeast(1.0), Bar::Report] {
            assert!(!bar.is_reached(f64::NAN), "{bar:?}");
        }
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    }
}
