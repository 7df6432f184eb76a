//! A body in pieces that a connection can hold.
//!
//! hyper copies what it writes over HTTP/1 into a buffer of the connection, and asks for more only when there is room in
//! it; but what it is given at once it copies whole. A value is given at once, as it lies in the cache: without this each
//! of a thousand clients who ask for a large one and don't read it would hold a copy of its own.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The largest piece, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// A body, of which no frame has more than [`PIECE_BYTES`]. Nothing is copied.
#[derive(Debug)]
pub(super) struct Pieces<B> {
    body: B,
    /// Of the last frame.
    rest: Bytes,
}

impl<B> Pieces<B> {
    pub(super) const fn new(body: B) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut data = std::mem::take(&mut self.rest);
        if data.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(frame))) => data = frame,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        if data.len() > PIECE_BYTES {
            self.rest = data.split_off(PIECE_BYTES);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut all = SizeHint::new();
        all.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            all.set_upper(upper.saturating_add(rest));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_all_of_it() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 7] {
            let bytes: Bytes = (0..length).map(|at| at as u8).collect();
            let mut body = Pieces::new(Full::new(bytes.clone()));
            let mut seen = Vec::new();
            assert_eq!(body.is_end_stream(), length == 0);
            while let Some(frame) = {
                assert_eq!(body.size_hint().exact(), Some((length - seen.len()) as u64));
                body.frame().await
            } {
                let piece = frame.expect("never fails").into_data().expect("data");
                assert!((1..=PIECE_BYTES).contains(&piece.len()));
                assert_eq!(piece.as_ptr(), bytes[seen.len()..].as_ptr(), "it is not copied");
                seen.extend_from_slice(&piece);
                assert_eq!(body.is_end_stream(), seen.len() == length);
            }
            assert_eq!(seen, bytes);
        }
    }
}
