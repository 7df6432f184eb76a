//! Typed access to the keys of one section.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use toml::Value;

use super::{
    Fault, Faults, KeyPath, Settings, Source,
    checks::out_of_range,
    human::{format_bytes, format_duration, parse_bytes, parse_duration},
    raw::{Raw, quote},
    suggest::nearest,
};

/// Reads the keys of one section. A wrong value is noted as a fault and read as the default.
pub struct Section<'a> {
    settings: &'a mut Settings,
    path: KeyPath,
}

impl<'a> Section<'a> {
    pub(super) const fn new(settings: &'a mut Settings, path: KeyPath) -> Self {
        Self { settings, path }
    }

    /// A duration with a unit, such as `"30s"`.
    pub fn duration(&mut self, name: &str, default: Duration) -> Duration {
        let parse = |raw: &Raw| parse_duration(&raw.with_unit("30s")?);
        self.value(name, default, parse, |value| text(&format_duration(*value)))
    }

    /// A size in bytes with a unit, such as `"64MiB"`.
    pub fn bytes(&mut self, name: &str, default: u64) -> u64 {
        let parse = |raw: &Raw| parse_bytes(&raw.with_unit("64MiB")?);
        self.value(name, default, parse, |value| text(&format_bytes(*value)))
    }

    /// A whole number within `range`, bounds included.
    pub fn integer<T>(&mut self, name: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let (start, end) = (range.start(), range.end());
        let parse = |raw: &Raw| {
            let number = raw.integer().map_err(|wrong| format!("{wrong}; write {start} to {end}"))?;
            let converted = T::try_from(number).ok().filter(|value| range.contains(value));
            converted.ok_or_else(|| out_of_range(&number, start, end))
        };
        self.value(name, default, parse, T::to_string)
    }

    /// A number within `range`, bounds included.
    pub fn float(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let (start, end) = (range.start(), range.end());
        let parse = |raw: &Raw| {
            let number = raw.float().map_err(|wrong| format!("{wrong}; write {start} to {end}"))?;
            if range.contains(&number) { Ok(number) } else { Err(out_of_range(&number, start, end)) }
        };
        self.value(name, default, parse, |value| Value::Float(*value).to_string())
    }

    /// `true` or `false`.
    pub fn bool(&mut self, name: &str, default: bool) -> bool {
        self.value(name, default, Raw::boolean, bool::to_string)
    }

    /// Any string.
    pub fn string(&mut self, name: &str, default: &str) -> String {
        self.value(name, default.to_owned(), |raw| raw.text().map(str::to_owned), |value| text(value))
    }

    /// Any string, or nothing.
    pub fn optional_string(&mut self, name: &str) -> Option<String> {
        let found = self.take(name, |raw| raw.text().map(str::to_owned));
        self.record_optional(name, found, |value| text(value))
    }

    /// A string that `T` reads, or nothing. A fault says `expected`.
    pub fn optional_parsed<T: FromStr + Display>(&mut self, name: &str, expected: &str) -> Option<T> {
        let found = self.take(name, |raw| parse_one(raw.text()?, expected));
        self.record_optional(name, found, |value: &T| text(&value.to_string()))
    }

    /// A string that has no default. A missing one is a fault that shows `example`; the answer is then empty.
    pub fn required_string(&mut self, name: &str, example: &str) -> String {
        let value = self.optional_string(name);
        self.require(name, value.is_some(), example);
        value.unwrap_or_default()
    }

    /// A string that holds a secret and has no default. Its text appears in no fault, and among the
    /// effective settings only as far as `T`'s `Display` shows it. A missing one is a fault.
    pub fn secret<T: Display>(
        &mut self,
        name: &str,
        example: &str,
        wrap: impl FnOnce(String) -> T,
    ) -> Option<T> {
        let value = self.optional_secret(name, wrap);
        self.require(name, value.is_some(), example);
        value
    }

    /// As [`secret`](Self::secret), but it may be missing.
    pub fn optional_secret<T: Display>(&mut self, name: &str, wrap: impl FnOnce(String) -> T) -> Option<T> {
        let found = self.take(name, |raw| {
            let secret = raw.secret()?;
            let value = wrap(secret.to_owned());
            let hidden = (value.to_string() != secret).then(|| secret.to_owned());
            Ok((value, hidden))
        });
        let found = self.record_optional(name, found, |(value, _)| text(&value.to_string()));
        if let Some((_, Some(secret))) = &found {
            let path = self.path.child(name);
            self.settings.effective().mark_redacted(&path, secret);
        }
        found.map(|(value, _)| value)
    }

    /// A list of strings.
    pub fn strings(&mut self, name: &str, default: &[&str]) -> Vec<String> {
        let default = default.iter().map(|item| (*item).to_owned()).collect();
        self.value(name, default, Raw::strings, |items: &Vec<String>| list(items))
    }

    /// A list of strings that has no default. A missing one is a fault; the answer is then empty.
    pub fn required_strings(&mut self, name: &str, example: &str) -> Vec<String> {
        let found = self.take(name, Raw::strings);
        let value = self.record_optional(name, found, |items| list(items));
        self.require_as(name, value.is_some(), &format!("[{}]", text(example)));
        value.unwrap_or_default()
    }

    /// A list of strings that may be left out, which means something else than an empty one.
    pub fn optional_strings(&mut self, name: &str) -> Option<Vec<String>> {
        let found = self.take(name, Raw::strings);
        self.record_optional(name, found, |items| list(items))
    }

    /// One of the words in `names`, each of which `T` reads.
    pub fn choice<T: FromStr + Display>(&mut self, name: &str, default: T, names: &[&str]) -> T {
        let parse = |raw: &Raw| {
            let word = raw.text()?.trim();
            let known = names.contains(&word).then(|| word.parse().ok()).flatten();
            known.ok_or_else(|| {
                let choices = names.join(", ");
                match nearest(word, names.iter().copied()) {
                    Some(near) => format!("{} is not one of {choices}; did you mean {near}?", quote(word)),
                    None => format!("{} is not one of {choices}", quote(word)),
                }
            })
        };
        self.value(name, default, parse, |value| text(&value.to_string()))
    }

    /// A string that `T` reads. A fault says `expected`, such as `an address, for example "127.0.0.1:80"`.
    pub fn parsed<T: FromStr + Display>(&mut self, name: &str, default: T, expected: &str) -> T {
        let parse = |raw: &Raw| parse_one(raw.text()?, expected);
        self.value(name, default, parse, |value| text(&value.to_string()))
    }

    /// A list of strings, each of which `T` reads. Every wrong element is a fault of its own.
    pub fn parsed_list<T: FromStr + Display>(
        &mut self,
        name: &str,
        default: Vec<T>,
        expected: &str,
    ) -> Vec<T> {
        let Some((items, source)) = self.take(name, Raw::strings) else {
            let literal = list(&default);
            self.record(name, literal, Source::Default);
            return default;
        };
        let mut parsed = Vec::with_capacity(items.len());
        for item in &items {
            match parse_one(item, expected) {
                Ok(value) => parsed.push(value),
                Err(message) => self.settings.fault(&self.path.child(name), message, source.clone()),
            }
        }
        self.record(name, list(&parsed), source);
        parsed
    }

    /// Whether a source gave the key a value, right or wrong. The key must be read as well.
    pub fn is_given(&mut self, name: &str) -> bool {
        self.settings.lookup(&self.path.child(name)).is_some()
    }

    /// Whether no fault has been found at the key.
    pub fn is_sound(&self, name: &str) -> bool {
        !self.settings.is_faulty(&self.path.child(name))
    }

    /// Replaces what was read at `name`, for a flag that changes a part of a value.
    pub fn replace(&mut self, name: &str, value: &impl Display, flag: &str) {
        self.record(name, text(&value.to_string()), Source::Flag(flag.to_owned()));
    }

    /// Notes a fault of `name`, with the source of its value.
    pub fn fault(&mut self, name: &str, message: impl Into<String>) {
        let path = self.path.child(name);
        let source = self.settings.source_of(&path);
        self.settings.fault(&path, message, source);
    }

    /// Notes a fault of the section itself, such as a bad name.
    pub fn fault_here(&mut self, message: impl Into<String>) {
        let source = self.settings.source_of(&self.path.child(""));
        self.settings.fault(&self.path, message, source);
    }

    /// Takes over the faults of a part's `validate`, whose keys are relative to this section.
    pub fn check(&mut self, result: Result<(), Faults>) {
        for fault in result.err().into_iter().flatten() {
            if let Fault::Value { key, message, .. } = fault {
                let segments = self.path.segments().iter().map(String::as_str).chain(key.split('.'));
                let path = KeyPath::new(segments);
                let source = self.settings.source_of(&path);
                self.settings.fault(&path, message, source);
            }
        }
    }

    /// Like [`check`](Self::check), but without the faults of keys that have one already: for a section
    /// whose keys have no defaults to stand in for what could not be read.
    pub fn check_sound(&mut self, result: Result<(), Faults>) {
        let faults = result.err().into_iter().flatten();
        let sound = faults.filter(|fault| self.is_sound(fault.key())).collect();
        self.check(Faults::or_ok(sound));
    }

    fn value<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&Raw) -> Result<T, String>,
        literal: impl FnOnce(&T) -> String,
    ) -> T {
        let (value, source) = self.take(name, parse).unwrap_or((default, Source::Default));
        self.record(name, literal(&value), source);
        value
    }

    fn take<T>(&mut self, name: &str, parse: impl FnOnce(&Raw) -> Result<T, String>) -> Option<(T, Source)> {
        let path = self.path.child(name);
        let given = self.settings.lookup(&path)?;
        match parse(&given.value) {
            Ok(value) => Some((value, given.source)),
            Err(message) => {
                self.settings.fault(&path, message, given.source);
                None
            }
        }
    }

    fn record(&mut self, name: &str, literal: String, source: Source) {
        let path = self.path.child(name);
        self.settings.effective().record(path, literal, source);
    }

    fn record_optional<T>(
        &mut self,
        name: &str,
        found: Option<(T, Source)>,
        literal: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match found {
            Some((value, source)) => {
                self.record(name, literal(&value), source);
                Some(value)
            }
            None => {
                let path = self.path.child(name);
                self.settings.effective().record_unset(path);
                None
            }
        }
    }

    fn require(&mut self, name: &str, present: bool, example: &str) {
        self.require_as(name, present, &text(example));
    }

    fn require_as(&mut self, name: &str, present: bool, literal: &str) {
        // A value that was given and is wrong has its fault already.
        if !present && !self.is_given(name) {
            self.fault(name, format!("it is missing; write for example {name} = {literal}"));
        }
    }
}

fn parse_one<T: FromStr>(word: &str, expected: &str) -> Result<T, String> {
    word.trim().parse().map_err(|_| format!("{} is not {expected}", quote(word)))
}

/// A string as TOML writes it.
fn text(value: &str) -> String {
    Value::String(value.to_owned()).to_string()
}

/// A list of strings as TOML writes it.
fn list(items: &[impl Display]) -> String {
    Value::Array(items.iter().map(|item| Value::String(item.to_string())).collect()).to_string()
}
