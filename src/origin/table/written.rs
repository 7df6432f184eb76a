//! How the body of a write becomes the values of a row: the way back of `render.rs`.
//!
//! One value column is its own text or bytes, and empty for NULL where its type has no empty value. Several are a JSON
//! object with all of the columns and no others; bytes are base64 there, decimals and integers keep all of their digits.
//! What the text means is the database's to say: it is cast to the column's type.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use crate::database::{Affinity, Column, ColumnType, DatabaseKind, SqlValue};

/// Reads bodies for the value columns of one table.
#[derive(Debug)]
pub(super) struct Parser {
    kind: DatabaseKind,
    columns: Vec<Writable>,
}

#[derive(Debug)]
struct Writable {
    column: Column,
    inserted: Around,
    assigned: Around,
}

/// SQL that stands before and after a value that is bound.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) before: String,
    pub(super) after: String,
}

impl Parser {
    /// For `columns`, in this order.
    ///
    /// # Errors
    /// A column of a type whose rendering has no way back.
    pub(super) fn new(kind: DatabaseKind, columns: Vec<Column>) -> Result<Self, Box<Column>> {
        let writable = |column: Column| {
            use ColumnType::{CastInteger, Other, ToJson};
            if matches!(column.column_type, CastInteger | ToJson | Other) {
                return Err(Box::new(column));
            }
            // PostgreSQL takes a bound text, or NULL, for nothing else without being told; the name is the catalog's own.
            let cast = kind == DatabaseKind::Postgres;
            let (before, after) = match cast {
                true => ("CAST(".to_owned(), format!(" AS {})", column.declared)),
                false => (String::new(), String::new()),
            };
            let assigned =
                Around { before: format!("{} = {before}", kind.quoted(&column.name)), after: after.clone() };
            Ok(Writable { column, inserted: Around { before, after }, assigned })
        };
        Ok(Self { kind, columns: columns.into_iter().map(writable).collect::<Result<_, _>>()? })
    }

    /// What stands around each value in an INSERT.
    pub(super) fn inserted(&self) -> impl Iterator<Item = &Around> {
        self.columns.iter().map(|writable| &writable.inserted)
    }

    /// The same in an UPDATE, with the column's name.
    pub(super) fn assigned(&self) -> impl Iterator<Item = &Around> {
        self.columns.iter().map(|writable| &writable.assigned)
    }

    /// A value for each column.
    ///
    /// # Errors
    /// What is wrong with the body, and what would be right.
    pub(super) fn parse(&self, body: &[u8]) -> Result<Vec<SqlValue<'static>>, String> {
        match self.columns.as_slice() {
            [alone] => Ok(vec![self.alone(&alone.column, body)?]),
            _ => self.object(body),
        }
    }

    fn alone(&self, column: &Column, body: &[u8]) -> Result<SqlValue<'static>, String> {
        if column.column_type == ColumnType::Bytes || column.column_type == ColumnType::Stored(Affinity::Blob)
        {
            return Ok(SqlValue::from(body.to_vec()));
        }
        if body.is_empty() && !has_empty_value(&column.column_type) {
            return Ok(SqlValue::Null);
        }
        let text = std::str::from_utf8(body).map_err(|_| {
            format!("the column {:?} holds {}, and the body is not UTF-8", column.name, column.declared)
        })?;
        self.text(column, text)
    }

    fn text(&self, column: &Column, text: &str) -> Result<SqlValue<'static>, String> {
        if self.kind == DatabaseKind::Postgres && text.contains('\0') {
            return Err(format!(
                "the column {:?} is PostgreSQL's, which has no text with a zero byte",
                column.name
            ));
        }
        match &column.column_type {
            ColumnType::Json if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() => {
                Err(format!("the column {:?} holds JSON, and what is written to it is none", column.name))
            }
            ColumnType::Timestamp | ColumnType::TimestampUtc if self.kind == DatabaseKind::Mysql => {
                Ok(mysql_time(text).into())
            }
            _ => Ok(text.to_owned().into()),
        }
    }

    fn object(&self, body: &[u8]) -> Result<Vec<SqlValue<'static>>, String> {
        let names = || {
            let names: Vec<_> =
                self.columns.iter().map(|writable| format!("{:?}", writable.column.name)).collect();
            names.join(", ")
        };
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body)
            .map_err(|error| format!("the body is a JSON object with {} ({error})", names()))?;
        let mut values = Vec::with_capacity(self.columns.len());
        for Writable { column, .. } in &self.columns {
            let field = fields.remove(&column.name).ok_or_else(|| {
                format!("the body lacks {:?}; write a JSON object with {}", column.name, names())
            })?;
            values.push(self.field(column, field.get().trim())?);
        }
        match fields.into_keys().next() {
            None => Ok(values),
            Some(other) => {
                let other: String = other.chars().take(80).collect();
                Err(format!(
                    "{other:?} is no value column of the group; write a JSON object with {}",
                    names()
                ))
            }
        }
    }

    /// A field of an object, as JSON.
    fn field(&self, column: &Column, json: &str) -> Result<SqlValue<'static>, String> {
        let wrong =
            |expected: &str| format!("the column {:?} ({}) takes {expected}", column.name, column.declared);
        if json == "null" {
            return Ok(SqlValue::Null);
        }
        if column.column_type == ColumnType::Json {
            return self.text(column, json);
        }
        if json.starts_with('"') {
            let text: String =
                serde_json::from_str(json).map_err(|_| wrong("a string of whole characters"))?;
            let is_bytes =
                matches!(column.column_type, ColumnType::Bytes | ColumnType::Stored(Affinity::Blob));
            if is_bytes {
                let bytes = STANDARD.decode(text).map_err(|_| wrong("a string in base64, with padding"))?;
                return Ok(bytes.into());
            }
            return self.text(column, &text);
        }
        if matches!(json, "true" | "false") {
            return match (self.kind, &column.column_type) {
                (_, ColumnType::Bool) => Ok(json.to_owned().into()),
                (DatabaseKind::Postgres, _) => Err(wrong("no boolean")),
                _ => Ok(SqlValue::Integer(i64::from(json == "true"))),
            };
        }
        if json.starts_with(['{', '[']) {
            return Err(wrong("no object or array"));
        }
        match (self.kind, json.parse::<i64>(), json.parse::<f64>()) {
            // SQLite keeps the type of what it is given, where the column has none.
            (DatabaseKind::Sqlite, Ok(number), _) => Ok(SqlValue::Integer(number)),
            (DatabaseKind::Sqlite, _, Ok(number)) => Ok(SqlValue::Real(number)),
            // With all of its digits.
            _ => self.text(column, json),
        }
    }
}

/// Whether an empty text is a value of the type, and not only how NULL is read.
const fn has_empty_value(column_type: &ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::Text
            | ColumnType::PaddedText
            | ColumnType::CaseInsensitiveText(_)
            | ColumnType::Stored(Affinity::Text)
    )
}

/// RFC 3339 as MySQL and MariaDB read it: in the session's zone, which is UTC.
fn mysql_time(text: &str) -> String {
    let plain = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    match plain.as_bytes().get(10) {
        Some(b'T' | b't') => format!("{} {}", &plain[..10], &plain[11..]),
        _ => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, column_type: ColumnType) -> Column {
        Column {
            name: name.to_owned(),
            declared: "declared".to_owned(),
            column_type,
            unique: false,
            indexed: false,
            collation: None,
            character_set: None,
        }
    }

    fn parser(kind: DatabaseKind, columns: &[(&str, ColumnType)]) -> Parser {
        let columns = columns.iter().map(|(name, column_type)| column(name, column_type.clone())).collect();
        Parser::new(kind, columns).expect("they can be written")
    }

    fn text(text: &str) -> SqlValue<'static> {
        text.to_owned().into()
    }

    #[test]
    fn one_column_is_the_body() {
        let of = |kind, column_type, body: &[u8]| {
            parser(kind, &[("v", column_type)]).parse(body).map(|mut all| all.remove(0))
        };
        assert_eq!(of(DatabaseKind::Postgres, ColumnType::Integer, b"333"), Ok(text("333")));
        assert_eq!(of(DatabaseKind::Postgres, ColumnType::Integer, b""), Ok(SqlValue::Null));
        assert_eq!(of(DatabaseKind::Postgres, ColumnType::Text, b""), Ok(text("")));
        assert_eq!(of(DatabaseKind::Mysql, ColumnType::Bytes, &[0, 255]), Ok(vec![0, 255].into()));
        assert!(of(DatabaseKind::Mysql, ColumnType::Text, &[0xff]).expect_err("no text").contains("UTF-8"));
        assert!(
            of(DatabaseKind::Postgres, ColumnType::Text, b"a\0").expect_err("no text").contains("zero byte")
        );
        assert!(of(DatabaseKind::Postgres, ColumnType::Json, b"{").expect_err("no JSON").contains("JSON"));
        let moment = of(DatabaseKind::Mysql, ColumnType::TimestampUtc, b"2026-01-02T03:04:05.5Z");
        assert_eq!(moment, Ok(text("2026-01-02 03:04:05.5")));
    }

    #[test]
    fn several_columns_are_an_object() {
        let columns = [("a", ColumnType::Decimal), ("b", ColumnType::Bytes), ("c", ColumnType::Json)];
        let parser = parser(DatabaseKind::Postgres, &columns);
        let body = br#"{"b": "+/8A", "a": 12345678901234567890.10, "c": {"x": [1, 2]}}"#;
        let values = [text("12345678901234567890.10"), vec![0xfb, 0xff, 0].into(), text(r#"{"x": [1, 2]}"#)];
        assert_eq!(parser.parse(body), Ok(values.to_vec()));
        assert_eq!(parser.parse(br#"{"a":null,"b":null,"c":null}"#), Ok(vec![SqlValue::Null; 3]));
        for (bad, what) in [
            ("", "JSON object with"),
            ("[]", "JSON object with"),
            (r#"{"a": 1, "b": ""}"#, "lacks \"c\""),
            (r#"{"a": 1, "b": "", "c": 1, "d": 1}"#, "\"d\" is no value column"),
            (r#"{"a": 1, "b": "%", "c": 1}"#, "base64"),
            (r#"{"a": [1], "b": "", "c": 1}"#, "no object or array"),
            (r#"{"a": true, "b": "", "c": 1}"#, "no boolean"),
        ] {
            let error = parser.parse(bad.as_bytes()).expect_err(bad);
            assert!(error.contains(what), "{bad}: {error}");
        }
    }

    #[test]
    fn sqlite_keeps_the_types_of_json() {
        let parser = parser(
            DatabaseKind::Sqlite,
            &[("a", ColumnType::Stored(Affinity::Numeric)), ("b", ColumnType::Stored(Affinity::Text))],
        );
        assert_eq!(parser.parse(br#"{"a":1.5,"b":"x"}"#), Ok(vec![SqlValue::Real(1.5), text("x")]));
        assert_eq!(
            parser.parse(br#"{"a":true,"b":7}"#),
            Ok(vec![SqlValue::Integer(1), SqlValue::Integer(7)])
        );
    }

    #[test]
    fn what_has_no_way_back_is_refused() {
        for column_type in [ColumnType::ToJson, ColumnType::CastInteger, ColumnType::Other] {
            assert!(Parser::new(DatabaseKind::Postgres, vec![column("v", column_type)]).is_err());
        }
    }
}
