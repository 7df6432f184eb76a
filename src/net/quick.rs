//! Answers the plainest requests of HTTP/1.1 by itself, since hyper costs more than a hit of the cache.
//!
//! Plain is a GET with a path and no body, whose head came in one piece and says nothing of the connection. At anything
//! else the connection goes to hyper for good, together with all bytes that were not answered: whatever is malformed,
//! unusual or unknown is read by hyper only. Heads are parsed by hyper's own parser.

use std::{
    future::Future,
    io::{self, Write as _},
    mem::MaybeUninit,
    pin::{Pin, pin},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    guarded::{Guarded, Phase},
    server::{Connection, Handler},
};
use crate::task::Tasks;

/// What is read at once. A head that is longer is hyper's.
const READ_BYTES: usize = 4096;
/// The most fields of a plain head.
const FIELDS_MAX: usize = 32;
/// So much of a body is written together with its head. The rest is written from where it lies.
const COPIED_BYTES: usize = 16 << 10;

/// What a handler says of a request that has only a head.
pub enum AtHand<B> {
    /// It wants the request as any other, and has counted nothing of it.
    Unknown,
    /// Nothing had to be waited for.
    Answered(Response<B>),
    /// Something has.
    Later(Pin<Box<dyn Future<Output = Response<B>> + Send>>),
}

/// Answers plain requests until another one comes: then the stream is given back, with what was not answered to be read
/// again. `None` if the connection is over.
///
/// # Errors
/// If the connection broke.
pub(super) async fn serve<S, H>(
    mut stream: Guarded<S>,
    phase: &Phase,
    connection: &Connection<H::Session>,
    handler: &H,
    tasks: &Tasks,
) -> io::Result<Option<Guarded<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut stopping = pin!(tasks.stopping().cancelled());
    let mut read = BytesMut::new();
    let mut request = Request::new(());
    let mut answer = Answer::default();
    loop {
        if read.is_empty() {
            read.reserve(READ_BYTES);
            let length = tokio::select! {
                // In this order: who has asked already is answered.
                biased;
                length = stream.read_buf(&mut read) => length?,
                () = &mut stopping => return Ok(Some(stream)),
            };
            if length == 0 {
                stream.shutdown().await?;
                return Ok(None);
            }
        }
        let bytes = read.split().freeze();
        let head = if tasks.is_closing() { None } else { parse(&bytes, &mut request) };
        let Some(head) = head else { return Ok(Some(handed_over(stream, phase, &bytes))) };
        phase.busy();
        let response = match handler.at_hand(&request, connection) {
            AtHand::Unknown => return Ok(Some(handed_over(stream, phase, &bytes))),
            AtHand::Answered(response) => {
                read.extend_from_slice(&bytes[head..]);
                response
            }
            AtHand::Later(mut response) => {
                read.extend_from_slice(&bytes[head..]);
                let mut is_open = true;
                loop {
                    tokio::select! {
                        biased;
                        response = &mut response => break response,
                        // A client that has said all waits for its answer still; one that is gone does not.
                        length = stream.read_buf(&mut read), if is_open && read.is_empty() => is_open = length? > 0,
                    }
                }
            }
        };
        phase.idle();
        // Before the next read: they hold its buffer.
        request.headers_mut().clear();
        *request.uri_mut() = Uri::default();
        drop(bytes);
        if answer.write(&mut stream, response, tasks.is_closing()).await? {
            stream.shutdown().await?;
            return Ok(None);
        }
    }
}

fn handed_over<S>(mut stream: Guarded<S>, phase: &Phase, bytes: &[u8]) -> Guarded<S> {
    // A head has begun, and is due.
    phase.head();
    stream.unread(bytes);
    stream
}

/// Reads a head into `request`; its length, or `None` if it is not plain.
fn parse(bytes: &Bytes, request: &mut Request<()>) -> Option<usize> {
    if !bytes.starts_with(b"GET /") {
        return None;
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let httparse::Status::Complete(length) = head.parse_with_uninit_headers(bytes, &mut fields).ok()? else {
        return None;
    };
    if head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(head.path?.as_bytes())).ok()?;
    let headers = request.headers_mut();
    headers.clear();
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if !is_plain(&name, field.value) {
            return None;
        }
        // An empty value need not lie within the head.
        let value = if field.value.is_empty() { Bytes::new() } else { bytes.slice_ref(field.value) };
        headers.try_append(name, HeaderValue::from_maybe_shared(value).ok()?).ok()?;
    }
    Some(length)
}

/// Whether a field says nothing of the connection, nor of a body.
fn is_plain(name: &HeaderName, value: &[u8]) -> bool {
    match *name {
        // What HTTP/1.1 does anyway.
        header::CONNECTION => value.eq_ignore_ascii_case(b"keep-alive"),
        header::CONTENT_LENGTH
        | header::TRANSFER_ENCODING
        | header::TRAILER
        | header::TE
        | header::UPGRADE
        | header::EXPECT => false,
        _ => true,
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

/// Where an answer is put together; for one after the other.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    /// A second since 1970, as a date of HTTP.
    date: (u64, Vec<u8>),
}

impl Answer {
    /// Writes `response`. Whether it was the last one of the connection.
    async fn write<S, B>(&mut self, stream: &mut S, response: Response<B>, is_last: bool) -> io::Result<bool>
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
        self.head(&head, length);
        while let Some(data) = next(&mut body).await? {
            let (near, far) = data.split_at(data.len().min(COPIED_BYTES));
            self.bytes.extend_from_slice(near);
            if far.is_empty() && body.is_end_stream() {
                break;
            }
            stream.write_all(&self.bytes).await?;
            self.bytes.clear();
            stream.write_all(far).await?;
        }
        stream.write_all(&self.bytes).await?;
        stream.flush().await?;
        self.bytes.clear();
        // A connection that is idle holds little.
        self.bytes.shrink_to(READ_BYTES);
        Ok(is_last)
    }

    /// The lines of a head, as hyper has them.
    fn head(&mut self, head: &http::response::Parts, length: Option<u64>) {
        let mut line = |parts: &[&[u8]]| parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        match head.status {
            StatusCode::OK => line(&[b"HTTP/1.1 200 OK\r\n"]),
            status => {
                let reason = status.canonical_reason().unwrap_or("<none>").as_bytes();
                line(&[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason, b"\r\n"]);
            }
        }
        for (name, value) in &head.headers {
            line(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        let has_length = !matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT)
            && !head.headers.contains_key(header::CONTENT_LENGTH);
        if let Some(length) = length.filter(|_| has_length) {
            line(&[b"content-length: "]);
            // Writing to memory does not fail.
            let _ = write!(self.bytes, "{length}\r\n");
        }
        if !head.headers.contains_key(header::DATE) {
            self.date();
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn date(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "it is the wall clock's time that a date tells")]
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (made, text) = &mut self.date;
        if *made != second || text.is_empty() {
            *made = second;
            text.clear();
            let _ = write!(text, "date: {}\r\n", httpdate::HttpDate::from(now));
        }
        self.bytes.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests;
