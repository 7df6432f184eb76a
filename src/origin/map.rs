//! An origin in memory, for an embedder's tests and for examples.
//!
//! It counts what it is asked, and can be slow or broken on demand, so that "loaded once" is an assertion.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::RwLock;

use crate::group::{BoxFuture, Key, KeyScan, LoadError, Loader, Value};

/// A loader over a map. Entries, delay and failure may change while it is in use.
#[derive(Debug, Default)]
pub struct MapLoader {
    state: RwLock<State>,
    loads: AtomicU64,
    keys_loaded: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Value>,
    delay: Duration,
    failure: Option<LoadError>,
}

impl MapLoader {
    /// A loader of `entries`.
    pub fn new(entries: impl IntoIterator<Item = (Key, Value)>) -> Self {
        let state = State { entries: entries.into_iter().collect(), ..State::default() };
        Self { state: RwLock::new(state), ..Self::default() }
    }

    /// Puts a value under a key.
    pub fn insert(&self, key: Key, value: Value) {
        self.state.write().entries.insert(key, value);
    }

    /// Removes a key, and says whether it was there.
    pub fn remove(&self, key: &Key) -> bool {
        self.state.write().entries.remove(key).is_some()
    }

    /// Makes each call take `delay` from now on. What it answers is what is there when the delay ends.
    pub fn set_delay(&self, delay: Duration) {
        self.state.write().delay = delay;
    }

    /// Makes each call fail with `failure` from now on, after its delay; `None` heals it.
    pub fn set_failure(&self, failure: Option<LoadError>) {
        self.state.write().failure = failure;
    }

    /// The calls of [`Loader::load`] so far, those that failed or were dropped included.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    /// The keys asked for in those calls.
    pub fn keys_loaded(&self) -> u64 {
        self.keys_loaded.load(Ordering::SeqCst)
    }

    async fn pause(&self) -> Result<(), LoadError> {
        let delay = self.state.read().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.state.read().failure.clone().map_or(Ok(()), Err)
    }
}

impl Loader for MapLoader {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            self.loads.fetch_add(1, Ordering::SeqCst);
            self.keys_loaded.fetch_add(keys.len() as u64, Ordering::SeqCst);
            self.pause().await?;
            let state = self.state.read();
            Ok(keys.iter().map(|key| state.entries.get(key).cloned()).collect())
        })
    }
}

impl KeyScan for MapLoader {
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>> {
        Box::pin(async move {
            self.pause().await?;
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let state = self.state.read();
            let keys = state.entries.range::<Key, _>((start, Bound::Unbounded));
            Ok(keys.take(limit).map(|(key, _)| key.clone()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::conformance::{Subject, check_loader, check_scan};

    #[tokio::test]
    async fn conforms() {
        let key = |n: usize| Key::new(format!("k{n:04}")).expect("a key");
        let present: Vec<_> = (0..1200).map(|n| (key(n), Value::text(n.to_string()))).collect();
        let loader = std::sync::Arc::new(MapLoader::new(present.clone()));
        let breaker = std::sync::Arc::clone(&loader);
        let subject = Subject {
            loader: &*loader,
            present: present.clone(),
            absent: vec![Key::new("K0001").expect("a key"), Key::new("k1").expect("a key")],
            break_origin: Box::new(move || breaker.set_failure(Some(LoadError::Broken("on purpose")))),
        };
        check_scan(&*loader, &present.into_iter().map(|(key, _)| key).collect::<Vec<_>>()).await;
        check_loader(subject).await;
    }

    #[tokio::test]
    async fn counts_and_changes() {
        let key = Key::new("a").expect("a key");
        let map = MapLoader::default();
        assert_eq!(map.load(std::slice::from_ref(&key)).await.expect("works"), [None]);
        map.insert(key.clone(), Value::text("1"));
        let both = [key.clone(), key.clone()];
        assert_eq!(map.load(&both).await.expect("works"), [Some(Value::text("1")), Some(Value::text("1"))]);
        assert!(map.remove(&key));
        assert!(!map.remove(&key));
        assert_eq!((map.loads(), map.keys_loaded()), (2, 3));
    }
}
