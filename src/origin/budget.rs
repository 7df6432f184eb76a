//! A loader that runs at most so many loads at once: the shield of the database.
//!
//! A place in the budget belongs to the work and not to whoever waits for it. So each load runs in a task
//! of its own that owns its place: a caller that goes away, or a [`Timeout`](super::Timeout) around the
//! budget, frees nothing before the load has truly ended. The tasks are detached, and there are never more
//! of them than the budget has places.
//!
//! This holds as far as the inner loader's future ends no sooner than its work, which is why the timeout
//! stands outside.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value};

/// Runs at most `limit` calls of `inner` at once. A call beyond that waits its turn, first come first
/// served, and answers [`LoadError::Busy`] when its turn does not come in time.
///
/// Cancel safety: a call dropped while it waits leaves the queue; a call dropped while it runs goes on to
/// its end, and keeps its place until then. Must be used on a tokio runtime.
#[derive(Debug)]
pub struct Budget<L> {
    inner: Arc<L>,
    places: Places,
    wait: Duration,
}

/// How many calls may run at once. Clones are the same places.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    semaphore: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    limit: usize,
    /// Places beyond the limit, which end when whoever has one leaves it.
    surplus: usize,
}

/// One place, taken.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Shared>,
}

impl Places {
    /// So many, at least one.
    fn new(limit: usize) -> Self {
        let limit = sound(limit);
        let count = Mutex::new(Count { limit, surplus: 0 });
        Self(Arc::new(Shared { semaphore: Arc::new(Semaphore::new(limit)), count }))
    }

    /// Makes them so many, at least one. Where they become fewer, what runs goes on, and nothing begins until it is less
    /// than that.
    pub fn resize(&self, limit: usize) {
        let (limit, mut count) = (sound(limit), self.0.count.lock());
        if limit >= count.limit {
            let more = limit - count.limit;
            let kept = more.min(count.surplus);
            count.surplus -= kept;
            self.0.semaphore.add_permits(more - kept);
        } else {
            let fewer = count.limit - limit;
            count.surplus += fewer - self.0.semaphore.forget_permits(fewer);
        }
        count.limit = limit;
    }

    pub(super) fn limit(&self) -> usize {
        self.0.count.lock().limit
    }

    /// Those that are taken.
    fn taken(&self) -> usize {
        let count = self.0.count.lock();
        (count.limit + count.surplus).saturating_sub(self.0.semaphore.available_permits())
    }

    /// Waits for a place, first come first served.
    pub(super) async fn take(&self) -> Option<Place> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0.semaphore).acquire_owned().await.ok()?;
        Some(Place { permit: Some(permit), places: Arc::clone(&self.0) })
    }
}

const fn sound(limit: usize) -> usize {
    match limit {
        0 => 1,
        limit if limit > Semaphore::MAX_PERMITS => Semaphore::MAX_PERMITS,
        limit => limit,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Given back under the lock, or else a change of the limit might count it twice.
        let mut count = self.places.count.lock();
        let permit = self.permit.take();
        if count.surplus > 0 {
            count.surplus -= 1;
            permit.into_iter().for_each(OwnedSemaphorePermit::forget);
        }
    }
}

impl<L> Budget<L> {
    /// Lets `limit` (at least 1) calls of `inner` run at once, and others wait for at most `wait`.
    pub fn new(inner: L, limit: usize, wait: Duration) -> Self {
        Self { inner: Arc::new(inner), places: Places::new(limit), wait }
    }

    /// The calls that run now.
    pub fn running(&self) -> usize {
        self.places.taken()
    }

    /// By which the limit is changed while calls run.
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// What runs within the budget, for who has taken a place already.
    pub(super) fn inner(&self) -> &L {
        &self.inner
    }

    /// How long a call waits for a place.
    pub(super) const fn wait(&self) -> Duration {
        self.wait
    }

    async fn run<T, W>(&self, work: impl FnOnce(Arc<L>) -> W) -> Result<T, LoadError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, LoadError>> + Send + 'static,
    {
        let turn = tokio::time::timeout(self.wait, self.places.take()).await;
        // Only time can deny a place.
        let Ok(Some(place)) = turn else { return Err(LoadError::Busy(self.places.limit())) };
        let work = work(Arc::clone(&self.inner));
        let task = async move {
            let _place = place;
            work.await
        };
        match tokio::spawn(task.in_current_span()).await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => Err(LoadError::Broken("the loader panicked")),
            Err(_) => Err(LoadError::Broken("the runtime is shutting down")),
        }
    }
}

impl<L: Loader> Loader for Budget<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(self.run(|inner| {
            let keys = keys.to_vec();
            async move { inner.load(&keys).await }
        }))
    }
}

impl<L: KeyScan> KeyScan for Budget<L> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        Box::pin(self.run(move |inner| {
            let after = after.cloned();
            async move { inner.keys_after(after.as_ref(), limit).await }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::origin::{MapLoader, Timeout};

    /// Counts what runs at once. Each load ends only when the test lets it.
    #[derive(Debug)]
    struct Gated {
        running: AtomicUsize,
        most: AtomicUsize,
        gate: Semaphore,
    }

    impl Loader for Arc<Gated> {
        fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
            Box::pin(async move {
                let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(running, Ordering::SeqCst);
                self.gate.acquire().await.expect("never closed").forget();
                self.running.fetch_sub(1, Ordering::SeqCst);
                Ok(vec![None; keys.len()])
            })
        }
    }

    fn gated() -> Arc<Gated> {
        Arc::new(Gated { running: AtomicUsize::new(0), most: AtomicUsize::new(0), gate: Semaphore::new(0) })
    }

    fn key() -> [Key; 1] {
        [Key::new("a").expect("a key")]
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_given_up_keeps_its_place_until_it_ends() {
        let origin = gated();
        let second = Duration::from_secs(1);
        let loader = Timeout::new(Budget::new(Arc::clone(&origin), 2, second * 3), second);
        let keys = key();
        // Each of these is given up after a second, and the first two go on below.
        for _ in 0..10 {
            let error = loader.load(&keys).await.expect_err("nothing opens the gate");
            assert!(matches!(error, LoadError::Timeout(_)), "{error}");
        }
        assert_eq!(origin.running.load(Ordering::SeqCst), 2);
        assert_eq!(origin.most.load(Ordering::SeqCst), 2);
        origin.gate.add_permits(3);
        assert_eq!(loader.load(&keys).await.expect("there is a place again"), [None]);
        assert_eq!(origin.most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_so() {
        let origin = gated();
        let budget = Arc::new(Budget::new(Arc::clone(&origin), 1, Duration::from_millis(100)));
        let first = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.load(&key()).await }
        });
        while budget.running() == 0 {
            tokio::task::yield_now().await;
        }
        let error = budget.load(&key()).await.expect_err("the only place is taken");
        assert!(matches!(error, LoadError::Busy(1)), "{error}");
        origin.gate.add_permits(1);
        assert!(first.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn a_panic_below_is_an_error_and_frees_the_place() {
        struct Panics;
        impl Loader for Panics {
            fn load<'a>(&'a self, _: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
                Box::pin(async { panic!("on purpose") })
            }
        }
        let budget = Budget::new(Panics, 1, Duration::from_secs(5));
        for _ in 0..3 {
            let error = budget.load(&key()).await.expect_err("it panics");
            assert!(matches!(error, LoadError::Broken(_)), "{error}");
        }
        assert_eq!(budget.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn places_come_and_go_while_calls_run() {
        let origin = gated();
        let budget = Arc::new(Budget::new(Arc::clone(&origin), 4, Duration::from_secs(60)));
        let load = || {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.load(&key()).await })
        };
        let settled = async |count: usize| {
            // Time is paused: it only goes on when nobody has anything left to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!((budget.running(), origin.running.load(Ordering::SeqCst)), (count, count));
        };
        let loads: Vec<_> = (0..12).map(|_| load()).collect();
        settled(4).await;
        // Fewer: nobody is thrown out, and nobody comes in until there are fewer than that.
        budget.places().resize(2);
        settled(4).await;
        origin.gate.add_permits(2);
        settled(2).await;
        origin.gate.add_permits(1);
        settled(2).await;
        // Up again, over places that are still to go, and down again.
        budget.places().resize(5);
        settled(5).await;
        budget.places().resize(1);
        budget.places().resize(3);
        settled(5).await;
        origin.gate.add_permits(100);
        for load in loads {
            assert!(load.await.expect("no panic").is_ok());
        }
        settled(0).await;
        assert_eq!(budget.places().0.semaphore.available_permits(), 3);
        assert_eq!(origin.most.load(Ordering::SeqCst), 5);
        budget.places().resize(0);
        assert_eq!(budget.places().limit(), 1);
    }

    #[tokio::test]
    async fn a_limit_of_none_is_one() {
        let budget = Budget::new(MapLoader::default(), 0, Duration::ZERO);
        assert_eq!(budget.load(&key()).await.expect("one place"), [None]);
    }
}
