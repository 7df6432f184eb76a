//! A real NATS server with JetStream for tests: one process on a free port of this machine.
//!
//! The program is found in `GGCACHE_TEST_NATS`, in `PATH`, or where Debian puts it. The server keeps its streams in a
//! directory of its own, which goes when it is dropped, as the process does.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{self, Consumer, pull},
        stream::{self, Stream},
    },
};
use tempfile::TempDir;

use crate::support::{node::Ports, until};

/// How often a port is chosen anew because another program was faster.
const ATTEMPTS: usize = 10;

/// A server that runs. Killed when it is dropped.
#[derive(Debug)]
pub struct Nats {
    process: Child,
    port: u16,
    url: String,
    client: Client,
    directory: TempDir,
}

impl Nats {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    /// If the program is not there, or does not answer.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        for _ in 0..ATTEMPTS {
            // Not one of its own choice: while it is away, a client's connection could be given that.
            let port = Ports::free().peer;
            if let Some(process) = spawn(directory.path(), port).await {
                let url = format!("nats://127.0.0.1:{port}");
                let client = async_nats::connect(&url).await.expect("NATS answers");
                return Self { process, port, url, client, directory };
            }
        }
        panic!("{ATTEMPTS} times a port was taken that had been free");
    }

    /// Kills it, as a crash does, and starts it again with what it has kept.
    pub async fn crash(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
        self.process = spawn(self.directory.path(), self.port).await.expect("its port is its own");
    }

    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a stream of all subjects below `name` in lower case.
    pub async fn stream(&self, name: &str) -> Stream {
        let subjects = vec![format!("{}.>", name.to_lowercase())];
        let config = stream::Config { name: name.to_owned(), subjects, ..stream::Config::default() };
        jetstream::new(self.client.clone()).create_stream(config).await.expect("a stream")
    }

    /// Publishes a message, and waits until the stream has it.
    pub async fn publish(&self, subject: &str, payload: impl Into<bytes::Bytes>) {
        let context = jetstream::new(self.client.clone());
        let sent = context.publish(subject.to_owned(), payload.into()).await.expect("it is sent");
        sent.await.expect("the stream has it");
    }
}

/// Starts a server, and waits until it listens; `None` if its port was taken.
async fn spawn(directory: &Path, port: u16) -> Option<Child> {
    let log = directory.join("log");
    let mut command = Command::new(program());
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream"]);
    command.arg("--store_dir").arg(directory.join("js")).arg("--log").arg(&log);
    command.arg("--ports_file_dir").arg(directory);
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut process = process.unwrap_or_else(|error| panic!("{}: {error}", program().display()));
    // Written when it listens, and named after the process.
    let ports = directory.join(format!("nats-server_{}.ports", process.id()));
    let mut ended = None;
    until("NATS listens", async || {
        ended = process.try_wait().expect("the process is ours");
        ended.is_some() || ports.is_file()
    })
    .await;
    let Some(status) = ended else { return Some(process) };
    let log = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    assert!(log.contains("address already in use"), "NATS ended with {status}: {log}");
    None
}

/// How far a durable consumer has come; `None` if nobody has made it yet.
pub async fn progress(stream: &Stream, durable: &str) -> Option<consumer::Info> {
    let mut consumer: Consumer<pull::Config> = stream.get_consumer(durable).await.ok()?;
    consumer.info().await.ok().cloned()
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program.
///
/// # Panics
/// If it is nowhere to be found: a test that did nothing would look as if all were well.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("GGCACHE_TEST_NATS") {
        return PathBuf::from(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = directories.map(|directory| directory.join("nats-server")).find(|file| file.is_file());
    found.expect(
        "nats-server is not in PATH; install it (Debian: apt-get install nats-server), or name it in GGCACHE_TEST_NATS",
    )
}
