//! `/livez` and `/readyz`: whether the process runs, and whether it wants requests.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};

use super::axum_problem;
use crate::error::ErrorCode;

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// Whether a node wants requests. Clones share it. It goes from starting to ready to stopping, never back.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// A node that is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first view is in force and the preload is done.
    pub fn ready(&self) {
        self.0.fetch_max(READY, Ordering::AcqRel);
    }

    /// The node stops; whoever sends it requests should send them elsewhere.
    pub fn stopping(&self) {
        self.0.fetch_max(STOPPING, Ordering::AcqRel);
    }

    /// Whether the node wants requests now.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == READY
    }
}

pub(super) fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.0.load(Ordering::Acquire) {
        STARTING => axum_problem(ErrorCode::Overloaded, "the node is starting"),
        READY => "ready\n".into_response(),
        _ => axum_problem(ErrorCode::ShuttingDown, "the node is stopping"),
    }
}
