//! docs/limits.md: each bound has a test, and the test exists.

use super::Source;

/// Number of cells of a row: what, by whom, bound, default, key, shown by, test.
const CELLS: usize = 7;

/// Rows of the tables in `page` that are incomplete, or name a test that no source has.
#[must_use]
pub fn wrong_rows(page: &str, sources: &[Source]) -> Vec<String> {
    let functions: std::collections::HashSet<&str> = sources
        .iter()
        .flat_map(|source| &source.lines)
        .filter_map(|line| {
            let name = line.trim_start().strip_prefix("fn ")?;
            name.split_once(['(', '<']).map(|(name, _)| name)
        })
        .collect();
    let rows = page.lines().enumerate().filter(|(_, line)| {
        line.starts_with("| ") && !line.starts_with("| what can grow or run |")
    });
    let mut wrong = Vec::new();
    for (at, row) in rows {
        // An escaped bar is part of a cell.
        let row = row.replace("\\|", "/");
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let place = format!("docs/limits.md:{}", at + 1);
        if cells.len() != CELLS {
            wrong.push(format!("{place}: {} cells, not {CELLS}", cells.len()));
            continue;
        }
        if cells[..3].iter().any(|cell| cell.is_empty()) {
            wrong.push(format!(
                "{place}: what, by whom and the bound must be there"
            ));
        }
        let tests: Vec<_> = cells[CELLS - 1].split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            wrong.push(format!("{place}: no test"));
        }
        let missing = tests.iter().filter(|name| !functions.contains(**name));
        wrong.extend(missing.map(|name| format!("{place}: no test is called {name}")));
    }
    wrong
}
