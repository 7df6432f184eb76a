//! How a row becomes a key and a value. The rules are the same for every database.
//!
//! How a *key* is rendered is said in `database/key.rs`, since triggers do the same.
//!
//! A *value* of one column is its own text or bytes; of several it is a JSON object, with the columns in the configured
//! order.
//!
//! | column | alone | in an object |
//! |---|---|---|
//! | text, enum, uuid, address | its text in UTF-8 | string |
//! | padded text (`char(n)`) | without the trailing spaces | string |
//! | integer | decimal | number, with all of its digits (beyond 2^53 too) |
//! | float | the shortest decimal that reads back as the same number (`1.5`, `1.0`, `1e+300`) | number |
//! | decimal | all of its digits, `12.50` | number, with all of its digits |
//! | a number that is none | `NaN`, `Infinity`, `-Infinity` | `null` |
//! | boolean of PostgreSQL | `true`, `false` | `true`, `false` |
//! | moment (`timestamptz`, MySQL's `timestamp`) | RFC 3339 in UTC, `2026-01-02T03:04:05.5Z` | string |
//! | date and time without a zone | the same without the `Z` | string |
//! | date, time of day, span | `2026-01-02`, `03:04:05.5`, `P1DT2H` (PostgreSQL) | string |
//! | json, and PostgreSQL's arrays and records | JSON, as the database writes it | the same, as a part |
//! | bytes | as they are | string: base64 with padding (RFC 4648, section 4) |
//! | NULL | an empty value (the row is there, so the key is not absent) | `null` |
//!
//! The content type of a lone value is text, but bytes are binary and json is JSON. What RFC 3339 can't say (`infinity`, a
//! year beyond 9999 or before 1, MySQL's `0000-00-00`) is as the database writes it. MySQL's BOOLEAN is a TINYINT, and so
//! a number. SQLite's columns have no types: each field is rendered as what is stored in it.
//!
//! Text that is not UTF-8 (SQLite keeps any) is an error that names its column: a replacement character
//! would be a wrong answer, and bytes would be another type than the column's.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::{
    database::{Field, KeyType},
    group::{ContentKind, Value},
};

/// The key that a stored field renders to; `None` for a field that is not of this type.
pub(super) fn render_key(key_type: KeyType, field: &Field) -> Option<Cow<'_, [u8]>> {
    match (key_type, field) {
        (KeyType::Text, Field::Text(text)) => Some(Cow::Borrowed(text.as_bytes())),
        (KeyType::Integer, Field::Integer(number)) => Some(Cow::Owned(number.to_string().into_bytes())),
        (KeyType::Bytes, Field::Bytes(bytes)) => Some(Cow::Borrowed(bytes)),
        _ => None,
    }
}

/// What is made of a field of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rendering {
    /// What is stored says it.
    Stored,
    /// Text.
    Text,
    /// Text that is a decimal number.
    Decimal,
    /// Text that is a JSON document.
    Json,
    /// Text that is a date and a time.
    Timestamp,
    /// Text that is a date and a time in UTC.
    TimestampUtc,
}

/// Why a row has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum RenderError {
    #[error("the text in column {0:?} is not UTF-8")]
    NotUtf8(String),
    #[error("the field in column {0:?} is of another type")]
    OtherType(String),
    #[error("the value has {bytes} bytes, and the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

/// A field, rendered.
enum Rendered {
    Null,
    Text(String),
    /// A number or a truth value in JSON's spelling.
    Literal(String),
    /// A number that JSON has no spelling for.
    NotFinite(String),
    Json(String),
    Bytes(Vec<u8>),
}

/// Renders the value columns of one table.
#[derive(Debug)]
pub(super) struct ValueRenderer {
    columns: Vec<Column>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// The name as a JSON string with its colon.
    json_name: String,
    rendering: Rendering,
}

impl Column {
    fn render(&self, field: Field) -> Result<Rendered, RenderError> {
        if self.rendering == Rendering::Stored {
            return Ok(match field {
                Field::Null => Rendered::Null,
                Field::Bool(truth) => Rendered::Literal(truth.to_string()),
                Field::Integer(number) => Rendered::Literal(number.to_string()),
                Field::Unsigned(number) => Rendered::Literal(number.to_string()),
                Field::Real(number) => real(number),
                Field::Text(text) => Rendered::Text(text),
                Field::InvalidText => return Err(RenderError::NotUtf8(self.name.clone())),
                Field::Bytes(bytes) => Rendered::Bytes(bytes),
            });
        }
        let text = match field {
            Field::Null => return Ok(Rendered::Null),
            Field::Text(text) => text,
            Field::Bytes(bytes) => {
                String::from_utf8(bytes).map_err(|_| RenderError::NotUtf8(self.name.clone()))?
            }
            Field::InvalidText => return Err(RenderError::NotUtf8(self.name.clone())),
            _ => return Err(RenderError::OtherType(self.name.clone())),
        };
        let other_type = || RenderError::OtherType(self.name.clone());
        match self.rendering {
            Rendering::Stored | Rendering::Text => Ok(Rendered::Text(text)),
            Rendering::Decimal => decimal(text).ok_or_else(other_type),
            // A document would break the object that it is a part of, if it were none. A check can be switched off.
            Rendering::Json => match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                Ok(_) => Ok(Rendered::Json(text)),
                Err(_) => Err(other_type()),
            },
            Rendering::Timestamp => Ok(Rendered::Text(timestamp(text, ""))),
            Rendering::TimestampUtc => Ok(Rendered::Text(timestamp(text, "Z"))),
        }
    }
}

/// A decimal as JSON writes it, with each of its digits; `None` if it is no number.
fn decimal(text: String) -> Option<Rendered> {
    if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") {
        return Some(Rendered::NotFinite(text));
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    // A ZEROFILL column has zeros in front, which are no JSON.
    let extra = whole.bytes().take_while(|byte| *byte == b'0').count().min(whole.len() - 1);
    Some(Rendered::Literal(if extra == 0 { text } else { format!("{sign}{}", &digits[extra..]) }))
}

/// `2026-01-02 03:04:05.500+00` as RFC 3339 writes it, with `zone`. Anything else stays as it is.
fn timestamp(text: String, zone: &str) -> String {
    let plain = text.strip_suffix("+00").unwrap_or(&text);
    let has_shape = plain.len() >= 19
        && plain.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b' ',
            13 | 16 => byte == b':',
            19 => byte == b'.',
            _ => byte.is_ascii_digit(),
        });
    if !has_shape || plain.starts_with("0000") || plain[5..].starts_with("00") || plain[8..].starts_with("00")
    {
        return text;
    }
    let time =
        if plain.len() > 19 { plain[11..].trim_end_matches('0').trim_end_matches('.') } else { &plain[11..] };
    format!("{}T{time}{zone}", &plain[..10])
}

impl ValueRenderer {
    /// A renderer of `columns`, in this order, which refuses values of more than `bytes_max` bytes.
    pub(super) fn new(columns: impl IntoIterator<Item = (String, Rendering)>, bytes_max: usize) -> Self {
        let column = |(name, rendering): (String, Rendering)| {
            let json_name = format!("{}:", json_string(&name));
            Column { name, json_name, rendering }
        };
        Self { columns: columns.into_iter().map(column).collect(), bytes_max }
    }

    /// Renders one row; `fields` has one element for each column.
    pub(super) fn render(&self, fields: Vec<Field>) -> Result<Value, RenderError> {
        debug_assert_eq!(fields.len(), self.columns.len());
        match (<[Field; 1]>::try_from(fields), self.columns.as_slice()) {
            (Ok([field]), [column]) => self.render_alone(field, column),
            (Ok([field]), columns) => self.render_object(vec![field], columns),
            (Err(fields), columns) => self.render_object(fields, columns),
        }
    }

    fn render_alone(&self, field: Field, column: &Column) -> Result<Value, RenderError> {
        let (bytes, kind) = match column.render(field)? {
            Rendered::Null => (Vec::new(), ContentKind::Text),
            Rendered::Text(text) | Rendered::Literal(text) | Rendered::NotFinite(text) => {
                (text.into_bytes(), ContentKind::Text)
            }
            Rendered::Json(text) => (text.into_bytes(), ContentKind::Json),
            Rendered::Bytes(bytes) => (bytes, ContentKind::Binary),
        };
        self.check_size(bytes.len())?;
        // A string that was written to grew by doubling, and would keep what it did not need.
        Ok(Value::new(bytes.into_boxed_slice(), kind))
    }

    fn render_object(&self, fields: Vec<Field>, columns: &[Column]) -> Result<Value, RenderError> {
        let mut json = String::from("{");
        for (at, (field, column)) in fields.into_iter().zip(columns).enumerate() {
            if at > 0 {
                json.push(',');
            }
            json.push_str(&column.json_name);
            match column.render(field)? {
                Rendered::Null | Rendered::NotFinite(_) => json.push_str("null"),
                Rendered::Text(text) => json.push_str(&json_string(&text)),
                Rendered::Literal(text) | Rendered::Json(text) => json.push_str(&text),
                Rendered::Bytes(bytes) => {
                    json.push('"');
                    STANDARD.encode_string(bytes, &mut json);
                    json.push('"');
                }
            }
            // After each column, so that a row of many large ones is not built up to the end.
            self.check_size(json.len())?;
        }
        json.push('}');
        self.check_size(json.len())?;
        Ok(Value::new(json.into_boxed_str().into_boxed_bytes(), ContentKind::Json))
    }

    fn check_size(&self, bytes: usize) -> Result<(), RenderError> {
        if bytes > self.bytes_max {
            return Err(RenderError::TooLarge { bytes, limit: self.bytes_max });
        }
        Ok(())
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A real in JSON's spelling where JSON has one, and in PostgreSQL's where it has none.
fn real(number: f64) -> Rendered {
    if let Some(number) = serde_json::Number::from_f64(number) {
        return Rendered::Literal(number.to_string());
    }
    let name = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    Rendered::NotFinite(name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn alone(field: Field) -> (Vec<u8>, ContentKind) {
        alone_as(Rendering::Stored, field)
    }

    fn stored(names: &[String]) -> Vec<(String, Rendering)> {
        names.iter().map(|name| (name.clone(), Rendering::Stored)).collect()
    }

    fn alone_as(rendering: Rendering, field: Field) -> (Vec<u8>, ContentKind) {
        let renderer = ValueRenderer::new([("v".to_owned(), rendering)], 1000);
        let value = renderer.render(vec![field]).expect("renders");
        (value.bytes().to_vec(), value.kind())
    }

    fn object(fields: Vec<Field>) -> String {
        let names: Vec<_> = (0..fields.len()).map(|n| format!("c{n}")).collect();
        let value = ValueRenderer::new(stored(&names), 10_000).render(fields).expect("renders");
        assert_eq!(value.kind(), ContentKind::Json);
        String::from_utf8(value.bytes().to_vec()).expect("JSON is UTF-8")
    }

    #[test]
    fn one_column_is_its_own_text_or_bytes() {
        assert_eq!(alone(Field::Text("张三\0\"".into())), ("张三\0\"".into(), ContentKind::Text));
        assert_eq!(alone(Field::Integer(i64::MIN)), (b"-9223372036854775808".to_vec(), ContentKind::Text));
        assert_eq!(alone(Field::Real(0.1)), (b"0.1".to_vec(), ContentKind::Text));
        assert_eq!(alone(Field::Real(1.0)), (b"1.0".to_vec(), ContentKind::Text));
        assert_eq!(alone(Field::Real(f64::INFINITY)), (b"Infinity".to_vec(), ContentKind::Text));
        assert_eq!(alone(Field::Real(f64::NEG_INFINITY)), (b"-Infinity".to_vec(), ContentKind::Text));
        assert_eq!(alone(Field::Bytes(vec![0, 255])), (vec![0, 255], ContentKind::Binary));
        assert_eq!(alone(Field::Null), (Vec::new(), ContentKind::Text));
    }

    #[test]
    fn several_columns_are_an_object_in_their_order() {
        let names = ["z".to_owned(), "a \"b\"".to_owned()];
        let value = ValueRenderer::new(stored(&names), 100).render(vec![Field::Integer(1), Field::Null]);
        assert_eq!(&value.expect("renders").bytes()[..], br#"{"z":1,"a \"b\"":null}"#);
        let fields = vec![
            Field::Integer(9_007_199_254_740_993),
            Field::Real(1e300),
            Field::Real(f64::INFINITY),
            Field::Text("a\"\n\u{1F600}".into()),
            Field::Bytes(vec![0xfb, 0xff, 0]),
        ];
        let expected = "{\"c0\":9007199254740993,\"c1\":1e+300,\"c2\":null,\"c3\":\"a\\\"\\n\u{1F600}\",\"c4\":\"+/8A\"}";
        assert_eq!(object(fields), expected);
    }

    #[test]
    fn text_is_rendered_by_the_columns_type() {
        let of = |rendering, text: &str| {
            let (bytes, _) = alone_as(rendering, Field::Text(text.into()));
            String::from_utf8(bytes).expect("text")
        };
        let decimals = ["0", "-0.50", "12345678901234567890.123456789012345678900", "NaN", "-Infinity"];
        for decimal in decimals {
            assert_eq!(of(Rendering::Decimal, decimal), decimal);
        }
        assert_eq!(of(Rendering::Decimal, "007.50"), "7.50");
        assert_eq!(of(Rendering::Decimal, "-000.5"), "-0.5");
        assert_eq!(of(Rendering::TimestampUtc, "2026-01-02 03:04:05+00"), "2026-01-02T03:04:05Z");
        assert_eq!(of(Rendering::TimestampUtc, "2026-01-02 03:04:05.120000"), "2026-01-02T03:04:05.12Z");
        assert_eq!(of(Rendering::Timestamp, "2026-01-02 03:04:05.000000"), "2026-01-02T03:04:05");
        assert_eq!(of(Rendering::Timestamp, "2026-01-02 00:00:00"), "2026-01-02T00:00:00");
        for other in
            ["infinity", "10000-01-02 03:04:05+00", "0044-03-15 00:00:00+00 BC", "0000-00-00 00:00:00"]
        {
            assert_eq!(of(Rendering::TimestampUtc, other), other);
        }
        assert_eq!(
            alone_as(Rendering::Json, Field::Bytes(b"[1]".to_vec())),
            (b"[1]".to_vec(), ContentKind::Json)
        );
        assert_eq!(alone_as(Rendering::Text, Field::Null), (Vec::new(), ContentKind::Text));
        let columns = [Rendering::Json, Rendering::Decimal, Rendering::Decimal, Rendering::TimestampUtc];
        let names = columns.iter().enumerate().map(|(at, column)| (format!("c{at}"), *column));
        let fields = ["{\"a\": [1]}", "1.10", "NaN", "2026-01-02 03:04:05"];
        let fields = fields.iter().map(|text| Field::Text((*text).into())).collect();
        let value = ValueRenderer::new(names, 100).render(fields).expect("renders");
        let expected = br#"{"c0":{"a": [1]},"c1":1.10,"c2":null,"c3":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(&value.bytes()[..], expected);
    }

    #[test]
    fn what_is_not_of_its_type_is_refused() {
        let refused = |rendering, field| {
            ValueRenderer::new([("v".to_owned(), rendering)], 100).render(vec![field]).expect_err("refused")
        };
        let other = RenderError::OtherType("v".into());
        assert_eq!(refused(Rendering::Json, Field::Text("{\"a\":1}, \"b\":2".into())), other);
        for no_number in ["", "1e5", "1.", ".5", "abc", "--1", "1,5"] {
            assert_eq!(refused(Rendering::Decimal, Field::Text(no_number.into())), other, "{no_number}");
        }
        assert_eq!(refused(Rendering::Text, Field::Integer(1)), other);
        assert_eq!(refused(Rendering::Text, Field::Bytes(vec![0xff])), RenderError::NotUtf8("v".into()));
    }

    #[test]
    fn sizes_have_a_limit() {
        let renderer = ValueRenderer::new(stored(&["v".to_owned()]), 3);
        assert!(renderer.render(vec![Field::Text("abc".into())]).is_ok());
        let error = renderer.render(vec![Field::Text("abcd".into())]);
        assert_eq!(error, Err(RenderError::TooLarge { bytes: 4, limit: 3 }));
        let names = ["a".to_owned(), "b".to_owned()];
        let fields = || vec![Field::Integer(1), Field::Integer(2)];
        assert!(ValueRenderer::new(stored(&names), 13).render(fields()).is_ok());
        let error = ValueRenderer::new(stored(&names), 12).render(fields());
        assert_eq!(error, Err(RenderError::TooLarge { bytes: 13, limit: 12 }));
    }

    #[test]
    fn text_that_is_not_utf8_names_its_column() {
        let names = ["a".to_owned(), "b".to_owned()];
        let error = ValueRenderer::new(stored(&names), 100).render(vec![Field::Null, Field::InvalidText]);
        assert_eq!(error, Err(RenderError::NotUtf8("b".into())));
        let error = ValueRenderer::new(stored(&names[..1]), 100).render(vec![Field::InvalidText]);
        assert_eq!(error, Err(RenderError::NotUtf8("a".into())));
    }

    #[test]
    fn a_field_of_another_type_is_no_key() {
        assert_eq!(render_key(KeyType::Text, &Field::Integer(7)), None);
        assert_eq!(render_key(KeyType::Integer, &Field::Real(7.0)), None);
        assert_eq!(render_key(KeyType::Integer, &Field::Text("7".into())), None);
        assert_eq!(render_key(KeyType::Bytes, &Field::Text("a".into())), None);
        assert_eq!(render_key(KeyType::Text, &Field::InvalidText), None);
        assert_eq!(render_key(KeyType::Text, &Field::Null), None);
    }

    proptest! {
        #[test]
        fn objects_are_json_and_lose_nothing(integer in any::<i64>(), real in any::<f64>(), text in any::<String>()) {
            let fields = vec![Field::Integer(integer), Field::Real(real), Field::Text(text.clone())];
            let json: serde_json::Value = serde_json::from_str(&object(fields)).expect("JSON");
            proptest::prop_assert_eq!(json["c0"].as_i64(), Some(integer));
            if real.is_finite() {
                proptest::prop_assert_eq!(json["c1"].as_f64(), Some(real));
            } else {
                proptest::prop_assert!(json["c1"].is_null());
            }
            proptest::prop_assert_eq!(json["c2"].as_str(), Some(text.as_str()));
        }
    }
}
