//! `/api/v1/groups`: settings and figures of the groups.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{GatewayParts, keys::GroupInPath, routed_problem, routes};
use crate::{
    access::Caller,
    cache::EvictionCause,
    error::ErrorCode,
    group::{Group, Groups},
    problem::Problem,
};

pub(super) fn routes(parts: GatewayParts) -> Router {
    let router = routes::mount(Router::new(), routes::GROUPS, get(list));
    routes::mount(router, routes::GROUP, get(one)).with_state(parts.groups)
}

#[derive(Serialize, ToSchema)]
pub(super) struct GroupList {
    /// All that this node has.
    groups: Vec<GroupReport>,
    /// The group of a request that names none.
    #[schema(required)]
    default_group: Option<String>,
}

/// A group's settings, and the figures of this node since its start. Durations are in milliseconds, sizes in bytes.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupReport {
    /// The group's name.
    name: String,
    /// Which entries leave when there is no room.
    policy: String,
    /// How long a value is served after it was loaded.
    ttl_ms: u64,
    /// By what part of it a value's ttl is shortened at random, at most.
    ttl_jitter: f64,
    /// How long the database's word is kept that there is no such key.
    negative_ttl_ms: u64,
    /// How long a copy of another owner's key is served.
    hot_ttl_ms: u64,
    /// What the group may take.
    capacity_bytes: u64,
    /// What part of that may be negative entries.
    negative_share: f64,
    /// Queries that this node has under way at most.
    load_budget: usize,
    /// Keys of one query at most.
    load_batch: usize,
    /// For how long past its end a value is answered while it is loaded anew.
    stale_while_revalidate_ms: u64,
    /// For how long past its end a value is answered where the database fails.
    stale_if_error_ms: u64,
    /// Whether clients may write.
    writable: bool,
    /// Whether every change of the table is seen, by a log of changes.
    logged: bool,
    /// How old an answer may be where it is.
    max_staleness_ms: u64,
    /// How long ago this node last knew of every change; `null` without a log, or before the first look at it.
    #[schema(required)]
    staleness_ms: Option<u64>,
    /// Equal at nodes where the group is defined alike.
    digest: String,
    /// Values in memory.
    entries: u64,
    /// What they take, with their keys and the cache's own cost.
    bytes: u64,
    /// Keys that are known not to be there.
    negative_entries: u64,
    /// What they take.
    negative_bytes: u64,
    /// What the largest entry may take that is kept.
    entry_bytes_max: u64,
    /// Values from memory.
    hits: u64,
    /// Absences from memory.
    negative_hits: u64,
    /// Looks into memory that found nothing.
    misses: u64,
    /// Copies of other owners' keys.
    hot_entries: u64,
    /// What they take.
    hot_bytes: u64,
    /// Answers from them.
    hot_hits: u64,
    /// Entries that were stored.
    insertions: u64,
    /// Entries that left, by the cause.
    evictions: Evictions,
    /// Loads under way.
    flights: Flights,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Evictions {
    capacity: u64,
    expired: u64,
    invalidated: u64,
    replaced: u64,
}

/// Flights that run now.
#[derive(Serialize, ToSchema)]
pub(super) struct Flights {
    client: usize,
    owner: usize,
}

/// The groups, their settings and figures
#[utoipa::path(
    get,
    path = routes::GROUPS,
    operation_id = "listGroups",
    tag = "groups",
    responses((
        status = 200,
        description = "Every group of the node",
        body = GroupList,
        example = json!({"groups": [], "default_group": null}),
    ))
)]
pub(super) async fn list(
    State(groups): State<Arc<Groups>>,
    Extension(caller): Extension<Caller>,
) -> Json<GroupList> {
    let seen = |group: &Arc<Group>| caller.sees(group.name().as_str());
    let default_group = groups.default_group().filter(seen).map(|group| group.name().to_string());
    Json(GroupList {
        groups: groups.iter().filter(seen).map(|group| report(&group)).collect(),
        default_group,
    })
}

/// One group, its settings and figures
///
/// Figures are this node's own, since its start.
#[utoipa::path(
    get,
    path = routes::GROUP,
    operation_id = "getGroup",
    tag = "groups",
    params(GroupInPath),
    responses((
        status = 200,
        description = "The group",
        body = GroupReport,
        example = json!({
            "name": "scores", "policy": "lru", "ttl_ms": 30000, "ttl_jitter": 0.1, "negative_ttl_ms": 5000,
            "hot_ttl_ms": 1000, "capacity_bytes": 67108864, "negative_share": 0.1, "load_budget": 16,
            "load_batch": 256, "stale_while_revalidate_ms": 0, "stale_if_error_ms": 0, "writable": false, "logged": true,
            "max_staleness_ms": 1000, "staleness_ms": 12, "digest": "1f6d0c8a3b597e24", "entries": 1, "bytes": 224, "negative_entries": 0, "negative_bytes": 0,
            "entry_bytes_max": 4194304, "hits": 12, "negative_hits": 0, "misses": 1, "hot_entries": 0,
            "hot_bytes": 0, "hot_hits": 0, "insertions": 1,
            "evictions": {"capacity": 0, "expired": 0, "invalidated": 0, "replaced": 0},
            "flights": {"client": 0, "owner": 0},
        }),
    ))
)]
pub(super) async fn one(
    State(groups): State<Arc<Groups>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    match named(&groups, name) {
        Ok(group) => Json(report(&group)).into_response(),
        Err(problem) => routed_problem(problem),
    }
}

/// The group that a route's path names.
///
/// # Errors
/// If there is none of the name.
pub(super) fn named(
    groups: &Groups,
    name: Result<Path<String>, PathRejection>,
) -> Result<Arc<Group>, Problem> {
    name.ok().and_then(|Path(name)| groups.get(&name)).ok_or_else(|| {
        Problem::new(ErrorCode::GroupNotFound, "there is no group of that name; see /api/v1/groups")
    })
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
        load_batch: config.load_batch,
        stale_while_revalidate_ms: config.stale_while_revalidate.as_millis() as u64,
        stale_if_error_ms: config.stale_if_error.as_millis() as u64,
        writable: group.is_writable(),
        logged: group.is_logged(),
        max_staleness_ms: config.max_staleness.as_millis() as u64,
        staleness_ms: group
            .staleness()
            .filter(|staleness| *staleness < Duration::MAX)
            .map(|staleness| staleness.as_millis() as u64),
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
