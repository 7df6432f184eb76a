//! Making a ring: from nothing, or from another ring by one merge.
//!
//! Both ways are the same code: a new ring is one of no members to which all are added.

use super::{
    Ring, VIRTUAL_NODES_MAX,
    points::{Builder, Points},
};
use crate::cluster::{
    node::{Address, WEIGHT_MAX},
    place::positions,
};

/// In place of a member's new index: it left, or its weight changed.
const DROPPED: u32 = u32::MAX;

pub(super) fn new(members: Vec<(Address, u32)>, virtual_nodes: u32) -> Option<Ring> {
    let virtual_nodes = virtual_nodes.clamp(1, VIRTUAL_NODES_MAX);
    changed(&Ring { members: Vec::new(), virtual_nodes, points: Points::none() }, members)
}

pub(super) fn changed(old: &Ring, members: Vec<(Address, u32)>) -> Option<Ring> {
    let members = normalised(members);
    if members.is_empty() {
        return None;
    }
    let (new_index, added) = difference(&old.members, &members);
    let added = sorted_points(&members, &added, old.virtual_nodes);
    let count = members.iter().map(|member| points_of(member, old.virtual_nodes) as usize).sum();
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

/// For each old member its index among the new ones, or [`DROPPED`]; and the new members whose points
/// the old ring doesn't have.
fn difference(old: &[(Address, u32)], new: &[(Address, u32)]) -> (Vec<u32>, Vec<u32>) {
    let mut new_index = vec![DROPPED; old.len()];
    let mut added = Vec::new();
    let mut rest = old.iter().enumerate().peekable();
    for (index, member) in (0..).zip(new) {
        while rest.next_if(|(_, other)| other.0 < member.0).is_some() {}
        match rest.next_if(|(_, other)| *other == member) {
            Some((old_index, _)) => new_index[old_index] = index,
            None => added.push(index),
        }
    }
    (new_index, added)
}

fn points_of((_, weight): &(Address, u32), virtual_nodes: u32) -> u32 {
    virtual_nodes * weight
}

fn sorted_points(members: &[(Address, u32)], which: &[u32], virtual_nodes: u32) -> Vec<(u64, u32)> {
    let mut points = Vec::new();
    for node in which {
        let member = &members[*node as usize];
        let positions = positions(&member.0, points_of(member, virtual_nodes));
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
