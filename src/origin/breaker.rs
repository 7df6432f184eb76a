//! A breaker for each database: one that keeps failing is left alone, but for single queries that try it.
//!
//! The state machine is [`Health`], which is pure: so many failures in a row open it; after a pause one query is let
//! through, whose success closes it and whose failure doubles the pause, from its upper half at random. The pauses stay
//! short, as recovery is to be noticed soon: nothing else than a query tells of it.
//!
//! It stands in two places. [`Guarded`] is close to the origin, and sees each query: what is a failure is decided there.
//! [`FailFast`] is in front of everything, so that nobody waits for a place in the budget, or in a batch, behind
//! queries that are failing.
//!
//! Groups of one database share its breaker. So only what tells of the database itself is a failure: no connection, or no
//! answer in time. A row that can't be read or a query that is refused is an answer. A connection that had been cut says
//! that the database was restarted, and nothing of how it is now.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    cluster::{Allow, Health, HealthConfig, HealthState, Transition},
    group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value},
    time::Clock,
};

/// The pauses between queries that try a database which fails.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Whether a database is asked. Clones are the same breaker.
#[derive(Clone)]
pub struct Breaker(Option<Arc<Shared>>);

/// What is told of a change: whether the breaker is open now, and the failure that opened it.
type OnChange = dyn Fn(bool, Option<&LoadError>) + Send + Sync;

struct Shared {
    health: Mutex<Health>,
    clock: Arc<dyn Clock>,
    on_change: Box<OnChange>,
}

impl Breaker {
    /// A closed breaker that so many failures in a row open; with 0, none do. `on_change` is told whether it is open now,
    /// whenever that changes, and which failure did it; it must not block.
    pub fn new(
        failures_max: u32,
        clock: Arc<dyn Clock>,
        on_change: impl Fn(bool, Option<&LoadError>) + Send + Sync + 'static,
    ) -> Self {
        let config = HealthConfig { failures_max, probe_after_min: PAUSE_MIN, probe_after_max: PAUSE_MAX };
        let health = Mutex::new(Health::new(config, fastrand::u64(..)));
        let shared = Shared { health, clock, on_change: Box::new(on_change) };
        Self((failures_max > 0).then(|| Arc::new(shared)))
    }

    /// Whether it is open, and no query is let through at present.
    fn refuses(&self) -> bool {
        let Some(shared) = &self.0 else { return false };
        let state = shared.health.lock().state();
        match state {
            HealthState::Healthy { .. } => false,
            HealthState::Ejected { until, .. } | HealthState::Probing { until, .. } => {
                shared.clock.now() < until
            }
        }
    }

    /// Whether a query may be sent, whose end must then be told to [`tell`](Self::tell).
    fn allows(&self) -> Allow {
        let Some(shared) = &self.0 else { return Allow::Yes };
        let now = shared.clock.now();
        shared.health.lock().allows(now)
    }

    /// Takes note of how a query ended that was let through as `allow` says.
    fn tell(&self, allow: Allow, error: Option<&LoadError>) {
        let Some(shared) = &self.0 else { return };
        let now = shared.clock.now();
        let mut health = shared.health.lock();
        let transition = match error {
            None
            | Some(
                LoadError::Refused(_)
                | LoadError::Row(_)
                | LoadError::TooLarge { .. }
                | LoadError::TooMuch(_),
            ) => health.on_success(now),
            Some(LoadError::Unavailable(_) | LoadError::Timeout(_)) => health.on_failure(now),
            // Nothing was asked, or nothing learned.
            Some(
                LoadError::Disconnected(_)
                | LoadError::Open
                | LoadError::Busy(_)
                | LoadError::Limited(_)
                | LoadError::Broken(_),
            ) => {
                if allow == Allow::Probe {
                    health.on_abandoned(now);
                }
                None
            }
        };
        drop(health);
        match transition {
            Some(Transition::Ejected) => (shared.on_change)(true, error),
            Some(Transition::Readmitted) => (shared.on_change)(false, None),
            None => {}
        }
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.as_ref().map(|shared| shared.health.lock().state());
        f.debug_tuple("Breaker").field(&state).finish()
    }
}

/// Asks a breaker before each query of `inner`, and tells it how that ended.
#[derive(Debug)]
pub struct Guarded<L> {
    inner: L,
    breaker: Breaker,
    patience: Duration,
}

impl<L> Guarded<L> {
    /// A query that takes longer than `patience` is a failure already, and is waited for further: it still runs.
    pub const fn new(inner: L, breaker: Breaker, patience: Duration) -> Self {
        Self { inner, breaker, patience }
    }

    async fn run<T>(&self, mut call: BoxFuture<'_, Result<T, LoadError>>) -> Result<T, LoadError> {
        let allow = self.breaker.allows();
        if allow == Allow::No {
            return Err(LoadError::Open);
        }
        if let Ok(answer) = tokio::time::timeout(self.patience, &mut call).await {
            self.breaker.tell(allow, answer.as_ref().err());
            return answer;
        }
        self.breaker.tell(allow, Some(&LoadError::Timeout(self.patience)));
        let answer = call.await;
        // It has been a failure before; only that it was none in the end is news.
        if answer.is_ok() {
            self.breaker.tell(allow, None);
        }
        answer
    }
}

impl<L: Loader> Loader for Guarded<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        // Nothing is sent before the future is polled, which an open breaker does not do.
        Box::pin(self.run(self.inner.load(keys)))
    }
}

impl<L: KeyScan> KeyScan for Guarded<L> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        Box::pin(self.run(self.inner.keys_after(after, limit)))
    }
}

/// Answers [`LoadError::Open`] at once while a breaker is open.
#[derive(Debug)]
pub struct FailFast<L> {
    inner: L,
    breaker: Breaker,
}

impl<L> FailFast<L> {
    /// `breaker` is the one that guards what `inner` reads.
    pub const fn new(inner: L, breaker: Breaker) -> Self {
        Self { inner, breaker }
    }
}

impl<L: Loader> Loader for FailFast<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        match self.breaker.refuses() {
            true => Box::pin(async { Err(LoadError::Open) }),
            false => self.inner.load(keys),
        }
    }
}

impl<L: KeyScan> KeyScan for FailFast<L> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        match self.breaker.refuses() {
            true => Box::pin(async { Err(LoadError::Open) }),
            false => self.inner.keys_after(after, limit),
        }
    }
}

#[cfg(test)]
mod tests;
