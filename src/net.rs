//! The accept loop of every plane: hyper's HTTP/1 and HTTP/2 servers with limits that hold before there is a request.
//!
//! `axum::serve` sets no timer and knows no cap on connections, so the planes don't use it. Whoever serves a plane
//! gives a [`Handler`]; nothing here knows what it answers. A plane may speak TLS ([`Tls`]).

mod config;
mod guarded;
#[cfg(feature = "grpc")]
mod http2;
mod pieces;
mod quick;
mod server;
mod tls;

pub use config::LimitsConfig;
#[cfg(feature = "grpc")]
pub use http2::{Client, LongLived};
pub use quick::{AtHand, Lines};
pub use server::{Connection, Handler, Plane, Rpcs, serve, serve_with};
#[cfg(test)]
pub(crate) use tls::{Authority, Terms};
pub use tls::{Dialler, Identity, Tls, TlsConfig, TlsError, TlsPlane, is_certificate_disbelieved};
#[cfg(feature = "grpc")]
pub use tls::{TlsConnect, TlsConnectError};
