//! HTTP/2 with prior knowledge, on the ports that serve HTTP/1: gRPC, and whoever else opens with the preface.
//!
//! A connection shows by its first bytes which of the two it speaks. What HTTP/1 has in [`Guarded`]'s deadlines for a
//! head and for idleness stands here at the connection, since streams come and go side by side:
//!
//! - The preface is due within the time of a head. Bytes that can't be written for the idle time end the connection,
//!   as in HTTP/1.
//! - Without a stream for the idle time the connection is closed, whatever else it says; so is one with a stream that
//!   has been open for that long, unless its answer is [`LongLived`]. This bounds a request that never ends and an
//!   answer that nobody takes. A connection with half a request and no stream costs what an idle one does.
//! - Pings find out that the other end is gone.
//! - Frames that ask for nothing are counted; see [`meter`].
//!
//! A connection is closed with GOAWAY first, so that what is under way is answered: when the node stops, and when it
//! is given up. What is still open after [`Limits::drain`] is cut.

mod meter;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tonic::service::Routes;
use tower::Service as _;

use super::{
    LimitsConfig,
    guarded::Guarded,
    server::{Connection, Handler},
};
use crate::task::Tasks;
use meter::Metered;

/// What a connection that speaks HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams that a connection may have open at once. A peer's requests wait here for loads, and share few connections.
const STREAMS_MAX: u32 = 1_024;
/// Streams that a client may have reset before they were looked at (CVE-2023-44487): all that it may have open, since a
/// caller whose deadline passed while this node was paused resets them at once.
const RESETS_PENDING_MAX: usize = STREAMS_MAX as usize;
/// Streams that this end may have reset for errors of the other (CVE-2025-8671).
const RESETS_LOCAL_MAX: usize = 256;
/// What a client may send unasked on one stream, and on one connection, in bytes.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How often the other end is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What an answer may take beyond the request's own deadline, when its connection is closing.
const DRAIN_ROOM: Duration = Duration::from_secs(1);

/// Put into an answer's extensions by a service whose answer goes on until the client has enough of it.
#[derive(Clone, Copy, Debug)]
pub struct LongLived;

/// The other end of the connection, among the extensions of a request to a gRPC service.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

/// What one connection is held to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For a connection without streams, and for a stream.
    idle: Duration,
    /// For what is under way when the connection closes.
    drain: Duration,
    /// The largest head of a request, in bytes.
    head_bytes: u32,
}

impl From<&LimitsConfig> for Limits {
    fn from(config: &LimitsConfig) -> Self {
        Self {
            // A request may take its time, however impatient the node is with idleness.
            idle: config.idle_timeout.max(config.request_timeout.saturating_add(DRAIN_ROOM)),
            drain: config.request_timeout.saturating_add(DRAIN_ROOM),
            head_bytes: u32::try_from(config.header_bytes).unwrap_or(u32::MAX),
        }
    }
}

/// Whether the connection speaks HTTP/2. The bytes that were read for it are read again by whoever serves it.
///
/// # Errors
/// If the connection broke, or sent nothing for the time of a head.
pub(super) async fn is_spoken<S>(stream: &mut Guarded<S>) -> io::Result<bool>
where
    S: AsyncRead + Unpin,
{
    let mut seen = [0; PREFACE.len()];
    let mut length = 0;
    while length < seen.len() && seen[..length] == PREFACE[..length] {
        match stream.read(&mut seen[length..]).await? {
            0 => break,
            read => length += read,
        }
    }
    stream.unread(&seen[..length]);
    Ok(seen[..length] == *PREFACE)
}

/// Serves HTTP/2 until the connection ends, or the node stops.
///
/// # Errors
/// If the connection broke.
pub(super) async fn serve<S, H>(
    stream: Guarded<S>,
    connection: Connection<H::Session>,
    handler: Arc<H>,
    rpcs: Option<Routes>,
    limits: &LimitsConfig,
    tasks: Tasks,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let limits = Limits::from(limits);
    let client = connection.client;
    let streams = Arc::new(Streams::default());
    let opened = Arc::clone(&streams);
    let shared = Arc::new((handler, connection, rpcs));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let mut open = Open::new(&opened);
        let shared = Arc::clone(&shared);
        let is_head = request.method() == Method::HEAD;
        async move {
            let (handler, connection, rpcs) = &*shared;
            let response = match rpcs {
                Some(rpcs) if is_grpc(request.headers()) => {
                    // Where a service finds who asks.
                    request.extensions_mut().insert(Client(connection.client));
                    if let Some(identity) = &connection.identity {
                        request.extensions_mut().insert(Arc::clone(identity));
                    }
                    call(rpcs.clone(), request).await.map(Either::Right)
                }
                _ => handler.call(request, connection).await.map(Either::Left),
            };
            if response.extensions().get::<LongLived>().is_some() {
                open.lives_long();
            }
            Ok::<_, Infallible>(if is_head {
                headless(response, open)
            } else {
                response.map(|body| Held::new(body, open))
            })
        }
    });
    let stopping = tasks.stopping().clone();
    let mut http = http2::Builder::new(Spawner(tasks));
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_LOCAL_MAX)
        .max_header_list_size(limits.head_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(Metered::new(stream)), service));
    let why = tokio::select! {
        served = &mut serving => return served,
        () = stopping.cancelled() => "the node stops",
        why = streams.given_up(limits.idle) => why,
    };
    serving.as_mut().graceful_shutdown();
    // A drain that takes too long ends by dropping the connection.
    tokio::time::timeout(limits.drain, serving).await.unwrap_or_else(|_| {
        tracing::debug!(%client, why, "a connection was cut with streams open");
        Ok(())
    })
}

/// `application/grpc`, alone or with the name of an encoding; not `application/grpc-web`, which is another protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|media_type| media_type.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

async fn call(mut rpcs: Routes, request: Request<Incoming>) -> Response<tonic::body::Body> {
    // Routes are always ready.
    match rpcs.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Runs streams as tasks of the node, so that they are joined with it.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The streams of one connection, by the period in which they were opened: this one, the last, the one before.
#[derive(Debug, Default)]
struct Streams {
    periods: AtomicUsize,
    open: [AtomicUsize; PERIODS],
    long: AtomicUsize,
    /// How often one was opened or ended.
    changes: AtomicU64,
}

const PERIODS: usize = 3;

impl Streams {
    /// Ends when there was no stream for at least `patience`, or one has been open for as long; why.
    async fn given_up(&self, patience: Duration) -> &'static str {
        let mut changes = 0;
        loop {
            tokio::time::sleep(patience).await;
            let period = self.periods.fetch_add(1, Ordering::Relaxed) + 1;
            // Two periods ago, and next to be used.
            if self.open[(period + 1) % PERIODS].load(Ordering::Relaxed) > 0 {
                return "a stream was open for too long";
            }
            let before = std::mem::replace(&mut changes, self.changes.load(Ordering::Relaxed));
            let open = self.open.iter().chain([&self.long]).any(|open| open.load(Ordering::Relaxed) > 0);
            if !open && before == changes {
                return "it was idle";
            }
        }
    }
}

/// A stream that is open. Its end is its drop.
#[derive(Debug)]
struct Open {
    streams: Arc<Streams>,
    /// `None` for one that lives long.
    period: Option<usize>,
}

impl Open {
    fn new(streams: &Arc<Streams>) -> Self {
        let period = streams.periods.load(Ordering::Relaxed) % PERIODS;
        streams.open[period].fetch_add(1, Ordering::Relaxed);
        streams.changes.fetch_add(1, Ordering::Relaxed);
        Self { streams: Arc::clone(streams), period: Some(period) }
    }

    /// Takes it out of what may not be open for too long.
    fn lives_long(&mut self) {
        if let Some(period) = self.period.take() {
            self.streams.long.fetch_add(1, Ordering::Relaxed);
            self.streams.open[period].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let open = self.period.map_or(&self.streams.long, |period| &self.streams.open[period]);
        open.fetch_sub(1, Ordering::Relaxed);
        self.streams.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer, which keeps its stream counted as open. Without one, for an answer to HEAD.
struct Held<B> {
    body: Option<B>,
    _open: Open,
}

impl<B> Held<B> {
    const fn new(body: B, open: Open) -> Self {
        Self { body: Some(body), _open: open }
    }
}

/// An answer to HEAD: the length of the body, and none of it. hyper sees to that itself in HTTP/1 only.
fn headless<B: Body>(mut response: Response<B>, open: Open) -> Response<Held<B>> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    response.map(|_| Held { body: None, _open: open })
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncWriteExt;

    use super::{super::guarded::Patience, *};

    const PATIENCE: Patience = Patience { head: Duration::from_secs(1), idle: Duration::from_secs(10) };

    async fn sniffed(pieces: &'static [&'static [u8]]) -> (io::Result<bool>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut guarded, _) = Guarded::new(server, PATIENCE);
        tokio::spawn(async move {
            for piece in pieces {
                client.write_all(piece).await.expect("the pipe is open");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let spoken = is_spoken(&mut guarded).await;
        let mut all = Vec::new();
        // An error is the deadline's, after all that was sent.
        let _ = guarded.read_to_end(&mut all).await;
        (spoken, all)
    }

    #[tokio::test]
    async fn an_answer_to_head_has_the_length_of_a_body_and_none_of_it() {
        use http_body_util::{BodyExt as _, Full};
        let streams = Arc::new(Streams::default());
        let value = Response::new(Full::new(Bytes::from_static(b"333")));
        let answer = headless(value, Open::new(&streams));
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], "3");
        assert!(answer.body().is_end_stream(), "no frame follows the head");
        assert!(answer.into_body().collect().await.expect("nothing fails").to_bytes().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_tell_and_are_read_again() {
        let cases: [(&[&[u8]], bool); 7] = [
            (&[PREFACE, b"rest"], true),
            (&[b"PRI * HT", b"TP/2.0\r\n\r\nSM", b"\r\n\r\nrest"], true),
            (&[b"GET / HTTP/1.1\r\n\r\n"], false),
            (&[b"P", b"UT / HTTP/1.1\r\n\r\n"], false),
            (&[b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"], false),
            (&[b"PRI"], false),
            (&[], false),
        ];
        for (pieces, http2) in cases {
            let (spoken, all) = sniffed(pieces).await;
            assert_eq!((spoken.expect("no error"), all), (http2, pieces.concat()), "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_is_given_up_in_time() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut guarded, _) = Guarded::new(server, PATIENCE);
        client.write_all(b"PRI").await.expect("the pipe is open");
        let error = is_spoken(&mut guarded).await.expect_err("the rest never comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn media_types_of_grpc() {
        let is = |text: &'static str| {
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, header::HeaderValue::from_static(text))]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc; x=y"));
        assert!(!is("application/grpc-web") && !is("application/json") && !is_grpc(&HeaderMap::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_given_up_when_it_is_idle_or_stuck() {
        let patience = Duration::from_secs(10);
        let begun = tokio::time::Instant::now();
        let streams = Arc::new(Streams::default());
        let watched = Arc::clone(&streams);
        let watch = tokio::spawn(async move { watched.given_up(patience).await });
        for _ in 0..100 {
            let stream = Open::new(&streams);
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(stream);
        }
        assert!(!watch.is_finished(), "streams came and went");
        let mut long = Open::new(&streams);
        long.lives_long();
        tokio::time::sleep(patience * 5).await;
        assert!(!watch.is_finished(), "it may live long");
        drop(long);
        let ended = begun.elapsed();
        assert_eq!(watch.await.expect("no panic"), "it was idle");
        assert!((patience..=patience * 2).contains(&(begun.elapsed() - ended)));

        let begun = tokio::time::Instant::now();
        let _stuck = Open::new(&streams);
        assert_eq!(streams.given_up(patience).await, "a stream was open for too long");
        assert!((patience..=patience * 3).contains(&begun.elapsed()));
    }
}
