//! The output: text for a terminal, and JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::machine::Machine;
use crate::row::{Effort, Failure, Outcome};

/// A row that could not be measured.
#[derive(Debug, Clone, Serialize)]
pub struct Broken {
    /// The row's name.
    pub name: &'static str,
    /// The reason.
    pub error: String,
}

/// A complete run.
#[derive(Debug, Serialize)]
pub struct Run {
    /// The machine.
    pub machine: Machine,
    /// Whether the run was quick; then its figures are not meaningful.
    pub effort: Effort,
    /// Rows that were measured.
    pub rows: Vec<Outcome>,
    /// Rows that failed.
    pub broken: Vec<Broken>,
}

impl Run {
    /// True if every row was measured and reached its bar.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.broken.is_empty() && self.rows.iter().all(|row| row.pass)
    }

    /// Writes the run as one JSON object.
    ///
    /// # Errors
    /// [`Failure`] naming the file that could not be written.
    pub fn write_json(&self, path: &Path) -> Result<(), Failure> {
        let failed = |why: std::io::Error| {
            Failure::new(format!("{}: {why}; choose another file", path.display()))
        };
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        serde_json::to_writer_pretty(&mut file, self).map_err(|why| failed(why.into()))?;
        file.write_all(b"\n")
            .and_then(|()| file.flush())
            .map_err(failed)
    }
}

/// Four significant digits; more would be noise.
#[must_use]
pub fn figure(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// One line for the row, with its notes below.
#[must_use]
pub fn line(row: &Outcome) -> String {
    let verdict = if row.pass { "pass" } else { "FALLS SHORT" };
    let mut text = format!(
        "{:<14} {:>10} {:>10} {:>10}  {:<14} {:<10} {verdict}",
        row.name,
        figure(row.min),
        figure(row.median),
        figure(row.max),
        row.unit,
        row.bar.to_string(),
    );
    for note in &row.notes {
        text.push_str("\n    ");
        text.push_str(note);
    }
    text
}

/// The heading above the rows.
#[must_use]
pub fn heading() -> String {
    format!(
        "{:<14} {:>10} {:>10} {:>10}  {:<14} {:<10} verdict",
        "row", "min", "median", "max", "unit", "bar"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Bar, Plan};

    fn outcome(pass: bool) -> Outcome {
        Outcome {
            name: "a-row",
            measures: "something",
            unit: "ns",
            bar: Bar::AtMost(4.0),
            min: 1.0,
            median: 22.345,
            max: 12345.6,
            plan: Plan {
                warm_ups: 1,
                repetitions: 3,
            },
            pass,
            notes: vec!["bounded by the kernel".to_owned()],
        }
    }

    fn run(rows: Vec<Outcome>, broken: Vec<Broken>) -> Run {
        Run {
            machine: Machine::look(),
            effort: Effort::Quick,
            rows,
            broken,
        }
    }

    #[test]
    fn a_line_shows_figures_bar_verdict_and_notes() {
        let text = line(&outcome(false));
        for part in [
            "a-row",
            "1.000",
            "22.34",
            "12346",
            "<= 4",
            "FALLS SHORT",
            "\n    bounded by the kernel",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(line(&outcome(true)).contains(" pass"));
    }

    #[test]
    fn a_missed_bar_and_a_broken_row_fail_the_run() {
        let broken = Broken {
            name: "b",
            error: "no".to_owned(),
        };
        assert!(run(vec![outcome(true)], vec![]).passed());
        assert!(!run(vec![outcome(true), outcome(false)], vec![]).passed());
        assert!(!run(vec![outcome(true)], vec![broken]).passed());
    }

    #[test]
    fn json_has_figures_and_facts() {
        let json = serde_json::to_value(run(vec![outcome(true)], vec![])).unwrap();
        assert_eq!(json["rows"][0]["bar"]["at-most"], 4.0);
        assert_eq!(json["rows"][0]["repetitions"], 3);
        assert!(json["machine"]["cores"].as_u64().unwrap() >= 1);
    }
}
