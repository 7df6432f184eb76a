//! Nodes that come and go: processes of the program, which meet in etcd or by a static list.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ggcache::client::{Client, Endpoint};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    etcd::{self, Etcd},
    network::Network,
};
use crate::support::{
    client::{Connection, Response},
    node::Ports,
    site::Site,
    until,
};

/// What a fleet is made of.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes at the start.
    pub count: usize,
    /// Addresses that are known to everyone though no node runs there yet, if the list is static.
    pub spare: usize,
    /// Single keys of the nodes' configuration, `key=value`.
    pub settings: Vec<String>,
    /// Where the nodes run; this machine's loopback without one.
    pub network: Option<Network>,
    /// Whether the nodes' static list is used though the build knows etcd.
    pub static_list: bool,
}

/// A cluster. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    // Dropped in this order: nodes, etcd, then the network that they stand on.
    pub nodes: Vec<FleetNode>,
    pub etcd: Option<Etcd>,
    pub network: Option<Network>,
    pub site: Site,
    settings: Vec<String>,
}

/// One node, running or not.
#[derive(Debug)]
pub struct FleetNode {
    /// Its name on the ring.
    pub name: String,
    ip: Ipv4Addr,
    ports: Ports,
    namespace: Option<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// Whether this build of the program meets in etcd, and etcd is installed.
pub fn knows_etcd(site: &Site) -> bool {
    etcd::is_installed() && site.run(&["config", "--set", "cluster.discovery=etcd"]).code == Some(0)
}

impl Fleet {
    /// Starts a cluster in `site`, and waits until all nodes are ready and see each other.
    pub async fn start(site: Site, plan: Plan) -> Self {
        let Plan { count, spare, mut settings, network, static_list } = plan;
        let host = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::host);
        let places: Vec<_> = (0..count + spare)
            .map(|index| match &network {
                Some(network) => {
                    FleetNode::new(&site, network.address(index), Some(network.namespace(index)))
                }
                None => FleetNode::new(&site, Ipv4Addr::LOCALHOST, None),
            })
            .collect();
        settings.push("cluster.allowed_peers=127.0.0.0/8,localhost,10.198.0.0/16".to_owned());
        let etcd = if !static_list && knows_etcd(&site) {
            let etcd = Etcd::start(host).await;
            settings.push("cluster.discovery=etcd".to_owned());
            settings.push(format!("etcd.endpoints={}", etcd.endpoints()));
            Some(etcd)
        } else {
            let peers: Vec<_> = places.iter().map(|node| node.name.as_str()).collect();
            settings.push(format!("cluster.peers={}", peers.join(",")));
            None
        };
        let mut fleet = Self { nodes: places, etcd, network, site, settings };
        for index in 0..count {
            fleet.spawn(index);
        }
        for index in 0..count {
            fleet.ready(index).await;
        }
        for index in 0..count {
            fleet.sees(index, fleet.expected_members(count)).await;
        }
        fleet
    }

    fn expected_members(&self, running: usize) -> usize {
        // A static list holds the spare ones from the beginning.
        if self.etcd.is_some() { running } else { self.nodes.len() }
    }

    /// Starts a node that does not run, without waiting for anything.
    pub fn spawn(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let log = File::options().append(true).create(true).open(&node.log);
        let mut command = self.site.command(&["serve"]);
        for setting in self.settings.iter().cloned().chain(node.settings()) {
            command.args(["--set", &setting]);
        }
        let mut command = match &node.namespace {
            // `ip netns exec` becomes the program: the process's id is the node's.
            Some(namespace) => within(namespace, &command),
            None => command,
        };
        command.stdout(Stdio::null()).stderr(log.expect("the directory can be written"));
        node.child = Some(command.spawn().expect("the program was built"));
    }

    /// Waits until a node wants requests.
    ///
    /// # Panics
    /// If it ends instead; with the end of its log.
    pub async fn ready(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        until("the node is ready", async || {
            assert!(!node.has_ended(), "{} ended: {}", node.name, node.log_end());
            node.ask(node.admin(), "/readyz").await.is_some_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Waits until a node's view has `count` members.
    pub async fn sees(&self, index: usize, count: usize) {
        let node = &self.nodes[index];
        until("the nodes see each other", async || {
            node.metric("ggcache_members").await.is_some_and(|members| members as usize == count)
        })
        .await;
    }

    /// Ends a node by SIGTERM, waits for its end, starts it again, and waits until it is ready.
    pub async fn restart(&mut self, index: usize) {
        self.nodes[index].signal(Signal::TERM);
        until("the node has ended", async || self.nodes[index].has_ended()).await;
        self.spawn(index);
        self.ready(index).await;
    }

    /// A client of the first `count` nodes; of all that are registered, where there is etcd.
    ///
    /// # Errors
    /// If the build can't make one.
    pub fn client(&self, count: usize, deadline: Duration, grpc: bool) -> Result<Client, String> {
        #[cfg(feature = "etcd")]
        if let Some(etcd) = &self.etcd {
            use ggcache::{
                client::{EtcdEndpoints, Protocol},
                discovery::EtcdConfig,
            };
            let endpoints = etcd.endpoints();
            let endpoints = endpoints.split(',').map(|url| url.parse().expect("a URL")).collect();
            let config = EtcdConfig { endpoints, ..EtcdConfig::default() };
            let protocol = if grpc { Protocol::Grpc } else { Protocol::Http };
            let found =
                EtcdEndpoints::new(&config, "GGroupCache", protocol).expect("there are no files to read");
            let client = Client::builder().endpoints(found).deadline(deadline).build();
            return client.map_err(|error| format!("there is no client: {error}"));
        }
        let nodes = self.nodes[..count].iter().map(|node| node.endpoint(grpc));
        let client = Client::builder().addresses(nodes).deadline(deadline).build();
        client.map_err(|error| format!("there is no client: {error}"))
    }
}

/// `command`, in a namespace.
fn within(namespace: &str, command: &Command) -> Command {
    let mut within = Command::new("ip");
    within.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        within.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => within.env(name, value),
            None => within.env_remove(name),
        };
    }
    within.stdin(Stdio::null());
    within
}

impl FleetNode {
    fn new(site: &Site, ip: Ipv4Addr, namespace: Option<String>) -> Self {
        let ports = Ports::free();
        let host = if ip.is_loopback() { "localhost".to_owned() } else { ip.to_string() };
        let log = site.path(&format!("node-{}.log", ports.peer));
        Self { name: format!("{host}:{}", ports.peer), ip, ports, namespace, log, child: None }
    }

    fn settings(&self) -> [String; 7] {
        let Ports { peer, admin, api } = self.ports;
        [
            format!("node.listen={}:{peer}", self.ip),
            format!("node.advertise={}", self.name),
            format!("admin.listen={}:{admin}", self.ip),
            // The networks are this machine's own.
            "node.allow_anyone=true".to_owned(),
            "admin.allow_anyone=true".to_owned(),
            "api.enabled=true".to_owned(),
            format!("api.listen={}:{api}", self.ip),
        ]
    }

    /// Its public plane, for a client.
    pub fn endpoint(&self, grpc: bool) -> Endpoint {
        let scheme = if grpc { "grpc" } else { "http" };
        format!("{scheme}://{}", self.api()).parse().expect("an endpoint")
    }

    /// The operators' plane.
    pub fn admin(&self) -> SocketAddr {
        (self.ip, self.ports.admin).into()
    }

    /// The public plane.
    pub fn api(&self) -> SocketAddr {
        (self.ip, self.ports.api).into()
    }

    /// The process's id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends the process a signal.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the node runs");
        kill_process(Pid::from_child(child), signal).expect("the process is ours");
    }

    /// Ends the process without a warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended {
            self.child = None;
        }
        ended
    }

    /// Asks one of its planes; `None` if there is no answer within a second.
    pub async fn ask(&self, plane: SocketAddr, target: &str) -> Option<Response> {
        ask(plane, target).await
    }

    /// The sum of the metrics whose line begins with `prefix`.
    pub async fn metric(&self, prefix: &str) -> Option<f64> {
        metric(self.admin(), prefix).await
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

/// Asks a plane of a node; `None` if there is no answer within a second.
pub async fn ask(plane: SocketAddr, target: &str) -> Option<Response> {
    let work = async { Connection::open(plane).await.ok()?.get(target).await.ok() };
    tokio::time::timeout(Duration::from_secs(1), work).await.ok()?
}

/// The sum of a node's metrics whose line begins with `prefix`; `None` if the node gives no answer.
pub async fn metric(admin: SocketAddr, prefix: &str) -> Option<f64> {
    let metrics = ask(admin, "/metrics").await?;
    let lines = metrics.text().lines().filter(|line| line.starts_with(prefix));
    Some(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

impl Drop for FleetNode {
    #[expect(clippy::print_stderr, reason = "what a node logged belongs to the failure")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {} ---\n{}", self.name, self.log_end());
        }
    }
}
