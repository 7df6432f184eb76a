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
            // By the type's own output, where a cast would write an address with its length.
            DatabaseKind::Postgres if column.column_type == ColumnType::OwnText => {
                let sql = format!("CASE WHEN {reference} IS NOT NULL THEN format('%s', {reference}) END");
                (sql, Rendering::Text)
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

/// What stands before and after a key that is bound (or PostgreSQL's array of them), so that it is of the column's own
/// type, and an index of it serves.
pub(super) fn key_cast(kind: DatabaseKind, column: &Column, is_array: bool) -> (String, String) {
    let brackets = if is_array { "[]" } else { "" };
    let cast = |name: &str| ("CAST(".to_owned(), format!(" AS {name}{brackets})"));
    match (kind, &column.column_type, &column.character_set) {
        (DatabaseKind::Postgres, ColumnType::PaddedText, _) => cast("bpchar"),
        (DatabaseKind::Postgres, ColumnType::Uuid, _) => cast("uuid"),
        (DatabaseKind::Postgres, ColumnType::CaseInsensitiveText(name), _) => cast(name),
        (DatabaseKind::Mysql, ColumnType::Unsigned, _) => cast("UNSIGNED"),
        // What the set lacks becomes a question mark; the row that it finds is not the one that was asked for.
        (DatabaseKind::Mysql, ColumnType::Text, Some((set, collation))) => (
            "CONVERT(".to_owned(),
            format!(" USING {}) COLLATE {}", kind.quoted(set), kind.quoted(collation)),
        ),
        _ => (String::new(), String::new()),
    }
}
