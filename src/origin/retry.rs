//! A loader that tries once more where that is safe: when the connection that it was given had been cut.
//!
//! A database that was restarted has cut every connection of the pool, and each of them fails the next query that it is
//! used for, though the database is well. Nothing else is tried again: a database that took too long, refused or is gone
//! is not helped by more queries.
//!
//! Stands inside the budget, so that both tries are one place's, and outside of the breaker, which may refuse the second.

use std::time::Duration;

use tokio::time::Instant;

use crate::group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value};

/// The longest pause before the second try. It is drawn for each, so that what was cut together does not connect together.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Asks `inner` once more after [`LoadError::Disconnected`], if that came within half of a limit. Cancel safe, as `inner`
/// is.
#[derive(Debug)]
pub struct Retry<L> {
    inner: L,
    limit: Duration,
}

impl<L> Retry<L> {
    /// A call of `inner` takes at most `limit`.
    pub const fn new(inner: L, limit: Duration) -> Self {
        Self { inner, limit }
    }

    async fn run<'a, T>(
        &'a self,
        call: impl Fn(&'a L) -> BoxFuture<'a, Result<T, LoadError>> + Send,
    ) -> Result<T, LoadError> {
        let begun = Instant::now();
        match call(&self.inner).await {
            Err(LoadError::Disconnected(_)) if begun.elapsed() < self.limit / 2 => {
                tokio::time::sleep(PAUSE_MAX.mul_f64(fastrand::f64())).await;
                call(&self.inner).await
            }
            answer => answer,
        }
    }
}

impl<L: Loader> Loader for Retry<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(self.run(move |inner| inner.load(keys)))
    }
}

impl<L: KeyScan> KeyScan for Retry<L> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        Box::pin(self.run(move |inner| inner.keys_after(after, limit)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fails the first calls, each after a time.
    struct Failing {
        failures: usize,
        error: LoadError,
        after: Duration,
        calls: AtomicUsize,
    }

    impl Loader for Failing {
        fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
            Box::pin(async move {
                tokio::time::sleep(self.after).await;
                match self.calls.fetch_add(1, Ordering::SeqCst) < self.failures {
                    true => Err(self.error.clone()),
                    false => Ok(vec![None; keys.len()]),
                }
            })
        }
    }

    /// Whether a load works, and how many calls it took.
    async fn load(failures: usize, error: LoadError, after: Duration) -> (bool, usize) {
        let failing = Failing { failures, error, after, calls: AtomicUsize::new(0) };
        let retry = Retry::new(failing, Duration::from_secs(1));
        let is_ok = retry.load(&[Key::new("a").expect("a key")]).await.is_ok();
        (is_ok, retry.inner.calls.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_connection_is_tried_again_once() {
        let cut = || LoadError::disconnected("on purpose");
        assert_eq!(load(0, cut(), Duration::ZERO).await, (true, 1));
        assert_eq!(load(1, cut(), Duration::ZERO).await, (true, 2));
        assert_eq!(load(2, cut(), Duration::ZERO).await, (false, 2));
        assert_eq!(load(1, cut(), Duration::from_millis(600)).await, (false, 1), "there is no time left");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_is_tried_again() {
        for error in [
            LoadError::unavailable("on purpose"),
            LoadError::refused("on purpose"),
            LoadError::row("on purpose"),
            LoadError::Timeout(Duration::from_secs(1)),
            LoadError::Busy(1),
            LoadError::Limited(Duration::from_secs(1)),
            LoadError::Open,
            LoadError::Broken("on purpose"),
        ] {
            assert_eq!(load(1, error.clone(), Duration::ZERO).await, (false, 1), "{error}");
        }
    }
}
