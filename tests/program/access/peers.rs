//! What nodes ask each other is for nodes: at every path that the peer plane answers, by its own table, and at every
//! method of its gRPC service, by the descriptors that it is generated from.

use ggcache::{
    access::{Head, PeerSecret, SEAL, Sealer, Secrets},
    transport::{PEER_ROUTES, PeerRoute, unix_time_ms},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{CONFIG, SQL};
use crate::{
    program::tls,
    support::{
        client::{Response, exchange},
        cluster::Cluster,
        node::Node,
        site::Site,
    },
};

const SECRET: &str = "a-secret-that-is-known-to-the-nodes-only";
const BODY: &str = r#"{"group":"scores","keys":["anna"]}"#;
/// What requests carry that means something; the last one is a newer version's.
const HEADERS: [&str; 6] = [
    "ggcache-epoch",
    "ggcache-budget-ms",
    "ggcache-fresh",
    "ggcache-digest",
    "ggcache-from",
    "ggcache-of-tomorrow",
];

async fn node() -> Cluster {
    Cluster::start(Site::with(CONFIG, SQL), 1, &[&format!("node.secret={SECRET}")]).await
}

fn sealer(secret: &str) -> Sealer {
    Sealer::new(&Secrets::new(PeerSecret::new(secret), None)).expect("a random number")
}

fn target(route: &PeerRoute) -> String {
    if route.names_key { format!("{}scores/anna", route.path) } else { route.path.to_owned() }
}

fn headers() -> HeaderMap {
    let named = HEADERS.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
    named.into_iter().collect()
}

/// A request as it is sent.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn over_http(route: &PeerRoute) -> Self {
        let body = if route.method == Method::POST { BODY.as_bytes().to_vec() } else { Vec::new() };
        Self { method: route.method.clone(), target: target(route), headers: headers(), body }
    }

    fn sealed(&self, secret: &str, callee: &str, now_ms: u64) -> Self {
        let mut sealed = self.clone();
        let head = Head { method: self.method.as_str(), target: &self.target, headers: &self.headers };
        let body = (!self.body.is_empty()).then_some(&self.body[..]);
        sealed.headers.insert(SEAL, sealer(secret).seal(&head, body, callee, now_ms));
        sealed
    }

    /// Requests that a node must refuse, each with what is wrong with it. All are new: none was sent before.
    fn forgeries(&self, node: &Node) -> Vec<(String, Self)> {
        let right = || self.sealed(SECRET, &node.name, unix_time_ms());
        let mut all = vec![
            ("no seal".to_owned(), self.clone()),
            ("another secret".to_owned(), self.sealed(&SECRET.replace('a', "b"), &node.name, unix_time_ms())),
            ("for another node".to_owned(), self.sealed(SECRET, "localhost:1", unix_time_ms())),
            ("too old".to_owned(), self.sealed(SECRET, &node.name, unix_time_ms() - 60_000)),
        ];
        let mut add = |what: String, change: &dyn Fn(&mut Self)| {
            let mut changed = right();
            change(&mut changed);
            all.push((what, changed));
        };
        add("two seals".to_owned(), &|sent| {
            let seal = sent.headers[SEAL].clone();
            sent.headers.append(SEAL, seal);
        });
        add("a query".to_owned(), &|sent| sent.target.push_str("?key_b64=YW5uYQ"));
        add("another path".to_owned(), &|sent| sent.target.push('x'));
        add("a path in another case".to_owned(), &|sent| sent.target = sent.target.replacen('g', "G", 1));
        add("a longer body".to_owned(), &|sent| sent.body.push(b' '));
        if !self.body.is_empty() {
            add("no body".to_owned(), &|sent| sent.body.clear());
            add("another body".to_owned(), &|sent| sent.body[0] ^= 1);
        }
        for name in HEADERS {
            add(format!("another {name}"), &|sent| {
                drop(sent.headers.insert(name, HeaderValue::from_static("2")))
            });
            add(format!("no {name}"), &|sent| drop(sent.headers.remove(name)));
            add(format!("{name} twice"), &|sent| {
                assert!(sent.headers.append(name, HeaderValue::from_static("1")))
            });
        }
        all
    }

    async fn send(&self, node: &Node) -> Response {
        let Self { method, target, body, .. } = self;
        let lines: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text")))
            .collect();
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        exchange(node.peer(), &request).await.expect("an answer")
    }
}

fn is_unauthenticated(answer: &Response, what: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthenticated"), "{what}");
    assert!(answer.header("www-authenticate").is_some(), "{what}: {}", answer.describe());
}

#[tokio::test]
async fn every_path_of_the_nodes_is_for_who_shares_their_secret() {
    let cluster = node().await;
    let node = &cluster.nodes[0];
    for route in PEER_ROUTES {
        let request = Sent::over_http(route);
        for (what, forged) in request.forgeries(node) {
            is_unauthenticated(&forged.send(node).await, &format!("{} with {what}", route.path));
        }
        for method in [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS, Method::DELETE] {
            if method != route.method {
                let mut other = request.sealed(SECRET, &node.name, unix_time_ms());
                other.method = method;
                let answer = other.send(node).await;
                assert_eq!(answer.status, 401, "{} by another method: {}", route.path, answer.describe());
            }
        }
        let right = request.sealed(SECRET, &node.name, unix_time_ms());
        let answer = right.send(node).await;
        // What it asks for need not make sense there.
        assert!(!matches!(answer.status, 401 | 403 | 404), "{}: {}", route.path, answer.describe());
        is_unauthenticated(&right.send(node).await, &format!("{} again", route.path));
    }
    for target in
        ["/", "/_ggcache", "/_ggcache.v1/", "/_ggcache.v1/none", "/livez", "/api?key=anna", "/metrics"]
    {
        let (method, target) = (Method::GET, target.to_owned());
        let elsewhere = Sent { method, target, headers: headers(), body: Vec::new() };
        is_unauthenticated(&elsewhere.send(node).await, &elsewhere.target);
        let there_is_none = elsewhere.sealed(SECRET, &node.name, unix_time_ms()).send(node).await;
        assert_eq!(there_is_none.problem(), "route_not_found", "{}", elsewhere.target);
    }
    assert_eq!(node.loads("scores").await, 1, "the one read that was sealed");
}

#[tokio::test]
async fn pages_ask_nothing_of_a_plane_that_is_open_to_its_machine() {
    let cluster = Cluster::start(Site::with(CONFIG, SQL), 1, &[]).await;
    let node = &cluster.nodes[0];
    for route in PEER_ROUTES {
        for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            let mut request = Sent { headers: HeaderMap::new(), ..Sent::over_http(route) };
            request.headers.insert(name, HeaderValue::from_static(value));
            let answer = request.send(node).await;
            assert_eq!((answer.status, answer.problem().as_str()), (403, "forbidden"), "{}", route.path);
        }
    }
    assert_eq!(node.loads("scores").await, 0);
}

#[tokio::test]
async fn every_path_of_the_nodes_is_for_who_shows_a_certificate() {
    let cluster = Cluster::start(tls::site(tls::PEER_TLS), 1, &[]).await;
    let (node, site) = (&cluster.nodes[0], &cluster.site);
    let path = |name: &str| site.path(&format!("certs/{name}"));
    let own = || tls::showing(&path("ca.pem"), &path("localhost.pem"), &path("localhost.key"));
    let stranger = || tls::believing(&path("ca.pem"));
    for route in PEER_ROUTES {
        let ask = async |config, headers: &str| {
            let line = format!("{} {}", route.method, target(route));
            tls::send(node.peer(), config, &line, headers).await.expect("an answer")
        };
        let answer = ask(stranger(), "").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate"), "{answer}");
        let answer = ask(stranger(), "ggcache-from: localhost:1\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let answer = ask(own(), "ggcache-from: stranger.example:1\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let answer = ask(own(), "ggcache-from: localhost:1\r\n").await;
        assert!(!answer.starts_with("HTTP/1.1 401") && !answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::sync::Arc;

    use bytes::Bytes;
    use ggcache::rpc::peer_v1;
    use http::Request;
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use prost::Message;
    use rustls_pki_types::ServerName;
    use tokio::{
        io::{AsyncRead, AsyncWrite},
        net::TcpStream,
    };
    use tokio_rustls::TlsConnector;

    use super::*;

    const UNAUTHENTICATED: &str = "16";
    const PERMISSION_DENIED: &str = "7";

    /// What is read here of a `FileDescriptorSet`.
    #[derive(Clone, PartialEq, Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        file: Vec<File>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        service: Vec<Service>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Service {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        method: Vec<Named>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }

    /// An empty message to each method of the nodes' service.
    fn calls() -> Vec<Sent> {
        let files = Files::decode(peer_v1::DESCRIPTORS).expect("they were compiled");
        let services =
            files.file.iter().flat_map(|file| file.service.iter().map(|service| (&file.package, service)));
        let targets = services.flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name, method.name))
        });
        let (method, body) = (Method::POST, vec![0; 5]);
        let sent = |target| Sent { method: method.clone(), target, headers: headers(), body: body.clone() };
        let calls: Vec<_> = targets.map(sent).collect();
        assert!(calls.len() >= 7, "{calls:?}");
        calls
    }

    /// Sends a call; its status, as it is written.
    async fn call<S>(stream: S, sent: &Sent) -> String
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("it speaks HTTP/2");
        let driver = tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(sent.body.clone())));
        *request.method_mut() = sent.method.clone();
        *request.uri_mut() = format!("http://localhost{}", sent.target).parse().expect("a URI");
        *request.headers_mut() = sent.headers.clone();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let response = sender.send_request(request).await.expect("an answer");
        let mut headers = response.headers().clone();
        let body = response.into_body().collect().await.expect("a whole answer");
        headers.extend(body.trailers().cloned().unwrap_or_default());
        driver.abort();
        headers.get("grpc-status").and_then(|status| status.to_str().ok()).unwrap_or("none").to_owned()
    }

    async fn plain(node: &Node, sent: &Sent) -> String {
        call(TcpStream::connect(node.peer()).await.expect("it listens"), sent).await
    }

    #[tokio::test]
    async fn every_method_of_the_nodes_is_for_who_shares_their_secret() {
        let cluster = node().await;
        let node = &cluster.nodes[0];
        for request in calls() {
            for (what, forged) in request.forgeries(node) {
                // A path that is none of the service's is nobody's.
                if matches!(&*what, "a path in another case") {
                    continue;
                }
                let status = plain(node, &forged).await;
                assert_eq!(status, UNAUTHENTICATED, "{} with {what}", request.target);
            }
            let mut other = request.sealed(SECRET, &node.name, unix_time_ms());
            other.method = Method::PUT;
            assert_eq!(plain(node, &other).await, UNAUTHENTICATED, "{} by another method", request.target);
            let right = request.sealed(SECRET, &node.name, unix_time_ms());
            let status = plain(node, &right).await;
            assert!(
                !matches!(&*status, UNAUTHENTICATED | PERMISSION_DENIED | "none"),
                "{}: {status}",
                request.target
            );
            assert_eq!(plain(node, &right).await, UNAUTHENTICATED, "{} again", request.target);
        }
    }

    #[tokio::test]
    async fn every_method_of_the_nodes_is_for_who_shows_a_certificate() {
        let cluster = Cluster::start(tls::site(tls::PEER_TLS), 1, &[]).await;
        let (node, site) = (&cluster.nodes[0], &cluster.site);
        let path = |name: &str| site.path(&format!("certs/{name}"));
        let secure = async |mut config: rustls::ClientConfig, sent: &Sent| {
            config.alpn_protocols = vec![b"h2".to_vec()];
            let stream = TcpStream::connect(node.peer()).await.expect("it listens");
            let name = ServerName::try_from("localhost").expect("a name");
            let stream =
                TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
            call(stream, sent).await
        };
        for mut sent in calls() {
            let own = || tls::showing(&path("ca.pem"), &path("localhost.pem"), &path("localhost.key"));
            sent.headers.insert("ggcache-from", HeaderValue::from_static("localhost:1"));
            assert_eq!(
                secure(tls::believing(&path("ca.pem")), &sent).await,
                UNAUTHENTICATED,
                "{}",
                sent.target
            );
            let status = secure(own(), &sent).await;
            assert!(
                !matches!(&*status, UNAUTHENTICATED | PERMISSION_DENIED | "none"),
                "{}: {status}",
                sent.target
            );
            sent.headers.insert("ggcache-from", HeaderValue::from_static("stranger.example:1"));
            assert_eq!(secure(own(), &sent).await, PERMISSION_DENIED, "{}", sent.target);
        }
    }
}
