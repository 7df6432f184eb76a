//! What an entry holds, and what the engine answers to a read and to a store.

use super::Weigh;
use crate::time::Moment;

/// What an entry holds: a value, or the knowledge that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<V> {
    /// The value of the key.
    Value(V),
    /// A negative entry: the origin said that the key does not exist.
    Absent,
}

impl<V> Content<V> {
    /// The value, if this is not a negative entry.
    pub const fn value(&self) -> Option<&V> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent => None,
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Value(_) => Kind::Value,
            Self::Absent => Kind::Absent,
        }
    }
}

impl<V: Weigh> Weigh for Content<V> {
    fn heap_bytes(&self) -> usize {
        self.value().map_or(0, Weigh::heap_bytes)
    }
}

/// Which of a shard's two ledgers an entry is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Absent,
}

/// A key with its content, as a slot holds it.
#[derive(Debug)]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) content: Content<V>,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<V> {
    /// A value, good until `deadline`, at which it is not served any more.
    Hit { value: V, deadline: Moment },
    /// A negative entry: the key is known not to exist, until `deadline`.
    Absent { deadline: Moment },
    /// Nothing, or an entry whose deadline has passed.
    Miss,
}

/// What became of an entry that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is resident.
    Stored,
    /// The condition said no; nothing was changed.
    Refused,
    /// It weighs more than a shard may hold. An entry that the key had before is gone: it is out of date.
    TooLarge,
    /// Its deadline has passed already. An entry that the key had before is gone, as it is older still.
    Expired,
}
