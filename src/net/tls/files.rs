//! Reads certificates, keys and authorities from their files, and looks them over.
//!
//! What would fail in every handshake is found here: a key that is another certificate's, a certificate that ended, a
//! node that its peers would not believe.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ring::digest;
use rustls::{Error, InconsistentKeys, RootCertStore, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage};

use super::{TlsConfig, config::TlsPlane, identity::without_brackets, provider};

/// The largest file that is read, in bytes: the system's own bundle of authorities has a fifth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file, and the key of the configuration that names it, as errors tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Box<str>);

impl Place {
    /// A file that no key names.
    fn of(path: &Path) -> Self {
        Self(path.display().to_string().into())
    }

    fn named(path: &Path, plane: TlsPlane, key: &str) -> Self {
        Self(format!("{} ({}.{key})", path.display(), plane.section()).into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why files can't be used for TLS. The text of a file is never part of it: it may be a key.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("can't read {0}")]
    Unreadable(Place, #[source] io::Error),
    #[error("{0} has more than {FILE_BYTES_MAX} bytes, and a file for TLS has a few thousand")]
    TooLarge(Place),
    #[error("{0} holds no {1} in PEM")]
    NoPem(Place, &'static str),
    #[error("{0} holds a certificate that can't be used")]
    Certificate(Place, #[source] Error),
    #[error("{0} holds a private key of an unknown kind; rsa, ecdsa (p-256, p-384) and ed25519 are known")]
    Key(Place),
    #[error("the private key in {key} is not that of the certificate in {cert}")]
    Mismatch { key: Place, cert: Place },
    #[error("a certificate in {0} ended at {1}; put a newer one there")]
    Ended(Place, String),
    #[error("a certificate in {0} begins at {1} only; is the clock right?")]
    NotBegun(Place, String),
    #[error(
        "the authorities in {ca} don't vouch for the certificate in {cert} as {used}'s; peers would refuse it"
    )]
    Untrusted {
        cert: Place,
        ca: Place,
        used: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the certificate in {0} is not one for {1:?}, the host of node.advertise; peers would refuse it")]
    OtherHost(Place, String),
    #[error("node.tls names no ca, and without it no peer can be trusted")]
    NoAuthority,
    #[error("{0} can't be used for TLS")]
    Unusable(Place, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the files of one section hold, as bytes.
pub(super) struct Files {
    cert: (Place, Vec<u8>),
    key: (Place, Vec<u8>),
    ca: Option<(Place, Vec<u8>)>,
}

impl Files {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let read = |path: &Path, key: &str| {
            let place = Place::named(path, config.plane, key);
            read(path, &place).map(|bytes| (place, bytes))
        };
        Ok(Self {
            cert: read(&config.cert, "cert")?,
            key: read(&config.key, "key")?,
            ca: config.ca.as_deref().map(|path| read(path, config.plane.ca_key())).transpose()?,
        })
    }

    /// Equal for equal files. The bytes themselves need not be kept to be compared with.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for (_, bytes) in [&self.cert, &self.key].into_iter().chain(&self.ca) {
            context.update(&(bytes.len() as u64).to_le_bytes());
            context.update(bytes);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// What they hold, if a handshake can be made with it. `host` is the name that peers dial.
    pub(super) fn into_material(self, plane: TlsPlane, host: Option<&str>) -> Result<Material, TlsError> {
        let (cert, key) = (&self.cert.0, &self.key.0);
        let chain = certificates(cert, &self.cert.1)?;
        let ends = valid_until(cert, &chain, UnixTime::now())?;
        let private = PrivateKeyDer::from_pem_slice(&self.key.1)
            // The cause may repeat a line of the file.
            .map_err(|_| TlsError::NoPem(key.clone(), "private key"))?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { key: key.clone(), cert: cert.clone() }
            }
            Error::InvalidCertificate(_) => TlsError::Certificate(cert.clone(), error),
            _ => TlsError::Key(key.clone()),
        })?;
        let roots = self.ca.as_ref().map(|(place, bytes)| roots(place, bytes)).transpose()?;
        if plane == TlsPlane::Peer {
            let ((place, _), roots) = self.ca.as_ref().zip(roots.as_ref()).ok_or(TlsError::NoAuthority)?;
            believed_by_peers(&certified.cert, cert, roots, place, host)?;
        }
        let ca = self.ca.map(|(place, _)| place);
        Ok(Material { certified: Arc::new(certified), roots: roots.map(Arc::new), ca, ends })
    }
}

/// What a handshake is made with.
pub(super) struct Material {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// Where the authorities came from.
    pub(super) ca: Option<Place>,
    /// When the first certificate of the chain ends.
    pub(super) ends: SystemTime,
}

/// The authorities in a file.
pub(super) fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let place = Place::of(path);
    roots(&place, &read(path, &place)?)
}

fn read(path: &Path, place: &Place) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable(place.clone(), error);
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(TlsError::TooLarge(place.clone())) } else { Ok(bytes) }
}

fn certificates(place: &Place, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::NoPem(place.clone(), "certificate"))
}

fn roots(place: &Place, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(place, bytes)? {
        roots.add(certificate).map_err(|error| TlsError::Certificate(place.clone(), error))?;
    }
    Ok(roots)
}

/// When the first certificate of a chain ends.
fn valid_until(place: &Place, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<SystemTime, TlsError> {
    let mut until = u64::MAX;
    for der in chain {
        let malformed = |error: webpki::Error| TlsError::Unusable(place.clone(), error.into());
        let certificate = EndEntityCert::try_from(der).map_err(malformed)?;
        // webpki tells of a certificate's dates only to say that they are over; and that is what it finds first.
        let judged_at = |time| {
            let usage = KeyUsage::server_auth();
            certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
        };
        match judged_at(now) {
            Some(webpki::Error::CertExpired { not_after, .. }) => {
                return Err(TlsError::Ended(place.clone(), date(time(not_after.as_secs()))));
            }
            Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
                return Err(TlsError::NotBegun(place.clone(), date(time(not_before.as_secs()))));
            }
            _ => {}
        }
        let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        if let Some(webpki::Error::CertExpired { not_after, .. }) = judged_at(end_of_time) {
            until = until.min(not_after.as_secs());
        }
    }
    Ok(time(until))
}

/// Whether other nodes with the same authorities would take this node for one.
fn believed_by_peers(
    chain: &[CertificateDer<'_>],
    cert: &Place,
    roots: &RootCertStore,
    ca: &Place,
    host: Option<&str>,
) -> Result<(), TlsError> {
    let (first, others) = chain.split_first().ok_or_else(|| TlsError::NoPem(cert.clone(), "certificate"))?;
    let malformed = |error: webpki::Error| TlsError::Unusable(cert.clone(), error.into());
    let certificate = EndEntityCert::try_from(first).map_err(malformed)?;
    let algorithms = provider().signature_verification_algorithms.all;
    for (usage, used) in [(KeyUsage::server_auth(), "a server"), (KeyUsage::client_auth(), "a client")] {
        certificate
            .verify_for_usage(algorithms, &roots.roots, others, UnixTime::now(), usage, None, None)
            .map_err(|error| TlsError::Untrusted {
                cert: cert.clone(),
                ca: ca.clone(),
                used,
                source: error.into(),
            })?;
    }
    let Some(host) = host else { return Ok(()) };
    let is_valid = ServerName::try_from(without_brackets(host))
        .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok());
    if is_valid { Ok(()) } else { Err(TlsError::OtherHost(cert.clone(), host.to_owned())) }
}

/// A moment that may lie beyond what the system can tell.
fn time(secs: u64) -> SystemTime {
    /// The end of the year 9999, beyond which no certificate can last.
    const LAST: u64 = 253_402_300_799;
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs.min(LAST))
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
