//! Words that names, comments and docs must not use: the field has other words for their meaning,
//! or uses them for something else. See CONTRIBUTING.md.

use std::path::PathBuf;

use super::{Source, root};

/// (a phrase that comments, texts and docs do not use, in lower case; what to say)
const PHRASES: &[(&str, &str)] = &[
    ("bell", "wakeup"),
    ("deaf", "not listening"),
    ("farewell", "last message"),
    ("go on", "continue"),
    ("heed", "apply"),
    ("house", "architecture"),
    ("hush", "clear"),
    ("letterbox", "queue"),
    ("mortal", "expiring"),
    ("neighbour", "neighbor"),
    ("nobody", "none, no host"),
    ("obey", "handle"),
    ("rooms", "modules, folders"),
    ("rung", "signalled"),
    ("thaw", "unfreeze"),
    ("the way of", "the path of"),
    ("untold", "not reported"),
    ("what is shown is what is", "live state"),
    ("whoever", "any sender, any peer"),
];

/// (an identifier that the code does not use; the name that the field uses)
const NAMES: &[(&str, &str)] = &[
    ("AdjOut", "AdjRibOut"),
    ("AutoDiscovery", "EthernetAd"),
    ("barred", "prefix_limit_hit"),
    ("Bed", "Fixture, Parker"),
    ("Blame", "DropScope"),
    ("Ears", "Listener"),
    ("Exchange", "Handoff"),
    ("FromOverlay", "VxlanInput"),
    ("FromTenants", "TenantInput"),
    ("goes_on", "same_path"),
    ("Inbox", "RecvBuffer"),
    ("Lab", "Fixture"),
    ("Leaving", "TxFrame"),
    ("Lent", "SharedTx"),
    ("Letterbox", "WorkerQueues"),
    ("LocalFrame", "TenantBoundFrame"),
    ("Mortal", "ExpiringEntry"),
    ("NextHopId", "VtepId"),
    ("NextHopTable", "VtepTable"),
    ("Outbox", "TxQueues, SendBuffer"),
    ("OverlayFrame", "DecapsulatedFrame"),
    ("pass_on", "forward_slow"),
    ("Refusal", "Ineligible"),
    ("Rig", "Fixture"),
    ("Scene", "Scenario"),
    ("send_home", "return_chunk"),
    ("Sought", "KeyLookup"),
    ("Stage", "Pair, Fixture"),
    ("TableWriter", "Fib"),
    ("take_over", "pop_handoff"),
    ("take_up", "handle_event"),
    ("Turn", "BurstContext"),
    ("turn_to", "switch"),
    ("UnderlayFrame", "EncapsulatedFrame"),
    ("unwant", "untrack, release"),
    ("VniState", "MacVrf"),
    ("Voices", "Monitor"),
    ("why_not", "error"),
    ("World", "Fixture"),
];

/// Pages for people, from the workspace's root; code blocks count too.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn pages() -> Vec<Source> {
    let folders = ["", "docs", "tests/vectors", "contrib"].map(|folder| root().join(folder));
    let entries = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten();
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| Source::read(&path))
        .collect()
}

/// Files that are neither Rust nor pages: scripts, programs of the kernel, manifests.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn texts() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in [
        ".ci",
        "bpf",
        "scripts",
        "tests/drivers",
        "tests/drivers/guest",
        "tests/tools",
    ] {
        let entries = std::fs::read_dir(root().join(folder)).expect("the folder is readable");
        paths.extend(entries.map(|entry| entry.expect("readable").path()));
    }
    let others = |path: &PathBuf| path.is_file() && path.extension().is_none_or(|e| e != "rs");
    paths.push(root().join("Cargo.toml"));
    paths
        .into_iter()
        .filter(others)
        .map(|path| Source::read(&path))
        .collect()
}

/// Whether `line` has `phrase` as words of their own.
#[must_use]
pub fn contains(line: &str, phrase: &str) -> bool {
    let edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(phrase).any(|(at, _)| {
        edge(line[..at].chars().next_back()) && edge(line[at + phrase.len()..].chars().next())
    })
}

/// The words of a line; identifiers are taken apart: `NeighborTable`, `neighbor_table`.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut last = ' ';
    for c in line.chars() {
        let starts = c.is_uppercase() && !last.is_uppercase();
        if (starts || !c.is_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("one word at least").push(c);
        }
        last = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Endings with which a banned word is the same word.
const ENDINGS: &[&str] = &["", "s", "es", "ed", "ing", "hood"];

/// Whether `phrase` begins in `words`, before the first word of the next line.
fn has_phrase(words: &[String], next: &[String], phrase: &str) -> bool {
    let phrase: Vec<&str> = phrase.split(' ').collect();
    let all: Vec<String> = words
        .iter()
        .chain(next.iter().take(phrase.len() - 1))
        .map(|w| w.to_lowercase())
        .collect();
    all.windows(phrase.len()).any(|window| {
        window.iter().zip(&phrase).all(|(word, wanted)| {
            word.strip_prefix(wanted)
                .is_some_and(|ending| ENDINGS.contains(&ending))
        })
    })
}

/// Whether an identifier of the line has `name` in it.
fn has_name(words: &[String], name: &str) -> bool {
    let name = self::words(name);
    words.windows(name.len()).any(|window| window == name)
}

/// A line without the names that the kernel and its crates spell their own way.
fn without_kernel_names(line: &str) -> String {
    // Files of the Linux kernel, and types of the crate netlink-packet-route.
    let names = [
        "neighbour.c",
        "neighbour.h",
        "netlink_packet_route::neighbour",
        "NeighbourAddress",
        "NeighbourAttribute",
        "NeighbourFlags",
        "NeighbourMessage",
        "NeighbourState",
        "NewNeighbour",
        "GetNeighbour",
        "DelNeighbour",
    ];
    names
        .iter()
        .fold(line.to_owned(), |line, name| line.replace(name, ""))
}

/// Banned phrases in comments, texts and pages, and banned names in code.
#[must_use]
pub fn banned(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    // The list itself names them, and so does the test that proves it.
    let lists = |path: &str| path.starts_with("tests/src/tidy/") || path == "tests/tests/tidy.rs";
    for source in sources.iter().filter(|source| !lists(&source.path)) {
        let lines: Vec<_> = source
            .lines
            .iter()
            .map(|line| words(&without_kernel_names(line)))
            .collect();
        for (number, line) in lines.iter().enumerate() {
            let next = lines.get(number + 1).map_or(&[][..], Vec::as_slice);
            let phrases = PHRASES
                .iter()
                .filter(|(phrase, _)| has_phrase(line, next, phrase));
            let code = source.path.ends_with(".rs");
            let whole = &source.lines[number];
            let names = NAMES.iter().filter(|(name, _)| {
                code && if name.contains('_') {
                    contains(whole, name)
                } else {
                    has_name(line, name)
                }
            });
            for (word, say) in phrases.chain(names) {
                wrong.push(format!(
                    "{}:{}: {word:?}: say {say}",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    wrong
}

/// Lines of pages longer than 120 columns, tables and code blocks excepted: those can't be broken.
#[must_use]
pub fn long_lines(pages: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for page in pages {
        let mut in_code = false;
        for (number, line) in page.lines.iter().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            let fixed = in_code
                || line.starts_with("    ")
                || line.starts_with('|')
                || line.starts_with('[');
            let columns = line.chars().count();
            if !fixed && columns > 120 {
                wrong.push(format!(
                    "{}:{}: {columns} columns, at most 120",
                    page.path,
                    number + 1
                ));
            }
        }
    }
    wrong
}
