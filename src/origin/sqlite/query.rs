//! The two statements that are sent while serving, and the rows that they bring.
//!
//! Identifiers are quoted and always qualified: SQLite takes a double-quoted name that it does not know
//! for a string, so that after a dropped column `"score"` would be the text *score* in every row, where
//! `t."score"` is an error. Values are always bound.

use std::time::{Duration, Instant};

use diesel::{
    QueryResult, RunQueryDsl, SqliteConnection,
    backend::Backend,
    declare_sql_function,
    deserialize::{self, FromSql, QueryableByName},
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    row::{Field as _, NamedRow, Row},
    serialize::{self, Output, ToSql},
    sql_types::{BigInt, Binary, Bool, Text, Untyped},
    sqlite::{Sqlite, SqliteType},
};

use crate::origin::render::{Field, KeyType, KeyValue};

/// Where statements read the time: nanoseconds since the database was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementClock {
    opened: Instant,
}

/// When a statement has to end, by a [`StatementClock`].
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementDeadline(i64);

impl StatementClock {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now() }
    }

    fn nanos(self, moment: Instant) -> i64 {
        i64::try_from(moment.saturating_duration_since(self.opened).as_nanos()).unwrap_or(i64::MAX)
    }

    /// The deadline `timeout` from now.
    pub(super) fn after(self, timeout: Duration) -> StatementDeadline {
        let timeout = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        StatementDeadline(self.nanos(Instant::now()).saturating_add(timeout))
    }

    /// Whether `deadline` has passed.
    pub(super) fn is_past(self, deadline: StatementDeadline) -> bool {
        self.nanos(Instant::now()) > deadline.0
    }
}

#[declare_sql_function]
extern "SQL" {
    /// True until the deadline, an error afterwards: the only way to end a statement from inside.
    fn gg_within(deadline: BigInt) -> Bool;
}

/// What `gg_within` answers: true, or an error that ends the statement.
#[derive(Debug)]
struct Within(bool);

impl ToSql<Bool, Sqlite> for Within {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        if self.0 {
            ToSql::<Bool, Sqlite>::to_sql(&true, out)
        } else {
            Err("the statement took too long".into())
        }
    }
}

/// Teaches `connection` the function `gg_within`. It is not declared deterministic, so that SQLite calls it
/// for each row instead of once.
pub(super) fn register_within(connection: &mut SqliteConnection, clock: StatementClock) -> QueryResult<()> {
    gg_within_utils::register_nondeterministic_impl(connection, move |deadline: i64| {
        Within(!clock.is_past(StatementDeadline(deadline)))
    })
}

/// A name as SQL, whatever it contains.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The texts of one table's statements.
#[derive(Debug)]
pub(super) struct TableStatements {
    select: String,
    key_in: String,
    scan: String,
    scan_after: String,
    scan_order: String,
}

impl TableStatements {
    pub(super) fn new(table: &str, key_column: &str, key_type: KeyType, value_columns: &[String]) -> Self {
        let table = quoted(table);
        let key = format!("t.{}", quoted(key_column));
        let values: String = value_columns.iter().map(|column| format!(", t.{}", quoted(column))).collect();
        // The deadline comes first: SQLite evaluates what no index answers from left to right, and a scan
        // of a table without an index has to notice it on rows that do not match.
        let select = format!("SELECT {key}{values} FROM main.{table} AS t WHERE gg_within(");
        let key_in = format!(") AND {key} IN (");
        // Byte order, whatever the column's collation: under NOCASE `> 'Anna'` would skip `anna`. Where
        // the collation is BINARY this is the index's own order; elsewhere it sorts.
        let collate = if key_type == KeyType::Text { " COLLATE BINARY" } else { "" };
        let scan = format!(
            "SELECT {key} FROM main.{table} AS t WHERE gg_within(?) AND typeof({key}) = '{}'",
            key_type.as_str()
        );
        let scan_after = format!(" AND {key} > ?{collate}");
        let scan_order = format!(" ORDER BY {key}{collate} LIMIT ? OFFSET ?");
        Self { select, key_in, scan, scan_after, scan_order }
    }

    /// Asks how a load of one key would be done. The placeholders stay unbound: nothing is executed.
    pub(super) fn explain(&self) -> String {
        format!("EXPLAIN QUERY PLAN {}?{}?)", self.select, self.key_in)
    }

    /// Reads the rows of `keys`.
    pub(super) fn load<'a>(&'a self, keys: &'a [KeyValue<'a>], deadline: StatementDeadline) -> LoadQuery<'a> {
        LoadQuery { statements: self, keys, deadline: deadline.0 }
    }

    /// Reads `limit` keys in order, after `after`, and then after `skip` more.
    pub(super) fn scan<'a>(
        &self,
        after: Option<KeyValue<'a>>,
        limit: i64,
        skip: i64,
        deadline: StatementDeadline,
    ) -> impl RunQueryDsl<SqliteConnection> + Query<SqlType = Untyped> + QueryFragment<Sqlite> + QueryId + use<'a>
    {
        let mut query =
            diesel::sql_query(self.scan.as_str()).into_boxed::<Sqlite>().bind::<BigInt, _>(deadline.0);
        if let Some(after) = after {
            query = query.sql(&self.scan_after);
            query = match after {
                KeyValue::Text(text) => query.bind::<Text, _>(text),
                KeyValue::Integer(number) => query.bind::<BigInt, _>(number),
                KeyValue::Blob(bytes) => query.bind::<Binary, _>(bytes),
            };
        }
        query.sql(&self.scan_order).bind::<BigInt, _>(limit).bind::<BigInt, _>(skip)
    }
}

/// `SELECT key, values … WHERE key IN (…)`.
///
/// A fragment of our own where `sql_query` would do, since diesel prepares the latter anew each time: a
/// statement for one key is by far the most frequent, and is prepared once a connection.
#[derive(Debug)]
pub(super) struct LoadQuery<'a> {
    statements: &'a TableStatements,
    keys: &'a [KeyValue<'a>],
    deadline: i64,
}

impl QueryFragment<Sqlite> for LoadQuery<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        if self.keys.len() > 1 {
            // A statement for each number of keys would crowd the cache of prepared statements.
            out.unsafe_to_cache_prepared();
        }
        out.push_sql(&self.statements.select);
        out.push_bind_param::<BigInt, _>(&self.deadline)?;
        out.push_sql(&self.statements.key_in);
        for (at, key) in self.keys.iter().enumerate() {
            if at > 0 {
                out.push_sql(", ");
            }
            match key {
                KeyValue::Text(text) => out.push_bind_param::<Text, str>(text)?,
                KeyValue::Integer(number) => out.push_bind_param::<BigInt, _>(number)?,
                KeyValue::Blob(bytes) => out.push_bind_param::<Binary, [u8]>(bytes)?,
            }
        }
        out.push_sql(")");
        Ok(())
    }
}

/// No type names the statement, so that it is cached by its text.
impl QueryId for LoadQuery<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for LoadQuery<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<SqliteConnection> for LoadQuery<'_> {}

/// A row of either statement: the key, then the values.
#[derive(Debug)]
pub(super) struct TableRow {
    pub(super) key: Field,
    pub(super) values: Vec<Field>,
}

impl QueryableByName<Sqlite> for TableRow {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let field = |at: usize| match Row::get(row, at) {
            Some(field) => Ok(field.value().map_or(Field::Null, read_field)),
            None => Err("the row has fewer columns than were asked for".into()),
        };
        let values = (1..row.field_count()).map(field).collect::<deserialize::Result<_>>()?;
        Ok(Self { key: field(0)?, values })
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
        Some(SqliteType::Binary) => Field::Blob(value.read_blob().to_vec()),
        // By diesel's conversion, which checks, and not by `read_text`, which replaces.
        Some(SqliteType::Text) => {
            <String as FromSql<Text, Sqlite>>::from_sql(value).map_or(Field::InvalidText, Field::Text)
        }
    }
}
