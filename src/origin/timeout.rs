//! A loader that answers in time.
//!
//! The outermost decorator: it drops the load that took too long. What the load started elsewhere (a
//! thread in a query) goes on, and stays counted by [`Budget`](super::Budget), which stands inside.

use std::time::Duration;

use crate::group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value};

/// Answers [`LoadError::Timeout`] when `inner` takes longer than a limit. Cancel safe, as `inner` is.
#[derive(Debug)]
pub struct Timeout<L> {
    inner: L,
    limit: Duration,
}

impl<L> Timeout<L> {
    /// Gives each call of `inner` at most `limit`, waiting for a budget or a connection included.
    pub const fn new(inner: L, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<L: Loader> Loader for Timeout<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let load = self.inner.load(keys);
            tokio::time::timeout(self.limit, load).await.unwrap_or(Err(LoadError::Timeout(self.limit)))
        })
    }
}

impl<L: KeyScan> KeyScan for Timeout<L> {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        Box::pin(async move {
            let scan = self.inner.keys_after(after, limit);
            tokio::time::timeout(self.limit, scan).await.unwrap_or(Err(LoadError::Timeout(self.limit)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::MapLoader;

    #[tokio::test(start_paused = true)]
    async fn a_slow_load_is_a_timeout_and_a_quick_one_is_not() {
        let map = MapLoader::new([(Key::new("a").expect("a key"), Value::text("1"))]);
        let loader = Timeout::new(map, Duration::from_secs(1));
        let keys = [Key::new("a").expect("a key")];
        loader.inner.set_delay(Duration::from_millis(999));
        assert_eq!(loader.load(&keys).await.expect("in time"), [Some(Value::text("1"))]);
        loader.inner.set_delay(Duration::from_millis(1001));
        let error = loader.load(&keys).await.expect_err("too late");
        assert!(matches!(error, LoadError::Timeout(limit) if limit == Duration::from_secs(1)), "{error}");
    }
}
