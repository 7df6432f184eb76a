//! `/api/v1/cluster`: who is in the cluster, and who owns a key and why.

use std::{fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::{GatewayParts, routed_problem, target};
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
#[derive(Clone, Debug, Serialize)]
pub struct DiscoveryReport {
    /// `static` or `etcd`.
    pub kind: &'static str,
    /// Whether the members come from where they are kept; else the node knows no more than its configuration.
    pub listed: bool,
    /// Whether that place can be read now; `None` for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Whether the node's own entry is there, as far as it knows; `None` for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<bool>,
    /// The addresses of entries that are not nodes', and so not on the ring. Not all, if there are many.
    pub foreign: Vec<String>,
    /// How many such entries there are.
    pub foreign_count: usize,
}

#[derive(Clone)]
struct Parts {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    peers: Arc<Peers>,
    discovery: Arc<dyn DiscoverySource>,
}

pub(super) fn routes(parts: GatewayParts) -> Router {
    Router::new()
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/cluster/owner", get(owner))
        .with_state(Parts {
            groups: parts.groups,
            views: parts.views,
            peers: parts.peers,
            discovery: parts.discovery,
        })
}

#[derive(Serialize)]
struct ClusterReport {
    /// The node that answers.
    node: String,
    /// Equal at nodes with equal views.
    epoch: String,
    virtual_nodes: u32,
    discovery: DiscoveryReport,
    nodes: Vec<NodeReport>,
}

#[derive(Serialize)]
struct NodeReport {
    address: String,
    me: bool,
    weight: u32,
    /// The part of all keys that the node owns, 0 to 1.
    share: f64,
    /// How the node that answers sees it: `healthy`, `ejected` or `probing`.
    health: &'static str,
    /// Which process it is; absent where it has not said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Where it answers clients, if it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<String>,
    /// What it speaks to other nodes, if it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u32>,
}

async fn cluster(State(parts): State<Parts>) -> Json<ClusterReport> {
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

#[derive(Serialize)]
struct OwnerReport {
    group: String,
    /// The key as text, if it is text.
    key: Option<String>,
    key_b64: String,
    /// The key's place on the ring, 16 hex digits.
    place: String,
    /// The virtual node that covers the place: the first at or after it.
    point: PointReport,
    owner: String,
    /// Who answers if the owner doesn't.
    successor: Option<String>,
    /// Whether the node that answers is the owner.
    mine: bool,
    epoch: String,
}

#[derive(Serialize)]
struct PointReport {
    /// Which of the owner's virtual nodes it is.
    index: u32,
    position: String,
}

async fn owner(State(parts): State<Parts>, RawQuery(query): RawQuery) -> Response {
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
