//! README.md shows what the demo prints.
//!
//! ```text
//! h1: vtepd ── eth0 ── eth0 ── h2: vtepd        (namespaces that scripts/demo creates)
//!     ├─ t11                   ├─ t21
//!     └─ t12                   └─ t22
//! ```

use vtep_tests::netns::{command, must};
use vtep_tests::tidy::root;
use vtep_tests::vtepd::binary;

/// The commands of a transcript, each with the first line of its output; for `vtepctl show`, the
/// columns of the table.
fn blocks(transcript: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = transcript.lines().map(str::trim_end).collect();
    let mut blocks = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let prompt = line.split_once("$ ").filter(|(host, _)| host.len() <= 3);
        if line.starts_with("# ") {
            blocks.push((String::from(*line), String::new()));
        } else if prompt.is_some() {
            let command = if line.starts_with("$ cat") {
                "$ cat"
            } else {
                line
            };
            let columns = line.contains("vtepctl") && !line.contains("show status");
            let first = lines.get(number + 1).filter(|_| columns).copied();
            blocks.push((command.to_owned(), words(first.unwrap_or_default())));
        }
    }
    blocks
}

/// A line without the parts that differ from run to run: numbers and the width of columns.
fn words(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        if word.bytes().any(|b| b.is_ascii_digit()) {
            "N"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_readme_shows_the_commands_and_tables_of_the_demo() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md is readable");
    let transcript = readme
        .split_once("<!-- demo -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- end of demo -->"))
        .map(|(transcript, _)| {
            transcript
                .lines()
                .map(|l| l.strip_prefix("    ").unwrap_or(l))
        })
        .expect("README.md has both markers");
    let shown = blocks(&transcript.collect::<Vec<_>>().join("\n"));
    let bin = binary("vtepd");
    let bin = bin.parent().expect("a directory");
    let demo = root().join("scripts/demo");
    let (variable, demo) = (
        format!("VTEP_BIN={}", bin.display()),
        demo.display().to_string(),
    );
    let out = command(120, &["env", &variable, &demo]);
    let printed = must(&out, "scripts/demo")
        .replace("\x1b[1m", "")
        .replace("\x1b[0m", "");
    let printed = blocks(&printed);
    assert!(printed.len() > 20, "{printed:?}");
    assert_eq!(shown, printed, "run scripts/readme-transcript");
}
