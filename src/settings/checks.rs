//! What a part's `validate` uses to collect the faults of its own values.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use super::{Fault, Faults, format_bytes, format_duration};

/// Collects faults under keys relative to the part's section. [`Section::check`](super::Section::check)
/// gives them their full keys and sources.
#[derive(Debug, Default)]
pub struct Checks(Vec<Fault>);

impl Checks {
    /// No fault yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a fault of `key`. The message says what would be right.
    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(Fault::value(key, message));
    }

    /// A number must lie in `range`, bounds included.
    pub fn number<T: PartialOrd + Display>(&mut self, key: &str, value: T, range: &RangeInclusive<T>) {
        if !range.contains(&value) {
            self.fault(key, out_of_range(&value, range.start(), range.end()));
        }
    }

    /// A duration must lie in `range`, bounds included.
    pub fn duration(&mut self, key: &str, value: Duration, range: &RangeInclusive<Duration>) {
        if !range.contains(&value) {
            let [value, start, end] =
                [value, *range.start(), *range.end()].map(|d| quoted(format_duration(d)));
            self.fault(key, out_of_range(&value, &start, &end));
        }
    }

    /// A size in bytes must lie in `range`, bounds included.
    pub fn bytes(&mut self, key: &str, value: u64, range: &RangeInclusive<u64>) {
        if !range.contains(&value) {
            let [value, start, end] = [value, *range.start(), *range.end()].map(|n| quoted(format_bytes(n)));
            self.fault(key, out_of_range(&value, &start, &end));
        }
    }

    /// Adds the faults of an inner part, whose keys are relative to the section `prefix`.
    pub fn nest(&mut self, prefix: &str, result: Result<(), Faults>) {
        for fault in result.err().into_iter().flatten() {
            self.0.push(match fault {
                Fault::Value { key, message, from } => {
                    Fault::Value { key: format!("{prefix}.{key}"), message, from }
                }
                other => other,
            });
        }
    }

    /// Whether there were no faults.
    ///
    /// # Errors
    /// All faults, if there are any.
    pub fn finish(self) -> Result<(), Faults> {
        Faults::or_ok(self.0)
    }
}

/// Says that a value is out of range, and what is in it.
pub(super) fn out_of_range(value: &impl Display, start: &impl Display, end: &impl Display) -> String {
    format!("{value} is out of range; write {start} to {end}")
}

fn quoted(text: String) -> String {
    format!("\"{text}\"")
}
