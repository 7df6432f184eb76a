//! The dialling end: whose certificates are believed, and which one is shown.

use std::{fmt, io, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    HTTP_1, TlsError,
    files::{Material, read_roots},
    provider,
};

/// How TLS is dialled. Cheap to clone.
#[derive(Clone)]
pub struct Dialler(ClientConfig);

impl Dialler {
    /// Believes nobody: for those who dial without TLS, and whose HTTP library wants to be told all the same.
    pub fn nobody() -> Self {
        Self::believing(RootCertStore::empty())
    }

    /// Believes whom the system believes.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        // What can't be read is not believed. If nothing can, the first handshake says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::believing(roots)
    }

    /// Believes the authorities in a file, in PEM, and no others.
    ///
    /// # Errors
    /// If the file can't be read or holds something else.
    pub fn from_file(path: &Path) -> Result<Self, TlsError> {
        read_roots(path).map(Self::believing)
    }

    fn believing(roots: RootCertStore) -> Self {
        Self(builder().with_root_certificates(roots).with_no_client_auth())
    }

    /// Believes and shows what `papers` hold at each handshake.
    pub(super) fn with(papers: &Arc<Papers>) -> Self {
        let builder = builder().dangerous().with_custom_certificate_verifier(Arc::clone(papers) as _);
        let mut config = builder.with_client_cert_resolver(Arc::clone(papers) as _);
        // A resumed session shows and believes what an earlier one did.
        config.resumption = Resumption::disabled();
        Self(config)
    }

    /// For HTTP/1.1.
    pub fn http1(&self) -> ClientConfig {
        self.speaking(HTTP_1)
    }

    /// For HTTP/2.
    #[cfg(feature = "grpc")]
    pub fn http2(&self) -> Arc<ClientConfig> {
        Arc::new(self.speaking(super::HTTP_2))
    }

    fn speaking(&self, protocol: &[u8]) -> ClientConfig {
        let mut config = self.0.clone();
        config.alpn_protocols = vec![protocol.to_owned()];
        config
    }
}

/// Whether a connection failed because the other end's certificate is not believed: neither time nor another attempt
/// changes that. `error` is looked through with all its causes, also those that `io::Error` keeps to itself.
pub fn is_certificate_disbelieved(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return matches!(error, Error::InvalidCertificate(_));
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    false
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").finish_non_exhaustive()
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for the versions that rustls has")
}

/// What a node shows to those whom it dials, and whom of them it believes. Exchanged under the configurations that
/// were made with it, so that clients with a pool of connections need not be built anew.
pub(super) struct Papers(ArcSwap<Current>);

struct Current {
    shown: Arc<CertifiedKey>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Papers {
    pub(super) fn new(material: &Material) -> Result<Self, TlsError> {
        Current::new(material).map(|current| Self(ArcSwap::from_pointee(current)))
    }

    pub(super) fn exchange(&self, material: &Material) -> Result<(), TlsError> {
        self.0.store(Arc::new(Current::new(material)?));
        Ok(())
    }
}

impl Current {
    fn new(material: &Material) -> Result<Self, TlsError> {
        let (roots, place) = material.roots.clone().zip(material.ca.clone()).ok_or(TlsError::NoAuthority)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| TlsError::Unusable(place, error.into()))?;
        Ok(Self { shown: Arc::clone(&material.certified), verifier })
    }
}

impl fmt::Debug for Papers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Papers").finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Papers {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Papers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let current = self.0.load();
        current.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().verifier.supported_verify_schemes()
    }
}
