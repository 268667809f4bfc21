//! Diagnostics: errors and warnings of a configuration, for operators.

use std::fmt;

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
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Limit on diagnostics that are kept: an invalid file of a million lines must not flood the
/// terminal.
const MAX_KEPT: usize = 50;

/// All diagnostics of one source, one line each: `FILE:LINE: KEY: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    source: String,
    list: Vec<Diagnostic>,
    more: usize,
    errors: usize,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    /// No diagnostics yet; `source` is a file name.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            ..Self::default()
        }
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

    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|diagnostic| diagnostic.line);
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.list.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            match diagnostic.line {
                0 => write!(f, "{newline}{}: {diagnostic}", self.source)?,
                line => write!(f, "{newline}{}:{line}: {diagnostic}", self.source)?,
            }
        }
        if self.more > 0 {
            write!(f, "\n{}: and {} more", self.source, self.more)?;
        }
        Ok(())
    }
}
