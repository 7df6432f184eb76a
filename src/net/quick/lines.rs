//! An answer of HTTP/1.1 as the bytes that are sent of it.

use std::{
    io::{self, Write as _},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::head::{AnswerHead, DIGITS_MAX, decimal};

/// So much of a body is written together with its head. The rest is written from where it lies.
const COPIED_BYTES: usize = 16 << 10;
/// What is kept of the buffer between two answers.
const KEPT_BYTES: usize = 4096;

/// Where the head of an answer is put together, line by line; for one answer of a connection after the other.
///
/// The status comes first. `Content-Length`, `Date` and `Connection` are added at the end.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Whether an answer of this status tells how long its body is.
    has_length: bool,
    /// A second since 1970, and its line.
    date: (u64, Vec<u8>),
}

impl AnswerHead for Lines {
    fn status(&mut self, status: StatusCode) {
        self.bytes.clear();
        self.has_length = !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
        if status == StatusCode::OK {
            self.bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            return;
        }
        let reason = status.canonical_reason().unwrap_or("<none>").as_bytes();
        for part in [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
    }

    fn fixed(&mut self, name: &HeaderName, value: &'static str) {
        self.line(name.as_str(), value.as_bytes());
    }

    fn text(&mut self, name: &HeaderName, value: &[u8]) {
        debug_assert!(value.iter().all(|byte| (b' '..=b'~').contains(byte)), "{name} is visible ASCII");
        self.line(name.as_str(), value);
    }

    fn value(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.line(name.as_str(), value.as_bytes());
    }

    fn also(&mut self, name: &HeaderName, value: &'static str) {
        self.line(name.as_str(), value.as_bytes());
    }
}

impl Lines {
    fn line(&mut self, name: &str, value: &[u8]) {
        self.bytes.reserve(name.len() + value.len() + 4);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Sends the head that was written, and `body`.
    pub(super) async fn send<S>(&mut self, stream: &mut S, body: Bytes, is_last: bool) -> io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        if is_last {
            self.fixed(&header::CONNECTION, "close");
        }
        if self.has_length {
            self.length(body.len() as u64);
        }
        self.date();
        self.bytes.extend_from_slice(b"\r\n");
        self.piece(stream, &body, true).await?;
        self.sent(stream).await
    }

    /// Sends a response. Whether it is the last one of the connection.
    pub(super) async fn respond<S, B>(
        &mut self,
        stream: &mut S,
        response: Response<B>,
        is_last: bool,
    ) -> io::Result<bool>
    where
        S: AsyncWrite + Unpin,
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let (mut head, mut body) = response.into_parts();
        let length = body.size_hint().exact();
        // A body of unknown length ends with the connection (RFC 9112, section 6.3).
        let is_last = is_last || length.is_none();
        if is_last {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.status(head.status);
        for (name, value) in &head.headers {
            self.value(name, value);
        }
        let has_length = self.has_length && !head.headers.contains_key(header::CONTENT_LENGTH);
        if let Some(length) = length.filter(|_| has_length) {
            self.length(length);
        }
        if !head.headers.contains_key(header::DATE) {
            self.date();
        }
        self.bytes.extend_from_slice(b"\r\n");
        while let Some(data) = next(&mut body).await? {
            self.piece(stream, &data, body.is_end_stream()).await?;
        }
        self.sent(stream).await?;
        Ok(is_last)
    }

    /// Takes a piece of a body, and sends it unless it is small and the last one.
    async fn piece<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        data: &[u8],
        is_last: bool,
    ) -> io::Result<()> {
        let (near, far) = data.split_at(data.len().min(COPIED_BYTES));
        self.bytes.extend_from_slice(near);
        if far.is_empty() && is_last {
            return Ok(());
        }
        stream.write_all(&self.bytes).await?;
        self.bytes.clear();
        stream.write_all(far).await
    }

    async fn sent<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        stream.write_all(&self.bytes).await?;
        stream.flush().await?;
        self.bytes.clear();
        // A connection that is idle holds little.
        self.bytes.shrink_to(KEPT_BYTES);
        Ok(())
    }

    fn length(&mut self, length: u64) {
        self.line("content-length", decimal(length, &mut [0; DIGITS_MAX]));
    }

    fn date(&mut self) {
        // The clock of the last tick: it is the second that counts, and this one costs less.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let second = u64::try_from(time.tv_sec).unwrap_or_default();
        let (made, text) = &mut self.date;
        if *made != second || text.is_empty() {
            *made = second;
            text.clear();
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            // Writing to memory does not fail.
            let _ = write!(text, "date: {date}\r\n");
        }
        self.bytes.extend_from_slice(text);
    }
}

/// More of a body, unless that was all.
async fn next<B>(body: &mut B) -> io::Result<Option<Bytes>>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    if body.is_end_stream() {
        return Ok(None);
    }
    // Trailers are for bodies in chunks.
    let frame = body.frame().await.transpose().map_err(io::Error::other)?;
    Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
}
