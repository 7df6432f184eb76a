//! What only operators see: `/metrics` and the effective configuration.

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

use super::GatewayParts;

pub(super) fn routes(parts: GatewayParts) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/api/v1/config", get(config)).with_state(parts)
}

async fn metrics(State(parts): State<GatewayParts>) -> impl IntoResponse {
    for group in parts.groups.iter() {
        group.set_gauges();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], parts.metrics.render())
}

async fn config(State(parts): State<GatewayParts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/toml")], parts.effective_config.to_string())
}
