//! What clients and operators see: the routes of the api and admin planes.
//!
//! [`Gateway`] looks at a request's path once: keys are read here, without a router, since they are the hot path
//! and may hold bytes that a router would refuse; everything else goes to an axum router.

mod admin;
#[cfg_attr(not(test), expect(dead_code, reason = "the route is not answered yet"))]
mod batch;
mod cluster;
mod complaints;
mod docs;
mod groups;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod invalidate;
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
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::time::Instant;

pub use cluster::{DiscoveryReport, DiscoverySource};
#[cfg(feature = "grpc")]
pub use grpc::{OtherService, client_rpcs};
pub use health::Readiness;
pub use openapi::document;
pub use routes::{PlaneKind, ROUTES, Route, Scope, allow, methods_of, routes_at};

use crate::{
    cluster::ViewCell,
    error::ErrorCode,
    group::{Groups, Peers},
    net::{Connection, Handler},
    problem::Problem,
    telemetry::NodeMetrics,
};
use layers::InFlight;
use target::{KeyTarget, TargetError};

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
}

/// The api or admin plane.
#[derive(Clone)]
pub struct Gateway {
    parts: GatewayParts,
    router: Router,
    in_flight: InFlight,
    reply: Arc<reply::NodeReply>,
}

type BoxBody = UnsyncBoxBody<Bytes, axum::Error>;
/// A value's bytes as they lie in the cache, or whatever a route made.
pub type GatewayBody = http_body_util::Either<Full<Bytes>, BoxBody>;

impl Gateway {
    /// The public plane.
    pub fn api(parts: GatewayParts) -> Self {
        let router = layers::around(public_routes(parts.clone(), PlaneKind::Api), &parts);
        Self::new(parts, router)
    }

    /// The operators' plane: the public routes, and what only an operator may see.
    pub fn admin(parts: GatewayParts) -> Self {
        let router = public_routes(parts.clone(), PlaneKind::Admin).merge(admin::routes(parts.clone()));
        let router = layers::around(router, &parts);
        Self::new(parts, router)
    }

    fn new(parts: GatewayParts, router: Router) -> Self {
        let in_flight = InFlight::new(parts.in_flight_max);
        let reply = Arc::new(reply::NodeReply::new(parts.views.load().me()));
        Self { parts, router, in_flight, reply }
    }

    async fn routed(self, request: Request<Incoming>) -> Response<GatewayBody> {
        let Some(_place) = self.in_flight.enter() else { return problem(self.in_flight.full()) };
        let response = match tower::ServiceExt::oneshot(self.router, request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.map(|body| http_body_util::Either::Right(body.boxed_unsync()))
    }

    async fn missed(self, target: Owned, headers: HeaderMap) -> Response<GatewayBody> {
        let Some(_place) = self.in_flight.enter() else { return problem(self.in_flight.full()) };
        if self.parts.views.is_provisional() {
            return problem(no_view());
        }
        let deadline = Instant::now() + self.parts.request_timeout;
        match target.group.miss(&target.key, deadline).await {
            Ok(answer) => self.reply.answer(&target.group, answer, &headers),
            Err(error) => problem(self.reply.problem(&target.group, &error)),
        }
    }

    fn key_target<'a>(
        &'a self,
        request: &'a Request<Incoming>,
    ) -> Option<Result<KeyTarget<'a>, TargetError>> {
        target::parse(request.uri().path(), request.uri().query(), &self.parts.groups)
    }
}

/// A target that outlives its request.
struct Owned {
    group: Arc<crate::group::Group>,
    key: Box<[u8]>,
}

impl Handler for Gateway {
    type Session = ();
    type Body = GatewayBody;

    fn call(
        &self,
        request: Request<Incoming>,
        _: &Connection<()>,
    ) -> impl Future<Output = Response<GatewayBody>> + Send {
        let ready = |response| Either::Left(std::future::ready(response));
        let owned = match self.key_target(&request) {
            None => return Either::Right(Either::Left(self.clone().routed(request))),
            Some(Err(error)) => return ready(problem(error.into_problem())),
            Some(Ok(_)) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                return ready(keys::method_not_allowed());
            }
            Some(Ok(target)) => match target.group.cached(&target.key) {
                Some(answer) => return ready(self.reply.answer(target.group, answer, request.headers())),
                None => Owned { group: Arc::clone(target.group), key: target.key.into() },
            },
        };
        Either::Right(Either::Right(self.clone().missed(owned, request.into_parts().0.headers)))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

fn public_routes(parts: GatewayParts, plane: PlaneKind) -> Router {
    Router::new()
        .merge(groups::routes(parts.clone()))
        .merge(invalidate::routes(parts.clone()))
        .merge(cluster::routes(parts.clone()))
        .merge(health::routes(parts.readiness))
        .merge(openapi::routes(plane))
}

fn problem(problem: Problem) -> Response<GatewayBody> {
    problem.into_response().map(|body| http_body_util::Either::Left(Full::new(body)))
}

/// The answer of a node that does not know yet who else is there: it would take every key for its own, and tell nobody
/// of an invalidation.
fn no_view() -> Problem {
    Problem::new(ErrorCode::PeerUnavailable, "the node is starting, and does not know the other nodes yet")
}

/// A problem as an axum route answers it.
fn axum_problem(code: ErrorCode, detail: impl Into<std::borrow::Cow<'static, str>>) -> Response<Body> {
    Problem::new(code, detail).into_response().map(Body::from)
}
