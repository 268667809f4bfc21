//! Rules for shell scripts.

use super::Source;

/// Pipes of a script with `pipefail` whose last command stops reading before the end: the command
/// before it then ends with SIGPIPE whenever it still has something to write, and the script with
/// status 141, on some runs only.
#[must_use]
pub fn early_readers(scripts: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    let fails = |s: &&Source| s.lines.iter().any(|l| l.contains("pipefail"));
    for script in scripts.iter().filter(fails) {
        for (i, line) in script.lines.iter().enumerate() {
            if line.replace("||", ";").split('|').skip(1).any(stops_early) {
                let path = &script.path;
                wrong.push(format!(
                    "{path}:{}: ends before its input does: {line}",
                    i + 1
                ));
            }
        }
    }
    wrong
}

fn stops_early(command: &str) -> bool {
    let mut words = command.split_whitespace();
    match words.next() {
        Some("head") => true,
        Some("grep") => words.any(|w| w.starts_with("-q") || w.starts_with("-m")),
        _ => false,
    }
}
