//! The table of clients' buckets: a fixed number of places, made once, 16 bytes each.
//!
//! A client's hash names two sets of [`WAYS`] places; it is in one of them, or a stranger. A stranger takes a place
//! whose bucket is full again, in the set with more of them: two choices fill a table nearly evenly (Azar, Broder,
//! Karlin, Upfal: Balanced Allocations, 1994), so that all find a place until some nine tenths are in use. A bucket
//! that is full says no more than none at all, so that nothing is lost, nobody has to sweep, and who is limited is
//! never put out. Where no place is free the table says so: strangers share a bucket then.
//!
//! Clients that are known are found and counted without a lock. Strangers hold one, by their hash, so that one client
//! never gets two places; a place that two strangers want goes to who claims its bucket first. A client is its hash of
//! 64 bits under a secret seed: that two of 100,000 share a bucket by chance has a probability of 3 in 10^10.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::{
    ClientKey,
    bucket::{Bucket, Level, Pace},
};

/// Places in a set: 256 bytes, four cache lines.
const WAYS: usize = 16;
/// Locks for strangers, so that they seldom wait for each other.
const LOCKS: usize = 64;

/// One client's place.
#[derive(Debug, Default)]
struct Place {
    /// The client's hash; 0 before the first.
    hash: AtomicU64,
    bucket: Bucket,
}

/// Bytes that a client takes.
pub(super) const CLIENT_BYTES: usize = size_of::<Place>();
const _: () = assert!(CLIENT_BYTES == 16, "the documentation says so");

/// The buckets of clients.
pub(super) struct Clients {
    seed: RandomState,
    sets: Box<[[Place; WAYS]]>,
    strangers: [Mutex<()>; LOCKS],
}

impl Clients {
    /// A table of at most `places` places, and at least one set of them.
    pub(super) fn new(places: usize) -> Self {
        Self {
            seed: RandomState::default(),
            sets: (0..(places / WAYS).max(1)).map(|_| Default::default()).collect(),
            strangers: [const { Mutex::new(()) }; LOCKS],
        }
    }

    /// Whether the client has a token; takes none. A stranger has.
    pub(super) fn test(&self, client: ClientKey, pace: Pace, now: u64) -> Result<(), Level> {
        let hash = self.hash(client);
        let place = self.two_sets(hash).into_iter().find_map(|set| find(set, hash));
        place.map_or(Ok(()), |place| place.bucket.test(pace, now))
    }

    /// Takes a token of the client's; `None` for a stranger for whom there is no place.
    pub(super) fn take(&self, client: ClientKey, pace: Pace, now: u64) -> Option<Result<Level, Level>> {
        let hash = self.hash(client);
        let sets = self.two_sets(hash);
        if let Some(taken) = take_known(sets, hash, pace, now) {
            return Some(taken);
        }
        let _stranger = self.strangers[hash as usize % LOCKS].lock();
        // Another thread may have brought the same client in meanwhile.
        take_known(sets, hash, pace, now).or_else(|| enter(sets, hash, pace, now).map(Ok))
    }

    fn hash(&self, client: ClientKey) -> u64 {
        // 0 means that nobody is there.
        self.seed.hash_one(client).max(1)
    }

    /// The two sets that a client may be in; once in a while the same.
    fn two_sets(&self, hash: u64) -> [&[Place; WAYS]; 2] {
        let count = self.sets.len() as u128;
        // The upper half of a product scales a hash to a range without a division.
        [hash, hash.rotate_left(32)].map(|hash| &self.sets[((u128::from(hash) * count) >> 64) as usize])
    }
}

/// The places of a set, from one that the hash names, so that a client mostly is at the first.
fn from_home(set: &[Place; WAYS], hash: u64) -> impl Iterator<Item = &Place> {
    let (before, from) = set.split_at(hash as usize % WAYS);
    from.iter().chain(before)
}

fn find(set: &[Place; WAYS], hash: u64) -> Option<&Place> {
    from_home(set, hash).find(|place| place.hash.load(Ordering::Acquire) == hash)
}

fn take_known(sets: [&[Place; WAYS]; 2], hash: u64, pace: Pace, now: u64) -> Option<Result<Level, Level>> {
    let place = sets.into_iter().find_map(|set| find(set, hash))?;
    place.bucket.take_while(pace, now, || place.hash.load(Ordering::Acquire) == hash)
}

/// Gives a stranger a place with a full bucket, and takes a token from it.
fn enter(sets: [&[Place; WAYS]; 2], hash: u64, pace: Pace, now: u64) -> Option<Level> {
    let [first, second] = sets.map(|set| set.iter().filter(|place| place.bucket.is_in_use(now)).count());
    let order = if second < first { [sets[1], sets[0]] } else { sets };
    let mut places = order.into_iter().flat_map(|set| from_home(set, hash));
    places.find_map(|place| place.bucket.claim(pace, now, || place.hash.store(hash, Ordering::Release)))
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("places", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pace(rate: &str) -> Pace {
        Pace::new(rate.parse().expect("a rate"), 1).expect("a limit")
    }

    #[test]
    fn clients_have_a_bucket_each() {
        let (clients, pace) = (Clients::new(1600), pace("3/s"));
        for _ in 0..3 {
            for id in 0..1000 {
                assert!(matches!(clients.take(ClientKey::token(id), pace, SECOND), Some(Ok(_))), "{id}");
            }
        }
        for id in 0..1000 {
            assert!(matches!(clients.take(ClientKey::token(id), pace, SECOND), Some(Err(_))), "{id}");
            assert!(clients.test(ClientKey::token(id), pace, SECOND).is_err(), "{id}");
            assert!(clients.test(ClientKey::token(id), pace, 2 * SECOND).is_ok(), "{id}");
        }
    }

    #[test]
    fn strangers_find_a_place_until_the_table_is_nearly_full() {
        let (clients, pace) = (Clients::new(16_000), pace("1/s"));
        let refused = (0..16_000).find(|id| clients.take(ClientKey::token(*id), pace, SECOND).is_none());
        assert!(refused.is_none_or(|refused| refused > 16_000 * 8 / 10), "{refused:?}");
    }

    #[test]
    fn a_full_table_keeps_who_is_limited_and_refuses_strangers() {
        let (clients, pace) = (Clients::new(1024), pace("1/m"));
        let mut known = Vec::new();
        for id in 0..1_000_000 {
            match clients.take(ClientKey::token(id), pace, SECOND) {
                Some(first) => {
                    assert!(first.is_ok(), "{id}");
                    known.push(id);
                }
                None => assert!(known.len() > 512, "{}", known.len()),
            }
        }
        assert!(known.len() <= 1024, "{}", known.len());
        for id in known {
            assert!(matches!(clients.take(ClientKey::token(id), pace, 2 * SECOND), Some(Err(_))), "{id}");
        }
    }

    #[test]
    fn who_is_idle_makes_room() {
        let (clients, pace) = (Clients::new(64), pace("1/s"));
        for round in 1..100 {
            for id in 0..16 {
                let client = ClientKey::token(round * 1000 + id);
                assert!(matches!(clients.take(client, pace, round * SECOND), Some(Ok(_))), "{client:?}");
            }
        }
    }

    #[test]
    fn a_client_that_many_threads_bring_in_has_one_place() {
        let (clients, pace) = (Clients::new(64_000), pace("3/m burst 3"));
        let count = || {
            let mut admitted = 0;
            for round in 0..2 {
                for id in 0..5000 {
                    let taken = clients.take(ClientKey::token(id), pace, SECOND + round);
                    admitted += usize::from(taken.expect("there is room").is_ok());
                }
            }
            admitted
        };
        let sum: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(sum, 3 * 5000);
    }
}
