//! A read is answered alike with hyper and without.

use super::*;
use crate::{
    access::{Scope, Scopes, Token, TokenConfig},
    gateway::PlaneSettings,
    group::ContentKind,
};

/// The lines of an answer, in order, without what differs from one answer to the next.
async fn told(address: SocketAddr, line: &str, headers: &str, is_quick: bool) -> Vec<String> {
    let mut connection = TcpStream::connect(address).await.expect("accepted");
    // A length, though it is zero, is hyper's to read.
    let length = if is_quick { "" } else { "content-length: 0\r\n" };
    let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\nx-request-id: a\r\n{headers}{length}\r\n");
    connection.write_all(head.as_bytes()).await.expect("sent");
    connection.shutdown().await.expect("said");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("an answer");
    let text = answer.escape_ascii().to_string();
    let mut lines: Vec<_> = text.split(r"\r\n").map(str::to_owned).collect();
    // A second may end between two answers.
    lines.retain(|line| !line.starts_with("date: ") && !line.starts_with("age: "));
    for line in &mut lines {
        if line.starts_with("cache-") || line.starts_with("ratelimit: ") {
            line.retain(|letter| !letter.is_ascii_digit());
        }
        // The span is another one.
        if line.starts_with("traceparent: ") {
            line.replace_range(49..65, "");
        }
    }
    // Lines of one name stay together in a table of fields; which names come first means nothing.
    lines[1..].sort();
    lines
}

#[tokio::test]
async fn whatever_a_client_says_of_its_read() {
    let site = Site::starting();
    let address = site.serve().await;
    known(&site);
    with(address, "GET", ANNA, "").await;
    for line in
        [ANNA, "/api?key=anna", "/api?key=", "/api/v1/groups/none/keys/anna", "/api/v1/groups/scores/keys/%"]
    {
        for method in ["GET", "PUT", "DELETE"] {
            for (headers, status) in [
                ("", 200),
                ("ggcache-min-position: 0123456789abcdef-7\r\n", 200),
                ("GGCache-Min-Position: a\r\n", 400),
                ("ggcache-min-position:\r\n", 400),
                ("cache-control: only-if-cached\r\nggcache-min-position: 0123456789abcdef-7\r\n", 504),
                (
                    "ggcache-min-position: 0123456789abcdef-7\r\nggcache-min-position: 0123456789abcdef-7\r\n",
                    400,
                ),
                ("if-none-match: *\r\n", 304),
                ("if-match: *\r\n", 200),
                ("if-match: \"x\"\r\n", 412),
                ("if-match: \"x\"\r\nif-none-match: *\r\n", 412),
                ("if-match: \"x\"\r\nif-match: *\r\nif-none-match: *\r\n", 304),
            ] {
                let line = format!("{method} {line}");
                let quick = told(address, &line, headers, true).await;
                assert_eq!(quick, told(address, &line, headers, false).await, "{line} {headers}");
                let is_right = quick[0].contains(&format!(" {status} "));
                assert!(line != "GET /api?key=anna" || is_right, "{headers}: {}", quick[0]);
            }
        }
    }
}

#[tokio::test]
async fn whoever_asks_and_whatever_there_is() {
    const TRACE: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let token = Token::generate().expect("random bytes");
    let mut auth = AuthConfig { anonymous: Scopes::NONE, ..AuthConfig::default() };
    let scopes = [Scope::Read].into_iter().collect();
    auth.tokens.insert("app".to_owned(), TokenConfig { hash: token.hash(), scopes, groups: None });
    let rate = |text: &str| text.parse().expect("a rate");
    let rates = RateConfig { client: rate("100000/s"), group: rate("100000/s"), ..RateConfig::default() };
    let mut site = Site::starting();
    site.parts.admission = admission(&auth, rates);
    let cors_origins = vec!["https://a.example".parse().expect("an origin")];
    site.parts.live = Arc::new(Live::new(PlaneSettings { cors_origins, ..PlaneSettings::default() }));
    let origin = |key: &str, value| site.origin.insert(Key::new(key).expect("a key"), value);
    origin("long", Value::text("abcdefghij".repeat(400)));
    // Of a kind that is not compressed: that would be done some time later.
    origin("large", Value::new(b"abcdefghij".repeat(40_000), ContentKind::Binary));
    origin("empty", Value::text(""));
    let api = site.serve().await;
    let admin = site.serve_as(PlaneKind::Admin).await;
    known(&site);
    let mine = format!("authorization: Bearer {}\r\n", token.expose());
    for key in ["anna", "long", "large", "empty", "nobody"] {
        let line = format!("GET /api/v1/groups/scores/keys/{key}");
        with(api, "GET", &line[4..], &mine).await;
        for headers in [
            "",
            "accept-encoding: gzip\r\n",
            "origin: https://a.example\r\naccept-encoding: gzip\r\n",
            "origin: https://b.example\r\n",
            "cache-control: max-age=100000, min-fresh=1\r\n",
            "cache-control: only-if-cached\r\n",
            "cache-control: no-cache\r\n",
            "if-none-match: \"x\", *\r\nif-none-match: W/\"y\"\r\n",
            "sec-fetch-site: same-origin\r\nsec-fetch-dest: script\r\n",
            "sec-fetch-site: cross-site\r\n",
            "if-match: *, W/\"x\"\r\n",
            "if-match: W/\"x\"\r\n",
            "x-forwarded-for: 192.0.2.1\r\n",
            "authorization: Bearer x\r\n",
            TRACE,
        ] {
            for shown in ["", &mine] {
                let headers = format!("{shown}{headers}");
                for address in [api, admin] {
                    let quick = told(address, &line, &headers, true).await;
                    assert_eq!(quick, told(address, &line, &headers, false).await, "{line} {headers}");
                }
            }
        }
    }
}

#[tokio::test]
async fn who_asks_too_often() {
    let mut site = Site::starting();
    let rates = RateConfig { client: "1/h".parse().expect("a rate"), ..RateConfig::default() };
    site.parts.admission = admission(&AuthConfig::default(), rates);
    let address = site.serve().await;
    known(&site);
    let first = told(address, "GET /api?key=anna", "", true).await;
    assert!(first[0].starts_with("HTTP/1.1 200 "), "{first:?}");
    let quick = told(address, "GET /api?key=anna", "", true).await;
    assert!(quick[0].starts_with("HTTP/1.1 429 "), "{quick:?}");
    let retry = |lines: Vec<String>| {
        lines
            .into_iter()
            .filter(|line| !line.contains("retry-after") && !line.contains("try again"))
            .collect::<Vec<_>>()
    };
    let hyper = told(address, "GET /api?key=anna", "", false).await;
    assert_eq!(retry(quick), retry(hyper));
}
