//! Tables with aligned columns.

use std::fmt::Write;

/// A table that is built row by row.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    /// Heading, and whether the column holds numbers, which are right-aligned.
    columns: [(&'static str, bool); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// Columns by heading; a `>` before the heading marks a column of numbers.
    pub(super) fn new(headings: [&'static str; N]) -> Self {
        let column = |heading: &'static str| {
            heading
                .strip_prefix('>')
                .map_or((heading, false), |h| (h, true))
        };
        Self {
            columns: headings.map(column),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(super) fn render(&self) -> String {
        let mut widths = self.columns.map(|(heading, _)| heading.len());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        self.line(&mut out, &widths, self.columns.map(|(heading, _)| heading));
        for row in &self.rows {
            self.line(&mut out, &widths, row.each_ref().map(String::as_str));
        }
        out
    }

    fn line(&self, out: &mut String, widths: &[usize; N], cells: [&str; N]) {
        let start = out.len();
        for ((cell, width), (_, number)) in cells.into_iter().zip(widths).zip(&self.columns) {
            let gap = if out.len() == start { "" } else { "  " };
            // Writing to a string can't fail.
            let _ = if *number {
                write!(out, "{gap}{cell:>width$}")
            } else {
                write!(out, "{gap}{cell:<width$}")
            };
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
}

/// A number of things, in the singular or plural.
pub(super) fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with('s') => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

/// An optional value, or `-`.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A list, or `-`.
pub(super) fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Seconds as FRR writes times: `1d02h03m`, `04:05:06`.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours:02}h{minutes:02}m")
    } else {
        format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let mut table = Table::new(["Name", ">Count", "Note"]);
        table.row(["a".into(), "12345".into(), String::new()]);
        table.row(["longer".into(), "7".into(), "x".into()]);
        assert_eq!(
            table.render(),
            "Name    Count  Note\na       12345\nlonger      7  x\n"
        );
    }

    #[test]
    fn durations_read_as_in_frr() {
        assert_eq!(duration(3_661), "01:01:01");
        assert_eq!(duration(90_000), "1d01h00m");
    }
}
