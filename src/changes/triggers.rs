//! The triggers of one source: their names, and the statements that make them.
//!
//! A trigger's name says what it is for and how it is made: `gg_`, a hash of table and column, one of its definition, and
//! what it fires on. So a look at the names tells whether a table has the triggers that this version makes.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Script, Source, Tracked, source::KIND_ALL};
use crate::database::{DatabaseKind, key_expression};

/// The triggers of a source, as this version makes them.
#[derive(Debug)]
pub(super) struct Triggers<'a> {
    kind: DatabaseKind,
    source: &'a Source,
    old_key: String,
    new_key: String,
    name: String,
}

impl<'a> Triggers<'a> {
    pub(super) fn new(kind: DatabaseKind, tracked: &'a Tracked) -> Self {
        let source = &tracked.source;
        let column = kind.quoted(&source.key_column);
        let old_key = key_expression(kind, tracked.key_type, &format!("OLD.{column}"));
        let new_key = key_expression(kind, tracked.key_type, &format!("NEW.{column}"));
        let definition = xxh3_64(format!("{}\0{old_key}\0{new_key}", template(kind)).as_bytes()) as u32;
        let name = format!("{}{definition:08x}", prefix(source));
        Self { kind, source, old_key, new_key, name }
    }

    /// The names that the table's triggers have.
    pub(super) fn names(&self) -> Vec<String> {
        endings(self.kind).iter().map(|ending| format!("{}{ending}", self.name)).collect()
    }

    /// Whether `trigger` is one of this source's, of this version or another one.
    pub(super) fn owns(&self, trigger: &str) -> bool {
        trigger.starts_with(&prefix(self.source)) && is_ours(trigger)
    }

    /// Adds the statements that make them. `schema` is where PostgreSQL has the tables, and `table` the table there.
    pub(super) fn make(&self, script: &mut Script, schema: &str, table: &str) {
        let names = [
            ("schema", schema),
            ("table", table),
            ("name", &self.name),
            ("table_text", &text(self.kind, &self.source.table)),
            ("column_text", &text(self.kind, &self.source.key_column)),
            ("old_key", &self.old_key),
            ("new_key", &self.new_key),
        ];
        script.fill(template(self.kind), &names);
    }

    /// Adds a statement by which every node drops what it has of the table. Triggers that were not there for a while have
    /// seen nothing meanwhile, and nodes may not have noticed.
    pub(super) fn tell_all(&self, script: &mut Script, schema: &str) {
        let (outbox, nothing) = match self.kind {
            DatabaseKind::Postgres => (format!("{schema}.gg_outbox"), "''"),
            DatabaseKind::Mysql => ("gg_outbox".to_owned(), "''"),
            DatabaseKind::Sqlite => ("gg_outbox".to_owned(), "x''"),
        };
        let (table, column) = (text(self.kind, &self.source.table), text(self.kind, &self.source.key_column));
        script.push(format!(
            "INSERT INTO {outbox} (tbl, col, kind, k) VALUES ({table}, {column}, {KIND_ALL}, {nothing})"
        ));
    }
}

/// Adds the statements that remove `trigger`, which is one of ours.
pub(super) fn unmake(kind: DatabaseKind, script: &mut Script, table: &str, trigger: &str) {
    match kind {
        DatabaseKind::Postgres => script.push(format!("DROP TRIGGER IF EXISTS {trigger} ON {table}")),
        DatabaseKind::Sqlite | DatabaseKind::Mysql => {
            script.push(format!("DROP TRIGGER IF EXISTS {trigger}"))
        }
    }
}

/// The function behind one of our triggers on PostgreSQL.
pub(super) fn function_of(trigger: &str) -> &str {
    trigger.get(..FUNCTION_BYTES).unwrap_or(trigger)
}

/// `gg_`, eight digits, `_`, eight digits.
const FUNCTION_BYTES: usize = 20;

/// Whether a trigger's or function's name is one that some version gives.
pub(super) fn is_ours(name: &str) -> bool {
    let is_hex = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = name.splitn(4, '_');
    parts.next() == Some("gg") && parts.next().is_some_and(is_hex) && parts.next().is_some_and(is_hex)
}

fn prefix(source: &Source) -> String {
    let mut hash = Xxh3::new();
    hash.update(source.table.as_bytes());
    hash.update(&[0]);
    hash.update(source.key_column.as_bytes());
    format!("gg_{:08x}_", hash.digest() as u32)
}

const fn template(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Sqlite => include_str!("sql/sqlite_triggers.sql"),
        DatabaseKind::Postgres => include_str!("sql/postgres_triggers.sql"),
        DatabaseKind::Mysql => include_str!("sql/mysql_triggers.sql"),
    }
}

const fn endings(kind: DatabaseKind) -> &'static [&'static str] {
    match kind {
        DatabaseKind::Postgres => &["_row", "_truncate"],
        DatabaseKind::Sqlite | DatabaseKind::Mysql => &["_i", "_u", "_d"],
    }
}

/// A text as SQL.
fn text(kind: DatabaseKind, text: &str) -> String {
    // A backslash is an escape in MySQL, or not, as the session's mode says. In hexadecimal it is neither.
    if kind == DatabaseKind::Mysql && text.contains(|c: char| c == '\\' || c == '\'' || c.is_control()) {
        let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        return format!("CONVERT(0x{digits} USING utf8mb4)");
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::KeyType;

    #[test]
    fn names_tell_tables_columns_and_definitions_apart() {
        let tracked = |table: &str, column: &str, key_type| Tracked {
            source: Source { table: table.into(), key_column: column.into() },
            key_type,
        };
        let name = |tracked: &Tracked| Triggers::new(DatabaseKind::Sqlite, tracked).names()[0].clone();
        let one = tracked("t", "k", KeyType::Text);
        let others = [
            tracked("t", "k", KeyType::Integer),
            tracked("tk", "", KeyType::Text),
            tracked("u", "k", KeyType::Text),
        ];
        for other in &others {
            assert_ne!(name(&one), name(other));
        }
        let triggers = Triggers::new(DatabaseKind::Sqlite, &one);
        assert!(
            triggers.owns(&name(&one))
                && triggers.owns(&name(&others[0]))
                && !triggers.owns(&name(&others[1]))
        );
        assert!(name(&one).starts_with("gg_ac86dbd5_"), "all versions agree");
        let postgres = Triggers::new(DatabaseKind::Postgres, &one).names();
        assert_eq!(function_of(&postgres[1]).len(), FUNCTION_BYTES);
        assert_eq!(format!("{}_truncate", function_of(&postgres[1])), postgres[1]);
        for other in ["gg_log", "gg_6d2ab48e_i", "xx_6d2ab48e_67cbb1e9_i", "gg_6d2ab48e_67cbb1ez_i"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn texts_can_not_leave_their_quotes() {
        assert_eq!(text(DatabaseKind::Postgres, "a'b\\"), "'a''b\\'");
        assert_eq!(text(DatabaseKind::Mysql, "plain 表"), "'plain 表'");
        assert_eq!(text(DatabaseKind::Mysql, "a'\\"), "CONVERT(0x61275c USING utf8mb4)");
    }
}
