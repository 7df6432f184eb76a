//! Which route answers which problems, and an example of each.
//!
//! The matches name every code, so that a new one does not compile until it is said where it belongs.

use http::Method;
use serde_json::Value as Json;

use super::super::{
    reply,
    routes::{self, Route},
};
use crate::{error::ErrorCode, problem::Problem};

/// Whether a route may answer with a code. A 404 for what is no route, and a 405, are no route's answers.
pub(super) fn may_answer(route: &Route, code: ErrorCode) -> bool {
    let is_value = matches!(route.path, routes::KEY | routes::KEY_IN_QUERY);
    let is_stored = matches!(route.path, routes::OPENAPI | routes::DOCS_PAGE | routes::DOCS_FILE);
    let reloads = route.path == routes::RELOAD;
    let writes = is_value && route.methods.contains(&Method::PUT);
    let reads_body = route.methods.contains(&Method::POST) && !reloads;
    match code {
        ErrorCode::BadRequest => is_value || reads_body || reloads || route.path == routes::OWNER,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => route.scope.is_some(),
        ErrorCode::RateLimited => !route.is_probe(),
        ErrorCode::KeyNotFound => is_value,
        ErrorCode::NotCached => is_value && !writes,
        ErrorCode::PreconditionFailed => is_value || is_stored,
        ErrorCode::Conflict => writes,
        ErrorCode::GroupNotFound => is_value || route.path == routes::OWNER || route.path.contains("{group}"),
        ErrorCode::RouteNotFound => route.path == routes::DOCS_FILE,
        // A group that is not writable.
        ErrorCode::MethodNotAllowed => writes,
        ErrorCode::UnsupportedMediaType => reads_body || writes,
        ErrorCode::TooLarge => is_value || reads_body,
        ErrorCode::OriginUnavailable | ErrorCode::OriginBusy => is_value,
        ErrorCode::PeerUnavailable => is_value || reads_body,
        ErrorCode::ShuttingDown => is_value || reads_body || reloads || route.path == routes::READYZ,
        // The limits around all routes.
        ErrorCode::Overloaded | ErrorCode::DeadlineExceeded => true,
    }
}

/// A problem with this code, as it is answered.
pub(super) fn example(code: ErrorCode) -> Json {
    let body = Problem::new(code, detail(code)).into_response().into_body();
    let mut example: Json = serde_json::from_slice(&body).unwrap_or_default();
    // One that stays.
    example["request_id"] = "3f1c6a5e9b7d2048".into();
    example
}

const fn detail(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "the query names no key; write ?key=… or ?key_b64=…",
        ErrorCode::Unauthenticated => "this needs a token; send the header authorization: Bearer …",
        ErrorCode::Forbidden => "the token does not allow this",
        ErrorCode::RateLimited => "the client's limit of 100/s is used up; try again in 1 s",
        ErrorCode::NotCached => reply::NOT_CACHED,
        ErrorCode::KeyNotFound => reply::ABSENT,
        ErrorCode::GroupNotFound => "there is no group of that name; there are: scores",
        ErrorCode::RouteNotFound => "the documentation is at /docs/",
        ErrorCode::MethodNotAllowed => "a key answers GET, HEAD and OPTIONS; the group is not writable",
        ErrorCode::PreconditionFailed => "the value is not what the request's condition asks for",
        ErrorCode::Conflict => "the database does not accept the row",
        ErrorCode::UnsupportedMediaType => {
            "the body is JSON, and must say so; send the header content-type: application/json"
        }
        ErrorCode::TooLarge => "10001 keys, and a request names at most 10000",
        ErrorCode::Overloaded => "1024 requests are under way on this plane",
        ErrorCode::OriginUnavailable => "the database could not answer; its error is in this node's log",
        ErrorCode::OriginBusy => "the group's budget of queries is used up",
        ErrorCode::PeerUnavailable => "the node is starting, and does not know the other nodes yet",
        ErrorCode::DeadlineExceeded => "no answer within 2s",
        ErrorCode::ShuttingDown => "the node is stopping",
    }
}
