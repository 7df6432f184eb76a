//! Accepts connections and serves HTTP/1 or HTTP/2 on them until the node stops.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

#[cfg(feature = "grpc")]
use super::http2;
use super::{
    Identity, LimitsConfig, Tls,
    guarded::{Guarded, Patience},
    pieces::Pieces,
    quick::{self, AtHand, Lines},
};
use crate::{head::RequestHead, task::Tasks};

/// What a request came by.
#[derive(Debug)]
pub struct Connection<S> {
    /// The other end.
    pub client: SocketAddr,
    /// Who that is, by a certificate that was verified; `None` without TLS, and for a client that showed none.
    pub identity: Option<Arc<Identity>>,
    /// What the handler keeps with the connection.
    pub session: S,
}

/// Answers the requests of a plane.
pub trait Handler: Send + Sync + 'static {
    /// What it keeps with each connection: what need not be found out for every request.
    type Session: Default + Send + Sync + 'static;
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request that came by `connection`.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Connection<Self::Session>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Answers a GET without a body, if that is known to be one that has an answer of known length. It is the same as
    /// that of [`call`](Self::call). The head of an answer may be written to `lines`.
    fn at_hand(
        &self,
        _head: &RequestHead<'_>,
        _connection: &Connection<Self::Session>,
        _lines: &mut Lines,
    ) -> AtHand<Self::Body> {
        AtHand::Unknown
    }
}

/// One plane: where it listens and what is counted of it.
#[derive(Debug)]
pub struct Plane {
    /// `api`, `peer` or `admin`.
    pub name: &'static str,
    /// The bound socket.
    pub listener: TcpListener,
    /// What it speaks TLS with; `None` for plain connections.
    pub tls: Option<Tls>,
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
    let served = Served {
        handler: Arc::new(handler),
        rpcs,
        tls: plane.tls.clone(),
        limits,
        connections: plane.connections.clone(),
        tasks,
    };
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
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
        served.begin(stream, client, slot);
    }
    // Clients whose connection the kernel has accepted take it for open, and may have asked something already.
    let Ok(backlog) = plane.listener.into_std() else { return };
    while let Ok(slot) = Arc::clone(&slots).try_acquire_owned()
        && let Ok((stream, client)) = backlog.accept()
    {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        match stream {
            Ok(stream) => served.begin(stream, client, slot),
            Err(error) => ended(client, Some(&error)),
        }
    }
}

/// What the connections of a plane are served with.
struct Served<H> {
    handler: Arc<H>,
    rpcs: Option<Rpcs>,
    tls: Option<Tls>,
    limits: LimitsConfig,
    connections: metrics::Gauge,
    tasks: Tasks,
}

impl<H: Handler> Served<H> {
    /// Serves a connection in a task of its own.
    fn begin(&self, stream: TcpStream, client: SocketAddr, slot: OwnedSemaphorePermit) {
        let Self { handler, rpcs, tls, limits, tasks, .. } = self;
        // An answer is written in one piece; waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
        // Else the kernel takes megabytes for a client who does not read, and slows everybody down when it has no more.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
        let (handler, rpcs, limits, tasks) = (Arc::clone(handler), rpcs.clone(), *limits, tasks.clone());
        let connection = Connection { client, identity: None, session: H::Session::default() };
        let Some(tls) = tls.clone() else {
            return self.spawn(slot, async move {
                // Where HTTP/2 is spoken, the look at the first bytes waits for them.
                #[cfg(not(feature = "grpc"))]
                if tasks.stopping().is_cancelled() {
                    let _ = tokio::time::timeout(HEAD_GRACE, stream.readable()).await;
                }
                self::connection(stream, connection, handler, rpcs, limits, tasks).await;
            });
        };
        self.spawn(slot, async move {
            let shaken = tokio::select! {
                shaken = tls.accept(stream, limits.header_timeout) => shaken,
                () = stopped_for(&tasks, HEAD_GRACE) => return,
            };
            match shaken {
                Ok((stream, identity)) => {
                    let connection = Connection { identity, ..connection };
                    self::connection(stream, connection, handler, rpcs, limits, tasks).await;
                }
                Err(error) => ended(client, Some(&error)),
            }
        });
    }

    fn spawn(&self, slot: OwnedSemaphorePermit, connection: impl Future<Output = ()> + Send + 'static) {
        let connections = self.connections.clone();
        self.tasks.spawn(async move {
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

async fn connection<S, H>(
    stream: S,
    connection: Connection<H::Session>,
    handler: Arc<H>,
    rpcs: Option<Rpcs>,
    limits: LimitsConfig,
    tasks: Tasks,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let client = connection.client;
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
                let served = http2::serve(stream, connection, handler, rpcs, &limits, tasks).await;
                return ended(client, served.err().as_ref().map(|error| error as _));
            }
            Err(error) => return ended(client, Some(&error)),
        }
    };
    #[cfg(not(feature = "grpc"))]
    let _ = rpcs;
    let stream = match quick::serve(stream, &phase, &connection, &*handler, &tasks).await {
        Ok(Some(stream)) => stream,
        Ok(None) => return,
        Err(error) => return ended(client, Some(&error)),
    };
    // One count for all that a request needs of its connection.
    let shared = Arc::new((handler, connection, phase.clone(), tasks.clone()));
    let watched = phase;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (handler, connection, phase, closing) = &*shared;
            phase.busy();
            let mut response = handler.call(request, connection).await;
            phase.idle();
            if closing.is_closing() {
                // Else the connection would be closed later, when the next request may be on its way.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(Pieces::new))
        }
    });
    let mut http = http1::Builder::new();
    // Not `pipeline_flush`: hyper then holds an answer back while any byte of a next request is there, and so never
    // sends the 400 to what is malformed. It is quick because it writes without `writev`, and that can be had alone.
    http.half_close(true).writev(false).max_buf_size(limits.header_bytes.max(HEAD_BYTES_MIN));
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        // In this order: hyper closes a connection of which it has read nothing, whatever is there to be read.
        biased;
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
async fn stopped_for(tasks: &Tasks, time: Duration) {
    tasks.stopping().cancelled().await;
    tokio::time::sleep(time).await;
}

fn ended(client: SocketAddr, error: Option<&(dyn std::error::Error + 'static)>) {
    if let Some(error) = error {
        tracing::debug!(%client, error, "a connection broke");
    }
}

/// What the kernel holds of an answer before it is sent, in bytes. What is under way is not counted, so that a fast
/// client far away is not held up.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// How long a stopping node waits for the rest of a request's head.
const HEAD_GRACE: Duration = Duration::from_secs(1);
/// The least buffer that hyper takes, in bytes.
const HEAD_BYTES_MIN: usize = 8192;

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Answers every request alike.
    #[derive(Clone)]
    struct Anything;

    impl Handler for Anything {
        type Session = ();
        type Body = Full<Bytes>;

        async fn call(&self, _: Request<Incoming>, _: &Connection<()>) -> Response<Full<Bytes>> {
            Response::new(Full::new(Bytes::from_static(b"yes")))
        }
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    async fn plane() -> (Plane, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        (Plane { name: "api", listener, tls: None, connections: metrics::Gauge::noop() }, address)
    }

    /// The head of the next answer, whose body is `yes`.
    async fn answer(client: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nyes") {
            assert!(client.read_buf(&mut text).await.expect("no reset") > 0, "{}", text.escape_ascii());
        }
        String::from_utf8(text).expect("text").to_lowercase()
    }

    #[tokio::test]
    async fn a_plane_that_stops_answers_who_stands_in_its_backlog() {
        let (plane, address) = plane().await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(address).await.expect("the kernel accepts it");
            client.write_all(GET).await.expect("the kernel takes it");
            clients.push(client);
        }
        let tasks = Tasks::new();
        tasks.stop();
        tasks.spawn(serve(plane, Anything, LimitsConfig::default(), tasks.clone()));
        for mut client in clients {
            assert!(answer(&mut client).await.starts_with("http/1.1 200"));
            assert_eq!(client.read(&mut [0]).await.expect("no reset"), 0, "it is closed");
        }
        assert!(tasks.join(Duration::from_secs(20)).await);
    }

    #[tokio::test]
    async fn a_node_that_will_stop_asks_clients_to_come_anew() {
        let (plane, address) = plane().await;
        let tasks = Tasks::new();
        tasks.spawn(serve(plane, Anything, LimitsConfig::default(), tasks.clone()));
        let mut client = TcpStream::connect(address).await.expect("accepted");
        client.write_all(GET).await.expect("sent");
        assert!(!answer(&mut client).await.contains("connection:"));
        tasks.close();
        client.write_all(GET).await.expect("sent");
        assert!(answer(&mut client).await.contains("\r\nconnection: close\r\n"));
        assert_eq!(client.read(&mut [0]).await.expect("no reset"), 0, "it is closed");
        // Others may come still.
        let mut client = TcpStream::connect(address).await.expect("accepted");
        client.write_all(GET).await.expect("sent");
        answer(&mut client).await;
        tasks.stop();
        assert!(tasks.join(Duration::from_secs(20)).await);
    }
}
