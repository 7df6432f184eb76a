//! The loader of one table.

use std::{collections::HashMap, sync::Arc};

use diesel::RunQueryDsl as _;

use super::{
    OpenError, QueryError, SqliteDatabase, TableReport,
    database::Turn,
    query::{TableRow, TableStatements},
    table,
};
use crate::{
    group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value},
    origin::{
        TableConfig,
        render::{Field, KeyValue, RenderError, ValueRenderer},
    },
};

/// The keys of one statement at most. SQLite allows 32,766 values, but a statement should be short.
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
    database: SqliteDatabase,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
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
        database: &SqliteDatabase,
        config: &TableConfig,
        value_bytes_max: usize,
    ) -> Result<Self, OpenError> {
        let (report, statements) = table::inspect(database, config)?;
        let renderer = ValueRenderer::new(&config.value_columns, value_bytes_max);
        let plan = Arc::new(Plan { report, statements, renderer });
        Ok(Self { database: database.clone(), plan })
    }

    /// What is known of the table.
    pub fn report(&self) -> &TableReport {
        &self.plan.report
    }

    /// What works, but not well: sentences for an operator.
    pub fn warnings(&self) -> Vec<String> {
        self.plan.report.warnings()
    }
}

impl Loader for TableLoader {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let key_type = self.plan.report.key_type;
            let wanted: Vec<Key> =
                keys.iter().filter(|key| key_type.parse(key.as_bytes()).is_some()).cloned().collect();
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
    /// The rows of `wanted`, by key.
    fn load(&self, mut turn: Turn<'_>, mut wanted: Vec<Key>) -> Result<HashMap<Key, Value>, LoadError> {
        if wanted.len() > 1 {
            wanted.sort_unstable();
            wanted.dedup();
        }
        let mut found = HashMap::with_capacity(wanted.len());
        let mut loaded = 0;
        for chunk in wanted.chunks(STATEMENT_KEYS_MAX) {
            self.load_chunk(&mut turn, chunk, &mut found, &mut loaded)?;
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
        let query = self.statements.load(&keys, turn.deadline());
        let table = &self.report.table;
        // The inner result is what is wrong with a row, the outer one what is wrong with the statement.
        turn.send(table, |connection| {
            for row in query.load_iter::<TableRow, _>(connection)? {
                let row = row?;
                let Some(bytes) = key_type.render(&row.key) else { continue };
                let Ok(at) = chunk.binary_search_by(|key| key.as_bytes().cmp(&bytes)) else { continue };
                let value = match self.renderer.render(row.values) {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(self.row_error(error))),
                };
                *loaded += value.bytes().len();
                if *loaded > LOAD_BYTES_MAX && chunk.len() > 1 {
                    return Ok(Err(LoadError::TooMuch(LOAD_BYTES_MAX)));
                }
                if found.insert(chunk[at].clone(), value).is_some() {
                    let column = self.report.key_column.clone();
                    let error = QueryError::DuplicateKey { table: table.clone(), column };
                    return Ok(Err(LoadError::row(error)));
                }
            }
            Ok(Ok(()))
        })?
    }

    fn row_error(&self, error: RenderError) -> LoadError {
        match error {
            RenderError::TooLarge { bytes, limit } => LoadError::TooLarge { bytes, limit },
            RenderError::NotUtf8(column) => {
                LoadError::row(QueryError::NotUtf8 { table: self.report.table.clone(), column })
            }
        }
    }

    /// At most `limit` keys after `after`, in the order of their column. Goes on over rows whose key is too
    /// long, empty or not UTF-8 until it has a key or the table ends.
    fn scan(&self, mut turn: Turn<'_>, after: Option<Key>, limit: usize) -> Result<Vec<Key>, LoadError> {
        let key_type = self.report.key_type;
        let mut cursor = match &after {
            None => None,
            Some(key) => match key_type.parse(key.as_bytes()) {
                Some(value) => Some(Cursor::from(value)),
                // No row can have this key, so it did not come from this table.
                None => return Ok(Vec::new()),
            },
        };
        // Rows behind the cursor that can't be the cursor, since they can't be bound.
        let mut skip = 0_i64;
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let value = cursor.as_ref().map(Cursor::value);
            let query = self.statements.scan(value, SCAN_ROWS_MAX, skip, turn.deadline());
            let mut rows_seen = 0;
            let mut next = None;
            turn.send(&self.report.table, |connection| {
                // Row by row: a key that is skipped may be of any length.
                for row in query.load_iter::<TableRow, _>(connection)? {
                    let row = row?;
                    rows_seen += 1;
                    let key = key_type.render(&row.key).and_then(|bytes| Key::new(bytes).ok());
                    match Cursor::from_field(row.key) {
                        Some(field) => (next, skip) = (Some(field), 0),
                        None => skip += 1,
                    }
                    // Two rows of one key stand side by side, where the column is not unique.
                    keys.extend(key.filter(|key| keys.last() != Some(key)));
                    if keys.len() == limit {
                        break;
                    }
                }
                Ok(())
            })?;
            cursor = next.or(cursor);
            // One page is enough as soon as it brought anything: whoever wants more asks again.
            if rows_seen < SCAN_ROWS_MAX || !keys.is_empty() {
                return Ok(keys);
            }
        }
    }
}

/// How far a scan has come, for keys of any length.
enum Cursor {
    Text(String),
    Integer(i64),
    Blob(Vec<u8>),
}

impl From<KeyValue<'_>> for Cursor {
    fn from(value: KeyValue<'_>) -> Self {
        match value {
            KeyValue::Text(text) => Self::Text(text.to_owned()),
            KeyValue::Integer(number) => Self::Integer(number),
            KeyValue::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl Cursor {
    fn from_field(field: Field) -> Option<Self> {
        match field {
            Field::Text(text) => Some(Self::Text(text)),
            Field::Integer(number) => Some(Self::Integer(number)),
            Field::Blob(bytes) => Some(Self::Blob(bytes)),
            Field::Null | Field::Real(_) | Field::InvalidText => None,
        }
    }

    fn value(&self) -> KeyValue<'_> {
        match self {
            Self::Text(text) => KeyValue::Text(text),
            Self::Integer(number) => KeyValue::Integer(*number),
            Self::Blob(bytes) => KeyValue::Blob(bytes),
        }
    }
}
