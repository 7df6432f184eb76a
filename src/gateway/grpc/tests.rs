//! The public service, called without a network.

use tonic::{Code, Request};

use super::{
    super::{layers::InFlight, tests::Site},
    Arc, ClientRpcs, GGroupCache as _, NodeReply, ggroupcachepb,
};

fn rpcs(site: &Site) -> ClientRpcs {
    let parts = &site.parts;
    ClientRpcs {
        groups: Arc::clone(&parts.groups),
        views: Arc::clone(&parts.views),
        request_timeout: parts.request_timeout,
        in_flight: InFlight::new(parts.in_flight_max),
        reply: Arc::new(NodeReply::new(parts.views.load().me())),
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
