//! A steady load on a schedule: each request is sent when it is due, however late the earlier ones are, and its time
//! counts from when it was due (no coordinated omission).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ggcache::{
    client::Client,
    error::ErrorCode,
    group::{GroupName, Key},
};
use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::items::{self, Zipf};

/// What is asked for, and how often.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Requests a second.
    pub rate: f64,
    /// Which keys of the table.
    pub law: Zipf,
    /// The share of requests for keys that are not there.
    pub absent: f64,
    /// How many such keys there are.
    pub absent_keys: usize,
    /// By when a request has to end after it was sent.
    pub deadline: Duration,
}

/// What is allowed beyond the deadline: the machine is shared by all.
const DEADLINE_SLACK: Duration = Duration::from_millis(50);

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    /// Another value than the key's, a value for a key that is not there, or none for one that is.
    Wrong,
    Error(ErrorCode),
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    due: Instant,
    /// From when it was due.
    took: Duration,
    /// From when it was due until it was sent.
    lag: Duration,
    /// Whether it ended after its deadline.
    late: bool,
    outcome: Outcome,
}

/// Requests that go on until they are told to stop.
#[derive(Debug)]
pub struct Load {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: tokio::sync::watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The requests that were due in a span of time.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub requests: usize,
    pub answered: usize,
    pub wrong: usize,
    pub late: usize,
    pub errors: BTreeMap<&'static str, usize>,
    pub seconds: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// The longest that a request was sent after it was due: how long this machine stood still.
    pub stall: Duration,
}

impl Summary {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Requests that ended with an error.
    pub fn failed(&self) -> usize {
        self.errors.values().sum()
    }

    /// Of them, the share that ended with an error, in percent.
    pub fn failed_percent(&self) -> f64 {
        100.0 * self.failed() as f64 / self.requests.max(1) as f64
    }
}

impl Load {
    /// Begins to ask.
    pub fn start(client: Client, demand: Demand) -> Self {
        let samples = Arc::default();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(generate(client, demand, Arc::clone(&samples), stopped));
        Self { samples, stop, task }
    }

    /// Sends no more, and waits for what is under way.
    pub async fn stop(self) -> Requests {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            std::panic::resume_unwind(error.into_panic());
        }
        Requests(std::mem::take(&mut *self.samples.lock()))
    }
}

/// All requests of a load.
#[derive(Debug)]
pub struct Requests(Vec<Sample>);

impl Requests {
    /// Those that were due from `from` on and before `to`.
    pub fn between(&self, from: Instant, to: Instant) -> Summary {
        let mut summary = Summary { seconds: (to - from).as_secs_f64(), ..Summary::default() };
        let mut times = Vec::new();
        for sample in self.0.iter().filter(|sample| (from..to).contains(&sample.due)) {
            summary.requests += 1;
            summary.late += usize::from(sample.late);
            match sample.outcome {
                Outcome::Right => summary.answered += 1,
                Outcome::Wrong => summary.wrong += 1,
                Outcome::Error(code) => *summary.errors.entry(code.as_str()).or_default() += 1,
            }
            summary.stall = summary.stall.max(sample.lag);
            times.push(sample.took);
        }
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        (summary.p50, summary.p99) = (at(0.5), at(0.99));
        summary
    }
}

async fn generate(
    client: Client,
    demand: Demand,
    samples: Arc<Mutex<Vec<Sample>>>,
    stopped: tokio::sync::watch::Receiver<bool>,
) {
    let group = GroupName::new(items::GROUP).expect("a group's name");
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while !*stopped.borrow() {
        ticks.tick().await;
        let due_count = (begun.elapsed().as_secs_f64() * demand.rate) as u64;
        while sent < due_count {
            let due = begun + Duration::from_secs_f64(sent as f64 / demand.rate);
            sent += 1;
            let (client, group, samples) = (client.clone(), group.clone(), Arc::clone(&samples));
            let (key, expected) = draw(&demand);
            let deadline = demand.deadline;
            under_way.spawn(async move {
                let begun = Instant::now();
                let lag = begun.saturating_duration_since(due);
                let answer = client.get_until(&group, &key, begun + deadline).await;
                let late = begun.elapsed() > deadline + DEADLINE_SLACK;
                let outcome = match &answer {
                    Ok(found) => {
                        let bytes = found.as_ref().map(|fetched| &*fetched.bytes);
                        let right = bytes == expected.as_ref().map(|value| value.as_bytes());
                        if right { Outcome::Right } else { Outcome::Wrong }
                    }
                    Err(error) => Outcome::Error(error.code()),
                };
                samples.lock().push(Sample { due, took: due.elapsed(), lag, late, outcome });
            });
        }
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

fn draw(demand: &Demand) -> (Key, Option<String>) {
    let (key, value) = if fastrand::f64() < demand.absent {
        (items::absent_key(fastrand::usize(..demand.absent_keys)), None)
    } else {
        let index = demand.law.draw();
        (items::key(index), Some(items::value(index, 0)))
    };
    (Key::new(key).expect("a key"), value)
}
