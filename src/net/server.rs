//! Accepts connections and serves HTTP/1 or HTTP/2 on them until the node stops.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

#[cfg(feature = "grpc")]
use super::http2;
use super::{
    LimitsConfig,
    guarded::{Guarded, Patience},
};
use crate::task::Tasks;

/// Answers the requests of a plane.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request that came from `client`.
    fn call(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// One plane: where it listens and what is counted of it.
#[derive(Debug)]
pub struct Plane {
    /// `api`, `peer` or `admin`.
    pub name: &'static str,
    /// The bound socket.
    pub listener: TcpListener,
    /// Open connections.
    pub connections: metrics::Gauge,
}

/// The gRPC services of a plane.
#[cfg(feature = "grpc")]
pub type Rpcs = tonic::service::Routes;
/// No gRPC is spoken by this build.
#[cfg(not(feature = "grpc"))]
pub type Rpcs = Infallible;

/// Serves `plane` until `tasks` stops, and then waits for the requests under way. Connections beyond the limit stay in
/// the listener's backlog.
pub async fn serve<H: Handler>(plane: Plane, handler: H, limits: LimitsConfig, tasks: Tasks) {
    serve_with(plane, handler, None, limits, tasks).await;
}

/// As [`serve`], with gRPC services on the same port: they answer what comes over HTTP/2 with gRPC's content type, and
/// `handler` the rest.
pub async fn serve_with<H: Handler>(
    plane: Plane,
    handler: H,
    rpcs: Option<Rpcs>,
    limits: LimitsConfig,
    tasks: Tasks,
) {
    let slots = Arc::new(Semaphore::new(match limits.connections {
        0 => Semaphore::MAX_PERMITS,
        limit => limit,
    }));
    let stopping = tasks.stopping().clone();
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            accepted = accept(&plane, &slots) => accepted,
        };
        let (stream, client, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Once for each time that it begins: it goes on until connections end.
                if !std::mem::replace(&mut complained, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(plane = plane.name, error, "can't accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        complained = false;
        let connection = connection(stream, client, handler.clone(), rpcs.clone(), limits, tasks.clone());
        let connections = plane.connections.clone();
        tasks.spawn(async move {
            connections.increment(1.0);
            connection.await;
            connections.decrement(1.0);
            drop(slot);
        });
    }
}

async fn accept(
    plane: &Plane,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, client) = plane.listener.accept().await?;
    Ok((stream, client, slot))
}

/// Out of descriptors: they come back when connections end, not by asking at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

async fn connection<H: Handler>(
    stream: TcpStream,
    client: SocketAddr,
    handler: H,
    rpcs: Option<Rpcs>,
    limits: LimitsConfig,
    tasks: Tasks,
) {
    // An answer is written in one piece; waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let patience = Patience { head: limits.header_timeout, idle: limits.idle_timeout };
    let (stream, phase) = Guarded::new(stream, patience);
    #[cfg(feature = "grpc")]
    let stream = {
        let mut stream = stream;
        let is_http2 = tokio::select! {
            is_http2 = http2::is_spoken(&mut stream) => is_http2,
            // Nothing was asked.
            () = stopped_for(&tasks, HEAD_GRACE) => return,
        };
        match is_http2 {
            Ok(false) => stream,
            Ok(true) => {
                // From here on streams are looked after, and no longer the bytes that come.
                phase.busy();
                let served = http2::serve(stream, client, handler, rpcs, &limits, tasks).await;
                return ended(client, served.err().as_ref().map(|error| error as _));
            }
            Err(error) => return ended(client, Some(&error)),
        }
    };
    #[cfg(not(feature = "grpc"))]
    let _ = rpcs;
    let watched = phase.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        phase.busy();
        let (handler, phase) = (handler.clone(), phase.clone());
        async move {
            let response = handler.call(request, client).await;
            phase.idle();
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // Not `pipeline_flush`: hyper then holds an answer back while any byte of a next request is there, and so never
    // sends the 400 to what is malformed. It is quick because it writes without `writev`, and that can be had alone.
    http.half_close(true).writev(false).max_buf_size(limits.header_bytes.max(HEAD_BYTES_MIN));
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = &mut serving => served,
        () = tasks.stopping().cancelled() => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(HEAD_GRACE, &mut serving).await {
                Ok(served) => served,
                // Half a request is not under way yet; it may never come.
                Err(_) if watched.is_head() => Ok(()),
                Err(_) => serving.await,
            }
        }
    };
    ended(client, served.err().as_ref().map(|error| error as _));
}

/// Ends some time after the node began to stop.
#[cfg(feature = "grpc")]
async fn stopped_for(tasks: &Tasks, time: Duration) {
    tasks.stopping().cancelled().await;
    tokio::time::sleep(time).await;
}

fn ended(client: SocketAddr, error: Option<&(dyn std::error::Error + 'static)>) {
    if let Some(error) = error {
        tracing::debug!(%client, error, "a connection broke");
    }
}

/// How long a stopping node waits for the rest of a request's head.
const HEAD_GRACE: Duration = Duration::from_secs(1);
/// The least buffer that hyper takes, in bytes.
const HEAD_BYTES_MIN: usize = 8192;
