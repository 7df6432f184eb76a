//! What an entry weighs: the bytes of memory that it keeps from being used for something else.
//!
//! The engine adds the inline size of key and value and its own overhead by itself; a type only tells what
//! it keeps on the heap. A weight that is too small is how a cache of 5 GB kills a machine of 6 GB, so that
//! an estimate errs upwards.

use std::sync::Arc;

/// Tells what a key or a value keeps on the heap.
pub trait Weigh {
    /// Bytes behind this key or value on the heap, the allocator's overhead included; without the `size_of`
    /// of the type itself. MUST be the same at every call while the entry is cached: the engine asks once,
    /// when the entry comes in, and outside of any lock.
    fn heap_bytes(&self) -> usize;
}

/// What a heap allocation of `bytes` costs, in bytes: a header of 8, in steps of 16, and at least 32. That
/// is glibc's rule; the size classes of jemalloc and mimalloc take as much or less for small allocations.
/// Nothing for 0 bytes, for which Rust does not call the allocator.
pub const fn allocation_bytes(bytes: usize) -> usize {
    const HEADER_BYTES: usize = 8;
    const STEP_BYTES: usize = 16;
    const LEAST_BYTES: usize = 32;
    if bytes == 0 {
        return 0;
    }
    let rounded = bytes.saturating_add(HEADER_BYTES + STEP_BYTES - 1) & !(STEP_BYTES - 1);
    if rounded < LEAST_BYTES { LEAST_BYTES } else { rounded }
}

impl Weigh for () {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Weigh for u64 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Weigh for Box<[u8]> {
    fn heap_bytes(&self) -> usize {
        allocation_bytes(self.len())
    }
}

/// Counted in full at every holder: the cache can't know who else shares the bytes, or for how long.
impl Weigh for Arc<[u8]> {
    fn heap_bytes(&self) -> usize {
        const COUNTERS_BYTES: usize = 2 * size_of::<usize>();
        allocation_bytes(self.len() + COUNTERS_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_cost_a_header_and_come_in_steps() {
        let cases = [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008)];
        for (asked, taken) in cases {
            assert_eq!(allocation_bytes(asked), taken, "{asked}");
        }
        assert!(allocation_bytes(usize::MAX) > usize::MAX / 2);
    }
}
