//! How large a cache is, in how many shards, and who leaves when it is full.

use super::PolicyKind;

/// The most shards a cache has.
pub const SHARDS_MAX: usize = 64;

/// The most shards that are chosen where none are asked for. 16 cost at most 1 % more misses than one.
const CHOSEN_SHARDS_MAX: u64 = 16;
/// The least that a chosen shard holds: its share bounds the largest entry.
const CHOSEN_SHARD_BYTES_MIN: u64 = 8 << 20;

/// How large a cache is, and who leaves when it is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bytes that may be resident in all shards, values and negative entries together.
    pub capacity: u64,
    /// How many of these bytes are for negative entries, and for nothing else; values get the rest. At most
    /// `capacity`: more counts as all of it. With 0, no negative entry is kept.
    pub negative_capacity: u64,
    /// Which value leaves when there is no room. Negative entries leave in the order in which they came.
    pub policy: PolicyKind,
    /// How many shards: rounded up to a power of two, at most [`SHARDS_MAX`]. Where `None`, as many as
    /// leave 8 MiB to each, from 1 to 16, whatever the machine. No entry can be larger than the share of a
    /// shard: with 64 MiB and no negative entries that is 8 MiB, from 256 MiB on a sixteenth of the
    /// capacity.
    pub shards: Option<usize>,
}

impl CacheConfig {
    pub(super) fn shard_count(&self) -> usize {
        match self.shards {
            Some(shards) => shards.clamp(1, SHARDS_MAX).next_power_of_two(),
            None => {
                let fitting = (self.capacity / CHOSEN_SHARD_BYTES_MIN).clamp(1, CHOSEN_SHARDS_MAX);
                1 << fitting.ilog2()
            }
        }
    }
}
