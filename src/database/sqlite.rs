//! SQLite: files, their connections, and what their fields hold.

mod connect;
mod file;

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, QueryableByName},
    row::{self, Field as _, NamedRow},
    sql_types::Text,
    sqlite::{Sqlite, SqliteType},
};

pub(super) use connect::{SqliteFile, open_alone, set_access, set_busy_timeout};
pub(super) use file::{DatabaseFile, FileIdentity, OpenMode};

use super::{Field, Row};

impl QueryableByName<Sqlite> for Row {
    fn build<'a>(fields: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let field = |at: usize| match row::Row::get(fields, at) {
            Some(field) => Ok(field.value().map_or(Field::Null, read_field)),
            None => Err("the row has fewer fields than it says".into()),
        };
        (0..row::Row::field_count(fields)).map(field).collect::<deserialize::Result<_>>().map(Self::new)
    }
}

/// Reads a field as what is stored, which in SQLite need not be what the column declares.
fn read_field(mut value: <Sqlite as Backend>::RawValue<'_>) -> Field {
    match value.value_type() {
        None => Field::Null,
        Some(SqliteType::Long | SqliteType::Integer | SqliteType::SmallInt) => {
            Field::Integer(value.read_long())
        }
        Some(SqliteType::Double | SqliteType::Float) => Field::Real(value.read_double()),
        Some(SqliteType::Binary) => Field::Bytes(value.read_blob().to_vec()),
        // By diesel's conversion, which checks, and not by `read_text`, which replaces.
        Some(SqliteType::Text) => {
            <String as FromSql<Text, Sqlite>>::from_sql(value).map_or(Field::InvalidText, Field::Text)
        }
    }
}
