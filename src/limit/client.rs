//! Who a request is counted for.

use std::net::IpAddr;

/// A client, as far as limits tell clients apart: by token, or by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Unknown,
    Token(u64),
    V4(u32),
    V6Network(u64),
}

impl ClientKey {
    /// A request of which nobody said whose it is. All of them are one client.
    pub const UNKNOWN: Self = Self(Kind::Unknown);

    /// The holder of an API token, by the token's number.
    pub const fn token(id: u64) -> Self {
        Self(Kind::Token(id))
    }

    /// Whoever is at `address`: an IPv4 address, mapped into IPv6 or not, or an IPv6 network of 64 bits, which is the
    /// least that one subscriber has.
    pub const fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(Kind::V4(address.to_bits())),
            IpAddr::V6(address) => Self(Kind::V6Network((address.to_bits() >> 64) as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientKey {
        ClientKey::address(text.parse().expect("an address"))
    }

    #[test]
    fn clients_are_told_apart_by_what_one_of_them_has() {
        assert_eq!(address("192.0.2.1"), address("::ffff:192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_ne!(ClientKey::token(7), address("0.0.0.7"));
        assert_ne!(ClientKey::token(0), ClientKey::UNKNOWN);
        assert_ne!(address("::7:0:0:0:0"), ClientKey::token(7));
    }
}
