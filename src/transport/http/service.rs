//! The callee's side: what the peer plane answers over HTTP.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    super::{
        callee::{Callee, CalleeError, How},
        gate::{FROM, PeerGate},
        sealed::{Gate, LetIn},
    },
    AGE_MS, Asked, BODY_BYTES_MAX, BUDGET_MS, CURSOR, DIGEST, EPOCH, ERROR, FRESH, Message, NEED, OUTCOME,
    PeerRoute, REMAINING_MS, frame,
    message::{HandoverMessage, InvalidateMessage, PeekManyMessage, PeekedMessage, ms_up},
};
use crate::{
    access::{Head, Verifier},
    cluster::ViewCell,
    codec::{base64url_decode, percent_decode},
    error::ErrorCode,
    group::{Groups, PeerAnswer, Position, PositionError},
    net::{Connection, Handler, Identity},
    problem::Problem,
    telemetry::{
        NodeMetrics,
        trace::{self, TRACEPARENT, TraceContext},
    },
};

/// Messages with a body that are read or worked on at once; others wait for a place. With [`BODY_BYTES_MAX`] this
/// bounds what they take of the memory. Reads need no such limit: they have no body, and a group's flights have theirs.
const POSTS_MAX: usize = 128;
/// What a request lacks that is not sealed.
const CHALLENGE: &str = "GGCache-Seal";

/// What browsers say of who had them send a request.
const FETCH_SITE: &str = "sec-fetch-site";

/// Answers other nodes.
#[derive(Clone, Debug)]
pub struct PeerService {
    callee: Callee,
    /// Who may ask; `None` for everybody who can connect.
    gate: Option<PeerGate>,
    /// Places for messages with a body.
    posts: Arc<Semaphore>,
    /// Lets in what is sealed, where the nodes share a secret.
    seals: Option<Arc<Gate>>,
}

impl PeerService {
    /// A service for `groups`. `timeout_max` is the longest budget that a caller is given.
    pub fn new(
        groups: Arc<Groups>,
        views: Arc<ViewCell>,
        metrics: NodeMetrics,
        timeout_max: Duration,
    ) -> Self {
        let callee = Callee::new(groups, views, metrics, timeout_max);
        Self { callee, gate: None, posts: Arc::new(Semaphore::new(POSTS_MAX)), seals: None }
    }

    /// Answers nothing but what is sealed for this node, if there is a verifier.
    pub fn verifying(self, verifier: Option<Arc<Verifier>>) -> Self {
        Self { seals: verifier.map(Gate::new), ..self }
    }

    /// The same service for those only whom `gate` lets in, if there is one.
    #[must_use]
    pub fn guarded(self, gate: Option<PeerGate>) -> Self {
        Self { gate, ..self }
    }

    /// Answers who may ask.
    async fn admit_and_answer(
        &self,
        request: Request<Incoming>,
        identity: Option<&Identity>,
    ) -> Result<Response<Bytes>, CalleeError> {
        if let Some(gate) = &self.gate {
            gate.admit(identity, request.headers().get(FROM).map(HeaderValue::as_bytes))?;
        }
        // Of a form or a script of any page, which could ask a plane that is open to this machine.
        if request.headers().contains_key(header::ORIGIN) || request.headers().contains_key(FETCH_SITE) {
            let detail = "nodes ask here, and no pages; clients ask on the api plane";
            return Err(CalleeError::new(ErrorCode::Forbidden, detail));
        }
        self.answer(request).await
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Bytes>, CalleeError>
    where
        B: Body<Error: std::error::Error + Send + Sync + 'static>,
    {
        let uri = request.uri();
        let path = uri.path();
        // Before anything else; and before a byte of a body is read, since the head has its digest.
        let let_in = self.seals.as_ref().map(|gate| {
            let target = uri.path_and_query().map_or(path, |target| target.as_str());
            gate.let_in(&Head { method: request.method().as_str(), target, headers: request.headers() })
        });
        let let_in = let_in.transpose()?;
        let (route, target) = PeerRoute::of(path).ok_or_else(no_route)?;
        if *request.method() != route.method {
            let detail = format!("this path answers {}", route.method);
            return Err(CalleeError::new(ErrorCode::MethodNotAllowed, detail));
        }
        if let Asked::Message(message) = route.asked {
            let patience = self.callee.budget(budget(request.headers())?);
            return self.posted(message, request, patience, let_in).await;
        }
        if let Some(let_in) = let_in {
            let_in.without_body(request.body().is_end_stream())?;
        }
        if matches!(route.asked, Asked::Ping) {
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        let (group, key) = target_of(target, request.uri().query())?;
        if matches!(route.asked, Asked::Peek) {
            return Ok(self.callee.peek(group, &key)?.map_or_else(|| empty(StatusCode::NO_CONTENT), reply));
        }
        let headers = request.headers();
        let epoch = headers.get(EPOCH).and_then(|epoch| epoch.to_str().ok());
        let how = How::new(headers.contains_key(FRESH), need(headers)?);
        let answered = self.callee.get(group, &key, budget(headers)?, epoch, how);
        match headers.get(TRACEPARENT).and_then(|trace| TraceContext::parse(trace.as_bytes())) {
            Some(parent) => trace::within(Some(parent), trace::spanned("owner", answered)).await,
            None => answered.await,
        }
        .map(reply)
    }

    /// Reads a message and does what it says. Nothing else bounds the wait for a body: the accept loop's deadlines are
    /// about heads and idle connections.
    async fn posted<B>(
        &self,
        message: Message,
        request: Request<B>,
        patience: Duration,
        let_in: Option<LetIn<'_>>,
    ) -> Result<Response<Bytes>, CalleeError>
    where
        B: Body<Error: std::error::Error + Send + Sync + 'static>,
    {
        let deadline = Instant::now() + patience;
        let Ok(Ok(place)) = timeout_at(deadline, self.posts.acquire()).await else {
            let detail = format!("{POSTS_MAX} messages are under way at this node");
            return Err(CalleeError::new(ErrorCode::Overloaded, detail));
        };
        let body = timeout_at(deadline, body(request.into_body())).await.unwrap_or_else(|_| {
            let detail = format!("the body did not come within {patience:?}");
            Err(CalleeError::new(ErrorCode::DeadlineExceeded, detail))
        })?;
        if let Some(let_in) = let_in {
            let_in.with_body(&body)?;
        }
        let budget = deadline.saturating_duration_since(Instant::now());
        match message {
            Message::Batch => {
                // It may wait for loads, which have limits of their own.
                drop(place);
                self.batch(&body, budget).await
            }
            Message::Handover => self.handover(&body, budget).await,
            Message::PeekMany => self.peek_many(&body),
            Message::Invalidate => self.invalidate(&body, budget).await,
        }
    }

    async fn batch(&self, body: &[u8], budget: Duration) -> Result<Response<Bytes>, CalleeError> {
        if !frame::is_known(body) {
            // The caller goes on with what every version knows.
            return Err(CalleeError::new(
                ErrorCode::RouteNotFound,
                "this node reads batches of versions 1 and 2",
            ));
        }
        let batch = frame::read_batch(body).map_err(malformed)?;
        let group = batch.group.as_str();
        let epoch = batch.epoch.to_string();
        let told = self.callee.get_many(group, &batch.keys, batch.only_cached, batch.need, budget, &epoch);
        let told = told.await?;
        let words = frame::write_words(batch.version, told.digest, told.cursor, &told.words);
        Ok(Response::new(Bytes::from(words)))
    }

    async fn invalidate(&self, body: &[u8], budget: Duration) -> Result<Response<Bytes>, CalleeError> {
        let message = InvalidateMessage::read(body).map_err(malformed)?;
        let invalidation = message.into_invalidation(budget).map_err(malformed)?;
        let dropped = self.callee.invalidate(&invalidation).await?;
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
    type Session = ();
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: &Connection<()>) -> Response<Full<Bytes>> {
        self.admit_and_answer(request, connection.identity.as_deref())
            .await
            .unwrap_or_else(|error| {
                let mut response = Problem::new(error.code, error.detail).into_response();
                response.headers_mut().insert(ERROR, HeaderValue::from_static(error.code.as_str()));
                if error.code == ErrorCode::MethodNotAllowed {
                    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
                }
                if error.code == ErrorCode::Unauthenticated {
                    // A 401 names what would do (RFC 9110, section 15.5.2), and no scheme is registered for either.
                    let challenge = if self.seals.is_some() { CHALLENGE } else { "Certificate" };
                    response
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
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

fn need(headers: &HeaderMap) -> Result<Option<Position>, CalleeError> {
    let Some(text) = headers.get(NEED) else { return Ok(None) };
    let need = text.to_str().map_err(|_| PositionError).and_then(str::parse);
    need.map(Some).map_err(|error| malformed(format!("{NEED} is {error}")))
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
    if let Some(cursor) = answer.cursor.and_then(|cursor| HeaderValue::try_from(cursor.to_string()).ok()) {
        headers.insert(HeaderName::from_static(CURSOR), cursor);
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body::Frame;

    use super::{
        super::{HANDOVER_PATH, INVALIDATE_PATH, PING_PATH},
        *,
    };
    use crate::cluster::{Address, Node, View};

    const PATIENCE: Duration = Duration::from_secs(2);

    /// A body of which nothing ever comes.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn service() -> PeerService {
        let me = Node::new(Address::new("localhost:1").expect("an address"));
        let views = Arc::new(ViewCell::new(View::new(me, [], 8)));
        let groups = Arc::new(Groups::new([], None).expect("no groups"));
        PeerService::new(groups, views, NodeMetrics::new(), PATIENCE)
    }

    fn post<B>(path: &str, body: B) -> Request<B> {
        Request::post(path).body(body).expect("a request")
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let service = service();
        for path in [INVALIDATE_PATH, HANDOVER_PATH] {
            let begun = Instant::now();
            let error = service.answer(post(path, Never)).await.expect_err("there is nothing to do");
            assert_eq!(error.code, ErrorCode::DeadlineExceeded);
            assert!((PATIENCE..PATIENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
        let begun = Instant::now();
        let mut short = post(INVALIDATE_PATH, Never);
        short.headers_mut().insert(BUDGET_MS, HeaderValue::from_static("100"));
        assert!(service.answer(short).await.is_err());
        assert!(begun.elapsed() < PATIENCE, "no longer than the caller waits");
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_hang_leave_room_and_give_their_places_back() {
        let service = service();
        let hung: Vec<_> = (0..POSTS_MAX)
            .map(|_| {
                let service = service.clone();
                tokio::spawn(async move { service.answer(post(INVALIDATE_PATH, Never)).await })
            })
            .collect();
        while service.posts.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut short = post(INVALIDATE_PATH, Full::new(Bytes::new()));
        short.headers_mut().insert(BUDGET_MS, HeaderValue::from_static("100"));
        assert_eq!(service.answer(short).await.expect_err("all are taken").code, ErrorCode::Overloaded);
        let ping = Request::get(PING_PATH).body(Full::new(Bytes::new())).expect("a request");
        assert_eq!(service.answer(ping).await.expect("a sign of life").status(), StatusCode::NO_CONTENT);
        for hung in hung {
            assert!(hung.await.expect("no panic").is_err());
        }
        let body = Full::new(Bytes::from_static(br#"{"group":"scores","keys":[]}"#));
        let error = service.answer(post(INVALIDATE_PATH, body)).await.expect_err("there is no group");
        assert_ne!(error.code, ErrorCode::Overloaded);
    }
}
