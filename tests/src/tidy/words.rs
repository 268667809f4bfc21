//! Words that names, comments and docs must not use: the field has other words for their meaning,
//! or uses them for something else. See CONTRIBUTING.md.

use super::{Source, root};

/// (a phrase that comments, texts and docs do not use, in lower case; what to say)
const PHRASES: &[(&str, &str)] = &[
    ("bell", "wakeup"),
    ("deaf", "not listening"),
    ("farewell", "last message"),
    ("goes on", "continues"),
    ("heed", "apply"),
    ("house", "architecture"),
    ("hush", "clear"),
    ("letterbox", "queue"),
    ("mortal", "expiring"),
    ("neighbour", "neighbor"),
    ("neighbours", "neighbors"),
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
    ("Begun", "PartialFrame"),
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
    ("Refused", "PortErrors"),
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

/// Whether `line` has `phrase` as words of their own.
#[must_use]
pub fn contains(line: &str, phrase: &str) -> bool {
    let edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(phrase).any(|(at, _)| {
        edge(line[..at].chars().next_back()) && edge(line[at + phrase.len()..].chars().next())
    })
}

/// Banned phrases in comments, texts and pages, and banned names in code.
#[must_use]
pub fn banned(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    // The list itself names them, and so does the test that proves it.
    let lists = |path: &str| path.starts_with("tests/src/tidy/") || path == "tests/tests/tidy.rs";
    for source in sources.iter().filter(|source| !lists(&source.path)) {
        for (number, line) in source.lines.iter().enumerate() {
            // A file of the Linux kernel is called so.
            let lower = line
                .to_lowercase()
                .replace("neighbour.c", "")
                .replace("neighbour.h", "")
                // A dependency's module.
                .replace("netlink_packet_route::neighbour", "");
            let phrases = PHRASES
                .iter()
                .filter(|(phrase, _)| contains(&lower, phrase));
            let code = source.path.ends_with(".rs");
            let names = NAMES
                .iter()
                .filter(|(name, _)| code && contains(line, name));
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
