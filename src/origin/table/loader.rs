//! The loader of one table.

use std::{borrow::Cow, collections::HashMap, ops::ControlFlow, sync::Arc};

use super::{
    QueryError, TableError, TableReport,
    report::{Inspected, inspect},
    statements::TableStatements,
};
use crate::{
    database::{Database, DatabaseError, DatabaseKind, Field, KeyType, Row, SqlValue, Turn},
    group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value},
    origin::{
        TableConfig,
        render::{RenderError, ValueRenderer, render_key},
    },
};

/// The keys of one statement at most. SQLite allows 32,766 values, MySQL 65,535, but a statement should be short.
const STATEMENT_KEYS_MAX: usize = 1_000;
/// The values that a load of several keys brings at most, in bytes.
const LOAD_BYTES_MAX: usize = 16 << 20;
/// The rows that a scan reads at most in one statement.
const SCAN_ROWS_MAX: i64 = 1000;

/// Reads the rows of one table by key. Cloning shares everything.
///
/// A load of many keys is one statement for each 1,000 different ones, without a transaction around them: the
/// keys of one answer may be of different moments. A row counts only if its key, rendered, equals the bytes
/// that were asked for. If two do, the load fails, since neither is *the* value of the key; if one value is
/// larger than the limit, the load fails with [`LoadError::TooLarge`], for its other keys as well; and with
/// [`LoadError::TooMuch`] if the values of several keys have more than 16 MiB together.
///
/// The future of a load ends no sooner than its work. It ends within about the statement timeout once it
/// has a connection, and waits as long for one (then [`LoadError::Busy`]); see the module's page for what
/// can take longer, and put a [`Timeout`](crate::origin::Timeout) around it. Dropping the future does not
/// stop a statement, and its connection counts as taken until it ends.
#[derive(Clone, Debug)]
pub struct TableLoader {
    database: Database,
    plan: Arc<Plan>,
}

#[derive(Debug)]
pub(super) struct Plan {
    report: TableReport,
    statements: TableStatements,
    renderer: ValueRenderer,
}

impl TableLoader {
    /// A loader of the table and columns of `config`, which must exist, with values of at most
    /// `value_bytes_max` bytes. Blocks: for starting up, not for a request.
    ///
    /// # Errors
    /// A table or column that is not there, a key column of a type that can't be a key, or a database that
    /// did not answer.
    pub fn new(
        database: &Database,
        config: &TableConfig,
        value_bytes_max: usize,
    ) -> Result<Self, TableError> {
        let Inspected { report, statements, renderings } = inspect(database, config)?;
        let columns = config.value_columns.iter().cloned().zip(renderings);
        let renderer = ValueRenderer::new(columns, value_bytes_max);
        let plan = Arc::new(Plan { report, statements, renderer });
        Ok(Self { database: database.clone(), plan })
    }

    /// What is known of the table.
    pub fn report(&self) -> &TableReport {
        &self.plan.report
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    pub(super) const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What works, but not well: sentences for an operator.
    pub fn warnings(&self) -> Vec<String> {
        self.plan.report.warnings()
    }
}

impl Loader for TableLoader {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let wanted: Vec<Key> = keys.iter().filter(|key| self.plan.may_have(key)).cloned().collect();
            if wanted.is_empty() {
                return Ok(vec![None; keys.len()]);
            }
            let plan = Arc::clone(&self.plan);
            let found = self.database.run(move |turn| plan.load(turn, wanted)).await?;
            Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
        })
    }
}

impl KeyScan for TableLoader {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        Box::pin(async move {
            if limit == 0 {
                return Ok(Vec::new());
            }
            let (plan, after) = (Arc::clone(&self.plan), after.cloned());
            self.database.run(move |turn| plan.scan(turn, after, limit)).await
        })
    }
}

impl Plan {
    pub(super) const fn report(&self) -> &TableReport {
        &self.report
    }

    pub(super) const fn statements(&self) -> &TableStatements {
        &self.statements
    }

    /// The value of a row, by its fields but for the key.
    pub(super) fn value_of(&self, values: Vec<Field>) -> Result<Value, LoadError> {
        self.renderer.render(values).map_err(|error| self.row_error(error))
    }

    /// Whether a row can have this key, by its spelling.
    pub(super) fn may_have(&self, key: &Key) -> bool {
        let (bytes, report) = (key.as_bytes(), &self.report);
        // PostgreSQL has no text with a zero byte, and refuses a statement with one.
        let impossible =
            report.kind == DatabaseKind::Postgres && report.key_type == KeyType::Text && bytes.contains(&0);
        !impossible && report.key_type.parse(bytes).is_some()
    }

    /// The rows of `wanted`, by key.
    fn load(&self, turn: &mut Turn<'_>, mut wanted: Vec<Key>) -> Result<HashMap<Key, Value>, LoadError> {
        if wanted.len() > 1 {
            wanted.sort_unstable();
            wanted.dedup();
        }
        let mut found = HashMap::with_capacity(wanted.len());
        let mut loaded = 0;
        for chunk in wanted.chunks(STATEMENT_KEYS_MAX) {
            self.load_chunk(turn, chunk, &mut found, &mut loaded)?;
        }
        Ok(found)
    }

    /// Reads the rows of `chunk`, which is sorted. Keys of other chunks are not accepted here, even though a
    /// collation may bring their rows: they would look like second rows of their keys.
    fn load_chunk(
        &self,
        turn: &mut Turn<'_>,
        chunk: &[Key],
        found: &mut HashMap<Key, Value>,
        loaded: &mut usize,
    ) -> Result<(), LoadError> {
        let key_type = self.report.key_type;
        let keys: Vec<_> = chunk.iter().filter_map(|key| key_type.parse(key.as_bytes())).collect();
        let statement = self.statements.load(&keys, turn.deadline());
        let mut wrong = None;
        turn.send(|connection| {
            connection.query_each(&statement, |row| match self.accept(row, chunk, found, loaded) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    wrong = Some(error);
                    ControlFlow::Break(())
                }
            })
        })
        .map_err(|error| self.failed(error))?;
        wrong.map_or(Ok(()), Err)
    }

    /// Takes in a row, if its key is among those of `chunk`.
    fn accept(
        &self,
        row: Row,
        chunk: &[Key],
        found: &mut HashMap<Key, Value>,
        loaded: &mut usize,
    ) -> Result<(), LoadError> {
        let mut fields = row.into_fields();
        if fields.is_empty() {
            return Ok(());
        }
        let values = fields.split_off(1);
        let Some(bytes) = fields.first().and_then(|field| self.key_of(field)) else {
            return Ok(());
        };
        let Ok(at) = chunk.binary_search_by(|key| key.as_bytes().cmp(&bytes)) else { return Ok(()) };
        let value = self.value_of(values)?;
        *loaded += value.bytes().len();
        if *loaded > LOAD_BYTES_MAX && chunk.len() > 1 {
            return Err(LoadError::TooMuch(LOAD_BYTES_MAX));
        }
        if found.insert(chunk[at].clone(), value).is_some() {
            let (table, column) = (self.report.table.clone(), self.report.key_column.clone());
            return Err(LoadError::row(QueryError::DuplicateKey { table, column }));
        }
        Ok(())
    }

    fn failed(&self, error: DatabaseError) -> LoadError {
        match error {
            DatabaseError::Statement(source) => {
                LoadError::refused(QueryError::Statement { table: self.report.table.clone(), source })
            }
            error => error.into(),
        }
    }

    fn row_error(&self, error: RenderError) -> LoadError {
        match error {
            RenderError::TooLarge { bytes, limit } => LoadError::TooLarge { bytes, limit },
            RenderError::NotUtf8(column) => {
                LoadError::row(QueryError::NotUtf8 { table: self.report.table.clone(), column })
            }
            RenderError::OtherType(column) => {
                LoadError::row(QueryError::OtherType { table: self.report.table.clone(), column })
            }
        }
    }

    /// At most `limit` keys after `after`, in the order of their column. Goes on over rows whose key is too
    /// long, empty or not UTF-8 until it has a key or the table ends.
    fn scan(&self, turn: &mut Turn<'_>, after: Option<Key>, limit: usize) -> Result<Vec<Key>, LoadError> {
        let key_type = self.report.key_type;
        let mut cursor = match &after {
            None => None,
            Some(key) => match key_type.parse(key.as_bytes()) {
                Some(value) => Some(SqlValue::from(value)),
                // No row can have this key, so it did not come from this table.
                None => return Ok(Vec::new()),
            },
        };
        // Rows behind the cursor that can't be the cursor, since they can't be bound.
        let mut skip = 0_i64;
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let statement = self.statements.scan(cursor.clone(), SCAN_ROWS_MAX, skip, turn.deadline());
            let mut rows_seen = 0;
            let mut next = None;
            // Row by row: a key that is skipped may be of any length.
            let each = |row: Row| {
                rows_seen += 1;
                let field = row.into_fields().into_iter().next().unwrap_or(Field::Null);
                let key = self.key_of(&field).and_then(|bytes| Key::new(bytes).ok());
                match self.cursor_at(field) {
                    Some(value) => (next, skip) = (Some(value), 0),
                    None => skip += 1,
                }
                // Two rows of one key stand side by side, where the column is not unique.
                keys.extend(key.filter(|key| keys.last() != Some(key)));
                if keys.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            turn.send(|connection| connection.query_each(&statement, each))
                .map_err(|error| self.failed(error))?;
            cursor = next.or(cursor);
            // One page is enough as soon as it brought anything: whoever wants more asks again.
            if rows_seen < SCAN_ROWS_MAX || !keys.is_empty() {
                return Ok(keys);
            }
        }
    }

    /// The key of a row, by the first field of its answer.
    pub(super) fn key_of<'a>(&self, field: &'a Field) -> Option<Cow<'a, [u8]>> {
        match (self.report.kind, field) {
            (DatabaseKind::Sqlite, field) => render_key(self.report.key_type, field),
            // As the statement has rendered it.
            (_, Field::Bytes(bytes)) => Some(Cow::Borrowed(bytes)),
            _ => None,
        }
    }

    /// How far a scan has come, for keys of any length; `None` for what can't be bound.
    fn cursor_at(&self, field: Field) -> Option<SqlValue<'static>> {
        match (self.report.kind, field) {
            (DatabaseKind::Sqlite, Field::Text(text)) => Some(text.into()),
            (DatabaseKind::Sqlite, Field::Integer(number)) => Some(number.into()),
            (DatabaseKind::Sqlite, Field::Bytes(bytes)) => Some(bytes.into()),
            (DatabaseKind::Sqlite, _) => None,
            (_, Field::Bytes(bytes)) => {
                self.report.key_type.parse(&bytes).map(SqlValue::from).map(SqlValue::into_owned)
            }
            _ => None,
        }
    }
}
