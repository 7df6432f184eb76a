//! `POST /api/v1/groups/{group}/keys:batchGet`: what is asked and answered. One result for each key, in the order of the
//! keys, so that a client need not look for the one that it means.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{keys::GroupInPath, routes, wire_key::WireKey};
use crate::{
    codec::base64_encode,
    error::ErrorCode,
    group::{ContentKind, Outcome, Value},
};

/// The most keys that one request names.
pub(super) const KEYS_MAX: usize = 1_000;

/// Reads many values at once
///
/// Each owner is asked once, and each database once for what is not in memory. Keys fail one by one: see `error` of
/// each result.
#[utoipa::path(
    post,
    path = routes::BATCH_GET,
    operation_id = "batchGetKeys",
    tag = "keys",
    params(GroupInPath),
    request_body = BatchRequest,
    responses((
        status = 200,
        description = "One result for each key, in the order of the keys",
        body = BatchResponse,
    ))
)]
#[expect(dead_code, reason = "nothing answers it yet")]
pub(super) fn batch_get() {}

/// The keys to read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    /// A key that is named twice is answered twice.
    #[schema(min_items = 1, max_items = 1_000)]
    pub(super) keys: Vec<WireKey>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResponse {
    /// As many as keys, and in their order.
    pub(super) results: Vec<BatchResult>,
}

/// One key's value, or why there is none: `value` and what belongs to it, or `error`.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResult {
    key: WireKey,
    /// Where the answer came from, as seen by the node that was asked: `hit`, `hot_hit`, `negative`, `peer` or `load`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, example = "hit")]
    status: Option<&'static str>,
    /// A text, or for `encoding: json` any JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<serde_json::Value>, example = json!("333"))]
    value: Option<BatchValue>,
    /// How the value is written: `text` as it is, `base64` with padding (RFC 4648, section 4), `json` as itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, example = "text")]
    encoding: Option<&'static str>,
    /// The `Content-Type` of the key's own route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "text/plain; charset=utf-8")]
    content_type: Option<String>,
    /// The `ETag` of the key's own route, with its quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "\"2c4b2a5d1f0e9a73\"")]
    etag: Option<String>,
    /// How old the value is at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 3)]
    age_seconds: Option<u64>,
    /// How long the value may still be served from memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 27)]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<BatchError>,
}

/// Why a key has no value.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchError {
    /// As in a problem.
    #[schema(value_type = String, example = "key_not_found")]
    code: &'static str,
    /// What is wrong, for people.
    #[schema(example = "the database has no row with this key")]
    detail: String,
}

/// What is said of a value beside its bytes.
pub(super) struct BatchFacts {
    pub(super) outcome: Outcome,
    pub(super) content_type: String,
    pub(super) etag: String,
    pub(super) age_seconds: u64,
    pub(super) ttl_seconds: u64,
}

impl BatchResult {
    /// A key that has a value.
    pub(super) fn found(key: WireKey, value: &Value, facts: BatchFacts) -> Self {
        let value = BatchValue::new(value);
        Self {
            status: Some(facts.outcome.as_str()),
            encoding: Some(value.encoding()),
            value: Some(value),
            content_type: Some(facts.content_type),
            etag: Some(facts.etag),
            age_seconds: Some(facts.age_seconds),
            ttl_seconds: Some(facts.ttl_seconds),
            ..Self::empty(key)
        }
    }

    /// A key that has none. The status is that of an answer that says so, as a negative entry does.
    pub(super) fn failed(
        key: WireKey,
        outcome: Option<Outcome>,
        code: ErrorCode,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status: outcome.map(Outcome::as_str),
            error: Some(BatchError { code: code.as_str(), detail: detail.into() }),
            ..Self::empty(key)
        }
    }

    const fn empty(key: WireKey) -> Self {
        Self {
            key,
            status: None,
            value: None,
            encoding: None,
            content_type: None,
            etag: None,
            age_seconds: None,
            ttl_seconds: None,
            error: None,
        }
    }
}

/// A value inside of JSON.
enum BatchValue {
    Text(String),
    Base64(String),
    Json(Box<RawValue>),
}

impl BatchValue {
    /// By the value's kind; what is not what its kind says is given as bytes.
    fn new(value: &Value) -> Self {
        let text = || std::str::from_utf8(value.bytes()).ok().map(str::to_owned);
        let written = match value.kind() {
            ContentKind::Text => text().map(Self::Text),
            ContentKind::Json => text().and_then(|text| RawValue::from_string(text).ok()).map(Self::Json),
            ContentKind::Binary => None,
        };
        written.unwrap_or_else(|| Self::Base64(base64_encode(value.bytes())))
    }

    const fn encoding(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Base64(_) => "base64",
            Self::Json(_) => "json",
        }
    }
}

impl Serialize for BatchValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) | Self::Base64(text) => serializer.serialize_str(text),
            Self::Json(json) => json.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> BatchFacts {
        BatchFacts {
            outcome: Outcome::Hit,
            content_type: "text/plain; charset=utf-8".to_owned(),
            etag: "\"ab\"".to_owned(),
            age_seconds: 3,
            ttl_seconds: 27,
        }
    }

    #[test]
    fn keys_are_text_or_bytes() {
        let request: BatchRequest = serde_json::from_str(r#"{"keys": ["a", {"b64": "_w"}]}"#).expect("right");
        let keys: Vec<_> = request.keys.into_iter().map(|key| key.into_bytes().expect("base64url")).collect();
        assert_eq!(keys, [b"a".as_slice(), b"\xff"]);
        for wrong in
            [r#"{}"#, r#"{"keys": [1]}"#, r#"{"keys": [{"b64": "a", "c": 1}]}"#, r#"{"keys": [], "a": 1}"#]
        {
            assert!(serde_json::from_str::<BatchRequest>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_result_has_a_value_or_an_error() {
        let results = vec![
            BatchResult::found(WireKey::from_bytes(b"a"), &Value::text("333"), facts()),
            BatchResult::failed(
                WireKey::from_bytes(b"\xff"),
                Some(Outcome::Negative),
                ErrorCode::KeyNotFound,
                "none",
            ),
        ];
        let written = serde_json::to_value(BatchResponse { results }).expect("JSON");
        let expected = json!({"results": [
            {
                "key": "a", "status": "hit", "value": "333", "encoding": "text", "etag": "\"ab\"",
                "content_type": "text/plain; charset=utf-8", "age_seconds": 3, "ttl_seconds": 27,
            },
            {"key": {"b64": "_w"}, "status": "negative", "error": {"code": "key_not_found", "detail": "none"}},
        ]});
        assert_eq!(written, expected);
    }

    #[test]
    fn values_are_written_as_what_they_are() {
        for (bytes, kind, encoding, written) in [
            (b"a\"b".as_slice(), ContentKind::Text, "text", r#""a\"b""#),
            (b"\xff\0", ContentKind::Binary, "base64", r#""/wA=""#),
            // As it was: a number is not read and written again.
            (br#"{"a": 1.10}"#, ContentKind::Json, "json", r#"{"a": 1.10}"#),
            // A kind that is wrong spoils neither the answer nor the value.
            (b"\xff", ContentKind::Text, "base64", r#""/w==""#),
            (b"{", ContentKind::Json, "base64", r#""ew==""#),
        ] {
            let value = BatchValue::new(&Value::new(bytes.to_vec(), kind));
            assert_eq!(
                (value.encoding(), &*serde_json::to_string(&value).expect("JSON")),
                (encoding, written)
            );
        }
    }
}
