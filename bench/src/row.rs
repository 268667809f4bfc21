//! A row: one quantity that is measured, with its bar, its warm-up and its repetitions.
//!
//! ```text
//! Spec (name, unit, bar) --open--> Measure --once, once, ...--> Outcome --> report
//! ```

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

/// Why a row could not be measured: the object, the value and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure with the reason `why`.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// Prefixes the error with what was being done.
    pub fn of<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |why| Self(format!("{what}: {why}"))
    }
}

/// The target of a row, compared with the median of its repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    /// The median must not be higher.
    AtMost(f64),
    /// The median must not be lower.
    AtLeast(f64),
    /// Reported, without a target.
    Report,
}

impl Bar {
    /// True if `figure` reaches the bar; NaN never does.
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
    /// Enough to check that a row works; its figures are not meaningful.
    Quick,
    /// Enough for published figures.
    Full,
}

impl Effort {
    /// `quick` or `full`, depending on `self`.
    #[must_use]
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// An entry in the list of rows.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The name that `vtep-bench run` takes.
    pub name: &'static str,
    /// What is measured, in one sentence.
    pub measures: &'static str,
    /// The unit of the figure.
    pub unit: &'static str,
    /// The target of the median.
    pub bar: Bar,
    /// Builds the object to measure, and checks that its results are correct.
    pub open: fn(Effort) -> Result<Box<dyn Measure>, Failure>,
}

/// An object that is ready to be measured repeatedly.
pub trait Measure {
    /// Measures once, in the row's unit.
    ///
    /// # Errors
    /// [`Failure`] if nothing could be measured or the results were wrong.
    fn once(&mut self) -> Result<f64, Failure>;

    /// The numbers of warm-ups and repetitions.
    fn plan(&self) -> Plan;

    /// What a reader needs to interpret the figure: what was counted, what bounds it, its
    /// components.
    fn notes(&self) -> Vec<String>;
}

/// Warm-up and repetitions.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Measurements that are discarded, so that caches, tables and the core's clock settle.
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
    /// The target of the median.
    pub bar: Bar,
    /// Lowest figure.
    pub min: f64,
    /// The median; the mean of the two middle figures if their number is even.
    pub median: f64,
    /// Highest figure.
    pub max: f64,
    /// Warm-up and repetitions.
    #[serde(flatten)]
    pub plan: Plan,
    /// True if the median reaches the bar.
    pub pass: bool,
    /// What a reader needs to interpret the figures.
    pub notes: Vec<String>,
}

impl Spec {
    /// Builds, warms up and measures. If `stop` is set, ends after the current repetition.
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

/// The median of sorted figures; NaN if there are none.
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
