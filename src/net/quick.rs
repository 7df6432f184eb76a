//! Answers the plainest requests of HTTP/1.1 by itself, since hyper costs more than a hit of the cache.
//!
//! Plain is a GET with a path and no body, whose head came in one piece and says nothing of the connection. At anything
//! else the connection goes to hyper for good, together with all bytes that were not answered: whatever is malformed,
//! unusual or unknown is read by hyper only. Fields are parsed by hyper's own parser.

mod heads;
mod lines;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use heads::Heads;
pub use lines::Lines;

use super::{
    guarded::{Guarded, Phase},
    server::{Connection, Handler},
};
use crate::task::Tasks;

/// What is read at once. A head that is longer is hyper's.
const READ_BYTES: usize = 4096;

/// What a handler says of a request that has only a head.
pub enum AtHand<B> {
    /// It wants the request as any other, and has counted nothing of it.
    Unknown,
    /// Nothing had to be waited for. The head was written, and this is the body.
    Written(Bytes),
    /// The same, as a response.
    Answered(Response<B>),
    /// Something has to be waited for.
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
    let (mut heads, mut lines) = (Heads::default(), Lines::default());
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
        let plain = if tasks.is_closing() { None } else { heads.read(&read) };
        let Some((head, length)) = plain else { return Ok(Some(handed_over(stream, &read))) };
        phase.busy();
        let response = match handler.at_hand(&head, connection, &mut lines) {
            AtHand::Unknown => return Ok(Some(handed_over(stream, &read))),
            AtHand::Written(body) => {
                read.advance(length);
                phase.idle();
                let is_last = tasks.is_closing();
                lines.send(&mut stream, body, is_last).await?;
                if is_last {
                    stream.shutdown().await?;
                    return Ok(None);
                }
                continue;
            }
            AtHand::Answered(response) => {
                read.advance(length);
                response
            }
            AtHand::Later(response) => {
                read.advance(length);
                awaited(response, &mut stream, &mut read).await?
            }
        };
        phase.idle();
        if lines.respond(&mut stream, response, tasks.is_closing()).await? {
            stream.shutdown().await?;
            return Ok(None);
        }
    }
}

/// The answer, unless the client goes away before it is there.
async fn awaited<S: AsyncRead + Unpin, B>(
    mut response: Pin<Box<dyn Future<Output = Response<B>> + Send>>,
    stream: &mut S,
    read: &mut BytesMut,
) -> io::Result<Response<B>> {
    let mut is_open = true;
    if read.is_empty() {
        read.reserve(READ_BYTES);
    }
    loop {
        tokio::select! {
            biased;
            response = &mut response => return Ok(response),
            // A client that has said all waits for its answer still; one that is gone does not.
            length = stream.read_buf(read), if is_open && read.is_empty() => is_open = length? > 0,
        }
    }
}

fn handed_over<S>(mut stream: Guarded<S>, bytes: &[u8]) -> Guarded<S> {
    // A head has begun, and is due.
    stream.head_begins();
    stream.unread(bytes);
    stream
}

#[cfg(test)]
mod tests;
