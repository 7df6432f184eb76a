//! What must hold of keys, bodies and headers, whatever a client sends. The fuzz targets call it, through `crate::fuzz`.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, uri::Authority};

use super::{
    Encodings, Live, PlaneKind, PlaneSettings,
    batch::{self, BatchRequest},
    cors::{Cors, CorsOrigin},
    directives::Directives,
    encoding::accepts_gzip,
    exchange::Exchange,
    hosts::Hosts,
    invalidate, json_body, methods_of,
    reply::NodeReply,
    target,
    wire_key::WireKey,
};
use crate::{
    cluster::{Address, Node},
    codec::{base64url_decode, base64url_encode, percent_decode, percent_encode, query_decode},
    group::{
        Answer, BoxFuture, Group, GroupConfig, GroupName, GroupParts, GroupSettings, Groups, KEY_BYTES_MAX,
        Key, LoadError, Loader, Outcome, Value,
    },
    head::RequestHead,
    limit::{ProxyHeader, RateConfig, client_address},
    problem::{Problem, RequestId},
    task::Tasks,
    telemetry::trace::TraceContext,
};

/// The longest that a problem may say, in bytes: of a client's text it repeats a part at most.
const DETAIL_BYTES_MAX: usize = 2 << 10;
/// The names by which the plane may be called.
const NAME: &str = "cache.example";
/// Whose pages may read answers.
const ORIGIN: &str = "https://app.example";

/// An origin that nobody asks.
struct Nothing;

impl Loader for Nothing {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(std::future::ready(Ok(vec![None; keys.len()])))
    }
}

/// One group, so that it need not be named.
static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let name = GroupName::new("scores").expect("a name");
    let parts = GroupParts::alone(Nothing);
    let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
    Groups::new([group], None).expect("one group")
});

/// A target of a request: a path, and a query after the first `?`.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_key(data: &[u8]) {
    codecs(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    for plane in [PlaneKind::Api, PlaneKind::Admin] {
        let named = target::parse(path, query, &GROUPS).is_some();
        assert!(!named || !methods_of(path, plane).is_empty(), "a key's path is in the table of routes");
    }
    match target::parse(path, query, &GROUPS) {
        None => {}
        Some(Err(error)) => told(&error.into_problem()),
        Some(Ok(target)) => {
            assert!((1..=KEY_BYTES_MAX).contains(&target.key.len()), "a key has 1 to {KEY_BYTES_MAX} bytes");
            spelled(&target.key);
        }
    }
    if let Err(error) = target::key_in_query(text, &GROUPS) {
        told(&error.into_problem());
    }
}

/// What is written is read, and what is read twice is the same.
fn codecs(data: &[u8]) {
    let mut written = String::new();
    percent_encode(data, &mut written);
    assert_eq!(percent_decode(written.as_bytes()).as_deref(), Ok(data));
    assert_eq!(query_decode(written.as_bytes()).as_deref(), Ok(data));
    let (in_path, in_query) = (percent_decode(data), query_decode(data));
    assert_eq!(in_path.is_ok(), in_query.is_ok(), "only `+` differs");
    if let (Ok(in_path), Ok(in_query)) = (in_path, in_query) {
        assert!(in_path.len() <= data.len() && in_path.len() == in_query.len());
        assert!(data.contains(&b'+') || in_path == in_query);
    }
    assert_eq!(base64url_decode(base64url_encode(data).as_bytes()).as_deref(), Ok(data));
    if let Ok(bytes) = base64url_decode(data) {
        let unpadded = data.split(|byte| *byte == b'=').next().unwrap_or_default();
        assert_eq!(base64url_encode(&bytes).as_bytes(), unpadded, "bytes have one spelling, but for padding");
    }
}

/// Whatever a key is, each way to write it leads to it.
fn spelled(key: &[u8]) {
    let mut percent = String::new();
    percent_encode(key, &mut percent);
    for (path, query) in [
        (format!("/api/v1/groups/scores/keys/{percent}"), None),
        ("/api".to_owned(), Some(format!("key={percent}&group=scores"))),
        ("/api/".to_owned(), Some(format!("key_b64={}", base64url_encode(key)))),
    ] {
        let found = target::parse(&path, query.as_deref(), &GROUPS);
        let Some(Ok(found)) = found else { panic!("{path} {query:?} names no key") };
        assert_eq!((&*found.key, found.group.name().as_str()), (key, "scores"), "{path} {query:?}");
    }
}

/// What a client is told is a 4xx, and short.
fn told(problem: &Problem) {
    assert!(problem.code().http_status().is_client_error(), "{problem:?}");
    assert!(problem.detail().len() <= DETAIL_BYTES_MAX, "{} bytes", problem.detail().len());
}

/// The body of a `keys:batchGet` or `keys:invalidate`.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_body(data: &[u8]) {
    match json_body::parse::<BatchRequest>(data, "").and_then(batch::keys) {
        Ok(keys) => {
            assert!((1..=batch::KEYS_MAX).contains(&keys.len()));
            for key in &keys {
                // As an answer names it.
                let named = WireKey::from_bytes(key.as_bytes()).into_bytes();
                assert_eq!(named.as_deref(), Ok(key.as_bytes()));
            }
        }
        Err(problem) => told(&problem),
    }
    if let Err(problem) = json_body::parse::<invalidate::Body>(data, "").and_then(invalidate::selection) {
        told(&problem);
    }
}

/// The headers of a request, one a line: `name: value`. The first line is the address that its connection comes from, if it
/// is one.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_headers(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let socket = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok());
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    forwarded(socket.unwrap_or(IpAddr::from([10, 0, 0, 1])), &headers);
    hosts_and_origins(&headers);
    negotiated(&headers);
    answered(&headers);
    let _ = json_body::read::<BatchRequest>(&headers, Ok(r#"{"keys": ["a"]}"#.into()), 64, "");
}

/// A client's address is its connection's, or what a trusted proxy has appended.
fn forwarded(socket: IpAddr, headers: &HeaderMap) {
    let trusted: IpAddr = IpAddr::from([10, 0, 0, 1]);
    let client: IpAddr = IpAddr::from([198, 51, 100, 7]);
    for (proxy_header, name, hop) in [
        (ProxyHeader::XForwardedFor, HeaderName::from_static("x-forwarded-for"), "198.51.100.7"),
        (ProxyHeader::Forwarded, header::FORWARDED, "proto=https;for=\"198.51.100.7:4711\""),
    ] {
        let trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        let config = RateConfig { trusted_proxies, proxy_header, ..RateConfig::default() };
        let found = client_address(socket, headers, &config);
        let is_trusted = matches!(socket.to_canonical(), IpAddr::V4(address) if address.octets()[0] == 10);
        assert!(
            is_trusted || found == socket.to_canonical(),
            "a client that is none of our proxies is itself"
        );
        // As proxies do it: on a line of its own, or at the end of the last one.
        let mut own_line = headers.clone();
        own_line.append(&name, HeaderValue::from_static(hop));
        assert_eq!(client_address(trusted, &own_line, &config), client);
        let mut lines: Vec<_> = headers.get_all(&name).iter().cloned().collect();
        let Some(last) = lines.pop() else { continue };
        let longer = HeaderValue::from_bytes(&[last.as_bytes(), b", ", hop.as_bytes()].concat());
        let mut same_line: HeaderMap = lines.into_iter().map(|line| (name.clone(), line)).collect();
        same_line.append(&name, longer.expect("two values make one"));
        assert_eq!(client_address(trusted, &same_line, &config), client);
    }
}

/// Who gets past the checks of the operators' plane has named it, and comes from no page of others.
fn hosts_and_origins(headers: &HeaderMap) {
    let hosts = Hosts::new([NAME.to_owned()]);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers.clone();
    if hosts.check(&RequestHead::from(&request)).is_ok() {
        let named: Vec<_> = headers.get_all(header::HOST).iter().collect();
        let [host] = named[..] else { panic!("it passed with {} hosts", named.len()) };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()).expect("a host");
        let name = host.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let is_ours = name == NAME || name == "localhost" || name.ends_with(".localhost");
        assert!(is_ours || name.parse::<IpAddr>().is_ok(), "it passed as {name}");
        let origin = headers.get(header::ORIGIN).map(|origin| origin.as_bytes().to_ascii_lowercase());
        assert!(origin.is_none_or(|origin| origin.ends_with(host.as_str().to_ascii_lowercase().as_bytes())));
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        assert!(matches!(site, None | Some(b"same-origin" | b"none")), "it passed from {site:?}");
    }
    let origins: Vec<CorsOrigin> = vec![ORIGIN.parse().expect("an origin")];
    assert!(Cors::new(&origins).allows(headers).is_none_or(|allowed| allowed == ORIGIN));
    assert_eq!(Cors::default().allows(headers), None);
}

/// What is said last decides, and what is read is written as it was.
fn negotiated(headers: &HeaderMap) {
    let with = |name: HeaderName, value: &'static str| {
        let mut headers = headers.clone();
        headers.append(name, HeaderValue::from_static(value));
        headers
    };
    assert!(accepts_gzip(&with(header::ACCEPT_ENCODING, "gzip, identity;q=0.5")));
    assert!(!accepts_gzip(&with(header::ACCEPT_ENCODING, "GZIP;q=0")));
    let directives = Directives::read(headers);
    let stricter = Directives::read(&with(header::CACHE_CONTROL, "no-cache, only-if-cached"));
    assert!(stricter.no_cache && stricter.only_if_cached);
    assert!(directives.without_loads() == stricter.without_loads() || !directives.only_if_cached);
    for value in headers.values() {
        if let Some(context) = TraceContext::parse(value.as_bytes()) {
            assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Some(context));
        }
        if let Some(id) = RequestId::given(value) {
            assert_eq!(id.to_string().as_bytes(), value.as_bytes());
        }
    }
}

/// A value is answered whatever the request says, and an answer is an answer.
fn answered(headers: &HeaderMap) {
    static REPLY: LazyLock<NodeReply> = LazyLock::new(|| {
        let me = Node::new(Address::new("localhost:1").expect("an address"));
        NodeReply::new(&me, Encodings::new(1 << 20, Tasks::new()))
    });
    let group = GROUPS.default_group().expect("the only one");
    let now = group.now();
    let answer = Answer {
        value: Some(Value::text("abcdefghij".repeat(200))),
        outcome: Outcome::Hit,
        since: now,
        until: now.saturating_add(Duration::from_secs(1)),
        collapsed: false,
        hop: None,
    };
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    let mut response = REPLY.answer(&group, &answer, now, headers);
    let is_conditional = headers.contains_key(header::IF_MATCH);
    match response.status() {
        StatusCode::OK => assert!(response.headers().contains_key(header::CONTENT_TYPE)),
        StatusCode::NOT_MODIFIED => assert!(!response.headers().contains_key(header::CONTENT_TYPE)),
        StatusCode::PRECONDITION_FAILED if is_conditional => {}
        status => panic!("a value is answered {status}"),
    }
    let live = Live::new(PlaneSettings::default());
    response = Exchange::new(&RequestHead::from(&request), &live, PlaneKind::Api).finish(response);
    let id = response.headers().get("x-request-id").map(HeaderValue::len);
    assert!(id.is_some_and(|length| (1..=RequestId::BYTES_MAX).contains(&length)));
}
