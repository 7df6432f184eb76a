//! What is not in the table of routes is not answered, however it is written; and what is counted or decided by a group's
//! name goes for every way of writing it.

use std::collections::BTreeSet;

use super::*;
use crate::{
    access::{Scope, Scopes, Token, TokenConfig},
    gateway::{ROUTES, routes_at},
};

const SCOPES: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Invalidate, Scope::Admin];

/// A node of which nobody may ask anything without a token; and a token, for a group that is not there.
fn closed() -> (Site, Token) {
    let token = Token::generate().expect("random bytes");
    let mut auth = AuthConfig { anonymous: Scopes::NONE, ..AuthConfig::default() };
    let groups = Some(BTreeSet::from(["others".to_owned()]));
    let scopes = SCOPES.into_iter().collect();
    auth.tokens.insert("app".to_owned(), TokenConfig { hash: token.hash(), scopes, groups });
    let mut site = Site::starting();
    site.parts.admission = admission(&auth, RateConfig::default());
    known(&site);
    let key = Key::new("anna").expect("a key");
    site.origin.insert(key, Value::text("confidential"));
    (site, token)
}

/// Ways to write a path that a router, a proxy or a programmer may take for another.
fn disguises(path: &str) -> Vec<String> {
    let (head, last) = path.rsplit_once('/').expect("an absolute path");
    let encoded: String =
        path.bytes().map(|b| if b == b'/' { "/".to_owned() } else { format!("%{b:02x}") }).collect();
    vec![
        path.to_owned(),
        format!("{path}/"),
        format!("/{path}"),
        format!("//localhost{path}"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/livez/..{path}"),
        format!("/docs/..%2f..{path}"),
        format!("/livez;{path}"),
        format!("/livez%00{path}"),
        format!("{path}%00"),
        format!("{path};x=/livez"),
        format!("{path}?/livez"),
        format!("{path}%3fkey=anna"),
        format!("{path}%23"),
        path.to_uppercase(),
        path.replace("/api", "/API"),
        path.replace(':', "%3A"),
        path.replace("scores", "%73cores"),
        path.replace("scores", "scores%2f"),
        path.replace("scores", "x/../scores"),
        path.replacen('/', "%2f", 2),
        path.replace('/', "\\"),
        path.replace('/', "//"),
        format!("{head}/%2e/{last}"),
        format!("{head}/..%2f{last}"),
        format!("http://localhost{path}"),
        format!("http://evil.example{path}"),
        format!("https://localhost:1{path}"),
        encoded,
    ]
}

fn fill(path: &str) -> String {
    path.replace("{group}", "scores").replace("{key}", "anna").replace("{file}", "index.css")
}

#[tokio::test]
async fn no_disguise_of_a_path_gets_past_the_tokens() {
    let (site, token) = closed();
    let token = format!("authorization: Bearer {}\r\n", token.expose());
    for plane in [PlaneKind::Api, PlaneKind::Admin] {
        let address = site.serve_as(plane).await;
        let open: Vec<_> = routes_at(plane).filter(|route| route.scope.is_none()).collect();
        for route in ROUTES.iter().filter(|route| route.scope.is_some()) {
            let mut targets = disguises(&fill(route.path));
            for query in
                ["key=anna&group=scores", "key=anna", "group=scores&group=others&key=anna", "%6bey=anna"]
            {
                targets.push(format!("{}?{query}", route.path));
                targets.extend(route.alias.map(|alias| format!("{alias}?{query}")));
            }
            for target in targets.iter().filter(|target| !target.contains('{')) {
                for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "X-GET"] {
                    for headers in ["", "x-http-method-override: POST\r\nx-original-url: /livez\r\n", &token]
                    {
                        let told = with(address, method, target, headers).await;
                        let body = String::from_utf8_lossy(&told.body);
                        let why = format!("{method} {target} at {plane:?} {headers}: {} {body}", told.head);
                        assert!(!body.contains("confidential"), "{why}");
                        let path = target.strip_prefix("http://localhost").unwrap_or(target);
                        let is_open = open.iter().any(|route| route.is_of(path));
                        // A token without groups that are there may see what is nobody's in particular.
                        let may_answer = is_open || !headers.is_empty() && headers == token;
                        let expected: &[u16] = if may_answer {
                            &[200, 308, 400, 403, 404, 405]
                        } else {
                            &[400, 401, 403, 404, 405]
                        };
                        assert!(expected.contains(&told.status), "{why}");
                        assert!(!told.head.contains("access-control-allow"), "{why}");
                    }
                }
                let told = with(
                    address,
                    "OPTIONS",
                    target,
                    "access-control-request-method: POST\r\norigin: null\r\n",
                )
                .await;
                assert!(matches!(told.status, 204 | 400 | 403 | 404) && told.body.len() < 1000, "{target}");
                assert!(!told.head.contains("access-control-allow"), "{target}: {}", told.head);
            }
        }
    }
    assert_eq!(site.origin.loads(), 0, "nothing was read");
}

#[tokio::test]
async fn a_groups_rate_goes_for_every_way_to_write_its_name() {
    let mut site = Site::starting();
    let rate = RateConfig { group: "1/h".parse().expect("a rate"), ..RateConfig::default() };
    site.parts.admission = admission(&AuthConfig::default(), rate);
    known(&site);
    let address = site.serve().await;
    assert_eq!(with(address, "GET", "/api/v1/groups/scores/keys/anna", "").await.status, 200);
    for target in [
        "/api/v1/groups/%73cores/keys/anna",
        "/api/v1/groups/%73%63%6F%72%65%73",
        "/api/v1/groups/scores",
        "/api?key=anna",
        "/api/?key=anna&group=%73cores",
    ] {
        assert_eq!(with(address, "GET", target, "").await.status, 429, "{target}");
    }
    let batch = "/api/v1/groups/score%73/keys:batchGet";
    assert_eq!(ask(address, "POST", batch, r#"{"keys": ["anna"]}"#).await.0, 429);
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn a_path_in_http_2_is_looked_at_as_in_http_1() {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let (site, _) = closed();
    let cases = [
        (PlaneKind::Api, "http://localhost/api/v1/groups/scores/keys/anna", None, 401),
        (PlaneKind::Api, "http://localhost/api?key=anna", None, 401),
        (PlaneKind::Api, "http://localhost/livez", None, 200),
        (PlaneKind::Admin, "http://localhost/livez", None, 200),
        (PlaneKind::Admin, "http://localhost/metrics", None, 401),
        (PlaneKind::Admin, "http://evil.example/livez", None, 403),
        (PlaneKind::Admin, "http://evil.example/livez", Some("localhost"), 400),
        (PlaneKind::Admin, "http://localhost/livez", Some("evil.example"), 400),
        (PlaneKind::Api, "http://localhost/livez", Some("evil.example"), 400),
        (PlaneKind::Api, "http://localhost/livez", Some("LOCALHOST"), 200),
    ];
    for (plane, uri, host, status) in cases {
        let stream = TcpStream::connect(site.serve_as(plane).await).await.expect("accepted");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        let driver = tokio::spawn(connection);
        let mut request = Request::get(uri).body(Empty::<Bytes>::new()).expect("a request");
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().expect("a name"));
        }
        let response = sender.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), status, "{uri} {host:?}");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(!body.windows(12).any(|bytes| bytes == b"confidential"));
        driver.abort();
    }
}

/// What a browser says of what it wants.
fn wanted(site: &str, dest: &str) -> String {
    format!("sec-fetch-site: {site}\r\nsec-fetch-dest: {dest}\r\n")
}

#[tokio::test]
async fn a_value_is_no_script_of_its_origin_whatever_its_type_is_said_to_be() {
    for own in ["text/html", "text/javascript", "image/svg+xml", "application/xhtml+xml"] {
        let mut site = Site::starting();
        let parts = GroupParts::alone(Arc::clone(&site.origin));
        let name = GroupName::new("scores").expect("a name");
        let config = GroupConfig { content_type: Some(own.to_owned()), ..GroupConfig::default() };
        let group = Group::new(name, config, GroupSettings::default(), parts);
        site.parts.groups = Arc::new(Groups::new([group], None).expect("one group"));
        known(&site);
        let address = site.serve().await;
        for headers in [
            String::new(),
            wanted("none", "document"),
            wanted("cross-site", "script"),
            wanted("same-origin", "empty"),
        ] {
            let told = with(address, "GET", ANNA, &headers).await;
            assert_eq!((told.status, told.header("content-type")), (200, Some(own)), "{headers}");
            let policy = told.header("content-security-policy").expect("a policy");
            assert!(policy.contains("default-src 'none'") && policy.contains("sandbox;"), "{policy}");
            assert_eq!(told.header("x-content-type-options"), Some("nosniff"));
        }
        let scripts = ["script", "worker", "sharedworker", "serviceworker", "xslt"]
            .map(|dest| wanted("same-origin", dest));
        for headers in scripts.into_iter().chain(["service-worker: script\r\n".to_owned()]) {
            for method in ["GET", "HEAD"] {
                let told = with(address, method, ANNA, &headers).await;
                assert_eq!(
                    (told.status, told.header("content-type")),
                    (403, Some("application/problem+json")),
                    "{headers}"
                );
            }
        }
    }
}

#[tokio::test]
async fn no_answer_is_taken_for_another_type_than_it_says() {
    let site = Site::starting();
    known(&site);
    for plane in [PlaneKind::Api, PlaneKind::Admin] {
        let address = site.serve_as(plane).await;
        for route in routes_at(plane) {
            let target = fill(route.path);
            let target = if target.contains("keys") || target.matches('/').count() > 1 {
                target
            } else {
                format!("{target}?key=anna")
            };
            let method = route.methods[0].as_str();
            let body = if method == "POST" { r#"{"keys": ["anna"]}"# } else { "" };
            let head = format!(
                "{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            );
            let told = exchange(address, &format!("{head}content-length: {}\r\n", body.len()), body).await;
            assert_eq!(told.header("x-content-type-options"), Some("nosniff"), "{target}: {}", told.head);
        }
    }
}

/// A request and its reset, in frames of HTTP/2.
#[cfg(feature = "grpc")]
fn reset_at_once(stream: u32, path: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let literal =
        |name: u8, text: &str| [&[name, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // GET, http, and the rest as literals (RFC 7541, appendix A).
    let head = [vec![0x82, 0x86], literal(4, path), literal(1, "localhost")].concat();
    [frame(1, 5, &head), frame(3, 0, &8_u32.to_be_bytes())].concat()
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn a_stream_that_is_reset_already_begins_no_load() {
    let site = Site::starting();
    let address = site.serve().await;
    known(&site);
    let mut client = TcpStream::connect(address).await.expect("accepted");
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for index in 0..50 {
        all.extend(reset_at_once(2 * index + 1, &format!("/api/v1/groups/scores/keys/n{index}")));
    }
    // A ping, which is answered after all that.
    all.extend(b"\0\0\x08\x06\0\0\0\0\0whatever");
    client.write_all(&all).await.expect("sent");
    let mut told = Vec::new();
    while !told.windows(8).any(|bytes| bytes == b"whatever") {
        assert!(client.read_buf(&mut told).await.expect("no reset") > 0);
    }
    // The same node answers, and loads what is waited for.
    assert_eq!(with(address, "GET", ANNA, "").await.status, 200);
    assert_eq!(site.origin.loads(), 1);
}
