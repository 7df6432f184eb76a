//! The caller's side: one pooled client for all peers.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{RequestBuilder, Response, Url};
use thiserror::Error;

use super::{
    super::{
        gate::FROM,
        resolve::{PeerResolver, check_host},
        sealed::Sealing,
        tls::PeerTls,
    },
    AGE_MS, BATCH_PATH, BUDGET_MS, CURSOR, DIGEST, EPOCH, ERROR, FRESH, HANDOVER_PATH, INVALIDATE_PATH, NEED,
    OUTCOME, OWNER_PATH, PEEK_MANY_PATH, PEEK_PATH, PING_PATH, REMAINING_MS,
    frame::{self, ANSWER_BYTES_MAX},
    message::{ANSWER_ROOM, HandoverMessage, InvalidateMessage, PeekManyMessage, PeekedMessage},
};
use crate::{
    access::{Head, SEAL, Sealer},
    cluster::Node,
    codec::{base64url_encode, percent_encode},
    error::ErrorCode,
    group::{
        BoxFuture, ContentKind, HANDOVER_KEYS_MAX, Handover, Invalidation, Outcome, PEEKED_BYTES_MAX,
        PeekMany, PeerAnswer, PeerBatch, PeerError, PeerRequest, PeerTransport, PeerWord, Value,
    },
    net::Dialler,
    telemetry::trace::TRACEPARENT,
};

/// Asks peers over HTTP. Connections are kept and shared.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    /// `http` or `https`.
    scheme: &'static str,
    /// This node's name, where there is TLS to prove it.
    from: Option<HeaderValue>,
    value_bytes_max: usize,
    sealing: Arc<Sealing>,
}

/// The client can't be built.
#[derive(Debug, Error)]
#[error("the HTTP client for peers can't be built")]
pub struct HttpClientError(#[source] reqwest::Error);

impl HttpTransport {
    /// A client that gives up a connection attempt after `connect_timeout`, and refuses values of more than
    /// `value_bytes_max` bytes. It speaks TLS if it is told how.
    ///
    /// # Errors
    /// If the client can't be built.
    pub fn new(
        connect_timeout: Duration,
        value_bytes_max: usize,
        tls: Option<PeerTls>,
    ) -> Result<Self, HttpClientError> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (dialler, from) = match tls {
            Some(PeerTls { dialler, from }) => (dialler, Some(from)),
            None => (Dialler::nobody(), None),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(dialler.http1())
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .dns_resolver(PeerResolver)
            .pool_idle_timeout(Duration::from_secs(30))
            .retry(reqwest::retry::never())
            .build()
            .map_err(HttpClientError)?;
        Ok(Self { client, scheme, from, value_bytes_max, sealing: Arc::default() })
    }

    /// Seals every request, if there is something to seal it with.
    pub fn sealing(self, sealer: Option<Arc<Sealer>>) -> Self {
        Self { sealing: Sealing::new(sealer), ..self }
    }

    /// A request to a peer. The URL is looked at after it was read, since some numbers are addresses for it: `0xa9fe0101`.
    fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, PeerError> {
        let url = Url::parse(url).map_err(PeerError::unreachable)?;
        check_host(url.host_str().unwrap_or_default()).map_err(PeerError::unreachable)?;
        let request = self.client.request(method, url);
        // Not a default of the client's: the seal covers what is in the request.
        Ok(match &self.from {
            Some(from) => request.header(FROM, from),
            None => request,
        })
    }

    /// Sends a request to `node`, sealed if the nodes share a secret.
    async fn execute(
        &self,
        node: &Node,
        request: RequestBuilder,
        budget: Duration,
    ) -> Result<Response, PeerError> {
        let failed = |error| failure(error, budget);
        if !self.sealing.is_on() {
            return request.send().await.map_err(failed);
        }
        let mut request = request.build().map_err(failed)?;
        let url = request.url();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let head = Head { method: request.method().as_str(), target: &target, headers: request.headers() };
        let body = request.body().and_then(reqwest::Body::as_bytes);
        if let Some(seal) = self.sealing.seal(&head, body, node.address.as_str()) {
            request.headers_mut().insert(SEAL, seal);
        }
        self.client.execute(request).await.map_err(failed)
    }

    /// What an answer says that is none.
    fn refusal(&self, node: &Node, response: &Response) -> PeerError {
        let error = refusal(response.headers(), response.status());
        self.sealing.note(node, &error);
        error
    }

    fn url(&self, node: &Node, path: &str, request: &PeerRequest) -> String {
        let key = request.key.as_bytes();
        let mut url = format!("{}://{}{path}{}/", self.scheme, node.address, request.group);
        if matches!(key, b"." | b"..") {
            let _ = write!(url, "?key_b64={}", base64url_encode(key));
        } else {
            percent_encode(key, &mut url);
        }
        url
    }

    /// Asks under `path`; `None` if the node has nothing in memory, which only a peek is told.
    async fn ask(
        &self,
        node: &Node,
        path: &str,
        request: &PeerRequest,
    ) -> Result<Option<PeerAnswer>, PeerError> {
        let mut asked = self
            .request(Method::GET, &self.url(node, path, request))?
            .header(EPOCH, request.epoch.to_string())
            .header(BUDGET_MS, request.budget.as_millis().to_string())
            .header(DIGEST, format!("{:016x}", request.digest))
            .timeout(request.budget);
        if request.is_fresh {
            asked = asked.header(FRESH, "1");
        }
        if let Some(need) = request.need {
            asked = asked.header(NEED, need.to_string());
        }
        if let Some(trace) = request.trace {
            asked = asked.header(TRACEPARENT, trace.to_string());
        }
        let response = self.execute(node, asked, request.budget).await?;
        let status = response.status();
        if status == 204 {
            return Ok(None);
        }
        if status != 200 && header(response.headers(), OUTCOME).is_none() {
            return Err(self.refusal(node, &response));
        }
        let answer = head(response.headers())?;
        if status == 404 {
            return Ok(Some(answer));
        }
        let kind = header(response.headers(), http::header::CONTENT_TYPE.as_str())
            .and_then(ContentKind::from_media_type)
            .ok_or_else(|| PeerError::Unknown("its content type is none that a value has".to_owned()))?;
        let bytes = body(response, self.value_bytes_max, request.budget).await?;
        Ok(Some(PeerAnswer { value: Some(Value::new(bytes, kind)), ..answer }))
    }

    /// Posts a message; the number that comes back.
    async fn post(
        &self,
        node: &Node,
        path: &str,
        message: &impl serde::Serialize,
        budget: Duration,
    ) -> Result<u64, PeerError> {
        let text = self.exchange(node, path, message, self.value_bytes_max, budget).await?;
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| PeerError::Malformed("its answer is no number".to_owned()))
    }

    /// Posts a message; what comes back, of at most `bytes_max` bytes.
    async fn exchange(
        &self,
        node: &Node,
        path: &str,
        message: &impl serde::Serialize,
        bytes_max: usize,
        budget: Duration,
    ) -> Result<Bytes, PeerError> {
        let body = serde_json::to_vec(message).map_err(|error| PeerError::Malformed(error.to_string()))?;
        self.send(node, path, "application/json", body, bytes_max, budget).await
    }

    async fn send(
        &self,
        node: &Node,
        path: &str,
        media_type: &'static str,
        body: Vec<u8>,
        bytes_max: usize,
        budget: Duration,
    ) -> Result<Bytes, PeerError> {
        let asked = self
            .request(Method::POST, &format!("{}://{}{path}", self.scheme, node.address))?
            .header(BUDGET_MS, budget.as_millis().to_string())
            .header(http::header::CONTENT_TYPE, media_type)
            .body(body)
            .timeout(budget);
        let response = self.execute(node, asked, budget).await?;
        if response.status() != 200 {
            return Err(self.refusal(node, &response));
        }
        self::body(response, bytes_max, budget).await
    }
}

async fn body(mut response: Response, bytes_max: usize, budget: Duration) -> Result<Bytes, PeerError> {
    // The node is well: in a change of the limits, its own may be the higher one for a while.
    let too_large = PeerError::Refused(ErrorCode::TooLarge);
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_large);
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(error, budget))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(too_large);
        }
        if bytes.is_empty() && chunk.len() as u64 == announced {
            return Ok(exact(&chunk));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(exact(&bytes))
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
        Box::pin(async move {
            let answer = self.ask(node, OWNER_PATH, request).await?;
            answer.ok_or_else(|| PeerError::Malformed("it answered a read as if it were a peek".to_owned()))
        })
    }

    fn get_many<'a>(
        &'a self,
        node: &'a Node,
        batch: &'a PeerBatch,
    ) -> BoxFuture<'a, Result<Vec<PeerWord>, PeerError>> {
        Box::pin(async move {
            let bytes_max = self
                .value_bytes_max
                .max(PEEKED_BYTES_MAX)
                .saturating_add(ANSWER_BYTES_MAX * (HANDOVER_KEYS_MAX + 1));
            let message = frame::write_batch(batch);
            let media_type = "application/octet-stream";
            let sent = self.send(node, BATCH_PATH, media_type, message, bytes_max, batch.budget).await;
            let body = sent.map_err(|error| match error {
                // What an older version says of a path that it does not know.
                PeerError::Refused(ErrorCode::MethodNotAllowed) => {
                    PeerError::Refused(ErrorCode::RouteNotFound)
                }
                error => error,
            })?;
            frame::read_words(&body, self.value_bytes_max)
        })
    }

    fn peek<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<Option<PeerAnswer>, PeerError>> {
        Box::pin(self.ask(node, PEEK_PATH, request))
    }

    fn peek_many<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeekMany,
    ) -> BoxFuture<'a, Result<Vec<Option<PeerAnswer>>, PeerError>> {
        Box::pin(async move {
            let message = PeekManyMessage::from(request);
            // One value may be as large as values are, and base64 takes four bytes for three.
            let values = self.value_bytes_max.max(PEEKED_BYTES_MAX);
            let bytes_max = values / 3 * 4 + ANSWER_ROOM * (HANDOVER_KEYS_MAX + 1);
            let body = self.exchange(node, PEEK_MANY_PATH, &message, bytes_max, request.budget).await?;
            PeekedMessage::read(&body).map_err(PeerError::Malformed)
        })
    }

    fn invalidate<'a>(
        &'a self,
        node: &'a Node,
        invalidation: &'a Invalidation,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        Box::pin(async move {
            let message = InvalidateMessage::from(invalidation);
            self.post(node, INVALIDATE_PATH, &message, invalidation.budget).await
        })
    }

    fn handover<'a>(
        &'a self,
        node: &'a Node,
        handover: &'a Handover,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        Box::pin(async move {
            let message = HandoverMessage::from(handover);
            self.post(node, HANDOVER_PATH, &message, handover.budget).await
        })
    }

    fn ping<'a>(&'a self, node: &'a Node, patience: Duration) -> BoxFuture<'a, Result<(), PeerError>> {
        Box::pin(async move {
            let url = format!("{}://{}{PING_PATH}", self.scheme, node.address);
            let asked = self.request(Method::GET, &url)?.timeout(patience);
            let response = self.execute(node, asked, patience).await?;
            match response.status().as_u16() {
                204 => Ok(()),
                _ => Err(self.refusal(node, &response)),
            }
        })
    }
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
    let status = status.as_u16();
    match header(headers, ERROR).map(ErrorCode::from_name) {
        Some(Some(code)) => PeerError::Refused(code),
        Some(None) => PeerError::Unknown(format!("status {status} with a code of its own")),
        None => PeerError::Malformed(format!("status {status} without a code")),
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
        .map_err(|_| PeerError::Unknown(format!("the header {OUTCOME} names no outcome")))?;
    let digest = u64::from_str_radix(text(DIGEST)?, 16)
        .map_err(|_| PeerError::Malformed(format!("the header {DIGEST} is no digest")))?;
    let cursor = header(headers, CURSOR).map(str::parse).transpose();
    Ok(PeerAnswer {
        value: None,
        outcome,
        age: Duration::from_millis(number(AGE_MS)?),
        remaining: Duration::from_millis(number(REMAINING_MS)?),
        digest,
        cursor: cursor.map_err(|error| PeerError::Malformed(format!("the header {CURSOR} is {error}")))?,
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_newer_node_s_code_is_an_answer_and_a_strange_server_s_is_none() {
        let error = refusal(&headers(&[(ERROR, "code_of_tomorrow")]), StatusCode::CONFLICT);
        assert!(matches!(error, PeerError::Unknown(_)) && error.is_answer(), "{error:?}");
        assert_eq!(error.final_code(), None, "another node may do better");
        let error = refusal(&headers(&[(ERROR, "origin_busy")]), StatusCode::CONFLICT);
        assert!(matches!(error, PeerError::Refused(ErrorCode::OriginBusy)), "the code says more: {error:?}");
        let error = refusal(&headers(&[]), StatusCode::BAD_GATEWAY);
        assert!(matches!(error, PeerError::Malformed(_)) && !error.is_answer(), "{error:?}");
    }

    #[test]
    fn an_outcome_of_a_newer_version_is_not_guessed() {
        let told = [(DIGEST, "1"), (AGE_MS, "0"), (REMAINING_MS, "1000")];
        let with = |outcome| headers(&[&told[..], &[(OUTCOME, outcome)]].concat());
        assert_eq!(head(&with("hit")).expect("well formed").outcome, Outcome::Hit);
        let error = head(&with("outcome_of_tomorrow")).expect_err("unknown");
        assert!(matches!(error, PeerError::Unknown(_)), "{error:?}");
        let error = head(&headers(&told)).expect_err("no node says so");
        assert!(matches!(error, PeerError::Malformed(_)), "{error:?}");
    }
}
