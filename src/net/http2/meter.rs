//! Counts the frames by which a client can keep a node busy without asking for anything.
//!
//! Settings and pings are answered one by one, resets and window updates are noted, empty frames are looked at; each costs
//! the client nine bytes and some, and the HTTP library takes as many as come, on a thread that others wait for
//! (CVE-2019-9511 to 9518, CVE-2023-44487). Some of them every client sends. So each costs a token: there is a number of
//! tokens to begin with, they come back with time, and with what the client is sent, since who reads a large answer
//! tells often that there is room for more. A connection without tokens is closed.
//!
//! Frames that carry requests are counted elsewhere: streams, the size of heads, rates.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::PREFACE;

/// Tokens of a new connection, which never has more. A caller whose deadline passed while this node was paused resets all
/// of its streams at once.
const TOKENS_MAX: u64 = 2_048;
/// How long it takes for a token to come back.
const TOKEN_PERIOD: Duration = Duration::from_millis(1);
/// For so many bytes that are sent there is a token.
const TOKEN_BYTES: u64 = 512;

/// A frame's head, in bytes (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// A connection of which the frames are counted that come in.
pub(super) struct Metered<S> {
    stream: S,
    /// The head of a frame, as far as it has come.
    head: [u8; HEAD_BYTES],
    head_length: usize,
    /// What comes before the next head.
    payload: usize,
    tokens: u64,
    /// Up to when tokens have come back.
    counted: Instant,
    sent_bytes: u64,
}

impl<S> Metered<S> {
    /// A connection that begins with HTTP/2's preface.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            head: [0; HEAD_BYTES],
            head_length: 0,
            payload: PREFACE.len(),
            tokens: TOKENS_MAX,
            counted: Instant::now(),
            sent_bytes: 0,
        }
    }

    /// Looks at what has come; an error if it is too much.
    fn read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let (part, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head_length));
            self.head[self.head_length..][..part.len()].copy_from_slice(part);
            self.head_length += part.len();
            bytes = rest;
            if self.head_length == HEAD_BYTES {
                self.head_length = 0;
                let [high, middle, low, kind, flags, ..] = self.head;
                self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
                let carries = match kind {
                    DATA => self.payload > 0 || flags & END_STREAM != 0,
                    kind => matches!(kind, HEADERS | CONTINUATION),
                };
                if !carries && !self.pay() {
                    return Err(io::Error::other("too many frames that ask for nothing"));
                }
            }
        }
    }

    /// Takes a token, if there is one.
    fn pay(&mut self) -> bool {
        if self.tokens == 0 {
            let sent = self.sent_bytes / TOKEN_BYTES;
            self.sent_bytes %= TOKEN_BYTES;
            let now = Instant::now();
            let passed = (now - self.counted).as_millis() / TOKEN_PERIOD.as_millis();
            if passed > 0 {
                self.counted = now;
            }
            let passed = u64::try_from(passed).unwrap_or(u64::MAX);
            self.tokens = sent.saturating_add(passed).min(TOKENS_MAX);
        }
        let paid = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        paid
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.read(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent_bytes = self.sent_bytes.saturating_add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.sent_bytes = self.sent_bytes.saturating_add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn opened() -> Metered<()> {
        let mut metered = Metered::new(());
        metered.read(PREFACE).expect("nothing has come");
        metered
    }

    /// How many of a frame are let through, of at most ten thousand.
    fn let_through(metered: &mut Metered<()>, frame: &[u8]) -> u64 {
        (0..10_000).take_while(|_| metered.read(frame).is_ok()).count() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn what_asks_for_nothing_is_limited() {
        let empty_data = frame(DATA, 0, &[]);
        for kind in [2, 3, 4, PING, WINDOW_UPDATE, 0x20, 0xff] {
            assert_eq!(let_through(&mut opened(), &frame(kind, 0, b"12345678")), TOKENS_MAX, "{kind}");
        }
        assert_eq!(let_through(&mut opened(), &empty_data), TOKENS_MAX);
        for carries in
            [frame(HEADERS, 4, b"x"), frame(CONTINUATION, 4, b""), frame(DATA, 0, b"x"), frame(DATA, 1, b"")]
        {
            assert_eq!(let_through(&mut opened(), &carries), 10_000, "{carries:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_come_back_with_time_and_with_what_is_sent() {
        let mut metered = opened();
        let mut paid = async |passed: Duration, sent_bytes: u64| {
            tokio::time::advance(passed).await;
            metered.sent_bytes = sent_bytes;
            (0..10_000).take_while(|_| metered.pay()).count() as u64
        };
        assert_eq!(paid(Duration::ZERO, 0).await, TOKENS_MAX);
        assert_eq!(paid(TOKEN_PERIOD * 10, 0).await, 10);
        assert_eq!(paid(Duration::ZERO, 20 * TOKEN_BYTES + 1).await, 20);
        assert_eq!(paid(Duration::from_secs(3600), u64::MAX).await, TOKENS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_they_are_cut() {
        let frames = [frame(PING, 0, b"12345678"), frame(DATA, 0, &[6; 300]), frame(PING, 1, b"")].concat();
        for size in 1..40 {
            let mut metered = Metered::new(());
            for part in [PREFACE, &frames[..]].concat().chunks(size) {
                metered.read(part).expect("few");
            }
            assert_eq!(metered.tokens, TOKENS_MAX - 2, "in pieces of {size}");
        }
    }
}
