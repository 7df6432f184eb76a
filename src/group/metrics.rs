//! The figures of one group: handles that are made once, so that a hit touches atomics only.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Label};

use super::{GroupName, Outcome};
use crate::{cache::EvictionCause, telemetry::NodeMetrics};

/// Who says that keys are to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Whoever asked this node.
    Local,
    /// Another node.
    Peer,
    /// A row of the log of changes.
    Log,
}

/// The handles of one group. Clones share them.
#[derive(Clone)]
pub struct GroupMetrics(Arc<Handles>);

struct Handles {
    requests: [Counter; 7],
    request_seconds: Histogram,
    loads: [Counter; 3],
    load_seconds: Histogram,
    coalesced: Counter,
    evictions: [Counter; 4],
    invalidations: [Counter; 3],
    staleness: Gauge,
    entries: [Gauge; 3],
    bytes: [Gauge; 3],
    capacity: [Gauge; 3],
}

impl GroupMetrics {
    /// The handles of `group` at a node.
    pub fn new(node: &NodeMetrics, group: &GroupName) -> Self {
        let label = || Label::new("group", group.as_str().to_owned());
        let counter = |name, word, value| node.counter(name, vec![label(), Label::new(word, value)]);
        let histogram = |name| node.histogram(name, vec![label()]);
        let outcomes = ["hit", "hot_hit", "stale", "negative", "peer", "load", "error"];
        let gauge = |name| {
            ["main", "negative", "hot"]
                .map(|cache| node.gauge(name, vec![label(), Label::new("cache", cache)]))
        };
        Self(Arc::new(Handles {
            requests: outcomes.map(|outcome| counter("ggcache_requests_total", "outcome", outcome)),
            request_seconds: histogram("ggcache_request_duration_seconds"),
            loads: ["found", "absent", "error"]
                .map(|result| counter("ggcache_loads_total", "result", result)),
            load_seconds: histogram("ggcache_load_duration_seconds"),
            coalesced: node.counter("ggcache_coalesced_total", vec![label()]),
            evictions: EvictionCause::ALL
                .map(|cause| counter("ggcache_evictions_total", "cause", cause.as_str())),
            invalidations: ["local", "peer", "log"]
                .map(|source| counter("ggcache_invalidations_total", "source", source)),
            staleness: node.gauge("ggcache_staleness_seconds", vec![label()]),
            entries: gauge("ggcache_entries"),
            bytes: gauge("ggcache_bytes"),
            capacity: gauge("ggcache_capacity_bytes"),
        }))
    }

    /// Counts a client's request; `None` is an error.
    pub fn request(&self, outcome: Option<Outcome>, duration: Duration) {
        let index = match outcome {
            Some(Outcome::Hit) => 0,
            Some(Outcome::HotHit) => 1,
            Some(Outcome::Stale) => 2,
            Some(Outcome::Negative) => 3,
            Some(Outcome::Peer) => 4,
            Some(Outcome::Load) => 5,
            None => 6,
        };
        self.0.requests[index].increment(1);
        self.0.request_seconds.record(duration.as_secs_f64());
    }

    /// Counts a query; `Some` tells whether it found anything, `None` is an error.
    pub fn load(&self, found: Option<bool>, duration: Duration) {
        let index = match found {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        self.0.loads[index].increment(1);
        self.0.load_seconds.record(duration.as_secs_f64());
    }

    /// Counts a request that shared another's flight.
    pub fn coalesced(&self) {
        self.0.coalesced.increment(1);
    }

    /// Counts an entry that left a cache.
    pub(super) fn evicted(&self, cause: EvictionCause) {
        self.0.evictions[cause as usize].increment(1);
    }

    /// Counts an invalidation.
    pub fn invalidated(&self, source: Source) {
        self.0.invalidations[source as usize].increment(1);
    }
}

impl GroupMetrics {
    /// Sets the gauges, which are read seldom and so set when somebody looks: of values, of absences and of
    /// copies, each entries, bytes and capacity.
    pub(super) fn gauges(&self, figures: [[u64; 3]; 3]) {
        for (index, [entries, bytes, capacity]) in figures.into_iter().enumerate() {
            self.0.entries[index].set(entries as f64);
            self.0.bytes[index].set(bytes as f64);
            self.0.capacity[index].set(capacity as f64);
        }
    }

    /// Sets how far behind the log of changes the group may be.
    pub(super) fn staleness(&self, staleness: Duration) {
        self.0.staleness.set(staleness.as_secs_f64());
    }
}

impl std::fmt::Debug for GroupMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupMetrics").finish_non_exhaustive()
    }
}
