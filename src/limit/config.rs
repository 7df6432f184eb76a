//! `[limits.rate]`: how many requests are let through, and how a client is known.

use std::{collections::BTreeMap, fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;
use thiserror::Error;

use super::Rate;
use crate::settings::{Checks, Faults, Section};

/// The limits on requests. By default there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// What each client may ask for.
    pub client: Rate,
    /// What may be asked of each group that has no rate of its own.
    pub group: Rate,
    /// What may be asked of single groups, by their names.
    pub groups: BTreeMap<String, Rate>,
    /// What may be asked of the node.
    pub global: Rate,
    /// What may reach the database: reads that find nothing in memory.
    pub origin: Rate,
    /// How many clients are told apart at once. Those beyond them share one limit of a client's rate.
    pub clients_max: usize,
    /// Whether the rates are each node's, or the cluster's.
    pub share: Share,
    /// Whose word on a client's address is taken.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The header in which they give it.
    pub proxy_header: ProxyHeader,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            client: Rate::OFF,
            group: Rate::OFF,
            groups: BTreeMap::new(),
            global: Rate::OFF,
            origin: Rate::OFF,
            clients_max: 100_000,
            share: Share::Node,
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::XForwardedFor,
        }
    }
}

const CLIENTS_MAX: RangeInclusive<usize> = 16..=10_000_000;

impl RateConfig {
    /// Reads the keys of `[limits.rate]`, and checks them. The groups' own rates stand in the groups' sections.
    pub fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            client: section.parsed("client", default.client, Rate::EXPECTED),
            group: section.parsed("group", default.group, Rate::EXPECTED),
            groups: default.groups,
            global: section.parsed("global", default.global, Rate::EXPECTED),
            origin: section.parsed("origin", default.origin, Rate::EXPECTED),
            clients_max: section.integer("clients_max", default.clients_max, CLIENTS_MAX),
            share: section.choice("share", default.share, &["node", "cluster"]),
            trusted_proxies: section.parsed_list(
                "trusted_proxies",
                default.trusted_proxies,
                TrustedProxy::EXPECTED,
            ),
            proxy_header: section.choice(
                "proxy_header",
                default.proxy_header,
                &["x-forwarded-for", "forwarded"],
            ),
        };
        section.check(config.validate());
        config
    }

    /// Whether every value lies within its bounds.
    ///
    /// # Errors
    /// Every value that does not, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        checks.number("clients_max", self.clients_max, &CLIENTS_MAX);
        checks.finish()
    }

    /// Whether `address`, which is canonical, is a trusted proxy's.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.0.contains(&address))
    }
}

/// Whose the rates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Each node's.
    Node,
    /// The cluster's: each node takes an equal part.
    Cluster,
}

/// The header in which proxies append whom they speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For: client, proxy`, by custom.
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

/// A word that a setting does not know. What would be right, whoever reads the setting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is not one of the words that are known here")]
pub struct UnknownWord;

impl FromStr for Share {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "node" => Ok(Self::Node),
            "cluster" => Ok(Self::Cluster),
            _ => Err(UnknownWord),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
        })
    }
}

impl FromStr for ProxyHeader {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(UnknownWord),
        }
    }
}

impl fmt::Display for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        })
    }
}

/// An address or network of proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

/// Why a text is not whom one may trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TrustedProxyError {
    #[error("it is not an address or a network")]
    Malformed,
    #[error("it is a network of IPv4 addresses mapped into IPv6; write it as one of IPv4")]
    Mapped,
    #[error("it is everybody, so that every client could name itself as it likes")]
    Everybody,
}

impl TrustedProxy {
    const EXPECTED: &'static str =
        "an address or a network of proxies, which can't be everybody; write for example \"10.0.0.0/8\"";
}

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, TrustedProxyError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address.to_canonical())));
        }
        let network = text.parse::<IpNet>().map_err(|_| TrustedProxyError::Malformed)?.trunc();
        if network.prefix_len() == 0 {
            return Err(TrustedProxyError::Everybody);
        }
        // Addresses are compared in their canonical form, so that such a network would match none.
        if network.addr().to_canonical() != network.addr() {
            return Err(TrustedProxyError::Mapped);
        }
        Ok(Self(network))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_limits_nothing() {
        let config = RateConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert!([config.client, config.group, config.global, config.origin].into_iter().all(Rate::is_off));
        assert!(RateConfig { clients_max: 0, ..config }.validate().is_err());
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        let cases = [
            ("10.1.2.3/8", Ok("10.0.0.0/8")),
            ("10.1.2.3", Ok("10.1.2.3")),
            ("::ffff:10.1.2.3", Ok("10.1.2.3")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("::1", Ok("::1")),
            ("0.0.0.0/0", Err(TrustedProxyError::Everybody)),
            ("::/0", Err(TrustedProxyError::Everybody)),
            ("::ffff:10.0.0.0/104", Err(TrustedProxyError::Mapped)),
            ("proxy.example.org", Err(TrustedProxyError::Malformed)),
            ("10.0.0.0/33", Err(TrustedProxyError::Malformed)),
            ("", Err(TrustedProxyError::Malformed)),
        ];
        for (text, expected) in cases {
            let proxy = text.parse::<TrustedProxy>().map(|proxy| proxy.to_string());
            assert_eq!(proxy, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn words_are_read_back() {
        for share in [Share::Node, Share::Cluster] {
            assert_eq!(share.to_string().parse(), Ok(share));
        }
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            assert_eq!(header.to_string().parse(), Ok(header));
        }
        assert_eq!("both".parse::<Share>(), Err(UnknownWord));
    }
}
