//! `POST /api/v1/groups/{group}/keys:invalidate`: drops keys at every node, and says who acknowledged it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::post,
};
use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{
    DiscoverySource, GatewayParts, axum_problem, groups, json_body,
    keys::GroupInPath,
    layers::{self, Deadline},
    no_view, routed_problem, routes,
    wire_key::WireKey,
};
use crate::{
    cluster::ViewCell,
    error::ErrorCode,
    group::{Groups, InvalidationReport, KEY_BYTES_MAX, Key, Selection},
    problem::Problem,
};

/// The most keys that one request names.
pub(super) const KEYS_MAX: usize = 10_000;
/// The largest body, in bytes: as many keys as may be named, at a usual length.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The nodes are waited for until so long before the request's deadline, or a twentieth of the request's time if that
/// is less: or else a 504 would hide who has acknowledged.
const REPORT_ROOM_MAX: Duration = Duration::from_millis(50);

pub(super) fn routes(parts: GatewayParts) -> Router {
    routes::mount(Router::new(), routes::INVALIDATE, post(invalidate).fallback(layers::wants_post))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Parts {
            groups: parts.groups,
            report_room: REPORT_ROOM_MAX.min(parts.request_timeout / 20),
            views: parts.views,
            discovery: parts.discovery,
        })
}

#[derive(Clone)]
pub(super) struct Parts {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    discovery: Arc<dyn DiscoverySource>,
    report_room: Duration,
}

/// What to drop: keys, every key that begins with a prefix, or all; one of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Invalidation, example = json!({"keys": ["anna", {"b64": "_w"}]}))]
pub(super) struct Body {
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, max_items = 10_000)]
    keys: Option<Vec<WireKey>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    prefix: Option<WireKey>,
    /// `true`, where it is given.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    all: Option<bool>,
}

/// What is there is meant: a `null` is not taken for nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// What each node acknowledged.
#[derive(Serialize, ToSchema)]
#[schema(as = InvalidationReport)]
pub(super) struct Report {
    /// Whether every node acknowledged: then no read that begins now is answered with an older value.
    complete: bool,
    acknowledged: Vec<Acknowledged>,
    failed: Vec<Failed>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Acknowledged {
    node: String,
    /// Entries that were there.
    dropped: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Failed {
    node: String,
    error: &'static str,
}

const EXPECTED: &str = r#"{"keys": ["a", {"b64": "_w"}]}, {"prefix": "user:"} or {"all": true}"#;

/// Drops keys at every node
///
/// The database is not written. A read that begins after a complete answer is not answered with a value from before.
/// An incomplete one names the nodes that may still have older values; it is safe to ask again.
#[utoipa::path(
    post,
    path = routes::INVALIDATE,
    operation_id = "invalidateKeys",
    tag = "keys",
    params(GroupInPath),
    request_body = Body,
    responses((
        status = 200,
        description = "Done, at the nodes that are named as acknowledged",
        body = Report,
        example = json!({
            "complete": true,
            "acknowledged": [{"node": "localhost:10001", "dropped": 1}, {"node": "localhost:10002", "dropped": 0}],
            "failed": [],
        }),
    ))
)]
pub(super) async fn invalidate(
    State(parts): State<Parts>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let group = match groups::named(&parts.groups, name) {
        Ok(group) => group,
        Err(problem) => return routed_problem(problem),
    };
    let body = json_body::read(&headers, body, BODY_BYTES_MAX, EXPECTED);
    let selection = match body.and_then(selection) {
        Ok(selection) => selection,
        Err(problem) => return routed_problem(problem),
    };
    if parts.views.is_provisional() {
        return routed_problem(no_view());
    }
    // Asked first: what is known only afterwards was told to nobody.
    let is_listed = parts.discovery.report().listed;
    let deadline = deadline - parts.report_room;
    // In a task of its own: a client that hangs up does not leave some nodes told and others not.
    let work = tokio::spawn(async move { group.invalidate_everywhere(&selection, deadline).await });
    match work.await {
        Ok(report) if is_listed => Json(Report::from(report)).into_response(),
        Ok(report) => Json(Report::from(report).with_unknown_nodes()).into_response(),
        Err(_) => axum_problem(ErrorCode::ShuttingDown, "the node is stopping"),
    }
}

pub(super) fn selection(body: Body) -> Result<Selection, Problem> {
    let bad = |detail: String| Problem::new(ErrorCode::BadRequest, detail);
    match (body.keys, body.prefix, body.all) {
        (Some(keys), None, None) if keys.len() > KEYS_MAX => {
            let detail = format!("{} keys, and a request names at most {KEYS_MAX}", keys.len());
            Err(Problem::new(ErrorCode::TooLarge, detail))
        }
        (Some(keys), None, None) => {
            let key = |key: WireKey| Key::new(key.into_bytes()?).map_err(|error| error.to_string());
            keys.into_iter().map(key).collect::<Result<_, _>>().map(Selection::Keys).map_err(bad)
        }
        (None, Some(prefix), None) => match prefix.into_bytes() {
            Ok(prefix) if prefix.is_empty() => {
                Err(bad("an empty prefix names every key; write {\"all\": true} to mean that".to_owned()))
            }
            Ok(prefix) if prefix.len() > KEY_BYTES_MAX => {
                let length = prefix.len();
                Err(bad(format!("the prefix has {length} bytes, and no key has more than {KEY_BYTES_MAX}")))
            }
            prefix => prefix.map(Selection::Prefix).map_err(bad),
        },
        (None, None, Some(true)) => Ok(Selection::Prefix(Vec::new())),
        _ => Err(bad(format!("the body names keys, a prefix, or all, one of them; write {EXPECTED}"))),
    }
}

impl Report {
    /// What is reported while the other nodes are a guess: there may be some that were not told.
    fn with_unknown_nodes(mut self) -> Self {
        self.complete = false;
        self.failed.push(Failed {
            node: "discovery".to_owned(),
            error: "etcd has not answered since the start: other nodes are not known",
        });
        self
    }
}

impl From<InvalidationReport> for Report {
    fn from(report: InvalidationReport) -> Self {
        let complete = report.is_complete();
        let acknowledged = report
            .acknowledged
            .into_iter()
            .map(|(node, dropped)| Acknowledged { node: node.to_string(), dropped })
            .collect();
        let failed = report
            .failed
            .into_iter()
            .map(|(node, error)| Failed { node: node.to_string(), error: error.as_str() })
            .collect();
        Self { complete, acknowledged, failed }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as RequestBody;
    use http::{Request, header};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::{super::layers, *};
    use crate::{
        cluster::{Address, Node, View, ViewCell},
        gateway::tests::Site,
        group::{Group, GroupConfig, GroupName, GroupParts, GroupSettings, Peers},
        origin::MapLoader,
        transport::{Fault, MemoryNetwork},
    };

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_is_named_before_the_request_times_out() {
        let address = |text| Address::new(text).expect("an address");
        let (me, silent) = (address("localhost:1"), address("localhost:2"));
        let network = MemoryNetwork::new();
        network.fault(&me, &silent, Some(Fault::Silence));
        let views = View::new(Node::new(me.clone()), [Node::new(silent.clone())], 8);
        let views = Arc::new(ViewCell::new(views));
        let parts = GroupParts::alone(Arc::new(MapLoader::default()));
        let peers = Peers::new(
            Arc::new(network.transport(&me)),
            Arc::clone(&views),
            Arc::clone(&parts.clock),
            parts.tasks.clone(),
            parts.metrics.clone(),
            // Longer than the request: only its deadline ends the wait.
            Duration::from_secs(60),
        );
        let parts = GroupParts { peers: Arc::clone(&peers), ..parts };
        let name = GroupName::new("scores").expect("a name");
        let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
        let site = Site::starting();
        site.hear([]);
        site.find_list();
        let parts = GatewayParts {
            groups: Arc::new(Groups::new([group], None).expect("one group")),
            views,
            peers,
            request_timeout: Duration::from_secs(2),
            ..site.parts.clone()
        };
        let request = Request::post("/api/v1/groups/scores/keys:invalidate")
            .header(header::CONTENT_TYPE, "application/json")
            .body(RequestBody::from(r#"{"all": true}"#))
            .expect("a request");
        let routes = layers::around(routes(parts.clone()), &parts);
        let response = routes.oneshot(request).await.expect("never fails");
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let report: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(report["acknowledged"][0]["node"], me.as_str());
        assert_eq!(report["failed"], serde_json::json!([{"node": silent.as_str(), "error": "silent"}]));
    }

    #[test]
    fn a_body_names_one_kind_of_thing() {
        let key = |bytes: &[u8]| Key::new(bytes).expect("a key");
        let selection = |body: &[u8]| {
            let read = json_body::parse(body, EXPECTED).and_then(selection);
            read.map_err(|problem| (problem.code(), problem.detail().to_owned()))
        };
        assert_eq!(
            selection(br#"{"keys": ["a", {"b64": "_w"}]}"#),
            Ok(Selection::Keys(vec![key(b"a"), key(b"\xff")]))
        );
        assert_eq!(selection(br#"{"prefix": "user:"}"#), Ok(Selection::Prefix(b"user:".to_vec())));
        assert_eq!(selection(br#"{"all": true}"#), Ok(Selection::Prefix(Vec::new())));
        for (body, message) in [
            ("", "write {"),
            ("{}", "one of them"),
            (r#"{"all": false}"#, "one of them"),
            (r#"{"keys": ["a"], "all": true}"#, "one of them"),
            (r#"{"key": "a"}"#, "unknown field"),
            (r#"{"keys": [1]}"#, "write {"),
            (r#"{"keys": [""]}"#, "empty"),
            (r#"{"keys": [{"b64": "!"}]}"#, "base64url"),
            (r#"{"prefix": ""}"#, "\"all\": true"),
            (r#"{"keys": ["a"], "all": null}"#, "invalid type: null"),
            (r#"{"keys": null, "prefix": "a"}"#, "invalid type: null"),
            (&format!(r#"{{"prefix": "{}"}}"#, "a".repeat(1025)), "1025 bytes"),
        ] {
            let (code, detail) = selection(body.as_bytes()).expect_err(body);
            assert_eq!(code, ErrorCode::BadRequest);
            assert!(detail.contains(message), "{body}: {detail}");
        }
        let many = format!("{{\"keys\": [{}]}}", vec!["\"a\""; KEYS_MAX + 1].join(","));
        assert_eq!(selection(many.as_bytes()).expect_err("too many").0, ErrorCode::TooLarge);
    }
}
