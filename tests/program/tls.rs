//! TLS: nodes that know each other by certificates, clients that come by `https`, and files that change meanwhile.

use std::{
    fs, io, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use ggcache::net::Dialler;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{client::get, cluster::Cluster, site::Site, until};

const CONFIG: &str = r#"
[cluster]
# The handshakes of all nodes share a machine that is busy with tests.
peer_timeout = "5s"

[limits]
request_timeout = "10s"

[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
ttl_jitter = 0.0
hot_ttl = "0s"
"#;

pub(super) const PEER_TLS: &str =
    "[node.tls]\ncert = \"certs/localhost.pem\"\nkey = \"certs/localhost.key\"\nca = \"certs/ca.pem\"\n";
const API_TLS: &str = "[api.tls]\ncert = \"certs/localhost.pem\"\nkey = \"certs/localhost.key\"\n";

/// A directory with the demo's table and a set of certificates.
pub(super) fn site(tls: &str) -> Site {
    let site = Site::new(&format!("{CONFIG}{tls}"));
    assert_eq!(site.run(&["migrate"]).code, Some(0));
    certs(&site, "certs");
    site
}

/// Makes an authority and a certificate for this machine in a directory below the site's.
fn certs(site: &Site, out: &str) {
    let made = site.run(&["certs", "--out", out, "--node", "localhost,127.0.0.1"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
}

/// Dials without a certificate of one's own, and believes an authority's.
pub(super) fn believing(ca: &Path) -> ClientConfig {
    Dialler::from_file(ca).expect("an authority").http1()
}

/// As [`believing`], with a certificate that is shown whomever the other end believes.
pub(super) fn showing(ca: &Path, cert: &Path, key: &Path) -> ClientConfig {
    let mut config = believing(ca);
    let chain = CertificateDer::pem_file_iter(cert).expect("a file").collect::<Result<_, _>>().expect("pem");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let certified = CertifiedKey::from_der(chain, key, config.crypto_provider()).expect("they match");
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    config
}

/// A GET of `target` by TLS, with header lines that each end in `\r\n`; the answer as it is.
async fn ask(address: SocketAddr, config: ClientConfig, target: &str, headers: &str) -> io::Result<String> {
    send(address, config, &format!("GET {target}"), headers).await
}

/// A request by a method and a target; the answer as it is.
pub(super) async fn send(
    address: SocketAddr,
    config: ClientConfig,
    line: &str,
    headers: &str,
) -> io::Result<String> {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Who speaks no TLS gets no HTTP.
async fn is_deaf_to_plain_http(address: SocketAddr, target: &str) {
    let mut plain = TcpStream::connect(address).await.expect("it listens");
    plain.write_all(get(target).as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // How it closes does not matter.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
}

async fn reads_cross_the_hop(transport: &str) {
    let site = site(PEER_TLS);
    let cluster = Cluster::start(site, 3, &[&format!("cluster.transport={transport}")]).await;
    let all: Vec<_> = (0..cluster.nodes.len()).collect();
    for (loads, (key, value)) in [("张三", "333"), ("李四", "444"), ("王五", "555")].into_iter().enumerate()
    {
        for node in &cluster.nodes {
            let answer = node.get(&format!("/api?key={key}")).await;
            assert_eq!((answer.status, answer.text()), (200, value), "{}", node.log());
        }
        assert_eq!(
            cluster.loads(&all, "scores").await,
            loads as u64 + 1,
            "the owner alone asks the database"
        );
    }
    let mut served = 0.0;
    for node in &cluster.nodes {
        served += node.metric("ggcache_requests_total{group=\"scores\",outcome=\"peer\"").await;
    }
    assert_eq!(served, 6.0, "two of three nodes asked the third, for each key");
}

#[tokio::test]
async fn nodes_with_certificates_answer_each_other_over_http() {
    reads_cross_the_hop("http").await;
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn nodes_with_certificates_answer_each_other_by_grpc() {
    reads_cross_the_hop("grpc").await;
}

#[tokio::test]
async fn the_peer_protocol_is_for_peers() {
    const TARGET: &str = "/_ggcache/scores/anna";
    let site = site(PEER_TLS);
    certs(&site, "foreign");
    let cluster = Cluster::start(site, 1, &[]).await;
    let (node, site) = (&cluster.nodes[0], &cluster.site);
    let path = |name: &str| site.path(&format!("certs/{name}"));
    let own = || showing(&path("ca.pem"), &path("localhost.pem"), &path("localhost.key"));

    let answer = ask(node.peer(), own(), TARGET, "ggcache-from: localhost:1\r\n").await.expect("a peer");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("ggcache-outcome"), "{answer}");
    let answer = ask(node.peer(), own(), TARGET, "").await.expect("a peer by its certificate");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    for from in ["other.localhost:1", "stranger.example:1"] {
        let from = format!("ggcache-from: {from}\r\n");
        let answer = ask(node.peer(), own(), TARGET, &from).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("\"forbidden\""), "{answer}");
    }
    for target in [TARGET, "/_ggcache.v1/ping", "/_ggcache.v1/peek/scores/anna"] {
        let answer = ask(node.peer(), believing(&path("ca.pem")), target, "").await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("\"unauthenticated\""), "{answer}");
    }
    let foreign = |name: &str| site.path(&format!("foreign/{name}"));
    let foreign = showing(&path("ca.pem"), &foreign("localhost.pem"), &foreign("localhost.key"));
    ask(node.peer(), foreign, TARGET, "").await.expect_err("nobody vouches for it");
    is_deaf_to_plain_http(node.peer(), TARGET).await;

    // Clients need no certificate.
    #[cfg(feature = "grpc")]
    {
        let addresses = format!("grpcs://{}", node.name);
        let line = ["get", "张三", "--group", "scores", "--ca", "certs/ca.pem", "--addresses", &addresses];
        let got = site.run(&line);
        assert_eq!((got.code, got.stdout.as_str()), (Some(0), "333"), "{}", got.stderr);
    }
}

#[tokio::test]
async fn clients_come_by_https_and_see_a_new_certificate_without_a_restart() {
    let site = site(API_TLS);
    certs(&site, "next");
    let mut cluster = Cluster::start(site, 1, &[]).await;
    let node = &mut cluster.nodes[0];
    let site = &cluster.site;
    let port = node.ports.api.to_string();
    let addresses = format!("https://localhost:{port}");
    let named = ["get", "张三", "--group", "scores", "--deadline", "10s", "--addresses", &addresses];
    let read = |line: &[&str], ca: &[&str]| {
        let got = site.run(&[line, ca].concat());
        (got.code, got.stdout, got.stderr)
    };
    let (code, value, stderr) = read(&named, &["--ca", "certs/ca.pem"]);
    assert_eq!((code, value.as_str()), (Some(0), "333"), "{stderr}");
    // Where the node is, and how it is asked, the configuration tells too.
    let (code, value, stderr) =
        read(&["get", "张三", "--deadline", "10s", "--api", &port], &["--ca", "certs/ca.pem"]);
    assert_eq!((code, value.as_str()), (Some(0), "333"), "{stderr}");
    for ca in [&[][..], &["--ca", "next/ca.pem"]] {
        for grpc in [&[][..], &["--grpc"]] {
            let (code, _, stderr) = read(&named, &[ca, grpc].concat());
            assert_eq!(code, Some(1), "{stderr}");
            // It would be no other in another attempt.
            for part in ["in 1 attempt:", "--ca names", "invalid peer certificate"] {
                assert!(stderr.contains(part), "{part}: {stderr}");
            }
        }
    }
    let (code, _, stderr) = read(&named, &["--ca", "certs/none.pem"]);
    assert!(code == Some(1) && stderr.contains("can't read certs/none.pem"), "{stderr}");
    // The operators' plane is plain still.
    assert_eq!(node.ask_admin("/livez").await.status, 200);
    is_deaf_to_plain_http(node.api(), "/livez").await;

    for file in ["localhost.pem", "localhost.key"] {
        fs::copy(site.path(&format!("next/{file}")), site.path(&format!("certs/{file}"))).expect("a file");
    }
    let next = site.path("next/ca.pem");
    until("the new certificate is served", async || {
        ask(node.api(), believing(&next), "/livez", "").await.is_ok()
    })
    .await;
    let (code, value, stderr) = read(&named, &["--ca", "next/ca.pem"]);
    assert_eq!((code, value.as_str()), (Some(0), "333"), "{stderr}");
    assert!(node.is_alive() && node.log().contains("took over new files for TLS"), "{}", node.log());
}

#[test]
fn certificates_are_made_once_and_their_keys_are_nobody_elses() {
    let site = Site::new("");
    let line = ["certs", "--out", "a/certs", "--node", "n1.example,10.0.0.7", "--node", "::1"];
    let made = site.run(&line);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    for expected in ["[node.tls]\ncert = \"a/certs/n1.example.pem\"\n", "ca = \"a/certs/ca.pem\"", "__1.key"]
    {
        assert!(made.stdout.contains(expected), "{}", made.stdout);
    }
    let mut names: Vec<_> = fs::read_dir(site.path("a/certs"))
        .expect("a directory")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["__1.key", "__1.pem", "ca.key", "ca.pem", "n1.example.key", "n1.example.pem"]);
    let read = || names.iter().map(|name| fs::read(site.path(&format!("a/certs/{name}"))).expect("a file"));
    for name in names.iter().filter(|name| name.ends_with(".key")) {
        let mode = fs::metadata(site.path(&format!("a/certs/{name}"))).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let before: Vec<_> = read().collect();
    let again = site.run(&line);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("is there already, and is not overwritten"), "{}", again.stderr);
    assert_eq!(read().collect::<Vec<_>>(), before);
    let wrong = site.run(&["certs", "--out", "b", "--node", "../n"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(!site.path("b").exists());
}

/// Writes `certs/localhost.pem` with its key and authority, so that it ends so many days from now.
fn ending_in(site: &Site, days: u64) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("signed");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let now = Duration::from_secs(UnixTime::now().as_secs());
    // Half a day more, so that the number of whole days does not change while the test runs.
    params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(days * 86_400 + 43_200);
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &authority).expect("signed");
    for (name, text) in
        [("ca.pem", authority.pem()), ("localhost.pem", cert.pem()), ("localhost.key", key.serialize_pem())]
    {
        fs::write(site.path(&format!("certs/{name}")), text).expect("a file");
    }
}

#[test]
fn check_tells_when_certificates_end_and_what_is_wrong_with_files() {
    let site = site(&format!("{PEER_TLS}{API_TLS}"));
    let well = site.run(&["check"]);
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""));
    for section in ["node.tls", "api.tls"] {
        let expected = format!("{section}: the certificate in certs/localhost.pem ends at 20");
        assert!(well.stdout.contains(&expected), "{}", well.stdout);
    }
    ending_in(&site, 13);
    let soon = site.run(&["check"]);
    assert_eq!(soon.code, Some(0), "{}", soon.stderr);
    let expected = "warning: node.tls: the certificate in certs/localhost.pem ends in 13 days\n";
    assert!(soon.stderr.contains(expected), "{}", soon.stderr);
    ending_in(&site, 15);
    assert_eq!(site.run(&["check"]).stderr, "");

    certs(&site, "other");
    fs::copy(site.path("other/localhost.key"), site.path("certs/localhost.key")).expect("a file");
    let mismatch = "the private key in certs/localhost.key (node.tls.key) is not that of the certificate in \
                    certs/localhost.pem (node.tls.cert)";
    for command in ["check", "serve"] {
        let failed = site.run(&[command]);
        assert_eq!(failed.code, Some(1), "{command}: {}", failed.stderr);
        assert!(failed.stderr.contains(&format!("error: {mismatch}\n")), "{command}: {}", failed.stderr);
    }
    fs::remove_file(site.path("certs/localhost.pem")).expect("a file");
    let failed = site.run(&["check"]);
    let missing = "error: can't read certs/localhost.pem (api.tls.cert): No such file";
    assert!(failed.code == Some(1) && failed.stderr.contains(missing), "{}", failed.stderr);
}
