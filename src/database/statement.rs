//! Statements that are put together at run time: texts of ours, quoted names, and values that are bound.

use std::borrow::Cow;

use diesel::{
    QueryResult, RunQueryDsl,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{BigInt, Binary, Double, Nullable, Text, Untyped},
};

use super::{DatabaseKind, KeyValue};

/// One statement. The same parts in the same order are the same statement, whatever the values are: it is prepared once
/// for each connection.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    parts: Vec<Part<'a>>,
    once: bool,
}

#[derive(Clone, Debug)]
enum Part<'a> {
    Text(Cow<'a, str>),
    Value(SqlValue<'a>),
}

/// A value to bind.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue<'a> {
    /// NULL. PostgreSQL takes it for text where nothing says otherwise.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// PostgreSQL's `text[]`; no other database has one.
    Texts(Vec<Cow<'a, str>>),
    /// PostgreSQL's `bigint[]`.
    Integers(Vec<i64>),
    /// PostgreSQL's `bytea[]`.
    BytesList(Vec<Cow<'a, [u8]>>),
}

impl<'a> Statement<'a> {
    /// A statement that begins with `text`.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self { parts: vec![Part::Text(text.into())], once: false }
    }

    /// Goes on with `text`, which must be no one else's than the caller's own.
    #[must_use]
    pub fn then(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    /// Goes on with the name of a table or column, quoted.
    #[must_use]
    pub fn name(self, kind: DatabaseKind, name: &str) -> Self {
        self.then(kind.quoted(name))
    }

    /// Goes on with a value, which is bound.
    #[must_use]
    pub fn bind(mut self, value: impl Into<SqlValue<'a>>) -> Self {
        self.parts.push(Part::Value(value.into()));
        self
    }

    /// Goes on with values and commas between them, each bound.
    #[must_use]
    pub fn bind_all(mut self, values: impl IntoIterator<Item = impl Into<SqlValue<'a>>>) -> Self {
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.parts.push(Part::Text(Cow::Borrowed(", ")));
            }
            self.parts.push(Part::Value(value.into()));
        }
        self
    }

    /// Does not keep the prepared statement: for texts of many variants, which would crowd the others out.
    #[must_use]
    pub const fn once(mut self) -> Self {
        self.once = true;
        self
    }
}

impl SqlValue<'_> {
    /// The same, borrowing nothing.
    pub fn into_owned(self) -> SqlValue<'static> {
        match self {
            Self::Null => SqlValue::Null,
            Self::Integer(number) => SqlValue::Integer(number),
            Self::Real(number) => SqlValue::Real(number),
            Self::Text(text) => SqlValue::Text(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => SqlValue::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Texts(texts) => {
                SqlValue::Texts(texts.into_iter().map(|text| Cow::Owned(text.into_owned())).collect())
            }
            Self::Integers(numbers) => SqlValue::Integers(numbers),
            Self::BytesList(list) => {
                SqlValue::BytesList(list.into_iter().map(|bytes| Cow::Owned(bytes.into_owned())).collect())
            }
        }
    }
}

impl From<i64> for SqlValue<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl<'a> From<&'a str> for SqlValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for SqlValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a [u8]> for SqlValue<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for SqlValue<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl<'a> From<KeyValue<'a>> for SqlValue<'a> {
    fn from(key: KeyValue<'a>) -> Self {
        match key {
            KeyValue::Text(text) => text.into(),
            KeyValue::Integer(number) => number.into(),
            // Beyond the signed ones no type of diesel's suits every database. Who binds it casts it.
            KeyValue::Unsigned(number) => number.to_string().into(),
            KeyValue::Bytes(bytes) => bytes.into(),
        }
    }
}

/// Writes a statement for one backend; the arrays are PostgreSQL's alone.
macro_rules! query_fragment {
    ($feature:literal, $backend:ty, |$value:ident, $out:ident| $arrays:expr) => {
        #[cfg(feature = $feature)]
        impl QueryFragment<$backend> for Statement<'_> {
            fn walk_ast<'b>(&'b self, mut $out: AstPass<'_, 'b, $backend>) -> QueryResult<()> {
                if self.once {
                    $out.unsafe_to_cache_prepared();
                }
                for part in &self.parts {
                    match part {
                        Part::Text(text) => $out.push_sql(text),
                        Part::Value(SqlValue::Null) => {
                            $out.push_bind_param::<Nullable<Text>, _>(&None::<String>)?;
                        }
                        Part::Value(SqlValue::Integer(number)) => {
                            $out.push_bind_param::<BigInt, i64>(number)?;
                        }
                        Part::Value(SqlValue::Real(number)) => {
                            $out.push_bind_param::<Double, f64>(number)?;
                        }
                        Part::Value(SqlValue::Text(text)) => $out.push_bind_param::<Text, str>(text)?,
                        Part::Value(SqlValue::Bytes(bytes)) => {
                            $out.push_bind_param::<Binary, [u8]>(bytes)?;
                        }
                        Part::Value($value) => $arrays,
                    }
                }
                Ok(())
            }
        }
    };
}

query_fragment!("sqlite", diesel::sqlite::Sqlite, |_value, out| return Err(no_arrays()));
query_fragment!("mysql", diesel::mysql::Mysql, |_value, out| return Err(no_arrays()));
query_fragment!("postgres", diesel::pg::Pg, |value, out| {
    use diesel::sql_types::Array;
    match value {
        SqlValue::Texts(texts) => out.push_bind_param::<Array<Text>, _>(texts)?,
        SqlValue::Integers(numbers) => out.push_bind_param::<Array<BigInt>, _>(numbers)?,
        SqlValue::BytesList(list) => out.push_bind_param::<Array<Binary>, _>(list)?,
        _ => return Err(no_arrays()),
    }
});

fn no_arrays() -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError("only PostgreSQL has arrays".into())
}

/// No type names the statement, so that it is kept by its text.
impl QueryId for Statement<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}

impl<C> RunQueryDsl<C> for &Statement<'_> {}
