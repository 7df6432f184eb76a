//! A loader that sends no more queries in a time than it may: `limits.rate.origin`.

use std::{sync::Arc, time::Duration};

use crate::{
    group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value},
    limit::Limiter,
    time::{BootClock, Clock as _},
};

/// Asks a limiter before each load of `inner`, however many keys that names. One that may not be sent ends at once, with
/// [`LoadError::Limited`].
#[derive(Debug)]
pub struct Limited<L> {
    inner: L,
    limiter: Arc<Limiter>,
}

impl<L> Limited<L> {
    /// Puts the limiter's limit on queries around `inner`.
    pub const fn new(inner: L, limiter: Arc<Limiter>) -> Self {
        Self { inner, limiter }
    }
}

impl<L: Loader> Loader for Limited<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        match self.limiter.origin_permit(BootClock.now()) {
            Ok(()) => self.inner.load(keys),
            Err(decision) => {
                let wait = Duration::from_secs(decision.retry_after().unwrap_or(1));
                Box::pin(async move { Err(LoadError::Limited(wait)) })
            }
        }
    }
}

/// A scan is the node's own, before it is ready: it passes.
impl<L: KeyScan> KeyScan for Limited<L> {
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
    use super::*;
    use crate::{limit::RateConfig, origin::MapLoader, telemetry::NodeMetrics};

    #[tokio::test]
    async fn a_load_that_may_not_be_sent_is_not_sent() {
        let rate = RateConfig { origin: "1/h burst 2".parse().expect("a rate"), ..RateConfig::default() };
        let limiter = Arc::new(Limiter::new(rate, &NodeMetrics::new()));
        let origin = Arc::new(MapLoader::default());
        let limited = Limited::new(Arc::clone(&origin), limiter);
        let keys = [Key::new("a").expect("a key"), Key::new("b").expect("a key")];
        for _ in 0..2 {
            assert_eq!(limited.load(&keys).await.expect("within the limit"), [None, None]);
        }
        let refused = limited.load(&keys).await.expect_err("beyond it");
        assert!(
            matches!(refused, LoadError::Limited(wait) if wait.as_secs().abs_diff(3600) <= 1),
            "{refused}"
        );
        assert_eq!(origin.loads(), 2);
    }
}
