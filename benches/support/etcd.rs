//! An etcd of three members, which can be killed and started again.

use std::{
    fs::File,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{node::Ports, until};

const MEMBERS: usize = 3;

/// Three members on free ports. Killed when it is dropped.
#[derive(Debug)]
pub struct Etcd {
    directory: TempDir,
    members: Vec<Member>,
    cluster: String,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Member {
    client: String,
    peer: String,
    child: Option<Child>,
}

/// Whether the program is there.
pub fn is_installed() -> bool {
    let version = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

impl Etcd {
    /// Starts three members that listen at `ip`, and waits until they have a leader.
    pub async fn start(ip: Ipv4Addr) -> Self {
        let members: Vec<_> = (0..MEMBERS)
            .map(|_| {
                let ports = Ports::free();
                let url = |port| format!("http://{ip}:{port}");
                Member { client: url(ports.api), peer: url(ports.peer), child: None }
            })
            .collect();
        let cluster = members.iter().enumerate().map(|(index, member)| format!("m{index}={}", member.peer));
        let mut etcd = Self {
            directory: tempfile::tempdir().expect("a directory for temporary files"),
            cluster: cluster.collect::<Vec<_>>().join(","),
            members,
            http: super::http(Duration::from_secs(10)),
        };
        for index in 0..MEMBERS {
            etcd.spawn(index);
        }
        etcd.healthy().await;
        etcd
    }

    fn spawn(&mut self, index: usize) {
        let member = &mut self.members[index];
        let log = self.directory.path().join(format!("m{index}.log"));
        let log = File::options().append(true).create(true).open(log).expect("the directory can be written");
        let child = Command::new("etcd")
            .args(["--name", &format!("m{index}"), "--initial-cluster-state", "new"])
            .arg("--data-dir")
            .arg(self.directory.path().join(format!("m{index}")))
            .args(["--initial-cluster", &self.cluster, "--initial-cluster-token", "ggcache-bench"])
            .args(["--listen-client-urls", &member.client, "--advertise-client-urls", &member.client])
            .args(["--listen-peer-urls", &member.peer, "--initial-advertise-peer-urls", &member.peer])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        member.child = Some(child.expect("etcd is installed"));
    }

    /// Waits until every member that runs has a leader.
    async fn healthy(&self) {
        for member in self.members.iter().filter(|member| member.child.is_some()) {
            until("etcd is healthy", async || {
                let asked = self.http.get(format!("{}/health", member.client));
                match asked.timeout(Duration::from_secs(1)).send().await {
                    Ok(answer) => answer.text().await.is_ok_and(|text| text.contains("true")),
                    Err(_) => false,
                }
            })
            .await;
        }
    }

    /// Where clients dial, separated by commas.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(|member| member.client.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Kills members.
    pub fn kill(&mut self, indices: std::ops::Range<usize>) {
        // All are told before the first is waited for, so that they die together.
        for member in &mut self.members[indices.clone()] {
            if let Some(child) = &mut member.child {
                let _ = child.kill();
            }
        }
        for member in &mut self.members[indices] {
            if let Some(mut child) = member.child.take() {
                let _ = child.wait();
            }
        }
    }

    /// Starts members again that were killed, with their data, and waits until all have a leader.
    pub async fn restart(&mut self) {
        for index in 0..MEMBERS {
            if self.members[index].child.is_none() {
                self.spawn(index);
            }
        }
        self.healthy().await;
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill(0..MEMBERS);
    }
}
