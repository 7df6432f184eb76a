//! Who is registered, by what etcd said so far. Pure: no I/O, and time is passed in.
//!
//! A list replaces everything, an event changes one entry. A member that an event deletes is gone at once. So is one
//! that a new list lacks, if the list goes on from what was known: then etcd deleted it in between. But an etcd that
//! lost its data, or was away for longer than the leases, lacks members that are in the best of health: if the list
//! does not go on from what was known, members stay that it lacks, until they are back or `keep` is over.
//!
//! How one tells: etcd's revision never falls while it keeps its data, and our own entry, once seen, is still the one
//! that was created then.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    super::AllowedPeers,
    entry::{Entry, EntryError, decode, echo, parse},
};
use crate::cluster::{Address, Node};

/// The most entries that are kept, of whatever kind. Further ones are as if they were not there.
const ENTRIES_MAX: usize = 10_000;
/// The most entries of others that are shown.
const FOREIGN_SHOWN_MAX: usize = 100;

/// A key and what is under it.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
}

/// What is worth a line in the log.
#[derive(Debug)]
pub(super) enum Notice {
    /// A member is there that was not.
    Joined(Address),
    /// A member is gone.
    Left(Address),
    /// A member stays although etcd lacks it.
    Kept(Address),
    /// An entry of somebody else's, with the address that it names.
    Foreign { key: String, address: String },
    /// An entry that can't be used.
    Refused { key: String, error: EntryError },
    /// There are more entries than are kept.
    TooMany,
}

/// The entries below one prefix.
#[derive(Debug)]
pub(super) struct Members {
    prefix: Vec<u8>,
    me: Node,
    allowed: AllowedPeers,
    keep: Duration,
    slots: BTreeMap<Vec<u8>, Slot>,
    /// What etcd had done when it last said anything; 0 before that.
    revision: i64,
    mine: Mine,
    /// The revision at which our entry was created, when it was last seen.
    my_creation: Option<i64>,
    has_too_many: bool,
}

/// An entry that is not our own.
#[derive(Debug)]
struct Slot {
    content: Content,
    mod_revision: i64,
    /// When the member is given up that etcd lacks.
    until: Option<Instant>,
}

#[derive(Debug)]
enum Content {
    Node(Node),
    Foreign(String),
    /// Kept so that each is complained of once.
    Refused,
}

/// What is under our own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mine {
    Absent,
    /// Another process's entry, or nothing that can be read.
    NotOurs,
    Ours,
}

impl Members {
    /// Nobody yet. Members that a list lacks without etcd having deleted them stay for `keep`.
    pub(super) fn new(prefix: Vec<u8>, me: Node, allowed: AllowedPeers, keep: Duration) -> Self {
        Self {
            prefix,
            me,
            allowed,
            keep,
            slots: BTreeMap::new(),
            revision: 0,
            mine: Mine::Absent,
            my_creation: None,
            has_too_many: false,
        }
    }

    /// Takes `peers` for members until the first list, and then for `keep`: it lacks those that have not found etcd
    /// either.
    pub(super) fn seed(&mut self, peers: &[Address]) {
        for peer in peers.iter().filter(|peer| **peer != self.me.address) {
            let key = [self.prefix.as_slice(), peer.as_str().as_bytes()].concat();
            let content = Content::Node(Node::new(peer.clone()));
            self.slots.entry(key).or_insert(Slot { content, mod_revision: 0, until: None });
        }
    }

    /// Everything that etcd holds, as of `revision`.
    pub(super) fn list(&mut self, revision: i64, entries: Vec<Raw>, now: Instant) -> Vec<Notice> {
        let (known, my_creation) = (self.revision, self.my_creation);
        let mut lacking = std::mem::take(&mut self.slots);
        (self.revision, self.mine, self.my_creation) = (revision, Mine::Absent, None);
        self.has_too_many = false;
        let mut notices = Vec::new();
        for entry in entries {
            if let Some(slot) = lacking.remove(&entry.key) {
                self.slots.insert(entry.key.clone(), slot);
            }
            notices.extend(self.put(entry));
        }
        let goes_on =
            known > 0 && revision >= known && (my_creation.is_none() || my_creation == self.my_creation);
        for (key, mut slot) in lacking {
            let Content::Node(node) = &slot.content else { continue };
            if goes_on && slot.until.is_none() {
                notices.push(Notice::Left(node.address.clone()));
            } else {
                if slot.until.is_none() {
                    notices.push(Notice::Kept(node.address.clone()));
                }
                slot.until.get_or_insert(now + self.keep);
                self.slots.insert(key, slot);
            }
        }
        notices
    }

    /// An entry that is there.
    pub(super) fn put(&mut self, entry: Raw) -> Option<Notice> {
        let Raw { key, value, create_revision, mod_revision } = entry;
        self.revision = self.revision.max(mod_revision);
        let before = self.slots.get(&key);
        // A malformed entry is complained of each time that it is written, and not each time that it is listed.
        let is_news = before.is_none_or(|slot| slot.mod_revision != mod_revision);
        let was_there = matches!(before, Some(Slot { content: Content::Node(_), .. }));
        if self.is_mine(&key) {
            self.my_creation = Some(create_revision);
            // Whether others may ask this node is theirs to decide.
            let entry = parse(&self.prefix, &key, &value);
            let is_ours = matches!(&entry, Ok(Entry::Node(node)) if node.id == self.me.id);
            self.mine = if is_ours { Mine::Ours } else { Mine::NotOurs };
            return None;
        }
        let decoded = decode(&self.prefix, &key, &value, &self.allowed);
        if before.is_none() && self.slots.len() >= ENTRIES_MAX {
            return (!std::mem::replace(&mut self.has_too_many, true)).then_some(Notice::TooMany);
        }
        let (content, notice) = match decoded {
            Ok(Entry::Node(node)) => {
                let joined = (!was_there).then(|| Notice::Joined(node.address.clone()));
                (Content::Node(node), joined)
            }
            Ok(Entry::Foreign(address)) => {
                let notice = is_news.then(|| Notice::Foreign { key: echo(&key), address: address.clone() });
                (Content::Foreign(address), notice)
            }
            Err(error) => (Content::Refused, is_news.then(|| Notice::Refused { key: echo(&key), error })),
        };
        self.slots.insert(key, Slot { content, mod_revision, until: None });
        notice
    }

    /// An entry was deleted at `revision`.
    pub(super) fn delete(&mut self, key: &[u8], revision: i64) -> Option<Notice> {
        self.revision = self.revision.max(revision);
        if self.is_mine(key) {
            (self.mine, self.my_creation) = (Mine::Absent, None);
            return None;
        }
        match self.slots.remove(key)?.content {
            Content::Node(node) => Some(Notice::Left(node.address)),
            Content::Foreign(_) | Content::Refused => None,
        }
    }

    /// Gives up the members that have not come back.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Notice> {
        let gone = self.slots.extract_if(.., |_, slot| slot.until.is_some_and(|until| until <= now));
        gone.filter_map(|(_, slot)| match slot.content {
            Content::Node(node) => Some(Notice::Left(node.address)),
            Content::Foreign(_) | Content::Refused => None,
        })
        .collect()
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.until).min()
    }

    /// All members but ourselves.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let node = |slot: &Slot| match &slot.content {
            Content::Node(node) => Some(node.clone()),
            Content::Foreign(_) | Content::Refused => None,
        };
        self.slots.values().filter_map(node).collect()
    }

    /// What others have registered under the same service: the first of them, and their number.
    pub(super) fn foreign(&self) -> (Vec<String>, usize) {
        let address = |slot: &Slot| match &slot.content {
            Content::Foreign(address) => Some(address.clone()),
            Content::Node(_) | Content::Refused => None,
        };
        let mut foreign = self.slots.values().filter_map(address);
        let shown: Vec<_> = foreign.by_ref().take(FOREIGN_SHOWN_MAX).collect();
        let count = shown.len() + foreign.count();
        (shown, count)
    }

    /// Whether our entry, which was written at `revision`, is there as far as this has got; `true` if it has not got
    /// that far.
    pub(super) fn holds_mine(&self, revision: i64) -> bool {
        self.revision < revision || self.mine == Mine::Ours
    }

    fn is_mine(&self, key: &[u8]) -> bool {
        key.strip_prefix(self.prefix.as_slice()) == Some(self.me.address.as_str().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::NodeId, discovery::etcd::entry::encode};

    const KEEP: Duration = Duration::from_secs(10);

    fn node(name: &str, id: u64) -> Node {
        let address = Address::new(&format!("{name}.localhost:1")).expect("right");
        Node { id: Some(NodeId::new(id)), ..Node::new(address) }
    }

    fn members() -> Members {
        Members::new(b"S/".to_vec(), node("me", 1), AllowedPeers::default(), KEEP)
    }

    fn raw(node: &Node, create_revision: i64, mod_revision: i64) -> Raw {
        let key = [b"S/", node.address.as_str().as_bytes()].concat();
        Raw { key, value: encode(node), create_revision, mod_revision }
    }

    fn bad(name: &str, mod_revision: i64) -> Raw {
        let key = format!("S/{name}").into_bytes();
        Raw { key, value: b"{".to_vec(), create_revision: mod_revision, mod_revision }
    }

    fn names(members: &Members) -> String {
        let names: Vec<_> =
            members.nodes().iter().map(|node| node.address.host().replace(".localhost", "")).collect();
        names.join(" ")
    }

    #[test]
    fn an_own_entry_is_ours_whoever_may_be_asked() {
        let me = Node { id: Some(NodeId::new(1)), ..Node::new(Address::new("10.9.9.9:1").expect("right")) };
        let mut members = Members::new(b"S/".to_vec(), me.clone(), AllowedPeers::default(), KEEP);
        members.put(raw(&me, 5, 5));
        assert_eq!(members.mine, Mine::Ours, "else it would be written again and again");
        members.put(raw(&Node { id: Some(NodeId::new(2)), ..me }, 5, 6));
        assert_eq!(members.mine, Mine::NotOurs);
    }

    fn told(notices: impl IntoIterator<Item = Notice>) -> String {
        let tell = |notice| match notice {
            Notice::Joined(address) => format!("+{}", &address.as_str()[..1]),
            Notice::Left(address) => format!("-{}", &address.as_str()[..1]),
            Notice::Kept(address) => format!("={}", &address.as_str()[..1]),
            Notice::Foreign { address, .. } => format!("foreign {address}"),
            Notice::Refused { key, .. } => format!("refused {key}"),
            Notice::TooMany => "too many".to_owned(),
        };
        notices.into_iter().map(tell).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn lists_and_events() {
        let mut members = members();
        let (a, b, me) = (node("a", 2), node("b", 3), node("me", 1));
        let first = members.list(5, vec![raw(&a, 2, 2), raw(&me, 4, 4)], Instant::now());
        assert_eq!((told(first).as_str(), names(&members).as_str()), ("+a", "a"));
        assert!(members.holds_mine(4));
        assert_eq!(told(members.put(raw(&b, 6, 6))), "+b");
        assert_eq!(told(members.put(raw(&b, 6, 7))), "", "it wrote its entry again");
        assert_eq!(told(members.delete(b"S/a.localhost:1", 8)), "-a");
        assert_eq!(told(members.delete(b"S/a.localhost:1", 8)), "", "it is gone already");
        assert_eq!(names(&members), "b");
        assert_eq!(members.next_expiry(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_goes_on_deletes_what_it_lacks() {
        let mut members = members();
        let (a, b, me) = (node("a", 2), node("b", 3), node("me", 1));
        members.list(5, vec![raw(&a, 2, 2), raw(&b, 3, 3), raw(&me, 4, 4)], Instant::now());
        let later = members.list(9, vec![raw(&b, 3, 3), raw(&me, 4, 4)], Instant::now());
        assert_eq!((told(later).as_str(), names(&members).as_str()), ("-a", "b"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_begins_anew_deletes_nobody_for_a_while() {
        let (a, b, me) = (node("a", 2), node("b", 3), node("me", 1));
        let full = || vec![raw(&a, 2, 2), raw(&b, 3, 3), raw(&me, 4, 4)];
        // A wiped etcd has a small revision; or a great one, and lacks our entry, or has one of a later creation.
        for (revision, list) in
            [(1, vec![]), (900, vec![]), (900, vec![raw(&me, 900, 900)]), (2, vec![raw(&me, 2, 2)])]
        {
            let mut members = members();
            members.list(5, full(), Instant::now());
            let wiped = members.list(revision, list, Instant::now());
            assert_eq!((told(wiped).as_str(), names(&members).as_str()), ("=a =b", "a b"), "{revision}");
            assert_eq!(members.next_expiry(), Some(Instant::now() + KEEP));
            // One comes back, and a second list changes nothing for the other.
            assert_eq!(told(members.put(raw(&a, 901, 901))), "");
            tokio::time::advance(KEEP / 2).await;
            let again = members.list(902, vec![raw(&a, 901, 901), raw(&me, 900, 900)], Instant::now());
            assert_eq!((told(again).as_str(), names(&members).as_str()), ("", "a b"));
            assert_eq!(told(members.expire(Instant::now())), "");
            tokio::time::advance(KEEP / 2).await;
            assert_eq!(told(members.expire(Instant::now())), "-b");
            assert_eq!((names(&members).as_str(), members.next_expiry()), ("a", None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn seeds_stay_until_they_had_time_to_register() {
        let mut members = members();
        let (a, b, me) = (node("a", 2), node("b", 3), node("me", 1));
        members.seed(&[a.address.clone(), b.address, me.address.clone()]);
        assert_eq!((names(&members).as_str(), members.next_expiry()), ("a b", None));
        members.list(3, vec![raw(&a, 2, 2), raw(&me, 3, 3)], Instant::now());
        assert_eq!(names(&members), "a b");
        assert_eq!(members.nodes()[0].id, a.id);
        tokio::time::advance(KEEP).await;
        assert_eq!(told(members.expire(Instant::now())), "-b");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_deletes_a_member_that_was_kept() {
        let mut members = members();
        let a = node("a", 2);
        members.seed(std::slice::from_ref(&a.address));
        members.list(3, vec![], Instant::now());
        members.put(raw(&a, 4, 4));
        assert_eq!(told(members.delete(b"S/a.localhost:1", 5)), "-a");
        assert_eq!(names(&members), "");
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_entry() {
        let mut members = members();
        let me = node("me", 1);
        members.list(3, vec![], Instant::now());
        assert!(members.holds_mine(4), "it was written after the list");
        assert!(!members.holds_mine(3));
        members.put(raw(&me, 4, 4));
        assert!(members.holds_mine(4));
        members.put(raw(&node("me", 9), 4, 5));
        assert!(!members.holds_mine(4), "it is another process's");
        members.put(raw(&me, 4, 6));
        members.delete(b"S/me.localhost:1", 7);
        assert!(!members.holds_mine(4));
        assert_eq!(names(&members), "");
    }

    #[tokio::test(start_paused = true)]
    async fn others_and_malformed_ones_are_told_of_once() {
        let mut members = members();
        let foreign = || Raw {
            key: b"S/go".to_vec(),
            value: br#"{"Op":0,"Addr":"go:80","Metadata":null}"#.to_vec(),
            create_revision: 2,
            mod_revision: 2,
        };
        let first = members.list(3, vec![bad("x", 2), foreign()], Instant::now());
        assert_eq!(told(first), "refused S/x foreign go:80");
        assert_eq!(members.foreign(), (vec!["go:80".to_owned()], 1));
        assert_eq!(names(&members), "");
        assert_eq!(told(members.list(3, vec![bad("x", 2), foreign()], Instant::now())), "");
        assert_eq!(told(members.put(bad("x", 4))), "refused S/x");
        assert_eq!(told(members.delete(b"S/x", 5)), "");
        assert_eq!(told(members.list(6, vec![], Instant::now())), "");
        assert_eq!(members.foreign(), (vec![], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn few_of_others_are_shown() {
        let mut members = members();
        let foreign = |number: usize| Raw {
            key: format!("S/{number:04}").into_bytes(),
            value: format!(r#"{{"Addr":"{number:04}"}}"#).into_bytes(),
            create_revision: 2,
            mod_revision: 2,
        };
        members.list(3, (0..250).map(foreign).collect(), Instant::now());
        let (shown, count) = members.foreign();
        assert_eq!((shown.len(), shown[99].as_str(), count), (FOREIGN_SHOWN_MAX, "0099", 250));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_them() {
        let mut members = members();
        let entries = (0..ENTRIES_MAX as i64 + 2).map(|n| bad(&n.to_string(), n + 1)).collect();
        let notices = members.list(20_000, entries, Instant::now());
        assert_eq!(notices.len(), ENTRIES_MAX + 1);
        assert_eq!(members.slots.len(), ENTRIES_MAX);
    }
}
