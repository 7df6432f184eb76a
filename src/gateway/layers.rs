//! What stands around the routes, outermost first. Hits of the cache pass none of it: they end before there is
//! anything to wait for.
//!
//! 1. The accept loop's limits (`net`): connections, header time and size, idle time.
//! 2. [`InFlight`]: sheds load before anything is begun for a request, and before it counts for a rate. Probes of health
//!    are answered by a plane that is full, or it would be restarted for being asked too much.
//! 3. [`timeout`]: answers 504 when a route takes longer than a request may; reads of keys carry the deadline
//!    themselves, so that they can pass on what remains of it.
//! 4. The routes, with problems in place of axum's empty 404 and 405.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use tokio::time::Instant;

use super::{GatewayParts, axum_problem, routed_problem};
use crate::{error::ErrorCode, problem::Problem};

/// Puts everything around `routes`.
pub(super) fn around(routes: Router, parts: &GatewayParts) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(parts.request_timeout, timeout))
}

async fn no_route() -> Response {
    routed_problem(no_such_route())
}

/// What is said of a path that nothing answers.
pub(super) fn no_such_route() -> Problem {
    Problem::new(
        ErrorCode::RouteNotFound,
        "a key is at /api/v1/groups/{group}/keys/{key} or /api?key=…&group=…; groups are at /api/v1/groups, the \
         cluster is at /api/v1/cluster",
    )
}

async fn wrong_method() -> Response {
    axum_problem(ErrorCode::MethodNotAllowed, "this path answers GET and HEAD")
}

/// The answer to another method than POST.
pub(super) async fn wants_post() -> Response {
    axum_problem(ErrorCode::MethodNotAllowed, "this path answers POST")
}

/// When [`timeout`] ends a request, among the request's extensions: for routes that would rather answer themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Instant);

async fn timeout(State(limit): State<Duration>, mut request: Request<Body>, next: Next) -> Response {
    let deadline = Instant::now() + limit;
    request.extensions_mut().insert(Deadline(deadline));
    match tokio::time::timeout_at(deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => axum_problem(ErrorCode::DeadlineExceeded, format!("no answer within {limit:?}")),
    }
}

/// Counts the requests under way on a plane, and admits no more than a limit.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    count: Arc<AtomicUsize>,
    limit: usize,
}

/// A request's place among those under way.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn new(limit: usize) -> Self {
        Self { count: Arc::default(), limit: if limit == 0 { usize::MAX } else { limit } }
    }

    /// A place, unless all are taken.
    pub(super) fn enter(&self) -> Option<Place> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(Arc::clone(&self.count)))
    }

    /// The limit, if there is no place now.
    pub(super) fn reached(&self) -> Option<usize> {
        (self.count.load(Ordering::Relaxed) >= self.limit).then_some(self.limit)
    }

    /// The answer to who got no place.
    pub(super) fn full(&self) -> Problem {
        overloaded(self.limit)
    }
}

/// What is said where so many requests are under way.
pub(super) fn overloaded(limit: usize) -> Problem {
    Problem::new(ErrorCode::Overloaded, format!("{limit} requests are under way on this plane"))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let in_flight = InFlight::new(2);
        let (first, second) = (in_flight.enter(), in_flight.enter());
        assert!(first.is_some() && second.is_some() && in_flight.enter().is_none());
        assert_eq!(in_flight.reached(), Some(2));
        drop(first);
        assert_eq!(in_flight.reached(), None);
        assert!(in_flight.enter().is_some());
        assert!(InFlight::new(0).enter().is_some());
    }
}
