//! Every error's body: `application/problem+json` (RFC 9457), on every plane.

use std::{
    borrow::Cow,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use serde::Serialize;

use crate::{
    error::ErrorCode,
    head::{AnswerHead, hex},
};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Names the request in answers and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// 16 hex digits, unique within the cluster for all practical purposes.
    Own(u64),
    /// As the client names it.
    Given(HeaderValue),
}

impl RequestId {
    /// The longest that a client may give, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// A new id: a counter from a random start, spread by an odd constant, so that it costs one atomic step.
    pub fn new() -> Self {
        static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(fastrand::u64(..)));
        Self(Id::Own(NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)))
    }

    /// The id that a client gives: 1 to 128 letters, digits and some marks that mean nothing in a log. `None` for any
    /// other text, in whose place the request gets an id of ours.
    pub fn given(text: &HeaderValue) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte);
        let bytes = text.as_bytes();
        let is_fine = (1..=Self::BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(plain);
        is_fine.then(|| Self(Id::Given(text.clone())))
    }

    /// Sets a field of an answer to it.
    pub fn write(&self, name: &HeaderName, head: &mut impl AnswerHead) {
        match &self.0 {
            Id::Given(text) => head.value(name, text),
            Id::Own(number) => head.text(name, &hex(*number)),
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Id::Own(number) => write!(f, "{number:016x}"),
            // Checked to be text.
            Id::Given(text) => f.write_str(text.to_str().unwrap_or_default()),
        }
    }
}

/// What went wrong with one request.
#[derive(Clone, Debug)]
pub struct Problem {
    code: ErrorCode,
    detail: Cow<'static, str>,
    request: RequestId,
    /// In seconds.
    retry_after: u64,
}

/// Why a request was not answered as it was meant (RFC 9457).
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Wire<'a> {
    /// The code, as a URN.
    #[schema(example = "urn:ggcache:error:key_not_found")]
    r#type: String,
    /// The same for every occurrence of the code.
    #[schema(example = "The group has no such key")]
    title: &'a str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// What programs match on: a name that stays. Later versions have more of them.
    #[schema(example = "key_not_found")]
    code: &'a str,
    /// What is wrong this time, and what would be right.
    #[schema(example = "the database has no row with this key")]
    detail: &'a str,
    /// The request's id, which the log has too.
    #[schema(example = "3f1c6a5e9b7d2048")]
    request_id: String,
}

impl Problem {
    /// A problem with a sentence on this occurrence: what is wrong and what would be right. Never SQL, a DSN
    /// or a value.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), request: RequestId::new(), retry_after: 1 }
    }

    /// The same problem, with the seconds after which to come again, if its code is one that is tried again.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: seconds.max(1), ..self }
    }

    /// The code.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// The sentence on this occurrence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The request's id, for the log.
    pub const fn request_id(&self) -> &RequestId {
        &self.request
    }

    /// The same problem, of the request that is named so.
    #[must_use]
    pub fn with_request(self, request: RequestId) -> Self {
        Self { request, ..self }
    }

    /// The answer that carries this problem.
    pub fn into_response(self) -> Response<Bytes> {
        let wire = Wire {
            r#type: format!("urn:ggcache:error:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.http_status().as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            request_id: self.request.to_string(),
        };
        let body = serde_json::to_vec(&wire).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.code.http_status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code.http_status() == http::StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_what_and_why() {
        let response = Problem::new(ErrorCode::KeyNotFound, "no such key").into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        let body: serde_json::Value = serde_json::from_slice(response.body()).expect("json");
        assert_eq!(body["type"], "urn:ggcache:error:key_not_found");
        assert_eq!(body["code"], "key_not_found");
        assert_eq!(body["status"], 404);
        assert_eq!(body["detail"], "no such key");
        assert_eq!(body["request_id"].as_str().map(str::len), Some(16));
    }

    #[test]
    fn only_a_503_says_when_to_come_back() {
        for code in ErrorCode::ALL {
            let response = Problem::new(code, "").into_response();
            let told = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(told, response.status() == 503, "{}", code.as_str());
        }
    }

    #[test]
    fn ids_differ_and_read_alike_everywhere() {
        let id = RequestId::new();
        assert_ne!(id, RequestId::new());
        let mut response = Response::new(());
        id.write(&header::ETAG, &mut response);
        assert_eq!(response.headers()[header::ETAG], id.to_string());
    }

    #[test]
    fn a_client_s_id_is_taken_if_it_is_plain() {
        let given = |text: &str| RequestId::given(&HeaderValue::from_str(text).expect("a value"));
        let long = "x".repeat(129);
        assert_eq!(given("Root=1-67891233-abcdef").expect("plain").to_string(), "Root=1-67891233-abcdef");
        for bad in ["", "a b", "a\"b", "a{b}", "é", &long] {
            assert_eq!(given(bad), None, "{bad}");
        }
    }
}
