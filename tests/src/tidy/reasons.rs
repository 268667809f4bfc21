//! The drop reasons that the code declares.

use super::Source;

/// The names of drop reasons, as drop.rs declares them.
///
/// # Panics
/// If that file does not exist.
#[must_use]
pub fn reasons(sources: &[Source]) -> Vec<String> {
    let drop = sources
        .iter()
        .find(|s| s.path == "dataplane/src/drop.rs")
        .expect("the reasons are declared there");
    let begin = drop
        .lines
        .iter()
        .position(|l| l.starts_with("reasons! {"))
        .expect("the list of reasons");
    let names = drop.lines[begin + 1..].iter().take_while(|l| *l != "}");
    // A long explanation continues on lines that are indented more.
    names
        .filter(|l| !l.starts_with("     ") && !l.trim_start().starts_with("//"))
        .filter_map(|l| l.split('"').nth(1).map(str::to_owned))
        .collect()
}
