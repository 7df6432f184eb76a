//! One node: a process of the program, and what it says of itself.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    client::{Response, exchange},
    site::Site,
    until,
};

/// The ports of one node's planes.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub peer: u16,
    pub admin: u16,
    pub api: u16,
}

impl Ports {
    /// Three ports that are free at the moment.
    pub fn free() -> Self {
        Self { peer: free_port(), admin: free_port(), api: free_port() }
    }
}

/// A port that is free at the moment, of those that the kernel never gives to an outgoing connection: one of those
/// could be taken by a test's own client before the node has it.
fn free_port() -> u16 {
    for _ in 0..10_000 {
        let port = fastrand::u16(10_000..32_000);
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("there is no free port");
}

/// A node that was started. Killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    /// Its name on the ring.
    pub name: String,
    pub ports: Ports,
    log: PathBuf,
    child: Child,
    ended: Option<ExitStatus>,
}

/// A line of the log of a node whose port was taken after all.
const PORT_TAKEN: &str = "is another program using the port?";

impl Node {
    /// Starts a node in `site` with single `settings` (`log.level=debug`), without waiting for anything.
    pub fn spawn(site: &Site, ports: Ports, settings: &[&str]) -> Self {
        let log = site.path(&format!("node-{}.log", ports.peer));
        // Appended to, so that a node that is started again tells its whole life.
        let file =
            File::options().append(true).create(true).open(&log).expect("the directory can be written");
        let mut command = site.command(&["serve", "--port", &ports.peer.to_string()]);
        command.args(["--api", &ports.api.to_string()]);
        command.args(["--set", &format!("admin.listen=127.0.0.1:{}", ports.admin)]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("the program was built");
        Self { name: format!("localhost:{}", ports.peer), ports, log, child, ended: None }
    }

    /// Waits until the node wants requests; false if a port was taken, and the node ended.
    ///
    /// # Panics
    /// If it ended for another reason.
    pub async fn is_ready(&mut self) -> bool {
        let mut ended = None;
        until("the node is ready", async || {
            ended = self.try_wait();
            ended.is_some() || self.answers_readyz().await
        })
        .await;
        match ended {
            None => true,
            Some(_) if self.log().contains(PORT_TAKEN) => false,
            Some(status) => panic!("the node ended with {status}: {}", self.log()),
        }
    }

    async fn answers_readyz(&self) -> bool {
        // Nobody listens yet, for a moment.
        if tokio::net::TcpStream::connect(self.admin()).await.is_err() {
            return false;
        }
        exchange(self.admin(), &get("/readyz")).await.is_some_and(|answer| answer.status == 200)
    }

    /// The address of the public plane.
    pub fn api(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.api).into()
    }

    /// The address of the operators' plane.
    pub fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.admin).into()
    }

    /// The address of the peer plane.
    pub fn peer(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.peer).into()
    }

    /// Asks the public plane.
    pub async fn get(&self, target: &str) -> Response {
        self.ask("GET", target, "").await
    }

    /// Asks the public plane by another method, or with header lines that each end in `\r\n`.
    pub async fn ask(&self, method: &str, target: &str, headers: &str) -> Response {
        let request = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        let answer = exchange(self.api(), request.as_bytes()).await;
        answer.unwrap_or_else(|| panic!("{} closed the connection after {method} {target}", self.name))
    }

    /// Asks the operators' plane.
    pub async fn ask_admin(&self, target: &str) -> Response {
        exchange(self.admin(), &get(target)).await.expect("an answer")
    }

    /// The sum of the metrics whose line begins with `prefix`: a name, or a name with its first labels.
    pub async fn metric(&self, prefix: &str) -> f64 {
        let metrics = self.ask_admin("/metrics").await;
        let lines = metrics.text().lines().filter(|line| line.starts_with(prefix));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// The queries that the node has sent for `group`. The labels' order is the exporter's own.
    pub async fn loads(&self, group: &str) -> u64 {
        self.metric(&format!("ggcache_loads_total{{group=\"{group}\"")).await as u64
    }

    /// The loads of `group` that the node has under way.
    pub async fn loading(&self, group: &str) -> u64 {
        let report = self.ask_admin(&format!("/api/v1/groups/{group}")).await.json();
        report["flights"]["owner"].as_u64().expect("a number of flights")
    }

    /// What the node has logged to standard error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is ours");
    }

    /// Ends the process without a warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.ended = Some(self.child.wait().expect("the process is ours"));
    }

    /// Waits until the process has ended, and tells how.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub async fn ended(&mut self) -> ExitStatus {
        until("the node has ended", async || !self.is_alive()).await;
        self.ended.expect("it has")
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the process is ours");
        }
        self.ended
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "a test's output is shown when it fails")]
    fn drop(&mut self) {
        if self.try_wait().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            const SHOWN: usize = 20_000;
            let log = self.log();
            let from = (0..=log.len().saturating_sub(SHOWN)).rev().find(|at| log.is_char_boundary(*at));
            eprintln!("--- the log of {} ---\n{}", self.name, &log[from.unwrap_or(0)..]);
        }
    }
}

fn get(target: &str) -> Vec<u8> {
    super::client::get(target).into_bytes()
}
