//! The OpenAPI document of a plane: made from the handlers' attributes and the types that they answer with, and completed
//! by what is the same everywhere (problems, headers, HEAD and OPTIONS), from the table of routes.

mod complete;
mod headers;
mod problems;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{Router, response::Response, routing::get};
use http::HeaderMap;
use utoipa::{OpenApi, ToSchema};

use super::{
    PlaneKind, admin, batch, cluster, docs, groups, health, invalidate, keys, reload, routes, stored::Stored,
};

const ABOUT: &str = "\
A read-through cache cluster in front of a SQL database. Ask any node for a key of a group: it answers from memory, and \
the database is asked only when it must be, once, however many ask.

- A key is 1 to 1,024 bytes of anything, percent-encoded.
- Every answer has an `X-Request-Id`, which the node's log has too. `traceparent` is taken up and passed on.
- Every path answers OPTIONS with 204 and `Allow`; another method is a 405 with `Allow` and the problem \
`method_not_allowed`, another path a 404 with `route_not_found`.
- Every error is a `Problem`. Match on its `code`; 429 and 503 say in `Retry-After` when to come again. Only what is \
refused before there is a request (a malformed or oversized head) has no body.
- Where the node asks for tokens, send one as `Authorization: Bearer …`. What a token must allow is said at each route.";

/// What both planes answer.
#[derive(OpenApi)]
#[openapi(
    info(title = "ggcache", description = ABOUT, license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    servers((url = "/", description = "The node that this document is from")),
    tags(
        (name = "keys", description = "Values: reading and writing them, and dropping them from memory"),
        (name = "groups", description = "What is cached, and how"),
        (name = "cluster", description = "Nodes, and what each owns"),
        (name = "operation", description = "For balancers and operators"),
        (name = "documentation", description = "This document"),
        (name = "options", description = "What a path answers"),
    ),
    paths(
        keys::document::get_key,
        keys::document::get_key_by_query,
        keys::document::put_key,
        keys::document::delete_key,
        keys::document::put_key_by_query,
        keys::document::delete_key_by_query,
        batch::batch_get,
        invalidate::invalidate,
        groups::list,
        groups::one,
        cluster::cluster,
        cluster::owner,
        health::livez,
        health::readyz,
        openapi,
        docs::redirect,
        docs::page,
        docs::file,
    ),
)]
struct Public;

/// Any bytes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(super) struct Binary(Vec<u8>);

/// What only the admin plane answers.
#[derive(OpenApi)]
#[openapi(paths(admin::metrics, admin::config, reload::call))]
struct Operators;

/// The OpenAPI document of a plane, for people too: indented, and in an order that stays.
pub fn document(plane: PlaneKind) -> String {
    let mut document = Public::openapi();
    if plane == PlaneKind::Admin {
        document.merge(Operators::openapi());
    }
    complete::complete(&mut document, plane);
    // There are no maps in it whose keys are no strings, which is all that could fail.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

pub(super) fn routes(plane: PlaneKind) -> Router {
    let stored = Arc::new(Stored::new(document(plane), "application/json"));
    let answer = move |headers: HeaderMap| openapi(Arc::clone(&stored), headers);
    routes::mount(Router::new(), routes::OPENAPI, get(answer)).merge(docs::routes())
}

/// This document
#[utoipa::path(
    get,
    path = routes::OPENAPI,
    operation_id = "getOpenApi",
    tag = "documentation",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = serde_json::Value),
        (status = 304, description = "The client has the document already"),
    )
)]
#[expect(clippy::unused_async, reason = "a handler is")]
async fn openapi(stored: Arc<Stored>, headers: HeaderMap) -> Response {
    stored.answer(&headers)
}
