//! Clients that take their time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::sleep};

use super::target::{Stream, Target, get};

/// How a client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Sends a request's head, a byte a second
    Header,
    /// Sends a request's body, a byte a second
    Body,
    /// Asks for a large value, and never reads it
    Read,
    /// Asks once, and then nothing more
    Idle,
    /// Begins a handshake, and never goes on
    Handshake,
}

/// The slow clients of a kind, with their connections, until it is dropped.
#[derive(Debug)]
pub struct Crowd {
    clients: JoinSet<()>,
    begun: Arc<AtomicUsize>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Paths {
    pub hit: String,
    pub large: String,
    pub posts: [String; 2],
}

impl Crowd {
    pub fn new() -> Self {
        Self { clients: JoinSet::new(), begun: Arc::default() }
    }

    /// Adds `count` of a kind, which come one after another: what so many handshakes at once cost is no slowness.
    pub fn add(&mut self, kind: Kind, count: usize, target: &Target, paths: &Paths) {
        for index in 0..count {
            let (target, paths, begun) = (target.clone(), paths.clone(), Arc::clone(&self.begun));
            let comes = coming(index);
            self.clients.spawn(async move {
                sleep(comes).await;
                if let Ok(Some(stream)) = begin(kind, index, &target, &paths).await {
                    begun.fetch_add(1, Ordering::Relaxed);
                    go_on(kind, stream).await;
                }
            });
        }
    }

    /// How many have begun.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

/// When the next comes after so many.
pub fn coming(index: usize) -> Duration {
    Duration::from_millis(4) * u32::try_from(index).unwrap_or(u32::MAX)
}

async fn begin(
    kind: Kind,
    index: usize,
    target: &Target,
    paths: &Paths,
) -> io::Result<Option<Box<dyn Stream>>> {
    let mut stream = match kind {
        Kind::Read => target.open_narrow().await?,
        Kind::Handshake => Box::new(TcpStream::connect(target.address).await?),
        _ => target.open().await?,
    };
    let text = match kind {
        Kind::Header => format!("GET {} HTTP/1.1\r\nhost: localhost\r\nx-slow: ", paths.hit),
        Kind::Body => format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{{",
            paths.posts[index % paths.posts.len()]
        ),
        Kind::Read => format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", paths.large),
        Kind::Idle => {
            get(&mut *stream, &paths.hit).await?;
            String::new()
        }
        // A record of a handshake, of which the rest never comes.
        Kind::Handshake => "\u{16}\u{3}\u{1}\u{2}".to_owned(),
    };
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    Ok(Some(stream))
}

/// Goes on until it is dropped. The connection is never closed from here.
async fn go_on(kind: Kind, mut stream: Box<dyn Stream>) {
    if matches!(kind, Kind::Header | Kind::Body) {
        loop {
            sleep(Duration::from_secs(1)).await;
            let sent = async {
                stream.write_all(b" ").await?;
                stream.flush().await
            };
            if sent.await.is_err() {
                break;
            }
        }
    }
    std::future::pending::<()>().await;
}
