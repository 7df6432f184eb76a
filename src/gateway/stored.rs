//! Answers with what was made once and never changes while the node runs.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    encoding::{accepts_gzip, gzip},
    etag::{self, EntityTag},
    routed_problem,
};
use crate::{error::ErrorCode, problem::Problem};

/// A document in memory, and its entity tag.
#[derive(Debug)]
pub(super) struct Stored {
    bytes: Bytes,
    /// The same in gzip, where that is shorter.
    gzip: Option<Bytes>,
    media_type: HeaderValue,
    tag: u64,
}

impl Stored {
    pub(super) fn new(bytes: impl Into<Bytes>, media_type: &'static str) -> Self {
        let bytes = bytes.into();
        let gzip = gzip(&bytes);
        let tag = xxh3_64(&bytes);
        Self { bytes, gzip, media_type: HeaderValue::from_static(media_type), tag }
    }

    /// The document, 304 to who has it already, or 412 to who means another one.
    pub(super) fn answer(&self, request: &HeaderMap) -> Response {
        if !etag::is_meant(self.tag, request) {
            let detail = "the document has none of the entity tags that If-Match names";
            return routed_problem(Problem::new(ErrorCode::PreconditionFailed, detail));
        }
        let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(request));
        let etag = EntityTag::new(self.tag, gzip.is_some());
        let seen = request.get_all(header::IF_NONE_MATCH).iter();
        let is_fresh = seen.into_iter().any(|seen| etag.is_in(seen.as_bytes()));
        let mut response = Response::new(Body::empty());
        if is_fresh {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *response.body_mut() = Body::from(gzip.unwrap_or(&self.bytes).clone());
            response.headers_mut().insert(header::CONTENT_TYPE, self.media_type.clone());
            if gzip.is_some() {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag.to_header());
        if self.gzip.is_some() {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        // Another version of the program has another.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_document_is_answered_as_its_client_asks() {
        let text = "abcdefghij".repeat(400);
        let stored = Stored::new(text.clone(), "text/plain");
        let ask = async |lines: &[(header::HeaderName, &str)]| {
            let headers =
                lines.iter().map(|(name, line)| (name.clone(), HeaderValue::from_str(line).expect("text")));
            let (head, body) = stored.answer(&headers.collect()).into_parts();
            (head, body.collect().await.expect("a body").to_bytes())
        };
        let (plain, body) = ask(&[]).await;
        assert_eq!((&body[..], plain.headers.get(header::CONTENT_ENCODING)), (text.as_bytes(), None));
        let (head, body) = ask(&[(header::ACCEPT_ENCODING, "gzip")]).await;
        let mut read = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut read).expect("gzip");
        assert_eq!((read, &head.headers["content-encoding"]), (text, &HeaderValue::from_static("gzip")));
        assert_ne!(plain.headers["etag"], head.headers["etag"]);
        assert!([&plain, &head].iter().all(|head| head.headers["vary"] == "accept-encoding"));
        let etag = plain.headers["etag"].to_str().expect("text");
        for (name, line, status) in [
            (header::IF_NONE_MATCH, etag, 304),
            (header::IF_MATCH, etag, 200),
            (header::IF_MATCH, "\"x\"", 412),
            (header::IF_NONE_MATCH, "\"x\"", 200),
        ] {
            assert_eq!(ask(&[(name.clone(), line)]).await.0.status, status, "{name}: {line}");
        }
        let small = Stored::new("a", "text/plain");
        let asked = [(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))].into_iter().collect();
        assert!(!small.answer(&asked).headers().contains_key("vary"));
    }
}
