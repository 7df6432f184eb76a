//! Loading a group's own keys before the node says that it is ready.

use super::{Group, Key, KeyScan, LoadError, Role, store::Fresh};
use crate::cache::EvictionCause;

/// Keys of one page of the scan, and of one query.
const PAGE: usize = 200;

impl Group {
    /// Loads up to `rows` of the keys that this node owns, in the origin's key order, until the cache is full. How many
    /// were kept.
    ///
    /// Cancel safe: what was kept stays.
    ///
    /// # Errors
    /// The first error of the scan or of a load; what was kept before it stays.
    pub async fn preload(&self, scan: &dyn KeyScan, rows: u64) -> Result<u64, LoadError> {
        let displaced = || self.store.stats().evictions(EvictionCause::Capacity);
        let (mut kept, before) = (0, displaced());
        let mut after: Option<Key> = None;
        // Once the cache is full, each further row only takes another's place.
        while kept < rows && displaced() == before {
            let mut page = scan.keys_after(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            page.retain(|key| self.role(key) == Role::Owner);
            page.truncate(usize::try_from(rows - kept).unwrap_or(usize::MAX));
            if !page.is_empty() {
                kept += self.preload_page(page).await?;
            }
        }
        Ok(kept)
    }

    async fn preload_page(&self, keys: Vec<Key>) -> Result<u64, LoadError> {
        let slots: Vec<_> = keys
            .iter()
            .map(|key| {
                let hash = self.store.hash(key.as_bytes());
                (hash, self.store.slot(hash))
            })
            .collect();
        let start = self.clock.now();
        let values = self.loader.load(&keys).await?;
        if values.len() != keys.len() {
            return Err(LoadError::Broken("it answered another number of keys than it was asked"));
        }
        let mut kept = 0;
        for ((key, value), (hash, slot)) in keys.into_iter().zip(values).zip(slots) {
            // A row that went away between the scan and the load needs no negative entry.
            let Some(value) = value else { continue };
            let until = self.freshness().until(start, true, Role::Owner, fastrand::f64());
            let fresh = Fresh { value: Some(value), since: start, until, window: self.window(Role::Owner) };
            if self.store.keep(hash, &key, fresh, self.clock.now(), slot) {
                kept += 1;
            }
        }
        Ok(kept)
    }
}
