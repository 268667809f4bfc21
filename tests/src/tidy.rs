//! Rules on the source that the compiler does not check: who imports whom, where `unsafe` may stand, how long a file may be.
//!
//! Each rule gives the places that break it, as `file:line: what`; tests/tidy.rs wants none. There is no list of exceptions
//! that could grow.

use std::path::{Path, PathBuf};

/// A source file: its path from the workspace's root, and its lines.
#[derive(Debug)]
pub struct Source {
    /// With `/` between the parts.
    pub path: String,
    /// Without line ends.
    pub lines: Vec<String>,
}

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_path_buf()
}

/// All Rust files of the workspace, without `target`.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for room in ["bpf", "dataplane", "control", "bench", "tests"] {
        collect(&root().join(room), &mut files);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        Source { path, lines: text.lines().map(str::to_owned).collect() }
    };
    files.into_iter().map(read).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for path in entries.map(|e| e.expect("readable").path()) {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("corpus") {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// The lines before the unit tests at the end of the file; none if the whole file is tests.
    #[must_use]
    pub fn code(&self) -> &[String] {
        if self.path.ends_with("tests.rs") || self.path.contains("/tests/") {
            return &[];
        }
        let end =
            self.lines.iter().position(|l| l.starts_with("#[cfg(") && l.contains("test")).filter(|&i| {
                self.lines[i + 1..]
                    .iter()
                    .find(|l| !l.starts_with("#["))
                    .is_some_and(|l| l.starts_with("mod "))
            });
        &self.lines[..end.unwrap_or(self.lines.len())]
    }

    /// The places where `wrong` holds for a line of code, comments left out.
    fn places(&self, lines: &[String], what: &str, wrong: impl Fn(&str) -> bool) -> Vec<String> {
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        let found = lines.iter().enumerate().filter(|(_, line)| wrong(&code(line)));
        found.map(|(i, line)| format!("{}:{}: {what}: {}", self.path, i + 1, line.trim())).collect()
    }
}

/// (room, words that its code must not use, why)
const DIRECTIONS: &[(&str, &[&str], &str)] = &[
    ("dataplane/", &["vtep_control"], "dataplane never imports control"),
    ("bpf/", &["vtep_control", "vtep_dataplane"], "bpf is below everything"),
    ("dataplane/src/addr.rs", &["crate::"], "addr is below everything"),
    (
        "dataplane/src/core/",
        &[
            "crate::afxdp",
            "crate::worker",
            "crate::port",
            "crate::event",
            "libbpf",
            "libc::",
            "rustix::",
            "std::io",
            "std::net::Udp",
        ],
        "core knows wire, table, addr and counters only",
    ),
    (
        "dataplane/src/core/",
        &["std::time", "std::thread", "std::fs", "tracing::"],
        "core is pure: no clock, thread, file, log",
    ),
    (
        "dataplane/src/wire/",
        &[
            "crate::core",
            "crate::table",
            "crate::afxdp",
            "crate::worker",
            "crate::port",
            "std::io",
            "std::time",
            "tracing::",
        ],
        "wire knows bytes and addr only",
    ),
    (
        "dataplane/src/table/",
        &["crate::afxdp", "crate::worker", "crate::core::pipeline", "crate::port::"],
        "tables know no packets",
    ),
    ("dataplane/src/port/", &["crate::worker", "crate::afxdp", "crate::table"], "a port knows frames only"),
    ("dataplane/src/afxdp/", &["crate::worker", "crate::table"], "AF_XDP is below the worker"),
    (
        "control/src/bgp/",
        &[
            "std::net::Tcp",
            "mio::",
            "Instant::now",
            "SystemTime",
            "crate::evpn",
            "crate::underlay",
            "crate::daemon",
            "vtep_dataplane::table",
            "vtep_dataplane::worker",
            "vtep_dataplane::afxdp",
            "vtep_dataplane::core",
        ],
        "bgp knows no socket, no clock and not EVPN's meaning; of the data plane only addresses",
    ),
    (
        "control/src/rib/",
        &["mio::", "std::net::Tcp", "Instant::now", "SystemTime", "crate::daemon"],
        "the RIB is plain data",
    ),
    (
        "control/src/evpn/",
        &["mio::", "std::net::Tcp", "Instant::now", "SystemTime", "crate::daemon"],
        "evpn is pure",
    ),
];

/// Imports against the direction of the rooms.
#[must_use]
pub fn wrong_imports(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, words, why) in DIRECTIONS {
        for source in sources.iter().filter(|s| s.path.starts_with(room)) {
            wrong.extend(source.places(source.code(), why, |line| words.iter().any(|w| line.contains(w))));
        }
    }
    wrong
}

/// `unsafe` outside the two places that may hold it.
#[must_use]
pub fn misplaced_unsafe(sources: &[Source]) -> Vec<String> {
    let allowed =
        |path: &str| path.starts_with("dataplane/src/afxdp/") || path.starts_with("dataplane/src/table/mac");
    let word = concat!("un", "safe");
    let keyword = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
            || line.contains(concat!("allow(un", "safe_code"))
    };
    let outside = sources.iter().filter(|s| !allowed(&s.path) && s.path != "tests/src/tidy.rs");
    outside.flat_map(|s| s.places(&s.lines, "not a place for it", keyword)).collect()
}

/// Files of more than 500 lines without their tests.
#[must_use]
pub fn long_files(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|s| s.code().len() > 500);
    long.map(|s| format!("{}: {} lines, at most 500", s.path, s.code().len())).collect()
}

/// Functions of more than 70 lines, from `fn` to the brace that closes it. Works on code as rustfmt lays it out.
#[must_use]
pub fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for (start, line) in source.lines.iter().enumerate() {
            let body = line.trim_start();
            let indent = &line[..line.len() - body.len()];
            let head = body.split(['(', '"', '/']).next().unwrap_or_default();
            // A field of the type `fn(..)` has no name behind the word.
            let named = head.split_whitespace().skip_while(|w| *w != "fn").nth(1).is_some();
            if !named || body.ends_with(';') || body.ends_with('}') {
                continue;
            }
            let close = format!("{indent}}}");
            let length = source.lines[start..].iter().position(|l| *l == close).map_or(0, |n| n + 1);
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

/// Work that was put off: in code and in comments.
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

/// The names of drop reasons, as core/verdict.rs declares them.
///
/// # Panics
/// If that file is gone.
#[must_use]
pub fn reasons(sources: &[Source]) -> Vec<String> {
    let verdict = sources
        .iter()
        .find(|s| s.path == "dataplane/src/core/verdict.rs")
        .expect("the reasons are declared there");
    let begin = verdict.lines.iter().position(|l| l.starts_with("reasons! {")).expect("the list of reasons");
    let names = verdict.lines[begin + 1..].iter().take_while(|l| *l != "}");
    names
        .filter(|l| !l.trim_start().starts_with("//"))
        .filter_map(|l| l.split('"').nth(1).map(str::to_owned))
        .collect()
}

/// Licences (SPDX) that suit a program under MIT or Apache-2.0.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "NCSA",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "BSL-1.0",
    "MPL-2.0",
    "LGPL-2.1-only",
    "Apache-2.0 WITH LLVM-exception",
];

/// Packages of `cargo metadata` from elsewhere than crates.io, or whose licence leaves no permitted choice.
#[must_use]
pub fn wrong_packages(metadata: &serde_json::Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or("?");
        let source = package["source"].as_str();
        if source.is_some_and(|s| s != "registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name}: from {source:?}, not from crates.io"));
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !permitted(licence) {
            wrong.push(format!("{name}: licence {licence:?}"));
        }
    }
    wrong
}

/// Whether an SPDX expression leaves a choice of [`LICENCES`]: `AND` of `OR`s of names, parentheses as crates use them.
#[must_use]
pub fn permitted(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
    let known = |name: &str| LICENCES.contains(&name.trim());
    flat.split(" AND ").all(|part| part.split(" OR ").any(known))
}
