//! Real MariaDB servers for tests and measurements, on a free port and a socket of their own.
//!
//! The programs are found in `PATH`, in `/usr/sbin`, or in the directory that `GGCACHE_TEST_MARIADB` names. A server does
//! not wait for the disk. Its user `ggcache` with the password `secret` may do all from this machine.

use std::{
    path::PathBuf,
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
pub struct MariaDb {
    keeper: Keeper,
    port: u16,
    options: Vec<String>,
    databases: AtomicU64,
}

impl MariaDb {
    /// The server that all tests of this program share; each takes a [database](Self::database) of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<MariaDb> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Starts a server with further options, each as `--name=value`, and waits until it answers.
    ///
    /// # Panics
    /// If the programs are not there, or the server does not answer.
    pub fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { keeper: Keeper::new(), port: 0, options, databases: AtomicU64::new(0) };
        let mut install = program("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", server.data().display())).args(user());
        // A server that starts removes what others have left in the directory, and what they use.
        install.env("TMPDIR", server.keeper.directory());
        run(&mut install, "");
        for _ in 0..ATTEMPTS {
            server.port = free_port();
            if server.try_start() {
                let user = "CREATE USER ggcache@'127.0.0.1' IDENTIFIED BY 'secret'; \
                            GRANT ALL ON *.* TO ggcache@'127.0.0.1' WITH GRANT OPTION;";
                server.mariadb("mysql", user);
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
        self.keeper.stop("TERM");
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        self.keeper.kill();
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with the server's data.
    pub fn data(&self) -> PathBuf {
        self.keeper.directory().join("data")
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// Makes a database, and returns its name.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.mariadb("mysql", &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
        name
    }

    /// The URL of a database, for a user who may do all.
    pub fn url(&self, database: &str) -> String {
        self.url_as("ggcache:secret", database)
    }

    /// The URL of a database, for a user, or a user and a password with a colon between them.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs `sql` as root by the database's own client, which stops at the first error; returns rows as lines, columns
    /// parted by tabs.
    ///
    /// # Panics
    /// If it fails.
    pub fn mariadb(&self, database: &str, sql: &str) -> String {
        let mut client = program("mariadb");
        client.args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--user=root",
            "--default-character-set=utf8mb4",
        ]);
        run(client.arg(format!("--socket={}", self.socket().display())).arg(database), sql)
    }

    fn socket(&self) -> PathBuf {
        self.keeper.directory().join("socket")
    }

    fn try_start(&mut self) -> bool {
        let mut command = program("mariadbd");
        // Nothing of the machine's own configuration.
        command.arg("--no-defaults").args(user()).env("TMPDIR", self.keeper.directory());
        command.arg(format!("--datadir={}", self.data().display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--port={}", self.port));
        command.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=64M",
            "--max-connections=200",
        ]);
        command.args(&self.options);
        let socket = self.socket();
        self.keeper.start(&mut command, || {
            let mut probe = program("mariadb-admin");
            probe.args(["--no-defaults", "--user=root", "--silent", "ping"]);
            probe.arg(format!("--socket={}", socket.display()));
            probe.output().is_ok_and(|output| output.status.success())
        })
    }
}

fn program(name: &str) -> Command {
    let directories: Vec<PathBuf> = match std::env::var_os("GGCACHE_TEST_MARIADB") {
        Some(directory) => vec![directory.into()],
        None => vec!["/usr/sbin".into()],
    };
    let program = find(name, &directories).unwrap_or_else(|| {
        panic!(
            "{name} is missing; install MariaDB (Debian: apt-get install mariadb-server), or name its directory in \
             GGCACHE_TEST_MARIADB"
        )
    });
    Command::new(program)
}

/// It refuses to be root unless it is told to.
fn user() -> Option<&'static str> {
    is_root().then_some("--user=root")
}
