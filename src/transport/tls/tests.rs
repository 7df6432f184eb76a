//! Nodes that show each other certificates, and who else knocks at their doors.

use std::time::Duration;

use super::{
    super::{
        HttpTransport, PeerGate,
        conformance::{VALUE_BYTES_MAX, listening_with, request, test_all},
    },
    PeerTls,
};
use crate::{
    cluster::{Address, Node},
    error::ErrorCode,
    group::{PeerError, PeerTransport},
    net::{Authority, Dialler, Terms, Tls, TlsPlane},
};

const PATIENCE: Duration = Duration::from_secs(5);

fn gate() -> PeerGate {
    PeerGate::new(|host| matches!(host, "127.0.0.1" | "friend.example"))
}

/// The TLS of a peer whose certificate is for `hosts`, of which it is dialled by the first.
fn tls(authority: &Authority, hosts: &[&str]) -> Tls {
    authority.sign(hosts[0], hosts, &Terms::default());
    Tls::for_peers(&authority.config(TlsPlane::Peer, hosts[0]), hosts[0]).expect("sound files")
}

/// All transports, as the node that says it is `me`.
fn transports(dialler: &Dialler, me: &str) -> Vec<Box<dyn PeerTransport>> {
    let me = Address::new(me).expect("an address");
    let tls = || Some(PeerTls::new(dialler.clone(), me.clone()));
    Vec::from([
        Box::new(HttpTransport::new(PATIENCE, VALUE_BYTES_MAX, tls()).expect("a client"))
            as Box<dyn PeerTransport>,
        #[cfg(feature = "grpc")]
        Box::new(super::super::GrpcTransport::new(PATIENCE, VALUE_BYTES_MAX, tls())),
    ])
}

async fn asked(dialler: &Dialler, me: &str, node: &Node) -> Vec<Result<(), PeerError>> {
    let mut outcomes = Vec::new();
    for transport in transports(dialler, me) {
        outcomes.push(transport.get(node, &request("scores", "json")).await.map(drop));
        let pinged = transport.ping(node, PATIENCE).await;
        assert_eq!(outcomes.last().map(Result::is_ok), Some(pinged.is_ok()), "{pinged:?}");
    }
    outcomes
}

#[tokio::test]
async fn every_transport_speaks_tls() {
    let authority = Authority::new();
    let tls = tls(&authority, &["127.0.0.1"]);
    let dialler = tls.dialler().expect("peers are dialled");
    for transport in transports(&dialler, "127.0.0.1:1") {
        let (node, callee, _tasks) = listening_with(|callee| callee, Some((tls.clone(), gate()))).await;
        test_all(transport.as_ref(), &node, &callee).await;
    }
}

#[tokio::test]
async fn who_asks_must_be_a_peer_and_the_one_it_says() {
    let authority = Authority::new();
    let own = tls(&authority, &["127.0.0.1"]);
    let (node, _callee, _tasks) = listening_with(|callee| callee, Some((own.clone(), gate()))).await;
    let friend = tls(&authority, &["friend.example"]).dialler().expect("peers are dialled");
    let stranger =
        tls(&authority, &["stranger.example", "friend.example"]).dialler().expect("peers are dialled");
    let bare = Dialler::from_file(&authority.path("ca.pem")).expect("an authority");
    for (dialler, me, code) in [
        (&friend, "friend.example:1", None),
        (&stranger, "friend.example:1", None),
        (&stranger, "stranger.example:1", Some(ErrorCode::Forbidden)),
        (&friend, "127.0.0.1:1", Some(ErrorCode::Forbidden)),
        (&bare, "friend.example:1", Some(ErrorCode::Unauthenticated)),
    ] {
        for outcome in asked(dialler, me, &node).await {
            let refused = match &outcome {
                Err(PeerError::Refused(code)) => Some(*code),
                Err(error) => panic!("{me}: {error:?}"),
                Ok(()) => None,
            };
            assert_eq!(refused, code, "{me}");
            let error = outcome.err();
            assert!(error.is_none_or(|error| error.is_answer() && error.final_code().is_none()));
        }
    }
}

#[tokio::test]
async fn who_is_dialled_must_be_the_peer_that_was_meant() {
    let (authority, other) = (Authority::new(), Authority::new());
    let friend = tls(&authority, &["friend.example"]);
    let foreign = tls(&other, &["127.0.0.1"]);
    let own = tls(&authority, &["127.0.0.1"]).dialler().expect("peers are dialled");
    for wrong in [friend, foreign] {
        let (node, _callee, _tasks) = listening_with(|callee| callee, Some((wrong, gate()))).await;
        for outcome in asked(&own, "127.0.0.1:1", &node).await {
            assert!(matches!(outcome, Err(PeerError::Unreachable(_))), "{outcome:?}");
        }
    }
    // Nobody speaks TLS there.
    let (node, _callee, _tasks) = listening_with(|callee| callee, None).await;
    for outcome in asked(&own, "127.0.0.1:1", &node).await {
        assert!(matches!(outcome, Err(PeerError::Unreachable(_))), "{outcome:?}");
    }
}

#[test]
fn a_sender_that_gives_no_name_is_known_by_its_certificate() {
    use crate::net::Identity;
    let authority = Authority::new();
    let identity = |hosts: &[&str]| Identity::of(&authority.der(hosts));
    let (friend, stranger) =
        (identity(&["x", "friend.example"]), identity(&["stranger.example", "127.0.0.1"]));
    let code = |identity: &Identity, from: Option<&[u8]>| {
        gate().admit(Some(identity), from).err().map(|error| error.code)
    };
    assert_eq!(code(&friend, None), None);
    assert_eq!(code(&stranger, None), Some(ErrorCode::Forbidden), "its address must be named");
    assert_eq!(code(&stranger, Some(b"127.0.0.1:1")), None);
    for malformed in [b"friend.example".as_slice(), b"", b"\xff", b"http://friend.example:1"] {
        assert_eq!(code(&friend, Some(malformed)), Some(ErrorCode::BadRequest));
    }
}
