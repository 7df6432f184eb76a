//! The port to real databases.
//!
//! The follower has a [`Database`] of its own, with two connections, so that loads never keep it waiting. What is
//! written from here on behalf of requests ([`Appender`]) goes through the groups' own.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    ChangeStore, LogRow, Page, Relayed, Seen, Source, StoreError, Touched, Tracked, Waiting,
    source::{self, KIND_ALL, KIND_KEY, KIND_PREFIX},
    triggers::Triggers,
};
use crate::{
    database::{
        Access, ChangesConfig, Database, DatabaseError, DatabaseKind, FieldError, Row, SqlValue, Statement,
        Turn,
    },
    group::{BoxFuture, LoadError, LogAppend, LogId, Selection},
};

/// Rows that are read at once.
const PAGE_ROWS: u64 = 1_000;
/// Rows that are removed at once.
const TRIM_ROWS: i64 = 1_000;
/// Rows that one statement inserts.
const INSERT_ROWS: usize = 100;
/// What relaying a flood may take, whatever the statements of loads may.
const RELAY_TIMEOUT: Duration = Duration::from_secs(20);
/// What the tables look like that this version works with.
pub(super) const VERSION: i64 = 1;

/// A connection with a number of its own for what was committed, and what was seen then.
type LastSeen = Arc<Mutex<Option<((i64, i64), Seen)>>>;

/// The outbox and log of one database.
pub struct SqlStore {
    database: Database,
    config: ChangesConfig,
    /// What was seen last, on SQLite: it holds as long as nobody has committed anything.
    last: LastSeen,
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("database", &self.database).finish_non_exhaustive()
    }
}

impl SqlStore {
    /// The log in `database`.
    pub fn new(database: Database, config: ChangesConfig) -> Self {
        Self { database, config, last: Arc::default() }
    }

    fn timeout(&self) -> Duration {
        self.database.statement_timeout()
    }

    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        timeout: Duration,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.database.run_as(access, timeout, work).await.map_err(StoreError::from)
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Timeout(timeout) => Self::Late(timeout),
            error => Self::Failed(Box::new(error)),
        }
    }
}

impl ChangeStore for SqlStore {
    fn look(&self) -> BoxFuture<'_, Result<Seen, StoreError>> {
        let last = Arc::clone(&self.last);
        Box::pin(async move {
            let seen = self.run(Access::Read, self.timeout(), move |turn| match turn.kind() {
                DatabaseKind::Sqlite => look_at_sqlite(turn, &last),
                _ => look(turn),
            });
            seen.await?.ok_or(StoreError::NotInstalled)
        })
    }

    fn relay(&self, up_to: u64) -> BoxFuture<'_, Result<Relayed, StoreError>> {
        let up_to = number(up_to);
        let timeout = RELAY_TIMEOUT.max(self.timeout());
        Box::pin(self.run(Access::Write, timeout, move |turn| relay(turn, up_to)))
    }

    fn read(&self, after: u64) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.run(Access::Read, self.timeout(), move |turn| read(turn, after)))
    }

    fn touched(&self, after: u64, up_to: u64) -> BoxFuture<'_, Result<Touched, StoreError>> {
        let timeout = RELAY_TIMEOUT.max(self.timeout());
        Box::pin(self.run(Access::Read, timeout, move |turn| touched(turn, number(after), number(up_to))))
    }

    fn trim(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let age = i64::try_from(self.config.retention.as_secs()).unwrap_or(i64::MAX);
        let rows_max = number(self.config.rows_max);
        let timeout = RELAY_TIMEOUT.max(self.timeout());
        Box::pin(async move {
            let removed = self.run(Access::Write, timeout, move |turn| trim(turn, age, rows_max)).await?;
            // A connection does not count what it commits itself.
            *self.last.lock() = None;
            Ok(unsigned(removed))
        })
    }

    fn inspect<'a>(
        &'a self,
        tracked: &'a [Tracked],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        let tracked = tracked.to_vec();
        Box::pin(async move {
            let found = self.run(Access::Read, self.timeout(), move |turn| {
                if !is_installed(turn)? {
                    return Ok(None);
                }
                if let Some(why) = why_not_here(turn)? {
                    return Ok(Some(vec![Some(why); tracked.len()]));
                }
                let states = tracked.iter().map(|tracked| why_not_logged(turn, tracked));
                states.collect::<Result<Vec<_>, _>>().map(Some)
            });
            found.await?.ok_or(StoreError::NotInstalled)
        })
    }
}

/// Where the log's rows are, and how their number is called there.
const fn log_table(kind: DatabaseKind) -> (&'static str, &'static str) {
    match kind {
        DatabaseKind::Sqlite => ("gg_outbox", "id"),
        DatabaseKind::Postgres | DatabaseKind::Mysql => ("gg_log", "seq"),
    }
}

fn look(turn: &mut Turn<'_>) -> Result<Option<Seen>, DatabaseError> {
    let statement = Statement::new(
        "SELECT c.log_id, c.head, c.stamp, c.floor, o.id, \
         CASE WHEN o.id IS NULL THEN NULL ELSE (SELECT MAX(p.id) FROM gg_outbox AS p) END \
         FROM gg_ctl AS c LEFT JOIN (SELECT id FROM gg_outbox ORDER BY id LIMIT 1) AS o ON TRUE",
    );
    let rows = turn.query(&statement)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let waiting = if row.is_null(4) {
        None
    } else {
        Some(Waiting { oldest: unsigned(row.integer(4)?), newest: unsigned(row.integer(5)?) })
    };
    let head = unsigned(row.integer(1)?);
    Ok(Some(Seen {
        log: LogId(row.integer(0)? as u64),
        head,
        stamp: if head == 0 { None } else { Some(row.integer(2)?) },
        floor: unsigned(row.integer(3)?),
        waiting,
    }))
}

fn look_at_sqlite(turn: &mut Turn<'_>, last: &LastSeen) -> Result<Option<Seen>, DatabaseError> {
    // A number that means something to one connection only. A setting that is each connection's own, and of no other use
    // here, tells them apart.
    let mut connection = single(turn, "PRAGMA analysis_limit")?;
    if connection == 0 {
        connection = i64::from(fastrand::i32(1..));
        turn.batch(&format!("PRAGMA analysis_limit = {connection}"))?;
    }
    let version = (connection, single(turn, "PRAGMA data_version")?);
    if let Some((known, seen)) = *last.lock()
        && known == version
    {
        return Ok(Some(seen));
    }
    let statement = Statement::new(
        "SELECT c.log_id, c.floor, COALESCE(s.seq, 0), o.stamp FROM gg_ctl AS c \
         LEFT JOIN sqlite_sequence AS s ON s.name = 'gg_outbox' LEFT JOIN gg_outbox AS o ON o.id = s.seq",
    );
    let rows = turn.query(&statement)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let seen = Seen {
        log: LogId(row.integer(0)? as u64),
        head: unsigned(row.integer(2)?),
        stamp: if row.is_null(3) { None } else { Some(row.integer(3)?) },
        floor: unsigned(row.integer(1)?),
        waiting: None,
    };
    // Somebody may have committed between the two statements: then the version is another one at the next look.
    *last.lock() = Some((version, seen));
    Ok(Some(seen))
}

fn relay(turn: &mut Turn<'_>, up_to: i64) -> Result<Relayed, DatabaseError> {
    let rows = match turn.kind() {
        DatabaseKind::Sqlite => return Ok(Relayed::All { head: 0 }),
        DatabaseKind::Postgres => {
            let statement = Statement::new("SELECT new_head, more FROM gg_relay(").bind(up_to).then(")");
            turn.query(&statement)?
        }
        DatabaseKind::Mysql => {
            turn.batch(&format!("CALL gg_relay({up_to}, @gg_head, @gg_more)"))?;
            turn.query(&Statement::new("SELECT CAST(@gg_head AS SIGNED), CAST(@gg_more AS SIGNED)"))?
        }
    };
    let row = rows.first().ok_or_else(nothing)?;
    Ok(match (row.is_null(0), row.integer(1)? != 0) {
        (true, _) => Relayed::Busy,
        (false, true) => Relayed::Some,
        (false, false) => Relayed::All { head: unsigned(row.integer(0)?) },
    })
}

fn read(turn: &mut Turn<'_>, after: u64) -> Result<Page, DatabaseError> {
    let (table, seq) = log_table(turn.kind());
    let limit = PAGE_ROWS + 1;
    let statement = Statement::new(format!(
        "SELECT c.floor, l.seq, l.tbl, l.col, l.kind, l.k, l.stamp, c.log_id FROM gg_ctl AS c LEFT JOIN \
         (SELECT {seq} AS seq, tbl, col, kind, k, stamp FROM {table} WHERE {seq} >= "
    ))
    .bind(number(after))
    .then(format!(" ORDER BY {seq} LIMIT {limit}) AS l ON 1 = 1 ORDER BY l.seq"));
    let mut page = Page::default();
    for row in turn.query(&statement)? {
        page.floor = unsigned(row.integer(0)?);
        page.log = Some(LogId(row.integer(7)? as u64));
        if row.is_null(1) {
            continue;
        }
        let row = log_row(&row)?;
        if row.seq == after {
            page.before = Some(row.stamp);
        } else {
            page.rows.push(row);
        }
    }
    Ok(page)
}

fn log_row(row: &Row) -> Result<LogRow, FieldError> {
    Ok(LogRow {
        seq: unsigned(row.integer(1)?),
        source: Source { table: row.text(2)?.to_owned(), key_column: row.text(3)?.to_owned() },
        change: source::change(row.integer(4)?, row.bytes(5)?),
        stamp: row.integer(6)?,
    })
}

fn touched(turn: &mut Turn<'_>, after: i64, up_to: i64) -> Result<Touched, DatabaseError> {
    let (table, seq) = log_table(turn.kind());
    let statement = Statement::new(format!("SELECT DISTINCT tbl, col FROM {table} WHERE {seq} > "))
        .bind(after)
        .then(format!(" AND {seq} <= "))
        .bind(up_to);
    let mut touched = Touched::default();
    for row in turn.query(&statement)? {
        let source = Source { table: row.text(0)?.to_owned(), key_column: row.text(1)?.to_owned() };
        touched.sources.push(source);
    }
    // The last thing, so that all of the above was this log's, and nothing of it was removed before.
    let last = Statement::new(format!(
        "SELECT c.log_id, l.stamp, c.floor, b.stamp FROM gg_ctl AS c LEFT JOIN {table} AS l ON l.{seq} = "
    ))
    .bind(up_to)
    .then(format!(" LEFT JOIN {table} AS b ON b.{seq} = "))
    .bind(after);
    if let Some(row) = turn.query(&last)?.first() {
        let stamp = |at| if row.is_null(at) { Ok(None) } else { row.integer(at).map(Some) };
        touched.log = Some(LogId(row.integer(0)? as u64));
        touched.stamp = stamp(1)?;
        touched.floor = unsigned(row.integer(2)?);
        touched.before = stamp(3)?;
    }
    Ok(touched)
}

fn trim(turn: &mut Turn<'_>, age: i64, rows_max: i64) -> Result<i64, DatabaseError> {
    match turn.kind() {
        DatabaseKind::Sqlite => turn.transaction(|turn| trim_sqlite(turn, age, rows_max)),
        DatabaseKind::Postgres => {
            let statement =
                Statement::new("SELECT removed FROM gg_trim(").bind(age).then(", ").bind(rows_max);
            single_of(turn.query(&statement.then(")"))?)
        }
        DatabaseKind::Mysql => {
            turn.batch(&format!("CALL gg_trim({age}, {rows_max}, @gg_removed)"))?;
            single(turn, "SELECT CAST(@gg_removed AS SIGNED)")
        }
    }
}

fn trim_sqlite(turn: &mut Turn<'_>, age: i64, rows_max: i64) -> Result<i64, DatabaseError> {
    // The last row always stays.
    let last = Statement::new(format!(
        "SELECT COALESCE(MAX(o.id), 0) FROM gg_ctl AS c, sqlite_sequence AS s, gg_outbox AS o \
         WHERE s.name = 'gg_outbox' AND o.id < s.seq AND o.id > c.floor AND o.id <= c.floor + {TRIM_ROWS} \
         AND (o.made < CAST(strftime('%s', 'now') AS INTEGER) - "
    ))
    .bind(age)
    .then(" OR o.id <= s.seq - ")
    .bind(rows_max)
    .then(")");
    let last = single_of(turn.query(&last)?)?;
    if last == 0 {
        return Ok(0);
    }
    let removed = turn.execute(&Statement::new("DELETE FROM gg_outbox WHERE id <= ").bind(last))?;
    turn.execute(&Statement::new("UPDATE gg_ctl SET floor = ").bind(last))?;
    Ok(i64::try_from(removed).unwrap_or(i64::MAX))
}

/// Whether the tables and routines are there, as this version makes them.
pub(super) fn is_installed(turn: &mut Turn<'_>) -> Result<bool, DatabaseError> {
    let there = match turn.kind() {
        DatabaseKind::Sqlite => {
            "SELECT COUNT(*) FROM main.sqlite_schema WHERE type = 'table' AND name IN ('gg_ctl', 'gg_outbox')"
        }
        DatabaseKind::Postgres => {
            "SELECT (to_regclass('gg_ctl') IS NOT NULL AND to_regclass('gg_outbox') IS NOT NULL \
             AND to_regclass('gg_log') IS NOT NULL AND to_regprocedure('gg_relay(bigint)') IS NOT NULL \
             AND to_regprocedure('gg_trim(bigint,bigint)') IS NOT NULL)::int::bigint * 2"
        }
        DatabaseKind::Mysql => {
            "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
             AND TABLE_NAME IN ('gg_ctl', 'gg_outbox', 'gg_log')) DIV 3 + (SELECT COUNT(*) FROM \
             information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() \
             AND ROUTINE_NAME IN ('gg_relay', 'gg_trim')) DIV 2"
        }
    };
    if single(turn, there)? != 2 {
        return Ok(false);
    }
    let version = turn.query(&Statement::new("SELECT version FROM gg_ctl"))?;
    Ok(version.first().map(|row| row.integer(0)).transpose()? == Some(VERSION))
}

/// Why changes can't be seen in time here, whatever the triggers are.
pub(super) fn why_not_here(turn: &mut Turn<'_>) -> Result<Option<String>, DatabaseError> {
    Ok(match turn.kind() {
        DatabaseKind::Postgres if single(turn, "SELECT pg_is_in_recovery()")? != 0 => {
            Some("the server is a replica, and changes come to it late; use the primary server's URL".to_owned())
        }
        DatabaseKind::Mysql
            if single(turn, "SELECT @@global.log_bin = 1 AND @@global.binlog_format = 'STATEMENT'")? != 0 =>
        {
            Some("the server's binlog_format is STATEMENT, by which nothing can be relayed; set it to ROW".to_owned())
        }
        DatabaseKind::Mysql if single(turn, "SELECT @@global.read_only")? != 0 => Some(
            "the server is read only, as replicas are, and changes come to it late; use the primary server's URL"
                .to_owned(),
        ),
        _ => None,
    })
}

fn why_not_logged(turn: &mut Turn<'_>, tracked: &Tracked) -> Result<Option<String>, DatabaseError> {
    let there = triggers_of(turn, &tracked.source.table)?;
    let triggers = Triggers::new(turn.kind(), tracked);
    for name in triggers.names() {
        match there.iter().find(|(known, _)| *known == name) {
            Some((_, true)) => {}
            Some((_, false)) => {
                return Ok(Some(format!(
                    "trigger {name} is not ENABLE ALWAYS; `ggcache changes install` mends it"
                )));
            }
            None if there.iter().any(|(known, _)| triggers.owns(known)) => {
                return Ok(Some(
                    "its triggers are another version's; run `ggcache changes install`".to_owned(),
                ));
            }
            None => return Ok(Some("it has no triggers; `ggcache changes install` makes them".to_owned())),
        }
    }
    Ok(None)
}

/// The names of a table's triggers, and whether each fires for everybody.
pub(super) fn triggers_of(turn: &mut Turn<'_>, table: &str) -> Result<Vec<(String, bool)>, DatabaseError> {
    let kind = turn.kind();
    let statement = match kind {
        DatabaseKind::Sqlite => Statement::new(
            "SELECT name, 1 FROM main.sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(",
        )
        .bind(table)
        .then(")"),
        DatabaseKind::Postgres => Statement::new(
            "SELECT t.tgname::text, t.tgenabled = 'A' FROM pg_trigger AS t \
             WHERE NOT t.tgisinternal AND t.tgrelid = to_regclass(",
        )
        .bind(kind.quoted(table))
        .then(")"),
        DatabaseKind::Mysql => Statement::new(
            "SELECT TRIGGER_NAME, 1 FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = ",
        )
        .bind(table),
    };
    let name = |row: Row| Ok((row.text(0)?.to_owned(), row.integer(1)? != 0));
    turn.query(&statement)?.into_iter().map(name).collect()
}

/// Writes rows for one source into the outbox.
#[derive(Clone, Debug)]
pub struct Appender {
    database: Database,
    source: Source,
}

impl Appender {
    /// Writes for `source` into `database`.
    pub const fn new(database: Database, source: Source) -> Self {
        Self { database, source }
    }
}

impl LogAppend for Appender {
    fn append<'a>(&'a self, selection: &'a Selection) -> BoxFuture<'a, Result<(), LoadError>> {
        let rows: Vec<(i64, Vec<u8>)> = match selection {
            Selection::Keys(keys) => keys.iter().map(|key| (KIND_KEY, key.as_bytes().to_vec())).collect(),
            Selection::Prefix(prefix) if !prefix.is_empty() => vec![(KIND_PREFIX, prefix.clone())],
            Selection::Prefix(_) => vec![(KIND_ALL, Vec::new())],
        };
        let source = self.source.clone();
        let write = move |turn: &mut Turn<'_>| append(turn, &source, &rows);
        Box::pin(async move {
            let timeout = self.database.statement_timeout();
            self.database.run_as(Access::Write, timeout, write).await.map_err(LoadError::from)
        })
    }
}

fn append(turn: &mut Turn<'_>, source: &Source, rows: &[(i64, Vec<u8>)]) -> Result<(), DatabaseError> {
    turn.transaction(|turn| {
        for rows in rows.chunks(INSERT_ROWS) {
            let mut statement = Statement::new("INSERT INTO gg_outbox (tbl, col, kind, k) VALUES ").once();
            for (at, (kind, bytes)) in rows.iter().enumerate() {
                statement = statement
                    .then(if at > 0 { ", (" } else { "(" })
                    .bind(source.table.as_str())
                    .then(", ")
                    .bind(source.key_column.as_str())
                    .then(", ")
                    .bind(*kind)
                    .then(", ")
                    .bind(SqlValue::from(bytes.as_slice()))
                    .then(")");
            }
            turn.execute(&statement)?;
        }
        Ok(())
    })
}

/// The one number that a statement brings.
pub(super) fn single(turn: &mut Turn<'_>, sql: &'static str) -> Result<i64, DatabaseError> {
    single_of(turn.query(&Statement::new(sql))?)
}

fn single_of(rows: Vec<Row>) -> Result<i64, DatabaseError> {
    Ok(rows.first().ok_or_else(nothing)?.integer(0)?)
}

/// A routine that answers nothing is not ours.
fn nothing() -> DatabaseError {
    DatabaseError::from(Row::default().integer(0).expect_err("there is nothing"))
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
