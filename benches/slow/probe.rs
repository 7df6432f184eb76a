//! A client like any other, while others misbehave: asks for a hit on a schedule, and times each answer from when the
//! request was due.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::target::{Target, get};

/// Between two requests.
const PERIOD: Duration = Duration::from_millis(4);
/// So many of them go by one connection; then another is opened.
const REQUESTS_A_CONNECTION: usize = 10;
/// After which an answer is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// A probe that goes on until it is stopped. It has a thread of its own: what the misbehaving take of this program does
/// not delay it.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a probe has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    times: Vec<Duration>,
    pub errors: usize,
    first_error: Option<String>,
}

impl Probe {
    pub fn start(target: Target, path: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(ask(&target, &path, &stopped))
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = self.thread.join().expect("no panic");
        seen.times.sort_unstable();
        seen
    }
}

async fn ask(target: &Target, path: &str, stopped: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut connection, mut left) = (None, 0);
    while !stopped.load(Ordering::Relaxed) {
        let due = ticks.tick().await;
        let work = async {
            let mut stream = match connection.take() {
                Some(stream) if left > 0 => stream,
                _ => {
                    left = REQUESTS_A_CONNECTION;
                    target.open().await?
                }
            };
            left -= 1;
            get(&mut *stream, path).await.map(|_| stream)
        };
        match timeout(PATIENCE, work).await {
            Ok(Ok(stream)) => connection = Some(stream),
            Ok(Err(error)) => seen.failed(&error.to_string()),
            Err(_) => seen.failed("no answer in time"),
        }
        seen.times.push(Instant::now() - due);
    }
    seen
}

impl Seen {
    fn failed(&mut self, why: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| why.to_owned());
    }

    /// The time within which a share of the answers came.
    pub fn within(&self, share: f64) -> Duration {
        let at = (self.times.len() as f64 * share) as usize;
        self.times.get(at.min(self.times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.within(share));
        write!(
            f,
            "{} probes, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}, {} errors",
            self.times.len(),
            self.errors
        )?;
        match &self.first_error {
            Some(error) => write!(f, " (the first: {error})"),
            None => Ok(()),
        }
    }
}
