//! Reads of many keys at their owner: a seat for each key that is not in memory, as a single read takes one, so that a load
//! that is under way is joined; and the loads that are this request's to begin are one query.

use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Answer, GetError, Group, Halves, Key, Landing, LoadError, Position, Side,
    batch::bytes_in,
    flight::{Start, Turn},
    full,
};
use crate::telemetry::trace;

/// Queries of one load of many keys at most: some keys may spoil it for the others.
const QUERIES_MAX: usize = 64;
/// After so many bytes of values no more are loaded for one request.
const LOADED_BYTES_MAX: usize = 32 << 20;

impl Group {
    /// Answers another node that takes this one for the owner of `keys`, with nothing older than `need`; `None` for a key
    /// that is not in memory where `only_cached`. And says up to where the log was applied before it looked. Never asks
    /// a third.
    ///
    /// # Errors
    /// [`GetError::Behind`] if this node does not get as far as `need`.
    pub async fn get_many_as_owner(
        self: &Arc<Self>,
        keys: &[Key],
        only_cached: bool,
        need: Option<Position>,
        deadline: Instant,
    ) -> Result<(Option<Position>, Vec<Result<Option<Answer>, GetError>>), GetError> {
        let cursor = self.come_to(need, deadline).await?;
        let now = self.awake();
        let may_serve = self.may_serve(now);
        let mut missing = Vec::new();
        let mut results: Vec<Result<Option<Answer>, GetError>> = Vec::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            let found = self.store.get_own(self.store.hash(key.as_bytes()), key.as_bytes(), now);
            let found = found.filter(|_| may_serve);
            if let Some(found) = &found {
                self.refresh_ahead(self.store.hash(key.as_bytes()), key.as_bytes(), found, now);
            }
            if found.is_none() && !only_cached {
                missing.push(at);
            }
            results.push(Ok(found));
        }
        if !missing.is_empty() {
            let wanted: Vec<Key> = missing.iter().map(|at| keys[*at].clone()).collect();
            let landings = self.fly_many_as_owner(&wanted, !may_serve, deadline).await;
            for (at, landing) in missing.into_iter().zip(landings) {
                results[at] = landing.map(Some);
            }
        }
        Ok((cursor, results))
    }

    /// A landing for each of `keys`, none of which was in memory.
    pub(super) async fn fly_many_as_owner(
        self: &Arc<Self>,
        keys: &[Key],
        is_fresh: bool,
        deadline: Instant,
    ) -> Vec<Landing> {
        let mut turns = Vec::new();
        // Half of the loads are left to reads of single keys: one request may name very many.
        let loads_max = self.settings.flights_max / 2;
        let seats: Vec<_> = keys
            .iter()
            .map(|key| {
                if self.owner_flights.running() >= loads_max {
                    return Err(GetError::Overloaded { what: "loads", limit: loads_max });
                }
                let hash = self.store.hash(key.as_bytes());
                let start = Start { slot: self.store.slot(hash), is_fresh };
                let (seat, turn) = self.owner_flights.join(hash, key.as_bytes(), start).map_err(full)?;
                turns.extend(turn);
                Ok(seat)
            })
            .collect();
        self.spawn_together(turns);
        join_all(seats.into_iter().zip(keys).map(|(seat, key): (Result<_, GetError>, _)| async move {
            let (hash, key) = (self.store.hash(key.as_bytes()), key.as_bytes());
            if let Some(stale) = self.stale_meanwhile(hash, key, is_fresh) {
                return Ok(stale);
            }
            let landing = self.wait(seat?, deadline).await;
            self.stale_instead(hash, key, is_fresh, landing)
        }))
        .await
    }

    /// Runs flights by one query, in a task of their own; and then, each by itself, those that came to wait for one.
    fn spawn_together(self: &Arc<Self>, turns: Vec<Turn<Landing>>) {
        if turns.is_empty() {
            return;
        }
        let (group, trace) = (Arc::clone(self), trace::current());
        self.tasks.spawn(trace::within(trace, async move {
            let starts: Vec<(u64, Key, Start)> = turns
                .iter()
                .filter_map(|turn| {
                    let (hash, key, start) = turn.target();
                    Some((hash, Key::new(key).ok()?, start))
                })
                .collect();
            let state = |hash| group.store.slot(hash);
            let left = Turn::fly_together(turns, state, group.load_many(&starts)).await;
            for turn in left {
                let (hash, key, _) = turn.target();
                let key: Box<[u8]> = key.into();
                group.spawn(turn, hash, &key, Side::Owner);
            }
        }));
    }

    /// An owner-side flight of many keys.
    async fn load_many(&self, starts: &[(u64, Key, Start)]) -> Vec<Landing> {
        let timeout = self.settings.flight_timeout;
        // What has landed before the time is up stays.
        let landings: Mutex<Vec<Option<Landing>>> = Mutex::new(vec![None; starts.len()]);
        let work = async {
            *landings.lock() = self.before_load_many(starts).await;
            let left: Vec<usize> = {
                let landings = landings.lock();
                (0..starts.len()).filter(|at| landings[*at].is_none()).collect()
            };
            trace::spanned("load", self.load_by_parts(starts, left, &landings)).await;
        };
        let in_time = tokio::time::timeout(timeout, work).await.is_ok();
        let none = || match in_time {
            true => Err(LoadError::Broken("it answered another number of keys than it was asked").into()),
            false => Err(GetError::Deadline(timeout)),
        };
        landings.into_inner().into_iter().map(|landing| landing.unwrap_or_else(none)).collect()
    }

    /// What spares flights of many keys their part in the query, each as `before_load` does it.
    async fn before_load_many(&self, starts: &[(u64, Key, Start)]) -> Vec<Option<Landing>> {
        let now = self.clock.now();
        let in_memory = |(hash, key, start): &(u64, Key, Start)| {
            let found = self.store.peek(*hash, key.as_bytes(), now).map(Ok);
            found.filter(|_| !start.is_fresh)
        };
        let mut landings: Vec<Option<Landing>> = starts.iter().map(in_memory).collect();
        let places: Vec<usize> = (0..starts.len()).filter(|at| landings[*at].is_none()).collect();
        let left: Vec<_> = places.iter().map(|at| starts[*at].clone()).collect();
        for (at, found) in places.into_iter().zip(self.peek_previous_many(&left).await) {
            landings[at] = found.map(Ok);
        }
        landings
    }

    /// Loads the keys at `places` by one query. Where that fails for what may be one key's fault, and fails the others
    /// with it, the keys are halved until it stands alone; but not without end.
    async fn load_by_parts(
        &self,
        starts: &[(u64, Key, Start)],
        places: Vec<usize>,
        landings: &Mutex<Vec<Option<Landing>>>,
    ) {
        let mut halves = Halves::new(places);
        let (mut queries, mut bytes) = (0, 0);
        while let Some(part) = halves.next_part() {
            if queries >= QUERIES_MAX || bytes > LOADED_BYTES_MAX {
                let error = GetError::Overloaded { what: "parts of a load of many keys", limit: QUERIES_MAX };
                let mut landings = landings.lock();
                part.iter().for_each(|at| landings[*at] = Some(Err(error.clone())));
                continue;
            }
            queries += 1;
            let keys: Vec<Key> = part.iter().map(|at| starts[*at].1.clone()).collect();
            let since = self.clock.now();
            match self.loader.load(&keys).await {
                Err(error) => {
                    let mut landings = landings.lock();
                    for at in halves.halve(part, &error).into_iter().flatten() {
                        landings[at] = Some(Err(error.clone().into()));
                    }
                }
                Ok(values) if values.len() == part.len() => {
                    for (at, value) in part.into_iter().zip(values) {
                        bytes += value.as_ref().map_or(0, bytes_in);
                        let (hash, key, start) = &starts[at];
                        let answer = self.loaded(key, *hash, start.slot, since, value);
                        landings.lock()[at] = Some(Ok(answer));
                    }
                }
                // Told of as what it is, where nothing has landed.
                Ok(_) => {}
            }
        }
    }
}
