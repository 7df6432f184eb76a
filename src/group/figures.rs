//! What a group tells of itself to operators.

use super::Group;
use crate::cache::CacheStats;

impl Group {
    /// The figures of the group's main cache.
    pub fn stats(&self) -> CacheStats {
        self.store.stats()
    }

    /// The largest entry that the main cache takes, in bytes.
    pub fn entry_bytes_max(&self) -> u64 {
        self.store.entry_bytes_max()
    }

    /// Brings the gauges up to date, for somebody who is about to read them.
    pub fn set_gauges(&self) {
        self.metrics.gauges(self.store.figures(&self.config.load()));
        if let Some(staleness) = self.staleness() {
            self.metrics.staleness(staleness);
        }
    }

    /// The figures of the group's hot cache; `None` if it has none.
    pub fn hot_stats(&self) -> Option<CacheStats> {
        self.store.hot_stats()
    }

    /// Flights that run: those that ask another node, and those that read the origin.
    pub fn flights(&self) -> (usize, usize) {
        (self.client_flights.running(), self.owner_flights.running())
    }
}
