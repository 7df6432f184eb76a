//! A node: its address, which is also its name on the ring, and what it says of itself.
//!
//! An [`Address`] is checked once, when it comes from the configuration or from discovery; everything
//! behind it may rely on its form. Addresses are compared byte for byte, so that all nodes must spell
//! an address alike: `localhost:10001` and `127.0.0.1:10001` are two nodes.

use std::{
    borrow::Borrow,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use thiserror::Error;

/// The longest address, in bytes: a host name has at most 253, and few have more than 60.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// The greatest weight of a node.
pub const WEIGHT_MAX: u32 = 100;
/// What this version speaks to its peers.
pub const PROTOCOL_VERSION: u32 = 1;

/// How much of a refused input an error repeats, in characters.
const ECHO_CHARS_MAX: usize = 80;

/// Where other nodes reach a node: `host:port` or `[ipv6]:port`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

/// Why a text is not an address. Each message says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("the address is empty, and an address is host:port or [ipv6]:port")]
    Empty,
    #[error("the address {0:?}… has {1} bytes, and an address has at most {ADDRESS_BYTES_MAX}")]
    TooLong(String, usize),
    #[error("the address {0:?} has no port, and an address is host:port or [ipv6]:port")]
    NoPort(String),
    #[error("the port of the address {0:?} is not a number from 1 to 65535 without leading zeros")]
    Port(String),
    #[error("the address {0:?} has no host before its port, and an address is host:port or [ipv6]:port")]
    NoHost(String),
    #[error(
        "the host of the address {0:?} is neither made of letters, digits, dots, hyphens and underscores, \
         nor an ipv6 address in brackets"
    )]
    Host(String),
    #[error(
        "the address {0:?} means every interface of a machine, and an address is one that others can dial"
    )]
    Unspecified(String),
}

impl Address {
    /// Checks `text` and keeps it as it is spelled.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        let echo = || text.chars().take(ECHO_CHARS_MAX).collect::<String>();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong(echo(), text.len()));
        }
        let Some((host, port)) = text.rsplit_once(':') else { return Err(AddressError::NoPort(echo())) };
        if host.starts_with('[') && !host.ends_with(']') {
            // `[::1]` alone: its last colon stands within the brackets.
            return Err(if text.ends_with(']') {
                AddressError::NoPort(echo())
            } else {
                AddressError::Host(echo())
            });
        }
        // `parse` alone would take a sign and leading zeros, and so two spellings of one address.
        let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        if !plain || port.parse::<u16>().is_err() {
            return Err(AddressError::Port(echo()));
        }
        if host.is_empty() {
            return Err(AddressError::NoHost(echo()));
        }
        let unspecified = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| AddressError::Host(echo()))?.is_unspecified(),
            None if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) => {
                host == "0.0.0.0"
            }
            None => return Err(AddressError::Host(echo())),
        };
        if unspecified { Err(AddressError::Unspecified(echo())) } else { Ok(Self(text.into())) }
    }

    /// The address as it was spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the port, without brackets.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(host, _)| host.trim_start_matches('[').trim_end_matches(']'))
    }

    /// The port, 1 to 65535.
    pub fn port(&self) -> u16 {
        let port = self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.expect("an address was checked to end with a port")
    }
}

/// Whether the address is one that can't be a peer's, whatever is allowed: link-local. Cloud providers serve a machine's
/// credentials there. To be asked of addresses, and of what names resolve to.
pub const fn is_never_peer(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::new(text)
    }
}

impl Borrow<str> for Address {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.0)
    }
}

/// A random number that a process draws at its start, so that two processes that advertise one address
/// can tell. Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The id `random`, which the caller draws.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex(text).map(Self)
    }
}

/// A text that should be a 64-bit number in hex and is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a number of 16 hex digits")]
pub struct HexError(String);

/// Reads exactly 16 hex digits.
pub(super) fn parse_hex(text: &str) -> Result<u64, HexError> {
    let error = || HexError(text.chars().take(ECHO_CHARS_MAX).collect());
    // `from_str_radix` alone would take a sign.
    if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(error());
    }
    u64::from_str_radix(text, 16).map_err(|_| error())
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where peers reach it, and its name on the ring.
    pub address: Address,
    /// The id of its process; unknown for a static peer.
    pub id: Option<NodeId>,
    /// Its share of the keys relative to others, 1 to [`WEIGHT_MAX`]. A view clamps what is outside.
    pub weight: u32,
    /// Where it serves the public API, if it does and says so.
    pub api: Option<String>,
    /// What it speaks to its peers.
    pub protocol: u32,
}

impl Node {
    /// A node of which only the address is known: weight 1, this version's protocol.
    pub fn new(address: Address) -> Self {
        Self { address, id: None, weight: 1, api: None, protocol: PROTOCOL_VERSION }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_right() {
        let longest = format!("{}:10001", "a".repeat(ADDRESS_BYTES_MAX - 6));
        for (text, host, port) in [
            ("localhost:10001", "localhost", 10001),
            ("10.0.0.7:1", "10.0.0.7", 1),
            ("cache-3.prod_eu.example.com:65535", "cache-3.prod_eu.example.com", 65535),
            ("[::1]:10001", "::1", 10001),
            ("[2001:db8::7]:443", "2001:db8::7", 443),
            (longest.as_str(), &longest[..ADDRESS_BYTES_MAX - 6], 10001),
        ] {
            let address = Address::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((address.as_str(), address.host(), address.port()), (text, host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn addresses_that_are_wrong() {
        type Make = fn(String) -> AddressError;
        let cases: [(&str, Make); 26] = [
            ("localhost", AddressError::NoPort),
            ("[::1]", AddressError::NoPort),
            ("localhost:", AddressError::Port),
            ("localhost:0", AddressError::Port),
            ("localhost:65536", AddressError::Port),
            ("localhost:+80", AddressError::Port),
            ("localhost:080", AddressError::Port),
            ("localhost:80 ", AddressError::Port),
            ("localhost:http", AddressError::Port),
            (":10001", AddressError::NoHost),
            ("::1:10001", AddressError::Host),
            ("[]:10001", AddressError::Host),
            ("[::1:10001", AddressError::Host),
            ("[::1]x:10001", AddressError::Host),
            ("::1]:10001", AddressError::Host),
            ("[localhost]:10001", AddressError::Host),
            ("[127.0.0.1]:10001", AddressError::Host),
            ("[fe80::1%eth0]:10001", AddressError::Host),
            ("http://localhost:10001", AddressError::Host),
            ("user@localhost:10001", AddressError::Host),
            ("local host:10001", AddressError::Host),
            ("local\0host:10001", AddressError::Host),
            ("bücher.example:80", AddressError::Host),
            ("a,b:10001", AddressError::Host),
            ("0.0.0.0:10001", AddressError::Unspecified),
            ("[::]:10001", AddressError::Unspecified),
        ];
        for (text, error) in cases {
            assert_eq!(Address::new(text), Err(error(text.to_owned())), "{text}");
        }
        assert_eq!(Address::new(""), Err(AddressError::Empty));
        let long = format!("{}:10001", "a".repeat(ADDRESS_BYTES_MAX - 5));
        assert_eq!(Address::new(&long), Err(AddressError::TooLong("a".repeat(80), 256)));
    }

    #[test]
    fn ids_are_written_and_read_as_16_hex_digits() {
        let id = NodeId::new(0xab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ab", "+0000000000000ab", "00000000000000ag", "000000000000000ab"] {
            assert_eq!(bad.parse::<NodeId>(), Err(HexError(bad.to_owned())));
        }
    }
}
