//! The callee's side: what the peer plane answers over HTTP.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use super::{
    super::callee::{Callee, CalleeError},
    AGE_MS, BODY_BYTES_MAX, BUDGET_MS, DIGEST, EPOCH, ERROR, HANDOVER_PATH, INVALIDATE_PATH, OUTCOME,
    OWNER_PATH, PEEK_MANY_PATH, PEEK_PATH, PING_PATH, REMAINING_MS,
    message::{HandoverMessage, InvalidateMessage, PeekManyMessage, PeekedMessage, ms_up},
};
use crate::{
    cluster::ViewCell,
    codec::{base64url_decode, percent_decode},
    error::ErrorCode,
    group::{Groups, PeerAnswer},
    net::Handler,
    problem::Problem,
    telemetry::NodeMetrics,
};

/// Answers other nodes.
#[derive(Clone, Debug)]
pub struct PeerService {
    callee: Callee,
}

impl PeerService {
    /// A service for `groups`. `timeout_max` is the longest budget that a caller is given.
    pub const fn new(
        groups: Arc<Groups>,
        views: Arc<ViewCell>,
        metrics: NodeMetrics,
        timeout_max: Duration,
    ) -> Self {
        Self { callee: Callee::new(groups, views, metrics, timeout_max) }
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Bytes>, CalleeError>
    where
        B: Body<Error: std::error::Error + Send + Sync + 'static>,
    {
        let path = request.uri().path();
        let posted = matches!(path, INVALIDATE_PATH | HANDOVER_PATH | PEEK_MANY_PATH);
        let method = if posted { Method::POST } else { Method::GET };
        if *request.method() != method {
            return Err(CalleeError::new(ErrorCode::MethodNotAllowed, format!("this path answers {method}")));
        }
        if posted {
            let budget = budget(request.headers())?.unwrap_or(Duration::MAX);
            let (parts, body) = request.into_parts();
            let body = self::body(body).await?;
            return match parts.uri.path() {
                HANDOVER_PATH => self.handover(&body, budget).await,
                PEEK_MANY_PATH => self.peek_many(&body),
                _ => self.invalidate(&body, budget),
            };
        }
        if path == PING_PATH {
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        if let Some(target) = path.strip_prefix(PEEK_PATH) {
            let (group, key) = target_of(target, request.uri().query())?;
            return Ok(self.callee.peek(group, &key)?.map_or_else(|| empty(StatusCode::NO_CONTENT), reply));
        }
        let target = path.strip_prefix(OWNER_PATH).ok_or_else(no_route)?;
        let (group, key) = target_of(target, request.uri().query())?;
        let epoch = request.headers().get(EPOCH).and_then(|epoch| epoch.to_str().ok());
        self.callee.get(group, &key, budget(request.headers())?, epoch).await.map(reply)
    }

    fn invalidate(&self, body: &[u8], budget: Duration) -> Result<Response<Bytes>, CalleeError> {
        let message = InvalidateMessage::read(body).map_err(malformed)?;
        let dropped = self.callee.invalidate(&message.into_invalidation(budget).map_err(malformed)?)?;
        Ok(count(dropped))
    }

    fn peek_many(&self, body: &[u8]) -> Result<Response<Bytes>, CalleeError> {
        let (group, keys) =
            PeekManyMessage::read(body).and_then(PeekManyMessage::into_parts).map_err(malformed)?;
        let message = PeekedMessage::new(self.callee.peek_many(group.as_str(), &keys)?);
        let body = serde_json::to_vec(&message)
            .map_err(|error| CalleeError::new(ErrorCode::PeerUnavailable, error.to_string()))?;
        let mut response = Response::new(Bytes::from(body));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response)
    }

    async fn handover(&self, body: &[u8], budget: Duration) -> Result<Response<Bytes>, CalleeError> {
        let message = HandoverMessage::read(body).map_err(malformed)?;
        let kept = self.callee.handover(message.into_handover(budget).map_err(malformed)?).await?;
        Ok(count(kept))
    }
}

impl Handler for PeerService {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Full<Bytes>> {
        self.answer(request)
            .await
            .unwrap_or_else(|error| {
                let mut response = Problem::new(error.code, error.detail).into_response();
                response.headers_mut().insert(ERROR, HeaderValue::from_static(error.code.as_str()));
                if error.code == ErrorCode::MethodNotAllowed {
                    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
                }
                response
            })
            .map(Full::new)
    }
}

fn no_route() -> CalleeError {
    CalleeError::new(
        ErrorCode::RouteNotFound,
        "the peer plane answers /_ggcache/{group}/{key} and /_ggcache.v1/…",
    )
}

fn malformed(detail: String) -> CalleeError {
    CalleeError::new(ErrorCode::BadRequest, detail)
}

/// Group and key of `{group}/{key}`.
fn target_of<'a>(path: &'a str, query: Option<&str>) -> Result<(&'a str, Cow<'a, [u8]>), CalleeError> {
    let (group, key) = path.split_once('/').ok_or_else(no_route)?;
    let key = match query.and_then(|query| query.strip_prefix("key_b64=")) {
        Some(text) if key.is_empty() => Cow::Owned(
            base64url_decode(text.as_bytes()).map_err(|error| malformed(format!("key_b64 is {error}")))?,
        ),
        _ => percent_decode(key.as_bytes()).map_err(|error| malformed(error.to_string()))?,
    };
    Ok((group, key))
}

fn budget(headers: &HeaderMap) -> Result<Option<Duration>, CalleeError> {
    let Some(text) = headers.get(BUDGET_MS) else { return Ok(None) };
    let ms = text.to_str().ok().and_then(|text| text.parse().ok());
    ms.map(|ms| Some(Duration::from_millis(ms)))
        .ok_or_else(|| malformed(format!("{BUDGET_MS} is not a number of milliseconds")))
}

async fn body<B>(body: B) -> Result<Bytes, CalleeError>
where
    B: Body<Error: std::error::Error + Send + Sync + 'static>,
{
    let collected = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_| {
        let detail = format!("the body broke off, or has more than {BODY_BYTES_MAX} bytes");
        CalleeError::new(ErrorCode::TooLarge, detail)
    })?;
    Ok(collected.to_bytes())
}

fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// A number of entries, as text.
fn count(entries: u64) -> Response<Bytes> {
    Response::new(Bytes::from(entries.to_string()))
}

/// A value as 200, an absence as 404.
fn reply(answer: PeerAnswer) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(AGE_MS), ms_up(answer.age).into());
    let remaining = u64::try_from(answer.remaining.as_millis()).unwrap_or(u64::MAX);
    headers.insert(HeaderName::from_static(REMAINING_MS), remaining.into());
    headers.insert(HeaderName::from_static(OUTCOME), HeaderValue::from_static(answer.outcome.as_str()));
    if let Ok(digest) = HeaderValue::try_from(format!("{:016x}", answer.digest)) {
        headers.insert(HeaderName::from_static(DIGEST), digest);
    }
    match answer.value {
        Some(value) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value.kind().media_type()));
            *response.body_mut() = value.bytes().clone();
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
