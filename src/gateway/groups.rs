//! `/api/v1/groups`: settings and figures of the groups.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::{GatewayParts, axum_problem};
use crate::{
    cache::EvictionCause,
    error::ErrorCode,
    group::{Group, Groups},
};

pub(super) fn routes(parts: GatewayParts) -> Router {
    Router::new()
        .route("/api/v1/groups", get(list))
        .route("/api/v1/groups/{group}", get(one))
        .with_state(parts.groups)
}

#[derive(Serialize)]
struct GroupList {
    groups: Vec<GroupReport>,
    default_group: Option<String>,
}

/// Durations are in milliseconds, sizes in bytes.
#[derive(Serialize)]
struct GroupReport {
    name: String,
    policy: String,
    ttl_ms: u64,
    ttl_jitter: f64,
    negative_ttl_ms: u64,
    hot_ttl_ms: u64,
    capacity_bytes: u64,
    negative_share: f64,
    load_budget: usize,
    digest: String,
    entries: u64,
    bytes: u64,
    negative_entries: u64,
    negative_bytes: u64,
    entry_bytes_max: u64,
    hits: u64,
    negative_hits: u64,
    misses: u64,
    hot_entries: u64,
    hot_bytes: u64,
    hot_hits: u64,
    insertions: u64,
    evictions: Evictions,
    flights: Flights,
}

#[derive(Serialize)]
struct Evictions {
    capacity: u64,
    expired: u64,
    invalidated: u64,
    replaced: u64,
}

/// Flights that run now.
#[derive(Serialize)]
struct Flights {
    client: usize,
    owner: usize,
}

async fn list(State(groups): State<Arc<Groups>>) -> Json<GroupList> {
    let default_group = groups.default_group().map(|group| group.name().to_string());
    Json(GroupList { groups: groups.iter().map(|group| report(group)).collect(), default_group })
}

async fn one(State(groups): State<Arc<Groups>>, name: Result<Path<String>, PathRejection>) -> Response {
    match name.ok().and_then(|Path(name)| groups.get(&name).map(|group| report(group))) {
        Some(report) => Json(report).into_response(),
        None => axum_problem(ErrorCode::GroupNotFound, "there is no group of that name; see /api/v1/groups"),
    }
}

fn report(group: &Group) -> GroupReport {
    let (config, stats, hot) = (group.config(), group.stats(), group.hot_stats());
    let (client, owner) = group.flights();
    let evicted = |cause: EvictionCause| stats.evictions(cause);
    GroupReport {
        name: group.name().to_string(),
        policy: config.policy.to_string(),
        ttl_ms: config.ttl.as_millis() as u64,
        ttl_jitter: config.ttl_jitter,
        negative_ttl_ms: config.negative_ttl.as_millis() as u64,
        hot_ttl_ms: config.hot_ttl.as_millis() as u64,
        capacity_bytes: config.capacity,
        negative_share: config.negative_share,
        load_budget: config.load_budget,
        digest: format!("{:016x}", group.digest()),
        entries: stats.entries,
        bytes: stats.bytes,
        negative_entries: stats.negative_entries,
        negative_bytes: stats.negative_bytes,
        entry_bytes_max: group.entry_bytes_max(),
        hits: stats.hits,
        negative_hits: stats.negative_hits,
        misses: stats.misses,
        hot_entries: hot.as_ref().map_or(0, |hot| hot.entries),
        hot_bytes: hot.as_ref().map_or(0, |hot| hot.bytes),
        hot_hits: hot.as_ref().map_or(0, |hot| hot.hits + hot.negative_hits),
        insertions: stats.insertions,
        evictions: Evictions {
            capacity: evicted(EvictionCause::Capacity),
            expired: evicted(EvictionCause::Expired),
            invalidated: evicted(EvictionCause::Invalidated),
            replaced: evicted(EvictionCause::Replaced),
        },
        flights: Flights { client, owner },
    }
}
