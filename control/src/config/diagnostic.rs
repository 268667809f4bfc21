//! What is wrong with a configuration, as an operator reads it.

use std::fmt;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, but perhaps not as meant.
    Warning,
}

/// One problem with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1; 0 = not known, or from a request.
    pub line: u32,
    /// The key, from the top of the file, such as `vni.port.interface`. Empty for errors of syntax.
    pub key: String,
    /// The wrong value and what would be right.
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

/// The most problems that are kept: a wrong file of a million lines must not fill the terminal.
const MOST: usize = 50;

/// All problems of one source. Its text has a line for each: `FILE:LINE: KEY: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    source: String,
    list: Vec<Diagnostic>,
    more: usize,
    errors: usize,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    /// No problems yet with `source`, a file name.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, problem: Diagnostic) {
        self.errors += usize::from(problem.severity == Severity::Error);
        if self.list.len() < MOST {
            self.list.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// The diagnostics, in the order of their lines; at most 50.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// True when the configuration must be refused.
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are, without warnings.
    #[must_use]
    pub const fn errors(&self) -> usize {
        self.errors
    }

    /// True when there is nothing to say.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|problem| problem.line);
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.list.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            match problem.line {
                0 => write!(f, "{newline}{}: {problem}", self.source)?,
                line => write!(f, "{newline}{}:{line}: {problem}", self.source)?,
            }
        }
        if self.more > 0 {
            write!(f, "\n{}: and {} more", self.source, self.more)?;
        }
        Ok(())
    }
}
