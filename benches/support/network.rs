//! A network of namespaces on a bridge, where the link between two nodes can be cut without a word to either.
//!
//! Needs root and iproute2. Both ends of a cut are isolated ports of the bridge: frames between them are dropped
//! there, while both go on reaching everyone else.

use std::{net::Ipv4Addr, process::Command};

/// One namespace a node, all joined by a bridge to this one. Deleted when it is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    count: usize,
    subnet: u8,
}

impl Network {
    /// A network for `count` nodes.
    ///
    /// # Errors
    /// Why the machine does not allow it.
    pub fn create(count: usize) -> Result<Self, String> {
        // Interface names have at most 15 bytes.
        let name = format!("gg{:06}", std::process::id() % 1_000_000);
        // Owned from here on, so that what was made goes even if the rest fails.
        let network = Self { name, count, subnet: fastrand::u8(1..255) };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["address", "add", &format!("{}/24", network.host()), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..count {
            let (namespace, port) = (network.namespace(node), network.port(node));
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            ip(&["link", "set", &port, "master", &bridge, "up"])?;
            let inside = |arguments: &[&str]| ip(&[&["-n", &namespace], arguments].concat());
            inside(&["address", "add", &format!("{}/24", network.address(node)), "dev", "eth0"])?;
            inside(&["link", "set", "eth0", "up"])?;
            inside(&["link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn port(&self, node: usize) -> String {
        format!("{}v{node}", self.name)
    }

    /// The namespace in which a node runs.
    pub fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    /// The address of a node.
    pub const fn address(&self, node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 198, self.subnet, 1 + node as u8)
    }

    /// The address of this namespace, which reaches all nodes.
    pub const fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 198, self.subnet, 254)
    }

    /// Cuts the link between two nodes, or joins it again.
    ///
    /// # Panics
    /// If the bridge can't do that.
    pub fn cut(&self, one: usize, other: usize, cut: bool) {
        for node in [one, other] {
            let state = if cut { "on" } else { "off" };
            ip(&["link", "set", "dev", &self.port(node), "type", "bridge_slave", "isolated", state])
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.count {
            // Its end of the pair goes with the namespace once its last process has ended, and the other end with it.
            let _ = ip(&["link", "delete", &self.port(node)]);
            let _ = ip(&["netns", "delete", &self.namespace(node)]);
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let line = || format!("ip {}", arguments.join(" "));
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", line(), String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{}: {error}", line())),
    }
}
