//! The example as a process.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{nats::Nats, support::until};

/// The consumer that `examples/nats.rs` is. Killed when it is dropped.
pub struct Consumer {
    process: Child,
    log: PathBuf,
}

impl Consumer {
    /// Starts it for the stream `CHANGES`, with nodes at `nodes` and further `arguments`; what it logs goes into `log`.
    pub fn spawn(
        nats: &Nats,
        nodes: &[String],
        arguments: &[&str],
        token: Option<&str>,
        log: PathBuf,
    ) -> Self {
        let file = File::options().append(true).create(true).open(&log).expect("the file can be written");
        let mut command = Command::new(program());
        command.args(["--nats", nats.url(), "--stream", "CHANGES", "--ack-wait", "1s"]);
        for node in nodes {
            command.args(["--node", node]);
        }
        command.args(arguments).env_remove("GGCACHE_TOKEN").env("NO_COLOR", "1");
        command.envs(token.map(|token| ("GGCACHE_TOKEN", token)));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Self { process: process.expect("the example was built"), log }
    }

    /// Ends it without a warning.
    pub fn kill(mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("the process is ours");
        let mut status = None;
        until("the consumer has ended", async || {
            status = self.process.try_wait().expect("the process is ours");
            status.is_some()
        })
        .await;
        status.expect("it has")
    }

    /// What it has logged, and those before it that wrote into the same file.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has logged `text`.
    pub async fn says(&self, text: &str) {
        until(&format!("the consumer says {text:?}"), async || self.log().contains(text)).await;
    }
}

impl Drop for Consumer {
    #[expect(clippy::print_stderr, reason = "a test's output is shown when it fails")]
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the consumer's log ---\n{}", self.log());
        }
    }
}

/// The example, beside the directory that this test is in.
///
/// # Panics
/// If it was not built.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test is in target/PROFILE/deps");
    let program = profile.join("examples/nats");
    assert!(program.is_file(), "there is no {}; build it: cargo build --example nats", program.display());
    program
}
