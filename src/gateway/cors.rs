//! Which pages of other origins may read answers in a browser (Fetch standard, "CORS protocol").
//!
//! Off unless `api.cors_origins` names origins. Credentials of a browser (cookies) are never allowed: nothing here reads
//! any; a token is sent by the page's script, in a header that the answer to the preflight admits.

use std::str::FromStr;

use http::{HeaderMap, HeaderValue, header};
use thiserror::Error;

use crate::head::{AnswerHead, RequestHead};

/// An origin that may read answers: `https://app.example`, or `*` for every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigin(String);

/// The text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not an origin")]
pub struct CorsOriginError;

impl FromStr for CorsOrigin {
    type Err = CorsOriginError;

    fn from_str(text: &str) -> Result<Self, CorsOriginError> {
        let is_origin = || {
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
            Some(!host.is_empty() && host.bytes().all(plain))
        };
        if text == "*" || is_origin() == Some(true) {
            Ok(Self(text.to_owned()))
        } else {
            Err(CorsOriginError)
        }
    }
}

impl std::fmt::Display for CorsOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a browser keeps an answer to a preflight for, in seconds: two hours are the most that any does.
static PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("7200");
static METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, DELETE, POST, OPTIONS");
static REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, content-type, ggcache-min-position, if-match, if-none-match, traceparent, \
     x-request-id",
);
static ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "age, allow, cache-status, etag, ggcache-position, ratelimit, ratelimit-policy, retry-after, traceparent, \
     x-request-id",
);

/// The origins of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Cors {
    origins: Vec<CorsOrigin>,
    any: bool,
}

impl Cors {
    pub(super) fn new(origins: &[CorsOrigin]) -> Self {
        Self { any: origins.iter().any(|origin| origin.0 == "*"), origins: origins.to_vec() }
    }

    /// What an answer says of who may read it, for a request with these headers. `None` if nothing.
    pub(super) fn allows(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        if self.any {
            // To who names no origin too: a cache between may keep the answer for one who does.
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.get(header::ORIGIN)?;
        self.origins.iter().any(|allowed| allowed.0.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// Whether answers differ by origin, so that caches have to know.
    pub(super) const fn varies(&self) -> bool {
        !self.origins.is_empty() && !self.any
    }

    /// Whether the request is a browser's question before it sends another one.
    pub(super) fn is_preflight(request: &RequestHead<'_>) -> bool {
        *request.method == http::Method::OPTIONS
            && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Adds to an answer what `allows` has said of it.
    pub(super) fn decorate(allowed: &HeaderValue, is_preflight: bool, head: &mut impl AnswerHead) {
        head.value(&header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if is_preflight {
            head.value(&header::ACCESS_CONTROL_ALLOW_METHODS, &METHODS);
            head.value(&header::ACCESS_CONTROL_ALLOW_HEADERS, &REQUEST_HEADERS);
            head.value(&header::ACCESS_CONTROL_MAX_AGE, &PREFLIGHT_SECONDS);
        } else {
            head.value(&header::ACCESS_CONTROL_EXPOSE_HEADERS, &ANSWER_HEADERS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{PlaneKind, routes_at};

    fn cors(origins: &[&str]) -> Cors {
        Cors::new(&origins.iter().map(|text| text.parse().expect("an origin")).collect::<Vec<_>>())
    }

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn origins_are_read() {
        for good in ["*", "https://app.example", "http://localhost:3000", "http://[::1]:80"] {
            assert_eq!(good.parse::<CorsOrigin>().map(|origin| origin.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "app.example",
            "https://",
            "https://a/b",
            "https://A.example",
            "https://*.a",
            "null",
            "ftp://a",
        ] {
            assert_eq!(bad.parse::<CorsOrigin>(), Err(CorsOriginError), "{bad}");
        }
    }

    #[test]
    fn only_named_origins_are_allowed() {
        let named = cors(&["https://a.example"]);
        assert_eq!(named.allows(&from("https://a.example")).expect("named"), "https://a.example");
        for other in ["https://a.example.evil", "http://a.example", "null", "https://b"] {
            assert_eq!(named.allows(&from(other)), None, "{other}");
        }
        assert_eq!(named.allows(&HeaderMap::new()), None);
        assert!(named.varies() && !cors(&["*"]).varies() && !cors(&[]).varies());
        assert_eq!(cors(&["*"]).allows(&from("null")).expect("all"), "*");
        assert_eq!(cors(&[]).allows(&from("https://a.example")), None);
    }

    #[test]
    fn a_page_may_send_what_the_routes_answer_and_see_what_they_say() {
        let list = |text: &HeaderValue| -> Vec<String> {
            text.to_str().expect("text").split(',').map(|part| part.trim().to_owned()).collect()
        };
        let methods = list(&METHODS);
        for method in routes_at(PlaneKind::Api).flat_map(|route| route.methods) {
            assert!(methods.contains(&method.to_string()), "{method}");
        }
        for name in ["if-match", "if-none-match", "ggcache-min-position"] {
            assert!(list(&REQUEST_HEADERS).contains(&name.to_owned()), "{name}");
        }
        assert!(list(&ANSWER_HEADERS).contains(&"ggcache-position".to_owned()));
    }
}
