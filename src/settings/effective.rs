//! The settings in force, each with its source.

use std::{collections::BTreeMap, fmt};

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

    /// Notes a value, over an earlier one of the same key.
    pub(super) fn record(&mut self, path: KeyPath, literal: String, source: Source) {
        self.put(Entry { path, literal: Some(literal), source, is_redacted: false });
    }

    /// Notes that the value of `path` was noted without its secrets.
    pub(super) fn mark_redacted(&mut self, path: &KeyPath) {
        if let Some(at) = self.index.get(path) {
            self.entries[*at].is_redacted = true;
        }
    }

    /// Notes that an optional key is known and has no value.
    pub(super) fn record_unset(&mut self, path: KeyPath) {
        self.put(Entry { path, literal: None, source: Source::Default, is_redacted: false });
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
