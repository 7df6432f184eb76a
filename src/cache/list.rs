//! A doubly linked list through the nodes of a shard: no allocation, and O(1) removal from the middle.
//!
//! A node has one pair of links, so that it is on one list at a time: a policy's or the free list.

use super::slots::{NIL, Nodes};

/// The two ends of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { head: NIL, tail: NIL }
    }

    pub(super) const fn front(&self) -> Option<u32> {
        if self.head == NIL { None } else { Some(self.head) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Whether `slot`, which is on this list, is alone on it.
    pub(super) const fn holds_only(&self, slot: u32) -> bool {
        self.head == slot && self.tail == slot
    }

    pub(super) fn push_front(&mut self, nodes: &mut Nodes, slot: u32) {
        let head = self.head;
        let node = &mut nodes[slot];
        node.prev = NIL;
        node.next = head;
        if head == NIL {
            self.tail = slot;
        } else {
            nodes[head].prev = slot;
        }
        self.head = slot;
    }

    pub(super) fn push_back(&mut self, nodes: &mut Nodes, slot: u32) {
        let tail = self.tail;
        let node = &mut nodes[slot];
        node.prev = tail;
        node.next = NIL;
        if tail == NIL {
            self.head = slot;
        } else {
            nodes[tail].next = slot;
        }
        self.tail = slot;
    }

    /// Takes `slot`, which is on this list, off it.
    pub(super) fn remove(&mut self, nodes: &mut Nodes, slot: u32) {
        let (prev, next) = (nodes[slot].prev, nodes[slot].next);
        self.link(nodes, prev, next);
        self.link_back(nodes, next, prev);
    }

    pub(super) fn pop_front(&mut self, nodes: &mut Nodes) -> Option<u32> {
        let slot = self.front()?;
        self.remove(nodes, slot);
        Some(slot)
    }

    pub(super) fn move_to_back(&mut self, nodes: &mut Nodes, slot: u32) {
        if self.tail != slot {
            self.remove(nodes, slot);
            self.push_back(nodes, slot);
        }
    }

    /// The node of `from` was copied to `to`: whoever pointed at the one points at the other.
    pub(super) fn relocate(&mut self, nodes: &mut Nodes, to: u32) {
        let (prev, next) = (nodes[to].prev, nodes[to].next);
        self.link(nodes, prev, to);
        self.link_back(nodes, next, to);
    }

    /// The slots from front to back.
    pub(super) fn iter<'a>(&self, nodes: &'a Nodes) -> impl Iterator<Item = u32> + use<'a> {
        std::iter::successors(self.front(), |&slot| Some(nodes[slot].next).filter(|&next| next != NIL))
    }

    /// Makes `next` the successor of `prev`, or the head where there is no `prev`.
    fn link(&mut self, nodes: &mut Nodes, prev: u32, next: u32) {
        if prev == NIL {
            self.head = next;
        } else {
            nodes[prev].next = next;
        }
    }

    /// Makes `prev` the predecessor of `next`, or the tail where there is no `next`.
    fn link_back(&mut self, nodes: &mut Nodes, next: u32, prev: u32) {
        if next == NIL {
            self.tail = prev;
        } else {
            nodes[next].prev = prev;
        }
    }
}
