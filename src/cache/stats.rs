//! What a cache counts.

use super::EvictionCause;

/// Figures of a cache: totals since it was made, and what is resident now. Each shard is read by itself, so
/// that figures of different shards may be a moment apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found a negative entry.
    pub negative_hits: u64,
    /// Reads that found nothing, or something expired.
    pub misses: u64,
    /// Entries stored, of either kind, replacements included.
    pub insertions: u64,
    /// Entries that their condition kept out.
    pub refused: u64,
    /// Entries that weighed more than a shard may hold.
    pub too_large: u64,
    /// Entries resident, of both kinds.
    pub entries: u64,
    /// Bytes resident, of both kinds.
    pub bytes: u64,
    /// Negative entries resident.
    pub negative_entries: u64,
    /// Bytes of negative entries resident.
    pub negative_bytes: u64,
    /// Calls of the listener that panicked.
    pub listener_panics: u64,
    /// Entries that left, in the order of [`EvictionCause::ALL`].
    evictions: [u64; EvictionCause::ALL.len()],
}

impl CacheStats {
    /// Entries that left by this cause.
    pub const fn evictions(&self, cause: EvictionCause) -> u64 {
        self.evictions[cause as usize]
    }

    pub(super) fn count_eviction(&mut self, cause: EvictionCause) {
        self.evictions[cause as usize] += 1;
    }

    /// Adds a shard's figures to these.
    pub(super) fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.negative_hits += other.negative_hits;
        self.misses += other.misses;
        self.insertions += other.insertions;
        self.refused += other.refused;
        self.too_large += other.too_large;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.negative_entries += other.negative_entries;
        self.negative_bytes += other.negative_bytes;
        self.listener_panics += other.listener_panics;
        for (sum, count) in self.evictions.iter_mut().zip(other.evictions) {
            *sum += count;
        }
    }
}
