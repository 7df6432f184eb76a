//! Making a ring: from nothing, or from another ring by one merge.
//!
//! Both ways are the same code: a new ring is one of no members to which all are added.
//!
//! Members come from outside, and a ring takes memory and time for each point. So there is an end to them: see
//! [`counts`].

use super::{
    POINTS_MAX, Ring, VIRTUAL_NODES_MAX,
    points::{Builder, Points},
};
use crate::cluster::{
    node::{Address, WEIGHT_MAX},
    place::positions,
};

/// In place of a member's new index: it left, or has another number of points.
const DROPPED: u32 = u32::MAX;

pub(super) fn new(members: Vec<(Address, u32)>, virtual_nodes: u32) -> Option<Ring> {
    let virtual_nodes = virtual_nodes.clamp(1, VIRTUAL_NODES_MAX);
    changed(&Ring { members: Vec::new(), virtual_nodes, points: Points::none() }, members)
}

pub(super) fn changed(old: &Ring, members: Vec<(Address, u32)>) -> Option<Ring> {
    changed_within(POINTS_MAX, old, members)
}

/// As [`changed`], with another end to the points, which is `old`'s too.
pub(super) fn changed_within(max: u32, old: &Ring, members: Vec<(Address, u32)>) -> Option<Ring> {
    let members = normalised(members);
    if members.is_empty() {
        return None;
    }
    let before = counts(max, &old.members, old.virtual_nodes);
    let counts = counts(max, &members, old.virtual_nodes);
    let (new_index, added) = difference((&old.members, before.as_slice()), (&members, counts.as_slice()));
    let added = sorted_points(&members, &counts, &added);
    let count = counts.iter().map(|count| *count as usize).sum();
    let points = merged(&old.points, &new_index, &added, Builder::new(count, members.len()));
    Some(Ring { members, virtual_nodes: old.virtual_nodes, points })
}

/// Sorted by address, each once with its greatest weight, weights clamped.
fn normalised(mut members: Vec<(Address, u32)>) -> Vec<(Address, u32)> {
    for (_, weight) in &mut members {
        *weight = (*weight).clamp(1, WEIGHT_MAX);
    }
    members.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    members.dedup_by(|later, earlier| later.0 == earlier.0);
    members.shrink_to_fit();
    members
}

/// How many points each of the members, sorted by address, has: `virtual_nodes` for each unit of its weight, and a
/// single one where that would be more than `max` with all before it. So all nodes with the same members agree, nobody
/// is left out of a view, and nobody can make the ring larger than that by registering.
pub(super) fn counts(max: u32, members: &[(Address, u32)], virtual_nodes: u32) -> Vec<u32> {
    let mut left = max;
    let count = |(_, weight): &(Address, u32)| {
        let wanted = points_of(*weight, virtual_nodes);
        let Some(rest) = left.checked_sub(wanted) else { return 1 };
        left = rest;
        wanted
    };
    members.iter().map(count).collect()
}

pub(super) const fn points_of(weight: u32, virtual_nodes: u32) -> u32 {
    virtual_nodes * weight
}

/// For each old member its index among the new ones, or [`DROPPED`]; and the new members whose points
/// the old ring doesn't have. Members come with the numbers of their points.
fn difference(
    (old, before): (&[(Address, u32)], &[u32]),
    (new, counts): (&[(Address, u32)], &[u32]),
) -> (Vec<u32>, Vec<u32>) {
    let mut new_index = vec![DROPPED; old.len()];
    let mut added = Vec::new();
    let mut rest = old.iter().zip(before).enumerate().peekable();
    for ((index, (address, _)), count) in (0..).zip(new).zip(counts) {
        while rest.next_if(|(_, ((other, _), _))| other < address).is_some() {}
        match rest.next_if(|(_, ((other, _), before))| other == address && *before == count) {
            Some((old_index, _)) => new_index[old_index] = index,
            None => added.push(index),
        }
    }
    (new_index, added)
}

fn sorted_points(members: &[(Address, u32)], counts: &[u32], which: &[u32]) -> Vec<(u64, u32)> {
    let mut points = Vec::new();
    for node in which {
        let at = *node as usize;
        let positions = positions(&members[at].0, counts[at]);
        points.extend(positions.map(|position| (position, *node)));
    }
    // By position and then by index, which is the order of the addresses: ties have one outcome.
    points.sort_unstable();
    points
}

/// The old points that stay, with their owners' new indices, and the `added` ones, in order. The old order
/// holds among those that stay, for new indices follow the addresses just as old ones do.
pub(super) fn merged(old: &Points, new_index: &[u32], added: &[(u64, u32)], mut merged: Builder) -> Points {
    let mut added = added.iter().copied().peekable();
    old.for_each(|position, owner| {
        let owner = new_index[owner as usize];
        if owner == DROPPED {
            return;
        }
        while let Some((position, owner)) = added.next_if(|next| *next < (position, owner)) {
            merged.push(position, owner);
        }
        merged.push(position, owner);
    });
    for (position, owner) in added {
        merged.push(position, owner);
    }
    merged.finish()
}
