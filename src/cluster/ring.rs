//! The consistent-hash ring: which node owns a place, and who stands in for it.
//!
//! A ring is immutable. Each member has `virtual_nodes * weight` points on a circle of 2^64
//! ([Karger et al. 1997](https://doi.org/10.1145/258533.258660)); a place belongs to the member of the
//! first point at or after it, and past the last point the first one follows. Where points of two
//! members coincide, the smaller address comes first. The same members in any order make the same ring.
//!
//! A join or a leave makes a new ring by one merge over the old one, so that nothing but the points of
//! the joining member is hashed or sorted. Only keys of that member move.
//!
//! A lookup reads a table by the place's top bits and then scans the few points of one bucket, however
//! many points there are.

mod build;
mod points;
#[cfg(test)]
mod tests;

use std::{fmt, iter::FusedIterator};

use self::points::Points;
use super::{
    node::Address,
    place::{Place, positions},
};

/// The most points a member of weight 1 may have.
pub const VIRTUAL_NODES_MAX: u32 = 16_384;

/// The most points of all members together; those beyond have one each. Enough for 2,000 members as they are by
/// default.
pub const POINTS_MAX: u32 = 1 << 22;

/// An immutable ring of at least one member. Memory: about 9 bytes a point.
#[derive(Clone, PartialEq)]
pub struct Ring {
    /// Sorted by address, each address once.
    members: Vec<(Address, u32)>,
    virtual_nodes: u32,
    points: Points,
}

/// A point of the ring: one virtual node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The member that the point belongs to, as an index into [`Ring::members`].
    pub node: usize,
    /// Which of the member's points it is, counted from 0.
    pub index: u32,
    /// Where it stands on the circle.
    pub position: u64,
}

impl Ring {
    /// A ring of `members`, each an address with a weight; `None` if there are none.
    ///
    /// The order does not matter. Of an address that comes twice the greater weight counts. A weight
    /// outside 1 to [`WEIGHT_MAX`](super::WEIGHT_MAX) and `virtual_nodes` outside 1 to
    /// [`VIRTUAL_NODES_MAX`] are clamped: no member can take the ring from the others. All together have
    /// [`POINTS_MAX`] points at most, see [`Ring::crowded_out`].
    pub fn new(members: &[(Address, u32)], virtual_nodes: u32) -> Option<Self> {
        build::new(members.to_vec(), virtual_nodes)
    }

    /// This ring with `address` added, or with its weight changed.
    pub fn with(&self, address: &Address, weight: u32) -> Self {
        let others = self.members.iter().filter(|(other, _)| other != address).cloned();
        let members = others.chain([(address.clone(), weight)]).collect();
        build::changed(self, members).expect("the added member is there")
    }

    /// This ring without `address`; `None` if no other member is left.
    pub fn without(&self, address: &Address) -> Option<Self> {
        let others = self.members.iter().filter(|(other, _)| other != address).cloned();
        build::changed(self, others.collect())
    }

    /// A ring of `members` with this ring's parameters. The same as [`Ring::new`], but only the points of
    /// members that are new or changed their weight are computed.
    pub fn changed(&self, members: &[(Address, u32)]) -> Option<Self> {
        build::changed(self, members.to_vec())
    }

    /// The members with their weights, sorted by address.
    pub fn members(&self) -> &[(Address, u32)] {
        &self.members
    }

    /// Points of a member of weight 1.
    pub fn virtual_nodes(&self) -> u32 {
        self.virtual_nodes
    }

    /// The number of points, of all members together.
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// The members for whose points there is no room: with all members before them, by address, they would have more
    /// than [`POINTS_MAX`]. Each has one point instead, and so owns next to nothing.
    pub fn crowded_out(&self) -> impl Iterator<Item = &Address> {
        let counts = build::counts(POINTS_MAX, &self.members, self.virtual_nodes);
        self.members.iter().zip(counts).filter_map(|((address, weight), count)| {
            (count < build::points_of(*weight, self.virtual_nodes)).then_some(address)
        })
    }

    /// Bytes on the heap, the addresses left out.
    pub fn heap_bytes(&self) -> usize {
        self.points.heap_bytes() + self.members.capacity() * size_of::<(Address, u32)>()
    }

    /// The member that owns `place`, as an index into [`Ring::members`].
    pub fn owner(&self, place: Place) -> usize {
        self.points.owner(self.points.first_at(place.0))
    }

    /// The point that decides who owns `place`. Hashes the member's points to find which one it is, some
    /// 50 µs: for people who ask why, not for requests.
    pub fn point(&self, place: Place) -> Point {
        let at = self.points.first_at(place.0);
        let (node, position) = (self.points.owner(at), self.points.position(at));
        let (address, weight) = &self.members[node];
        let number = positions(address, self.virtual_nodes * weight).zip(0..).find(|(p, _)| *p == position);
        let (_, index) = number.expect("a position on the ring is that of one of its member's points");
        Point { node, index, position }
    }

    /// The next member after the owner that is not the owner; `None` in a ring of one. Allocates nothing.
    pub fn successor(&self, place: Place) -> Option<usize> {
        let mut nodes = self.points.owners_from(self.points.first_at(place.0));
        let owner = nodes.next()?;
        nodes.find(|node| *node != owner)
    }

    /// Every member once, in ring order from `place`: the owner, the one that follows it, and so on.
    /// Allocates only when more than the owner is asked for.
    pub fn successors(&self, place: Place) -> Successors<'_> {
        Successors { ring: self, at: self.points.first_at(place.0), found: 0, seen: Vec::new() }
    }

    /// The exact part of the circle that each member owns, in the order of [`Ring::members`]; they add up
    /// to 1. Reads every point.
    pub fn shares(&self) -> Vec<f64> {
        let mut owned = vec![0_u128; self.members.len()];
        let mut before = None;
        self.points.for_each(|position, owner| {
            // The first point's arc is from 0; what is past the last point is added below.
            owned[owner as usize] += u128::from(position - before.unwrap_or(0));
            before = Some(position);
        });
        owned[self.points.owner(0)] += (1 << 64) - u128::from(before.unwrap_or(0));
        owned.into_iter().map(|arc| arc as f64 / 2_f64.powi(64)).collect()
    }
}

/// Short: a ring may have millions of points.
impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("members", &self.members)
            .field("virtual_nodes", &self.virtual_nodes)
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}

/// Members in ring order, each once: what [`Ring::successors`] gives.
#[derive(Clone, Debug)]
pub struct Successors<'a> {
    ring: &'a Ring,
    /// The next point to look at.
    at: usize,
    found: usize,
    /// A bit for each member that was given. Empty until the second is asked for.
    seen: Vec<u64>,
}

impl Successors<'_> {
    /// Notes that `node` was given; whether it is the first time.
    fn is_new(&mut self, node: usize) -> bool {
        let (word, bit) = (&mut self.seen[node / 64], 1 << (node % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl Iterator for Successors<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        // Every member has a point, so that the walk finds a new one before it has gone around.
        if self.found == self.ring.members.len() {
            return None;
        }
        if self.found == 0 {
            self.found = 1;
            return Some(self.ring.points.owner(self.at));
        }
        if self.seen.is_empty() {
            self.seen = vec![0; self.ring.members.len().div_ceil(64)];
            self.is_new(self.ring.points.owner(self.at));
        }
        loop {
            self.at = if self.at + 1 == self.ring.points.len() { 0 } else { self.at + 1 };
            let node = self.ring.points.owner(self.at);
            if self.is_new(node) {
                self.found += 1;
                return Some(node);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ring.members.len() - self.found;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Successors<'_> {}
impl FusedIterator for Successors<'_> {}
