//! Asks a node's api plane over HTTP/1.1.

use std::{fmt::Write as _, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;

use super::{BuildError, Endpoint, Fetched, error::Failure, token::Authorization, wire::Wire};
use crate::{
    codec::{base64url_encode, percent_encode},
    error::ErrorCode,
    group::{BoxFuture, GroupName, Key},
    net::Dialler,
};

/// The largest problem that is read, in bytes. A node's is far smaller.
const PROBLEM_BYTES_MAX: usize = 64 << 10;
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// One pool of connections to all nodes.
#[derive(Clone, Debug)]
pub(super) struct HttpClient {
    client: reqwest::Client,
    value_bytes_max: usize,
}

impl HttpClient {
    pub(super) fn new(
        connect_timeout: Duration,
        value_bytes_max: usize,
        dialler: &Dialler,
        token: Option<&Authorization>,
    ) -> Result<Self, BuildError> {
        let token = token.map(|token| (header::AUTHORIZATION, token.value().clone()));
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(dialler.http1())
            .default_headers(HeaderMap::from_iter(token))
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            // Less than a node's idle timeout, so that a connection is rarely closed under a request.
            .pool_idle_timeout(Duration::from_secs(30))
            .retry(reqwest::retry::never())
            .user_agent(concat!("ggcache/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(BuildError::Http)?;
        Ok(Self { client, value_bytes_max })
    }

    pub(super) fn wire(&self, endpoint: &Endpoint) -> HttpWire {
        HttpWire { http: self.clone(), endpoint: endpoint.clone() }
    }
}

/// One node's api plane.
#[derive(Debug)]
pub(super) struct HttpWire {
    http: HttpClient,
    endpoint: Endpoint,
}

/// The part of a node's error that is for programs (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
}

impl HttpWire {
    async fn ask(&self, group: &GroupName, key: &Key) -> Result<Option<Fetched>, Failure> {
        let asked = self.http.client.get(url(&self.endpoint, group, key)).send().await;
        let response = asked.map_err(|error| self.unreachable(error))?;
        if response.status() != StatusCode::OK {
            return self.refused(response).await;
        }
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (content_type, etag) = (text(header::CONTENT_TYPE), text(header::ETAG));
        let cache_status = text(CACHE_STATUS);
        let limit = self.http.value_bytes_max;
        let bytes = self
            .body(response, limit)
            .await?
            .ok_or_else(|| Failure::TooLarge(self.endpoint.clone(), limit))?;
        let node = self.endpoint.clone();
        Ok(Some(Fetched { bytes, content_type, etag, cache_status, node, attempts: 1 }))
    }

    /// An absence, or why there is no answer.
    async fn refused(&self, response: reqwest::Response) -> Result<Option<Fetched>, Failure> {
        let status = response.status();
        let body = self.body(response, PROBLEM_BYTES_MAX).await?;
        let problem = body.and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        let code = problem.as_ref().and_then(|problem| ErrorCode::from_name(&problem.code));
        match (code, problem) {
            (Some(ErrorCode::KeyNotFound), _) => Ok(None),
            (Some(code), Some(problem)) if code.http_status() == status => {
                Err(Failure::Refused(self.endpoint.clone(), code, problem.detail))
            }
            // Newer nodes may have codes that this version does not know; the status tells whether to try again.
            _ => Err(Failure::Status(self.endpoint.clone(), status.as_u16())),
        }
    }

    /// The body, unless it is larger than `limit`.
    async fn body(&self, mut response: reqwest::Response, limit: usize) -> Result<Option<Bytes>, Failure> {
        let announced = response.content_length().unwrap_or(0);
        if announced > limit as u64 {
            return Ok(None);
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if bytes.len() + chunk.len() > limit {
                return Ok(None);
            }
            if bytes.is_empty() && chunk.len() as u64 == announced {
                return Ok(Some(chunk));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.freeze()))
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        // The URL holds the key, which belongs in no log.
        Failure::unconnected(self.endpoint.clone(), error.without_url())
    }
}

impl Wire for HttpWire {
    fn get<'a>(
        &'a self,
        group: &'a GroupName,
        key: &'a Key,
        _: Duration,
    ) -> BoxFuture<'a, Result<Option<Fetched>, Failure>> {
        Box::pin(self.ask(group, key))
    }
}

/// The key as a resource. URL libraries fold the segments `.` and `..` away, so that those two go into the query.
fn url(endpoint: &Endpoint, group: &GroupName, key: &Key) -> String {
    let mut url = format!("{endpoint}/api");
    // Writing to a string does not fail.
    let _ = match key.as_bytes() {
        key @ (b"." | b"..") => write!(url, "?group={group}&key_b64={}", base64url_encode(key)),
        key => {
            let written = write!(url, "/v1/groups/{group}/keys/");
            percent_encode(key, &mut url);
            written
        }
    };
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_survives_the_url_library() {
        let endpoint: Endpoint = "http://h:1".parse().expect("valid");
        let group = GroupName::new("g").expect("valid");
        for (key, target) in [
            (b"a".as_slice(), "/api/v1/groups/g/keys/a"),
            (b".", "/api?group=g&key_b64=Lg"),
            (b"..", "/api?group=g&key_b64=Li4"),
            (b"a/../b", "/api/v1/groups/g/keys/a%2F..%2Fb"),
            (b"a b+c?#", "/api/v1/groups/g/keys/a%20b%2Bc%3F%23"),
            (b"\xff\0", "/api/v1/groups/g/keys/%FF%00"),
        ] {
            let written = url(&endpoint, &group, &Key::new(key).expect("valid"));
            assert_eq!(written, format!("http://h:1{target}"));
            assert_eq!(reqwest::Url::parse(&written).expect("a URL").as_str(), written);
        }
    }
}
