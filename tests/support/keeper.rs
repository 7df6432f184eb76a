//! A directory of a test server's that goes with this process, however that ends, and the server with it.
//!
//! A server that tests share lives in a static, which is never dropped. So a shell waits for the end of a pipe that only
//! this process holds open; then it ends the server whose process id stands in the directory, and removes the directory.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take to start, or to stop. Far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// SIGQUIT is what PostgreSQL takes for an immediate stop; whoever is still there after a while is killed.
const SCRIPT: &str = r#"
cat >/dev/null
pid=$(cat "$1/server.pid" 2>/dev/null) && {
    kill -CONT "$pid" 2>/dev/null; kill -QUIT "$pid" 2>/dev/null
    n=0
    while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
    kill -KILL "$pid" 2>/dev/null
}
rm -rf -- "$1"
"#;

/// The directory, and the server that was started in it.
#[derive(Debug)]
pub struct Keeper {
    directory: PathBuf,
    guard: Child,
    server: Option<Child>,
}

impl Keeper {
    /// Makes a directory.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files").keep();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "keeper"]).arg(&directory).stdin(Stdio::piped());
        let guard = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("there is a shell");
        Self { directory, guard, server: None }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the server, and waits until `answers`. Whether it does; false if it ended instead.
    #[expect(clippy::disallowed_methods, reason = "servers are shared by tests with and without a runtime")]
    pub fn start(&mut self, command: &mut Command, answers: impl Fn() -> bool) -> bool {
        let log = self.directory.join("server.log");
        let log = fs::File::options().append(true).create(true).open(log).expect("the directory is ours");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let mut server = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        fs::write(self.pid_file(), server.id().to_string()).expect("the directory is ours");
        let deadline = Instant::now() + PATIENCE;
        while !answers() {
            if server.try_wait().expect("the process is ours").is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "the server does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
        true
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    /// Kills the server, as a crash does; its data stay.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("the process is ours");
            self.reap(&mut server);
        }
    }

    /// Stops the server in good order, by the signal that `kill` takes as `-NAME`.
    pub fn stop(&mut self, signal: &str) {
        if let Some(mut server) = self.server.take() {
            let sent = Command::new("kill").args([format!("-{signal}"), server.id().to_string()]).status();
            assert!(sent.expect("there is a kill").success(), "the server ended by itself: {}", self.log());
            self.reap(&mut server);
        }
    }

    /// What the server has said.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("server.pid")
    }

    fn reap(&self, server: &mut Child) {
        server.wait().expect("the process is ours");
        match fs::remove_file(self.pid_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Some(mut server) = self.server.take() {
            // Before the guard is waited for: until then its process would stay as a zombie.
            let _ = server.wait();
        }
        let _ = self.guard.wait();
    }
}

/// A free port of this machine. Another program may be faster.
pub fn free_port() -> u16 {
    let listener =
        std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}

/// Runs a command to its end, with `input`, and returns what it has printed.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command, input: &str) -> String {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // On a thread: a program that prints much before it has read all would wait for ever.
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the process is ours");
    let _ = writer.join().expect("the writer does not panic");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where a program is: in one of `directories`, or in `PATH`.
pub fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = directories.iter().cloned().chain(std::env::split_paths(&path));
    all.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Whether this process may be anybody.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
