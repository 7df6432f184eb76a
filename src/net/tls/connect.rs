//! Connections for HTTP/2 clients: plain, or with a TLS handshake on top.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error as ThisError;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use tower::Service;

use super::{Dialler, identity::without_brackets};

/// Connects by `C`, and speaks TLS on the connection if it was told how. The scheme of the address does not matter:
/// tonic refuses `https` where it does not do the handshake itself.
#[derive(Clone, Debug)]
pub struct TlsConnect<C> {
    connect: C,
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
}

/// Why there is no connection.
#[derive(Debug, ThisError)]
pub enum TlsConnectError {
    #[error("no TCP connection to {0}")]
    Tcp(String, #[source] Box<dyn Error + Send + Sync>),
    #[error("no TLS connection to {0}")]
    Tls(String, #[source] Box<dyn Error + Send + Sync>),
    #[error("no connection to {0} within {1:?}")]
    Slow(String, Duration),
}

impl<C> TlsConnect<C> {
    /// Gives up after `patience`, the handshake included.
    pub fn new(connect: C, tls: Option<&Dialler>, patience: Duration) -> Self {
        Self { connect, tls: tls.map(Dialler::http2), patience }
    }
}

/// A connection, with TLS on the right.
type Dialled = TokioIo<Either<TcpStream, TlsStream<TcpStream>>>;

impl<C> Service<Uri> for TlsConnect<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>, Error: Into<Box<dyn Error + Send + Sync>>>,
    C::Future: Send + 'static,
{
    type Response = Dialled;
    type Error = TlsConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialled, TlsConnectError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsConnectError>> {
        self.connect.poll_ready(cx).map_err(|error| TlsConnectError::Tcp("a peer".to_owned(), error.into()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let whom = uri.authority().map_or_else(String::new, ToString::to_string);
        let host = uri.host().map(without_brackets).unwrap_or_default().to_owned();
        let (tls, patience) = (self.tls.clone(), self.patience);
        let connecting = self.connect.call(uri);
        Box::pin(async move {
            let dialled = async {
                let tcp =
                    connecting.await.map_err(|error| TlsConnectError::Tcp(whom.clone(), error.into()))?;
                let tcp = tcp.into_inner();
                let Some(tls) = tls else { return Ok(Either::Left(tcp)) };
                let failed = |error: Box<dyn Error + Send + Sync>| TlsConnectError::Tls(whom.clone(), error);
                let name = ServerName::try_from(host).map_err(|error| failed(error.into()))?;
                let stream = TlsConnector::from(tls).connect(name, tcp).await;
                stream.map(Either::Right).map_err(|error| failed(error.into()))
            };
            match tokio::time::timeout(patience, dialled).await {
                Ok(dialled) => dialled.map(TokioIo::new),
                Err(_) => Err(TlsConnectError::Slow(whom, patience)),
            }
        })
    }
}
