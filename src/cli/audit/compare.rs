//! How answers are compared with a database that goes on changing.
//!
//! A node may answer for a while what the database said before. So what differs is looked at in rounds, and between two of
//! them lies the time for which it may: whatever the database said in one round, an answer of the next one is no older.
//! A round speaks against a node if its database says the same as in the round before, and the node answers, as before,
//! something else. After two such rounds in a row the key is inconsistent. One is not enough: a row may have changed, and
//! changed back.
//!
//! Never knows how nodes and databases are asked ([`Sides`] does), and prints nothing.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::sleep;

use crate::group::Key;

/// A value, or that there is none; or why nobody could say.
pub(super) type Said = Result<Option<Bytes>, String>;

/// Keys that are compared at once.
const KEYS_AT_ONCE: usize = 100;
/// Reads that are under way at once.
const READS_AT_ONCE: usize = 8;
/// Rounds after the first one, in which most differences have ended.
const ROUNDS: u32 = 4;
/// Rounds in a row that speak against a node.
const PROOF: u32 = 2;
/// What a wait lasts beyond the bound: clocks are read at different places.
const MARGIN: Duration = Duration::from_millis(50);

/// The two sides that are compared.
pub(super) trait Sides {
    /// What the node of that number answers.
    async fn ask(&self, node: usize, key: &Key) -> Said;
    /// What the database says of each of `keys`.
    async fn load(&self, keys: &[Key]) -> Vec<Said>;
    /// Says that so many reads differ, which are looked at again after a wait of `bound`.
    fn waits(&self, differing: usize, bound: Duration);
}

/// What the comparison came to, in reads: a key at a node is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Both said the same.
    pub(super) equal: u64,
    /// Both said the same after a while, or the database never said the same for long enough.
    pub(super) changed: u64,
    /// The node's answer is wrong.
    pub(super) inconsistent: Vec<Wrong>,
    /// Why a side did not answer.
    pub(super) failed: Vec<String>,
}

/// A read whose answer is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) node: usize,
    pub(super) key: Key,
    /// What the node answers.
    pub(super) answer: Option<Bytes>,
    /// What the database says.
    pub(super) row: Option<Bytes>,
}

struct Suspect {
    wrong: Wrong,
    rounds: u32,
}

/// Compares `keys` at so many `nodes`. `bound` is how long an answer may differ from what the database says.
pub(super) async fn compare(sides: &impl Sides, nodes: usize, keys: &[Key], bound: Duration) -> Compared {
    let mut compared = Compared::default();
    let mut suspects = Vec::new();
    for keys in keys.chunks(KEYS_AT_ONCE) {
        let reads = (0..nodes).flat_map(|node| keys.iter().map(move |key| (node, key.clone()))).collect();
        for (wrong, _) in look(sides, reads, &mut compared).await {
            match wrong.answer == wrong.row {
                true => compared.equal += 1,
                false => suspects.push(Suspect { wrong, rounds: 0 }),
            }
        }
    }
    for _ in 0..ROUNDS {
        if suspects.is_empty() {
            break;
        }
        sides.waits(suspects.len(), bound);
        sleep(bound.saturating_add(MARGIN)).await;
        suspects = again(sides, suspects, &mut compared).await;
    }
    // The row changes all the time.
    compared.changed += suspects.len() as u64;
    compared.inconsistent.sort_by(|one, other| (&one.key, one.node).cmp(&(&other.key, other.node)));
    compared
}

/// One more round: those of whom nothing is known yet.
async fn again(sides: &impl Sides, suspects: Vec<Suspect>, compared: &mut Compared) -> Vec<Suspect> {
    let mut open = Vec::new();
    let mut left: Vec<Suspect> = suspects;
    while !left.is_empty() {
        let some: Vec<Suspect> = left.drain(..left.len().min(KEYS_AT_ONCE)).collect();
        let reads = some.iter().map(|suspect| (suspect.wrong.node, suspect.wrong.key.clone())).collect();
        for (wrong, at) in look(sides, reads, compared).await {
            let before = &some[at];
            let is_proof = wrong == before.wrong;
            let rounds = if is_proof { before.rounds + 1 } else { 0 };
            if wrong.answer == wrong.row {
                compared.changed += 1;
            } else if rounds >= PROOF {
                compared.inconsistent.push(wrong);
            } else {
                open.push(Suspect { wrong, rounds });
            }
        }
    }
    open
}

/// What both sides say, first the nodes and then the database, with the place of each among `reads`; but for those of
/// which one of them says nothing.
async fn look(sides: &impl Sides, reads: Vec<(usize, Key)>, compared: &mut Compared) -> Vec<(Wrong, usize)> {
    let keys: Vec<Key> =
        reads.iter().map(|(_, key)| key.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let asked = stream::iter(reads.into_iter().enumerate()).map(|(at, (node, key))| async move {
        let said = sides.ask(node, &key).await;
        (at, node, key, said)
    });
    let asked: Vec<_> = asked.buffer_unordered(READS_AT_ONCE).collect().await;
    let rows = sides.load(&keys).await;
    let mut found = Vec::new();
    for (at, node, key, answer) in asked {
        let row = keys.binary_search(&key).ok().and_then(|place| rows.get(place));
        match (answer, row.cloned()) {
            (Ok(answer), Some(Ok(row))) => found.push((Wrong { node, key, answer, row }, at)),
            (Err(error), _) | (Ok(_), Some(Err(error))) => compared.failed.push(error),
            (Ok(_), None) => compared.failed.push("the database did not speak of a key".to_owned()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    /// What is said in each round; the last one goes on.
    #[derive(Default)]
    struct Script {
        round: Cell<usize>,
        rounds: Vec<(&'static str, &'static str)>,
        waits: RefCell<Vec<usize>>,
    }

    impl Script {
        fn new(rounds: &[(&'static str, &'static str)]) -> Self {
            Self { rounds: rounds.to_vec(), ..Self::default() }
        }

        fn now(&self) -> (&'static str, &'static str) {
            self.rounds[self.round.get().min(self.rounds.len() - 1)]
        }
    }

    fn said(text: &'static str) -> Said {
        match text {
            "absent" => Ok(None),
            "fails" => Err("nobody is there".to_owned()),
            text => Ok(Some(Bytes::from_static(text.as_bytes()))),
        }
    }

    impl Sides for Script {
        async fn ask(&self, _: usize, _: &Key) -> Said {
            said(self.now().0)
        }

        async fn load(&self, keys: &[Key]) -> Vec<Said> {
            keys.iter().map(|_| said(self.now().1)).collect()
        }

        fn waits(&self, differing: usize, bound: Duration) {
            assert_eq!(bound, BOUND);
            self.round.set(self.round.get() + 1);
            self.waits.borrow_mut().push(differing);
        }
    }

    fn key(name: &str) -> Key {
        Key::new(name).expect("a key")
    }

    /// Equal, changed, inconsistent, failed, and waits.
    async fn counts(rounds: &[(&'static str, &'static str)]) -> (u64, u64, usize, usize, usize) {
        let script = Script::new(rounds);
        let Compared { equal, changed, inconsistent, failed } =
            compare(&script, 1, &[key("anna")], BOUND).await;
        (equal, changed, inconsistent.len(), failed.len(), script.waits.borrow().len())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_stays_wrong_is_inconsistent() {
        assert_eq!(counts(&[("1", "1")]).await, (1, 0, 0, 0, 0));
        assert_eq!(counts(&[("absent", "absent")]).await, (1, 0, 0, 0, 0));
        assert_eq!(counts(&[("1", "2"), ("2", "2")]).await, (0, 1, 0, 0, 1), "it had not heard of it yet");
        assert_eq!(counts(&[("1", "2")]).await, (0, 0, 1, 0, 2));
        assert_eq!(counts(&[("absent", "2")]).await, (0, 0, 1, 0, 2), "it should be there");
        assert_eq!(counts(&[("1", "absent")]).await, (0, 0, 1, 0, 2), "it should be gone");
        let back = [("1", "2"), ("1", "2"), ("2", "2")];
        assert_eq!(counts(&back).await, (0, 1, 0, 0, 2), "it was changed back for a while");
        let busy = [("1", "2"), ("2", "3"), ("3", "4"), ("4", "5"), ("5", "6")];
        assert_eq!(counts(&busy).await, (0, 1, 0, 0, 4), "each answer is younger than the bound");
        let late = [("1", "2"), ("2", "3"), ("2", "4"), ("2", "4"), ("2", "4")];
        assert_eq!(counts(&late).await, (0, 0, 1, 0, 4), "the row has come to rest");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_not_inconsistent() {
        assert_eq!(counts(&[("fails", "1")]).await, (0, 0, 0, 1, 0));
        assert_eq!(counts(&[("1", "fails")]).await, (0, 0, 0, 1, 0));
        assert_eq!(counts(&[("1", "2"), ("fails", "2")]).await, (0, 0, 0, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn every_key_is_compared_at_every_node() {
        let keys: Vec<Key> = (0..250).map(|number| key(&number.to_string())).collect();
        let script = Script::new(&[("1", "1")]);
        assert_eq!(compare(&script, 3, &keys, BOUND).await, Compared { equal: 750, ..Compared::default() });
        let script = Script::new(&[("1", "2")]);
        let compared = compare(&script, 2, &keys, BOUND).await;
        assert_eq!(*script.waits.borrow(), [500, 500]);
        let wrong: BTreeSet<(usize, &Key)> =
            compared.inconsistent.iter().map(|wrong| (wrong.node, &wrong.key)).collect();
        assert_eq!((wrong.len(), compared.inconsistent.len()), (500, 500));
    }
}
