//! Diagnostics: errors and warnings of a configuration, for operators.

use std::fmt;

use crate::bgp::wire::printable;

/// Severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is rejected.
    Error,
    /// It works, but perhaps not as intended.
    Warning,
}

/// A diagnostic with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The line, from 1; 0 = unknown, or from a request.
    pub line: u32,
    /// The key, from the top of the file, such as `vni.port.interface`. Empty for errors of
    /// syntax.
    pub key: String,
    /// The invalid value, and what would be valid.
    pub message: String,
}

impl Diagnostic {
    pub(crate) const fn error(line: u32, key: String, message: String) -> Self {
        Self {
            severity: Severity::Error,
            line,
            key,
            message,
        }
    }

    pub(crate) const fn warning(line: u32, key: String, message: String) -> Self {
        Self {
            severity: Severity::Warning,
            line,
            key,
            message,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            // An unknown key may consist of anything.
            write!(f, "{}: ", printable(&self.key))?;
        }
        f.write_str(&self.message)
    }
}

/// Limit on diagnostics that are kept: an invalid file of a million lines must not flood the
/// terminal.
const MAX_KEPT: usize = 50;

/// All diagnostics of one source, one line each: `FILE:LINE: KEY: MESSAGE`. Those of a request have
/// no file: `KEY: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    source: String,
    list: Vec<Diagnostic>,
    more: usize,
    errors: usize,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    /// No diagnostics yet; `source` is a file name, which is shown [printable].
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            source: printable(source),
            ..Self::default()
        }
    }

    /// No diagnostics yet, of a request.
    pub(crate) fn of_request() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if self.list.len() < MAX_KEPT {
            self.list.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    /// The diagnostics, in the order of their lines; at most 50.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// True when the configuration must be rejected.
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// True when there is an error of this key.
    pub(crate) fn has_error_of(&self, key: &str) -> bool {
        let of_key = |d: &Diagnostic| d.severity == Severity::Error && d.key == key;
        self.list.iter().any(of_key)
    }

    /// Number of errors, without warnings.
    #[must_use]
    pub const fn errors(&self) -> usize {
        self.errors
    }

    /// True when there is neither an error nor a warning.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each as one line, with file and line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|diagnostic| match diagnostic.line {
            _ if self.source.is_empty() => diagnostic.to_string(),
            0 => format!("{}: {diagnostic}", self.source),
            line => format!("{}:{line}: {diagnostic}", self.source),
        })
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|diagnostic| diagnostic.line);
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{line}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}
