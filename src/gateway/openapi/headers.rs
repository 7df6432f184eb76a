//! The headers of answers, each described once, and which answer has which.

use http::{Method, StatusCode};
use utoipa::openapi::{Header, Object, ObjectBuilder, Ref, RefOr, Response, Type, header::HeaderBuilder};

use super::super::routes::{self, Route};

/// Name, description and example of every header that is worth knowing.
const HEADERS: [(&str, &str, &str); 15] = [
    ("Age", "How many seconds ago the load of the value began.", "3"),
    ("Allow", "The methods that the path answers.", "GET, HEAD, OPTIONS"),
    ("Cache-Control", "How caches may keep the answer.", "no-cache"),
    (
        "Cache-Status",
        "How the answer was come by (RFC 9211): a member for each hop, the key's owner first.",
        "localhost:10001; hit; ttl=27",
    ),
    (
        "Content-Security-Policy",
        "What the page may do: nothing elsewhere.",
        "default-src 'none'; script-src 'self'",
    ),
    ("ETag", "The value's strong entity tag.", "\"2c4b2a5d1f0e9a73\""),
    (
        "GGCache-Position",
        "Where in the log of changes the write is, for `GGCache-Min-Position` of a read.",
        "9f2c4b2a5d1f0e9a-1042",
    ),
    ("Location", "Where the page is.", "docs/"),
    ("RateLimit", "What is left of the limit that is nearest (where limits are on).", "\"client\";r=50;t=1"),
    ("RateLimit-Policy", "That limit (where limits are on).", "\"client\";q=100;w=1"),
    ("Retry-After", "After how many seconds to come again.", "1"),
    ("Vary", "The request's headers by which the answer was chosen.", "Accept-Encoding"),
    ("WWW-Authenticate", "How to say who one is.", "Bearer"),
    ("X-Content-Type-Options", "The content is what `Content-Type` says.", "nosniff"),
    ("X-Request-Id", "The request's id, for the log.", "3f1c6a5e9b7d2048"),
];

/// The components that [`add`] refers to.
pub(super) fn components() -> impl Iterator<Item = (String, Header)> {
    HEADERS.into_iter().map(|(name, description, example)| {
        let header = HeaderBuilder::new()
            .schema(Some(schema(name)))
            .description(Some(description))
            .example(Some(if is_number(name) {
                example.parse::<u64>().map_or(example.into(), Into::into)
            } else {
                example.into()
            }))
            .build();
        (name.to_owned(), header)
    })
}

fn schema(name: &str) -> Object {
    let object = if is_number(name) {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0))
    } else {
        ObjectBuilder::new().schema_type(Type::String)
    };
    object.build()
}

fn is_number(name: &str) -> bool {
    matches!(name, "Age" | "Retry-After")
}

/// Names in a response the headers that it has.
pub(super) fn add(response: &mut Response, route: &Route, status: StatusCode) {
    let is_stored = matches!(route.path, routes::OPENAPI | routes::DOCS_PAGE | routes::DOCS_FILE);
    let is_page = matches!(route.path, routes::DOCS | routes::DOCS_PAGE | routes::DOCS_FILE);
    let is_value = matches!(route.path, routes::KEY | routes::KEY_IN_QUERY);
    let writes = is_value && route.methods.contains(&Method::PUT);
    let is_value = is_value && !writes;
    let is_right = !status.is_client_error() && !status.is_server_error();
    let mut names = vec!["X-Request-Id"];
    if writes && status == StatusCode::NO_CONTENT {
        names.extend(["Cache-Control", "GGCache-Position"]);
    }
    if is_value && is_right {
        names.push("Age");
    }
    if is_value && (is_right || status == StatusCode::NOT_FOUND) {
        names.push("Cache-Status");
    }
    if is_right && (is_value || is_stored) {
        names.extend(["ETag", "Cache-Control", "Vary"]);
    }
    if is_right && is_page {
        names.push("Content-Security-Policy");
    }
    if status == StatusCode::OK && (is_value || is_stored) || !is_right {
        names.push("X-Content-Type-Options");
    }
    // What says nothing of it is not to be stored.
    if !is_right || !(is_value || is_stored || status == StatusCode::NO_CONTENT) {
        names.push("Cache-Control");
    }
    // Who may always ask is not counted.
    if !route.is_probe() {
        names.extend(["RateLimit", "RateLimit-Policy"]);
    }
    match status {
        StatusCode::UNAUTHORIZED => names.push("WWW-Authenticate"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => names.push("Retry-After"),
        StatusCode::PERMANENT_REDIRECT => names.push("Location"),
        StatusCode::NO_CONTENT if !writes => names.push("Allow"),
        _ => {}
    }
    for name in names {
        response
            .headers
            .insert(name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))));
    }
}
