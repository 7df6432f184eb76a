//! Certificates for tests: an authority, and what it signs.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;

use super::{TlsConfig, TlsPlane};

/// An authority, and the directory in which it and its certificates lie. Deleted when it is dropped.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// What a certificate may be used for, and until which year it lasts.
pub(crate) struct Terms {
    pub(crate) uses: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) years: (i32, i32),
}

impl Default for Terms {
    fn default() -> Self {
        let uses = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { uses, years: (2020, 2200) }
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let authority = Self { issuer, directory: tempfile::tempdir().expect("a folder") };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).expect("a file");
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `{name}.pem` and `{name}.key` for hosts.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str], terms: &Terms) {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names and addresses");
        params.extended_key_usages.clone_from(&terms.uses);
        params.not_before = date_time_ymd(terms.years.0, 1, 1);
        params.not_after = date_time_ymd(terms.years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.path(&format!("{name}.pem")), cert.pem()).expect("a file");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("a file");
    }

    /// A certificate for hosts, in DER.
    pub(crate) fn der(&self, hosts: &[&str]) -> CertificateDer<'static> {
        self.sign("der", hosts, &Terms::default());
        CertificateDer::from_pem_file(self.path("der.pem")).expect("a certificate")
    }

    /// The files of a plane: those of `name`, and this authority for those who dial it.
    pub(crate) fn config(&self, plane: TlsPlane, name: &str) -> TlsConfig {
        TlsConfig {
            plane,
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            ca: Some(self.path("ca.pem")),
        }
    }
}
