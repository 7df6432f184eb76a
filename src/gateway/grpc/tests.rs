//! The public service, called without a network.

use futures_util::stream;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{
    super::{layers::InFlight, tests::Site},
    *,
};
use crate::rpc::peer_v1;

const PEER_SERVICE: &str = "ggcache.peer.v1.Peer";

/// What reflection answers; `None` for what it does not know.
async fn reflected(routes: &Routes, question: MessageRequest) -> Option<MessageResponse> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(routes.clone());
    let asked = client.server_reflection_info(stream::iter([request])).await;
    match asked.expect("answers").into_inner().message().await {
        Ok(answer) => Some(answer.expect("an answer").message_response.expect("it says something")),
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => panic!("{status}"),
    }
}

/// The services that reflection tells of, and whether the nodes' own can be looked up.
async fn told_of(routes: Routes) -> (Vec<String>, bool) {
    let listed = reflected(&routes, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    names.sort();
    let mut found = Vec::new();
    for question in [
        MessageRequest::FileContainingSymbol(PEER_SERVICE.to_owned()),
        MessageRequest::FileContainingSymbol("ggcache.peer.v1.InvalidateRequest".to_owned()),
        MessageRequest::FileByFilename("ggcache_peer_v1.proto".to_owned()),
    ] {
        found.push(reflected(&routes, question).await.is_some());
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    (names, found[0])
}

#[tokio::test]
async fn reflection_tells_clients_of_what_is_theirs() {
    let public = Gateway::api(Site::starting().parts.clone()).rpcs().prepare();
    let theirs =
        ["ggroupcachepb.GGroupCache", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];
    assert_eq!(told_of(public).await, (theirs.map(str::to_owned).to_vec(), false));

    let peer = OtherService { name: PEER_SERVICE, descriptors: peer_v1::DESCRIPTORS };
    let (names, found) = told_of(client_rpcs(&Site::starting().parts, &[peer]).prepare()).await;
    assert!(found && names.len() == 4 && names.iter().any(|name| name == PEER_SERVICE), "{names:?}");
}

fn rpcs(site: &Site) -> ClientRpcs {
    let parts = &site.parts;
    ClientRpcs {
        groups: Arc::clone(&parts.groups),
        views: Arc::clone(&parts.views),
        request_timeout: parts.request_timeout,
        in_flight: InFlight::new(parts.in_flight_max),
        reply: Arc::new(NodeReply::new(parts.views.load().me(), parts.encodings.clone())),
    }
}

fn anna() -> Request<ggroupcachepb::Request> {
    Request::new(ggroupcachepb::Request { group: "scores".to_owned(), key: "anna".to_owned() })
}

#[tokio::test]
async fn a_node_that_knows_nobody_yet_is_unavailable() {
    let site = Site::starting();
    let rpcs = rpcs(&site);
    assert_eq!(rpcs.get(anna()).await.expect_err("it can't tell whose it is").code(), Code::Unavailable);
    site.hear([]);
    assert_eq!(rpcs.get(anna()).await.expect("an answer").into_inner().value, &b"333"[..]);
}
