//! Who a client is, by the certificate that it showed.

use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

/// A certificate that was shown in a handshake, and that an authority of the plane vouches for.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(CertificateDer<'static>);

impl Identity {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(certificate.clone().into_owned())
    }

    /// The certificate, in DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Whether the certificate is one for `host`: a name, or an address with brackets or without. By the rules for
    /// servers (RFC 9525): names of the subject alternative names, where `*` is one whole label, the first.
    pub fn is_valid_for(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(without_brackets(host)) else { return false };
        let certificate = EndEntityCert::try_from(&self.0);
        certificate.is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// The host names in the certificate.
    pub fn dns_names(&self) -> Vec<String> {
        EndEntityCert::try_from(&self.0)
            .map(|certificate| certificate.valid_dns_names().map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.dns_names()).finish()
    }
}

/// A host as certificates and resolvers know it: an IPv6 address has brackets in a URL only.
pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}
