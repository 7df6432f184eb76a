//! A seeded simulation of a whole cluster: real groups, real followers of the log and real peers, over a simulated
//! network, database and clock.
//!
//! One seed is one run, always the same one: a single thread on paused time, with all chance drawn from the seed. Clients
//! read at random nodes and writers write past all of them, while nodes crash, stand still and change their views, wires
//! are cut, messages come late, twice or never, relayers fall asleep with the lock in their hands, the log is trimmed, and
//! the database goes away and comes back as it was before. What was read is judged by [`history`]. In a quarter of the
//! runs nothing goes wrong but for delays; then versions only grow at a node, every read is answered, and nobody but its
//! owner reads a key from the database.
//!
//! Each step of the protocol that a test can [leave out](crate::group::omit) is left out in turn, and must be missed.
//!
//! `GGCACHE_SEEDS=10000 cargo test --release --lib simulation -- --nocapture` runs so many seeds;
//! `GGCACHE_SEED=7` one, of which all is told.

mod clients;
mod database;
mod faults;
#[path = "../tests/support/history.rs"]
mod history;
mod log;
mod network;
mod node;
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::sleep;

use self::{
    clients::{Tokens, read_all, read_on, write_on},
    node::Node,
    world::{Outcome, World},
};
use crate::{
    group::omit::{Step, omit},
    transport::MemoryNetwork,
};

/// How long clients, writers and faults go on, in simulated time.
const LENGTH: Duration = Duration::from_millis(1_200);
/// Seeds of a run of the tests.
const SEEDS: u64 = 100;
/// Within so many seeds the lack of a step must show.
const SEEDS_TO_MISS: u64 = 200;

/// One run, with `step` left out.
fn run(seed: u64, step: Option<Step>) -> Outcome {
    fastrand::seed(seed);
    omit(step, Some(fastrand::Rng::with_seed(!seed)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(simulate(seed));
    omit(None, None);
    outcome
}

async fn simulate(seed: u64) -> Outcome {
    let world = World::new(seed);
    let network = MemoryNetwork::new();
    let members: Vec<usize> = (0..world.plan.nodes).collect();
    for index in &members {
        let node = Node::start(&world, &network, *index, 0, &members);
        world.nodes.lock()[*index] = Some(node);
    }
    if world.plan.is_calm {
        sleep(Duration::from_millis(100)).await;
    }
    let tokens = Arc::new(Tokens::default());
    let mut busy = vec![tokio::spawn(faults::go_on(Arc::clone(&world), network.clone()))];
    for _ in 0..world.plan.clients {
        busy.push(tokio::spawn(read_on(Arc::clone(&world), Arc::clone(&tokens))));
    }
    for _ in 0..world.plan.writers {
        busy.push(tokio::spawn(write_on(Arc::clone(&world), Arc::clone(&tokens))));
    }
    sleep(LENGTH).await;
    world.is_ending.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.expect("no task of the simulation panics");
    }
    faults::mend(&world, &network).await;
    read_all(&world).await;
    world.outcome()
}

/// Runs seeds from 0 on, on all processors, until `stop` says so of one; how many were begun.
fn run_all(seeds: u64, step: Option<Step>, stop: impl Fn(u64, Outcome) -> bool + Sync) -> u64 {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if stop(seed, run(seed, step)) {
                        next.store(seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    next.into_inner().min(seeds)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"))
}

#[test]
fn no_read_breaks_a_promise() {
    if let Some(seed) = number("GGCACHE_SEED") {
        let outcome = run(seed, None);
        assert!(outcome.violation.is_none(), "seed {seed}: {}", outcome.violation.unwrap_or_default());
        return;
    }
    let (begun, seeds) = (Instant::now(), number("GGCACHE_SEEDS").unwrap_or(SEEDS));
    let [events, reads, writes, unanswered] = [const { AtomicU64::new(0) }; 4];
    let broken: Mutex<Vec<(u64, String)>> = Mutex::default();
    run_all(seeds, None, |seed, outcome| {
        for (sum, count) in [
            (&events, outcome.events),
            (&reads, outcome.reads),
            (&writes, outcome.writes),
            (&unanswered, outcome.unanswered),
        ] {
            sum.fetch_add(count, Ordering::Relaxed);
        }
        if let Some(violation) = outcome.violation {
            broken.lock().push((seed, violation));
        }
        false
    });
    let mut broken = broken.into_inner();
    broken.sort();
    report(&format!(
        "{seeds} seeds in {:.1?}: {} events, {} writes, {} reads answered, {} not answered, {} violations",
        begun.elapsed(),
        events.into_inner(),
        writes.into_inner(),
        reads.into_inner(),
        unanswered.into_inner(),
        broken.len()
    ));
    if let Some((seed, violation)) = broken.first() {
        let which: Vec<u64> = broken.iter().map(|(seed, _)| *seed).collect();
        panic!(
            "{} of {seeds} seeds break a promise: {which:?}\nGGCACHE_SEED={seed} cargo test --lib simulation shows:\n{violation}",
            broken.len()
        );
    }
}

fn report(text: &str) {
    eprintln!("{text}");
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in 0..6 {
        let (one, other) = (run(seed, None), run(seed, None));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
    }
    assert_ne!(run(0, None).hash, run(1, None).hash);
}

#[test]
fn each_step_is_missed_when_it_is_left_out() {
    use Step::{
        CheckAndStoreAsOne, EchoedCursor, EchoedDigest, LogId, NeedInRequest, RowAfterHint, SlotBeforeCursor,
        SlotCheckAtJoin, SlotCheckAtStore, SlotInNeed,
    };
    let steps = [
        SlotCheckAtStore,
        CheckAndStoreAsOne,
        SlotCheckAtJoin,
        SlotInNeed,
        NeedInRequest,
        EchoedCursor,
        EchoedDigest,
        SlotBeforeCursor,
        RowAfterHint,
        LogId,
    ];
    let mut unmissed = Vec::new();
    for step in steps {
        let first: Mutex<Option<(u64, String)>> = Mutex::default();
        let count = run_all(SEEDS_TO_MISS, Some(step), |seed, outcome| {
            let Some(violation) = outcome.violation else { return false };
            let mut first = first.lock();
            if first.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                *first = Some((seed, violation));
            }
            true
        });
        match first.into_inner() {
            Some((seed, violation)) => {
                let told: Vec<&str> = violation.lines().take(3).collect();
                report(&format!("without {step:?}, seed {seed} shows: {}", told.join(" ")));
            }
            None => {
                report(&format!("without {step:?}, {count} seeds show nothing"));
                unmissed.push(step);
            }
        }
    }
    assert!(unmissed.is_empty(), "nobody misses {unmissed:?}");
}
