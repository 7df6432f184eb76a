//! The caller's side: one pooled client for all peers.

use std::{fmt::Write as _, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use thiserror::Error;

use super::{AGE_MS, BUDGET_MS, DIGEST, EPOCH, ERROR, OUTCOME, OWNER_PATH, PING_PATH, REMAINING_MS};
use crate::{
    cluster::Node,
    codec::{base64url_encode, percent_encode},
    error::ErrorCode,
    group::{BoxFuture, ContentKind, Outcome, PeerAnswer, PeerError, PeerRequest, PeerTransport, Value},
};

/// Asks peers over HTTP. Connections are kept and shared.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    value_bytes_max: usize,
}

/// The client can't be built.
#[derive(Debug, Error)]
#[error("the HTTP client for peers can't be built")]
pub struct HttpClientError(#[source] reqwest::Error);

impl HttpTransport {
    /// A client that gives up a connection attempt after `connect_timeout`, and refuses values of more than
    /// `value_bytes_max` bytes.
    ///
    /// # Errors
    /// If the client can't be built.
    pub fn new(connect_timeout: Duration, value_bytes_max: usize) -> Result<Self, HttpClientError> {
        let client = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .retry(reqwest::retry::never())
            .build()
            .map_err(HttpClientError)?;
        Ok(Self { client, value_bytes_max })
    }

    async fn ask(&self, node: &Node, request: &PeerRequest) -> Result<PeerAnswer, PeerError> {
        let asked = self
            .client
            .get(url(node, request))
            .header(EPOCH, request.epoch.to_string())
            .header(BUDGET_MS, request.budget.as_millis().to_string())
            .header(DIGEST, format!("{:016x}", request.digest))
            .timeout(request.budget);
        let response = asked.send().await.map_err(|error| failure(error, request.budget))?;
        let status = response.status();
        if status != 200 && header(response.headers(), OUTCOME).is_none() {
            return Err(refusal(response.headers(), status));
        }
        let answer = head(response.headers())?;
        if status == 404 {
            return Ok(answer);
        }
        let kind = header(response.headers(), http::header::CONTENT_TYPE.as_str())
            .and_then(ContentKind::from_media_type)
            .ok_or_else(|| PeerError::Malformed("its content type is none that a value has".to_owned()))?;
        let bytes = self.body(response, request.budget).await?;
        Ok(PeerAnswer { value: Some(Value::new(bytes, kind)), ..answer })
    }

    async fn body(&self, mut response: reqwest::Response, budget: Duration) -> Result<Bytes, PeerError> {
        let too_large =
            || PeerError::Malformed(format!("its value has more than {} bytes", self.value_bytes_max));
        let announced = response.content_length().unwrap_or(0);
        if announced > self.value_bytes_max as u64 {
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(error, budget))? {
            if bytes.len() + chunk.len() > self.value_bytes_max {
                return Err(too_large());
            }
            if bytes.is_empty() && chunk.len() as u64 == announced {
                return Ok(exact(&chunk));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(exact(&bytes))
    }
}

/// A copy that holds nothing but the value: a chunk is a slice of the connection's whole buffer.
fn exact(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

impl PeerTransport for HttpTransport {
    fn get<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<PeerAnswer, PeerError>> {
        Box::pin(self.ask(node, request))
    }

    fn ping<'a>(&'a self, node: &'a Node, patience: Duration) -> BoxFuture<'a, Result<(), PeerError>> {
        Box::pin(async move {
            let url = format!("http://{}{PING_PATH}", node.address);
            let asked = self.client.get(url).timeout(patience);
            let response = asked.send().await.map_err(|error| failure(error, patience))?;
            match response.status().as_u16() {
                204 => Ok(()),
                _ => Err(refusal(response.headers(), response.status())),
            }
        })
    }
}

fn url(node: &Node, request: &PeerRequest) -> String {
    let key = request.key.as_bytes();
    let mut url = format!("http://{}{OWNER_PATH}{}/", node.address, request.group);
    if matches!(key, b"." | b"..") {
        let _ = write!(url, "?key_b64={}", base64url_encode(key));
    } else {
        percent_encode(key, &mut url);
    }
    url
}

fn failure(error: reqwest::Error, budget: Duration) -> PeerError {
    if error.is_timeout() && !error.is_connect() {
        PeerError::Silent(budget)
    } else {
        // The URL holds the key, which belongs in no log.
        PeerError::unreachable(error.without_url())
    }
}

fn refusal(headers: &HeaderMap, status: http::StatusCode) -> PeerError {
    match header(headers, ERROR).and_then(ErrorCode::from_name) {
        Some(code) => PeerError::Refused(code),
        None => PeerError::Malformed(format!("status {} without a known code", status.as_u16())),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What the headers of a 200 or 404 say; the value itself is still to come.
fn head(headers: &HeaderMap) -> Result<PeerAnswer, PeerError> {
    let text = |name| {
        header(headers, name).ok_or_else(|| PeerError::Malformed(format!("the header {name} is missing")))
    };
    let number = |name| {
        let text = text(name)?;
        text.parse::<u64>().map_err(|_| PeerError::Malformed(format!("the header {name} is no number")))
    };
    let outcome = text(OUTCOME)?
        .parse::<Outcome>()
        .map_err(|_| PeerError::Malformed(format!("the header {OUTCOME} names no outcome")))?;
    let digest = u64::from_str_radix(text(DIGEST)?, 16)
        .map_err(|_| PeerError::Malformed(format!("the header {DIGEST} is no digest")))?;
    Ok(PeerAnswer {
        value: None,
        outcome,
        age: Duration::from_millis(number(AGE_MS)?),
        remaining: Duration::from_millis(number(REMAINING_MS)?),
        digest,
    })
}
