//! The callee's side: what the peer plane answers.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{AGE_MS, BUDGET_MS, DIGEST, EPOCH, ERROR, OUTCOME, OWNER_PATH, PING_PATH, REMAINING_MS};
use crate::{
    cluster::ViewCell,
    codec::{base64url_decode, percent_decode},
    error::ErrorCode,
    group::{Answer, Group, Groups, check_key},
    net::Handler,
    problem::Problem,
    telemetry::{NodeMetrics, field},
};

/// Answers other nodes.
#[derive(Clone, Debug)]
pub struct PeerService {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    metrics: NodeMetrics,
    /// The longest budget that a caller is given.
    timeout_max: Duration,
}

impl PeerService {
    /// A service for `groups`.
    pub const fn new(
        groups: Arc<Groups>,
        views: Arc<ViewCell>,
        metrics: NodeMetrics,
        timeout_max: Duration,
    ) -> Self {
        Self { groups, views, metrics, timeout_max }
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Bytes>, Problem> {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET) {
            return Err(Problem::new(ErrorCode::MethodNotAllowed, "the peer plane answers GET"));
        }
        if path == PING_PATH {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let (group, key) = self.target(path, request.uri().query())?;
        let budget = self.budget(request.headers())?;
        self.note_epoch(request.headers());
        match group.get_as_owner(&key, Instant::now() + budget).await {
            Ok(answer) => Ok(reply(group, answer)),
            Err(error) => {
                tracing::debug!(
                    { field::GROUP } = %group.name(),
                    error = &error as &dyn std::error::Error,
                    "a peer's request failed"
                );
                Err(Problem::new(error.code(), error.to_string()))
            }
        }
    }

    fn target<'a>(
        &self,
        path: &'a str,
        query: Option<&str>,
    ) -> Result<(&Arc<Group>, Cow<'a, [u8]>), Problem> {
        let (group, key) =
            path.strip_prefix(OWNER_PATH).and_then(|rest| rest.split_once('/')).ok_or_else(|| {
                Problem::new(ErrorCode::RouteNotFound, "the peer plane answers /_ggcache/{group}/{key}")
            })?;
        let group = self
            .groups
            .get(group)
            .ok_or_else(|| Problem::new(ErrorCode::GroupNotFound, "this node has no group of that name"))?;
        let key = match query.and_then(|query| query.strip_prefix("key_b64=")) {
            Some(text) if key.is_empty() => Cow::Owned(
                base64url_decode(text.as_bytes())
                    .map_err(|error| Problem::new(ErrorCode::BadRequest, format!("key_b64 is {error}")))?,
            ),
            _ => percent_decode(key.as_bytes())
                .map_err(|error| Problem::new(ErrorCode::BadRequest, error.to_string()))?,
        };
        check_key(&key).map_err(|error| Problem::new(ErrorCode::BadRequest, error.to_string()))?;
        Ok((group, key))
    }

    fn budget(&self, headers: &HeaderMap) -> Result<Duration, Problem> {
        let Some(text) = headers.get(BUDGET_MS) else { return Ok(self.timeout_max) };
        let ms = text.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            Problem::new(ErrorCode::BadRequest, format!("{BUDGET_MS} is not a number of milliseconds"))
        })?;
        Ok(Duration::from_millis(ms).min(self.timeout_max))
    }

    /// Views may differ for moments; that it happened helps who looks for why a key was loaded twice.
    fn note_epoch(&self, headers: &HeaderMap) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let mine = self.views.load().epoch().to_string();
        if let Some(theirs) = headers.get(EPOCH).and_then(|epoch| epoch.to_str().ok())
            && theirs != mine
        {
            tracing::debug!({ field::RING_EPOCH } = mine, theirs, "a peer has another view");
        }
    }
}

impl Handler for PeerService {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Full<Bytes>> {
        let result = self.answer(request).await;
        let ok = match &result {
            Ok(_) => true,
            Err(problem) => problem.code() == ErrorCode::KeyNotFound,
        };
        self.metrics.peer_served(ok);
        result
            .unwrap_or_else(|problem| {
                let code = problem.code();
                let mut response = problem.into_response();
                response.headers_mut().insert(ERROR, HeaderValue::from_static(code.as_str()));
                if code == ErrorCode::MethodNotAllowed {
                    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
                }
                response
            })
            .map(Full::new)
    }
}

/// A value as 200, an absence as 404.
fn reply(group: &Group, answer: Answer) -> Response<Bytes> {
    let now = group.now();
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    let age = answer.age(now).as_nanos().div_ceil(1_000_000) as u64;
    headers.insert(HeaderName::from_static(AGE_MS), age.into());
    let remaining = answer.remaining(now).as_millis() as u64;
    headers.insert(HeaderName::from_static(REMAINING_MS), remaining.into());
    headers.insert(HeaderName::from_static(OUTCOME), HeaderValue::from_static(answer.outcome.as_str()));
    if let Ok(digest) = HeaderValue::try_from(format!("{:016x}", group.digest())) {
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
