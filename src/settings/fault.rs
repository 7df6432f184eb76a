//! What is wrong with the settings, said so that a person can mend it.

use std::fmt;

use thiserror::Error;

use super::{Source, source::OneLine};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A value is missing, or is not what its key expects; the message says what would be right.
    #[error("{key}: {message}{}", origin(.from))]
    Value { key: String, message: String, from: Option<Source> },
    /// No part of this build asks for the key or section.
    #[error("unknown {what} {key}{}{}", hint(.meant), origin(.from))]
    Unknown { what: &'static str, key: String, meant: Option<String>, from: Option<Source> },
    /// A file can't be read as TOML. Line and column count from 1; both are 0 where there is none.
    #[error("{}{}: {message}", OneLine(path), position(*line, *column))]
    File { path: String, line: usize, column: usize, message: String },
}

impl Fault {
    /// A fault of the value at `key`, from an unknown source.
    pub fn value(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Value { key: key.into(), message: message.into(), from: None }
    }

    /// The key that the fault belongs to, or the file that has none.
    pub fn key(&self) -> &str {
        match self {
            Self::Value { key, .. } | Self::Unknown { key, .. } => key,
            Self::File { path, .. } => path,
        }
    }
}

fn origin(from: &Option<Source>) -> String {
    match from {
        None | Some(Source::Default) => String::new(),
        Some(from) => format!(" (from {from})"),
    }
}

fn hint(meant: &Option<String>) -> String {
    meant.as_ref().map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

fn position(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!(" line {line}, column {column}") }
}

/// Every fault that was found, in the order in which the keys were read; unknown keys come last.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `Ok` for an empty list.
    ///
    /// # Errors
    /// The faults, if there are any.
    pub fn or_ok(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The faults, one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One fault a line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}
