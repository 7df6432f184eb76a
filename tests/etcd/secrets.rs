//! etcd that asks who one is.

use std::{fs, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};
use ggcache::discovery::{EtcdConfig, EtcdPassword};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::follower::{Follower, settings, until};
use crate::server::Etcd;

#[tokio::test]
async fn a_user_and_a_password() {
    let etcd = Etcd::start(1).await;
    let mut client = etcd.client().await;
    client.user_add("root", "secret", None).await.expect("etcd answers");
    client.role_add("root").await.expect("etcd answers");
    client.user_grant_role("root", "root").await.expect("etcd answers");
    client.user_add("cache", "hunter2", None).await.expect("etcd answers");
    client.role_add("cache").await.expect("etcd answers");
    let own = Permission::read_write("GGroupCache/").with_prefix();
    client.role_grant_permission("cache", own).await.expect("etcd answers");
    client.user_grant_role("cache", "cache").await.expect("etcd answers");
    client.auth_enable().await.expect("etcd answers");

    let with = |user: &str, password: &str| EtcdConfig {
        user: Some(user.to_owned()),
        password: Some(EtcdPassword::new(password)),
        ..settings(&etcd.endpoints())
    };
    let stranger = Follower::start("stranger", &etcd.endpoints());
    let wrong = Follower::start_with("wrong", &with("cache", "hunter3"), &[]);
    let a = Follower::start_with("a", &with("cache", "hunter2"), &[]);
    let b = Follower::start_with("b", &with("cache", "hunter2"), &[]);
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    // Who may not read is on its own, and says so; who may, never sees it.
    stranger.sees(&[]).await;
    wrong.sees(&[]).await;
    assert!(stranger.handle.status().away_for.is_some() && wrong.handle.status().away_for.is_some());
    assert!(!format!("{:?}", wrong.handle).contains("hunter3"));
    assert_eq!(a.names(), Some(vec!["b".to_owned()]));

    // Tokens become invalid, here because all of them do; nodes fetch new ones.
    let options = ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect(etcd.endpoints(), Some(options)).await.expect("the password is right");
    root.user_change_password("cache", "hunter2").await.expect("root may");
    let c = Follower::start_with("c", &with("cache", "hunter2"), &[]);
    a.sees(&["b", "c"]).await;
    c.sees(&["a", "b"]).await;
    a.handle.leave(Duration::from_secs(5)).await.expect("the user may");
    b.sees(&["c"]).await;
}

#[tokio::test]
async fn tls_on_both_sides() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let file = |name: &str| directory.path().join(name);
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("a certificate");
    fs::write(file("ca.pem"), authority.pem()).expect("the directory can be written");
    for name in ["server", "node"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        fs::write(file(&format!("{name}.pem")), certificate.pem()).expect("the directory can be written");
        fs::write(file(&format!("{name}.key")), key.serialize_pem()).expect("the directory can be written");
    }
    let read = |name: &str| fs::read(file(name)).expect("it was written");
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read("node.pem"), read("node.key")));
    let path = |name: &str| file(name).to_str().expect("text").to_owned();
    let arguments = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &path("ca.pem"),
        "--cert-file",
        &path("server.pem"),
        "--key-file",
        &path("server.key"),
    ];
    let etcd = Etcd::start_with_tls(&arguments, ConnectOptions::new().with_tls(tls)).await;

    let full = EtcdConfig {
        ca: Some(file("ca.pem")),
        cert: Some(file("node.pem")),
        key: Some(file("node.key")),
        ..settings(&etcd.endpoints())
    };
    assert_eq!(full.validate(), Ok(()));
    let nameless = EtcdConfig { cert: None, key: None, ..full.clone() };
    let a = Follower::start_with("a", &full, &[]);
    let b = Follower::start_with("b", &full, &[]);
    let stranger = Follower::start_with("stranger", &nameless, &[]);
    a.sees(&["b"]).await;
    b.sees(&["a"]).await;
    stranger.sees(&[]).await;
    until("the stranger is refused", || stranger.handle.status().away_for.is_some(), String::new).await;
    assert!(!stranger.handle.status().is_registered);
}
