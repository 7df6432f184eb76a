//! Who is let in, at every route of the planes for clients and operators, by the program's own table of routes: what is
//! added there is asked for here. What nodes ask each other is in `access/peers.rs`.

mod peers;

use std::{fmt::Write as _, net::SocketAddr};

use ggcache::{
    access::{Scope, Token},
    gateway::{PlaneKind, Route, document, routes_at},
};
use http::Method;
use serde_json::Value as Json;

use crate::support::{
    client::{Response, exchange},
    cluster::Cluster,
    node::Node,
    site::Site,
};

const CONFIG: &str = r#"
default_group = "salaries"

[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]

[group.salaries]
table = "students"
key_column = "name"
value_columns = ["score"]
"#;
const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score TEXT); INSERT INTO students VALUES ('anna', 'confidential');";
/// A group, one that is kept from some, and a name that is none's.
const OPEN: &str = "scores";
const HIDDEN: &str = "salaries";
const ABSENT: &str = "nobodys";

const SCOPES: [(&str, Scope); 4] = [
    ("read", Scope::Read),
    ("write", Scope::Write),
    ("invalidate", Scope::Invalidate),
    ("admin", Scope::Admin),
];

/// The tokens of a node.
struct Tokens {
    /// Has every scope, in every group.
    all: Token,
    /// Has every scope, in one group.
    of_group: Token,
    /// Each has all scopes but one.
    lacking: Vec<(Scope, Token)>,
    unknown: Token,
}

impl Tokens {
    fn new() -> Self {
        let token = || Token::generate().expect("random bytes");
        Self {
            all: token(),
            of_group: token(),
            lacking: SCOPES.map(|(_, scope)| (scope, token())).into(),
            unknown: token(),
        }
    }

    fn config(&self) -> String {
        let mut text = CONFIG.to_owned();
        let mut add = |name: &str, token: &Token, without: Option<Scope>, rest: &str| {
            let scopes: Vec<_> = SCOPES.iter().filter(|(_, scope)| Some(*scope) != without).collect();
            let scopes: Vec<_> = scopes.into_iter().map(|(name, _)| name).collect();
            let hash = token.hash();
            writeln!(text, "[auth.token.{name}]\nhash = \"{}\"\nscopes = {scopes:?}\n{rest}", hash.expose())
                .expect("a string grows");
        };
        add("all", &self.all, None, "");
        add("of_group", &self.of_group, None, &format!("groups = [\"{OPEN}\"]"));
        for (index, (scope, token)) in self.lacking.iter().enumerate() {
            add(&format!("lacking{index}"), token, Some(*scope), "");
        }
        text
    }

    fn lacking(&self, scope: Scope) -> &Token {
        let found = self.lacking.iter().find(|(lacks, _)| *lacks == scope);
        &found.expect("each scope has one").1
    }
}

fn shown(token: &Token) -> String {
    format!("authorization: Bearer {}\r\n", token.expose())
}

async fn node(tokens: &Tokens) -> Cluster {
    Cluster::start(Site::with(&tokens.config(), SQL), 1, &[]).await
}

fn address(node: &Node, plane: PlaneKind) -> SocketAddr {
    if plane == PlaneKind::Api { node.api() } else { node.admin() }
}

const PLANES: [PlaneKind; 2] = [PlaneKind::Api, PlaneKind::Admin];

/// Sends a request that is right but for what `headers` say.
async fn ask(address: SocketAddr, method: &Method, target: &str, headers: &str) -> Response {
    let body = if *method == Method::POST { r#"{"keys": ["anna"]}"# } else { "" };
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let host = if headers.contains("host: ") { "" } else { "host: localhost\r\n" };
    let length = body.len();
    let request =
        format!("{method} {target} HTTP/1.1\r\n{host}{headers}{kind}content-length: {length}\r\n\r\n{body}");
    let answer = exchange(address, request.as_bytes()).await;
    answer.unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

/// Whether a route is about one group: by its path, or as the document of the plane has it, by its query.
fn is_about_group(route: &Route, plane: PlaneKind) -> bool {
    let document: Json = serde_json::from_str(&document(plane)).expect("JSON");
    let operations = document["paths"][route.path].as_object().expect("each route is in the document");
    let mut parameters =
        operations.values().filter_map(|operation| operation["parameters"].as_array()).flatten();
    route.path.contains("{group}") || parameters.any(|parameter| parameter["name"] == "group")
}

/// The targets of a route, for a group.
fn targets(route: &Route, plane: PlaneKind, group: &str) -> Vec<String> {
    [Some(route.path), route.alias]
        .into_iter()
        .flatten()
        .map(|path| {
            let filled =
                path.replace("{group}", group).replace("{key}", "anna").replace("{file}", "index.css");
            assert!(!filled.contains('{'), "{path} has a part that this test can't fill");
            let in_query = is_about_group(route, plane) && !path.contains("{group}");
            if in_query { format!("{filled}?key=anna&group={group}") } else { filled }
        })
        .collect()
}

/// All of an answer but the time of day.
fn timeless(answer: &Response) -> String {
    answer.describe().lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

fn refused(answer: &Response, status: u16, why: &str) {
    assert_eq!(answer.status, status, "{why}: {}", answer.describe());
    let challenge = answer.header("www-authenticate");
    assert!(challenge.is_some_and(|text| text.starts_with("Bearer realm=")), "{why}: {}", answer.describe());
    assert!(!answer.describe().contains("confidential"), "{why}");
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should() {
    let tokens = Tokens::new();
    let cluster = node(&tokens).await;
    let basic = "authorization: Basic YTpi\r\n".to_owned();
    let unknown = [
        shown(&tokens.unknown),
        basic.clone(),
        format!("{}{basic}", shown(&tokens.all)),
        format!("{0}{0}", shown(&tokens.all)),
        "authorization: \r\n".to_owned(),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: \u{7f}\r\n".replace('\u{7f}', "%00\""),
        format!("authorization: Bearer {}\r\n", "a".repeat(10_000)),
        format!("authorization: Bearer {0} {0}\r\n", tokens.all.expose()),
        format!("authorization: {}\r\n", tokens.all.expose()),
        format!("authorization: Bearer {}\r\n", tokens.all.hash().expose()),
    ];
    for plane in PLANES {
        let address = address(&cluster.nodes[0], plane);
        for route in routes_at(plane) {
            for (method, target) in route.methods.iter().flat_map(|method| {
                targets(route, plane, OPEN).into_iter().map(move |target| (method, target))
            }) {
                let why = format!("{method} {target} at {plane:?}");
                let Some(scope) = route.scope else {
                    for headers in ["", basic.as_str(), &shown(&tokens.of_group)] {
                        let answer = ask(address, method, &target, headers).await;
                        assert!(matches!(answer.status, 200 | 308), "{why}: {}", answer.describe());
                    }
                    continue;
                };
                refused(&ask(address, method, &target, "").await, 401, &why);
                for headers in &unknown {
                    refused(&ask(address, method, &target, headers).await, 401, &format!("{why} {headers}"));
                }
                refused(&ask(address, method, &target, &shown(tokens.lacking(scope))).await, 403, &why);
                let answer = ask(address, method, &target, &shown(&tokens.all)).await;
                assert_eq!(answer.status, let_in(method), "{why}: {}", answer.describe());
            }
        }
    }
}

/// The answer to who was let in. None of the groups is writable.
fn let_in(method: &Method) -> u16 {
    if matches!(*method, Method::PUT | Method::DELETE) { 405 } else { 200 }
}

#[tokio::test]
async fn a_token_of_other_groups_learns_nothing_of_a_group() {
    let tokens = Tokens::new();
    let cluster = node(&tokens).await;
    // One id for all, so that answers to the same question are the same.
    let headers = format!("{}x-request-id: one\r\n", shown(&tokens.of_group));
    for plane in PLANES {
        let address = address(&cluster.nodes[0], plane);
        for route in routes_at(plane).filter(|route| is_about_group(route, plane)) {
            for method in route.methods {
                for target in targets(route, plane, OPEN) {
                    let answer = ask(address, method, &target, &headers).await;
                    assert_eq!(answer.status, let_in(method), "{method} {target}: {}", answer.describe());
                }
                let hidden = targets(route, plane, HIDDEN).into_iter().zip(targets(route, plane, ABSENT));
                for (hidden, absent) in hidden {
                    // Also where something else is wrong.
                    for (at, with) in [
                        ("anna", "anna"),
                        ("anna", ""),
                        ("anna", "%zz"),
                        ("anna", "%2e%2e"),
                        ("key=", "key_b64="),
                    ] {
                        let ask = async |target: &str| {
                            ask(address, method, &target.replacen(at, with, 1), &headers).await
                        };
                        let (hidden, absent) = (ask(&hidden).await, ask(&absent).await);
                        let why = format!("{method} {} with {with:?}", route.path);
                        assert_eq!(timeless(&hidden), timeless(&absent), "{why}");
                        assert!(matches!(hidden.status, 400 | 403), "{why}: {}", hidden.describe());
                    }
                    refused(&ask(address, method, &hidden, &headers).await, 403, route.path);
                }
            }
        }
        for target in ["/api?key=anna", "/api/?key=anna", "/api/v1/cluster/owner?key=anna"] {
            let answer = ask(address, &Method::GET, target, &headers).await;
            refused(&answer, 403, "the default group is another");
        }
        // What is about all groups is not cut by group.
        for route in routes_at(plane).filter(|route| route.scope == Some(Scope::Admin)) {
            for method in route.methods {
                refused(&ask(address, method, route.path, &headers).await, 403, route.path);
            }
        }
        let list = ask(address, &Method::GET, "/api/v1/groups", &headers).await;
        assert!(!list.text().contains(HIDDEN), "{}", list.text());
        assert_eq!(list.json()["groups"].as_array().map(Vec::len), Some(1));
        let list = ask(address, &Method::GET, "/api/v1/groups", &shown(&tokens.all)).await.json();
        assert_eq!(list["groups"].as_array().map(Vec::len), Some(2), "{list}");
    }
}

#[tokio::test]
async fn pages_of_others_are_refused_at_every_route_of_the_operators() {
    let tokens = Tokens::new();
    let cluster = node(&tokens).await;
    let address = cluster.nodes[0].admin();
    let token = shown(&tokens.all);
    for route in routes_at(PlaneKind::Admin) {
        for method in route.methods.iter().chain([&Method::OPTIONS]) {
            for target in targets(route, PlaneKind::Admin, OPEN) {
                for foreign in [
                    "host: evil.example:11001\r\n",
                    "host: localhost.evil.example\r\n",
                    "host: localhost\r\nhost: localhost\r\n",
                    "origin: https://evil.example\r\n",
                    "origin: null\r\n",
                    "sec-fetch-site: cross-site\r\n",
                ] {
                    let answer = ask(address, method, &target, &format!("{token}{foreign}")).await;
                    // Two hosts are no HTTP at all, which may be said before.
                    assert!(
                        answer.status == 403 || (answer.status == 400 && foreign.matches("host").count() > 2),
                        "{method} {target} {foreign}: {}",
                        answer.describe()
                    );
                    assert!(
                        answer.header("access-control-allow-origin").is_none()
                            && !answer.describe().contains("confidential")
                    );
                }
            }
        }
    }
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn clients_over_grpc_are_let_in_by_the_same_tokens_on_both_planes() {
    use ggcache::rpc::ggroupcachepb::{Request, g_group_cache_client::GGroupCacheClient};
    use tonic::{Code, transport::Endpoint};

    let tokens = Tokens::new();
    let cluster = node(&tokens).await;
    let node = &cluster.nodes[0];
    for address in [node.api(), node.peer()] {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let client = GGroupCacheClient::new(endpoint.connect().await.expect("it listens"));
        let get = async |group: &str, headers: &[String]| {
            let request = Request { group: group.to_owned(), key: "anna".to_owned() };
            let mut request = tonic::Request::new(request);
            for header in headers {
                request.metadata_mut().append("authorization", header.parse().expect("text"));
            }
            let answer = client.clone().get(request).await;
            answer
                .map(|found| found.into_inner().value)
                .map_err(|status| (status.code(), status.message().to_owned()))
        };
        let bearer = |token: &Token| format!("Bearer {}", token.expose());
        let all = bearer(&tokens.all);
        for headers in [
            vec![],
            vec![bearer(&tokens.unknown)],
            vec!["Basic YTpi".to_owned()],
            vec![all.clone(), all.clone()],
            vec![format!("Bearer {}", "a".repeat(10_000))],
        ] {
            let refused = get(OPEN, &headers).await.expect_err("nobody in particular");
            assert_eq!(refused.0, Code::Unauthenticated, "{headers:?}: {refused:?}");
        }
        let refused = get(OPEN, &[bearer(tokens.lacking(Scope::Read))]).await.expect_err("it may not read");
        assert_eq!(refused.0, Code::PermissionDenied, "{refused:?}");
        let of_group = [bearer(&tokens.of_group)];
        let hidden = get(HIDDEN, &of_group).await.expect_err("another group");
        assert_eq!(hidden.0, Code::PermissionDenied, "{hidden:?}");
        assert_eq!(get(ABSENT, &of_group).await.expect_err("no group"), hidden);
        assert_eq!(get("", &of_group).await.expect_err("the default group"), hidden);
        for (group, headers) in
            [(OPEN, &of_group[..]), (HIDDEN, std::slice::from_ref(&all)), ("", std::slice::from_ref(&all))]
        {
            assert_eq!(get(group, headers).await.expect("let in"), &b"confidential"[..], "{group}");
        }
    }
}
