//! Who hears of an entry's end, and why it ended.
//!
//! Invariant: each entry that was stored is either resident or has left by exactly one event. Entries are
//! dropped and listeners called after the shard's lock is released, so that a listener may call the cache
//! and neither its time nor its panic is anybody else's.

use super::entry::{Content, Entry};

/// Why an entry left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvictionCause {
    /// Another entry needed the room.
    Capacity,
    /// Its deadline had passed when it was read, reclaimed, replaced, or chosen to make room.
    Expired,
    /// It was removed by key, by prefix or with all others, expired or not.
    Invalidated,
    /// A newer entry of the same key came, or one came that could not be kept.
    Replaced,
}

impl EvictionCause {
    /// Every cause, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Capacity, Self::Expired, Self::Invalidated, Self::Replaced];

    /// The stable name, as a metric's label has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Expired => "expired",
            Self::Invalidated => "invalidated",
            Self::Replaced => "replaced",
        }
    }
}

/// Hears of every entry that leaves.
pub trait EvictionListener<K, V>: Send + Sync {
    /// Called once for each entry that left, on the thread that made it leave, after the shard's lock was
    /// released: the key may be back by then, and events of one key may arrive out of order if several
    /// threads act on it. A panic is caught, counted in [`CacheStats::listener_panics`](super::CacheStats)
    /// and goes no further.
    fn on_evict(&self, key: &K, content: &Content<V>, cause: EvictionCause);
}

/// An entry on its way out.
pub(super) struct Departure<K, V> {
    pub(super) entry: Entry<K, V>,
    pub(super) cause: EvictionCause,
}

/// The entries that one operation made leave. The first needs no allocation: most operations have at most
/// one.
pub(super) struct Departures<K, V> {
    first: Option<Departure<K, V>>,
    rest: Vec<Departure<K, V>>,
}

impl<K, V> Departures<K, V> {
    pub(super) const fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    pub(super) fn push(&mut self, entry: Entry<K, V>, cause: EvictionCause) {
        let departure = Departure { entry, cause };
        if self.first.is_none() {
            self.first = Some(departure);
        } else {
            self.rest.push(departure);
        }
    }

    /// Makes room for `count` more at once, so that a clearing does not grow by doubling.
    pub(super) fn reserve(&mut self, count: usize) {
        self.rest.reserve_exact(count);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Departure<K, V>> {
        self.first.iter().chain(&self.rest)
    }
}
