//! How a column is selected, and what is made of what comes back. The rules are in `render.rs`.

use crate::{
    database::{Column, ColumnType, DatabaseKind},
    origin::render::Rendering,
};

/// SQL for the value of `column`, which is `reference` there, and how the field is rendered; `None` for a type that
/// can't be.
pub(super) fn value_expression(
    kind: DatabaseKind,
    column: &Column,
    reference: &str,
) -> Option<(String, Rendering)> {
    let text = || match kind {
        DatabaseKind::Mysql => format!("CAST({reference} AS CHAR)"),
        _ => format!("CAST({reference} AS text)"),
    };
    Some(match &column.column_type {
        ColumnType::Stored(_)
        | ColumnType::Integer
        | ColumnType::Unsigned
        | ColumnType::Real
        | ColumnType::Bool
        | ColumnType::Bytes => (reference.to_owned(), Rendering::Stored),
        ColumnType::CastInteger => (format!("CAST({reference} AS UNSIGNED)"), Rendering::Stored),
        ColumnType::Text
        | ColumnType::PaddedText
        | ColumnType::CaseInsensitiveText(_)
        | ColumnType::Uuid
        | ColumnType::OwnText => match kind {
            // By the character set that the connection has, whatever the column's is.
            DatabaseKind::Mysql if column.column_type == ColumnType::Text => {
                (format!("CONVERT({reference} USING utf8mb4)"), Rendering::Text)
            }
            _ => (text(), Rendering::Text),
        },
        ColumnType::Decimal => (text(), Rendering::Decimal),
        ColumnType::Json => (text(), Rendering::Json),
        ColumnType::ToJson => (format!("CAST(to_json({reference}) AS text)"), Rendering::Json),
        ColumnType::Timestamp => (text(), Rendering::Timestamp),
        ColumnType::TimestampUtc => (text(), Rendering::TimestampUtc),
        ColumnType::Other => return None,
    })
}

/// What a key that is bound is cast to, so that an index of the column's own type is of use: around one value, or
/// around PostgreSQL's array of them.
pub(super) fn key_cast(kind: DatabaseKind, column: &Column) -> Option<String> {
    match (kind, &column.column_type) {
        (DatabaseKind::Postgres, ColumnType::PaddedText) => Some("bpchar".to_owned()),
        (DatabaseKind::Postgres, ColumnType::Uuid) => Some("uuid".to_owned()),
        (DatabaseKind::Postgres, ColumnType::CaseInsensitiveText(name)) => Some(name.clone()),
        (DatabaseKind::Mysql, ColumnType::Unsigned) => Some("UNSIGNED".to_owned()),
        _ => None,
    }
}
