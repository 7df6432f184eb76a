//! `/docs/`: a page on which the OpenAPI document can be read and tried, with nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    body::Body,
    extract::{Path, rejection::PathRejection},
    response::Response,
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa_swagger_ui::Config;

use super::{axum_problem, openapi::Binary, routes, stored::Stored};
use crate::error::ErrorCode;

/// What the page consists of. The package has more, among it pages with scripts inside.
const FILES: [(&str, &str); 8] = [
    (PAGE, "text/html; charset=utf-8"),
    ("index.css", "text/css; charset=utf-8"),
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("swagger-ui-standalone-preset.js", "text/javascript; charset=utf-8"),
    ("swagger-initializer.js", "text/javascript; charset=utf-8"),
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
];
const PAGE: &str = "index.html";
/// The page's scripts are files of its own, and ask this node only. Its styles are set by scripts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

static STORED: LazyLock<Vec<(&str, Stored)>> = LazyLock::new(|| {
    // Relative, so that the page works below a proxy's prefix too; and nobody is asked to validate the document.
    let config = Config::from("../openapi.json")
        .use_base_layout()
        .validator_url("none")
        .deep_linking(true)
        .display_operation_id(true)
        .display_request_duration(true);
    let config = Arc::new(config);
    let file = |(name, media_type)| {
        let file = utoipa_swagger_ui::serve(name, Arc::clone(&config)).ok().flatten()?;
        Some((name, Stored::new(file.bytes.into_owned(), media_type)))
    };
    FILES.into_iter().filter_map(file).collect()
});

pub(super) fn routes() -> Router {
    let router = routes::mount(Router::new(), routes::DOCS, get(redirect));
    let router = routes::mount(router, routes::DOCS_PAGE, get(page));
    routes::mount(router, routes::DOCS_FILE, get(file))
}

/// The documentation's place
#[utoipa::path(
    get,
    path = routes::DOCS,
    operation_id = "getDocs",
    tag = "documentation",
    responses((status = 308, description = "The page is at `/docs/`"))
)]
pub(super) async fn redirect() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    // Relative: whoever stands in front may have put a prefix before it.
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("docs/"));
    guarded(response)
}

/// This document as a page
///
/// It can be read and tried there; it loads nothing from elsewhere.
#[utoipa::path(
    get,
    path = routes::DOCS_PAGE,
    operation_id = "getDocsPage",
    tag = "documentation",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The client has the page already"),
    )
)]
pub(super) async fn page(headers: HeaderMap) -> Response {
    answer(PAGE, &headers)
}

/// A part of the page
#[utoipa::path(
    get,
    path = routes::DOCS_FILE,
    operation_id = "getDocsFile",
    tag = "documentation",
    params(("file" = String, Path, description = "The part's name.", example = "index.css")),
    responses(
        (status = 200, description = "The part", content(
            (String = "text/html"),
            (String = "text/css"),
            (String = "text/javascript"),
            (inline(Binary) = "image/png"),
        )),
        (status = 304, description = "The client has the part already"),
    )
)]
pub(super) async fn file(headers: HeaderMap, name: Result<Path<String>, PathRejection>) -> Response {
    name.map_or_else(|_| nothing(), |Path(name)| answer(&name, &headers))
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    STORED
        .iter()
        .find(|(file, _)| *file == name)
        .map_or_else(nothing, |(_, file)| guarded(file.answer(headers)))
}

fn nothing() -> Response {
    axum_problem(ErrorCode::RouteNotFound, "the documentation is at /docs/")
}

fn guarded(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, etag: Option<&HeaderValue>) -> (http::response::Parts, String) {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        if let Some(etag) = etag {
            request.headers_mut().insert(header::IF_NONE_MATCH, etag.clone());
        }
        let (head, body) = routes().oneshot(request).await.expect("never fails").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn the_page_has_all_that_it_asks_for_and_no_script_inside() {
        let (head, page) = ask("/docs/", None).await;
        assert_eq!(
            (head.status.as_u16(), &head.headers["content-security-policy"]),
            (200, &HeaderValue::from_static(POLICY))
        );
        for script in page.split("<script").skip(1) {
            assert!(script.trim_start().starts_with("src=\""), "{script}");
            assert!(
                script.split_once('>').is_some_and(|(_, rest)| rest.trim_start().starts_with("</script>")),
                "{script}"
            );
        }
        let named: Vec<_> = page
            .split(['"', '\''])
            .filter(|text| [".js", ".css", ".png"].iter().any(|end| text.ends_with(end)))
            .collect();
        assert!(named.len() >= 6, "{page}");
        for name in named {
            let (head, body) = ask(&format!("/docs/{}", name.trim_start_matches("./")), None).await;
            assert!(head.status == 200 && !body.is_empty(), "{name}");
            assert_eq!(head.headers["x-content-type-options"], "nosniff");
            let (again, body) =
                ask(&format!("/docs/{}", name.trim_start_matches("./")), Some(&head.headers["etag"])).await;
            assert!(again.status == 304 && body.is_empty(), "{name}");
        }
        let (_, script) = ask("/docs/swagger-initializer.js", None).await;
        assert!(script.contains("\"../openapi.json\"") && !script.contains("{{"), "{script}");
    }

    #[tokio::test]
    async fn other_names_lead_elsewhere_or_nowhere() {
        let (head, _) = ask("/docs", None).await;
        assert_eq!(
            (head.status.as_u16(), &head.headers["location"]),
            (308, &HeaderValue::from_static("docs/"))
        );
        for path in ["/docs/oauth2-redirect.html", "/docs/%2e%2e", "/docs/%ff", "/docs/embed.rs"] {
            assert_eq!(ask(path, None).await.0.status, 404, "{path}");
        }
    }
}
