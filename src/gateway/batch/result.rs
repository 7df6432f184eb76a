//! What a batch answers of each key, as JSON.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::{etag::EntityTag, wire_key::WireKey};
use crate::{
    codec::base64_encode,
    error::ErrorCode,
    group::{Answer, ContentKind, Group, Outcome, Value},
    time::Moment,
};

/// What was found.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct BatchResponse {
    /// As many as keys, and in their order.
    pub(in super::super) results: Vec<BatchResult>,
}

/// One key's value, or why there is none: `value` and what belongs to it, or `error`.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct BatchResult {
    key: WireKey,
    /// Where the answer came from, as seen by the node that was asked: `hit`, `hot_hit`, `stale`, `negative`, `peer` or
    /// `load`.
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
pub(in super::super) struct BatchError {
    /// As in a problem.
    #[schema(value_type = String, example = "key_not_found")]
    code: &'static str,
    /// What is wrong, for people.
    #[schema(example = "the database has no row with this key")]
    detail: String,
}

/// What is said of a value beside its bytes.
pub(in super::super) struct BatchFacts {
    pub(in super::super) outcome: Outcome,
    pub(in super::super) content_type: String,
    pub(in super::super) etag: String,
    pub(in super::super) age_seconds: u64,
    pub(in super::super) ttl_seconds: u64,
}

impl BatchFacts {
    pub(super) fn new(group: &Group, answer: &Answer, value: &Value, now: Moment) -> Self {
        let config = group.config();
        let own = config.content_type.as_deref();
        let etag = EntityTag::new(value.tag(), false);
        Self {
            outcome: answer.outcome,
            content_type: own.unwrap_or(value.kind().media_type()).to_owned(),
            etag: etag.as_str().to_owned(),
            age_seconds: answer.age(now).as_secs(),
            ttl_seconds: answer.remaining(now).as_secs(),
        }
    }
}

impl BatchResult {
    /// A key that has a value.
    pub(in super::super) fn found(key: WireKey, value: &Value, facts: BatchFacts) -> Self {
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
    pub(in super::super) fn failed(
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
