//! Accepts connections and serves HTTP/1 on them until the node stops.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{
    LimitsConfig,
    guarded::{Guarded, Patience},
};
use crate::task::Tasks;

/// Answers the requests of a plane.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

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

/// Serves `plane` until `tasks` stops, and then waits for the requests under way. Connections beyond the limit stay in
/// the listener's backlog.
pub async fn serve<H: Handler>(plane: Plane, handler: H, limits: LimitsConfig, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(match limits.connections {
        0 => Semaphore::MAX_PERMITS,
        limit => limit,
    }));
    let stopping = tasks.stopping().clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            accepted = accept(&plane, &slots) => accepted,
        };
        let Some((stream, client, slot)) = accepted else { continue };
        let connection = connection(stream, client, handler.clone(), limits.clone(), tasks.clone());
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
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match plane.listener.accept().await {
        Ok((stream, client)) => Some((stream, client, slot)),
        Err(error) => {
            tracing::warn!(
                plane = plane.name,
                error = &error as &dyn std::error::Error,
                "can't accept a connection"
            );
            // Out of descriptors: they come back when connections end, not by asking at once again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    client: SocketAddr,
    handler: H,
    limits: LimitsConfig,
    tasks: Tasks,
) {
    // An answer is written in one piece; waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let patience = Patience { head: limits.header_timeout, idle: limits.idle_timeout };
    let (stream, phase) = Guarded::new(stream, patience);
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
    http.half_close(true).pipeline_flush(true).max_buf_size(limits.header_bytes.max(HEAD_BYTES_MIN));
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = &mut serving => served,
        () = tasks.stopping().cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%client, error = &error as &dyn std::error::Error, "a connection broke");
    }
}

/// The least buffer that hyper takes, in bytes.
const HEAD_BYTES_MIN: usize = 8192;
