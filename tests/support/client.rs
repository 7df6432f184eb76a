//! An HTTP/1.1 client that sends the bytes it is given, as they are.
//!
//! Libraries put URLs into a form of their own before they send them, and refuse to send what is malformed; both are
//! what the tests are about. Answers are expected as the nodes send them: with a length, never in chunks.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and the header lines.
    head: Bytes,
    /// The body's bytes; empty for an answer that has none.
    pub body: Bytes,
}

impl Response {
    /// The value of a header that is there once. `name` is in lower case, as the nodes write them.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body, which is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body, which is JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.describe()))
    }

    /// The code of a problem. Asserts that the answer is one, whole and safe to show.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.describe());
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{}", self.describe());
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        let code = problem["code"].as_str().expect("a code").to_owned();
        assert_eq!(problem["type"], format!("urn:ggcache:error:{code}"), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        assert_eq!(problem["request_id"].as_str().map(str::len), Some(16), "{problem}");
        assert_eq!(
            self.header("retry-after").is_some(),
            matches!(self.status, 429 | 503),
            "{}",
            self.describe()
        );
        code
    }

    /// All of it, for a message.
    pub fn describe(&self) -> String {
        format!("{}\n{}", String::from_utf8_lossy(&self.head), self.body.escape_ascii())
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let line = head.split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })?;
    std::str::from_utf8(line).ok()
}

/// A connection to one plane of one node.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(4096) })
    }

    /// Sends `bytes`.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Reads one answer. `None` if the node closed the connection instead. `has_body` is false after a HEAD.
    pub async fn receive(&mut self, has_body: bool) -> io::Result<Option<Response>> {
        let length = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let head = self.buffer.split_to(length).freeze();
        self.buffer.advance(4);
        let status: u16 = head
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .ok_or_else(|| wrong("the answer has no status"))?;
        let announced = header(&head, "content-length").map(str::parse);
        let length: usize = match announced {
            _ if !has_body || matches!(status, 204 | 304) => 0,
            Some(length) => length.map_err(|_| wrong("the length is no number"))?,
            None => return Err(wrong("the answer has no length")),
        };
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Some(Response { status, head, body: self.buffer.split_to(length).freeze() }))
    }

    /// Sends a GET of `target` and reads the answer.
    pub async fn get(&mut self, target: &str) -> io::Result<Response> {
        self.send(get(target).as_bytes()).await?;
        self.receive(true).await?.ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

/// The bytes of a GET.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// Sends `request` on a connection of its own and reads one answer; `None` if the connection was closed instead.
///
/// # Panics
/// If there is neither within [`PATIENCE`].
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Option<Response> {
    let has_body = !request.starts_with(b"HEAD ");
    let work = async {
        let mut connection = Connection::open(address).await?;
        // A node may refuse a request before it has read all of it; its answer counts, not the broken pipe.
        let sent = match connection.send(request).await {
            Ok(()) => connection.finish().await,
            error => error,
        };
        match connection.receive(has_body).await {
            Err(error) if is_closed(&error) => Ok(None),
            answer => sent.or_else(|error| if is_closed(&error) { Ok(()) } else { Err(error) }).and(answer),
        }
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(answer) => {
            answer.unwrap_or_else(|error| panic!("{error}, after {:?}", String::from_utf8_lossy(request)))
        }
        Err(_) => panic!("no answer within {PATIENCE:?} to {:?}", String::from_utf8_lossy(request)),
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// What came of one of many requests.
#[derive(Debug)]
pub struct Shot {
    /// The answer; `None` if there was none until the patience ended, or the connection broke.
    pub answer: Option<Response>,
    /// From sending to the end of the answer, or of the patience.
    pub took: Duration,
}

/// Sends a GET of `target` to each of `addresses` at once, each on a connection of its own, which is open before the
/// first is sent. Gives up on each after `patience`.
pub async fn at_once(addresses: Vec<SocketAddr>, target: impl Into<String>, patience: Duration) -> Vec<Shot> {
    let target = target.into();
    let mut connections = Vec::with_capacity(addresses.len());
    for address in addresses {
        connections.push(Connection::open(address).await.expect("the node accepts connections"));
    }
    let shots = connections.into_iter().map(|mut connection| {
        let target = target.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let answer = tokio::time::timeout(patience, connection.get(&target)).await;
            Shot { answer: answer.ok().and_then(Result::ok), took: begun.elapsed() }
        })
    });
    let shots: Vec<_> = shots.collect();
    let mut ended = Vec::with_capacity(shots.len());
    for shot in shots {
        ended.push(shot.await.expect("no panic"));
    }
    ended
}
