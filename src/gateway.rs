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
mod exchange;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod groups;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod hosts;
mod invalidate;
mod json_body;
mod keys;
mod layers;
mod openapi;
mod reply;
mod routes;
mod stored;
mod target;
#[cfg(test)]
mod tests;
mod wire_key;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::future::Either;
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
pub use openapi::document;
pub use routes::{PlaneKind, ROUTES, Route, allow, methods_of, routes_at};

use crate::{
    access::{Caller, Memo, Scope},
    cluster::ViewCell,
    error::ErrorCode,
    group::{Answer, GetError, Group, Groups, Outcome, Peers},
    net::{Connection, Handler},
    problem::{Problem, RequestId},
    telemetry::{NodeMetrics, trace},
};
use admission::{Refusal, Wish};
use cors::Cors;
use directives::Directives;
use exchange::{Exchange, carry};
use hosts::Hosts;
use layers::InFlight;
use reply::NodeReply;
use target::KeyTarget;

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
    /// Requests under way on a plane, hits not counted; zero is no limit.
    pub in_flight_max: usize,
    /// The effective configuration, as the admin plane shows it; secrets are left out already.
    pub effective_config: Arc<str>,
    /// Values in gzip.
    pub encodings: Encodings,
    /// Whose pages may read answers of the api plane in a browser.
    pub cors_origins: Vec<CorsOrigin>,
    /// The names by which the admin plane may be called, beside addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// The share, 0 to 1, of requests without a span that begin a trace.
    pub trace_sample: f64,
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
    cors: Cors,
    /// Who may call the plane through a browser, on the admin plane.
    hosts: Option<Hosts>,
}

type BoxBody = UnsyncBoxBody<Bytes, axum::Error>;
/// A value's bytes as they lie in the cache, or whatever a route made.
pub type GatewayBody = http_body_util::Either<Full<Bytes>, BoxBody>;

impl Gateway {
    /// The public plane.
    pub fn api(parts: GatewayParts) -> Self {
        let reply = Self::reply(&parts);
        let router = layers::around(public_routes(parts.clone(), PlaneKind::Api, &reply), &parts);
        let cors = Cors::new(&parts.cors_origins);
        Self::new(parts, router, reply, PlaneKind::Api, cors, None)
    }

    /// The operators' plane: the public routes, and what only an operator may see.
    pub fn admin(parts: GatewayParts) -> Self {
        let reply = Self::reply(&parts);
        let router =
            public_routes(parts.clone(), PlaneKind::Admin, &reply).merge(admin::routes(parts.clone()));
        let router = layers::around(router, &parts);
        let mut names = parts.admin_hosts.clone();
        names.push(parts.views.load().me().address.host().to_owned());
        Self::new(parts, router, reply, PlaneKind::Admin, Cors::default(), Some(Hosts::new(names)))
    }

    fn reply(parts: &GatewayParts) -> Arc<NodeReply> {
        Arc::new(NodeReply::new(parts.views.load().me(), parts.encodings.clone()))
    }

    fn new(
        parts: GatewayParts,
        router: Router,
        reply: Arc<NodeReply>,
        plane: PlaneKind,
        cors: Cors,
        hosts: Option<Hosts>,
    ) -> Self {
        let in_flight = InFlight::new(parts.in_flight_max);
        Self(Arc::new(Shared { parts, router, plane, in_flight, reply, cors, hosts }))
    }
}

/// What is done with a request after a look at its head.
enum Next {
    /// It is answered.
    Answered(Response<GatewayBody>),
    /// It is a read of a key that memory does not answer.
    Read(Read),
    /// It goes to the router, with who sent it.
    Route(Option<Caller>),
}

/// A read that outlives its request.
struct Read {
    group: Arc<Group>,
    key: Box<[u8]>,
    directives: Directives,
}

impl Shared {
    /// Looks at a request's head, and answers it if nothing has to be waited for.
    fn look(
        &self,
        request: &Request<Incoming>,
        connection: &Connection<Memo>,
        exchange: &mut Exchange,
    ) -> Next {
        if let Some(hosts) = &self.hosts
            && let Err(detail) = hosts.check(request)
        {
            return Next::Answered(problem(Problem::new(ErrorCode::Forbidden, detail)));
        }
        let uri = request.uri();
        let target = match target::parse(uri.path(), uri.query(), &self.parts.groups) {
            _ if *request.method() == Method::OPTIONS => return Next::Answered(self.options(uri.path())),
            None => return self.route(request, connection, exchange),
            Some(_) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                return Next::Answered(keys::method_not_allowed());
            }
            Some(target) => target,
        };
        let group = match &target {
            Ok(target) => Some(target.group.name()),
            Err(_) => None,
        };
        let named = match &target {
            Ok(target) => Some(target.group.name().as_str()),
            Err(error) => error.names_groups().then_some("").or_else(|| admission::group_in_path(uri.path())),
        };
        let wish = Wish { scope: Scope::Read, group: named, known: group };
        if let Err(refusal) = self.admit(request.headers(), wish, connection, exchange) {
            return Next::Answered(refusal.into_response());
        }
        let target = match target {
            Ok(target) => target,
            Err(error) => return Next::Answered(problem(error.into_problem())),
        };
        let directives = Directives::read(request.headers());
        let directives =
            if target.group.config().allow_no_cache { directives } else { directives.without_loads() };
        if self.may_be_cached(&target, &directives)
            && let Some(answer) = target.group.cached(&target.key)
        {
            return Next::Answered(self.reply.answer(target.group, answer, request.headers()));
        }
        Next::Read(Read { group: Arc::clone(target.group), key: target.key.into(), directives })
    }

    /// As [`look`](Self::look), for what is no read of a key. Paths that nothing answers are the router's to say so of.
    fn route(
        &self,
        request: &Request<Incoming>,
        connection: &Connection<Memo>,
        exchange: &mut Exchange,
    ) -> Next {
        let path = request.uri().path();
        let mut routes = routes_at(self.plane)
            .filter(|route| route.is_of(path) && route.methods.contains(request.method()));
        let Some(scope) = routes.next().and_then(|route| route.scope) else { return Next::Route(None) };
        let named = admission::group_in_path(path);
        let known = named.and_then(|name| self.parts.groups.get(name)).map(|group| group.name());
        let wish = Wish { scope, group: named, known };
        match self.admit(request.headers(), wish, connection, exchange) {
            Ok(caller) => Next::Route(Some(caller)),
            Err(refusal) => Next::Answered(refusal.into_response()),
        }
    }

    fn admit(
        &self,
        headers: &HeaderMap,
        wish: Wish<'_>,
        connection: &Connection<Memo>,
        exchange: &mut Exchange,
    ) -> Result<Caller, Refusal> {
        let admission = &self.parts.admission;
        let caller = admission.caller(headers, Some(&connection.session));
        // Operators are few, and have to get in when clients are too many.
        let client = (self.plane == PlaneKind::Api).then(|| connection.client.ip());
        let (caller, rate) = admission.admit(caller, wish, client, headers)?;
        exchange.rate = rate;
        Ok(caller)
    }

    /// Whether what is in memory would do. Most requests say nothing of how they are to be answered.
    fn may_be_cached(&self, target: &KeyTarget<'_>, directives: &Directives) -> bool {
        if *directives == Directives::default() || directives.only_if_cached {
            return true;
        }
        let group = target.group;
        !directives.no_cache
            && group.peek(&target.key).is_none_or(|answer| directives.accept(&answer, group.now()))
    }

    /// What a path answers to; all paths together for `*`.
    fn options(&self, path: &str) -> Response<GatewayBody> {
        let methods = match path {
            "*" => vec![Method::GET, Method::HEAD, Method::POST, Method::OPTIONS],
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
        let Some(_place) = self.in_flight.enter() else { return problem(self.in_flight.full()) };
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
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.allow(&methods, &mut response);
        }
        response
    }

    async fn read(&self, read: Read, headers: HeaderMap, id: &RequestId) -> Response<GatewayBody> {
        let Some(_place) = self.in_flight.enter() else { return problem(self.in_flight.full()) };
        if self.parts.views.is_provisional() {
            return problem(no_view());
        }
        let deadline = Instant::now() + self.parts.request_timeout;
        match read.answer(deadline).await {
            Ok(Some(answer)) => self.reply.answer(&read.group, answer, &headers),
            Ok(None) => problem(Problem::new(
                ErrorCode::NotCached,
                "neither this node nor the key's owner has it in memory, and the request says only-if-cached",
            )),
            Err(error) => problem(self.reply.problem(&read.group, &error, id)),
        }
    }
}

impl Read {
    /// The answer; `None` if it is to come from memory and is not there.
    async fn answer(&self, deadline: Instant) -> Result<Option<Answer>, GetError> {
        let Self { group, key, directives } = self;
        if directives.only_if_cached {
            let found = group.in_memory(key, deadline).await?;
            return Ok(found.filter(|answer| directives.accept(answer, group.now())));
        }
        if !directives.no_cache {
            let answer = group.miss(key, deadline).await?;
            if answer.outcome == Outcome::Load || directives.accept(&answer, group.now()) {
                return Ok(Some(answer));
            }
        }
        group.fresh(key, deadline).await.map(Some)
    }
}

impl Handler for Gateway {
    type Session = Memo;
    type Body = GatewayBody;

    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Connection<Memo>,
    ) -> impl Future<Output = Response<GatewayBody>> + Send {
        let mut exchange = Exchange::new(&request, &self.0.cors, self.0.parts.trace_sample);
        let next = self.0.look(&request, connection, &mut exchange);
        if let Next::Answered(response) = next {
            if let Some((trace, begun)) = exchange.trace {
                trace::mark("request", trace, begun.elapsed());
            }
            return Either::Left(std::future::ready(exchange.finish(response)));
        }
        let shared = Arc::clone(&self.0);
        Either::Right(async move {
            let work = async {
                match next {
                    Next::Read(read) => shared.read(read, request.into_parts().0.headers, &exchange.id).await,
                    // In a box: it is far larger than a read.
                    Next::Route(caller) => {
                        Box::pin(shared.routed(request, caller, exchange.id.clone())).await
                    }
                    Next::Answered(response) => response,
                }
            };
            let response = match exchange.trace {
                Some((context, _)) => trace::rooted("request", context, work).await,
                None => work.await,
            };
            exchange.finish(response)
        })
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
fn axum_problem(code: ErrorCode, detail: impl Into<std::borrow::Cow<'static, str>>) -> Response<Body> {
    routed_problem(Problem::new(code, detail))
}

/// The same for a problem that there is already.
fn routed_problem(problem: Problem) -> Response<Body> {
    carry(problem, Body::from)
}
