//! Who may speak to the operators' plane through a browser: nobody from another page.
//!
//! A page of any origin can have a browser send requests to an address of its user's machine or network. Where the page
//! names that address by a host name of its own (DNS rebinding), the browser even shows it the answer; the `Host` header
//! tells. Where it does not, the answer stays hidden, but the request is sent; `Origin` and `Sec-Fetch-Site` tell.

use std::net::IpAddr;

use http::{HeaderMap, Method, header, uri::Authority};

use crate::head::RequestHead;

/// The names by which a plane may be called, beside IP addresses and `localhost`. An address is safe: whoever controls
/// one needs no name.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// What is wrong with it, for who sent it.
    pub(super) fn check(&self, request: &RequestHead<'_>) -> Result<(), &'static str> {
        let headers = request.headers;
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next(), request.authority) {
            // In HTTP/2 it is a part of the target.
            (None, None, Some(authority)) => authority.clone(),
            (Some(host), None, _) => host
                .to_str()
                .ok()
                .and_then(|host| host.parse::<Authority>().ok())
                .ok_or("the Host header is malformed")?,
            _ => return Err("the request names no host, or several"),
        };
        // Who names two of them, one in the target, is believed in neither alone.
        let target = request.authority.map_or(host.host(), Authority::host);
        if !self.is_known(host.host()) || !self.is_known(target) {
            return Err(
                "this plane is called by its address, localhost or a name in admin.hosts; the Host header has another name",
            );
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.as_bytes();
            let rest = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            if rest.is_none_or(|rest| !rest.eq_ignore_ascii_case(host.as_str().as_bytes())) {
                return Err("the request comes from a page of another origin");
            }
        }
        match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
            // `none` is the user's own doing: a typed address, a bookmark.
            None | Some(b"same-origin" | b"none") => Ok(()),
            // A link that was followed shows the page to the user and nothing to where it came from.
            Some(_) if is_followed_link(request.method, headers) => Ok(()),
            Some(_) => Err("the request comes from a page of another site"),
        }
    }

    fn is_known(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let lower = host.to_ascii_lowercase();
        bare.parse::<IpAddr>().is_ok()
            || lower == "localhost"
            || lower.ends_with(".localhost")
            || self.0.contains(&lower)
    }
}

fn is_followed_link(method: &Method, headers: &HeaderMap) -> bool {
    method.is_safe() && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Request};

    use super::*;

    fn check(headers: &[(&'static str, &'static str)]) -> bool {
        checked(Method::GET, headers)
    }

    fn checked(method: Method, headers: &[(&'static str, &'static str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/metrics").body(()).expect("a request");
        request.headers_mut().extend(
            headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
        );
        // `extend` by pairs of names replaces, so that a name given twice is appended.
        if let [(first, _), (second, value)] = headers
            && first == second
        {
            request.headers_mut().append(*second, HeaderValue::from_static(value));
        }
        Hosts::new(["Ops.example".to_owned()]).check(&RequestHead::from(&request)).is_ok()
    }

    #[test]
    fn a_host_is_an_address_or_a_known_name() {
        for good in [
            "127.0.0.1:11001",
            "localhost:1",
            "LOCALHOST",
            "[::1]:80",
            "10.0.0.7",
            "ops.example:80",
            "n1.localhost",
        ] {
            assert!(check(&[("host", good)]), "{good}");
        }
        for bad in [
            "evil.example:11001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a b",
            "ops.example.evil",
        ] {
            assert!(!check(&[("host", bad)]), "{bad}");
        }
        assert!(!check(&[]) && !check(&[("host", "localhost"), ("host", "localhost")]));
    }

    #[test]
    fn pages_of_others_are_refused() {
        let host = ("host", "localhost:11001");
        assert!(check(&[host, ("origin", "http://localhost:11001")]));
        for origin in ["http://localhost:8000", "https://evil.example", "null", ""] {
            assert!(!check(&[host, ("origin", origin)]), "{origin}");
        }
        for (site, fine) in
            [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false)]
        {
            assert_eq!(check(&[host, ("sec-fetch-site", site)]), fine, "{site}");
        }
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert!(check(&link) && !checked(Method::POST, &link), "a form of another page");
    }
}
