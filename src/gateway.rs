//! What clients and operators see: the routes of the api and admin planes.
//!
//! [`Gateway`] looks at a request's path once: keys are read here, without a router, since they are the hot path
//! and may hold bytes that a router would refuse; everything else goes to an axum router.

mod admin;
mod admission;
mod batch;
mod cluster;
mod complaints;
mod cors;
mod directives;
mod docs;
mod encoding;
mod etag;
mod exchange;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod groups;
#[cfg(feature = "grpc")]
mod grpc;
mod handler;
mod health;
mod hosts;
mod invalidate;
mod json_body;
mod keys;
mod layers;
mod live;
mod openapi;
mod read;
mod reload;
mod reply;
mod routes;
mod stored;
mod target;
#[cfg(test)]
mod tests;
mod wire_key;
mod write;

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::time::Instant;

pub use admission::Admission;
pub use cluster::{DiscoveryReport, DiscoverySource};
pub use cors::{CorsOrigin, CorsOriginError};
pub use encoding::Encodings;
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::{fuzz_body, fuzz_headers, fuzz_key};
#[cfg(feature = "grpc")]
pub use grpc::{OtherService, client_rpcs};
pub use health::Readiness;
pub use live::{Live, PlaneSettings};
pub use openapi::document;
pub use reload::{Reload, ReloadError, Reloaded};
pub use routes::{PlaneKind, ROUTES, Route, allow, methods_of, routes_at};

use crate::{
    access::{Caller, Memo, Scope},
    cluster::ViewCell,
    error::ErrorCode,
    group::{Answer, Group, Groups, Peers},
    head::RequestHead,
    net::Connection,
    problem::{Problem, RequestId},
    telemetry::NodeMetrics,
    time::{BootClock, Clock as _, Moment},
};
use admission::{Refusal, Wish};
use directives::Directives;
use exchange::{Exchange, carry};
use layers::InFlight;
use read::Read;
use reply::NodeReply;
use target::KeyTarget;
use write::{KeyWrite, is_write, min_position};

/// What the routes of both planes stand on.
#[derive(Clone, Debug)]
pub struct GatewayParts {
    /// The node's groups.
    pub groups: Arc<Groups>,
    /// Who is in the cluster.
    pub views: Arc<ViewCell>,
    /// How that is known.
    pub discovery: Arc<dyn DiscoverySource>,
    /// Who of them is well.
    pub peers: Arc<Peers>,
    /// Who is let in.
    pub admission: Admission,
    /// What `/metrics` renders.
    pub metrics: NodeMetrics,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The largest value that is written, in bytes.
    pub value_bytes_max: usize,
    /// Requests under way on a plane, hits not counted; zero is no limit.
    pub in_flight_max: usize,
    /// Values in gzip.
    pub encodings: Encodings,
    /// What may change while the planes run.
    pub live: Arc<Live>,
    /// Who changes it.
    pub reload: Arc<dyn Reload>,
}

/// The api or admin plane. Clones share it.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    parts: GatewayParts,
    router: Router,
    plane: PlaneKind,
    in_flight: InFlight,
    reply: Arc<NodeReply>,
}

type BoxBody = UnsyncBoxBody<Bytes, axum::Error>;
/// A value's bytes as they lie in the cache, or whatever a route made.
pub type GatewayBody = http_body_util::Either<Full<Bytes>, BoxBody>;

impl Gateway {
    /// The public plane.
    pub fn api(parts: GatewayParts) -> Self {
        let reply = Self::reply(&parts);
        let router = layers::around(public_routes(parts.clone(), PlaneKind::Api, &reply), &parts);
        Self::new(parts, router, reply, PlaneKind::Api)
    }

    /// The operators' plane: the public routes, and what only an operator may see.
    pub fn admin(parts: GatewayParts) -> Self {
        let reply = Self::reply(&parts);
        let router =
            public_routes(parts.clone(), PlaneKind::Admin, &reply).merge(admin::routes(parts.clone()));
        let router = layers::around(router, &parts);
        Self::new(parts, router, reply, PlaneKind::Admin)
    }

    fn reply(parts: &GatewayParts) -> Arc<NodeReply> {
        Arc::new(NodeReply::new(parts.views.load().me(), parts.encodings.clone()))
    }

    fn new(parts: GatewayParts, router: Router, reply: Arc<NodeReply>, plane: PlaneKind) -> Self {
        let in_flight = InFlight::new(parts.in_flight_max);
        Self(Arc::new(Shared { parts, router, plane, in_flight, reply }))
    }
}

/// What is done with a request after a look at its head.
enum Next {
    /// It is answered.
    Answered(Response<GatewayBody>),
    /// It is found in memory.
    Hit(Hit),
    /// It has to be waited for.
    Wait(Wait),
}

/// A read of a key that memory answers.
struct Hit {
    group: Arc<Group>,
    answer: Answer,
    now: Moment,
}

/// What takes its time.
enum Wait {
    /// A read of a key that memory does not answer.
    Read(Read),
    /// A change of a key.
    Write(KeyWrite),
    /// What the router answers, with who sent it.
    Route(Option<Caller>),
}

impl Shared {
    /// Looks at a request's head, and answers it if nothing has to be waited for.
    fn look(&self, head: &RequestHead<'_>, connection: &Connection<Memo>, exchange: &mut Exchange) -> Next {
        if self.plane == PlaneKind::Admin
            && let Err(detail) = self.parts.live.hosts(|hosts| hosts.check(head))
        {
            return Next::Answered(problem(Problem::new(ErrorCode::Forbidden, detail)));
        }
        let &RequestHead { method, path, headers, .. } = head;
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let target = match target::parse(path, head.query, &self.parts.groups) {
            _ if *method == Method::OPTIONS => {
                return Next::Answered(match self.count(connection, headers, exchange) {
                    Ok(()) => self.options(path),
                    Err(refusal) => refusal.into_response(),
                });
            }
            None => return self.route(head, connection, exchange),
            Some(target) => target,
        };
        let is_known = is_read || is_write(method);
        let group = match &target {
            Ok(target) => Some(target.group.name()),
            Err(_) => None,
        };
        let named = match &target {
            Ok(target) => Some(Cow::Borrowed(target.group.name().as_str())),
            Err(error) if error.names_groups() => Some(Cow::Borrowed("")),
            Err(_) => target::group_in_path(path),
        };
        let scope = if is_write(method) { Scope::Write } else { Scope::Read };
        let wish = Wish { scope, group: named.as_deref(), known: group };
        // Read once for all that a hit needs it for, but for how long that took.
        let now = BootClock.now();
        // What is in memory, or wrong, needs no place.
        let needs_place = || match &target {
            Ok(target) if is_read => !self.is_at_hand(target, headers),
            Ok(_) => is_known,
            Err(_) => false,
        };
        if let Err(refusal) = self.admit(headers, wish, connection, now, exchange, needs_place) {
            return Next::Answered(refusal.into_response());
        }
        if !is_known {
            // After it is known that the client may see the group, since this tells of it.
            let is_writable = target.is_ok_and(|target| target.group.is_writable());
            return Next::Answered(keys::method_not_allowed(is_writable));
        }
        let target = match target {
            Ok(target) => target,
            Err(error) => return Next::Answered(problem(error.into_problem())),
        };
        if !is_read {
            return Next::Wait(Wait::Write(KeyWrite { group: target.group, key: target.key.into() }));
        }
        let min_position = match min_position(headers) {
            Ok(position) => position,
            Err(refusal) => return Next::Answered(problem(refusal)),
        };
        let directives = Directives::read(headers).allowed_by(&target.group);
        if min_position.is_none()
            && self.may_be_cached(&target, &directives)
            && let Some((answer, now)) = target.group.cached_at(&target.key, now)
            && directives.accept(&answer, now)
        {
            return Next::Hit(Hit { group: target.group, answer, now });
        }
        Next::Wait(Wait::Read(Read { group: target.group, key: target.key.into(), directives, min_position }))
    }

    /// As [`look`](Self::look), for what is no read of a key. Paths that nothing answers are the router's to say so of.
    fn route(&self, head: &RequestHead<'_>, connection: &Connection<Memo>, exchange: &mut Exchange) -> Next {
        let &RequestHead { method, path, headers, .. } = head;
        let mut routes =
            routes_at(self.plane).filter(|route| route.is_of(path) && route.methods.contains(method));
        let route = routes.next();
        let Some(scope) = route.and_then(|route| route.scope) else {
            return match self.admit_anybody(path, connection, headers, exchange) {
                Ok(()) => Next::Wait(Wait::Route(None)),
                Err(refusal) => Next::Answered(refusal.into_response()),
            };
        };
        let named = target::group_in_path(path);
        let known = named.as_deref().and_then(|name| self.parts.groups.get(name));
        let wish = Wish { scope, group: named.as_deref(), known: known.as_ref().map(|group| group.name()) };
        match self.admit(headers, wish, connection, BootClock.now(), exchange, || true) {
            Ok(caller) => Next::Wait(Wait::Route(Some(caller))),
            Err(refusal) => Next::Answered(refusal.into_response()),
        }
    }

    /// Lets a request in that needs no right, since its route is open to all, or there is none. Probes of health always
    /// are.
    fn admit_anybody(
        &self,
        path: &str,
        connection: &Connection<Memo>,
        headers: &HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        if routes::is_probe(path) {
            return Ok(());
        }
        if let Some(limit) = self.in_flight.reached() {
            return Err(Refusal::Full(limit));
        }
        self.count(connection, headers, exchange)
    }

    /// Counts a request that needs no right for its address, but for an operator's.
    fn count(
        &self,
        connection: &Connection<Memo>,
        headers: &HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        if self.plane == PlaneKind::Api {
            exchange.rate = self.parts.admission.count(connection.client.ip(), BootClock.now(), headers)?;
        }
        Ok(())
    }

    fn admit(
        &self,
        headers: &HeaderMap,
        wish: Wish<'_>,
        connection: &Connection<Memo>,
        now: Moment,
        exchange: &mut Exchange,
        needs_place: impl FnOnce() -> bool,
    ) -> Result<Caller, Refusal> {
        let admission = &self.parts.admission;
        let caller = admission.caller(headers, Some(&connection.session));
        // Operators are few, and have to get in when clients are too many. Who else comes by their plane is a client.
        let is_operator = || caller.as_ref().is_ok_and(|caller| caller.may(Scope::Admin, None).is_ok());
        let client = (self.plane == PlaneKind::Api || !is_operator()).then(|| connection.client.ip());
        let full = || self.in_flight.reached().filter(|_| needs_place());
        let (caller, rate) = admission.admit(caller, wish, client, now, headers, full)?;
        exchange.rate = rate;
        exchange.is_admitted = true;
        Ok(caller)
    }

    /// Whether a read would be answered without a wait.
    fn is_at_hand(&self, target: &KeyTarget<'_>, headers: &HeaderMap) -> bool {
        let KeyTarget { group, key } = target;
        let directives = Directives::read(headers).allowed_by(group);
        if directives.no_cache || !matches!(min_position(headers), Ok(None)) {
            return false;
        }
        match group.in_sight(key) {
            Some(answer) => directives.accept(&answer, group.now()),
            None => directives == Directives::default() && group.is_answered_stale(key),
        }
    }

    /// Whether what is in memory would do. Most requests say nothing of how they are to be answered.
    fn may_be_cached(&self, target: &KeyTarget<'_>, directives: &Directives) -> bool {
        if *directives == Directives::default() {
            return true;
        }
        let group = &target.group;
        !directives.no_cache
            && group.peek(&target.key).is_none_or(|answer| directives.accept(&answer, group.now()))
    }

    /// What a path answers to; all paths together for `*`.
    fn options(&self, path: &str) -> Response<GatewayBody> {
        let methods = match path {
            "*" => {
                vec![Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::POST, Method::OPTIONS]
            }
            path => methods_of(path, self.plane),
        };
        if methods.is_empty() {
            return problem(layers::no_such_route());
        }
        let mut response = Response::new(http_body_util::Either::Left(Full::new(Bytes::new())));
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.allow(&methods, &mut response);
        response
    }

    fn allow(&self, methods: &[Method], response: &mut Response<GatewayBody>) {
        if let Ok(methods) = HeaderValue::try_from(allow(methods)) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }

    async fn routed(
        &self,
        mut request: Request<Incoming>,
        caller: Option<Caller>,
        id: RequestId,
    ) -> Response<GatewayBody> {
        let place = self.in_flight.enter();
        if place.is_none() && !routes::is_probe(request.uri().path()) {
            return problem(self.in_flight.full());
        }
        request.extensions_mut().insert(id);
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let methods = methods_of(request.uri().path(), self.plane);
        let response = match tower::ServiceExt::oneshot(self.router.clone(), request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let mut response = response.map(|body| http_body_util::Either::Right(body.boxed_unsync()));
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(nosniff);
        // What says nothing of it is about this moment.
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.allow(&methods, &mut response);
        }
        response
    }

    async fn read(&self, read: Read, headers: HeaderMap, id: &RequestId) -> Response<GatewayBody> {
        let place = self.in_flight.enter();
        if place.is_none() && !read.is_answered_stale() {
            return problem(self.in_flight.full());
        }
        if self.parts.views.is_provisional() {
            return problem(no_view());
        }
        let deadline = Instant::now() + self.parts.request_timeout;
        match read.answer(deadline).await {
            Ok(Some(answer)) => {
                let now = read.group.now();
                self.reply.answer(&read.group, &answer, now, &headers)
            }
            Ok(None) => problem(Problem::new(ErrorCode::NotCached, reply::NOT_CACHED)),
            Err(error) => problem(self.reply.problem(&read.group, &error, id)),
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

fn public_routes(parts: GatewayParts, plane: PlaneKind, reply: &Arc<NodeReply>) -> Router {
    Router::new()
        .merge(groups::routes(parts.clone()))
        .merge(batch::routes(parts.clone(), Arc::clone(reply)))
        .merge(invalidate::routes(parts.clone()))
        .merge(cluster::routes(parts.clone()))
        .merge(health::routes(parts.readiness))
        .merge(openapi::routes(plane))
}

/// The answer that tells a problem, once the request's id is known.
fn problem(problem: Problem) -> Response<GatewayBody> {
    carry(problem, |body| http_body_util::Either::Left(Full::new(body)))
}

/// The answer of a node that does not know yet who else is there: it would take every key for its own, and tell nobody
/// of an invalidation.
fn no_view() -> Problem {
    Problem::new(ErrorCode::PeerUnavailable, "the node is starting, and does not know the other nodes yet")
}

/// A problem as an axum route answers it.
fn axum_problem(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Response<Body> {
    routed_problem(Problem::new(code, detail))
}

/// The same for a problem that there is already.
fn routed_problem(problem: Problem) -> Response<Body> {
    carry(problem, Body::from)
}
