//! The points of a ring in order, packed for the lookup.
//!
//! The circle is cut into 2^bits equal buckets. A point is one u64: the bits of its position below the
//! bucket's, and in their place at the low end its owner. So nothing of a position is lost, points of a
//! bucket compare as positions do, and a lookup reads an entry of a small table and one or two cache lines of
//! points. Positions and owners in arrays of their own would cost another line, and 13 bytes a point for 9.

/// How many points share a bucket, at least and on average; twice that at most. Fewer make the table
/// larger than the second-level cache, more make the scan longer.
const BUCKET_POINTS_MIN: usize = 4;

#[derive(Clone, PartialEq)]
pub(super) struct Points {
    /// In ring order: `position << bits | owner`. Points of one position stand in the order of their owners.
    packed: Vec<u64>,
    /// Where each bucket starts in `packed`, and after the last one where it ends.
    starts: Vec<u32>,
    /// 1 to 32: a shift by `64 - bits` is always one that shifts, and an owner always fits.
    bits: u32,
}

impl Points {
    /// No points: what a new ring is made from, and nothing to look up in.
    pub(super) fn none() -> Self {
        Builder::new(0, 0).finish()
    }

    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.packed.capacity() * size_of::<u64>() + self.starts.capacity() * size_of::<u32>()
    }

    /// The first point at or after `place`, around the circle.
    pub(super) fn first_at(&self, place: u64) -> usize {
        let bucket = (place >> (u64::BITS - self.bits)) as usize;
        let (start, end) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        // An owner in the low bits never makes a point smaller than the place that it stands at.
        let target = place << self.bits;
        let passed = self.packed[start..end].iter().take_while(|point| **point < target).count();
        let at = start + passed;
        if at == self.packed.len() { 0 } else { at }
    }

    /// The owner of the point `at`, as the index of a member.
    pub(super) fn owner(&self, at: usize) -> usize {
        self.unpack(self.packed[at]) as usize
    }

    /// The owners of all points in ring order from the point `at`, once around.
    pub(super) fn owners_from(&self, at: usize) -> impl Iterator<Item = usize> {
        let (before, after) = self.packed.split_at(at);
        after.iter().chain(before).map(|point| self.unpack(*point) as usize)
    }

    /// The position of the point `at`. Searches its bucket: not for requests.
    pub(super) fn position(&self, at: usize) -> u64 {
        let bucket = self.starts.partition_point(|start| *start as usize <= at) - 1;
        self.position_in(bucket, self.packed[at])
    }

    /// Calls `visit` with the position and the owner of each point, in ring order.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u64, u32)) {
        for (bucket, ends) in self.starts.windows(2).enumerate() {
            for point in &self.packed[ends[0] as usize..ends[1] as usize] {
                visit(self.position_in(bucket, *point), self.unpack(*point));
            }
        }
    }

    fn unpack(&self, point: u64) -> u32 {
        // Lossless: an owner has at most 32 bits.
        (point & ((1 << self.bits) - 1)) as u32
    }

    fn position_in(&self, bucket: usize, point: u64) -> u64 {
        (bucket as u64) << (u64::BITS - self.bits) | point >> self.bits
    }
}

/// Takes points in ring order.
pub(super) struct Builder {
    points: Points,
}

impl Builder {
    /// For `count` points of `members` members.
    pub(super) fn new(count: usize, members: usize) -> Self {
        let for_points = (count / BUCKET_POINTS_MIN).checked_ilog2().unwrap_or(0);
        let for_owners = members.next_power_of_two().ilog2();
        let bits = for_points.max(for_owners).clamp(1, 32);
        let starts = Vec::with_capacity((1 << bits) + 1);
        Self { points: Points { packed: Vec::with_capacity(count), starts, bits } }
    }

    /// Adds a point that is not before the last one.
    pub(super) fn push(&mut self, position: u64, owner: u32) {
        let Points { packed, starts, bits } = &mut self.points;
        let bucket = (position >> (u64::BITS - *bits)) as usize;
        while starts.len() <= bucket {
            starts.push(index(packed.len()));
        }
        packed.push(position << *bits | u64::from(owner));
    }

    pub(super) fn finish(mut self) -> Points {
        let length = (1 << self.points.bits) + 1;
        self.points.starts.resize(length, index(self.points.packed.len()));
        self.points
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a ring of 2^32 points, 36 GB, was refused memory before")
}
