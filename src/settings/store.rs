//! The layers of settings, who asked for which key, and what is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
};

use super::{
    Effective, Fault, Faults, KeyPath, Section, Source,
    file::{self, Document},
    path::{ENV_PREFIX, ENV_SEPARATOR},
    raw::Raw,
    suggest::nearest,
};

/// How many unknown keys get a suggestion: a file of another kind may hold very many.
const SUGGESTIONS_MAX: usize = 64;

/// A value that a source gave.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) value: Raw,
    pub(super) source: Source,
}

/// All sources, and the state of reading them. Never printed: it holds secrets.
#[derive(Default)]
pub struct Settings {
    flags: BTreeMap<KeyPath, Given>,
    /// By what follows the prefix, in upper case. A key's variable is found by computing its name, not by
    /// taking names apart: only so can a name that itself holds `__`, or capitals, be given.
    env: BTreeMap<String, Given>,
    file: BTreeMap<KeyPath, Given>,
    file_tables: BTreeMap<KeyPath, Source>,
    known: BTreeSet<KeyPath>,
    known_tables: BTreeSet<KeyPath>,
    faulty: BTreeSet<KeyPath>,
    faults: Vec<Fault>,
    effective: Effective,
}

impl Settings {
    /// No source: everything is at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the file layer.
    ///
    /// # Errors
    /// The file can't be read, is larger than [`FILE_BYTES_MAX`](super::FILE_BYTES_MAX), or is not TOML.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Faults> {
        self.add_document(file::read(path)?);
        Ok(())
    }

    /// Adds `text` as the file layer; `path` is what messages call it.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn add_text(&mut self, path: &str, text: &str) -> Result<(), Faults> {
        self.add_document(file::parse(path, text)?);
        Ok(())
    }

    fn add_document(&mut self, document: Document) {
        self.file_tables.extend(document.tables);
        let values = document.values.into_iter();
        self.file.extend(values.map(|(path, value, source)| (path, Given { value, source })));
    }

    /// Adds the environment layer: those of the variables whose names start with `GGCACHE__`.
    pub fn add_env(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            // A name that is not text can't be one of ours but by its start, which nobody meant.
            let Some(name) = name.to_str() else { continue };
            let Some(suffix) = name.strip_prefix(ENV_PREFIX) else { continue };
            let source = Source::Env(name.to_owned());
            let Ok(value) = value.into_string() else {
                self.fault(&env_path(suffix), "the value is not UTF-8 text", source);
                continue;
            };
            let given = Given { value: Raw::Text(value), source };
            if let Some(twice) = self.env.insert(suffix.to_uppercase(), given) {
                let message = format!("the environment gives it twice, as {name} too; keep one");
                self.fault(&env_path(suffix), message, twice.source);
            }
        }
    }

    /// Adds one value to the flag layer, read as what its key expects. A later one wins.
    pub fn add_flag(&mut self, key: &str, value: &str, flag: &str) {
        let source = Source::Flag(flag.to_owned());
        match KeyPath::parse(key) {
            Some(path) => {
                self.flags.insert(path, Given { value: Raw::Text(value.to_owned()), source });
            }
            None => {
                let key = KeyPath::new([key]);
                self.fault(&key, "not a key; write for example node.listen", source);
            }
        }
    }

    /// The keys at the top of the document.
    pub fn root(&mut self) -> Section<'_> {
        self.section(&[])
    }

    /// The section with this path, such as `["group", "scores"]`. It need not exist in any source.
    pub fn section(&mut self, path: &[&str]) -> Section<'_> {
        let path = KeyPath::new(path.iter().copied());
        for count in 0..=path.segments().len() {
            self.known_tables.insert(path.prefix(count));
        }
        Section::new(self, path)
    }

    /// The names of the sections below the table with this path, such as `["group"]`, in any source, in order.
    pub fn names(&mut self, table: &[&str]) -> Vec<String> {
        let table = KeyPath::new(table.iter().copied());
        for count in 0..=table.segments().len() {
            self.known_tables.insert(table.prefix(count));
        }
        let tables = self.file_tables.keys().filter_map(|path| path.below(&table)).map(|rest| &rest[0]);
        // A flag names a section only if it goes on to a key in it.
        let flags = self.flags.keys().filter_map(|path| path.below(&table)).filter(|rest| rest.len() > 1);
        let mut names: BTreeSet<String> = tables.chain(flags.map(|rest| &rest[0])).cloned().collect();

        let prefix = format!("{}{ENV_SEPARATOR}", table.env_suffix());
        let written: Vec<String> =
            names.iter().map(|name| format!("{}{ENV_SEPARATOR}", name.to_uppercase())).collect();
        for rest in self.env.keys().filter_map(|suffix| suffix.strip_prefix(&prefix)) {
            if written.iter().any(|name| rest.starts_with(name)) {
                continue;
            }
            if let Some((name, _)) = rest.split_once(ENV_SEPARATOR).filter(|(name, _)| !name.is_empty()) {
                names.insert(name.to_lowercase());
            }
        }
        names.into_iter().collect()
    }

    /// Whether no fault was found at the keys that match `pattern`, in which `*` is any one segment. What
    /// compares two values asks first, or it would report a default that nobody wrote.
    pub fn is_sound(&self, pattern: &str) -> bool {
        !self.faulty.iter().any(|path| path.matches(pattern))
    }

    pub(super) fn is_faulty(&self, path: &KeyPath) -> bool {
        self.faulty.contains(path)
    }

    /// Takes over the faults of a check over several sections; their keys are full.
    pub fn check(&mut self, result: Result<(), Faults>) {
        self.root().check(result);
    }

    /// Reports what nobody asked for, and ends the reading.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn finish(mut self) -> Result<Effective, Faults> {
        self.report_unknown();
        Faults::or_ok(self.faults)?;
        Ok(self.effective)
    }

    pub(super) fn lookup(&mut self, path: &KeyPath) -> Option<Given> {
        self.known.insert(path.clone());
        let given = self.flags.get(path).or_else(|| self.env.get(&path.env_suffix()));
        given.or_else(|| self.file.get(path)).cloned()
    }

    pub(super) fn fault(
        &mut self,
        path: &KeyPath,
        message: impl Into<String>,
        source: impl Into<Option<Source>>,
    ) {
        self.faulty.insert(path.clone());
        self.faults.push(Fault::Value {
            key: path.to_string(),
            message: message.into(),
            from: source.into(),
        });
    }

    pub(super) const fn effective(&mut self) -> &mut Effective {
        &mut self.effective
    }

    /// Where a fault of `path` should point: at its value, or else at its section.
    pub(super) fn source_of(&self, path: &KeyPath) -> Option<Source> {
        let given = self.effective.get(path).map(|entry| entry.source.clone());
        given.filter(|source| *source != Source::Default).or_else(|| self.table_source(&path.parent()))
    }

    /// A place where the section is written: its header in the file; or, if its name is somebody's choice, the
    /// value that named it.
    fn table_source(&self, table: &KeyPath) -> Option<Source> {
        let in_env = || {
            let prefix = format!("{}{ENV_SEPARATOR}", table.env_suffix());
            self.env.iter().find(|(suffix, _)| suffix.starts_with(&prefix)).map(|(_, given)| &given.source)
        };
        let in_flags =
            || self.flags.iter().find(|(path, _)| path.below(table).is_some()).map(|(_, g)| &g.source);
        let in_file = self.file_tables.get(table);
        if table.segments().len() < 2 {
            in_file.cloned()
        } else {
            in_file.or_else(in_flags).or_else(in_env).cloned()
        }
    }

    fn report_unknown(&mut self) {
        let mut seen = BTreeSet::new();
        let mut found: Vec<(KeyPath, Source)> = Vec::new();
        let in_file = self.file_tables.iter().map(|(path, source)| (path, source, true));
        let in_file = in_file.chain(self.file.iter().map(|(path, given)| (path, &given.source, false)));
        for (path, source, is_table) in in_file {
            let known = if is_table { &self.known_tables } else { &self.known };
            if !known.contains(path) {
                // One fault for a whole section that is unknown, at its first line.
                let first = self.first_unknown(path);
                if seen.insert(first.clone()) {
                    found.push((first, source.clone()));
                }
            }
        }
        found.sort_by_key(|(_, source)| match source {
            Source::File { line, .. } => *line,
            _ => 0,
        });
        let flags = self.flags.iter().filter(|(path, _)| !self.known.contains(*path));
        found.extend(flags.map(|(path, given)| (path.clone(), given.source.clone())));
        let variables: BTreeSet<String> = self.known.iter().map(KeyPath::env_suffix).collect();
        let env = self.env.iter().filter(|(suffix, _)| !variables.contains(*suffix));
        found.extend(env.map(|(suffix, given)| (env_path(suffix), given.source.clone())));

        for (index, (path, source)) in found.into_iter().enumerate() {
            let fault = self.unknown(&path, source, index < SUGGESTIONS_MAX);
            self.faults.push(fault);
        }
    }

    /// The shortest part of `path` that is not a known table.
    fn first_unknown(&self, path: &KeyPath) -> KeyPath {
        let counts = 1..path.segments().len();
        let shortest =
            counts.map(|count| path.prefix(count)).find(|prefix| !self.known_tables.contains(prefix));
        shortest.unwrap_or_else(|| path.clone())
    }

    fn unknown(&self, path: &KeyPath, source: Source, suggest: bool) -> Fault {
        let key = path.to_string();
        if self.known_tables.contains(path) {
            let message = format!("this is a section, not a value; write its keys below [{key}]");
            return Fault::Value { key, message, from: Some(source) };
        }
        if self.known.contains(path) {
            let message = "this takes one value, not a table".to_owned();
            return Fault::Value { key, message, from: Some(source) };
        }
        let is_section = self.file_tables.contains_key(path) && matches!(source, Source::File { .. });
        let candidates = if is_section { &self.known_tables } else { &self.known };
        let meant = suggest.then(|| suggestion(path, candidates)).flatten();
        Fault::Unknown { what: if is_section { "section" } else { "key" }, key, meant, from: Some(source) }
    }
}

/// The candidate nearest to `path`, or else one of the same name in another section.
fn suggestion(path: &KeyPath, candidates: &BTreeSet<KeyPath>) -> Option<String> {
    let names: Vec<String> =
        candidates.iter().map(KeyPath::to_string).filter(|name| !name.is_empty()).collect();
    let near = nearest(&path.to_string(), names.iter().map(String::as_str));
    near.map(str::to_owned).or_else(|| {
        let elsewhere = candidates.iter().find(|candidate| candidate.name() == path.name());
        elsewhere.map(KeyPath::to_string)
    })
}

/// The key that a variable names when no section is known to hold it.
fn env_path(suffix: &str) -> KeyPath {
    KeyPath::new(suffix.split(ENV_SEPARATOR).map(str::to_lowercase))
}
