//! The settings in force, each with its source.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use super::{KeyPath, Source};

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub path: KeyPath,
    /// The value as TOML writes it, without secrets; `None` for an optional key that nobody gave.
    pub literal: Option<String>,
    /// Where the value came from.
    pub source: Source,
    /// Whether secrets were left out of `literal`, so that it is not the value in force.
    pub is_redacted: bool,
    /// Of a redacted value: equal to that of the same value, and tells nothing else of it.
    fingerprint: u64,
}

impl Entry {
    /// Whether the values are the same, wherever they come from.
    fn has_value_of(&self, other: &Self) -> bool {
        (&self.literal, self.is_redacted, self.fingerprint)
            == (&other.literal, other.is_redacted, other.fingerprint)
    }
}

/// A key whose value differs between two settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The full key.
    pub path: KeyPath,
    /// The value that it had, as TOML writes it, without secrets; `None` if it had none.
    pub old: Option<String>,
    /// The value that it gets.
    pub new: Option<String>,
}

/// Every known key with its value and source, in the order in which the keys were read.
///
/// `Display` writes a TOML document with the source of each value in a comment. It can be loaded as a
/// configuration, but for secrets, which are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    entries: Vec<Entry>,
    index: BTreeMap<KeyPath, usize>,
}

impl Effective {
    /// The settings, one by one.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The setting of one key.
    pub fn get(&self, path: &KeyPath) -> Option<&Entry> {
        self.index.get(path).map(|at| &self.entries[*at])
    }

    /// Whether there is a key below `table`.
    pub fn has_table(&self, table: &KeyPath) -> bool {
        let next = self.index.range(table..).find(|(path, _)| *path != table);
        next.is_some_and(|(path, _)| path.below(table).is_some())
    }

    /// What is different in `newer`, in the order of its keys; last, what is not there any more. Of keys that only one of
    /// the two has, those that somebody gave a value.
    pub fn changes_to(&self, newer: &Self) -> Vec<Change> {
        let given = |entry: &&Entry| entry.source != Source::Default;
        let new = newer.entries.iter().filter_map(|new| match self.get(&new.path) {
            Some(old) => (!old.has_value_of(new)).then(|| change(Some(old), Some(new))),
            None => Some(new).filter(given).map(|new| change(None, Some(new))),
        });
        let gone = self.entries.iter().filter(|old| newer.get(&old.path).is_none()).filter(given);
        new.chain(gone.map(|old| change(Some(old), None))).collect()
    }

    /// These settings, with those of `newer` where `is_taken` says so or nothing is different.
    #[must_use]
    pub fn merged(&self, newer: &Self, is_taken: impl Fn(&KeyPath) -> bool) -> Self {
        let mut merged = Self::default();
        for new in &newer.entries {
            match self.get(&new.path) {
                Some(old) if !old.has_value_of(new) && !is_taken(&new.path) => merged.put(old.clone()),
                None if !is_taken(&new.path) => {}
                _ => merged.put(new.clone()),
            }
        }
        let gone = self.entries.iter().filter(|old| newer.get(&old.path).is_none());
        gone.filter(|old| !is_taken(&old.path)).for_each(|old| merged.put(old.clone()));
        merged
    }

    /// Notes a value that follows from others, of a key that nobody gave one.
    pub fn imply(&mut self, path: KeyPath, text: &str) {
        self.record(path, toml::Value::String(text.to_owned()).to_string(), Source::Default);
    }

    /// Notes a value, over an earlier one of the same key.
    pub(super) fn record(&mut self, path: KeyPath, literal: String, source: Source) {
        self.put(Entry { path, literal: Some(literal), source, is_redacted: false, fingerprint: 0 });
    }

    /// Notes that the value of `path` was noted without its secrets, which are `secret`.
    pub(super) fn mark_redacted(&mut self, path: &KeyPath, secret: &str) {
        /// Of this process, so that a fingerprint can't be looked up in a table.
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        if let Some(at) = self.index.get(path) {
            let entry = &mut self.entries[*at];
            (entry.is_redacted, entry.fingerprint) = (true, SEED.hash_one(secret));
        }
    }

    /// Notes that an optional key is known and has no value.
    pub(super) fn record_unset(&mut self, path: KeyPath) {
        self.put(Entry { path, literal: None, source: Source::Default, is_redacted: false, fingerprint: 0 });
    }

    fn put(&mut self, entry: Entry) {
        match self.index.get(&entry.path) {
            Some(at) => self.entries[*at] = entry,
            None => {
                self.index.insert(entry.path.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }
}

fn change(old: Option<&Entry>, new: Option<&Entry>) -> Change {
    let path = new.or(old).map(|entry| entry.path.clone()).unwrap_or_default();
    let literal = |entry: Option<&Entry>| entry.and_then(|entry| entry.literal.clone());
    Change { path, old: literal(old), new: literal(new) }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // TOML wants the keys of the document before its first table, whenever they were read.
        let mut tables: Vec<KeyPath> = vec![KeyPath::default()];
        let mut members: BTreeMap<KeyPath, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            let table = entry.path.parent();
            if !members.contains_key(&table) && !table.segments().is_empty() {
                tables.push(table.clone());
            }
            members.entry(table).or_default().push(entry);
        }
        let mut is_first = true;
        for table in &tables {
            let Some(entries) = members.get(table) else { continue };
            if !std::mem::take(&mut is_first) {
                writeln!(f)?;
            }
            if !table.segments().is_empty() {
                writeln!(f, "[{table}]")?;
            }
            for entry in entries {
                let redacted = if entry.is_redacted { ", shown without secrets" } else { "" };
                match &entry.literal {
                    Some(literal) => {
                        writeln!(f, "{} = {literal}  # {}{redacted}", entry.path.name(), entry.source)?
                    }
                    None => writeln!(f, "# {} is not set", entry.path.name())?,
                }
            }
        }
        Ok(())
    }
}
