//! A loader that sends the keys which arrive together as one query, and is the shield of the database besides.
//!
//! A query costs a database far more than a key in it. So a key that finds nothing under way is sent at once, and
//! those that come meanwhile wait for the end of what is under way and go together, as a group commit does it: nothing
//! waits where there is nothing to wait for, and the more there is to load, the larger the queries get. A query that takes
//! longer than [`SLOW`] no longer holds up those behind it: there is room in the budget for more of them side by side.
//! When the budget is used up, the keys wait for its next place, and go together in that.
//!
//! A load of several keys is a query already, and takes a place of the [`Budget`] as it is.
//!
//! Invariants: keys wait only while a messenger is on its way to a place, or a query is under way that will look for them
//! when it ends; a place is taken before it is decided which keys go; an error that one key may be the reason of is told
//! to no other.
//!
//! Cancel safety: a key that nobody waits for any longer is not sent, or its value is thrown away; the others are not
//! touched.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tracing::{Instrument as _, Span};

use super::Budget;
use crate::{
    group::{BoxFuture, Halves, Key, KeyScan, LoadError, Loader, Value},
    telemetry::trace::{self, TraceContext},
};

/// Queries that those who come later wait for.
const UNDER_WAY_MAX: usize = 2;
/// After this, a query is no longer waited for. It is also the longest that batching delays a load where there is room in
/// the budget.
const SLOW: Duration = Duration::from_millis(2);

/// Makes one query of the single keys that are to be loaded at the same time, of at most so many. Stands on a [`Budget`],
/// which counts each query until it has ended.
///
/// Must be used on a tokio runtime.
#[derive(Debug)]
pub struct Batched<L>(Arc<Shared<L>>);

#[derive(Debug)]
struct Shared<L> {
    budget: Budget<L>,
    keys_max: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Messengers that are on their way to a place in the budget.
    asking: usize,
    /// Queries under way that those who wait go after.
    under_way: usize,
    /// The most keys that are sent together at present: less than is allowed where values are too large together.
    keys_max: usize,
}

/// A key that goes with the next query.
#[derive(Debug)]
struct Waiting {
    key: Key,
    /// Until when it may wait for a place.
    until: Instant,
    answer: oneshot::Sender<Result<Option<Value>, LoadError>>,
    trace: Option<TraceContext>,
    span: Span,
}

impl<L> Batched<L> {
    /// Loads at most `keys_max` keys together through `budget`; with 1 or 0, each by itself.
    pub fn new(budget: Budget<L>, keys_max: usize) -> Self {
        let keys_max = keys_max.max(1);
        let queue = Queue { waiting: VecDeque::new(), asking: 0, under_way: 0, keys_max };
        Self(Arc::new(Shared { budget, keys_max, queue: Mutex::new(queue) }))
    }
}

impl<L: Loader> Loader for Batched<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        match keys {
            [key] if self.0.keys_max > 1 => Box::pin(async move {
                let answer = self.0.wait_for(key.clone()).await;
                // Whoever had it is gone without a word.
                answer.unwrap_or(Err(LoadError::Broken("the loader panicked"))).map(|value| vec![value])
            }),
            keys => self.0.budget.load(keys),
        }
    }
}

impl<L: KeyScan> KeyScan for Batched<L> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        self.0.budget.keys_after(after, limit)
    }
}

impl Queue {
    /// Whether another messenger is to go: for those who have nothing to wait for, or for a query's worth of keys.
    fn is_due(&self) -> bool {
        let is_idle = self.asking == 0 && self.under_way < UNDER_WAY_MAX;
        let is_full = self.waiting.len() >= self.keys_max.saturating_mul(self.asking + 1);
        !self.waiting.is_empty() && (is_idle || is_full)
    }

    /// Tells those that have waited too long, at `now`, that all `limit` places are taken.
    fn expire(&mut self, now: Instant, limit: usize) {
        while self.waiting.front().is_some_and(|waiting| waiting.until <= now) {
            if let Some(waiting) = self.waiting.pop_front() {
                // Who is gone needs nothing.
                let _ = waiting.answer.send(Err(LoadError::Busy(limit)));
            }
        }
    }

    /// The keys that go now.
    fn take(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::with_capacity(self.waiting.len().min(self.keys_max));
        while batch.len() < self.keys_max {
            let Some(waiting) = self.waiting.pop_front() else { break };
            if !waiting.answer.is_closed() {
                batch.push(waiting);
            }
        }
        batch
    }
}

impl<L: Loader> Shared<L> {
    fn wait_for(self: &Arc<Self>, key: Key) -> oneshot::Receiver<Result<Option<Value>, LoadError>> {
        let (answer, receiver) = oneshot::channel();
        let until = Instant::now() + self.budget.wait();
        let waiting = Waiting { key, until, answer, trace: trace::current(), span: Span::current() };
        self.change(|queue| queue.waiting.push_back(waiting));
        receiver
    }

    /// Changes the queue, and sends the messengers that are due then.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock();
        let changed = change(&mut queue);
        let mut due = 0;
        while queue.is_due() {
            queue.asking += 1;
            due += 1;
        }
        drop(queue);
        // Without a runtime there is nobody left to wait. Not under the lock, which a task that is refused would take.
        if let Ok(runtime) = Handle::try_current() {
            for _ in 0..due {
                runtime.spawn(Arc::clone(self).send());
            }
        }
        changed
    }

    /// A messenger: gets a place, and loads what waits then.
    async fn send(self: Arc<Self>) {
        let mut place = std::pin::pin!(self.budget.places().take());
        let place = loop {
            let until = {
                let mut queue = self.queue.lock();
                queue.expire(Instant::now(), self.budget.places().limit());
                match queue.waiting.front() {
                    Some(oldest) => oldest.until,
                    None => {
                        queue.asking -= 1;
                        return;
                    }
                }
            };
            match timeout_at(until, &mut place).await {
                Ok(Some(place)) => break place,
                // The places are never closed.
                Ok(None) => return,
                Err(_) => {}
            }
        };
        let batch = self.change(|queue| {
            queue.asking -= 1;
            let batch = queue.take();
            queue.under_way += usize::from(!batch.is_empty());
            batch
        });
        if batch.is_empty() {
            return;
        }
        let mut under_way = UnderWay { shared: Arc::clone(&self), counts: true };
        under_way.while_quick(self.load(batch)).await;
        // Before the next one looks for a place.
        drop(place);
    }

    /// Loads `batch` by one query, or by parts where one key fails the others.
    async fn load(&self, batch: Vec<Waiting>) {
        let mut parts = Halves::new(batch);
        while let Some(mut part) = parts.next_part() {
            part.retain(|waiting| !waiting.answer.is_closed());
            let is_traced = |waiting: &&Waiting| waiting.trace.is_some_and(TraceContext::is_sampled);
            let Some(leader) = part.iter().find(is_traced).or(part.first()) else { continue };
            let keys: Vec<Key> = part.iter().map(|waiting| waiting.key.clone()).collect();
            let load = trace::within(leader.trace, self.budget.inner().load(&keys));
            let loaded = load.instrument(leader.span.clone()).await;
            self.learn(part.len(), loaded.as_ref().err());
            let failed = match loaded {
                Ok(values) if values.len() == part.len() => {
                    for (waiting, value) in part.into_iter().zip(values) {
                        let _ = waiting.answer.send(Ok(value));
                    }
                    continue;
                }
                Ok(_) => LoadError::Broken("it answered another number of keys than it was asked"),
                Err(error) => error,
            };
            for waiting in parts.halve(part, &failed).into_iter().flatten() {
                let _ = waiting.answer.send(Err(failed.clone()));
            }
        }
    }

    /// What was too large together is not sent together again; and then, step by step, more than that.
    fn learn(&self, keys: usize, error: Option<&LoadError>) {
        match error {
            Some(LoadError::TooMuch(_)) => {
                let mut queue = self.queue.lock();
                queue.keys_max = queue.keys_max.min((keys / 2).max(1));
            }
            None if keys < self.keys_max => {
                let mut queue = self.queue.lock();
                if keys >= queue.keys_max {
                    queue.keys_max += 1;
                }
            }
            _ => {}
        }
    }
}

/// A query that others wait for, until it has ended or takes too long.
struct UnderWay<L: Loader> {
    shared: Arc<Shared<L>>,
    counts: bool,
}

impl<L: Loader> UnderWay<L> {
    async fn while_quick(&mut self, query: impl Future<Output = ()>) {
        let mut query = std::pin::pin!(query);
        if timeout_at(Instant::now() + SLOW, &mut query).await.is_err() {
            self.end();
            query.await;
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.counts) {
            self.shared.change(|queue| queue.under_way -= 1);
        }
    }
}

impl<L: Loader> Drop for UnderWay<L> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
