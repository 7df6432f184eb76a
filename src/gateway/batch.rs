//! `POST /api/v1/groups/{group}/keys:batchGet`: what is asked and answered. One result for each key, in the order of the
//! keys, so that a client need not look for the one that it means.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use http::HeaderMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{
    GatewayParts, axum_problem,
    etag::EntityTag,
    groups, json_body,
    keys::{GroupInPath, PositionHeader},
    layers::{self, Deadline},
    no_view,
    reply::{ABSENT, NodeReply},
    routed_problem, routes,
    wire_key::WireKey,
    write::min_position,
};
use crate::{
    cluster::ViewCell,
    codec::base64_encode,
    error::ErrorCode,
    group::{Answer, ContentKind, Group, Groups, Key, Outcome, Value},
    problem::{Problem, RequestId},
    time::Moment,
};

/// The most keys that one request names.
pub(super) const KEYS_MAX: usize = 1_000;
/// The largest body, in bytes: as many keys as may be named, at their longest and escaped in some places.
const BODY_BYTES_MAX: usize = 2 << 20;
/// After so many bytes of values the rest is not fetched: an answer is put together in memory.
const VALUES_BYTES_MAX: usize = 8 << 20;
/// Batches that are answered at once; others wait for a place. With [`VALUES_BYTES_MAX`] this bounds what they take of the
/// memory.
const BATCHES_MAX: usize = 32;
/// Keys are waited for until so long before the request's deadline, or a twentieth of the request's time if that is less:
/// a 504 would take those away that are there.
const ROOM_MAX: Duration = Duration::from_millis(50);
const EXPECTED: &str = r#"{"keys": ["a", {"b64": "_w"}]}"#;

pub(super) fn routes(parts: GatewayParts, reply: Arc<NodeReply>) -> Router {
    routes::mount(Router::new(), routes::BATCH_GET, post(batch_get).fallback(layers::wants_post))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Parts {
            groups: parts.groups,
            views: parts.views,
            reply,
            places: Arc::new(Semaphore::new(BATCHES_MAX)),
            room: ROOM_MAX.min(parts.request_timeout / 20),
        })
}

#[derive(Clone)]
pub(super) struct Parts {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    reply: Arc<NodeReply>,
    places: Arc<Semaphore>,
    room: Duration,
}

/// Reads many values at once
///
/// Each owner is asked once, and each database once for what is not in memory. Keys fail one by one: see `error` of
/// each result.
#[utoipa::path(
    post,
    path = routes::BATCH_GET,
    operation_id = "batchGetKeys",
    tag = "keys",
    params(GroupInPath, PositionHeader),
    request_body = BatchRequest,
    responses((
        status = 200,
        description = "One result for each key, in the order of the keys",
        body = BatchResponse,
    ))
)]
pub(super) async fn batch_get(
    State(parts): State<Parts>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let group = match groups::named(&parts.groups, name) {
        Ok(group) => group,
        Err(problem) => return routed_problem(problem),
    };
    let keys = json_body::read(&headers, body, BODY_BYTES_MAX, EXPECTED).and_then(keys);
    let keys = match keys {
        Ok(keys) => keys,
        Err(problem) => return routed_problem(problem),
    };
    let position = match min_position(&headers) {
        Ok(position) => position,
        Err(problem) => return routed_problem(problem),
    };
    if parts.views.is_provisional() {
        return routed_problem(no_view());
    }
    let deadline = deadline - parts.room;
    let Ok(Ok(_place)) = tokio::time::timeout_at(deadline, parts.places.acquire()).await else {
        let detail = format!("{BATCHES_MAX} batches are under way at this node");
        return axum_problem(ErrorCode::Overloaded, detail);
    };
    let answers = match position {
        None => group.get_many(&keys, VALUES_BYTES_MAX, deadline).await,
        Some(position) => group.get_many_at(&keys, position, VALUES_BYTES_MAX, deadline).await,
    };
    let now = group.now();
    let results = keys.iter().zip(answers).map(|(key, answer)| {
        let name = WireKey::from_bytes(key.as_bytes());
        match answer {
            Ok(answer) => match &answer.value {
                Some(value) => BatchResult::found(name, value, BatchFacts::new(&group, &answer, value, now)),
                None => BatchResult::failed(name, Some(answer.outcome), ErrorCode::KeyNotFound, ABSENT),
            },
            Err(error) => {
                let problem = parts.reply.problem(&group, &error, &id);
                BatchResult::failed(name, None, problem.code(), problem.detail())
            }
        }
    });
    Json(BatchResponse { results: results.collect() }).into_response()
}

pub(super) fn keys(body: BatchRequest) -> Result<Vec<Key>, Problem> {
    let bad = |detail: String| Problem::new(ErrorCode::BadRequest, detail);
    match body.keys.len() {
        0 => return Err(bad(format!("there is no key to read; write {EXPECTED}"))),
        1..=KEYS_MAX => {}
        count => {
            let detail = format!("{count} keys, and a request names at most {KEYS_MAX}");
            return Err(Problem::new(ErrorCode::TooLarge, detail));
        }
    }
    let key = |key: WireKey| Key::new(key.into_bytes()?).map_err(|error| error.to_string());
    body.keys.into_iter().map(key).collect::<Result<_, _>>().map_err(bad)
}

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

impl BatchFacts {
    fn new(group: &Group, answer: &Answer, value: &Value, now: Moment) -> Self {
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
