//! Answers with what was made once and never changes while the node runs.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use xxhash_rust::xxh3::xxh3_64;

use super::etag::EntityTag;

/// A document in memory, and its entity tag.
#[derive(Debug)]
pub(super) struct Stored {
    bytes: Bytes,
    media_type: HeaderValue,
    etag: EntityTag,
}

impl Stored {
    pub(super) fn new(bytes: impl Into<Bytes>, media_type: &'static str) -> Self {
        let bytes = bytes.into();
        let etag = EntityTag::new(xxh3_64(&bytes), false);
        Self { bytes, media_type: HeaderValue::from_static(media_type), etag }
    }

    /// The document, or 304 to who has it already.
    pub(super) fn answer(&self, request: &HeaderMap) -> Response {
        let seen = request.get_all(header::IF_NONE_MATCH).iter();
        let is_fresh = seen.into_iter().any(|seen| self.etag.is_in(seen.as_bytes()));
        let mut response = Response::new(Body::empty());
        if is_fresh {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *response.body_mut() = Body::from(self.bytes.clone());
            response.headers_mut().insert(header::CONTENT_TYPE, self.media_type.clone());
        }
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.to_header());
        // Another version of the program has another.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
