//! `/livez` and `/readyz`: whether the process runs, and whether it wants requests.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use super::{axum_problem, routes};
use crate::error::ErrorCode;

/// What a node is about to do with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    #[default]
    Starting,
    Ready,
    Stopping,
}

/// Whether a node wants requests. Clones share it. It goes from starting to ready to stopping, never back.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<Stage>>);

impl Readiness {
    /// A node that is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first view is in force and the preload is done.
    pub fn ready(&self) {
        self.advance(Stage::Ready);
    }

    /// The node stops; whoever sends it requests should send them elsewhere.
    pub fn stopping(&self) {
        self.advance(Stage::Stopping);
    }

    fn advance(&self, to: Stage) {
        self.0.send_if_modified(|stage| {
            let later = *stage < to;
            *stage = to.max(*stage);
            later
        });
    }

    /// Whether the node wants requests now.
    pub fn is_ready(&self) -> bool {
        self.stage() == Stage::Ready
    }

    pub(super) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// The stage, now and whenever it changes.
    #[cfg(feature = "grpc")]
    pub(super) fn watch(&self) -> watch::Receiver<Stage> {
        self.0.subscribe()
    }
}

pub(super) fn routes(readiness: Readiness) -> Router {
    let router = routes::mount(Router::new(), routes::LIVEZ, get(livez));
    routes::mount(router, routes::READYZ, get(readyz)).with_state(readiness)
}

/// Whether the process runs
#[utoipa::path(
    get,
    path = routes::LIVEZ,
    operation_id = "getLive",
    tag = "operation",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain", example = "ok\n"))
)]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the node wants requests
///
/// For balancers: a node that starts or stops says 503.
#[utoipa::path(
    get,
    path = routes::READYZ,
    operation_id = "getReady",
    tag = "operation",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain", example = "ready\n"))
)]
pub(super) async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.stage() {
        Stage::Starting => axum_problem(ErrorCode::Overloaded, "the node is starting"),
        Stage::Ready => "ready\n".into_response(),
        Stage::Stopping => axum_problem(ErrorCode::ShuttingDown, "the node is stopping"),
    }
}
