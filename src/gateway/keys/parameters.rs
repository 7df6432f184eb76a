//! What names a key in a request, and what else a reader may say: for the document only, since requests are read by
//! `target.rs`.

use utoipa::IntoParams;

/// A group's name in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct GroupInPath {
    /// The group's name.
    #[param(pattern = "^[a-z][a-z0-9_]{0,62}$", example = "scores")]
    group: String,
}

/// A key in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct KeyInPath {
    /// The key: 1 to 1,024 bytes of anything, percent-encoded. A slash is encoded too (`%2F`); one that is not is taken
    /// for itself. The keys `.` and `..` are folded away by most programs, even encoded: ask for them by `/api`.
    #[param(min_length = 1, max_length = 1024, example = "anna")]
    key: String,
}

/// A key in a query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct KeyInQuery {
    /// The key: 1 to 1,024 bytes of anything, percent-encoded; `+` is a space. Either this or `key_b64` is given.
    #[param(nullable = false, min_length = 1, max_length = 1024, example = "anna")]
    key: Option<String>,
    /// The key in base64url (RFC 4648, section 5), with or without padding, in place of `key`.
    #[param(nullable = false, min_length = 2, max_length = 1368)]
    key_b64: Option<String>,
    /// The group's name. It may be left out where there is one group only, or a `default_group` is configured.
    #[param(nullable = false, pattern = "^[a-z][a-z0-9_]{0,62}$", example = "scores")]
    group: Option<String>,
}

/// What a reader may ask of caches.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct ReadHeaders {
    /// Entity tags, or `*` for any value: a value that has none of them is not answered, but a 412.
    #[param(rename = "If-Match", nullable = false, example = "\"2c4b2a5d1f0e9a73\"")]
    if_match: Option<String>,
    /// Entity tags of values that the client has: if one of them is still right, the answer is a 304.
    #[param(rename = "If-None-Match", nullable = false, example = "\"2c4b2a5d1f0e9a73\"")]
    if_none_match: Option<String>,
    /// `no-cache`: not from memory, the database is asked. `only-if-cached`: from memory, or not at all.
    #[param(rename = "Cache-Control", nullable = false, example = "no-cache")]
    cache_control: Option<String>,
}

/// How a reader of many keys wants each to be answered.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct ReadDirectives {
    /// `no-cache`: not from memory, the database is asked. `only-if-cached`: from memory, or not at all; a key that is
    /// not there has the error `not_cached`.
    #[param(rename = "Cache-Control", nullable = false, example = "no-cache")]
    cache_control: Option<String>,
}

/// What a reader has seen already, or written.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct PositionHeader {
    /// What a write answered as `GGCache-Position`: the answer is no older than that.
    #[param(
        rename = "GGCache-Min-Position",
        nullable = false,
        pattern = "^[0-9a-fA-F]{16}-[0-9]{1,19}$",
        example = "9f2c4b2a5d1f0e9a-1042"
    )]
    min_position: Option<String>,
}

/// What a writer may ask of the present value.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by its derive")]
pub(in super::super) struct WriteHeaders {
    /// Entity tags, or `*` for any value: written only if the present value has one of them.
    #[param(rename = "If-Match", nullable = false, example = "\"2c4b2a5d1f0e9a73\"")]
    if_match: Option<String>,
    /// Entity tags, or `*` for any value: written only if the present value has none of them.
    #[param(rename = "If-None-Match", nullable = false, example = "*")]
    if_none_match: Option<String>,
}
