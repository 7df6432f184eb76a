//! What is known of a request from its head on, and goes onto its answer whatever that is: its id, its span, and who may
//! read it in a browser.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{Either, Full};
use tokio::time::Instant;

use super::{GatewayBody, PlaneKind, cors::Cors, live::Live};
use crate::{
    limit::Decision,
    problem::{Problem, RequestId},
    telemetry::trace::{TRACEPARENT, TraceContext},
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
}

impl Exchange {
    /// Of a request to a plane. Some of those that bring no span begin a trace.
    pub(super) fn new<B>(request: &Request<B>, live: &Live, plane: PlaneKind) -> Self {
        let headers = request.headers();
        let parent = headers.get(&TRACE).and_then(|text| TraceContext::parse(text.as_bytes()));
        let sample = live.trace_sample();
        let trace = match parent {
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
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID.clone(), self.id.to_header());
        if let Some((trace, _)) = self.trace
            && let Ok(trace) = HeaderValue::try_from(trace.to_string())
        {
            headers.insert(TRACE.clone(), trace);
        }
        self.rate.write(headers);
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = self.cors {
            Cors::decorate(allowed, self.is_preflight, headers);
        }
        response
    }
}

/// An answer that stands for `problem`, which is told when the request's id is known.
pub(super) fn carry<B>(problem: Problem, body: impl FnOnce(Bytes) -> B) -> Response<B> {
    let mut response = Response::new(body(Bytes::new()));
    *response.status_mut() = problem.code().http_status();
    response.extensions_mut().insert(problem);
    response
}
