//! TLS between two ends of a pipe, with certificates made here.

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use super::{
    Dialler, Identity, Tls, TlsConfig, TlsError, TlsPlane,
    testing::{Authority, Terms},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Dials `tls` by `name`, and lets one byte pass each way, since a client of TLS 1.3 hears only then that it was refused.
/// What each end saw.
async fn shake(
    tls: &Tls,
    config: impl Into<Arc<ClientConfig>>,
    name: &str,
) -> (io::Result<Option<Arc<Identity>>>, io::Result<Vec<u8>>) {
    let (near, far) = duplex(64 << 10);
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let config = config.into();
    let server = async {
        let (mut stream, identity) = tls.accept(far, PATIENCE).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        // The other end closes when it has seen enough.
        let _ = stream.read(&mut [0]).await;
        Ok(identity)
    };
    let client = async {
        let mut stream = TlsConnector::from(config).connect(name, near).await?;
        stream.read_exact(&mut [0]).await?;
        Ok(stream.get_ref().1.peer_certificates().expect("servers show one")[0].to_vec())
    };
    tokio::join!(server, client)
}

fn clients_of(authority: &Authority) -> ClientConfig {
    Dialler::from_file(&authority.path("ca.pem")).expect("an authority").http1()
}

fn dialler(tls: &Tls) -> ClientConfig {
    tls.dialler().expect("peers are dialled").http1()
}

#[tokio::test]
async fn a_plane_for_clients_shows_its_certificate_and_asks_for_none() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("api", &["localhost", "127.0.0.1"], &Terms::default());
    let config = TlsConfig { ca: None, ..authority.config(TlsPlane::Api, "api") };
    let tls = Tls::for_clients(&config).expect("sound files");
    assert!(tls.dialler().is_none());
    for name in ["localhost", "127.0.0.1"] {
        let (server, client) = shake(&tls, clients_of(&authority), name).await;
        assert_eq!(server.expect("shaken"), None, "it showed none");
        client.expect("believed");
    }
    let (_, client) = shake(&tls, clients_of(&authority), "elsewhere").await;
    assert!(client.is_err(), "the certificate is another's");
    for config in [clients_of(&other), Dialler::nobody().http1(), Dialler::system().http1()] {
        let (_, client) = shake(&tls, config, "localhost").await;
        assert!(client.is_err(), "nobody vouches for it");
    }
}

#[tokio::test]
async fn a_plane_with_authorities_asks_clients_for_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    for authority in [&authority, &other] {
        authority.sign("node", &["localhost"], &Terms::default());
    }
    let tls = Tls::for_clients(&authority.config(TlsPlane::Admin, "node")).expect("sound files");
    let (server, client) = shake(&tls, clients_of(&authority), "localhost").await;
    assert!(server.is_err() && client.is_err(), "none was shown");

    let peer = |authority: &Authority| {
        Tls::for_peers(&authority.config(TlsPlane::Peer, "node"), "localhost").expect("sound files")
    };
    let (server, _) = shake(&tls, dialler(&peer(&authority)), "localhost").await;
    assert!(server.expect("shaken").expect("it showed one").is_valid_for("localhost"));
    // A foreign certificate, with whoever believes us.
    fs::copy(authority.path("ca.pem"), other.path("theirs.pem")).expect("a file");
    let both = fs::read_to_string(other.path("ca.pem")).expect("text")
        + &fs::read_to_string(authority.path("ca.pem")).expect("text");
    fs::write(other.path("ca.pem"), both).expect("a file");
    let (server, client) = shake(&tls, dialler(&peer(&other)), "localhost").await;
    assert!(server.is_err() && client.is_err(), "it is not one of ours");
}

#[tokio::test]
async fn peers_know_each_other_and_clients_need_no_certificate() {
    let authority = Authority::new();
    authority.sign("a", &["a.example", "10.0.0.7", "::1"], &Terms::default());
    let tls = Tls::for_peers(&authority.config(TlsPlane::Peer, "a"), "a.example").expect("sound files");
    let (server, client) = shake(&tls, clients_of(&authority), "a.example").await;
    assert_eq!(server.expect("shaken"), None);
    client.expect("believed");
    let (server, client) = shake(&tls, dialler(&tls), "10.0.0.7").await;
    client.expect("believed");
    let identity = server.expect("shaken").expect("it showed one");
    for host in ["a.example", "A.Example", "10.0.0.7", "::1", "[::1]"] {
        assert!(identity.is_valid_for(host), "{host}");
    }
    for host in ["b.example", "x.a.example", "10.0.0.8", "", "[", "a.example:1"] {
        assert!(!identity.is_valid_for(host), "{host}");
    }
    assert_eq!(identity.dns_names(), ["a.example"]);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_is_given_up() {
    let authority = Authority::new();
    authority.sign("a", &["a"], &Terms::default());
    let tls = Tls::for_peers(&authority.config(TlsPlane::Peer, "a"), "a").expect("sound files");
    let (_silent, far) = duplex(64);
    let error = tls.accept(far, PATIENCE).await.expect_err("nothing came");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn new_files_hold_for_new_handshakes_and_bad_ones_change_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    for authority in [&authority, &other] {
        authority.sign("a", &["localhost"], &Terms::default());
    }
    let config = authority.config(TlsPlane::Peer, "a");
    let tls = Tls::for_peers(&config, "localhost").expect("sound files");
    let dialled_before = dialler(&tls);
    assert!(!tls.reload().expect("sound files"), "nothing has changed");
    let shown = async |config: ClientConfig| shake(&tls, config, "localhost").await.1;
    let first = shown(dialled_before.clone()).await.expect("believed");

    // Half of a new pair.
    fs::copy(other.path("a.key"), authority.path("a.key")).expect("a file");
    let error = tls.reload().expect_err("they don't match");
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    assert_eq!(shown(dialled_before.clone()).await.expect("believed"), first);
    fs::copy(other.path("a.pem"), authority.path("a.pem")).expect("a file");
    let error = tls.reload().expect_err("peers would not believe it");
    assert!(matches!(error, TlsError::Untrusted { .. }), "{error}");
    assert_eq!(shown(dialled_before.clone()).await.expect("believed"), first);

    // The rest of it. Who dials with the old configuration believes and shows the new files.
    fs::copy(other.path("ca.pem"), authority.path("ca.pem")).expect("a file");
    assert!(tls.reload().expect("sound files"));
    let second = shown(dialled_before.clone()).await.expect("believed");
    assert_ne!(first, second);
    let (server, _) = shake(&tls, dialled_before, "localhost").await;
    assert_eq!(server.expect("shaken").expect("it showed one").der(), second);
    assert!(shown(clients_of(&other)).await.is_ok());
}

#[test]
fn what_can_t_be_used_is_found_when_it_is_read() {
    let (authority, other) = (Authority::new(), Authority::new());
    let fresh = || authority.sign("a", &["a.example"], &Terms::default());
    other.sign("a", &["a.example"], &Terms::default());
    let load = || match Tls::for_peers(&authority.config(TlsPlane::Peer, "a"), "a.example") {
        Ok(tls) => panic!("{tls:?} is in order"),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let text = format!("{error} {source}");
            text.replace(&format!("{}/", authority.path("").display()).replace("//", "/"), "")
        }
    };
    let key = "a.key (node.tls.key)";
    let cert = "a.pem (node.tls.cert)";

    fresh();
    fs::remove_file(authority.path("a.key")).expect("a file");
    assert!(load().starts_with(&format!("can't read {key} No such file")), "{}", load());
    fs::copy(authority.path("a.pem"), authority.path("a.key")).expect("a file");
    assert_eq!(load(), format!("{key} holds no private key in PEM "));
    fs::write(authority.path("a.key"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        .expect("a file");
    assert!(load().contains(&format!("{key} holds a private key of an unknown kind")), "{}", load());
    fs::write(authority.path("a.key"), vec![b'x'; 2 << 20]).expect("a file");
    assert!(load().contains(&format!("{key} has more than")), "{}", load());
    fs::copy(other.path("a.key"), authority.path("a.key")).expect("a file");
    assert_eq!(load(), format!("the private key in {key} is not that of the certificate in {cert} "));

    fresh();
    fs::write(authority.path("a.pem"), "").expect("a file");
    assert_eq!(load(), format!("{cert} holds no certificate in PEM "));
    fs::write(authority.path("a.pem"), "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
        .expect("a file");
    assert!(load().starts_with(&format!("{cert} can't be used for TLS")), "{}", load());

    for (years, part) in [
        ((2000, 2001), "ended at 2001-01-01T00:00:00Z; put a newer one there"),
        ((2190, 2191), "begins at 2190-01-01T00:00:00Z only; is the clock right?"),
    ] {
        authority.sign("a", &["a.example"], &Terms { years, ..Terms::default() });
        assert_eq!(load(), format!("a certificate in {cert} {part} "));
    }
    for (used, uses) in
        [("a client", ExtendedKeyUsagePurpose::ServerAuth), ("a server", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        authority.sign("a", &["a.example"], &Terms { uses: vec![uses], ..Terms::default() });
        let expected =
            format!("don't vouch for the certificate in {cert} as {used}'s; peers would refuse it");
        assert!(load().contains(&expected), "{}", load());
    }
    authority.sign("a", &["b.example"], &Terms::default());
    assert!(load().contains("is not one for \"a.example\", the host of node.advertise"), "{}", load());
    fresh();
    fs::copy(other.path("ca.pem"), authority.path("ca.pem")).expect("a file");
    assert!(load().starts_with("the authorities in ca.pem (node.tls.ca) don't vouch for"), "{}", load());
}

#[test]
fn the_end_is_that_of_the_certificate() {
    let authority = Authority::new();
    authority.sign("a", &["a"], &Terms::default());
    let tls = Tls::for_peers(&authority.config(TlsPlane::Peer, "a"), "a").expect("sound files");
    // 2200-01-01.
    assert_eq!(tls.ends(), SystemTime::UNIX_EPOCH + Duration::from_secs(7_258_118_400));
}

#[test]
fn no_key_is_shown() {
    let authority = Authority::new();
    authority.sign("a", &["a"], &Terms::default());
    let tls = Tls::for_peers(&authority.config(TlsPlane::Peer, "a"), "a").expect("sound files");
    let shown = format!("{tls:?} {:?} {:?}", tls.dialler(), dialler(&tls));
    assert!(shown.len() < 4_000 && !shown.contains("PRIVATE"), "{shown}");
}
