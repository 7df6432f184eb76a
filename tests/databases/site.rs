//! A database of each kind with a table, and what is asked of its log.

use std::{process::Command, sync::Arc, time::Duration};

use ggcache::{
    changes::{ChangeStore, Installation, LogRow, Relayed, Script, Source, SqlStore, Tracked},
    database::{ChangesConfig, Database, DatabaseConfig, DatabaseKind, DatabaseUrl, KeyType},
    group::Change,
};
use tempfile::TempDir;

#[cfg(feature = "mysql")]
use crate::mariadb::MariaDb;
use crate::{keeper::run, postgres::Postgres};

/// A database of its own.
pub struct Site {
    pub kind: DatabaseKind,
    pub url: String,
    pub name: String,
    directory: TempDir,
}

/// How the table is made, for each kind.
pub const TABLE: &str = "CREATE TABLE t (id integer PRIMARY KEY, k varchar(2000) UNIQUE, v integer)";

impl Site {
    /// An empty database.
    pub fn new(kind: DatabaseKind) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let (name, url) = match kind {
            DatabaseKind::Sqlite => {
                let file = directory.path().join("test.db").display().to_string();
                run(Command::new("sqlite3").arg(&file), "PRAGMA journal_mode = WAL;");
                (file.clone(), format!("sqlite:{file}"))
            }
            DatabaseKind::Postgres => {
                let name = Postgres::shared().database();
                (name.clone(), Postgres::shared().url(&name))
            }
            #[cfg(feature = "mysql")]
            DatabaseKind::Mysql => {
                let name = MariaDb::shared().database();
                (name.clone(), MariaDb::shared().url(&name))
            }
            #[cfg(not(feature = "mysql"))]
            DatabaseKind::Mysql => unreachable!("it is not built in"),
        };
        Self { kind, url, name, directory }
    }

    /// One with the table `t`, whose key is `k`.
    pub fn with_table(kind: DatabaseKind) -> Self {
        let site = Self::new(kind);
        site.sql(&match kind {
            // As long a text can be a key only in part.
            DatabaseKind::Mysql => TABLE.replace("varchar(2000)", "varchar(600)"),
            _ => TABLE.to_owned(),
        });
        site
    }

    /// Runs statements by the database's own client, and returns what it prints, without what parts columns.
    pub fn sql(&self, sql: &str) -> String {
        let sql = format!("{sql};\n");
        let text = match self.kind {
            DatabaseKind::Sqlite => {
                let mut client = Command::new("sqlite3");
                run(client.args(["-bail", "-cmd", ".timeout 10000"]).arg(&self.name), &sql)
            }
            DatabaseKind::Postgres => Postgres::shared().psql(&self.name, &sql),
            #[cfg(feature = "mysql")]
            DatabaseKind::Mysql => MariaDb::shared().mariadb(&self.name, &sql),
            #[cfg(not(feature = "mysql"))]
            DatabaseKind::Mysql => unreachable!("it is not built in"),
        };
        text.replace('\t', "|")
    }

    /// A pool of connections.
    pub fn open(&self, connections: u32) -> Database {
        let url = DatabaseUrl::new(self.url.clone());
        let config = DatabaseConfig {
            max_connections: connections,
            statement_timeout: Duration::from_secs(10),
            ..DatabaseConfig::new(url)
        };
        Database::open(&config).expect("the database opens")
    }

    /// The log, which keeps nothing that it need not.
    pub fn store(&self) -> Arc<SqlStore> {
        let config = ChangesConfig { retention: Duration::ZERO, rows_max: 1, ..ChangesConfig::default() };
        Arc::new(SqlStore::new(self.open(2), config))
    }

    /// What makes the log of table `t`.
    pub fn installation(&self) -> Script {
        let database = self.open(1);
        Installation::new(&database, &tracked()).installation(true).expect("it can be made")
    }

    /// Makes the log of table `t`.
    pub fn install(&self) {
        let (database, tracked) = (self.open(1), tracked());
        let installation = Installation::new(&database, &tracked);
        installation.execute(&installation.installation(true).expect("it can be made")).expect("it is made");
    }

    /// The directory of a SQLite file.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// The table `t` with its key column `k`.
pub fn tracked() -> Vec<Tracked> {
    vec![Tracked { source: Source { table: "t".into(), key_column: "k".into() }, key_type: KeyType::Text }]
}

/// Relays all that waits, and reads the log after `after`.
pub async fn relayed(store: &SqlStore, after: u64) -> Vec<LogRow> {
    if let Some(waiting) = store.look().await.expect("a look").waiting {
        while !matches!(store.relay(waiting.newest).await.expect("a relay"), Relayed::All { .. }) {}
    }
    let head = store.look().await.expect("a look").head;
    let mut rows: Vec<LogRow> = Vec::new();
    loop {
        let last = rows.last().map_or(after, |row| row.seq);
        if last >= head {
            return rows;
        }
        rows.extend(store.read(last).await.expect("a page").rows);
    }
}

/// Rows as texts: the key, or the prefix with an asterisk.
pub fn texts(rows: &[LogRow]) -> Vec<String> {
    let text = |row: &LogRow| match &row.change {
        Some(Change::Key(key)) => String::from_utf8_lossy(key.as_bytes()).into_owned(),
        Some(Change::Prefix(prefix)) => format!("{}*", String::from_utf8_lossy(prefix)),
        None => "none".to_owned(),
    };
    rows.iter().map(text).collect()
}
