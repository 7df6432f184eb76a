//! Reads a TOML file into paths, values and line numbers.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use toml::{
    Value,
    de::{DeTable, DeValue},
};

use super::{Fault, KeyPath, Source, raw::Raw};

/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What a file holds, flattened.
#[derive(Default)]
pub(super) struct Document {
    /// Every value that is not a table.
    pub(super) values: Vec<(KeyPath, Raw, Source)>,
    /// Every table, empty ones and those written inline too.
    pub(super) tables: Vec<(KeyPath, Source)>,
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Document, Fault> {
    let shown = path.display().to_string();
    let fault = |message: String| Fault::File { path: shown.clone(), line: 0, column: 0, message };
    let bytes = bytes(path).map_err(|error| fault(format!("the file can't be read: {error}")))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(fault("the file is larger than 1MiB, which no configuration needs".to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Fault::File { path: shown.clone(), line, column: 1, message: "the line is not UTF-8 text".to_owned() }
    })?;
    parse(&shown, text)
}

/// At most one byte more than the limit, so that an endless file ends too.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads `text`, which came from the file shown as `path`.
pub(super) fn parse(path: &str, text: &str) -> Result<Document, Fault> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| {
        let (line, column) = lines.position(text, error.span().map_or(0, |span| span.start));
        // The error's own `Display` quotes the line, which may hold a password.
        Fault::File { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })?;
    let mut walk = Walk { path: path.into(), lines, document: Document::default() };
    walk.table(&KeyPath::default(), table.into_inner());
    Ok(walk.document)
}

struct Walk {
    path: Arc<str>,
    lines: Lines,
    document: Document,
}

impl Walk {
    /// The parser limits the depth, so that this recursion ends.
    fn table(&mut self, path: &KeyPath, table: DeTable<'_>) {
        for (key, value) in table {
            let line = self.lines.line(key.span().start);
            let path = path.child(key.get_ref());
            let source = Source::File { path: Arc::clone(&self.path), line };
            match value.into_inner() {
                DeValue::Table(table) => {
                    self.document.tables.push((path.clone(), source));
                    self.table(&path, table);
                }
                value => self.document.values.push((path, raw(value), source)),
            }
        }
    }
}

fn raw(value: DeValue<'_>) -> Raw {
    match &value {
        // An integer beyond 64 bits has no place in a TOML value: as text it fails where it is read.
        DeValue::Integer(number) if integer(number).is_none() => Raw::Text(number.to_string()),
        _ => Raw::Toml(owned(value)),
    }
}

fn integer(number: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn owned(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => match integer(&number) {
            Some(integer) => Value::Integer(integer),
            None => Value::String(number.to_string()),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(time) => Value::Datetime(time),
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| owned(item.into_inner())).collect())
        }
        DeValue::Table(table) => Value::Table(
            table
                .into_iter()
                .map(|(key, value)| (key.into_inner().into_owned(), owned(value.into_inner())))
                .collect(),
        ),
    }
}

/// Where each line starts, in bytes.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line that holds the byte at `offset`, counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Line and column, in characters, of the byte at `offset`, both counted from 1.
    fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.0[line - 1];
        let column = text.get(start..offset).map_or(1, |before| before.chars().count() + 1);
        (line, column)
    }
}
