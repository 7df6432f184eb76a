//! The address of a client behind proxies, of which nothing is believed that a trusted one did not write.
//!
//! Proxies append: the last hop of a header was written by whoever holds the connection, the one before by that hop,
//! and so on. So the walk goes from the right, over hops that are trusted, to the first that is not: that is the
//! client. What stands left of it the client may have made up. Anything that is not an address ends the walk at the
//! last trusted hop, and so do limits on what is read.

use std::{
    iter,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName, header};

use super::{ProxyHeader, RateConfig};

/// The header's bytes that are read, from the right; far more than any chain of proxies needs.
const BYTES_MAX: usize = 4096;
/// The hops that are walked.
const HOPS_MAX: usize = 32;

/// Reads one hop.
type Read = fn(&[u8]) -> Option<IpAddr>;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whose request it is that came over a connection from `socket`: that address itself, unless it is a trusted proxy's.
/// IPv4 addresses that are mapped into IPv6 are IPv4 addresses.
pub fn client_address(socket: IpAddr, headers: &HeaderMap, config: &RateConfig) -> IpAddr {
    let mut client = socket.to_canonical();
    if !config.trusts(client) {
        return client;
    }
    let (name, read): (HeaderName, Read) = match config.proxy_header {
        ProxyHeader::XForwardedFor => (X_FORWARDED_FOR, address),
        ProxyHeader::Forwarded => (header::FORWARDED, forwarded_for),
    };
    let mut bytes_left = BYTES_MAX;
    let hops = headers.get_all(name).iter().rev().flat_map(|line| {
        // A client that sends more than is read hides nothing: what proxies append is at the end.
        let cut = line.len().saturating_sub(bytes_left);
        let line = &line.as_bytes()[cut..];
        bytes_left -= line.len();
        from_right(line, b',', cut == 0)
    });
    for hop in hops.take(HOPS_MAX) {
        let Some(address) = hop.and_then(|hop| read(hop.trim_ascii())) else { return client };
        client = address;
        if !config.trusts(client) {
            return client;
        }
    }
    client
}

/// The parts of a list from right to left, where separators in quotes separate nothing. A quote that does not begin is
/// one `None` with all that is left of it, and so is the last part unless the list `is_whole`. Thus a well-formed end of
/// a list is read right whatever stands before it, which is not so from the left.
fn from_right(list: &[u8], separator: u8, is_whole: bool) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(list);
    iter::from_fn(move || {
        let list = rest.take()?;
        let mut is_quoted = false;
        for (at, byte) in list.iter().enumerate().rev() {
            match byte {
                b'"' => is_quoted = !is_quoted,
                // No address needs one, and before a quote it would turn the tables.
                b'\\' => return Some(None),
                byte if *byte == separator && !is_quoted => {
                    rest = Some(&list[..at]);
                    return Some(Some(&list[at + 1..]));
                }
                _ => {}
            }
        }
        Some((is_whole && !is_quoted).then_some(list))
    })
}

/// The address of a `Forwarded` element (RFC 7239, section 4): its only `for`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in from_right(element, b';', true) {
        let pair = pair?.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    address(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// An address, in brackets or not, with a port or not.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip())).ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn config(header: ProxyHeader) -> RateConfig {
        let trusted = ["10.0.0.0/8", "192.0.2.9", "2001:db8:ffff::/48"];
        let trusted_proxies = trusted.iter().map(|text| text.parse().expect("a network")).collect();
        RateConfig { trusted_proxies, proxy_header: header, ..RateConfig::default() }
    }

    fn headers(name: &'static str, lines: &[impl AsRef<[u8]>]) -> HeaderMap {
        let value = |line: &[u8]| HeaderValue::from_bytes(line).expect("a value");
        lines.iter().map(|line| (HeaderName::from_static(name), value(line.as_ref()))).collect()
    }

    fn client(socket: &str, header: ProxyHeader, lines: &[&str]) -> String {
        let name = match header {
            ProxyHeader::XForwardedFor => "x-forwarded-for",
            ProxyHeader::Forwarded => "forwarded",
        };
        let socket = socket.parse().expect("an address");
        client_address(socket, &headers(name, lines), &config(header)).to_string()
    }

    #[test]
    fn the_rightmost_hop_that_is_not_trusted_is_the_client() {
        let cases: &[(&str, &[&str], &str)] = &[
            // A direct client, whatever it says.
            ("198.51.100.1", &["6.6.6.6"], "198.51.100.1"),
            ("::ffff:198.51.100.1", &["6.6.6.6"], "198.51.100.1"),
            // A proxy that says nothing.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1,10.0.0.2 , 192.0.2.9"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            // All are trusted: the first of them.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Not addresses.
            ("10.0.0.1", &["198.51.100.1, nobody, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.1, "], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1", ""], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["\"198.51.100.1\""], "10.0.0.1"),
            // Ports, brackets and mapped addresses.
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("2001:db8:ffff::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("2001:db8:ffff::1", &["2001:db8::1, [2001:db8:ffff::2]"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:198.51.100.1, ::ffff:10.0.0.9"], "198.51.100.1"),
            ("10.0.0.1", &["[198.51.100.1]"], "10.0.0.1"),
            ("10.0.0.1", &["fe80::1%eth0"], "10.0.0.1"),
        ];
        for (socket, lines, expected) in cases {
            assert_eq!(client(socket, ProxyHeader::XForwardedFor, lines), *expected, "{socket} {lines:?}");
        }
    }

    #[test]
    fn forwarded_elements_are_read_from_the_right() {
        let cases: &[(&[&str], &str)] = &[
            (&["for=198.51.100.1"], "198.51.100.1"),
            (&["for=6.6.6.6, For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"], "2001:db8::1"),
            (&["for=198.51.100.1;by=\"a,b;c\", for=10.0.0.2"], "198.51.100.1"),
            (&["proto=http;for=\"198.51.100.1:80\" "], "198.51.100.1"),
            (&["for=6.6.6.6", "for=198.51.100.1", "for=10.0.0.2"], "198.51.100.1"),
            // A client's quote that is never closed takes nothing of the proxy's with it.
            (&["for=\"6.6.6.6, for=198.51.100.1"], "198.51.100.1"),
            (&["for=\"6.6.6.6, for=10.0.0.2"], "10.0.0.2"),
            (&["for=\"6.6.6.6", "for=198.51.100.1"], "198.51.100.1"),
            // No address.
            (&["for=198.51.100.1, for=unknown"], "10.0.0.1"),
            (&["for=198.51.100.1, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["for=198.51.100.1, proto=https"], "10.0.0.1"),
            (&["for=198.51.100.1, for=6.6.6.6;for=7.7.7.7"], "10.0.0.1"),
            (&["for=198.51.100.1, for=\"6.6.6.6\\\""], "10.0.0.1"),
            (&["for=198.51.100.1, for = 6.6.6.6"], "10.0.0.1"),
            (&["for=198.51.100.1;"], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client("10.0.0.1", ProxyHeader::Forwarded, lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn only_the_header_that_is_configured_counts() {
        let socket = "10.0.0.1".parse().expect("an address");
        let forwarded = headers("forwarded", &["for=6.6.6.6"]);
        assert_eq!(client_address(socket, &forwarded, &config(ProxyHeader::XForwardedFor)), socket);
        let x_forwarded_for = headers("x-forwarded-for", &["6.6.6.6"]);
        assert_eq!(client_address(socket, &x_forwarded_for, &config(ProxyHeader::Forwarded)), socket);
    }

    #[test]
    fn work_is_bounded() {
        let hops = |count: usize| format!("198.51.100.1{}", ", 10.0.0.2".repeat(count));
        assert_eq!(client("10.0.0.1", ProxyHeader::XForwardedFor, &[&hops(HOPS_MAX - 1)]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", ProxyHeader::XForwardedFor, &[&hops(HOPS_MAX)]), "10.0.0.2");
        // What a client sends in excess does not make it another.
        let long = |end: &str| format!("6.6.6.6{}, {end}", ", 7.7.7.7".repeat(BYTES_MAX));
        assert_eq!(client("10.0.0.1", ProxyHeader::XForwardedFor, &[&long("198.51.100.1")]), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", ProxyHeader::XForwardedFor, &["6.6.6.6", &" ".repeat(BYTES_MAX)]),
            "10.0.0.1"
        );
        // A hop that is cut is none: 98.51.100.1 would be somebody else.
        let cut = format!("198.51.100.1{},10.0.0.2", " ".repeat(BYTES_MAX - 20));
        assert_eq!(client("10.0.0.1", ProxyHeader::XForwardedFor, &[&cut]), "10.0.0.2");
    }

    /// Bytes that may stand in a header's value, those more often that mean something here.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => prop::sample::select(&b"0123456789.:[]\", ;=\\for"[..]),
            1 => (0x20_u8..=0xff).prop_filter("not a control character", |byte| *byte != 0x7f),
        ];
        let written = prop::sample::select(vec![
            &b"for=10.0.0.2"[..],
            b"10.0.0.2",
            b"6.6.6.6",
            b"for=\"[2001:db8::1]:1\"",
            b", ",
            b",",
            b";",
            b"\"",
        ]);
        let part = prop_oneof![written.prop_map(<[u8]>::to_vec), prop::collection::vec(byte, 0..12)];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_direct_client_is_who_it_is(
            name in prop::sample::select(vec!["x-forwarded-for", "forwarded"]),
            is_forwarded in any::<bool>(),
            lines in prop::collection::vec(line(), 0..5),
            address in any::<IpAddr>(),
        ) {
            let header = if is_forwarded { ProxyHeader::Forwarded } else { ProxyHeader::XForwardedFor };
            let (config, headers) = (config(header), headers(name, &lines));
            let found = client_address(address, &headers, &config);
            if !config.trusts(address.to_canonical()) {
                prop_assert_eq!(found, address.to_canonical());
            }
        }

        /// Whatever a client sends, what its proxy appends decides.
        #[test]
        fn a_client_behind_a_proxy_is_who_the_proxy_says(
            is_forwarded in any::<bool>(),
            is_own_line in any::<bool>(),
            mut lines in prop::collection::vec(line(), 0..4),
            address in any::<IpAddr>(),
            next in prop::bool::ANY,
        ) {
            let header = if is_forwarded { ProxyHeader::Forwarded } else { ProxyHeader::XForwardedFor };
            let config = config(header);
            prop_assume!(!config.trusts(address.to_canonical()));
            let mut appended = match (is_forwarded, address) {
                (false, address) => address.to_string(),
                (true, IpAddr::V4(address)) => format!("for={address};proto=https"),
                (true, IpAddr::V6(address)) => format!("proto=\"h,t;p\";for=\"[{address}]:4711\""),
            };
            if next {
                appended.push_str(if is_forwarded { ", for=10.1.1.1" } else { ", 10.1.1.1" });
            }
            match lines.last_mut() {
                Some(last) if !is_own_line => {
                    last.extend_from_slice(b", ");
                    last.extend_from_slice(appended.as_bytes());
                }
                _ => lines.push(appended.into_bytes()),
            }
            let name = if is_forwarded { "forwarded" } else { "x-forwarded-for" };
            let found = client_address("10.0.0.1".parse().expect("an address"), &headers(name, &lines), &config);
            prop_assert_eq!(found, address.to_canonical());
        }
    }
}
