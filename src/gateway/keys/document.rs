//! How the routes of a key are documented. The functions exist for their attribute: a key is answered without a router,
//! by `Gateway::call`.

use super::{
    super::{openapi::Binary, routes},
    parameters::{GroupInPath, KeyInPath, KeyInQuery, ReadHeaders},
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
    params(GroupInPath, KeyInPath, ReadHeaders),
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
    params(KeyInQuery, ReadHeaders),
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
