//! What a database stores in one field, and rows of them.

use thiserror::Error;

/// What a database stores in one field of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// NULL.
    Null,
    /// PostgreSQL's boolean. The others store 0 and 1.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number beyond the signed ones (MySQL's `BIGINT UNSIGNED`).
    Unsigned(u64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Text that is not UTF-8.
    InvalidText,
    /// Bytes. MySQL says the same of text whose collation is binary (`utf8mb4_bin`).
    Bytes(Vec<u8>),
}

impl Field {
    const fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Unsigned(_) => "a large integer",
            Self::Real(_) => "a real",
            Self::Text(_) => "text",
            Self::InvalidText => "text that is not UTF-8",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// A number of single precision as the double that has the same shortest decimal: 0.1 stays 0.1.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) fn single(number: f32) -> Field {
    Field::Real(number.to_string().parse().unwrap_or(f64::from(number)))
}

/// A field that is not what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the field {at} of a row is {found}, not {expected}")]
pub struct FieldError {
    at: usize,
    found: &'static str,
    expected: &'static str,
}

/// A row of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row(Vec<Field>);

impl Row {
    pub(super) const fn new(fields: Vec<Field>) -> Self {
        Self(fields)
    }

    /// The fields, in their order.
    pub fn into_fields(self) -> Vec<Field> {
        self.0
    }

    /// The field at `at`, from 0; `None` beyond the last one.
    pub fn get(&self, at: usize) -> Option<&Field> {
        self.0.get(at)
    }

    /// Whether there is NULL at `at`.
    pub fn is_null(&self, at: usize) -> bool {
        matches!(self.get(at), Some(Field::Null))
    }

    /// The whole number at `at`. A boolean is 0 or 1.
    ///
    /// # Errors
    /// Any other field.
    pub fn integer(&self, at: usize) -> Result<i64, FieldError> {
        match self.get(at) {
            Some(Field::Integer(number)) => Ok(*number),
            Some(Field::Bool(truth)) => Ok(i64::from(*truth)),
            _ => Err(self.error(at, "an integer")),
        }
    }

    /// The text at `at`. Bytes are text if they are UTF-8.
    ///
    /// # Errors
    /// Any other field.
    pub fn text(&self, at: usize) -> Result<&str, FieldError> {
        match self.get(at) {
            Some(Field::Text(text)) => Some(text.as_str()),
            Some(Field::Bytes(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
        .ok_or_else(|| self.error(at, "text"))
    }

    /// The bytes at `at`, or those of its text.
    ///
    /// # Errors
    /// Any other field.
    pub fn bytes(&self, at: usize) -> Result<&[u8], FieldError> {
        match self.get(at) {
            Some(Field::Text(text)) => Ok(text.as_bytes()),
            Some(Field::Bytes(bytes)) => Ok(bytes),
            _ => Err(self.error(at, "bytes")),
        }
    }

    fn error(&self, at: usize, expected: &'static str) -> FieldError {
        FieldError { at, found: self.get(at).map_or("missing", Field::name), expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_as_what_it_is_or_not_at_all() {
        let row = Row::new(vec![
            Field::Integer(7),
            Field::Text("a".into()),
            Field::Bytes(vec![0xff]),
            Field::Bytes(b"b".to_vec()),
            Field::Null,
        ]);
        assert_eq!((row.integer(0), row.text(1), row.bytes(1)), (Ok(7), Ok("a"), Ok(&b"a"[..])));
        assert_eq!((row.bytes(2), row.text(3)), (Ok(&[0xff][..]), Ok("b")));
        assert!(row.is_null(4) && !row.is_null(0) && !row.is_null(5));
        let error = |result: Result<i64, FieldError>| result.expect_err("no integer").to_string();
        assert_eq!(error(row.integer(1)), "the field 1 of a row is text, not an integer");
        assert_eq!(error(row.integer(5)), "the field 5 of a row is missing, not an integer");
        assert!(row.text(2).is_err() && row.bytes(0).is_err());
    }
}
