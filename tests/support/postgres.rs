//! Real PostgreSQL servers for tests and measurements, on a free port and a socket of their own.
//!
//! The programs are found in the directory that `GGCACHE_TEST_POSTGRES` names, where Debian puts them, or in `PATH`. A
//! server runs as the user `postgres` where the tests run as root, since it refuses to be root; it does not wait for the
//! disk. Whoever connects from this machine may be anybody, without a password.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::keeper::{Keeper, find, free_port, is_root, run};

/// How often a port is chosen anew because another program was faster.
const ATTEMPTS: usize = 5;

/// A server, and where it lives.
#[derive(Debug)]
pub struct Postgres {
    keeper: Keeper,
    port: u16,
    options: Vec<String>,
    databases: AtomicU64,
}

impl Postgres {
    /// The server that all tests of this program share; each takes a [database](Self::database) of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Starts a server with further settings, each as `name=value`, and waits until it answers.
    ///
    /// # Panics
    /// If the programs are not there, or the server does not answer.
    pub fn start(options: &[&str]) -> Self {
        let keeper = Keeper::new();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { keeper, port: 0, options, databases: AtomicU64::new(0) };
        give_away(server.keeper.directory());
        let mut initdb = server.program("initdb");
        initdb.arg("-D").arg(server.data());
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]);
        run(&mut initdb, "");
        for _ in 0..ATTEMPTS {
            server.port = free_port();
            if server.try_start() {
                return server;
            }
        }
        panic!("{ATTEMPTS} times the server ended at its start: {}", server.keeper.log());
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill`](Self::kill), at the same port.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn restart(&mut self) {
        assert!(self.try_start(), "the server ended at its start: {}", self.keeper.log());
    }

    /// Stops the server; connections are cut.
    pub fn stop(&mut self) {
        self.keeper.stop("INT");
    }

    /// Kills the server's main process; the others see it and end.
    pub fn kill(&mut self) {
        self.keeper.kill();
    }

    /// The port, on 127.0.0.1 and as a part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with the server's data and `pg_hba.conf`.
    pub fn data(&self) -> PathBuf {
        self.keeper.directory().join("data")
    }

    /// The directory with the socket.
    pub fn socket_directory(&self) -> &Path {
        self.keeper.directory()
    }

    /// The main process.
    pub fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// Makes a database, and returns its name.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The URL of a database, for its owner.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The URL of a database, for a user.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs `sql` by the database's own client, which stops at the first error; returns rows as lines, columns parted
    /// by `|`.
    ///
    /// # Panics
    /// If it fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(find("psql", &directories()).expect("psql is where the server is"));
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]);
        run(psql.arg(self.url(database)), sql)
    }

    fn try_start(&mut self) -> bool {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        let directory = self.keeper.directory().display();
        let settings = [
            format!("port={}", self.port),
            format!("unix_socket_directories={directory}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "max_connections=200".to_owned(),
        ];
        for setting in settings.iter().chain(&self.options) {
            command.args(["-c", setting]);
        }
        let (port, is_ready) = (self.port.to_string(), find("pg_isready", &directories()));
        let is_ready = is_ready.expect("pg_isready is where the server is");
        self.keeper.start(&mut command, || {
            let mut probe = Command::new(&is_ready);
            probe.args(["--quiet", "--host", "127.0.0.1", "--port", &port]);
            probe.status().is_ok_and(|status| status.success())
        })
    }

    fn program(&self, name: &str) -> Command {
        let program = find(name, &directories()).unwrap_or_else(|| {
            panic!(
                "{name} is missing; install PostgreSQL (Debian: apt-get install postgresql), or name its directory \
                 in GGCACHE_TEST_POSTGRES"
            )
        });
        let mut command = Command::new(program);
        // It looks at the directory that it is started in.
        command.current_dir(self.keeper.directory()).env("LC_ALL", "C.UTF-8");
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Where the programs may be, the newest version first.
fn directories() -> Vec<PathBuf> {
    if let Some(directory) = std::env::var_os("GGCACHE_TEST_POSTGRES") {
        return vec![directory.into()];
    }
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut all: Vec<_> = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
    all.sort();
    all.reverse();
    all
}

/// The user and group of the server, if they are not the tests' own.
fn owner() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let id = |option| {
        let id = run(Command::new("id").args([option, "postgres"]), "");
        id.trim().parse().expect("id prints a number")
    };
    Some((id("-u"), id("-g")))
}

fn give_away(directory: &Path) {
    if let Some((user, group)) = owner() {
        chown(directory, Some(user), Some(group)).expect("root may");
    }
}
