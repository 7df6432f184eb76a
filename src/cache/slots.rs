//! The slots of a shard: where entries live, addressed by `u32`.
//!
//! A slot is a [`Node`] and a [`Timer`] (compact metadata, all that a policy and the wheel ever touch) and
//! an [`Entry`], in parallel arrays. They grow by chunks, never by doubling: an array that doubles holds
//! three times its content while it copies, which no capacity accounts for. Chunks are given back, too,
//! when many slots are free (the shard moves the last chunk's entries into free slots), or else a cache
//! that was once full of small entries would keep their slots beside a full load of large ones.
//!
//! Invariant: a slot holds an entry or is on the free list, never both.

use std::ops::{Index, IndexMut};

use super::{
    entry::{Entry, Kind},
    list::List,
    wheel::UNSCHEDULED,
};
use crate::time::Moment;

/// The slot number that is none.
pub(super) const NIL: u32 = u32::MAX;

/// Slots in a chunk. Small enough that an empty cache is small and that giving a chunk back moves few
/// entries.
pub(super) const CHUNK_SLOTS: usize = 256;
const CHUNK_SHIFT: u32 = CHUNK_SLOTS.trailing_zeros();
const CHUNK_MASK: u32 = CHUNK_SLOTS as u32 - 1;

/// Metadata of a slot: what reads and policies touch. 32 bytes, two to a cache line and never across one.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Node {
    pub(super) deadline: Moment,
    /// The upper half of the key's hash. The lower half chose the shard and says nothing more inside it.
    pub(super) hash: u32,
    /// Bytes, overhead included.
    pub(super) weight: u32,
    /// Neighbours on the policy's list, or on the free list; the policy's to use.
    pub(super) prev: u32,
    pub(super) next: u32,
    /// A word for the policy alone.
    pub(super) word: u32,
    /// The wheel's bucket, or [`UNSCHEDULED`].
    pub(super) bucket: u16,
    pub(super) kind: Kind,
}

/// Neighbours in the wheel's bucket. Apart from the node, because reads never look at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    pub(super) prev: u32,
    pub(super) next: u32,
}

const _: () = assert!(size_of::<Node>() == 32, "a node grew, and with it every entry");

impl Node {
    /// A node that is on no list yet.
    pub(super) const fn new(kind: Kind, hash: u32, weight: u32, deadline: Moment) -> Self {
        Self { deadline, hash, weight, prev: NIL, next: NIL, word: 0, bucket: UNSCHEDULED, kind }
    }

    const fn vacant() -> Self {
        Self::new(Kind::Value, 0, 0, Moment::from_nanos(0))
    }
}

/// An array that grows and shrinks by chunks and never moves what it holds.
struct Chunked<T> {
    chunks: Vec<Box<[T; CHUNK_SLOTS]>>,
}

impl<T> Chunked<T> {
    const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    fn push_chunk(&mut self, make: impl FnMut() -> T) {
        let mut items = Vec::with_capacity(CHUNK_SLOTS);
        items.resize_with(CHUNK_SLOTS, make);
        let Ok(chunk) = items.try_into() else {
            unreachable!("the chunk has as many items as it was made for")
        };
        self.chunks.push(chunk);
    }

    const fn len(&self) -> usize {
        self.chunks.len() * CHUNK_SLOTS
    }
}

impl<T> Index<u32> for Chunked<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.chunks[(slot >> CHUNK_SHIFT) as usize][(slot & CHUNK_MASK) as usize]
    }
}

impl<T> IndexMut<u32> for Chunked<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[(slot >> CHUNK_SHIFT) as usize][(slot & CHUNK_MASK) as usize]
    }
}

/// The metadata of all slots of a shard, indexed by slot.
pub(super) struct Nodes {
    nodes: Chunked<Node>,
    timers: Chunked<Timer>,
}

impl Nodes {
    pub(super) const fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn timer(&self, slot: u32) -> Timer {
        self.timers[slot]
    }

    pub(super) fn timer_mut(&mut self, slot: u32) -> &mut Timer {
        &mut self.timers[slot]
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, slot: u32) -> &Node {
        &self.nodes[slot]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, slot: u32) -> &mut Node {
        &mut self.nodes[slot]
    }
}

/// All slots of a shard.
pub(super) struct Slots<K, V> {
    pub(super) nodes: Nodes,
    entries: Chunked<Option<Entry<K, V>>>,
    free: List,
    free_count: usize,
}

impl<K, V> Slots<K, V> {
    /// Bytes of a slot, used or not.
    pub(super) const SLOT_BYTES: usize =
        size_of::<Node>() + size_of::<Timer>() + size_of::<Option<Entry<K, V>>>();

    pub(super) const fn new() -> Self {
        let nodes = Nodes { nodes: Chunked::new(), timers: Chunked::new() };
        Self { nodes, entries: Chunked::new(), free: List::new(), free_count: 0 }
    }

    /// Puts `entry` with its metadata into a free slot; adds a chunk if there is none.
    pub(super) fn occupy(&mut self, node: Node, entry: Entry<K, V>) -> u32 {
        if self.free_count == 0 {
            self.grow();
        }
        let slot = self.free.pop_front(&mut self.nodes).expect("a chunk of free slots was added");
        self.free_count -= 1;
        self.nodes[slot] = node;
        self.entries[slot] = Some(entry);
        slot
    }

    /// Takes the entry out of `slot`, which is free from then on. Policy, wheel and index must have let go
    /// of it.
    pub(super) fn vacate(&mut self, slot: u32) -> Entry<K, V> {
        let entry = self.entries[slot].take().expect("an indexed slot holds an entry");
        self.nodes[slot] = Node::vacant();
        self.free.push_front(&mut self.nodes, slot);
        self.free_count += 1;
        entry
    }

    /// The entry in `slot`, which must be in use.
    pub(super) fn entry(&self, slot: u32) -> &Entry<K, V> {
        self.entries[slot].as_ref().expect("an indexed slot holds an entry")
    }

    /// Puts `entry` in the place of the one in `slot`, which must be in use.
    pub(super) fn exchange(&mut self, slot: u32, entry: Entry<K, V>) -> Entry<K, V> {
        self.entries[slot].replace(entry).expect("an indexed slot holds an entry")
    }

    /// Every slot in use, with its entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry<K, V>)> {
        let entries = self.entries.chunks.iter().flat_map(|chunk| chunk.iter());
        entries.zip(0_u32..).filter_map(|(entry, slot)| Some((slot, entry.as_ref()?)))
    }

    /// The first entry from a slot on that `draw` chooses, unless a whole chunk has none.
    pub(super) fn first_from(&self, draw: u64) -> Option<&Entry<K, V>> {
        let slots = self.nodes.len() as u64;
        let start = draw.checked_rem(slots)?;
        (start..start + CHUNK_SLOTS as u64).find_map(|slot| self.entries[(slot % slots) as u32].as_ref())
    }

    /// Whether so many slots are free that a chunk should be given back.
    pub(super) fn has_surplus(&self) -> bool {
        self.free_count > CHUNK_SLOTS + self.nodes.len() / 4
    }

    /// Gives the last chunk back after moving its entries to free slots before it. `moved` is called with
    /// the old and the new slot of each, when the node is in its new place with the links that it had. Only
    /// with [`has_surplus`](Self::has_surplus).
    pub(super) fn release_chunk(&mut self, mut moved: impl FnMut(&mut Nodes, u32, u32)) {
        let end = self.nodes.len();
        let slots = (end - CHUNK_SLOTS) as u32..end as u32;
        for slot in slots.clone().filter(|&slot| self.entries[slot].is_none()).collect::<Vec<_>>() {
            self.free.remove(&mut self.nodes, slot);
            self.free_count -= 1;
        }
        for from in slots {
            let Some(entry) = self.entries[from].take() else { continue };
            let to = self.free.pop_front(&mut self.nodes).expect("a surplus is more than a chunk");
            self.free_count -= 1;
            self.nodes[to] = self.nodes[from];
            *self.nodes.timer_mut(to) = self.nodes.timer(from);
            self.entries[to] = Some(entry);
            moved(&mut self.nodes, from, to);
        }
        self.nodes.nodes.chunks.pop();
        self.nodes.timers.chunks.pop();
        self.entries.chunks.pop();
    }

    fn grow(&mut self) {
        let start = self.nodes.len();
        let end = u32::try_from(start + CHUNK_SLOTS).expect("a shard has fewer than 2^32 entries");
        self.nodes.nodes.push_chunk(Node::vacant);
        self.nodes.timers.push_chunk(|| Timer { prev: NIL, next: NIL });
        self.entries.push_chunk(|| None);
        for slot in start as u32..end {
            self.free.push_back(&mut self.nodes, slot);
        }
        self.free_count += CHUNK_SLOTS;
    }

    /// The free slots, for a test that accounts for every slot.
    #[cfg(test)]
    pub(super) fn free_slots(&self) -> Vec<u32> {
        assert_eq!(self.free.iter(&self.nodes).count(), self.free_count, "the count of free slots");
        self.free.iter(&self.nodes).collect()
    }
}
