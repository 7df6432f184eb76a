//! What is known of a request from its head on, and goes onto its answer whatever that is: its id, its span, and who may
//! read it in a browser.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body_util::{Either, Full};
use tokio::time::Instant;

use std::sync::atomic::{AtomicU64, Ordering};

use super::{GatewayBody, PlaneKind, cors::Cors, live::Live};
use crate::{
    head::{AnswerHead, RequestHead},
    limit::Decision,
    problem::{Problem, RequestId},
    telemetry::trace::{self, TRACEPARENT, TraceContext},
    time::{BootClock, Clock as _},
};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACE: HeaderName = HeaderName::from_static(TRACEPARENT);

/// One request and its answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) id: RequestId,
    /// The request's span at this node, and when it began.
    pub(super) trace: Option<(TraceContext, Instant)>,
    /// What the answer says of who may read it, and whether to a preflight.
    cors: Option<HeaderValue>,
    is_preflight: bool,
    varies: bool,
    /// What was decided of the client's rate.
    pub(super) rate: Decision,
    /// Whether it was let in, where that is asked.
    pub(super) is_admitted: bool,
}

impl Exchange {
    /// Of a request to a plane. Some of those that bring no span begin a trace.
    pub(super) fn new(request: &RequestHead<'_>, live: &Live, plane: PlaneKind) -> Self {
        let headers = request.headers;
        let mut parents = headers.get_all(&TRACE).iter();
        // Two are none (W3C Trace Context, section 3.2.1).
        let parent = parents.next().filter(|_| parents.next().is_none());
        let parent = parent.and_then(|text| TraceContext::parse(text.as_bytes()));
        let sample = live.trace_sample();
        let trace = match parent {
            Some(parent) if parent.is_sampled() && !may_trace() => Some(parent.child().unsampled()),
            Some(parent) => Some(parent.child()),
            None => (sample > 0.0 && fastrand::f64() < sample).then(TraceContext::new),
        };
        // Pages of other origins have no business on the operators' plane.
        let (cors, varies) = match plane {
            PlaneKind::Api => live.cors(|cors| (cors.allows(headers), cors.varies())),
            PlaneKind::Admin => (None, false),
        };
        Self {
            id: headers.get(&REQUEST_ID).and_then(RequestId::given).unwrap_or_default(),
            trace: trace.map(|trace| (trace, Instant::now())),
            cors,
            is_preflight: Cors::is_preflight(request),
            varies,
            rate: Decision::UNLIMITED,
            is_admitted: false,
        }
    }

    /// As [`finish`](Self::finish), for an answer that nothing had to be waited for.
    pub(super) fn finish_at_once(self, response: Response<GatewayBody>) -> Response<GatewayBody> {
        self.mark();
        self.finish(response)
    }

    /// Notes the span of a request that waited for nothing.
    pub(super) fn mark(&self) {
        // Who was not let in has nothing logged.
        if let Some((trace, begun)) = self.trace.filter(|_| self.is_admitted) {
            trace::mark("request", trace, begun.elapsed());
        }
    }

    /// Adds to an answer what goes onto every one. A problem that it [carries](carry) becomes its body.
    pub(super) fn finish(self, mut response: Response<GatewayBody>) -> Response<GatewayBody> {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let told = problem.with_request(self.id.clone()).into_response();
            let (parts, body) = told.into_parts();
            // The carrier's own headers stay, but for the length of its empty body: `Allow`, for one.
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().extend(parts.headers);
            *response.body_mut() = Either::Left(Full::new(body));
        }
        self.write(&mut response);
        response
    }

    /// Adds to a head what goes onto every one.
    pub(super) fn write(&self, head: &mut impl AnswerHead) {
        self.id.write(&REQUEST_ID, head);
        if let Some((trace, _)) = self.trace {
            head.text(&TRACE, trace.to_string().as_bytes());
        }
        self.rate.write(head);
        if self.varies {
            head.also(&header::VARY, "origin");
        }
        if let Some(allowed) = &self.cors {
            Cors::decorate(allowed, self.is_preflight, head);
        }
    }
}

/// Whether one more trace may be logged that a client asks for: so many a second, since each is some lines.
fn may_trace() -> bool {
    const TRACES_A_SECOND: u64 = 1_000;
    /// The second, and in its lower half how many there were in it.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let second = BootClock.now().as_nanos() / 1_000_000_000;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    if count >> 32 == second & u64::from(u32::MAX) {
        return count & u64::from(u32::MAX) < TRACES_A_SECOND;
    }
    COUNT.store(second << 32 | 1, Ordering::Relaxed);
    true
}

/// An answer that stands for `problem`, which is told when the request's id is known.
pub(super) fn carry<B>(problem: Problem, body: impl FnOnce(Bytes) -> B) -> Response<B> {
    let mut response = Response::new(body(Bytes::new()));
    *response.status_mut() = problem.code().http_status();
    response.extensions_mut().insert(problem);
    response
}
