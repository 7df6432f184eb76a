//! What a database says of a table: its columns, their types, and by which columns a row is found.
//!
//! Names are taken exactly as they are configured, also where a database would find the table by another spelling: a
//! change is logged under one spelling only. On PostgreSQL the table is the one that the search path finds, on MySQL
//! and MariaDB the one of the URL's database.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use super::{DatabaseError, KeyType, Turn};

/// A table or view, as its database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as the database spells it: `character varying(20)`.
    pub declared: String,
    /// Its type as far as a value's or key's rendering depends on it.
    pub column_type: ColumnType,
    /// Whether it is the primary key, or has a unique index for all rows, by itself.
    pub unique: bool,
    /// Whether an index begins with it, so that a row is found without reading the whole table.
    pub indexed: bool,
    /// The collation, if values that are not the same bytes may be equal under it.
    pub collation: Option<String>,
    /// MySQL's character set and collation of a text, where it is not utf8mb4: what is compared with the column must be
    /// of the same ones.
    pub character_set: Option<(String, String)>,
}

/// The types of columns, as far as the rendering of a value depends on them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// Whatever a field holds: SQLite. The affinity decides only what a key column is.
    Stored(Affinity),
    /// Text.
    Text,
    /// Text that is padded: PostgreSQL's `char(n)`.
    PaddedText,
    /// Text of PostgreSQL's extension `citext`, with the type's full name.
    CaseInsensitiveText(String),
    /// Signed integers.
    Integer,
    /// Unsigned integers of 64 bits.
    Unsigned,
    /// MySQL's bits and years, which a cast makes integers of.
    CastInteger,
    /// Floating-point numbers.
    Real,
    /// Decimal numbers.
    Decimal,
    /// Booleans.
    Bool,
    /// Bytes.
    Bytes,
    /// A JSON document.
    Json,
    /// An array or a record, which PostgreSQL makes JSON of.
    ToJson,
    /// A uuid.
    Uuid,
    /// A date and a time without a zone.
    Timestamp,
    /// A moment.
    TimestampUtc,
    /// Dates, times of day, spans, enums, addresses, …: the database's own text says it best. No key column.
    OwnText,
    /// Nothing that can be rendered.
    Other,
}

/// What SQLite makes of a declared type: <https://sqlite.org/datatype3.html>, section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// Text.
    Text,
    /// Integers.
    Integer,
    /// Bytes, and a column without a declared type.
    Blob,
    /// Floating-point numbers.
    Real,
    /// Anything that looks like a number is one.
    Numeric,
}

impl Table {
    /// Looks a table up; `None` if there is none of exactly this name.
    ///
    /// # Errors
    /// As [`Turn::query`].
    pub fn read(turn: &mut Turn<'_>, name: &str) -> Result<Option<Self>, DatabaseError> {
        match turn.kind() {
            #[cfg(feature = "sqlite")]
            super::DatabaseKind::Sqlite => sqlite::read(turn, name),
            #[cfg(feature = "postgres")]
            super::DatabaseKind::Postgres => postgres::read(turn, name),
            #[cfg(feature = "mysql")]
            super::DatabaseKind::Mysql => mysql::read(turn, name),
            #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
            _ => Ok(None),
        }
    }

    /// The names of tables and views that there are, at most `limit`.
    ///
    /// # Errors
    /// As [`Turn::query`].
    pub fn names(turn: &mut Turn<'_>, limit: i64) -> Result<Vec<String>, DatabaseError> {
        match turn.kind() {
            #[cfg(feature = "sqlite")]
            super::DatabaseKind::Sqlite => sqlite::names(turn, limit),
            #[cfg(feature = "postgres")]
            super::DatabaseKind::Postgres => postgres::names(turn, limit),
            #[cfg(feature = "mysql")]
            super::DatabaseKind::Mysql => mysql::names(turn, limit),
            #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
            _ => Ok(Vec::new()),
        }
    }

    /// The column of exactly this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Column {
    /// The type of its keys; `None` if it can't be a key column.
    pub fn key_type(&self) -> Option<KeyType> {
        match &self.column_type {
            ColumnType::Stored(Affinity::Text)
            | ColumnType::Text
            | ColumnType::PaddedText
            | ColumnType::CaseInsensitiveText(_) => Some(KeyType::Text),
            ColumnType::Stored(Affinity::Integer) | ColumnType::Integer => Some(KeyType::Integer),
            // Without a declared type SQLite keeps what it is given, and a key has one type.
            ColumnType::Stored(Affinity::Blob) if self.declared.is_empty() => None,
            ColumnType::Stored(Affinity::Blob) | ColumnType::Bytes => Some(KeyType::Bytes),
            ColumnType::Unsigned => Some(KeyType::Unsigned),
            ColumnType::Uuid => Some(KeyType::Uuid),
            _ => None,
        }
    }
}
