//! `POST /api/v1/groups/{group}/keys:batchGet`: what is asked and answered. One result for each key, in the order of the
//! keys, so that a client need not look for the one that it means.

mod result;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    response::Response,
    routing::post,
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tokio::{sync::Semaphore, time::Instant};
use utoipa::ToSchema;

use super::{
    GatewayParts, axum_problem,
    directives::Directives,
    groups, json_body,
    keys::{GroupInPath, PositionHeader, ReadDirectives},
    layers::{self, Deadline},
    no_view,
    read::Read,
    reply::{ABSENT, NOT_CACHED, NodeReply},
    routed_problem, routes,
    wire_key::WireKey,
    write::min_position,
};
pub(super) use result::{BatchFacts, BatchResponse, BatchResult};
use written::{Written, bounded};

use crate::{
    cluster::ViewCell,
    error::ErrorCode,
    group::{Answer, GetError, Group, Groups, Key, Position, Value},
    problem::{Problem, RequestId},
};

/// The most keys that one request names.
pub(super) const KEYS_MAX: usize = 1_000;
/// The largest body, in bytes: as many keys as may be named, at their longest and escaped in some places.
const BODY_BYTES_MAX: usize = 2 << 20;
/// After so many bytes of values the rest is not fetched, nor written: an answer is put together in memory.
const VALUES_BYTES_MAX: usize = 8 << 20;
/// Batches that are read at once; others wait for a place. With [`VALUES_BYTES_MAX`] this bounds what they hold of values.
const BATCHES_MAX: usize = 32;
/// What answers may take until their clients have taken them, in KiB. A client may read as slowly as it likes.
const ANSWERS_KIB_MAX: usize = 256 << 10;
/// Keys of a request with directives that are asked for at once: each on its own, since they say how each is to be
/// answered.
const DIRECTED_MAX: usize = 64;
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
            answers: Arc::new(Semaphore::new(ANSWERS_KIB_MAX)),
            room: ROOM_MAX.min(parts.request_timeout / 20),
        })
}

#[derive(Clone)]
pub(super) struct Parts {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    reply: Arc<NodeReply>,
    places: Arc<Semaphore>,
    answers: Arc<Semaphore>,
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
    params(GroupInPath, ReadDirectives, PositionHeader),
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
    let directives = Directives::read(&headers).allowed_by(&group);
    let landings = match position {
        _ if directives != Directives::default() => {
            directed(&group, &keys, directives, position, deadline).await
        }
        None => found(group.get_many(&keys, VALUES_BYTES_MAX, deadline).await),
        Some(position) => found(group.get_many_at(&keys, position, VALUES_BYTES_MAX, deadline).await),
    };
    let (landings, bytes) = bounded(&keys, landings);
    // One that is larger than all others may be takes their place.
    let kib = u32::try_from(bytes.div_ceil(1024).min(ANSWERS_KIB_MAX)).unwrap_or(u32::MAX);
    let place = Arc::clone(&parts.answers).acquire_many_owned(kib);
    let Ok(Ok(place)) = tokio::time::timeout_at(deadline, place).await else {
        let detail =
            "answers to batches that their clients have not read yet take all the memory that they may";
        return axum_problem(ErrorCode::Overloaded, detail);
    };
    let now = group.now();
    let result = |(key, landing): (&Key, Landing)| {
        let name = WireKey::from_bytes(key.as_bytes());
        match landing {
            Ok(Some(answer)) => match &answer.value {
                Some(value) => BatchResult::found(name, value, BatchFacts::new(&group, &answer, value, now)),
                None => BatchResult::failed(name, Some(answer.outcome), ErrorCode::KeyNotFound, ABSENT),
            },
            Ok(None) => BatchResult::failed(name, None, ErrorCode::NotCached, NOT_CACHED),
            Err(error) => {
                let problem = parts.reply.problem(&group, &error, &id);
                BatchResult::failed(name, None, problem.code(), problem.detail())
            }
        }
    };
    let written = Written::new(keys.iter().zip(landings).map(result), bytes, place);
    let mut response = Response::new(Body::from(Bytes::from_owner(written)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A key's answer; `None` if it is to come from memory and is not there.
type Landing = Result<Option<Answer>, GetError>;

fn found(answers: Vec<Result<Answer, GetError>>) -> Vec<Landing> {
    answers.into_iter().map(|answer| answer.map(Some)).collect()
}

/// Reads each key as its own route would with these directives; one that is named twice once.
async fn directed(
    group: &Arc<Group>,
    keys: &[Key],
    directives: Directives,
    min_position: Option<Position>,
    deadline: Instant,
) -> Vec<Landing> {
    let different: BTreeSet<Key> = keys.iter().cloned().collect();
    let one = |key: Key| {
        let key = key.as_bytes().into();
        let read = Read { group: Arc::clone(group), key, directives, min_position };
        async move {
            match read.cached() {
                Some(answer) => Ok(Some(answer)),
                None => read.answer(deadline).await,
            }
        }
    };
    let mut reads = stream::iter(different.clone()).map(one).buffered(DIRECTED_MAX);
    let (mut landings, mut bytes) = (BTreeMap::new(), 0);
    for key in &different {
        // What is not asked for any more is not waited for either.
        let landing = if bytes > VALUES_BYTES_MAX { None } else { reads.next().await };
        let landing = landing.unwrap_or(Err(GetError::TooLargeTogether(VALUES_BYTES_MAX)));
        bytes += value_of(&landing).map_or(0, |value| value.bytes().len());
        landings.insert(key, landing);
    }
    drop(reads);
    keys.iter().filter_map(|key| landings.get(key).cloned()).collect()
}

fn value_of(landing: &Landing) -> Option<&Value> {
    landing.as_ref().ok()?.as_ref()?.value.as_ref()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_or_bytes() {
        let request: BatchRequest = serde_json::from_str(r#"{"keys": ["a", {"b64": "_w"}]}"#).expect("right");
        let keys: Vec<_> = request.keys.into_iter().map(|key| key.into_bytes().expect("base64url")).collect();
        assert_eq!(keys, [b"a".as_slice(), b"\xff"]);
        for wrong in [
            r#"{}"#,
            r#"{"keys": [1]}"#,
            r#"{"keys": [["_w"]]}"#,
            r#"{"keys": [{}]}"#,
            r#"{"keys": [{"b64": "a", "c": 1}]}"#,
            r#"{"keys": [], "a": 1}"#,
        ] {
            assert!(serde_json::from_str::<BatchRequest>(wrong).is_err(), "{wrong}");
        }
    }
}
