//! How long a file and a function may be, what may be `unsafe`, and no unfinished work.

use super::Source;

/// `unsafe` outside the places where it is allowed.
#[must_use]
pub fn misplaced_unsafe(sources: &[Source]) -> Vec<String> {
    let allowed = |path: &str| {
        path.starts_with("dataplane/src/afxdp/")
            || path.starts_with("dataplane/src/packet/")
            || path == "dataplane/src/mem.rs"
            || path.starts_with("dataplane/src/table/mac")
    };
    let word = concat!("un", "safe");
    let keyword = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|w| w == word)
            || line.contains(concat!("allow(un", "safe_code"))
    };
    let outside = sources.iter().filter(|s| !allowed(&s.path));
    outside
        .flat_map(|s| s.places(&s.lines, "not allowed here", keyword))
        .collect()
}

/// Files of more than 500 lines without their tests.
#[must_use]
pub fn long_files(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|s| s.code().len() > 500);
    long.map(|s| format!("{}: {} lines, at most 500", s.path, s.code().len()))
        .collect()
}

/// Functions of more than 70 lines, from `fn` to the brace that closes it. Works on code as rustfmt
/// lays it out.
#[must_use]
pub fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for (start, line) in source.lines.iter().enumerate() {
            let body = line.trim_start();
            let indent = &line[..line.len() - body.len()];
            let head = body.split(['(', '"', '/']).next().unwrap_or_default();
            // A field of the type `fn(..)` has no name after the keyword.
            let named = head
                .split_whitespace()
                .skip_while(|w| *w != "fn")
                .nth(1)
                .is_some();
            if !named || body.ends_with(';') || body.ends_with('}') {
                continue;
            }
            let close = format!("{indent}}}");
            let length = source.lines[start..]
                .iter()
                .position(|l| *l == close)
                .map_or(0, |n| n + 1);
            if length > 70 {
                wrong.push(format!(
                    "{}:{}: a function of {length} lines, at most 70",
                    source.path,
                    start + 1
                ));
            }
        }
    }
    wrong
}

/// Unfinished work, in code and in comments.
#[must_use]
pub fn unfinished(sources: &[Source]) -> Vec<String> {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimple", "mented!("),
        concat!("#[ign", "ore"),
    ];
    let mut wrong = Vec::new();
    for source in sources {
        for (i, line) in source.lines.iter().enumerate() {
            if let Some(word) = words.iter().find(|w| line.contains(**w)) {
                wrong.push(format!("{}:{}: {word}", source.path, i + 1));
            }
        }
    }
    wrong
}
