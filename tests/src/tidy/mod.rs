//! Rules for the source that the compiler does not check: imports, where `unsafe` is allowed, how
//! long a file may be.
//!
//! Each rule returns its violations, as `file:line: what`; tests/tidy.rs requires that there are
//! none. There is no list of exceptions that could grow.

pub mod graph;
pub mod imports;
pub mod limits;
pub mod packages;
pub mod paths;
pub mod reasons;
pub mod resolve;
pub mod shell;
pub mod size;
pub mod words;

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
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_path_buf()
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
    files.iter().map(|path| Source::read(path)).collect()
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
    /// Reads a file below the workspace's root.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let path = path.strip_prefix(root()).expect("below the root");
        Self {
            path: path.to_string_lossy().into_owned(),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// Whether the whole file is tests.
    #[must_use]
    pub fn is_tests(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// The lines before the unit tests at the end of the file; none if the whole file is tests.
    #[must_use]
    pub fn code(&self) -> &[String] {
        if self.is_tests() {
            return &[];
        }
        let end = self
            .lines
            .iter()
            .position(|l| l.starts_with("#[cfg(") && paths::is_test_line(l))
            .filter(|&i| {
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
        let found = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| wrong(&code(line)));
        found
            .map(|(i, line)| format!("{}:{}: {what}: {}", self.path, i + 1, line.trim()))
            .collect()
    }
}
