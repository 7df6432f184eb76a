//! What a message of the queue says has changed. Knows neither the queue nor HTTP, and tells nothing of a key in an error.
//!
//! Two forms are read. The plain one is `{"group": "scores", "key": "anna"}`, with `{"b64": "_w"}` for a key that is not
//! text, or `{"group": "scores", "all": true}`. The other is Debezium's: `before`, `after`, `op` and `source`, within
//! `payload` or not; a [`Table`] says which group it is about, and which column is the key.

use std::str::FromStr;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::Value;
use thiserror::Error;

/// The longest key that there is, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// The longest name of a group.
const GROUP_BYTES_MAX: usize = 63;

/// What is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub group: String,
    pub what: What,
}

/// A key, or all of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Key(Vec<u8>),
    All,
}

/// A group that reads a table: `TABLE=GROUP:COLUMN`, with `:base64` after it for a column of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// As the change event names it, with or without its schema.
    table: String,
    group: String,
    column: String,
    is_base64: bool,
}

/// Why a message will never be understood, however often it comes.
#[derive(Debug, Error)]
pub enum Poison {
    #[error("it is no JSON")]
    Json(#[from] serde_json::Error),
    #[error("it has neither a group with a key, nor a change with op and source")]
    Shape,
    #[error("{0:?} can be no group: a name is [a-z][a-z0-9_]{{0,62}}")]
    Group(String),
    #[error("no --table is given for {0:?}")]
    Table(String),
    #[error("the row of table {table:?} has no column {column:?}")]
    Column { table: String, column: String },
    #[error("a row of table {table:?} is gone, and column {column:?} is not told; see REPLICA IDENTITY")]
    Unknown { table: String, column: String },
    #[error("a key is text, an integer or {{\"b64\": …}}")]
    KeyType,
    #[error("a key of {0} bytes, and keys have 1 to {KEY_BYTES_MAX}")]
    KeyLength(usize),
}

impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("write TABLE=GROUP:COLUMN, or TABLE=GROUP:COLUMN:base64, not {text:?}");
        let (table, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (group, column) = rest.split_once(':').ok_or_else(wrong)?;
        let (column, is_base64) = match column.strip_suffix(":base64") {
            Some(column) => (column, true),
            None => (column, false),
        };
        if table.is_empty() || column.is_empty() {
            return Err(wrong());
        }
        let group = group_name(group).map_err(|poison| poison.to_string())?;
        Ok(Self { table: table.to_owned(), group, column: column.to_owned(), is_base64 })
    }
}

impl Table {
    /// The row's key. `None` if it is NULL, or if there is no row: there is nothing in a cache then.
    fn key(&self, row: &Value) -> Result<Option<Vec<u8>>, Poison> {
        if row.is_null() {
            return Ok(None);
        }
        let missing = || Poison::Column { table: self.table.clone(), column: self.column.clone() };
        match row.get(&self.column).ok_or_else(missing)? {
            Value::Null => Ok(None),
            Value::String(text) if self.is_base64 => {
                checked(BASE64_STANDARD.decode(text).map_err(|_| Poison::KeyType)?).map(Some)
            }
            field => key(field).map(Some),
        }
    }
}

/// What a message says has changed; nothing if it is a tombstone, or about rows without a key.
pub fn read(payload: &[u8], tables: &[Table]) -> Result<Vec<Change>, Poison> {
    // Debezium sends an empty message after each deletion.
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let message: Value = serde_json::from_slice(payload)?;
    let message = message.get("payload").unwrap_or(&message);
    if message.is_null() {
        return Ok(Vec::new());
    }
    if let Some(op) = message.get("op") {
        return change_event(op.as_str().ok_or(Poison::Shape)?, message, tables);
    }
    let group = group_name(message.get("group").and_then(Value::as_str).ok_or(Poison::Shape)?)?;
    let what = match (message.get("key"), message.get("all")) {
        (Some(field), None) => What::Key(key(field)?),
        (None, Some(Value::Bool(true))) => What::All,
        _ => return Err(Poison::Shape),
    };
    Ok(vec![Change { group, what }])
}

fn change_event(op: &str, event: &Value, tables: &[Table]) -> Result<Vec<Change>, Poison> {
    let source = event.get("source").ok_or(Poison::Shape)?;
    let text = |name: &str| source.get(name).and_then(Value::as_str);
    let table = text("table").ok_or(Poison::Shape)?;
    // PostgreSQL's connector tells a schema, MySQL's a database only.
    let qualified = format!("{}.{table}", text("schema").or_else(|| text("db")).unwrap_or_default());
    let mut changes = Vec::new();
    let mut is_known = false;
    for known in tables.iter().filter(|known| known.table == table || known.table == qualified) {
        is_known = true;
        let mut add = |what| changes.push(Change { group: known.group.clone(), what });
        if op == "t" {
            add(What::All);
            continue;
        }
        let row = |name| event.get(name).unwrap_or(&Value::Null);
        let (before, after) = (known.key(row("before"))?, known.key(row("after"))?);
        if op == "d" && before.is_none() {
            return Err(Poison::Unknown { table: qualified, column: known.column.clone() });
        }
        if row("before").is_null() && row("after").is_null() {
            return Err(Poison::Shape);
        }
        // Both, where they differ: the old key is gone, and the new one may be known as absent.
        let after = after.filter(|after| Some(after) != before.as_ref());
        before.into_iter().chain(after).for_each(|key| add(What::Key(key)));
    }
    if is_known { Ok(changes) } else { Err(Poison::Table(qualified)) }
}

/// A key as a group has it: text as it is, integers in decimal.
fn key(field: &Value) -> Result<Vec<u8>, Poison> {
    let bytes = match field {
        Value::String(text) => text.clone().into_bytes(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string().into_bytes(),
        Value::Object(_) => {
            let text = field.get("b64").and_then(Value::as_str).ok_or(Poison::KeyType)?;
            BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| Poison::KeyType)?
        }
        _ => return Err(Poison::KeyType),
    };
    checked(bytes)
}

fn checked(key: Vec<u8>) -> Result<Vec<u8>, Poison> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) { Ok(key) } else { Err(Poison::KeyLength(key.len())) }
}

/// Checked here, because it becomes a part of a path.
fn group_name(name: &str) -> Result<String, Poison> {
    let is_name = name.len() <= GROUP_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_name { Ok(name.to_owned()) } else { Err(Poison::Group(name.chars().take(80).collect())) }
}
