//! Real etcd servers for tests and measurements: one or three members on free ports of this machine.
//!
//! The program is found in `GGCACHE_TEST_ETCD` or in `PATH`. Members keep their data in a directory of their own, which
//! goes when the cluster is dropped, as the processes do; they don't wait for the disk.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// How long a member may take to answer after its start. Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often ports are chosen anew because another program was faster.
const ATTEMPTS: usize = 5;

/// The members of one etcd, and where they live.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    arguments: Vec<String>,
    directory: TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    scheme: &'static str,
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Etcd {
    /// Starts `count` members and waits until each of them answers.
    ///
    /// # Panics
    /// If the program is not there, or a member does not answer.
    pub async fn start(count: usize) -> Self {
        for _ in 0..ATTEMPTS {
            let mut etcd = Self::prepare(count, "http", &[]);
            etcd.spawn_all();
            if etcd.are_ready(None).await {
                return etcd;
            }
        }
        panic!("{ATTEMPTS} times a port was taken that had been free");
    }

    /// Starts one member that speaks TLS, with further `arguments`, and waits until it answers a client with `options`.
    pub async fn start_with_tls(arguments: &[&str], options: ConnectOptions) -> Self {
        for _ in 0..ATTEMPTS {
            let mut etcd = Self::prepare(1, "https", arguments);
            etcd.spawn_all();
            if etcd.are_ready(Some(options.clone())).await {
                return etcd;
            }
        }
        panic!("{ATTEMPTS} times a port was taken that had been free");
    }

    /// Chooses ports for `count` members, and starts none.
    pub fn down(count: usize) -> Self {
        Self::prepare(count, "http", &[])
    }

    fn prepare(count: usize, scheme: &'static str, arguments: &[&str]) -> Self {
        // All at once, or one port would be chosen twice.
        let listeners: Vec<_> = (0..2 * count)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports"))
            .collect();
        let ports: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect();
        let member = |index: usize| Member {
            name: format!("m{index}"),
            scheme,
            client_port: ports[2 * index],
            peer_port: ports[2 * index + 1],
            process: None,
        };
        Self {
            members: (0..count).map(member).collect(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: tempfile::tempdir().expect("a directory for temporary files"),
        }
    }

    /// Where clients reach the members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// The port for clients of a member.
    pub fn port(&self, index: usize) -> u16 {
        self.members[index].client_port
    }

    /// A client of all members, for the test itself.
    pub async fn client(&self) -> Client {
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
        Client::connect(self.endpoints(), Some(options)).await.expect("connecting is lazy")
    }

    /// Kills a member, as a crash does; its data stay.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().expect("the process is ours");
            process.wait().expect("the process is ours");
        }
    }

    /// Kills all members.
    pub fn kill_all(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }

    /// Starts the members that don't run, and waits until all answer.
    ///
    /// # Panics
    /// If one does not.
    pub async fn restart(&mut self) {
        self.spawn_all();
        assert!(self.are_ready(None).await, "a port was taken by another program meanwhile");
    }

    /// Kills all members and deletes their data.
    pub fn wipe(&mut self) {
        self.kill_all();
        for member in &self.members {
            fs::remove_dir_all(self.directory.path().join(&member.name)).expect("the data are ours");
        }
    }

    /// Stops a member, as a machine without processor time does; its connections stay open.
    pub fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// Lets a stopped member run.
    pub fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// The index of the leader.
    pub async fn leader(&self) -> usize {
        for index in 0..self.members.len() {
            let mut client = Client::connect([self.endpoints()[index].as_str()], None).await.expect("lazy");
            let status = client.status().await.expect("the member runs");
            let id = status.header().expect("a header").member_id();
            if status.leader() == id {
                return index;
            }
        }
        panic!("no member is the leader");
    }

    fn signal(&self, index: usize, signal: Signal) {
        let process = self.members[index].process.as_ref().expect("the member runs");
        kill_process(Pid::from_child(process), signal).expect("the process is ours");
    }

    fn spawn_all(&mut self) {
        let list: Vec<_> = self.members.iter().map(|m| format!("{}={}", m.name, m.peer_url())).collect();
        let list = list.join(",");
        for member in self.members.iter_mut().filter(|member| member.process.is_none()) {
            let log = self.directory.path().join(format!("{}.log", member.name));
            let log =
                File::options().append(true).create(true).open(log).expect("the directory can be written");
            let mut command = Command::new(program());
            command.args(["--name", &member.name, "--initial-cluster", &list]);
            command.arg("--data-dir").arg(self.directory.path().join(&member.name));
            command.args(["--listen-client-urls", &member.endpoint()]);
            command.args(["--advertise-client-urls", &member.endpoint()]);
            command.args(["--listen-peer-urls", &member.peer_url()]);
            command.args(["--initial-advertise-peer-urls", &member.peer_url()]);
            // Leaders are found quickly; a lease of 2 s is still granted as such.
            command.args(["--heartbeat-interval", "50", "--election-timeout", "500", "--unsafe-no-fsync"]);
            command.args(&self.arguments);
            let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            member.process = Some(process.unwrap_or_else(|error| panic!("{}: {error}", program().display())));
        }
    }

    /// Whether all members answer; false if one ended because a port was taken.
    async fn are_ready(&mut self, options: Option<ConnectOptions>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        for index in 0..self.members.len() {
            let endpoint = self.members[index].endpoint();
            let mut client =
                Client::connect([endpoint.as_str()], options.clone()).await.expect("connecting is lazy");
            while !matches!(timeout(Duration::from_secs(1), client.get("probe", None)).await, Ok(Ok(_))) {
                let process = self.members[index].process.as_mut().expect("it was started");
                if let Some(status) = process.try_wait().expect("the process is ours") {
                    let log = self.log(index);
                    assert!(log.contains("address already in use"), "etcd ended with {status}: {log}");
                    self.kill_all();
                    return false;
                }
                assert!(Instant::now() < deadline, "etcd does not answer at {endpoint}: {}", self.log(index));
                sleep(Duration::from_millis(20)).await;
            }
        }
        true
    }

    fn log(&self, index: usize) -> String {
        let log = self.directory.path().join(format!("{}.log", self.members[index].name));
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }
}

impl Member {
    fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// The program.
///
/// # Panics
/// If it is nowhere to be found: a test that did nothing would look as if all were well.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("GGCACHE_TEST_ETCD") {
        return PathBuf::from(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join("etcd")).find(|file| file.is_file());
    found.expect(
        "etcd is not in PATH; install it (Debian: apt-get install etcd-server), or name it in GGCACHE_TEST_ETCD",
    )
}
