//! Flights: one load for all who ask for a key at the same time.
//!
//! A flight runs in a task of its own, so that the cancellation of any caller, the first one included,
//! harms nobody. Of each key there is at most one flight running and one waiting. A request joins the running
//! flight only if the fence's slot is still as it was when the flight began; otherwise an invalidation came
//! in between, and the request joins (or makes) the waiting flight, which begins when the running one ends. So does a
//! request that asks for a fresh load, whatever the slot's state.
//!
//! Invariants: a flight is always completed: by its result, by [`Aborted::Panicked`] if its work panics, or by
//! [`Aborted::Stopped`] if its task is dropped. A key stands in the map exactly while a flight of it runs.
//!
//! The map knows nothing of groups or nodes: [`Group`](super::Group) owns two of them, one for clients'
//! requests and one for those that it answers as owner, so that two nodes that take each other for the
//! owner can't wait for each other.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use hashbrown::HashTable;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    fence::SlotState,
    omit::{Step, omitted},
};

const SHARDS: usize = 16;

/// Why a flight ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aborted {
    /// Its work panicked.
    Panicked,
    /// Its task was dropped.
    Stopped,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Flights(usize),
    Waiters(usize),
}

/// How many flights and waiters a map admits.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlightLimits {
    pub(super) flights: usize,
    pub(super) waiters: usize,
}

/// One load, and those who wait for it.
pub(super) struct Flight<T> {
    result: OnceLock<Result<T, Aborted>>,
    done: Notify,
}

impl<T: Clone> Flight<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { result: OnceLock::new(), done: Notify::new() })
    }

    fn complete(&self, result: Result<T, Aborted>) {
        if self.result.set(result).is_ok() {
            self.done.notify_waiters();
        }
    }

    async fn wait(&self) -> Result<T, Aborted> {
        let notified = self.done.notified();
        let mut notified = std::pin::pin!(notified);
        // Registered before the look, so that a completion in between is not missed.
        notified.as_mut().enable();
        if let Some(result) = self.result.get() {
            return result.clone();
        }
        notified.await;
        self.result.get().cloned().unwrap_or(Err(Aborted::Stopped))
    }
}

/// The flights of a key: the one that runs and the one that waits for it to end.
struct Pair<T> {
    hash: u64,
    key: Box<[u8]>,
    running: Arc<Flight<T>>,
    /// The slot's state when the running flight began.
    slot: SlotState,
    waiting: Option<Waiting<T>>,
}

/// A flight that has not begun.
struct Waiting<T> {
    flight: Arc<Flight<T>>,
    /// Whether somebody in it asks for a fresh load.
    is_fresh: bool,
}

/// How a flight begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The slot's state.
    pub(super) slot: SlotState,
    /// Whether it loads whatever is in memory.
    pub(super) is_fresh: bool,
}

// The hash is the caller's, seeded per process.
type Shard<T> = Mutex<HashTable<Pair<T>>>;

/// The flights of a group on one side.
pub(super) struct Flights<T> {
    shards: Box<[Shard<T>]>,
    limits: FlightLimits,
    flights: AtomicUsize,
    waiters: AtomicUsize,
}

/// A place among a flight's waiters.
pub(super) struct Seat<T> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
    /// Whether another request had begun the flight.
    pub(super) collapsed: bool,
}

impl<T: Clone> Seat<T> {
    /// Waits for the flight's result. Cancel safe: the flight goes on.
    pub(super) async fn wait(&self) -> Result<T, Aborted> {
        self.flight.wait().await
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        self.flights.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The duty to run a flight, held by its task.
pub(super) struct Turn<T: Clone> {
    flights: Arc<Flights<T>>,
    hash: u64,
    key: Box<[u8]>,
    flight: Arc<Flight<T>>,
    start: Start,
    landed: bool,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(super) fn new(limits: FlightLimits) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            limits,
            flights: AtomicUsize::new(0),
            waiters: AtomicUsize::new(0),
        })
    }

    /// Flights that run.
    pub(super) fn running(&self) -> usize {
        self.flights.load(Ordering::Relaxed)
    }

    /// Whether a flight of `key` runs.
    pub(super) fn is_flying(&self, hash: u64, key: &[u8]) -> bool {
        self.shard(hash).lock().find(hash, |pair| *pair.key == *key).is_some()
    }

    /// Takes a seat in a flight of `key` that began, or will begin, no earlier than the last
    /// change of its slot, whose present state is `start.slot`; for a fresh load, no earlier than now. If the answer
    /// holds a [`Turn`], the caller must spawn [`Turn::fly`] or [`Turn::fly_together`].
    pub(super) fn join(
        self: &Arc<Self>,
        hash: u64,
        key: &[u8],
        start: Start,
    ) -> Result<(Seat<T>, Option<Turn<T>>), Full> {
        if self.waiters.fetch_add(1, Ordering::Relaxed) >= self.limits.waiters {
            self.waiters.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Waiters(self.limits.waiters));
        }
        // From here on the seat gives the count back, on every path.
        let seat = |flight, collapsed| Seat { flights: Arc::clone(self), flight, collapsed };
        let mut shard = self.shard(hash).lock();
        if let Some(pair) = shard.find_mut(hash, |pair| *pair.key == *key) {
            if (pair.slot == start.slot || omitted(Step::SlotCheckAtJoin)) && !start.is_fresh {
                return Ok((seat(Arc::clone(&pair.running), true), None));
            }
            let collapsed = pair.waiting.is_some();
            let new = || Waiting { flight: Flight::new(), is_fresh: false };
            let waiting = pair.waiting.get_or_insert_with(new);
            waiting.is_fresh |= start.is_fresh;
            return Ok((seat(Arc::clone(&waiting.flight), collapsed), None));
        }
        if self.flights.fetch_add(1, Ordering::Relaxed) >= self.limits.flights {
            self.flights.fetch_sub(1, Ordering::Relaxed);
            self.waiters.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Flights(self.limits.flights));
        }
        let flight = Flight::new();
        let key: Box<[u8]> = key.into();
        let running = Arc::clone(&flight);
        let pair = Pair { hash, key: key.clone(), running, slot: start.slot, waiting: None };
        shard.insert_unique(hash, pair, |pair| pair.hash);
        drop(shard);
        let turn =
            Turn { flights: Arc::clone(self), hash, key, flight: Arc::clone(&flight), start, landed: false };
        Ok((seat(flight, false), Some(turn)))
    }

    fn shard(&self, hash: u64) -> &Shard<T> {
        &self.shards[shard_index(hash)]
    }
}

impl<T: Clone + Send + Sync + 'static> Turn<T> {
    /// The hash and the key that it is about, and how it begins.
    pub(super) fn target(&self) -> (u64, &[u8], Start) {
        (self.hash, &self.key, self.start)
    }

    /// Runs the flight, and then those that came to wait for it, one after another. `state` reads the
    /// slot's present state; `work` does the load, for a flight that begins as given.
    pub(super) async fn fly<F>(
        mut self,
        state: impl Fn() -> SlotState + Send,
        work: impl Fn(Start) -> F + Send,
    ) where
        F: Future<Output = T> + Send,
    {
        loop {
            let start = self.start;
            // The panic is answered to every waiter; what the work touched is not used again.
            let result = AssertUnwindSafe(async { work(start).await }).catch_unwind().await;
            if !self.land(result.map_err(|_| Aborted::Panicked), &state) {
                return;
            }
        }
    }

    /// Runs flights of several keys by one piece of work, which brings a result for each, in their order. `state` reads
    /// the present state of a slot, by hash. The turns that are left have another flight to run, by
    /// [`fly`](Self::fly).
    pub(super) async fn fly_together(
        turns: Vec<Self>,
        state: impl Fn(u64) -> SlotState,
        work: impl Future<Output = Vec<T>> + Send,
    ) -> Vec<Self> {
        let results = AssertUnwindSafe(work).catch_unwind().await;
        let mut results = results.map(Vec::into_iter);
        let mut left = Vec::new();
        for mut turn in turns {
            // Fewer results than turns are a panic's: nobody is left to wait.
            let result = match &mut results {
                Ok(results) => results.next().ok_or(Aborted::Panicked),
                Err(_) => Err(Aborted::Panicked),
            };
            let hash = turn.hash;
            if turn.land(result, || state(hash)) {
                left.push(turn);
            }
        }
        left
    }

    /// Completes the running flight; whether a waiting one has become the running one.
    fn land(&mut self, result: Result<T, Aborted>, state: impl Fn() -> SlotState) -> bool {
        let mut shard = self.flights.shard(self.hash).lock();
        let next = shard.find_mut(self.hash, |pair| pair.key == self.key).and_then(|pair| {
            let Waiting { flight, is_fresh } = pair.waiting.take()?;
            // Read under the lock: who waits for this flight joined before it begins.
            pair.slot = state();
            pair.running = Arc::clone(&flight);
            Some((flight, Start { slot: pair.slot, is_fresh }))
        });
        if next.is_none() {
            remove(&mut shard, self.hash, &self.key);
        }
        drop(shard);
        match next {
            Some((next, start)) => {
                self.start = start;
                std::mem::replace(&mut self.flight, next).complete(result);
                true
            }
            None => {
                self.landed = true;
                self.flights.flights.fetch_sub(1, Ordering::Relaxed);
                self.flight.complete(result);
                false
            }
        }
    }
}

impl<T: Clone> Drop for Turn<T> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let shard = &self.flights.shards[shard_index(self.hash)];
        let pair = remove(&mut shard.lock(), self.hash, &self.key);
        self.flights.flights.fetch_sub(1, Ordering::Relaxed);
        self.flight.complete(Err(Aborted::Stopped));
        if let Some(waiting) = pair.and_then(|pair| pair.waiting) {
            waiting.flight.complete(Err(Aborted::Stopped));
        }
    }
}

const fn shard_index(hash: u64) -> usize {
    (hash >> 16) as usize % SHARDS
}

fn remove<T>(shard: &mut HashTable<Pair<T>>, hash: u64, key: &[u8]) -> Option<Pair<T>> {
    shard.find_entry(hash, |pair| *pair.key == *key).ok().map(|entry| entry.remove().0)
}

#[cfg(test)]
mod tests;
