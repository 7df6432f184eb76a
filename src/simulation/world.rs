//! What all parts of a simulated run share: the time, the chance, the plan, and the record.

use std::{
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::sleep;
use xxhash_rust::xxh3::Xxh3;

use super::{
    database::Database,
    history::{History, Nanos, Read, Write, seconds},
    network::Links,
    node::Node,
};
use crate::time::{Clock, Moment, TokioClock};

/// What one seed is about.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// No faults: then more is promised.
    pub(super) is_calm: bool,
    pub(super) nodes: usize,
    pub(super) keys: usize,
    pub(super) staleness: Duration,
    pub(super) clients: usize,
    pub(super) writers: usize,
    /// The longest pause of a writer, and of a client, between two of its requests.
    pub(super) write_pause: u64,
    pub(super) read_pause: u64,
    /// The usual delay of a message and of a query, each way, and that of one in so many.
    pub(super) wire: Delay,
    pub(super) query: Delay,
    /// Values live so shortly that most answers are from a stale window; else so long that only the log ends them.
    pub(super) is_short_lived: bool,
    /// A node that has another definition of the group than the others.
    pub(super) alien: Option<usize>,
}

/// How long something takes, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    usual: u64,
    slow: u64,
    slow_percent: u64,
}

impl Plan {
    fn draw(rng: &mut Rng) -> Self {
        let is_calm = rng.u8(0..4) == 0;
        let nodes = rng.usize(3..=5);
        let delay = |rng: &mut Rng, slow| Delay {
            usual: rng.u64(0..=3),
            slow: if is_calm { 8 } else { slow },
            slow_percent: rng.u64(0..=10),
        };
        Self {
            is_calm,
            nodes,
            keys: rng.usize(2..=4),
            staleness: Duration::from_millis(*rng.choice(&[200, 400, 1_000]).unwrap_or(&1_000)),
            clients: rng.usize(4..=6),
            writers: rng.usize(2..=3),
            write_pause: rng.u64(8..=60),
            read_pause: rng.u64(3..=10),
            wire: delay(rng, 60),
            query: delay(rng, 120),
            is_short_lived: rng.u8(0..4) == 0,
            alien: (!is_calm && rng.u8(0..3) == 0).then(|| rng.usize(0..nodes)),
        }
    }
}

/// What happened, for who reads a counterexample, and for the hash of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    at: Nanos,
    node: usize,
    what: &'static str,
    one: u64,
    other: u64,
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} node {} {} {} {}", seconds(self.at), self.node, self.what, self.one, self.other)
    }
}

#[derive(Default)]
struct Trace {
    hash: Xxh3,
    events: Vec<Event>,
}

/// A key's number, as it stands in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyNumber(pub(super) usize);

impl Display for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key-{}", self.0)
    }
}

/// A broken promise that is none of the history's.
#[derive(Clone, Debug)]
pub(super) struct Breach {
    pub(super) at: Nanos,
    pub(super) text: String,
}

/// One run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) clock: Arc<TokioClock>,
    rng: Mutex<Rng>,
    ticks: AtomicU64,
    trace: Mutex<Trace>,
    history: Mutex<History<KeyNumber>>,
    pub(super) breaches: Mutex<Vec<Breach>>,
    pub(super) database: Database,
    pub(super) links: Links,
    pub(super) nodes: Mutex<Vec<Option<Arc<Node>>>>,
    /// Who is in the cluster, as the discovery knows it.
    pub(super) members: Mutex<Vec<usize>>,
    /// No more writes and faults from here on.
    pub(super) is_ending: AtomicBool,
    pub(super) unanswered: AtomicU64,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let world = Arc::new(Self {
            database: Database::new(plan.keys, &mut rng),
            links: Links::new(plan.nodes),
            nodes: Mutex::new((0..plan.nodes).map(|_| None).collect()),
            members: Mutex::new((0..plan.nodes).collect()),
            plan,
            clock: Arc::new(TokioClock::new()),
            rng: Mutex::new(rng),
            ticks: AtomicU64::new(0),
            trace: Mutex::default(),
            history: Mutex::default(),
            breaches: Mutex::default(),
            is_ending: AtomicBool::new(false),
            unanswered: AtomicU64::new(0),
        });
        world.database.open(&world);
        world
    }

    /// A number from 0 to `most`.
    pub(super) fn draw(&self, most: u64) -> u64 {
        self.rng.lock().u64(0..=most)
    }

    pub(super) fn between(&self, least: u64, most: u64) -> u64 {
        self.rng.lock().u64(least..=most)
    }

    pub(super) fn one_of(&self, count: usize) -> usize {
        self.rng.lock().usize(0..count)
    }

    pub(super) fn chance(&self, percent: u64) -> bool {
        self.rng.lock().u64(0..100) < percent
    }

    pub(super) fn random(&self) -> u64 {
        self.rng.lock().u64(..)
    }

    pub(super) async fn pause(&self, least: u64, most: u64) {
        let millis = self.between(least, most);
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
    }

    pub(super) async fn delay(&self, delay: Delay) {
        if self.chance(delay.slow_percent) {
            self.pause(0, delay.slow).await;
        } else {
            self.pause(0, delay.usual).await;
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The present moment, which no other event has: the order of stamps is the order of events.
    pub(super) fn stamp(&self) -> Nanos {
        self.now().as_nanos() + self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes an event; when it was.
    pub(super) fn note(&self, node: usize, what: &'static str, one: u64, other: u64) -> Nanos {
        let event = Event { at: self.stamp(), node, what, one, other };
        let mut trace = self.trace.lock();
        trace.hash.update(what.as_bytes());
        for number in [event.at, node as u64, one, other] {
            trace.hash.update(&number.to_le_bytes());
        }
        trace.events.push(event);
        event.at
    }

    pub(super) fn breach(&self, text: String) {
        let at = self.stamp();
        self.breaches.lock().push(Breach { at, text });
    }

    pub(super) fn wrote(&self, key: usize, write: Write) -> usize {
        self.history.lock().write(&KeyNumber(key), write)
    }

    pub(super) fn committed(&self, key: usize, place: usize, by: Nanos) {
        self.history.lock().committed(&KeyNumber(key), place, by);
    }

    pub(super) fn read(&self, key: usize, read: Read) {
        self.history.lock().read(&KeyNumber(key), read);
    }

    /// The node that is at place `index`, if it is up.
    pub(super) fn node(&self, index: usize) -> Option<Arc<Node>> {
        self.nodes.lock()[index].clone()
    }

    /// What the run came to.
    pub(super) fn outcome(&self) -> Outcome {
        let trace = self.trace.lock();
        let judged = self.history.lock().check();
        let mut breaches = self.breaches.lock().clone();
        let counts = match judged {
            Ok(judged) => (judged.reads, judged.writes),
            Err(found) => {
                breaches.push(Breach { at: found.at, text: found.to_string() });
                (0, 0)
            }
        };
        breaches.sort_by_key(|breach| breach.at);
        let violation = breaches.first().map(|breach| {
            const BEFORE: usize = 150;
            let until = trace.events.partition_point(|event| event.at <= breach.at);
            let lines = trace.events[until.saturating_sub(BEFORE)..until].iter();
            let story: Vec<String> = lines.map(Event::to_string).collect();
            format!("{}\nplan: {:?}\nlast events:\n{}", breach.text, self.plan, story.join("\n"))
        });
        Outcome {
            hash: trace.hash.digest(),
            events: trace.events.len() as u64,
            reads: counts.0,
            writes: counts.1,
            unanswered: self.unanswered.load(Ordering::Relaxed),
            violation,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) hash: u64,
    pub(super) events: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) unanswered: u64,
    pub(super) violation: Option<String>,
}
