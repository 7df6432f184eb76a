//! A directory with a configuration file and a database, in which nodes are started and commands are run.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use tempfile::TempDir;

/// The configuration's name in the directory.
const CONFIG: &str = "site.toml";
/// The database's name in the directory; `url = "sqlite:school.db"` in the configuration.
const DATABASE: &str = "school.db";

/// Where nodes live. Deleted when it is dropped.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Site {
    /// A directory with a configuration of `toml`, and no database.
    pub fn new(toml: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().expect("a directory for temporary files") };
        site.configure(toml);
        site
    }

    /// A directory with a configuration of `toml` and a database made by `sql`.
    pub fn with(toml: &str, sql: &str) -> Self {
        let site = Self::new(toml);
        site.sql(sql);
        site
    }

    /// Replaces the configuration.
    pub fn configure(&self, toml: &str) {
        std::fs::write(self.path(CONFIG), toml).expect("the directory can be written");
    }

    /// The path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The database's path.
    pub fn database(&self) -> PathBuf {
        self.path(DATABASE)
    }

    /// A connection to the database, which is created if it is missing.
    pub fn connect(&self) -> SqliteConnection {
        let path = self.database();
        let path = path.to_str().expect("temporary directories have names of text");
        SqliteConnection::establish(path).expect("the database can be opened")
    }

    /// Runs `sql` on the database.
    pub fn sql(&self, sql: &str) {
        let mut connection = self.connect();
        connection.batch_execute("PRAGMA busy_timeout = 10000").expect("a pragma");
        connection.batch_execute(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// The program with `arguments`, in the directory and with its configuration, untouched by this process's own
    /// settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ggcache"));
        command.args(arguments).current_dir(self.directory.path()).env("GGCACHE_CONFIG", CONFIG);
        command.env_remove("GGCACHE_TOKEN");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("GGCACHE__")) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program with `arguments` to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().expect("the program was built");
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("it prints text"),
            stderr: String::from_utf8(output.stderr).expect("it prints text"),
        }
    }
}
