//! What flights promise when loads end well, badly or not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{Aborted, FlightLimits, Flights, Full, Start, Turn};
use crate::{
    group::fence::{Fence, SlotState},
    time::Moment,
};

const KEY: &[u8] = b"key";
const HASH: u64 = 0x1234_5678;

struct Bench {
    fence: Arc<Fence>,
    flights: Arc<Flights<u64>>,
    started: Arc<AtomicU64>,
    running: Arc<AtomicUsize>,
    running_max: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Bench {
    fn new(limits: FlightLimits) -> Self {
        Self {
            fence: Arc::default(),
            flights: Flights::new(limits),
            started: Arc::default(),
            running: Arc::default(),
            running_max: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn slot(&self) -> SlotState {
        self.fence.state(HASH)
    }

    /// Joins, and flies the flight in a task if that is this caller's duty; answers the flight's number.
    fn get(&self) -> impl Future<Output = Result<u64, Aborted>> + Send + 'static {
        let (seat, turn) = self.flights.join(HASH, KEY, plain(self.slot())).expect("within the limits");
        if let Some(turn) = turn {
            let fence = Arc::clone(&self.fence);
            let (started, running, running_max, gate) =
                (self.started.clone(), self.running.clone(), self.running_max.clone(), self.gate.clone());
            tokio::spawn(turn.fly(
                move || fence.state(HASH),
                move |_| {
                    let (started, running, running_max, gate) =
                        (started.clone(), running.clone(), running_max.clone(), gate.clone());
                    async move {
                        let number = started.fetch_add(1, Ordering::SeqCst);
                        running_max.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        gate.acquire().await.expect("open").forget();
                        running.fetch_sub(1, Ordering::SeqCst);
                        number
                    }
                },
            ));
        }
        async move { seat.wait().await }
    }
}

const fn plain(slot: SlotState) -> Start {
    Start { slot, is_fresh: false }
}

fn limits(flights: usize, waiters: usize) -> FlightLimits {
    FlightLimits { flights, waiters }
}

#[tokio::test]
async fn all_who_ask_at_once_share_one_flight() {
    let bench = Bench::new(limits(10, 1_000));
    let waits: Vec<_> = (0..1_000).map(|_| bench.get()).collect();
    bench.gate.add_permits(1);
    for wait in waits {
        assert_eq!(wait.await, Ok(0));
    }
    assert_eq!(bench.flights.running(), 0);
    assert_eq!(bench.flights.waiters.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cancelled_leader_harms_nobody() {
    let bench = Bench::new(limits(10, 10));
    let leader = bench.get();
    let waiter = bench.get();
    drop(leader);
    bench.gate.add_permits(1);
    assert_eq!(waiter.await, Ok(0));
}

#[tokio::test]
async fn a_panic_reaches_every_waiter_and_the_key_is_free_again() {
    let flights: Arc<Flights<u64>> = Flights::new(limits(10, 10));
    let fence = Fence::new();
    let (first, turn) = flights.join(HASH, KEY, plain(fence.state(HASH))).expect("within the limits");
    let (second, none) = flights.join(HASH, KEY, plain(fence.state(HASH))).expect("within the limits");
    assert!(none.is_none());
    let turn = turn.expect("the first caller leads");
    let state = fence.state(HASH);
    tokio::spawn(turn.fly(move || state, |_| async { panic!("on purpose") }));
    assert_eq!(first.wait().await, Err(Aborted::Panicked));
    assert_eq!(second.wait().await, Err(Aborted::Panicked));
    assert_eq!(flights.running(), 0);
    assert!(flights.join(HASH, KEY, plain(state)).expect("within the limits").1.is_some());
}

#[tokio::test]
async fn a_dropped_task_answers_its_waiters_and_those_of_the_waiting_flight() {
    let bench = Bench::new(limits(10, 10));
    let (seat, turn) = bench.flights.join(HASH, KEY, plain(bench.slot())).expect("within the limits");
    bench.fence.change(HASH, Moment::from_nanos(1));
    let waiting = bench.get();
    drop(turn);
    assert_eq!(seat.wait().await, Err(Aborted::Stopped));
    assert_eq!(waiting.await, Err(Aborted::Stopped));
    assert_eq!(bench.flights.running(), 0);
}

#[tokio::test]
async fn after_invalidations_at_most_one_runs_and_one_waits() {
    let bench = Bench::new(limits(10, 100));
    let before = bench.get();
    let mut after = Vec::new();
    for _ in 0..20 {
        bench.fence.change(HASH, Moment::from_nanos(1));
        after.push(bench.get());
    }
    bench.gate.add_permits(2);
    assert_eq!(before.await, Ok(0));
    for wait in after {
        assert_eq!(wait.await, Ok(1), "all who came after an invalidation share the second flight");
    }
    assert_eq!(bench.started.load(Ordering::SeqCst), 2);
    assert_eq!(bench.running_max.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_waiting_flight_that_began_can_be_joined_until_the_next_change() {
    let bench = Bench::new(limits(10, 100));
    let first = bench.get();
    bench.fence.change(HASH, Moment::from_nanos(1));
    let second = bench.get();
    bench.gate.add_permits(1);
    assert_eq!(first.await, Ok(0));
    let third = bench.get();
    bench.fence.change(HASH, Moment::from_nanos(1));
    let fourth = bench.get();
    bench.gate.add_permits(2);
    assert_eq!(second.await, Ok(1));
    assert_eq!(third.await, Ok(1));
    assert_eq!(fourth.await, Ok(2));
}

#[tokio::test]
async fn limits_hold_and_are_given_back() {
    let bench = Bench::new(limits(1, 2));
    let first = bench.get();
    assert_eq!(
        bench.flights.join(HASH + 1, b"other", plain(bench.slot())).err(),
        Some(Full::Flights(1)),
        "a second flight"
    );
    let second = bench.get();
    assert_eq!(
        bench.flights.join(HASH, KEY, plain(bench.slot())).err(),
        Some(Full::Waiters(2)),
        "a third waiter"
    );
    bench.gate.add_permits(1);
    assert_eq!((first.await, second.await), (Ok(0), Ok(0)));
    bench.gate.add_permits(1);
    assert_eq!(bench.get().await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_never_see_two_flights_of_a_key() {
    let bench = Arc::new(Bench::new(limits(100, 100_000)));
    bench.gate.add_permits(1_000_000);
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                for turn in 0..2_000 {
                    if (turn + caller) % 7 == 0 {
                        bench.fence.change(HASH, Moment::from_nanos(1));
                    }
                    // What was started before this request must not answer it once the slot has changed.
                    bench.get().await.expect("every flight lands");
                }
            })
        })
        .collect();
    for caller in callers {
        tokio::time::timeout(Duration::from_secs(60), caller)
            .await
            .expect("no wait hangs")
            .expect("no panic");
    }
    assert_eq!(bench.running_max.load(Ordering::SeqCst), 1);
    assert_eq!(bench.flights.running(), 0);
}

#[tokio::test]
async fn a_fresh_load_joins_no_flight_that_runs() {
    let bench = Bench::new(limits(10, 10));
    let first = bench.get();
    let fresh = |slot| bench.flights.join(HASH, KEY, Start { slot, is_fresh: true }).expect("room");
    let (one, none) = fresh(bench.slot());
    let (two, still_none) = fresh(bench.slot());
    assert!(none.is_none() && still_none.is_none(), "they wait for the running one to end");
    assert!(!one.collapsed && two.collapsed);
    // Who does not mind joins the running flight.
    let third = bench.get();
    bench.gate.add_permits(2);
    assert_eq!((first.await, third.await), (Ok(0), Ok(0)));
    assert_eq!((one.wait().await, two.wait().await), (Ok(1), Ok(1)));
    assert_eq!(bench.flights.running(), 0);
}

#[tokio::test]
async fn a_waiting_flight_is_fresh_if_anybody_in_it_asks_for_that() {
    let flights: Arc<Flights<bool>> = Flights::new(limits(10, 10));
    let fence = Fence::new();
    let before = plain(fence.state(HASH));
    let (_first, turn) = flights.join(HASH, KEY, before).expect("room");
    fence.change(HASH, Moment::from_nanos(1));
    let slot = fence.state(HASH);
    let (waiting, _) = flights.join(HASH, KEY, plain(slot)).expect("room");
    let (fresh, _) = flights.join(HASH, KEY, Start { slot, is_fresh: true }).expect("room");
    turn.expect("the first leads").fly(|| slot, |start| async move { start.is_fresh }).await;
    assert_eq!((waiting.wait().await, fresh.wait().await), (Ok(true), Ok(true)));
}

#[tokio::test]
async fn flights_of_several_keys_land_together_and_go_on_alone() {
    let flights: Arc<Flights<u64>> = Flights::new(limits(10, 10));
    let fence = Fence::new();
    let slot = fence.state(HASH);
    let mut turns = Vec::new();
    let seats = [b"a", b"b", b"c"].map(|key| {
        let (seat, turn) = flights.join(HASH, key, plain(slot)).expect("room");
        turns.extend(turn);
        seat
    });
    let (late, none) = flights.join(HASH, b"b", Start { slot, is_fresh: true }).expect("room");
    assert!(none.is_none());
    let left = Turn::fly_together(turns, |_| slot, async { vec![1, 2, 3] }).await;
    let results = [seats[0].wait().await, seats[1].wait().await, seats[2].wait().await];
    assert_eq!(results, [Ok(1), Ok(2), Ok(3)]);
    let [turn]: [_; 1] = left.try_into().unwrap_or_else(|_| panic!("one has another flight"));
    assert_eq!(turn.target(), (HASH, b"b".as_slice(), Start { slot, is_fresh: true }));
    turn.fly(|| slot, |_| async { 4 }).await;
    assert_eq!(late.wait().await, Ok(4));
    assert_eq!(flights.running(), 0);
}

#[tokio::test]
async fn a_panic_or_an_end_of_work_for_several_keys_reaches_all() {
    let flights: Arc<Flights<u64>> = Flights::new(limits(10, 10));
    let slot = Fence::new().state(HASH);
    for work in [true, false] {
        let mut turns = Vec::new();
        let seats = [b"a", b"b"].map(|key| {
            let (seat, turn) = flights.join(HASH, key, plain(slot)).expect("room");
            turns.extend(turn);
            seat
        });
        let expected = if work {
            let left = Turn::fly_together(turns, |_| slot, async { panic!("on purpose") }).await;
            assert!(left.is_empty());
            Aborted::Panicked
        } else {
            drop(Turn::fly_together(turns, |_| slot, std::future::pending()));
            Aborted::Stopped
        };
        for seat in seats {
            assert_eq!(seat.wait().await, Err(expected));
        }
    }
    assert_eq!(flights.running(), 0);
}
