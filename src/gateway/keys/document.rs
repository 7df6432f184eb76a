//! How the routes of a key are documented. The functions exist for their attribute: a key is answered without a router,
//! by `Gateway::call`.

use super::{
    super::{openapi::Binary, routes},
    parameters::{GroupInPath, KeyInPath, KeyInQuery, PositionHeader, ReadHeaders, WriteHeaders},
};

/// Reads a value
///
/// From memory where it can be, else from the database, once, however many ask. One value column is its own text or
/// bytes; several are a JSON object. A group may name another content type.
#[utoipa::path(
    get,
    path = routes::KEY,
    operation_id = "getKey",
    tag = "keys",
    params(GroupInPath, KeyInPath, ReadHeaders, PositionHeader),
    responses(
        (status = 200, description = "The value", content(
            (inline(Binary) = "application/octet-stream"),
            (String = "text/plain", example = "333"),
            (serde_json::Value = "application/json", example = json!({"score": 333})),
        )),
        (status = 304, description = "The client has the value already"),
    )
)]
#[expect(dead_code, reason = "it exists for its attribute")]
pub(in super::super) fn get_key() {}

/// Reads a value, by a query
///
/// As by the key's own path, for keys that can't be in a path, and for short commands. `/api/` is the same.
#[utoipa::path(
    get,
    path = routes::KEY_IN_QUERY,
    operation_id = "getKeyByQuery",
    tag = "keys",
    params(KeyInQuery, ReadHeaders, PositionHeader),
    responses(
        (status = 200, description = "The value", content(
            (inline(Binary) = "application/octet-stream"),
            (String = "text/plain", example = "333"),
            (serde_json::Value = "application/json", example = json!({"score": 333})),
        )),
        (status = 304, description = "The client has the value already"),
    )
)]
#[expect(dead_code, reason = "it exists for its attribute")]
pub(in super::super) fn get_key_by_query() {}

/// Writes a value to the database
///
/// In a group that is writable. One value column is its own text or bytes; several are a JSON object with all of
/// them. The answer comes when the database has committed; `GGCache-Position` names it in the log of changes, for
/// `GGCache-Min-Position` of a read at any node.
#[utoipa::path(
    put,
    path = routes::KEY,
    operation_id = "putKey",
    tag = "keys",
    params(GroupInPath, KeyInPath, WriteHeaders),
    request_body(description = "The value, as it would be read", content(
        (inline(Binary) = "application/octet-stream"),
        (String = "text/plain", example = "334"),
        (serde_json::Value = "application/json", example = json!({"score": 334})),
    )),
    responses((status = 204, description = "Written, and every node hears of it"))
)]
#[expect(dead_code, reason = "it exists for its attribute")]
pub(in super::super) fn put_key() {}

/// Removes a key from the database
///
/// In a group that is writable. As with PUT, the answer's `GGCache-Position` is for reads that must see it.
#[utoipa::path(
    delete,
    path = routes::KEY,
    operation_id = "deleteKey",
    tag = "keys",
    params(GroupInPath, KeyInPath, WriteHeaders),
    responses((status = 204, description = "Removed, and every node hears of it"))
)]
#[expect(dead_code, reason = "it exists for its attribute")]
pub(in super::super) fn delete_key() {}

/// Writes a value to the database, by a query
///
/// As by the key's own path, for keys that can't be in a path, and for short commands. `/api/` is the same.
#[utoipa::path(
    put,
    path = routes::KEY_IN_QUERY,
    operation_id = "putKeyByQuery",
    tag = "keys",
    params(KeyInQuery, WriteHeaders),
    request_body(description = "The value, as it would be read", content(
        (inline(Binary) = "application/octet-stream"),
        (String = "text/plain", example = "334"),
        (serde_json::Value = "application/json", example = json!({"score": 334})),
    )),
    responses((status = 204, description = "Written, and every node hears of it"))
)]
#[expect(dead_code, reason = "it exists for its attribute")]
pub(in super::super) fn put_key_by_query() {}

/// Removes a key from the database, by a query
///
/// As by the key's own path, for keys that can't be in a path, and for short commands. `/api/` is the same.
#[utoipa::path(
    delete,
    path = routes::KEY_IN_QUERY,
    operation_id = "deleteKeyByQuery",
    tag = "keys",
    params(KeyInQuery, WriteHeaders),
    responses((status = 204, description = "Removed, and every node hears of it"))
)]
#[expect(dead_code, reason = "it exists for its attribute")]
pub(in super::super) fn delete_key_by_query() {}
