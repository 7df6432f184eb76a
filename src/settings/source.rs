//! Where a value came from.

use std::{fmt, sync::Arc};

/// The layer, and the place in it, that gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave one: the default, which may follow from other values.
    Default,
    /// A file, and the line of the key in it, counted from 1.
    File { path: Arc<str>, line: usize },
    /// An environment variable, by its full name.
    Env(String),
    /// A flag on the command line, by its name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", OneLine(path)),
            Self::Env(name) => write!(f, "environment {}", OneLine(name)),
            Self::Flag(name) => write!(f, "flag {}", OneLine(name)),
        }
    }
}

/// Text that must not break the line or the comment that it stands in.
pub(super) struct OneLine<'a>(pub(super) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { fmt::Write::write_char(f, c)? }
        }
        Ok(())
    }
}
