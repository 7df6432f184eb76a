//! What only operators see: `/metrics` and the effective configuration, which they may have read again (`reload`).

use std::sync::Arc;

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

use super::{GatewayParts, reload, routes};

pub(super) fn routes(parts: GatewayParts) -> Router {
    let reload = reload::routes(Arc::clone(&parts.reload));
    let router = routes::mount(Router::new(), routes::METRICS, get(metrics));
    routes::mount(router, routes::CONFIG, get(config)).with_state(parts).merge(reload)
}

/// What was counted
///
/// For Prometheus, in its text format.
#[utoipa::path(
    get,
    path = routes::METRICS,
    operation_id = "getMetrics",
    tag = "operation",
    responses((
        status = 200,
        description = "Every figure of the node",
        body = String,
        content_type = "text/plain",
        example = "ggcache_members 3",
    ))
)]
pub(super) async fn metrics(State(parts): State<GatewayParts>) -> impl IntoResponse {
    for group in parts.groups.iter() {
        group.set_gauges();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], parts.metrics.render())
}

/// The configuration in force
///
/// Every key with its value and where that came from; secrets are left out.
#[utoipa::path(
    get,
    path = routes::CONFIG,
    operation_id = "getConfig",
    tag = "operation",
    responses((
        status = 200,
        description = "The configuration, as TOML",
        body = String,
        content_type = "application/toml",
        example = "[node]\nlisten = \"127.0.0.1:10001\"  # default\n",
    ))
)]
pub(super) async fn config(State(parts): State<GatewayParts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/toml")], parts.live.effective_config().to_string())
}
