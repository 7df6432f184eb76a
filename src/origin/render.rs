//! How a row becomes a key and a value. The rules are the same for every database.
//!
//! How a *key* is rendered is said in `database/key.rs`, since triggers do the same.
//!
//! A *value* of one column:
//!
//! | stored | bytes | kind |
//! |---|---|---|
//! | text | its UTF-8 | text |
//! | integer | decimal | text |
//! | real | the shortest decimal that reads back as the same number (`1.5`, `1.0`, `1e+300`) | text |
//! | an infinite real | `Infinity`, `-Infinity` | text |
//! | bytes | as they are | binary |
//! | NULL | none: an empty value (the row is there, so the key is not absent) | text |
//!
//! A value of several columns is a JSON object, with the columns in the configured order:
//!
//! | stored | JSON |
//! |---|---|
//! | text | string |
//! | integer | number, with all of its digits (beyond 2^53 too) |
//! | real | number, as above; `null` if it is not finite |
//! | bytes | string: base64 with padding (RFC 4648, section 4) |
//! | NULL | `null` |
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

/// Why a row has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum RenderError {
    #[error("the text in column {0:?} is not UTF-8")]
    NotUtf8(String),
    #[error("the value has {bytes} bytes, and the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
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
}

impl ValueRenderer {
    /// A renderer of `columns`, in this order, which refuses values of more than `bytes_max` bytes.
    pub(super) fn new(columns: &[String], bytes_max: usize) -> Self {
        let column =
            |name: &String| Column { name: name.clone(), json_name: format!("{}:", json_string(name)) };
        Self { columns: columns.iter().map(column).collect(), bytes_max }
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
        let (bytes, kind) = match field {
            Field::Null => (Vec::new(), ContentKind::Text),
            Field::Bool(truth) => (truth.to_string().into_bytes(), ContentKind::Text),
            Field::Integer(number) => (number.to_string().into_bytes(), ContentKind::Text),
            Field::Unsigned(number) => (number.to_string().into_bytes(), ContentKind::Text),
            Field::Real(number) => (real_text(number).into_bytes(), ContentKind::Text),
            Field::Text(text) => (text.into_bytes(), ContentKind::Text),
            Field::InvalidText => return Err(RenderError::NotUtf8(column.name.clone())),
            Field::Bytes(bytes) => (bytes, ContentKind::Binary),
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
            match field {
                Field::Null => json.push_str("null"),
                Field::Bool(truth) => json.push_str(&truth.to_string()),
                Field::Unsigned(number) => json.push_str(&number.to_string()),
                Field::Integer(number) => json.push_str(&number.to_string()),
                Field::Real(number) if number.is_finite() => json.push_str(&real_text(number)),
                Field::Real(_) => json.push_str("null"),
                Field::Text(text) => json.push_str(&json_string(&text)),
                Field::InvalidText => return Err(RenderError::NotUtf8(column.name.clone())),
                Field::Bytes(bytes) => {
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
fn real_text(number: f64) -> String {
    if let Some(number) = serde_json::Number::from_f64(number) {
        return number.to_string();
    }
    let name = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn alone(field: Field) -> (Vec<u8>, ContentKind) {
        let renderer = ValueRenderer::new(&["v".to_owned()], 1000);
        let value = renderer.render(vec![field]).expect("renders");
        (value.bytes().to_vec(), value.kind())
    }

    fn object(fields: Vec<Field>) -> String {
        let names: Vec<_> = (0..fields.len()).map(|n| format!("c{n}")).collect();
        let value = ValueRenderer::new(&names, 10_000).render(fields).expect("renders");
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
        let value = ValueRenderer::new(&names, 100).render(vec![Field::Integer(1), Field::Null]);
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
    fn sizes_have_a_limit() {
        let renderer = ValueRenderer::new(&["v".to_owned()], 3);
        assert!(renderer.render(vec![Field::Text("abc".into())]).is_ok());
        let error = renderer.render(vec![Field::Text("abcd".into())]);
        assert_eq!(error, Err(RenderError::TooLarge { bytes: 4, limit: 3 }));
        let names = ["a".to_owned(), "b".to_owned()];
        let fields = || vec![Field::Integer(1), Field::Integer(2)];
        assert!(ValueRenderer::new(&names, 13).render(fields()).is_ok());
        let error = ValueRenderer::new(&names, 12).render(fields());
        assert_eq!(error, Err(RenderError::TooLarge { bytes: 13, limit: 12 }));
    }

    #[test]
    fn text_that_is_not_utf8_names_its_column() {
        let names = ["a".to_owned(), "b".to_owned()];
        let error = ValueRenderer::new(&names, 100).render(vec![Field::Null, Field::InvalidText]);
        assert_eq!(error, Err(RenderError::NotUtf8("b".into())));
        let error = ValueRenderer::new(&names[..1], 100).render(vec![Field::InvalidText]);
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
