//! A loader that tells what each load came to, for metrics.
//!
//! Stands closest to the origin, so that it counts what was sent: a load that got no place in the budget
//! was not.

use std::time::Duration;

use tokio::time::Instant;

use crate::group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value};

/// What a load came to: one query, however many keys it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadResult {
    /// At least one of the keys was found.
    Found,
    /// None of the keys was found.
    Absent,
    /// The origin did not answer, or the load was dropped before it did.
    Error,
}

impl LoadResult {
    /// The value of a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Error => "error",
        }
    }
}

/// Where [`Observed`] reports to.
pub trait LoadObserver: Send + Sync + 'static {
    /// A load of `keys` keys ended after `duration`. Called once for each load, on the task that drove it;
    /// MUST NOT block.
    fn on_load(&self, result: LoadResult, keys: usize, duration: Duration);
}

/// Reports every load of `inner` to `observer`.
#[derive(Debug)]
pub struct Observed<L, O> {
    inner: L,
    observer: O,
}

impl<L, O: LoadObserver> Observed<L, O> {
    /// Watches `inner`.
    pub const fn new(inner: L, observer: O) -> Self {
        Self { inner, observer }
    }
}

/// Reports when it is dropped, so that a load which is dropped is counted too.
struct Report<'a, O: LoadObserver> {
    observer: &'a O,
    result: LoadResult,
    keys: usize,
    started: Instant,
}

impl<O: LoadObserver> Drop for Report<'_, O> {
    fn drop(&mut self) {
        self.observer.on_load(self.result, self.keys, self.started.elapsed());
    }
}

impl<L: Loader, O: LoadObserver> Loader for Observed<L, O> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let mut report = Report {
                observer: &self.observer,
                result: LoadResult::Error,
                keys: keys.len(),
                started: Instant::now(),
            };
            let answer = self.inner.load(keys).await;
            report.result = match &answer {
                Ok(values) if values.iter().any(Option::is_some) => LoadResult::Found,
                Ok(_) => LoadResult::Absent,
                Err(_) => LoadResult::Error,
            };
            answer
        })
    }
}

/// A scan is not a load: it passes unreported.
impl<L: KeyScan, O: LoadObserver> KeyScan for Observed<L, O> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        self.inner.keys_after(after, limit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::origin::{MapLoader, Timeout};

    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<(LoadResult, usize, Duration)>>>);

    impl LoadObserver for Notes {
        fn on_load(&self, result: LoadResult, keys: usize, duration: Duration) {
            self.0.lock().push((result, keys, duration));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_load_is_reported_once() {
        let (a, b) = (Key::new("a").expect("a key"), Key::new("b").expect("a key"));
        let map = Arc::new(MapLoader::new([(a.clone(), Value::text("1"))]));
        let notes = Notes::default();
        let observed = Observed::new(Arc::clone(&map), notes.clone());
        let loader = Timeout::new(observed, Duration::from_secs(1));
        map.set_delay(Duration::from_millis(20));
        assert!(loader.load(&[a.clone(), b.clone()]).await.is_ok());
        assert!(loader.load(std::slice::from_ref(&b)).await.is_ok());
        map.set_failure(Some(LoadError::Broken("on purpose")));
        assert!(loader.load(std::slice::from_ref(&a)).await.is_err());
        map.set_failure(None);
        map.set_delay(Duration::from_secs(2));
        assert!(loader.load(&[a]).await.is_err());
        let delay = Duration::from_millis(20);
        let expected = [
            (LoadResult::Found, 2, delay),
            (LoadResult::Absent, 1, delay),
            (LoadResult::Error, 1, delay),
            (LoadResult::Error, 1, Duration::from_secs(1)),
        ];
        let seen: Vec<_> = notes.0.lock().clone();
        assert_eq!(seen.len(), expected.len());
        for (seen, expected) in seen.iter().zip(expected) {
            // Tokio's timers have a grain of a millisecond.
            let near = seen.2.abs_diff(expected.2) <= Duration::from_millis(2);
            assert!((seen.0, seen.1) == (expected.0, expected.1) && near, "{seen:?} {expected:?}");
        }
    }
}
