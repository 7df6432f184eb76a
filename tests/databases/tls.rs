//! TLS to servers: who asks for it gets it, from the server that is meant, or no connection.

use std::{fs, path::PathBuf, time::Duration};

use ggcache::database::{Access, Database, DatabaseConfig, DatabaseError, DatabaseUrl, Statement};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// An authority, and what it has signed for `localhost` and 127.0.0.1.
struct Authority {
    directory: TempDir,
}

impl Authority {
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &ca).expect("a certificate");
        let authority = Self { directory };
        fs::write(authority.file("ca.pem"), ca.pem()).expect("a file");
        fs::write(authority.file("server.pem"), certificate.pem()).expect("a file");
        fs::write(authority.file("server.key"), key.serialize_pem()).expect("a file");
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ca(&self) -> String {
        self.file("ca.pem").display().to_string()
    }
}

/// What a session says of its cipher, or why there is none.
fn cipher(url: &str, question: &'static str, column: usize) -> Result<String, String> {
    let config = DatabaseConfig { max_connections: 1, ..DatabaseConfig::new(DatabaseUrl::new(url)) };
    let whole = |error: &dyn std::error::Error| {
        std::iter::successors(Some(error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    };
    let database = Database::open(&config).map_err(|error| whole(&error))?;
    let rows = database
        .run_here(Access::Read, Duration::from_secs(5), |turn| turn.query(&Statement::new(question)))
        .map_err(|error: DatabaseError| whole(&error))?;
    Ok(rows.first().and_then(|row| row.text(column).ok()).unwrap_or_default().to_owned())
}

fn refused(url: &str, question: &'static str, column: usize) {
    let answer = cipher(url, question, column);
    let error = answer.expect_err(url);
    assert!(!error.contains("secret"), "{error}");
}

#[cfg(feature = "mysql")]
#[test]
fn mariadb_by_tls() {
    use crate::mariadb::MariaDb;

    const QUESTION: &str = "SHOW SESSION STATUS LIKE 'Ssl_cipher'";
    let start = |authority: &Authority| {
        let option = |name: &str, file: &str| format!("--ssl-{name}={}", authority.file(file).display());
        let options = [option("ca", "ca.pem"), option("cert", "server.pem"), option("key", "server.key")];
        MariaDb::start(&options.each_ref().map(String::as_str))
    };
    let (ours, other, elsewhere) =
        (Authority::new(HERE), Authority::new(HERE), Authority::new(&["elsewhere.example"]));
    let (server, misnamed) = (start(&ours), start(&elsewhere));
    let url = |server: &MariaDb, mode: &str, authority: &Authority| {
        format!("{}?ssl_mode={mode}&ssl_ca={}", server.url("mysql"), authority.ca())
    };
    for mode in ["required", "verify_ca"] {
        let cipher = cipher(&url(&server, mode, &ours), QUESTION, 1);
        assert!(cipher.as_ref().is_ok_and(|cipher| !cipher.is_empty()), "{mode}: {cipher:?}");
    }
    for mode in ["verify_ca", "verify_identity"] {
        refused(&url(&server, mode, &other), QUESTION, 1);
    }
    // The right authority, and another server's name: whatever the client library is.
    refused(&url(&misnamed, "verify_identity", &elsewhere), QUESTION, 1);
    // And a server that has no certificate.
    for mode in ["required", "verify_ca", "verify_identity"] {
        refused(&url(MariaDb::shared(), mode, &ours), QUESTION, 1);
    }
}

#[cfg(feature = "postgres-tls")]
#[test]
fn postgres_by_tls() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    use crate::postgres::Postgres;

    const QUESTION: &str = "SELECT COALESCE(cipher, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let (ours, other) = (Authority::new(HERE), Authority::new(HERE));
    let server = Postgres::start(&[]);
    let data = server.data();
    let owner = fs::metadata(&data).expect("it is there");
    for file in ["server.pem", "server.key"] {
        let to = data.join(file);
        fs::copy(ours.file(file), &to).expect("a copy");
        // The server insists on a key that nobody else may read.
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("it is ours");
        chown(&to, Some(owner.uid()), Some(owner.gid())).expect("it may be given away");
    }
    for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
        server.psql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    server.psql("postgres", "SELECT pg_reload_conf()");
    let name = server.database();
    let url = |options: &str| format!("{}?{options}", server.url(&name));
    let right = |mode: &str| url(&format!("sslmode={mode}&sslrootcert={}", ours.ca()));
    let soon = std::time::Instant::now() + Duration::from_secs(10);
    while cipher(&url("sslmode=require"), QUESTION, 0).is_err() {
        assert!(std::time::Instant::now() < soon, "it reads its settings again");
        std::thread::sleep(Duration::from_millis(50));
    }
    for url in [url("sslmode=require"), right("verify-ca"), right("verify-full")] {
        let cipher = cipher(&url, QUESTION, 0);
        assert!(cipher.as_ref().is_ok_and(|cipher| !cipher.is_empty()), "{url}: {cipher:?}");
    }
    for mode in ["verify-ca", "verify-full"] {
        refused(&url(&format!("sslmode={mode}&sslrootcert={}", other.ca())), QUESTION, 0);
    }
    // And a server that has none.
    let plain = Postgres::shared();
    let plain = plain.url(&plain.database());
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(&format!("{plain}?sslmode={mode}&sslrootcert={}", ours.ca()), QUESTION, 0);
    }
}
