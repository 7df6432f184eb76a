//! `/api/v1/cluster`: who is in the cluster, and who owns a key and why.

use std::{fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{GatewayParts, keys::KeyInQuery, routed_problem, routes, target};
use crate::{
    cluster::{ViewCell, place},
    codec::base64url_encode,
    group::{Groups, Peers},
};

/// Tells how the node learns who is in the cluster.
pub trait DiscoverySource: fmt::Debug + Send + Sync {
    /// How things are.
    fn report(&self) -> DiscoveryReport;
}

/// How the node learns who is in the cluster, and how that goes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DiscoveryReport {
    /// `static` or `etcd`.
    pub kind: &'static str,
    /// Whether the members come from where they are kept; else the node knows no more than its configuration.
    pub listed: bool,
    /// Whether that place can be read now; absent for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub connected: Option<bool>,
    /// Whether the node's own entry is there, as far as it knows; absent for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub registered: Option<bool>,
    /// The addresses of entries that are not nodes', and so not on the ring. Not all, if there are many.
    pub foreign: Vec<String>,
    /// How many such entries there are.
    pub foreign_count: usize,
}

#[derive(Clone)]
pub(super) struct Parts {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    peers: Arc<Peers>,
    discovery: Arc<dyn DiscoverySource>,
}

pub(super) fn routes(parts: GatewayParts) -> Router {
    let router = routes::mount(Router::new(), routes::CLUSTER, get(cluster));
    routes::mount(router, routes::OWNER, get(owner)).with_state(Parts {
        groups: parts.groups,
        views: parts.views,
        peers: parts.peers,
        discovery: parts.discovery,
    })
}

#[derive(Serialize, ToSchema)]
pub(super) struct ClusterReport {
    /// The node that answers.
    node: String,
    /// Equal at nodes with equal views.
    epoch: String,
    virtual_nodes: u32,
    discovery: DiscoveryReport,
    nodes: Vec<NodeReport>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct NodeReport {
    address: String,
    me: bool,
    weight: u32,
    /// The part of all keys that the node owns, 0 to 1.
    share: f64,
    /// How the node that answers sees it: `healthy`, `ejected` or `probing`.
    health: &'static str,
    /// Which process it is; absent where it has not said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// Where it answers clients, if it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    api: Option<String>,
    /// What it speaks to other nodes, if it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    protocol: Option<u32>,
}

/// Who is in the cluster
///
/// As the node that answers sees it: its members, what part of the keys each owns, and how it knows of them.
#[utoipa::path(
    get,
    path = routes::CLUSTER,
    operation_id = "getCluster",
    tag = "cluster",
    responses((
        status = 200,
        description = "The node's view",
        body = ClusterReport,
        example = json!({
            "node": "localhost:10001",
            "epoch": "6b0d5f9f3a2c4e17",
            "virtual_nodes": 2048,
            "discovery": {"kind": "static", "listed": true, "foreign": [], "foreign_count": 0},
            "nodes": [{
                "address": "localhost:10001",
                "me": true,
                "weight": 1,
                "share": 1.0,
                "health": "healthy",
                "id": "9d3c1a5be07f2468",
                "api": "localhost:8000",
                "protocol": 1,
            }],
        }),
    ))
)]
pub(super) async fn cluster(State(parts): State<Parts>) -> Json<ClusterReport> {
    let view = parts.views.load_full();
    let health = parts.peers.health();
    let nodes = view
        .nodes()
        .iter()
        .zip(view.shares())
        .map(|(node, share)| NodeReport {
            address: node.address.to_string(),
            me: node.address == view.me().address,
            weight: node.weight,
            share,
            health: health
                .iter()
                .find(|peer| peer.address == node.address)
                .map_or("healthy", |peer| peer.state),
            id: node.id.map(|id| id.to_string()),
            api: node.api.clone(),
            protocol: node.id.map(|_| node.protocol),
        })
        .collect();
    Json(ClusterReport {
        node: view.me().address.to_string(),
        epoch: view.epoch().to_string(),
        virtual_nodes: view.ring().virtual_nodes(),
        discovery: parts.discovery.report(),
        nodes,
    })
}

#[derive(Serialize, ToSchema)]
pub(super) struct OwnerReport {
    group: String,
    /// The key as text, if it is text.
    #[schema(required)]
    key: Option<String>,
    key_b64: String,
    /// The key's place on the ring, 16 hex digits.
    place: String,
    /// The virtual node that covers the place: the first at or after it.
    point: PointReport,
    owner: String,
    /// Who answers if the owner doesn't.
    #[schema(required)]
    successor: Option<String>,
    /// Whether the node that answers is the owner.
    mine: bool,
    epoch: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct PointReport {
    /// Which of the owner's virtual nodes it is.
    index: u32,
    position: String,
}

/// Who owns a key, and why
///
/// No database is asked, and no other node: the key need not exist.
#[utoipa::path(
    get,
    path = routes::OWNER,
    operation_id = "getOwner",
    tag = "cluster",
    params(KeyInQuery),
    responses((
        status = 200,
        description = "The key's place on the ring, and whose it is",
        body = OwnerReport,
        example = json!({
            "group": "scores",
            "key": "anna",
            "key_b64": "YW5uYQ",
            "place": "8f1d2c3b4a596877",
            "point": {"index": 1207, "position": "8f1f0a6be2d95c31"},
            "owner": "localhost:10001",
            "successor": "localhost:10002",
            "mine": true,
            "epoch": "6b0d5f9f3a2c4e17",
        }),
    ))
)]
pub(super) async fn owner(State(parts): State<Parts>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let target = match target::key_in_query(&query, &parts.groups) {
        Ok(target) => target,
        Err(error) => return routed_problem(error.into_problem()),
    };
    let view = parts.views.load_full();
    let place = place(target.group.name().as_str(), &target.key);
    let point = view.ring().point(place);
    Json(OwnerReport {
        group: target.group.name().to_string(),
        key: std::str::from_utf8(&target.key).ok().map(str::to_owned),
        key_b64: base64url_encode(&target.key),
        place: place.to_string(),
        point: PointReport { index: point.index, position: format!("{:016x}", point.position) },
        owner: view.owner(place).address.to_string(),
        successor: view.successor(place).map(|node| node.address.to_string()),
        mine: view.is_mine(place),
        epoch: view.epoch().to_string(),
    })
    .into_response()
}
