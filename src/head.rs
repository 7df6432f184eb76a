//! Heads of requests and answers, wherever they come from and go to: a library's types, or the bytes of a connection.
//!
//! What looks at a request's head takes a [`RequestHead`], and what tells something in an answer's writes it to an
//! [`AnswerHead`]: so the quick way of a hit and all others share every rule.

use std::net::Ipv6Addr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
    uri::Authority,
};

/// What a request says before its body.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host in the target, if it names one.
    pub authority: Option<&'a Authority>,
    /// The target's path, as it was sent.
    pub path: &'a str,
    /// The target's query, without its question mark.
    pub query: Option<&'a str>,
    /// The fields.
    pub headers: &'a HeaderMap,
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    fn from(request: &'a Request<B>) -> Self {
        let uri = request.uri();
        Self {
            method: request.method(),
            authority: uri.authority(),
            path: uri.path(),
            query: uri.query(),
            headers: request.headers(),
        }
    }
}

/// Whether fields name one host, as they must in HTTP/1.1 (RFC 9112, section 3.2). An empty name is one.
pub fn names_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    is_host(host.as_bytes())
}

/// Whether a request names its host as its version of HTTP has it: before 1.1 it need not, and in 2 the target may (RFC
/// 9113, section 8.3.1), which then says the same.
pub fn names_its_host<B>(request: &Request<B>) -> bool {
    let (headers, target) = (request.headers(), request.uri().authority());
    match (headers.get(header::HOST), request.version()) {
        (None, version) => version != Version::HTTP_11,
        (Some(host), Version::HTTP_2) => {
            let is_same =
                |target: &Authority| host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes());
            names_one_host(headers) && target.is_none_or(is_same)
        }
        (Some(_), _) => names_one_host(headers),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2).
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let Ok(address) = std::str::from_utf8(&rest[..end]) else { return false };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (&b""[..], &rest[end + 1..])
        }
        None => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    let is_port =
        port.is_empty() || port.strip_prefix(b":").is_some_and(|port| port.iter().all(u8::is_ascii_digit));
    name.iter().all(is_of_name) && is_port
}

/// The head of an answer in the making.
pub trait AnswerHead {
    /// How it went. Comes first, where it is said.
    fn status(&mut self, status: StatusCode);
    /// Sets a field.
    fn fixed(&mut self, name: &HeaderName, value: &'static str);
    /// Sets a field to a text, which MUST be visible ASCII.
    fn text(&mut self, name: &HeaderName, value: &[u8]);
    /// Sets a field.
    fn value(&mut self, name: &HeaderName, value: &HeaderValue);
    /// Adds a line to a field that may have some.
    fn also(&mut self, name: &HeaderName, value: &'static str);

    /// Sets a field to a number.
    fn number(&mut self, name: &HeaderName, value: u64) {
        let mut digits = [0; DIGITS_MAX];
        self.text(name, decimal(value, &mut digits));
    }
}

impl<B> AnswerHead for Response<B> {
    fn status(&mut self, status: StatusCode) {
        *self.status_mut() = status;
    }

    fn fixed(&mut self, name: &HeaderName, value: &'static str) {
        self.headers_mut().insert(name.clone(), HeaderValue::from_static(value));
    }

    fn text(&mut self, name: &HeaderName, value: &[u8]) {
        let value = HeaderValue::from_bytes(value);
        debug_assert!(value.is_ok(), "{name} is visible ASCII");
        if let Ok(value) = value {
            self.headers_mut().insert(name.clone(), value);
        }
    }

    fn value(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.headers_mut().insert(name.clone(), value.clone());
    }

    fn also(&mut self, name: &HeaderName, value: &'static str) {
        self.headers_mut().append(name.clone(), HeaderValue::from_static(value));
    }
}

/// The digits of the largest number.
pub const DIGITS_MAX: usize = 20;

/// A number in decimal digits, at the end of `digits`.
pub fn decimal(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// A number in 16 hex digits.
pub fn hex(number: u64) -> [u8; 16] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| HEX[(number >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; DIGITS_MAX]), number.to_string().as_bytes());
            assert_eq!(hex(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let named = |hosts: &[&'static str]| {
            names_one_host(&hosts.iter().fold(HeaderMap::new(), |mut headers, host| {
                headers.append(header::HOST, HeaderValue::from_static(host));
                headers
            }))
        };
        for right in ["", "a", "a.example:80", "127.0.0.1", "[::1]:80", "a_b", "xn--4ca"] {
            assert!(named(&[right]), "{right}");
        }
        for wrong in [
            "a b", "a/b", "http://a", "a@b", "a,b c", "[::1", "a?b", "a#b", "a:b", "a:1:2", "::1", "[zz]",
            "[::1]x", "[]",
        ] {
            assert!(!named(&[wrong]), "{wrong}");
        }
        assert!(!named(&[]) && !named(&["a", "a"]));
    }

    #[test]
    fn a_host_is_named_as_its_version_has_it() {
        let named = |version, target: &str, hosts: &[&'static str]| {
            let mut request = Request::builder().version(version).uri(target).body(()).expect("a request");
            for host in hosts {
                request.headers_mut().append(header::HOST, HeaderValue::from_static(host));
            }
            names_its_host(&request)
        };
        assert!(named(Version::HTTP_10, "/", &[]) && named(Version::HTTP_10, "/", &["a"]));
        assert!(!named(Version::HTTP_10, "/", &["a", "a"]) && !named(Version::HTTP_10, "/", &["a b"]));
        assert!(!named(Version::HTTP_11, "/", &[]) && named(Version::HTTP_11, "http://b/", &["a"]));
        assert!(
            named(Version::HTTP_2, "http://a:1/", &[]) && named(Version::HTTP_2, "http://a:1/", &["A:1"])
        );
        assert!(
            !named(Version::HTTP_2, "http://a/", &["b"]) && !named(Version::HTTP_2, "http://a/", &["a", "a"])
        );
    }

    #[test]
    fn a_response_takes_what_is_told() {
        let mut response = Response::new(());
        AnswerHead::status(&mut response, StatusCode::NOT_FOUND);
        response.number(&header::AGE, 12);
        response.fixed(&header::VARY, "a");
        response.also(&header::VARY, "b");
        response.text(&header::ETAG, b"\"1\"");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["age"]),
            (404, &"12".parse().expect("text"))
        );
        assert_eq!(response.headers().get_all("vary").iter().count(), 2);
        assert_eq!(response.headers()["etag"], "\"1\"");
    }
}
