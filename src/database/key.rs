//! Keys: how a column's value and a key's bytes belong together, the same for loads and for triggers.
//!
//! A key is rendered as text in UTF-8, an integer in decimal (a minus sign, no plus, no leading zeros), a uuid in lower
//! case with its hyphens, bytes as they are. A key that no row of the column could render to (`007` for integers, bytes
//! that are not UTF-8 for text, an upper-case uuid) is absent, and needs no query.

use super::DatabaseKind;

/// The type of a key column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// Keys are UTF-8 text. Of a padded column (`char(n)`), without the trailing spaces.
    Text,
    /// Keys are signed 64-bit integers, written in decimal.
    Integer,
    /// Keys are unsigned 64-bit integers (MySQL's `BIGINT UNSIGNED`), written in decimal.
    Unsigned,
    /// Keys are uuids, in lower case with hyphens.
    Uuid,
    /// Keys are any bytes.
    Bytes,
}

/// A key as a value to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyValue<'a> {
    /// Text, or a uuid.
    Text(&'a str),
    /// An integer.
    Integer(i64),
    /// An integer, which may be beyond the signed ones.
    Unsigned(u64),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl KeyType {
    /// The type's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned integer",
            Self::Uuid => "uuid",
            Self::Bytes => "bytes",
        }
    }

    /// The value to bind for a key; `None` if no row of such a column can have this key.
    pub fn parse(self, key: &[u8]) -> Option<KeyValue<'_>> {
        let text = std::str::from_utf8(key);
        match self {
            Self::Text => text.ok().map(KeyValue::Text),
            Self::Integer => text.ok().filter(|text| is_integer(text))?.parse().ok().map(KeyValue::Integer),
            Self::Unsigned => text.ok().filter(|text| is_integer(text))?.parse().ok().map(KeyValue::Unsigned),
            Self::Uuid => text.ok().filter(|text| is_uuid(text)).map(KeyValue::Text),
            Self::Bytes => Some(KeyValue::Bytes(key)),
        }
    }
}

/// Whether `text` is an integer in the one spelling that it is rendered in, of any size.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match digits.as_bytes() {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether `text` is a uuid in the one spelling that it is rendered in (RFC 9562, section 4, in lower case).
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// SQL for the key of a row: the bytes that a client asks for, or NULL where the row has no key. `column` is SQL for
/// the column, quoted: ``t.`name` `` in a statement, `NEW."name"` in a trigger.
///
/// | kind | type of the result |
/// |---|---|
/// | SQLite | text or blob; NULL where the field is not of the column's type, as SQLite stores anything |
/// | PostgreSQL | `bytea` |
/// | MySQL, MariaDB | binary string |
///
/// It may be longer than a key can be, or empty: then nobody can ask for it.
pub fn key_expression(kind: DatabaseKind, key_type: KeyType, column: &str) -> String {
    match (kind, key_type) {
        (DatabaseKind::Sqlite, KeyType::Text | KeyType::Uuid) => {
            format!("CASE typeof({column}) WHEN 'text' THEN {column} END")
        }
        (DatabaseKind::Sqlite, KeyType::Integer | KeyType::Unsigned) => {
            format!("CASE typeof({column}) WHEN 'integer' THEN CAST({column} AS TEXT) END")
        }
        (DatabaseKind::Sqlite, KeyType::Bytes) => {
            format!("CASE typeof({column}) WHEN 'blob' THEN {column} END")
        }
        // Of a `char(n)` the cast removes the padding.
        (DatabaseKind::Postgres, KeyType::Bytes) => column.to_owned(),
        (DatabaseKind::Postgres, _) => format!("convert_to(CAST({column} AS text), 'UTF8')"),
        (DatabaseKind::Mysql, KeyType::Text | KeyType::Uuid) => {
            format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)")
        }
        // By way of a number, since a ZEROFILL column would have leading zeros.
        (DatabaseKind::Mysql, KeyType::Integer) => {
            format!("CAST(CAST(CAST({column} AS SIGNED) AS CHAR) AS BINARY)")
        }
        (DatabaseKind::Mysql, KeyType::Unsigned) => {
            format!("CAST(CAST(CAST({column} AS UNSIGNED) AS CHAR) AS BINARY)")
        }
        (DatabaseKind::Mysql, KeyType::Bytes) => format!("CAST({column} AS BINARY)"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn integers_have_one_spelling() {
        for good in ["0", "7", "-7", "10", "9223372036854775807", "-9223372036854775808"] {
            let number = good.parse().expect("an integer");
            assert_eq!(KeyType::Integer.parse(good.as_bytes()), Some(KeyValue::Integer(number)));
        }
        let bad =
            ["", "-", "007", "00", "-0", "+7", " 7", "7 ", "7.0", "abc", "7a", "٧", "9223372036854775808"];
        for bad in bad {
            assert_eq!(KeyType::Integer.parse(bad.as_bytes()), None, "{bad}");
        }
        let most = b"18446744073709551615";
        assert_eq!(KeyType::Unsigned.parse(most), Some(KeyValue::Unsigned(u64::MAX)));
        for bad in ["-1", "18446744073709551616", "01", "+1", ""] {
            assert_eq!(KeyType::Unsigned.parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(KeyType::Text.parse(b"\xff"), None);
        assert_eq!(KeyType::Bytes.parse(b"\xff"), Some(KeyValue::Bytes(b"\xff")));
    }

    #[test]
    fn uuids_have_one_spelling() {
        let good = "0189f7a2-3b4c-7d5e-8f90-a1b2c3d4e5f6";
        assert_eq!(KeyType::Uuid.parse(good.as_bytes()), Some(KeyValue::Text(good)));
        let bare = good.replace('-', "");
        let others = [
            good.to_uppercase(),
            bare,
            format!("{{{good}}}"),
            format!("{good} "),
            good.replacen('-', "a", 1),
        ];
        for bad in others {
            assert_eq!(KeyType::Uuid.parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn integer_keys_come_back(number in any::<i64>()) {
            let key = number.to_string();
            proptest::prop_assert_eq!(KeyType::Integer.parse(key.as_bytes()), Some(KeyValue::Integer(number)));
        }

        #[test]
        fn whatever_parses_renders_to_the_same_bytes(key in "[-+ 0]{0,2}[0-9]{0,20}") {
            if let Some(KeyValue::Integer(number)) = KeyType::Integer.parse(key.as_bytes()) {
                proptest::prop_assert_eq!(number.to_string(), key.clone());
            }
            if let Some(KeyValue::Unsigned(number)) = KeyType::Unsigned.parse(key.as_bytes()) {
                proptest::prop_assert_eq!(number.to_string(), key);
            }
        }
    }
}
