//! Nodes that are started together from one configuration.

use std::net::SocketAddr;

use super::{
    node::{Node, Ports},
    site::Site,
};

/// Nodes that run, and where they live.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub site: Site,
    settings: Vec<String>,
}

/// How often ports are chosen anew because another program was faster.
const ATTEMPTS: usize = 10;

impl Cluster {
    /// Starts `count` nodes in `site`, each with the single `settings`, and waits until all are ready.
    pub async fn start(site: Site, count: usize, settings: &[&str]) -> Self {
        for _ in 0..ATTEMPTS {
            let ports: Vec<_> = (0..count).map(|_| Ports::free()).collect();
            let peers: Vec<_> = ports.iter().map(|ports| format!("localhost:{}", ports.peer)).collect();
            let peers = format!("cluster.peers={}", peers.join(","));
            let settings: Vec<_> = settings.iter().copied().chain([peers.as_str()]).collect();
            let mut nodes: Vec<_> = ports.iter().map(|ports| Node::spawn(&site, *ports, &settings)).collect();
            let mut ready = true;
            for node in &mut nodes {
                ready &= node.is_ready().await;
            }
            if ready {
                let settings = settings.into_iter().map(str::to_owned).collect();
                return Self { nodes, site, settings };
            }
        }
        panic!("{ATTEMPTS} times a port was taken that had been free");
    }

    /// Starts a node again that has ended, under its old name.
    pub async fn restart(&mut self, index: usize) {
        let settings: Vec<_> = self.settings.iter().map(String::as_str).collect();
        let ports = self.nodes[index].ports;
        self.nodes[index] = Node::spawn(&self.site, ports, &settings);
        assert!(self.nodes[index].is_ready().await, "its ports are its own");
    }

    /// The indices of the nodes in the order in which they answer for a key, which is given as in a query: its owner,
    /// its successor, and the others.
    pub async fn route(&self, group: &str, key: &str) -> Vec<usize> {
        let target = format!("/api/v1/cluster/owner?group={group}&{key}");
        let report = self.nodes[0].get(&target).await.json();
        let find = |who: &str| self.nodes.iter().position(|node| report[who] == node.name.as_str());
        let first = [find("owner"), find("successor")].into_iter().flatten();
        let mut route: Vec<_> = first.collect();
        assert!(!route.is_empty(), "{report}");
        let others: Vec<_> = (0..self.nodes.len()).filter(|index| !route.contains(index)).collect();
        route.extend(others);
        route
    }

    /// The public addresses of `nodes` in turn, `count` of them.
    pub fn spread(&self, nodes: &[usize], count: usize) -> Vec<SocketAddr> {
        (0..count).map(|index| self.nodes[nodes[index % nodes.len()]].api()).collect()
    }

    /// The queries that `nodes` have sent for `group`.
    pub async fn loads(&self, nodes: &[usize], group: &str) -> u64 {
        let mut sum = 0;
        for index in nodes {
            sum += self.nodes[*index].loads(group).await;
        }
        sum
    }
}
