//! Where keys and nodes stand on the ring: the two hash functions that all nodes share.
//!
//! They are part of the protocol between nodes, and golden vectors hold them fast: if they changed,
//! nodes of two versions would disagree on every owner. Both are XXH3-64 with seed 0
//! (<https://github.com/Cyan4973/xxHash>), so that any language can compute an owner.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::node::{ADDRESS_BYTES_MAX, Address};

/// Up to this many bytes a key is hashed from a copy on the stack. XXH3 has its fast paths below 240.
const COPIED_BYTES_MAX: usize = 256;

/// A key's place on the circle of 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

/// 16 hex digits.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The place of `key` in `group`: XXH3-64 of the group's name, a zero byte and the key.
///
/// Allocates nothing. A group's name holds no zero byte, so that no two pairs are hashed alike.
pub fn place(group: &str, key: &[u8]) -> Place {
    let group = group.as_bytes();
    let length = group.len() + 1 + key.len();
    if length <= COPIED_BYTES_MAX {
        let mut buffer = [0; COPIED_BYTES_MAX];
        buffer[..group.len()].copy_from_slice(group);
        buffer[group.len() + 1..length].copy_from_slice(key);
        return Place(xxh3_64(&buffer[..length]));
    }
    // Streaming costs a larger state on the stack, but no copy; it gives the same digest.
    let mut hasher = Xxh3::new();
    hasher.update(group);
    hasher.update(&[0]);
    hasher.update(key);
    Place(hasher.digest())
}

/// The positions of a node's points `0..count`: XXH3-64 of its address, a zero byte and the point's
/// number as u32 little endian.
pub(super) fn positions(address: &Address, count: u32) -> impl Iterator<Item = u64> {
    let address = address.as_str().as_bytes();
    let number_at = address.len() + 1;
    let mut buffer = [0; ADDRESS_BYTES_MAX + 1 + 4];
    buffer[..address.len()].copy_from_slice(address);
    (0..count).map(move |number| {
        buffer[number_at..number_at + 4].copy_from_slice(&number.to_le_bytes());
        xxh3_64(&buffer[..number_at + 4])
    })
}
