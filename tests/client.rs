//! The client of the library and `ggcache get`, against real nodes.

use std::{net::SocketAddr, os::unix::ffi::OsStrExt as _, time::Duration};

use ggcache::{
    client::{Client, Endpoint},
    error::ErrorCode,
    group::{GroupName, Key},
};
use support::{cluster::Cluster, site::Site};
use tokio::net::TcpListener;

#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other tests, each of which takes what it needs")]
mod support;

#[cfg(feature = "etcd")]
#[path = "support/etcd.rs"]
#[expect(dead_code, reason = "shared with the tests of discovery")]
mod server;

const SITE: &str = r#"
[database.school]
url = "sqlite:school.db"
[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
[group.blobs]
table = "blobs"
key_column = "name"
value_columns = ["content"]
"#;

const SQL: &str = "
CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER NOT NULL);
INSERT INTO students VALUES ('张三', 333), ('..', 1), ('.', 2), ('a/../b', 3), ('a b+c?#%', 4), ('-x', 5);
CREATE TABLE blobs (name BLOB PRIMARY KEY, content BLOB NOT NULL);
INSERT INTO blobs VALUES (x'ff00', x'00ff0a');
";

async fn nodes(count: usize) -> Cluster {
    Cluster::start(Site::with(SITE, SQL), count, &[]).await
}

fn endpoint(address: SocketAddr) -> Endpoint {
    format!("http://{address}").parse().expect("an endpoint")
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("valid")
}

fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes).expect("valid")
}

#[tokio::test]
async fn keys_of_any_bytes_are_read() {
    let cluster = nodes(2).await;
    let endpoints = cluster.nodes.iter().map(|node| endpoint(node.api()));
    let client = Client::builder().addresses(endpoints).deadline(support::PATIENCE).build().expect("valid");
    let scores = [("张三", "333"), ("..", "1"), (".", "2"), ("a/../b", "3"), ("a b+c?#%", "4"), ("-x", "5")];
    for (name, score) in scores {
        let fetched = client.get(&group("scores"), &key(name)).await.expect("an answer").expect(name);
        assert_eq!(fetched.bytes, score, "{name}");
        assert_eq!(fetched.content_type.as_deref(), Some("text/plain; charset=utf-8"));
        assert!(fetched.etag.is_some_and(|etag| etag.starts_with('"')));
        assert!(fetched.cache_status.is_some_and(|status| status.contains("localhost")));
    }
    let blob = client.get(&group("blobs"), &key([0xff, 0])).await.expect("an answer").expect("a value");
    assert_eq!(blob.bytes, [0, 0xff, b'\n'].as_slice());
    assert_eq!(client.get(&group("scores"), &key("nobody")).await.expect("an answer"), None);

    let error = client.get(&group("nothing"), &key("x")).await.expect_err("there is no such group");
    assert_eq!((error.code(), error.attempts()), (ErrorCode::GroupNotFound, 1));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn nodes_that_do_not_answer_are_passed_over() {
    let cluster = nodes(1).await;
    // One port at which nobody listens, and one at which somebody listens who never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let addresses = [cluster.nodes[0].api(), silent.local_addr().expect("an address"), gone];
    let deadline = Duration::from_secs(6);
    let client = Client::builder().addresses(addresses.map(endpoint)).deadline(deadline).build();
    let client = client.expect("valid");
    let mut attempts = 0;
    for _ in 0..6 {
        let fetched = client.get(&group("scores"), &key("张三")).await.expect("an answer").expect("a value");
        assert_eq!(fetched.bytes, "333");
        attempts = attempts.max(fetched.attempts);
    }
    assert!(attempts > 1, "the others had their turn");
}

#[tokio::test]
async fn redirects_and_strangers_are_no_answers() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for (answer, retryable) in [
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope", false),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", true),
        ("nonsense\r\n\r\n", true),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let client = Client::builder().addresses([endpoint(address)]).deadline(Duration::from_millis(500));
        let client = client.build().expect("valid");
        let error = client.get(&group("scores"), &key("x")).await.expect_err("no node answered");
        assert_eq!(error.code(), ErrorCode::PeerUnavailable, "{answer}");
        assert_eq!(error.is_retryable(), retryable, "{answer}");
        assert_eq!(error.attempts() > 1, retryable, "{answer}");
        server.abort();
    }
}

#[tokio::test]
async fn values_larger_than_the_client_takes_are_refused() {
    let cluster = nodes(1).await;
    let client = Client::builder().addresses([endpoint(cluster.nodes[0].api())]).value_bytes_max(2);
    let client = client.deadline(support::PATIENCE).build().expect("valid");
    let error = client.get(&group("scores"), &key("张三")).await.expect_err("3 bytes");
    assert_eq!((error.code(), error.attempts()), (ErrorCode::TooLarge, 1));
    assert_eq!(client.get(&group("scores"), &key("..")).await.expect("1 byte").expect("a value").bytes, "1");
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn the_service_is_asked_at_the_api_and_the_peer_plane() {
    let cluster = nodes(2).await;
    let node = &cluster.nodes[0];
    for plane in [node.api(), node.peer()] {
        let endpoint: Endpoint = format!("grpc://{plane}").parse().expect("an endpoint");
        let client =
            Client::builder().addresses([endpoint]).deadline(support::PATIENCE).build().expect("valid");
        for (name, score) in [("张三", "333"), ("..", "1"), ("a/../b", "3")] {
            let fetched = client.get(&group("scores"), &key(name)).await.expect("an answer").expect(name);
            assert_eq!(fetched.bytes, score, "{name}");
        }
        assert_eq!(client.get(&group("scores"), &key("nobody")).await.expect("an answer"), None);
        let error = client.get(&group("nothing"), &key("x")).await.expect_err("there is no such group");
        assert_eq!((error.code(), error.attempts()), (ErrorCode::GroupNotFound, 1));
        let error = client.get(&group("blobs"), &key([0xff, 0])).await.expect_err("the key is not text");
        assert_eq!((error.code(), error.attempts()), (ErrorCode::BadRequest, 1));
    }

    let address = format!("grpc://{}", node.peer());
    let arguments: [&[u8]; 5] = [b"--addresses", address.as_bytes(), b"--group", b"scores", b".."];
    assert_eq!(get(&cluster, &arguments), (Some(0), b"1".to_vec(), String::new()));
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn over_grpc_too_nodes_that_do_not_answer_are_passed_over() {
    let cluster = nodes(1).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let addresses = [cluster.nodes[0].peer(), silent.local_addr().expect("an address"), gone];
    let endpoints = addresses.map(|address| format!("grpc://{address}").parse().expect("an endpoint"));
    let client = Client::builder().addresses(endpoints).deadline(Duration::from_secs(6)).build();
    let client = client.expect("valid");
    let mut attempts = 0;
    for _ in 0..6 {
        let fetched = client.get(&group("scores"), &key("张三")).await.expect("an answer").expect("a value");
        assert_eq!(fetched.bytes, "333");
        attempts = attempts.max(fetched.attempts);
    }
    assert!(attempts > 1, "the others had their turn");
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn over_grpc_too_values_larger_than_the_client_takes_are_refused() {
    let cluster = nodes(1).await;
    let endpoint = format!("grpc://{}", cluster.nodes[0].peer()).parse().expect("an endpoint");
    let client = Client::builder().addresses([endpoint]).value_bytes_max(2).deadline(support::PATIENCE);
    let client = client.build().expect("valid");
    let error = client.get(&group("scores"), &key("张三")).await.expect_err("3 bytes");
    assert_eq!((error.code(), error.attempts()), (ErrorCode::TooLarge, 1));
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn nodes_are_found_in_etcd_and_asked_still_when_it_is_gone() {
    use ggcache::{
        client::{Endpoints as _, EtcdEndpoints, Protocol},
        discovery::EtcdConfig,
    };
    let mut etcd = server::Etcd::start(1).await;
    let endpoints = etcd.endpoints();
    let endpoints_setting = format!("etcd.endpoints={}", endpoints.join(","));
    let settings = ["cluster.discovery=etcd", "cluster.service=client-test", &endpoints_setting];
    let mut cluster = Cluster::start(Site::with(SITE, SQL), 2, &settings).await;
    let config = EtcdConfig {
        endpoints: endpoints.iter().map(|url| url.parse().expect("a URL")).collect(),
        ..EtcdConfig::default()
    };
    let client = |service| {
        let found = EtcdEndpoints::new(&config, service, Protocol::Http).expect("there are no files to read");
        let list = found.watch();
        let client = Client::builder().endpoints(found).deadline(support::PATIENCE).build().expect("valid");
        (client, list)
    };
    let (known, list) = client("client-test");
    let mut asked = std::collections::BTreeSet::new();
    support::until("both nodes were asked", async || {
        let fetched = known.get(&group("scores"), &key("张三")).await.expect("an answer").expect("a value");
        asked.insert(fetched.node);
        asked.len() == 2
    })
    .await;

    let (elsewhere, _) = client("another-service");
    let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    let error = elsewhere.get_until(&group("scores"), &key("张三"), deadline).await;
    assert_eq!(error.expect_err("nobody is registered there").attempts(), 0);

    let endpoints = endpoints.join(",");
    let arguments: [&[u8]; 7] =
        [b"--etcd", endpoints.as_bytes(), b"--service", b"client-test", b"--group", b"scores", b".."];
    assert_eq!(get(&cluster, &arguments), (Some(0), b"1".to_vec(), String::new()));

    cluster.nodes[0].signal(rustix::process::Signal::TERM);
    cluster.nodes[0].ended().await;
    let remaining = endpoint(cluster.nodes[1].api());
    support::until("the client knows that a node has left", async || *list.borrow() == [remaining.clone()])
        .await;

    etcd.kill_all();
    for _ in 0..4 {
        let found = known.get(&group("scores"), &key(".")).await.expect("the node is there without etcd");
        assert_eq!(found.expect("a value").bytes, "2");
    }
}

/// What the program wrote and how it ended.
fn get(cluster: &Cluster, arguments: &[&[u8]]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = cluster.site.command(&["get", "--deadline", "20s"]);
    command.args(arguments.iter().map(|argument| std::ffi::OsStr::from_bytes(argument)));
    let output = command.output().expect("the program was built");
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).expect("it prints text"))
}

#[tokio::test]
async fn the_command_writes_the_value_and_nothing_else() {
    let cluster = nodes(2).await;
    let addresses = format!("http://{},{}", cluster.nodes[0].api(), cluster.nodes[1].api());
    let addresses = addresses.as_bytes();
    let named = |key: &'static [u8], group: &'static [u8]| {
        get(&cluster, &[b"--addresses", addresses, b"--group", group, b"--", key])
    };
    assert_eq!(named("张三".as_bytes(), b"scores"), (Some(0), b"333".to_vec(), String::new()));
    assert_eq!(named(b"..", b"scores"), (Some(0), b"1".to_vec(), String::new()));
    assert_eq!(named(b"-x", b"scores"), (Some(0), b"5".to_vec(), String::new()));
    assert_eq!(named(b"\xff", b"blobs").0, Some(3));

    let (code, value, told) =
        get(&cluster, &[b"--addresses", addresses, b"--group", b"blobs", b"--key-b64", b"_wA", b"--verbose"]);
    assert_eq!((code, value.as_slice()), (Some(0), [0, 0xff, b'\n'].as_slice()));
    for line in
        ["took: ", "node: http://127.0.0.1:", "attempts: 1", "content-type: ", "etag: \"", "cache-status: "]
    {
        assert!(told.lines().any(|told| told.starts_with(line)), "{line}: {told}");
    }

    let (code, value, told) = named(b"nobody", b"scores");
    assert_eq!((code, value.as_slice()), (Some(3), b"".as_slice()));
    assert!(told.contains("no such key"), "{told}");
    let (code, _, told) = named(b"x", b"nothing");
    assert!(code == Some(1) && told.contains("group_not_found"), "{told}");
}

#[tokio::test]
async fn the_command_takes_the_node_from_the_configuration() {
    let cluster = nodes(1).await;
    let api = cluster.nodes[0].ports.api.to_string();
    let api = api.as_bytes();
    let configured = get(&cluster, &[b"--group", b"scores", b"--api", api, b".."]);
    assert_eq!(configured, (Some(0), b"1".to_vec(), String::new()));

    let (code, _, told) = get(&cluster, &[b"--api", api, b".."]);
    assert!(code == Some(2) && told.contains("--group"), "two groups and no default: {told}");
    let (code, _, told) = get(&cluster, &[b"--key-b64", b"--group", b"scores", b"!"]);
    assert!(code == Some(2) && told.contains("base64url"), "{told}");
    let (code, _, told) = get(&cluster, &[b"--addresses", b"ftp://x:1", b"--group", b"scores", b"a"]);
    assert!(code == Some(2) && told.contains("http"), "{told}");

    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let nobody = nobody.to_string();
    let arguments: [&[u8]; 7] =
        [b"--deadline", b"100ms", b"--addresses", nobody.as_bytes(), b"--group", b"scores", b".."];
    // The later --deadline would be a second one: the helper's own is left out here.
    let mut command = cluster.site.command(&["get"]);
    command.args(arguments.map(std::ffi::OsStr::from_bytes));
    let output = command.output().expect("the program was built");
    let told = String::from_utf8(output.stderr).expect("it prints text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("can't be reached"), "{told}");
}
