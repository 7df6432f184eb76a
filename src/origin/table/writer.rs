//! The writer of one table: what a `PUT` or `DELETE` does, in one transaction with the row of the log that the table's
//! triggers write.
//!
//! The row is looked at first, under a lock, for three reasons. A condition is judged by it. It is the row of exactly the
//! key that was asked for: under a case-insensitive collation an upsert of `ANNA` would change Anna's row. And whether to
//! insert or to update is known without the database's own upsert, which each kind spells and counts differently.
//! Two that insert one key at once are told apart by its unique index: the later one looks again.

use std::{cell::Cell, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    TableError,
    columns::key_cast,
    loader::{Plan, TableLoader},
    written::Parser,
};
use crate::{
    database::{
        Access, Column, Database, DatabaseError, DatabaseKind, KeyValue, SqlValue, Statement, Table, Turn,
    },
    group::{BoxFuture, Condition, Key, LoadError, Value, Write, WriteError, Writer, Written},
    origin::TableConfig,
};

/// How often a write looks again that found no row, and then could not insert one.
const ATTEMPTS: usize = 3;

/// Writes the rows of one table by key. Cloning shares everything.
///
/// A statement takes at most the statement timeout, and a write that waits for another one's lock as long. The future of
/// a write ends no sooner than its work; dropping it does not stop the work.
#[derive(Clone, Debug)]
pub struct TableWriter {
    database: Database,
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    plan: Arc<Plan>,
    parser: Parser,
    insert: String,
    update: String,
    delete: String,
    /// Around a key that is bound.
    cast: (String, String),
    timeout: Duration,
}

impl TableWriter {
    /// A writer of the table and columns of `loader`, as `config` names them. Blocks: for starting up.
    ///
    /// # Errors
    /// A column that can't be written, a key column that is not unique, or a database that did not answer.
    pub fn new(loader: &TableLoader, config: &TableConfig) -> Result<Self, TableError> {
        let (database, plan) = (loader.database().clone(), Arc::clone(loader.plan()));
        let (kind, timeout) = (database.kind(), database.statement_timeout());
        let place = database.place();
        let table = database
            .run_here(Access::Read, timeout, |turn| Table::read(turn, &config.table))
            .map_err(|source: DatabaseError| TableError::Look { place: place.clone(), source })?;
        let find = |name: &String| table.as_ref().and_then(|table| table.column(name)).cloned();
        let missing = |column: &String| TableError::NoColumn {
            table: config.table.clone(),
            column: column.clone(),
            there_is: String::new(),
        };
        let key = find(&config.key_column).ok_or_else(|| missing(&config.key_column))?;
        if !key.unique {
            let (table, column) = (config.table.clone(), key.name);
            return Err(TableError::KeyNotUnique { table, column });
        }
        let columns: Vec<Column> = config
            .value_columns
            .iter()
            .map(|name| find(name).ok_or_else(|| missing(name)))
            .collect::<Result<_, _>>()?;
        let parser = Parser::new(kind, columns).map_err(|column| TableError::NotWritable {
            table: config.table.clone(),
            column: column.name,
            declared: column.declared,
        })?;
        let quoted = |name: &str| kind.quoted(name);
        let name = match kind {
            DatabaseKind::Sqlite => format!("main.{}", quoted(&config.table)),
            _ => quoted(&config.table),
        };
        let of_key = format!("t.{} = ", quoted(&key.name));
        let names: String = config.value_columns.iter().map(|name| format!(", {}", quoted(name))).collect();
        // MySQL deletes from an alias by naming it twice.
        let delete = match kind {
            DatabaseKind::Mysql => format!("DELETE t FROM {name} AS t WHERE {of_key}"),
            _ => format!("DELETE FROM {name} AS t WHERE {of_key}"),
        };
        let cast = key_cast(kind, &key, false);
        let parts = Parts {
            plan,
            parser,
            insert: format!("INSERT INTO {name} ({}{names}) VALUES (", quoted(&key.name)),
            update: format!("UPDATE {name} AS t SET "),
            delete,
            cast,
            timeout,
        };
        Ok(Self { database, parts: Arc::new(parts) })
    }
}

impl Writer for TableWriter {
    fn write<'a>(
        &'a self,
        key: &'a Key,
        write: &'a Write,
        condition: Option<&'a Condition>,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let parts = Arc::clone(&self.parts);
            // Before the database is troubled.
            let values = match write {
                Write::Put(body) => Some(parts.parse(key, body)?),
                Write::Delete => None,
            };
            let (key, condition) = (key.clone(), condition.cloned());
            let work =
                move |turn: &mut Turn<'_>| parts.write(turn, &key, values.as_deref(), condition.as_ref());
            // A panic or a stop may come when all is done, before or after the commit.
            let result = self.database.run_as(Access::Write, self.parts.timeout, work).await;
            result.map_err(Failure::into_error)
        })
    }
}

/// Why a piece of work failed; what `run_as` makes of the database's own errors has not begun.
enum Failure {
    Write(WriteError),
    NotBegun(DatabaseError),
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::NotBegun(error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl Failure {
    fn into_error(self) -> WriteError {
        match self {
            Self::Write(error) => error,
            // It may have been past the commit.
            Self::NotBegun(error @ (DatabaseError::Panicked | DatabaseError::Stopped)) => {
                WriteError::Unknown(error.into())
            }
            Self::NotBegun(error) => WriteError::Failed(error.into()),
        }
    }
}

/// What became of one attempt.
enum Attempt {
    Done(Written),
    /// Another row of the key came in between, or another transaction that this one had to end for.
    Raced(DatabaseError),
}

impl Parts {
    fn parse(&self, key: &Key, body: &Bytes) -> Result<Vec<SqlValue<'static>>, WriteError> {
        if !self.plan.may_have(key) {
            let key_type = self.plan.report().key_type.as_str();
            let text = format!("the key column holds {key_type} keys, and no row can have this key");
            return Err(WriteError::Malformed(text));
        }
        self.parser.parse(body).map_err(WriteError::Malformed)
    }

    fn write(
        &self,
        turn: &mut Turn<'_>,
        key: &Key,
        values: Option<&[SqlValue<'static>]>,
        condition: Option<&Condition>,
    ) -> Result<Written, Failure> {
        let Some(bound) =
            self.plan.report().key_type.parse(key.as_bytes()).filter(|_| self.plan.may_have(key))
        else {
            // No row can have it.
            return match condition.is_none_or(|condition| condition.holds(None)) {
                true => Ok(Written::Absent),
                false => Err(WriteError::Condition.into()),
            };
        };
        let mut raced = None;
        for _ in 0..ATTEMPTS {
            match self.attempt(turn, key, bound, values, condition)? {
                Attempt::Done(written) => return Ok(written),
                Attempt::Raced(error) => raced = Some(error),
            }
        }
        // A row that is there, and that no look finds: another column's, which must be unique too.
        Err(match raced {
            None => WriteError::Condition,
            Some(error) if error.is_serialization_failure() => WriteError::Failed(error.into()),
            Some(error) => WriteError::refused(error),
        }
        .into())
    }

    fn attempt(
        &self,
        turn: &mut Turn<'_>,
        key: &Key,
        bound: KeyValue<'_>,
        values: Option<&[SqlValue<'static>]>,
        condition: Option<&Condition>,
    ) -> Result<Attempt, Failure> {
        // Whether the work was done when the transaction failed: then the commit did.
        let done = Cell::new(false);
        let result = turn.transaction(|turn| {
            let written = self.in_transaction(turn, key, bound, values, condition)?;
            done.set(true);
            Ok::<_, Step>(written)
        });
        match result {
            Ok(written) => Ok(Attempt::Done(written)),
            Err(Step::Database(error)) if done.get() => Err(WriteError::Unknown(error.into()).into()),
            Err(Step::Database(error)) => Err(Failure::NotBegun(error)),
            Err(Step::Statement(error))
                if error.is_unique_violation() || error.is_serialization_failure() =>
            {
                Ok(Attempt::Raced(error))
            }
            Err(Step::Statement(error)) => Err(refusal(error).into()),
            Err(Step::Write(error)) => Err(error.into()),
        }
    }

    fn in_transaction(
        &self,
        turn: &mut Turn<'_>,
        key: &Key,
        bound: KeyValue<'_>,
        values: Option<&[SqlValue<'static>]>,
        condition: Option<&Condition>,
    ) -> Result<Written, Step> {
        let present = self.present(turn, key, bound)?;
        if let Some(condition) = condition
            && !condition.holds(present.as_ref())
        {
            return Err(Step::Write(WriteError::Condition));
        }
        let Some(values) = values else {
            if present.is_none() {
                return Ok(Written::Absent);
            }
            let statement = self.with_key(Statement::new(&*self.delete), bound);
            only_one(turn.execute(&statement).map_err(Step::Statement)?)?;
            return Ok(Written::Done);
        };
        if present.is_some() {
            let mut statement = Statement::new(&*self.update);
            for (at, (assigned, value)) in self.parser.assigned().zip(values).enumerate() {
                let comma = if at > 0 { ", " } else { "" };
                statement =
                    statement.then(comma).then(&*assigned.before).bind(value.clone()).then(&*assigned.after);
            }
            let of_key = format!(" WHERE t.{} = ", turn.kind().quoted(&self.plan.report().key_column));
            let statement = self.with_key(statement.then(of_key), bound);
            only_one(turn.execute(&statement).map_err(Step::Statement)?)?;
            return Ok(Written::Done);
        }
        let mut statement = self.with_key(Statement::new(&*self.insert), bound);
        for (inserted, value) in self.parser.inserted().zip(values) {
            statement =
                statement.then(", ").then(&*inserted.before).bind(value.clone()).then(&*inserted.after);
        }
        turn.execute(&statement.then(")")).map_err(Step::Statement)?;
        Ok(Written::Done)
    }

    fn with_key<'a>(&'a self, statement: Statement<'a>, key: KeyValue<'a>) -> Statement<'a> {
        statement.then(&*self.cast.0).bind(key).then(&*self.cast.1)
    }

    /// The value of the row of `key`, which is locked until the transaction ends.
    fn present(&self, turn: &mut Turn<'_>, key: &Key, bound: KeyValue<'_>) -> Result<Option<Value>, Step> {
        let keys = [bound];
        let statement = self.plan.statements().load(&keys, turn.deadline());
        let statement = match turn.kind() {
            // The transaction has the lock of the whole file.
            DatabaseKind::Sqlite => statement,
            _ => statement.then(" FOR UPDATE"),
        };
        let rows = turn.query(&statement)?;
        let mut others = false;
        let mut found = None;
        for row in rows {
            let mut fields = row.into_fields();
            if fields.is_empty() {
                continue;
            }
            let values = fields.split_off(1);
            let is_asked = self.plan.key_of(&fields[0]).is_some_and(|bytes| *bytes == *key.as_bytes());
            match is_asked {
                true => found = Some(self.plan.value_of(values).map_err(WriteError::Failed)?),
                false => others = true,
            }
        }
        if others {
            // The column's collation takes that row's key for this one: a statement would reach both.
            return Err(Step::Write(WriteError::refused(EQUAL)));
        }
        Ok(found)
    }
}

const EQUAL: &str = "there is a row whose key is equal by the column's collation, and spelled otherwise";

/// Nothing is committed that has reached another row than the key's. MySQL does not count a row that stays as it was.
fn only_one(rows: usize) -> Result<(), Step> {
    if rows > 1 { Err(Step::Write(WriteError::refused(EQUAL))) } else { Ok(()) }
}

/// Where a transaction failed.
enum Step {
    /// In what is done for every write, or at its beginning or end.
    Database(DatabaseError),
    /// In the one that changes the row.
    Statement(DatabaseError),
    Write(WriteError),
}

impl From<DatabaseError> for Step {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<WriteError> for Step {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// What a statement that changes a row has failed for: the row, if the database spoke to it.
fn refusal(error: DatabaseError) -> WriteError {
    match error {
        DatabaseError::Statement(source) => WriteError::refused(source),
        error => WriteError::Failed(LoadError::from(error)),
    }
}
