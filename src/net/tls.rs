//! TLS by rustls and ring: what a plane accepts connections with, and what nodes and clients dial with.
//!
//! [`Tls`] is one plane's certificate, key and authorities as its files held them when they were last read. They can be
//! read again while the node runs: connections that are open stay as they are, each new handshake goes by the newest
//! that could be used. [`Dialler`] is the other end. No private key is in any error, log line or `Debug`.

mod config;
#[cfg(feature = "grpc")]
mod connect;
mod dial;
mod files;
mod identity;
mod plane;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};

pub use config::{TlsConfig, TlsPlane};
#[cfg(feature = "grpc")]
pub use connect::{TlsConnect, TlsConnectError};
pub use dial::{Dialler, is_certificate_disbelieved};
pub use files::TlsError;
pub use identity::Identity;
pub use plane::Tls;
#[cfg(test)]
pub(crate) use testing::{Authority, Terms};

/// The cryptography of every configuration. Named each time, since a process-wide default may be set once only, and
/// that is for the program to do in which this library is embedded.
fn provider() -> Arc<CryptoProvider> {
    static RING: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&RING)
}

/// The names by which TLS chooses between HTTP's versions (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";
#[cfg(feature = "grpc")]
const HTTP_2: &[u8] = b"h2";
