//! `ggcache changes install`, `status` and `remove`: what is there, what is missing, and the statements for it.

use std::time::Duration;

use thiserror::Error;

use super::{
    Script, Source, Tracked,
    sql_store::{is_installed, single, triggers_of, why_not_here},
    triggers::{self, Triggers},
};
use crate::database::{Access, Database, DatabaseError, DatabaseKind, Row, Statement, Turn};

/// How long a statement may take: one that makes a trigger waits for those who write the table.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why changes of a table can't get into a log.
#[derive(Debug, Error)]
pub enum InstallError {
    #[error("{0}")]
    Server(String),
    #[error("table {table:?}: {reason}")]
    Table { table: String, reason: String },
    #[error(
        "table {0:?}: it is no table but a view or the like, and can't have triggers; its groups go by ttl and by \
         keys:invalidate"
    )]
    View(String),
    #[error("the database failed")]
    Database(#[from] DatabaseError),
}

/// What is to be said of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the tables are there, as this version makes them.
    pub installed: bool,
    /// The log's id, its last row, the last removed one, and the rows that wait in the outbox; if it is there.
    pub log: Option<[i64; 4]>,
    /// Why changes can't be seen in time at this server, whatever the triggers are.
    pub not_here: Option<String>,
    /// Each source that can have triggers, and those that are missing.
    pub sources: Vec<(Source, Vec<String>)>,
    /// What is to be said of views, which can have none.
    pub views: Vec<String>,
}

/// The log of one database, as commands see it. Blocks.
#[derive(Debug)]
pub struct Installation<'a> {
    database: &'a Database,
    tracked: &'a [Tracked],
}

impl<'a> Installation<'a> {
    /// The log of `tracked` in `database`.
    pub const fn new(database: &'a Database, tracked: &'a [Tracked]) -> Self {
        Self { database, tracked }
    }

    /// What is there.
    ///
    /// # Errors
    /// What the database says.
    pub fn status(&self) -> Result<Status, InstallError> {
        self.run(|turn| {
            let installed = is_installed(turn)?;
            let (mut sources, mut views) = (Vec::new(), Vec::new());
            for tracked in self.tracked {
                if let Err(error @ InstallError::View(_)) = table_name(turn, &tracked.source.table, false) {
                    views.push(error.to_string());
                    continue;
                }
                let there = triggers_of(turn, &tracked.source.table)?;
                sources.push((tracked.source.clone(), missing(turn.kind(), tracked, &there)));
            }
            let log = if installed { log(turn)? } else { None };
            Ok(Status { installed, log, not_here: why_not_here(turn)?, sources, views })
        })
    }

    /// The statements that make what is missing. With `may_run`, also sees whether this user may run them.
    ///
    /// # Errors
    /// A server or table where it can't work, with what would be right.
    pub fn installation(&self, may_run: bool) -> Result<Script, InstallError> {
        self.run(|turn| {
            let kind = turn.kind();
            if let Some(why) = why_not_here(turn)?.or(why_not_server(turn, may_run)?) {
                return Err(InstallError::Server(why));
            }
            let (schema, user) = where_and_who(turn)?;
            let mut script = Script::new(kind);
            let is_new = !is_installed(turn)?;
            if is_new {
                let names = [("schema", schema.as_str()), ("user", user.as_str())];
                for template in templates(kind) {
                    script.fill(template, &names);
                }
            }
            let mut tables = Vec::new();
            for tracked in self.tracked {
                tables.push(match table_name(turn, &tracked.source.table, may_run) {
                    // The others need not wait for it, if there are any.
                    Err(InstallError::View(_)) if self.tracked.len() > 1 => None,
                    table => Some(table?),
                });
            }
            for (tracked, table) in self.tracked.iter().zip(tables) {
                let Some(table) = table else { continue };
                let there = triggers_of(turn, &tracked.source.table)?;
                let triggers = Triggers::new(kind, tracked);
                if !missing(kind, tracked, &there).is_empty() {
                    triggers.make(&mut script, &schema, &table);
                    if !is_new {
                        triggers.tell_all(&mut script, &schema);
                    }
                }
                // Only now, so that no change is missed in between.
                let names = triggers.names();
                let is_old = |name: &&String| triggers.owns(name) && !names.contains(name);
                remove(&mut script, kind, &schema, &table, there.iter().map(|(name, _)| name).filter(is_old));
            }
            Ok(script)
        })
    }

    /// The statements that remove the triggers of the tables; with `all` also the outbox and the log, and triggers of
    /// tables that are configured no more.
    ///
    /// # Errors
    /// What the database says.
    pub fn removal(&self, all: bool) -> Result<Script, InstallError> {
        self.run(|turn| {
            let kind = turn.kind();
            let (schema, _) = where_and_who(turn)?;
            let mut script = Script::new(kind);
            for (table, trigger) in ours(turn)? {
                let is_configured =
                    || self.tracked.iter().any(|tracked| Triggers::new(kind, tracked).owns(&trigger));
                if all || is_configured() {
                    remove(&mut script, kind, &schema, &table, [&trigger]);
                }
            }
            if all {
                let drops: &[&str] = match kind {
                    DatabaseKind::Sqlite => &["TABLE IF EXISTS gg_outbox", "TABLE IF EXISTS gg_ctl"],
                    DatabaseKind::Postgres => &[
                        "FUNCTION IF EXISTS {schema}.gg_relay(bigint)",
                        "FUNCTION IF EXISTS {schema}.gg_trim(bigint, bigint)",
                        "TABLE IF EXISTS {schema}.gg_outbox, {schema}.gg_log, {schema}.gg_ctl",
                    ],
                    DatabaseKind::Mysql => &[
                        "PROCEDURE IF EXISTS gg_relay",
                        "PROCEDURE IF EXISTS gg_trim",
                        "TABLE IF EXISTS gg_outbox, gg_log, gg_ctl",
                    ],
                };
                for drop in drops {
                    script.push(format!("DROP {}", drop.replace("{schema}", &schema)));
                }
            }
            Ok(script)
        })
    }

    /// Runs a script, in one transaction where the database can. On MySQL and MariaDB each statement is final; the same
    /// command goes on where this one stopped.
    ///
    /// # Errors
    /// What the database says.
    pub fn execute(&self, script: &Script) -> Result<(), InstallError> {
        let all =
            |turn: &mut Turn<'_>| script.statements().iter().try_for_each(|statement| turn.batch(statement));
        let work = |turn: &mut Turn<'_>| match turn.kind() {
            DatabaseKind::Mysql => all(turn),
            DatabaseKind::Sqlite | DatabaseKind::Postgres => turn.transaction(all),
        };
        self.database.run_here(Access::Write, TIMEOUT, work).map_err(InstallError::Database)
    }

    /// What gets past the triggers of the tables, for people to know.
    ///
    /// # Errors
    /// What the database says.
    pub fn unseen(&self) -> Result<Vec<String>, InstallError> {
        self.run(|turn| {
            let mut all = Vec::new();
            for Tracked { source, .. } in self.tracked {
                match table_name(turn, &source.table, false) {
                    Err(error @ InstallError::View(_)) => all.push(error.to_string()),
                    _ => unseen(turn, &source.table, &mut all)?,
                }
            }
            Ok(all)
        })
    }

    fn run<T>(&self, work: impl FnOnce(&mut Turn<'_>) -> Result<T, InstallError>) -> Result<T, InstallError> {
        self.database.run_here(Access::Read, TIMEOUT, work)
    }
}

const fn templates(kind: DatabaseKind) -> &'static [&'static str] {
    match kind {
        DatabaseKind::Sqlite => &[include_str!("sql/sqlite_tables.sql")],
        DatabaseKind::Postgres => {
            &[include_str!("sql/postgres_tables.sql"), include_str!("sql/postgres_relay.sql")]
        }
        DatabaseKind::Mysql => &[include_str!("sql/mysql_tables.sql"), include_str!("sql/mysql_relay.sql")],
    }
}

fn missing(kind: DatabaseKind, tracked: &Tracked, there: &[(String, bool)]) -> Vec<String> {
    let names = Triggers::new(kind, tracked).names().into_iter();
    names.filter(|name| !there.iter().any(|(known, fires)| known == name && *fires)).collect()
}

fn remove<'a>(
    script: &mut Script,
    kind: DatabaseKind,
    schema: &str,
    table: &str,
    names: impl IntoIterator<Item = &'a String>,
) {
    let mut functions = std::collections::BTreeSet::new();
    for name in names {
        triggers::unmake(kind, script, table, name);
        functions.insert(triggers::function_of(name));
    }
    if kind == DatabaseKind::Postgres {
        for function in functions {
            // The last of its triggers takes it along.
            script.push(format!(
                "DO $gg$ BEGIN DROP FUNCTION IF EXISTS {schema}.{function}(); \
                 EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $gg$"
            ));
        }
    }
}

fn log(turn: &mut Turn<'_>) -> Result<Option<[i64; 4]>, DatabaseError> {
    let sql = match turn.kind() {
        DatabaseKind::Sqlite => {
            "SELECT c.log_id, COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'gg_outbox'), 0), c.floor, 0 \
             FROM gg_ctl AS c"
        }
        DatabaseKind::Postgres | DatabaseKind::Mysql => {
            "SELECT c.log_id, c.head, c.floor, (SELECT COUNT(*) FROM gg_outbox) FROM gg_ctl AS c"
        }
    };
    let rows = turn.query(&Statement::new(sql))?;
    let numbers = |row: &Row| Ok([row.integer(0)?, row.integer(1)?, row.integer(2)?, row.integer(3)?]);
    rows.first().map(numbers).transpose()
}

/// The schema in which PostgreSQL has the tables, and the user that nodes are; both quoted.
fn where_and_who(turn: &mut Turn<'_>) -> Result<(String, String), InstallError> {
    if turn.kind() != DatabaseKind::Postgres {
        return Ok((String::new(), String::new()));
    }
    let sql = "SELECT quote_ident((SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = \
               c.relnamespace WHERE c.oid = to_regclass('gg_ctl'))), quote_ident(current_schema()), \
               quote_ident(current_user)";
    let rows = turn.query(&Statement::new(sql))?;
    let row =
        rows.first().ok_or_else(|| InstallError::Server("the server says nothing of itself".to_owned()))?;
    let schema = if row.is_null(0) { 1 } else { 0 };
    if row.is_null(schema) {
        let why =
            "no schema of the search path exists; set one, as options=-csearch_path%3Dpublic in the URL";
        return Err(InstallError::Server(why.to_owned()));
    }
    let texts = |at| row.text(at).map(str::to_owned).map_err(DatabaseError::from);
    Ok((texts(schema)?, texts(2)?))
}

fn why_not_server(turn: &mut Turn<'_>, may_run: bool) -> Result<Option<String>, DatabaseError> {
    Ok(match turn.kind() {
        DatabaseKind::Postgres => {
            let version = single(turn, "SELECT current_setting('server_version_num')::bigint")?;
            if version < 140_000 {
                return Ok(Some("the log of changes needs PostgreSQL 14 or newer".to_owned()));
            }
            let encoded = "SELECT pg_catalog.current_setting('server_encoding') <> 'SQL_ASCII'";
            (single(turn, encoded)? == 0).then(|| {
                "the database's encoding is SQL_ASCII, in which a text need not be one; the triggers would refuse such rows"
                    .to_owned()
            })
        }
        DatabaseKind::Sqlite => {
            let rows = turn.query(&Statement::new("PRAGMA encoding"))?;
            let encoding = rows.first().map(|row| row.text(0)).transpose()?.unwrap_or_default();
            (encoding != "UTF-8").then(|| format!("the database's text is {encoding}, and must be UTF-8"))
        }
        DatabaseKind::Mysql => {
            let is_free = "SELECT @@global.log_bin = 0 OR @@global.log_bin_trust_function_creators = 1";
            if may_run && single(turn, is_free)? == 0 && !is_super(turn)? {
                return Ok(Some(
                    "with its binary log on, the server lets only SUPER make triggers; print the statements with \
                     --dry-run for a DBA, or set log_bin_trust_function_creators = 1"
                        .to_owned(),
                ));
            }
            None
        }
    })
}

fn is_super(turn: &mut Turn<'_>) -> Result<bool, DatabaseError> {
    let sql = "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES \
               WHERE PRIVILEGE_TYPE IN ('SUPER', 'BINLOG ADMIN') \
               AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')";
    Ok(single(turn, sql)? > 0)
}

/// The table as SQL, if it is one that can have triggers.
fn table_name(turn: &mut Turn<'_>, table: &str, may_run: bool) -> Result<String, InstallError> {
    let wrong = |reason: &str| InstallError::Table { table: table.to_owned(), reason: reason.to_owned() };
    let kind = turn.kind();
    let quoted = kind.quoted(table);
    match kind {
        DatabaseKind::Sqlite => {
            let statement = Statement::new(
                "SELECT type FROM main.sqlite_schema WHERE type IN ('table', 'view') AND lower(name) = lower(",
            );
            let rows = turn.query(&statement.bind(table).then(")"))?;
            let found = rows.first().map(|row| row.text(0)).transpose().map_err(DatabaseError::from)?;
            match found {
                Some("table") => Ok(format!("main.{quoted}")).map(|_| quoted),
                Some(_) => Err(InstallError::View(table.to_owned())),
                None => Err(wrong("it is not there")),
            }
        }
        DatabaseKind::Postgres => {
            let statement = Statement::new(
                "SELECT c.relkind::text, c.oid::regclass::text, pg_has_role(c.relowner, 'USAGE'), \
                 pg_get_userbyid(c.relowner)::text, c.relpersistence = 't' FROM pg_class AS c WHERE c.oid = to_regclass(",
            );
            let rows = turn.query(&statement.bind(quoted.as_str()).then(")"))?;
            let row = rows.first().ok_or_else(|| wrong("it is not there"))?;
            let text = |at| row.text(at).map_err(DatabaseError::from);
            if !matches!(text(0)?, "r" | "p") {
                return Err(InstallError::View(table.to_owned()));
            }
            if may_run && row.integer(2).map_err(DatabaseError::from)? == 0 {
                let owner = text(3)?;
                return Err(wrong(&format!(
                    "only its owner {owner:?} may make triggers; print the statements with --dry-run, and run them as \
                     {owner:?}"
                )));
            }
            let schema = Statement::new(
                "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class AS c \
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(",
            );
            let rows = turn.query(&schema.bind(quoted).then(")"))?;
            let row = rows.first().ok_or_else(|| wrong("it is not there"))?;
            Ok(row.text(0).map_err(DatabaseError::from)?.to_owned())
        }
        DatabaseKind::Mysql => {
            let statement = Statement::new(
                "SELECT TABLE_TYPE, ENGINE FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ",
            );
            let rows = turn.query(&statement.bind(table))?;
            let row = rows.first().ok_or_else(|| wrong("it is not there"))?;
            if row.text(0).map_err(DatabaseError::from)? != "BASE TABLE" {
                return Err(InstallError::View(table.to_owned()));
            }
            let engine = row.text(1).map_err(DatabaseError::from)?;
            if !engine.eq_ignore_ascii_case("InnoDB") {
                return Err(wrong(&format!(
                    "its engine is {engine}, and must be InnoDB, which has transactions"
                )));
            }
            Ok(quoted)
        }
    }
}

/// Every trigger of ours that there is, with its table as SQL.
fn ours(turn: &mut Turn<'_>) -> Result<Vec<(String, String)>, DatabaseError> {
    let kind = turn.kind();
    let sql = match kind {
        DatabaseKind::Sqlite => {
            "SELECT tbl_name, name FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY 2"
        }
        DatabaseKind::Postgres => {
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), t.tgname::text FROM pg_trigger AS t \
             JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_class AS g ON g.oid = to_regclass('gg_ctl') \
             WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND p.pronamespace = g.relnamespace ORDER BY 2"
        }
        DatabaseKind::Mysql => {
            "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = DATABASE() ORDER BY 2"
        }
    };
    let mut ours = Vec::new();
    for row in turn.query(&Statement::new(sql))? {
        let (table, name) = (row.text(0)?, row.text(1)?);
        if triggers::is_ours(name) {
            let table = if kind == DatabaseKind::Postgres { table.to_owned() } else { kind.quoted(table) };
            ours.push((table, name.to_owned()));
        }
    }
    Ok(ours)
}

fn unseen(turn: &mut Turn<'_>, table: &str, all: &mut Vec<String>) -> Result<(), DatabaseError> {
    match turn.kind() {
        DatabaseKind::Postgres => {
            let statement = Statement::new(
                "SELECT (c.relkind = 'p')::int, (EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid))::int \
                 FROM pg_class AS c WHERE c.oid = to_regclass(",
            );
            let quoted = turn.kind().quoted(table);
            for row in turn.query(&statement.bind(quoted).then(")"))? {
                if row.integer(0)? != 0 {
                    all.push(format!(
                        "table {table:?}: TRUNCATE, ATTACH, DETACH and DROP of a single partition are not seen; DELETE is, \
                         and TRUNCATE of the table"
                    ));
                } else if row.integer(1)? != 0 {
                    all.push(format!("table {table:?}: rows of the tables that inherit from it are not seen"));
                }
            }
        }
        DatabaseKind::Sqlite => all.push(format!(
            "table {table:?}: a row that REPLACE removes is not seen, unless the writer's connection has PRAGMA \
             recursive_triggers on"
        )),
        DatabaseKind::Mysql => {
            all.push(format!("table {table:?}: TRUNCATE is not seen; DELETE is"));
            let statement = Statement::new(
                "SELECT CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
                 WHERE CONSTRAINT_SCHEMA = DATABASE() AND (DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') \
                 OR UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT')) AND TABLE_NAME = ",
            );
            for row in turn.query(&statement.bind(table))? {
                let name = row.text(0)?;
                all.push(format!(
                    "table {table:?}: what foreign key {name:?} changes by itself (ON DELETE, ON UPDATE) is not seen"
                ));
            }
        }
    }
    Ok(())
}
