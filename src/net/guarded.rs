//! A connection that gives up on a peer that is too slow.
//!
//! Three deadlines: from the first byte of a request's head to its end, from the end of a response to the first byte
//! of the next request, and for what is written to be taken: [`PROGRESS_BYTES`] of it or all. One timer serves all three and is armed only while
//! the connection waits, so that a request whose head comes in one piece costs no timer at all.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// So many bytes that are taken are progress. Less is not: a reader could hold an answer, and its connection, for hours
/// by taking it in drops.
const PROGRESS_BYTES: usize = 64 << 10;

const HEAD: u8 = 0;
const BUSY: u8 = 1;
const IDLE: u8 = 2;

/// What a connection is doing; the server tells its stream through this.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<AtomicU8>);

impl Phase {
    /// A request's head is complete.
    pub(super) fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// A request's head has begun to come.
    pub(super) fn head(&self) {
        self.0.store(HEAD, Ordering::Relaxed);
    }

    /// Whether a request has begun to come, or the connection has not sent anything yet.
    pub(super) fn is_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEAD
    }

    /// A response is on its way; the next thing to come is another request.
    pub(super) fn idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

/// The deadlines of a connection; zero is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a request's head, from its first byte (or the connection's begin) on.
    pub(super) head: Duration,
    /// For the next request's first byte, and for a write's progress.
    pub(super) idle: Duration,
}

/// A stream with deadlines.
pub(super) struct Guarded<S> {
    stream: S,
    /// Bytes that were looked at and are to be read again.
    unread: Bytes,
    phase: Phase,
    patience: Patience,
    read: Timer,
    /// The phase for which `read` is armed.
    armed_for: u8,
    write: Timer,
    /// What was taken since `write` was reset.
    taken: usize,
}

#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>, bool);

impl Timer {
    /// Whether `patience` has passed since the timer was first asked after [`Timer::reset`].
    fn poll_expired(&mut self, patience: Duration, cx: &mut Context<'_>) -> bool {
        if patience.is_zero() {
            return false;
        }
        let deadline = || Instant::now() + patience;
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline())));
        if !self.1 {
            sleep.as_mut().reset(deadline());
            self.1 = true;
        }
        sleep.as_mut().poll(cx).is_ready()
    }

    const fn reset(&mut self) {
        self.1 = false;
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, patience: Patience) -> (Self, Phase) {
        let phase = Phase(Arc::new(AtomicU8::new(HEAD)));
        let guarded = Self {
            stream,
            unread: Bytes::new(),
            phase: phase.clone(),
            patience,
            read: Timer::default(),
            armed_for: HEAD,
            write: Timer::default(),
            taken: 0,
        };
        (guarded, phase)
    }

    /// Puts bytes back that were read from the stream, to be read again before all others.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unread = Bytes::copy_from_slice(bytes);
    }

    /// Says that a request's head begins to come now, whatever came before.
    pub(super) fn head_begins(&mut self) {
        self.phase.head();
        self.read.reset();
        self.armed_for = HEAD;
    }

    /// What came of an attempt to write; an error if it has not succeeded for too long.
    fn written(&mut self, result: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.taken = self.taken.saturating_add(bytes);
            if self.taken >= PROGRESS_BYTES {
                self.all_taken();
            }
        }
        self.in_time(result, cx)
    }

    /// What came of an attempt to have all of it taken.
    fn flushed(&mut self, result: Poll<io::Result<()>>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if result.is_ready() {
            self.all_taken();
        }
        self.in_time(result, cx)
    }

    const fn all_taken(&mut self) {
        self.taken = 0;
        self.write.reset();
    }

    fn in_time<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_pending() && self.write.poll_expired(self.patience.idle, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if !this.unread.is_empty() {
            let length = this.unread.len().min(buf.remaining());
            buf.put_slice(&this.unread.split_to(length));
            // What has come since goes with it, so that a head in one piece is read in one piece. Nobody waits here,
            // and what is wrong with the stream the next read finds too.
            let _ = Pin::new(&mut this.stream).poll_read(&mut Context::from_waker(Waker::noop()), buf);
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        let phase = this.phase.0.load(Ordering::Relaxed);
        if phase != this.armed_for {
            this.read.reset();
            this.armed_for = phase;
        }
        if result.is_ready() {
            if phase == IDLE && buf.filled().len() > before {
                // The first bytes of a request: its head is due from here on. The phases may go through a whole
                // round before this is asked again, so the timer is reset here and not by comparison then.
                this.phase.0.store(HEAD, Ordering::Relaxed);
                this.read.reset();
                this.armed_for = HEAD;
            }
            return result;
        }
        let patience = match phase {
            HEAD => this.patience.head,
            IDLE => this.patience.idle,
            // The reader waits for a body, or watches for a hang-up while the answer is made.
            _ => Duration::ZERO,
        };
        if this.read.poll_expired(patience, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.flushed(result, cx)
    }

    /// Where a farewell is written (TLS), it has to be taken in time as well.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.flushed(result, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(1), idle: Duration::from_secs(10) };

    async fn read(guarded: &mut Guarded<tokio::io::DuplexStream>) -> (io::Result<usize>, Duration) {
        let begun = Instant::now();
        (guarded.read(&mut [0; 64]).await, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_is_given_up() {
        let (_client, server) = tokio::io::duplex(64);
        let (mut guarded, _) = Guarded::new(server, PATIENCE);
        let (result, waited) = read(&mut guarded).await;
        assert_eq!(result.expect_err("timed out").kind(), io::ErrorKind::TimedOut);
        assert!(waited >= PATIENCE.head && waited < PATIENCE.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_in_drops_gets_no_more_time() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut guarded, _) = Guarded::new(server, PATIENCE);
        let begun = Instant::now();
        tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        while guarded.read(&mut [0; 64]).await.is_ok() {}
        assert!(begun.elapsed() < PATIENCE.head * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_the_longer_time_and_a_busy_one_all() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut guarded, phase) = Guarded::new(server, PATIENCE);
        phase.idle();
        let (result, waited) = read(&mut guarded).await;
        assert!(result.is_err() && waited >= PATIENCE.idle);
        phase.busy();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE.idle * 10).await;
            client.write_all(b"late").await
        });
        assert_eq!(read(&mut guarded).await.0.expect("waited"), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_use_is_never_idle_for_long() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut guarded, phase) = Guarded::new(server, PATIENCE);
        phase.idle();
        for _ in 0..6 {
            let (written, (result, _)) = tokio::join!(
                async {
                    tokio::time::sleep(PATIENCE.idle / 2).await;
                    client.write_all(b"request").await
                },
                read(&mut guarded)
            );
            written.expect("the server listens");
            assert_eq!(result.expect("it is in use"), 7);
            phase.busy();
            phase.idle();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (_client, server) = tokio::io::duplex(8);
        let (mut guarded, _) = Guarded::new(server, PATIENCE);
        let error = guarded.write_all(&[0; 64]).await.expect_err("the pipe is full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// Writes to a reader that takes `bytes` every second.
    async fn written_to(bytes: usize) -> (io::Result<()>, Duration) {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut guarded, _) = Guarded::new(server, PATIENCE);
        tokio::spawn(async move {
            let mut taken = vec![0; bytes];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if client.read_exact(&mut taken).await.is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        (guarded.write_all(&[0; 8 * PROGRESS_BYTES]).await, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_drops_is_given_up_and_a_slow_one_is_not() {
        let (result, waited) = written_to(100).await;
        assert_eq!(result.expect_err("it takes too little").kind(), io::ErrorKind::TimedOut);
        assert!((PATIENCE.idle..PATIENCE.idle * 2).contains(&waited), "{waited:?}");
        let (result, waited) = written_to(PROGRESS_BYTES / 5).await;
        result.expect("it takes enough");
        assert!(waited > PATIENCE.idle * 2, "{waited:?}");
    }
}
