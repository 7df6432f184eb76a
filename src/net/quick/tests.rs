//! What is answered here is what hyper answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{
    head::{AnswerHead as _, RequestHead},
    net::{LimitsConfig, Plane, serve},
};

/// Answers with what it saw of a request.
struct Mirror {
    is_quick: bool,
    /// Answers without hyper.
    quick: Arc<AtomicUsize>,
}

fn mirrored(head: &RequestHead<'_>) -> Response<Full<Bytes>> {
    let path = head.path;
    let mut text = format!("{} {:?} {path} {:?}\n", head.method, head.authority, head.query);
    for (name, value) in head.headers {
        text.push_str(&format!("{name}: {}\n", value.as_bytes().escape_ascii()));
    }
    let (status, body) = match path {
        "/none" => (304, Bytes::new()),
        "/empty" => (200, Bytes::new()),
        "/large" => (200, Bytes::from(text.repeat(2000))),
        "/missing" => (404, Bytes::from(text)),
        "/odd" => (499, Bytes::from(text)),
        _ => (200, Bytes::from(text)),
    };
    Response::builder()
        .status(status)
        .header("vary", "a")
        .header("age", "0")
        .header("vary", "b")
        .body(Full::new(body))
        .expect("an answer")
}

impl Handler for Mirror {
    type Session = ();
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, _: &Connection<()>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/later" {
            tokio::task::yield_now().await;
        }
        mirrored(&RequestHead::from(&request))
    }

    fn at_hand(&self, head: &RequestHead<'_>, _: &Connection<()>, lines: &mut Lines) -> AtHand<Full<Bytes>> {
        let response = mirrored(head);
        if !self.is_quick || head.path == "/unknown" {
            return AtHand::Unknown;
        }
        self.quick.fetch_add(1, Ordering::Relaxed);
        if head.query == Some("lines") {
            lines.status(response.status());
            lines.fixed(&header::VARY, "a");
            lines.also(&header::VARY, "b");
            lines.number(&header::AGE, 0);
            let body = response.into_body();
            let body = futures_util::FutureExt::now_or_never(body.collect()).expect("it is there");
            return AtHand::Written(body.expect("never fails").to_bytes());
        }
        if head.path != "/later" {
            return AtHand::Answered(response);
        }
        AtHand::Later(Box::pin(async {
            tokio::task::yield_now().await;
            response
        }))
    }
}

/// Two planes that should not be told apart: one that answers here what it can, and one by hyper.
struct Planes {
    tasks: Tasks,
    quick: Arc<AtomicUsize>,
    addresses: [SocketAddr; 2],
}

impl Planes {
    async fn new() -> Self {
        let (tasks, quick) = (Tasks::new(), Arc::default());
        let mut addresses = Vec::new();
        for is_quick in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            addresses.push(listener.local_addr().expect("bound"));
            let plane = Plane { name: "api", listener, tls: None, connections: metrics::Gauge::noop() };
            let handler = Mirror { is_quick, quick: Arc::clone(&quick) };
            tasks.spawn(serve(plane, handler, LimitsConfig::default(), tasks.clone()));
        }
        Self { tasks, quick, addresses: addresses.try_into().expect("two") }
    }

    /// What both answer to the same bytes, sent in these pieces, until they close.
    async fn answers(&self, pieces: &[Vec<u8>]) -> [String; 2] {
        let (first, second) = tokio::join!(ask(self.addresses[0], pieces), ask(self.addresses[1], pieces));
        [first, second]
    }
}

async fn ask(address: SocketAddr, pieces: &[Vec<u8>]) -> String {
    let mut client = TcpStream::connect(address).await.expect("accepted");
    client.set_nodelay(true).expect("a socket");
    let (mut from, mut to) = client.split();
    let mut all = Vec::new();
    let sent = async {
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // It may be closed already.
            let _ = to.write_all(piece).await;
        }
        let _ = to.shutdown().await;
    };
    let got = async {
        // What comes before a reset counts.
        let _ = from.read_to_end(&mut all).await;
    };
    tokio::join!(sent, got);
    let text = all.escape_ascii().to_string();
    let mut lines: Vec<_> = text.split(r"\r\n").collect();
    lines.retain(|line| !line.starts_with("date: "));
    lines.join("\n")
}

const PLAIN: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nx-twice: 1\r\nx-twice:  2 \r\n\r\n";

#[tokio::test]
async fn plain_requests_are_answered_here_and_others_by_hyper() {
    let planes = Planes::new().await;
    let paths = ["/none", "/empty", "/large", "/missing", "/odd", "/later", "/a%2Fb?c"];
    let lines = ["/none?lines", "/empty?lines", "/large?lines", "/missing?lines", "/odd?lines", "/a?lines"];
    for path in paths.into_iter().chain(lines) {
        let before = planes.quick.load(Ordering::Relaxed);
        let one = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Keep-Alive\r\n\r\n").into_bytes();
        let [quick, hyper] = planes.answers(&[one.repeat(3)]).await;
        assert_eq!(quick, hyper, "{path}");
        assert_eq!(planes.quick.load(Ordering::Relaxed), before + 3, "{path}");
    }
    let before = planes.quick.load(Ordering::Relaxed);
    let others: [&[u8]; 20] = [
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n",
        b"GET /unknown HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"DELETE /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a HTTP/1.0\r\nhost: x\r\n\r\n",
        b"GET http://x/a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\r\nGET /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
        b"GET /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        b"GET /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\ncontent-length : 3\r\n\r\nabc",
        b"GET /a HTTP/1.1\r\nhost: x\r\nx: y\r\n folded\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nx: \x01\r\n\r\n",
    ];
    for other in others {
        let [quick, hyper] = planes.answers(&[other.to_vec()]).await;
        assert_eq!(quick, hyper, "{}", other.escape_ascii());
    }
    assert_eq!(planes.quick.load(Ordering::Relaxed), before);
    let mut many = b"GET /a HTTP/1.1\r\nhost: x\r\n".to_vec();
    many.extend_from_slice(&b"x: y\r\n".repeat(32));
    many.extend_from_slice(b"\r\n");
    let [quick, hyper] = planes.answers(&[many]).await;
    assert_eq!(quick, hyper);
    assert_eq!(planes.quick.load(Ordering::Relaxed), before);
    planes.tasks.stop();
    assert!(planes.tasks.join(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn a_connection_goes_on_at_hyper_with_what_was_not_answered() {
    let planes = Planes::new().await;
    let all = [PLAIN, b"POST /p HTTP/1.1\r\ncontent-length: 70\r\n\r\n", PLAIN, PLAIN].concat();
    for at in 0..all.len() {
        let (first, second) = all.split_at(at);
        let [quick, hyper] = planes.answers(&[first.to_vec(), second.to_vec()]).await;
        assert_eq!(quick, hyper, "cut at {at}");
    }
    assert!(planes.quick.load(Ordering::Relaxed) > 0);
    planes.tasks.stop();
}

/// Requests of pieces that are right, unusual and wrong.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let pick = |all: &'static [&'static [u8]]| prop::sample::select(all).prop_map(<[u8]>::to_vec);
    let target = pick(&[
        b"/",
        b"/a",
        b"/none",
        b"/large",
        b"/later",
        b"/unknown",
        b"/a?lines",
        b"/none?lines",
        b"/large?lines",
        b"/%00",
        b"/\xff",
        b"/a b",
        b"//a",
        b"http://x/",
        b"*",
        b"/#",
        b"/a?b=\"",
        b"",
        b"/<>",
    ]);
    let method = pick(&[
        b"GET", b"GET", b"GET", b"GET", b"get", b"HEAD", b"POST", b"PUT", b"DELETE", b"G\x00T", b"CONNECT",
    ]);
    let version = pick(&[b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b""]);
    let field = pick(&[
        b"host: x",
        b"host:",
        b"x: y",
        b"GGCache-Min-Position: 0123456789abcdef-7",
        b"ggcache-min-position: a",
        b"x:",
        b": y",
        b"x : y",
        b" x: y",
        b"\tfold",
        b"content-length: 0",
        b"Content-Length: 4",
        b"content-length: +4",
        b"content-length: 4, 4",
        b"transfer-encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"transfer-encoding:\x0bchunked",
        b"connection: close",
        b"connection: keep-alive",
        b"connection: x",
        b"Connection:",
        b"expect: 100-continue",
        b"upgrade: x",
        b"te: trailers",
        b"x: \xe9",
        b"x: \x00",
        b"x\x80: y",
        b"x: a\rb",
    ]);
    let end = || pick(&[b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n"]);
    let lines = prop::collection::vec((field, end()), 0..4);
    let host = pick(&[b"host: x\r\n", b"Host: x\r\n", b"host:\r\n", b"host: x\r\n", b"host: x\r\n", b""]);
    let rest = pick(&[b"", b"", b"", b"", b"abcd", b"0\r\n\r\n", b"4\r\nabcd\r\n0\r\n\r\n", b"\r\n"]);
    (method, target, version, end(), host, lines, end(), rest).prop_map(
        |(method, target, version, end, host, lines, last, rest)| {
            let mut all = [&method[..], b" ", &target, b" ", &version, &end, &host].concat();
            for (field, end) in lines {
                all.extend_from_slice(&field);
                all.extend_from_slice(&end);
            }
            all.extend_from_slice(&last);
            all.extend_from_slice(&rest);
            all
        },
    )
}

#[test]
fn whatever_comes_is_answered_as_by_hyper() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let planes = runtime.block_on(Planes::new());
    proptest!(ProptestConfig::with_cases(400), |(requests in prop::collection::vec(stream(), 1..4), cut: prop::sample::Index)| {
        let all = requests.concat();
        let (first, second) = all.split_at(cut.index(all.len()));
        let pieces = if cut.index(3) == 0 { vec![first.to_vec(), second.to_vec()] } else { vec![all.clone()] };
        let [quick, hyper] = runtime.block_on(planes.answers(&pieces));
        prop_assert_eq!(quick, hyper, "{}", all.escape_ascii());
    });
    assert!(planes.quick.load(Ordering::Relaxed) > 0);
    planes.tasks.stop();
}
