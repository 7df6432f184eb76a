//! Who may become a peer.
//!
//! A node sends requests to its peers, so that whoever can name one could make it send requests anywhere in
//! its network. Hence a list of what is allowed, whatever the source of the name. Link-local addresses are
//! never peers: cloud providers serve a machine's credentials there.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;

use crate::cluster::is_never_peer;

/// The longest host name, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The addresses, networks and host names that may become peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPeers(Vec<AllowedPeer>);

/// One address, network or host-name suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedPeer {
    /// An address, as a network of one, or a network.
    Network(IpNet),
    /// A host name, in lower case and without a dot at either end, with everything below it.
    Host(String),
}

/// Why a text is not an entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AllowedPeersError {
    #[error("{0:?} is not an address, a network or a host name")]
    Malformed(String),
    #[error("{0:?} is link-local, and link-local addresses are never peers")]
    LinkLocal(String),
}

impl AllowedPeers {
    /// The list with these entries. An empty one allows nobody.
    pub const fn new(entries: Vec<AllowedPeer>) -> Self {
        Self(entries)
    }

    /// Reads one entry from each text.
    ///
    /// # Errors
    /// The first text that is no entry.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, AllowedPeersError> {
        entries.into_iter().map(|entry| entry.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// The entries of the list.
    pub fn entries(&self) -> &[AllowedPeer] {
        &self.0
    }

    /// Whether `host`, an address (with or without brackets) or a host name, may become a peer. A name that is
    /// allowed may still resolve to an address that is not: whoever connects asks [`is_never_peer`] of that.
    pub fn allows_host(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(address) => self.allows_address(address),
            Err(_) => {
                let name = normal(host);
                self.0
                    .iter()
                    .any(|entry| matches!(entry, AllowedPeer::Host(suffix) if is_below(&name, suffix)))
            }
        }
    }

    /// Whether the address may become a peer.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        // `::ffff:127.0.0.1` reaches the same machine as `127.0.0.1`.
        let address = address.to_canonical();
        !is_never_peer(address)
            && self
                .0
                .iter()
                .any(|entry| matches!(entry, AllowedPeer::Network(network) if network.contains(&address)))
    }
}

/// The machine itself: `127.0.0.0/8`, `::1` and `localhost`.
impl Default for AllowedPeers {
    fn default() -> Self {
        let loopback = IpNet::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8).expect("8 is at most 32");
        Self(vec![
            AllowedPeer::Network(loopback),
            AllowedPeer::Network(IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))),
            AllowedPeer::Host("localhost".to_owned()),
        ])
    }
}

impl FromStr for AllowedPeer {
    type Err = AllowedPeersError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let echo = || text.chars().take(60).collect::<String>();
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let network = bare.parse::<IpNet>().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from));
        if let Ok(network) = network {
            let canonical = match (network.addr().to_canonical(), network.prefix_len()) {
                // A mapped address has 96 bits more in front.
                (address @ IpAddr::V4(_), length @ 96..) if network.addr().is_ipv6() => {
                    IpNet::new(address, length - 96).unwrap_or(network)
                }
                _ => network,
            };
            let is_never = is_never_peer(canonical.network()) && is_never_peer(canonical.broadcast());
            let network = canonical.trunc();
            return if is_never {
                Err(AllowedPeersError::LinkLocal(echo()))
            } else {
                Ok(Self::Network(network))
            };
        }
        let name = normal(text.strip_prefix("*.").unwrap_or(text));
        let name = name.strip_prefix('.').unwrap_or(&name);
        if is_host_name(name) {
            Ok(Self::Host(name.to_owned()))
        } else {
            Err(AllowedPeersError::Malformed(echo()))
        }
    }
}

/// As [`FromStr`] reads it: a network of one address as the address alone.
impl fmt::Display for AllowedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Network(network) => write!(f, "{network}"),
            Self::Host(name) => f.write_str(name),
        }
    }
}

/// A host name as it is compared: names know no case, and one dot at the end is the root.
fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether `name` is `suffix` or ends with it after a dot.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Letters, digits, hyphens and underscores between single dots. A last label of digits would be an address
/// in one of the old notations (`127.1`, `0x7f.1`), which resolvers still read: a URL's parser does the same.
fn is_host_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(valid))
        && !last.bytes().all(|b| b.is_ascii_digit())
        && !last.starts_with("0x")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowedPeers {
        AllowedPeers::parse(entries).expect("the test's entries are right")
    }

    #[test]
    fn the_default_allows_the_machine_itself() {
        let default = AllowedPeers::default();
        assert_eq!(default, list(&["127.0.0.0/8", "::1", "localhost"]));
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "::ffff:127.0.0.1",
        ] {
            assert!(default.allows_host(host), "{host}");
        }
        for host in [
            "10.0.0.1",
            "::2",
            "example.com",
            "notlocalhost",
            "localhost.evil",
            "0.0.0.0",
            "127.1",
            "",
            ".",
            "[",
            "[]",
        ] {
            assert!(!default.allows_host(host), "{host}");
        }
    }

    #[test]
    fn networks_and_suffixes() {
        let list = list(&["10.1.0.0/16", "2001:db8::/32", ".cache.internal", "*.example.com", "192.0.2.7"]);
        for host in
            ["10.1.2.3", "2001:db8::1", "n1.cache.internal", "cache.internal", "a.b.example.com", "192.0.2.7"]
        {
            assert!(list.allows_host(host), "{host}");
        }
        for host in ["10.2.0.1", "2001:db9::1", "evilcache.internal", "cache.internal.evil", "192.0.2.8"] {
            assert!(!list.allows_host(host), "{host}");
        }
    }

    #[test]
    fn link_local_is_never_allowed() {
        let everything = list(&["0.0.0.0/0", "::/0"]);
        assert!(everything.allows_host("203.0.113.1"));
        for host in ["169.254.169.254", "fe80::1", "[fe80::1]", "::ffff:169.254.169.254"] {
            assert!(!everything.allows_host(host), "{host}");
        }
        for entry in ["169.254.0.0/16", "169.254.169.254", "fe80::/10", "fe80::1", "::ffff:169.254.0.0/112"] {
            assert_eq!(
                entry.parse::<AllowedPeer>(),
                Err(AllowedPeersError::LinkLocal(entry.to_owned())),
                "{entry}"
            );
        }
    }

    #[test]
    fn malformed_entries() {
        for entry in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            "-/8",
            "10.0.0.0/33",
            "10.0.0",
            "0x7f.1",
            "127.0x1",
            "a b",
            "a:80",
            "é.com",
        ] {
            assert_eq!(
                entry.parse::<AllowedPeer>(),
                Err(AllowedPeersError::Malformed(entry.to_owned())),
                "{entry}"
            );
        }
    }

    #[test]
    fn entries_are_read_back() {
        for (entry, shown) in [
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("::1", "::1"),
            ("192.0.2.7/32", "192.0.2.7"),
            (".Cache.Internal.", "cache.internal"),
        ] {
            let parsed: AllowedPeer = entry.parse().expect(entry);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse(), Ok(parsed));
        }
    }
}
