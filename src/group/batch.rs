//! Reads of many keys at once: one message to each owner, one query there, a result for each key.
//!
//! The asked node goes by rounds: each key that has no answer yet is asked of the next node on its route, keys of one
//! node in one message, all nodes at the same time; a node that fails sends its keys into the next round. What nobody
//! answered is loaded here, within the group's budget, as a single read would be.
//!
//! The owner takes a seat for each key that is not in memory, as a single read does: a load that is under way is joined,
//! and the loads that are this request's to begin are one query.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Answer, GetError, Group, HANDOVER_KEYS_MAX, Key, Landing, LoadError, PeerBatch, PeerError, PeerRequest,
    PeerWord, Side, Value,
    asking::ASKED_MAX,
    fence::SlotState,
    flight::{Start, Turn},
    full,
};
use crate::{
    cluster::{Address, Node, View, place},
    error::ErrorCode,
    telemetry::trace,
    time::Moment,
};

/// Queries of one load of many keys at most: some keys may spoil it for the others.
const QUERIES_MAX: usize = 64;
/// After so many bytes of values no more are loaded for one request.
const LOADED_BYTES_MAX: usize = 32 << 20;

/// A key without an answer yet.
struct Wanted {
    key: Key,
    hash: u64,
    /// Noted before anybody is asked.
    slot: SlotState,
    /// How many nodes of its route have been passed over, and how many asked.
    passed: usize,
    asked: usize,
    landing: Option<Landing>,
}

impl Group {
    /// Answers a client's read of `keys` until `deadline`: one result for each, in their order. After `bytes_max` bytes
    /// of values, no more are fetched.
    ///
    /// Cancel safe, as [`get`](Self::get).
    pub async fn get_many(
        self: &Arc<Self>,
        keys: &[Key],
        bytes_max: usize,
        deadline: Instant,
    ) -> Vec<Result<Answer, GetError>> {
        let begun = self.clock.now();
        let mut bytes = 0;
        let mut results: Vec<Option<Landing>> = Vec::with_capacity(keys.len());
        // A key that is there twice is read once.
        let mut missing: BTreeMap<&Key, Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            let found = if bytes > bytes_max {
                Some(Err(GetError::TooLargeTogether(bytes_max)))
            } else {
                self.cached(key.as_bytes()).map(Ok)
            };
            match &found {
                Some(landing) => bytes += landing.as_ref().map_or(0, bytes_of),
                None => missing.entry(key).or_default().push(at),
            }
            results.push(found);
        }
        let wanted = missing.keys().map(|key| self.wanted((*key).clone())).collect();
        let landings = self.fetch_many(wanted, bytes_max.saturating_sub(bytes), deadline).await;
        for (places, landing) in missing.into_values().zip(landings) {
            for at in places {
                let landing = match &landing {
                    // A key that is named twice is answered twice, and counts twice.
                    Ok(_) if bytes > bytes_max => Err(GetError::TooLargeTogether(bytes_max)),
                    landing => landing.clone(),
                };
                bytes += landing.as_ref().map_or(0, bytes_of);
                self.metrics.request(landing.as_ref().ok().map(|answer| answer.outcome), self.since(begun));
                results[at] = Some(landing);
            }
        }
        results.into_iter().map(|result| result.unwrap_or(Err(GetError::ShuttingDown))).collect()
    }

    fn wanted(&self, key: Key) -> Wanted {
        let hash = self.store.hash(key.as_bytes());
        Wanted { hash, slot: self.store.slot(hash), key, passed: 0, asked: 0, landing: None }
    }

    /// A landing for each of `wanted`, in their order.
    async fn fetch_many(
        self: &Arc<Self>,
        mut wanted: Vec<Wanted>,
        bytes_max: usize,
        deadline: Instant,
    ) -> Vec<Landing> {
        let view = self.peers.views().load_full();
        let mut bytes = 0;
        loop {
            let mut mine = Vec::new();
            let mut by_owner: BTreeMap<Address, (&Node, Vec<usize>)> = BTreeMap::new();
            for (at, wanted) in wanted.iter_mut().enumerate().filter(|(_, wanted)| wanted.landing.is_none()) {
                if bytes > bytes_max {
                    wanted.landing = Some(Err(GetError::TooLargeTogether(bytes_max)));
                    continue;
                }
                match self.next_node(&view, wanted) {
                    Some(node) => {
                        self.store.note_demand(wanted.hash, self.clock.now());
                        by_owner.entry(node.address.clone()).or_insert((node, Vec::new())).1.push(at);
                    }
                    None => mine.push(at),
                }
            }
            if mine.is_empty() && by_owner.is_empty() {
                break;
            }
            let late = Instant::now() >= deadline;
            let asked = by_owner.into_values().map(|(node, places)| {
                let keys = places.iter().map(|at| wanted[*at].key.clone()).collect();
                let (group, view) = (&self, &view);
                async move {
                    let sent = group.clock.now();
                    let words = if late {
                        Err(PeerError::Silent(group.settings.flight_timeout))
                    } else {
                        group.ask_many(view, node, keys, bytes_max, deadline).await
                    };
                    (node, places, sent, words)
                }
            });
            let own: Vec<Key> = mine.iter().map(|at| wanted[*at].key.clone()).collect();
            // Nobody would wait for it, and a database that is too slow is not helped by one query more.
            let late_here =
                || own.iter().map(|_| Err(GetError::Deadline(self.settings.flight_timeout))).collect();
            let fly = async { if late { late_here() } else { self.fly_many_as_owner(&own, deadline).await } };
            let (asked, own) = join(join_all(asked), fly).await;
            for (at, landing) in mine.into_iter().zip(own) {
                wanted[at].landing = Some(landing);
            }
            for (node, places, sent, words) in asked {
                self.take_words(node, &mut wanted, places, sent, words, late);
            }
            bytes = wanted.iter().filter_map(|w| w.landing.as_ref()?.as_ref().ok()).map(bytes_of).sum();
        }
        wanted.into_iter().map(|wanted| wanted.landing.unwrap_or(Err(GetError::ShuttingDown))).collect()
    }

    /// The next node to ask for `wanted`; `None` if this one is to load it.
    fn next_node<'a>(self: &Arc<Self>, view: &'a View, wanted: &mut Wanted) -> Option<&'a Node> {
        if wanted.asked == ASKED_MAX {
            return None;
        }
        let place = place(self.name.as_str(), wanted.key.as_bytes());
        for node in view.route(place).skip(wanted.passed) {
            if node.address == view.me().address {
                return None;
            }
            wanted.passed += 1;
            if self.peers.may_ask(node) {
                wanted.asked += 1;
                return Some(node);
            }
        }
        None
    }

    /// Asks `node` for `keys`, in as many messages as it takes: a word for each of the first ones, until the values have
    /// more than `bytes_max` bytes.
    async fn ask_many(
        &self,
        view: &View,
        node: &Node,
        mut keys: Vec<Key>,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<PeerWord>, PeerError> {
        let mut words: Vec<PeerWord> = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        while !keys.is_empty() && bytes <= bytes_max {
            let rest = keys.split_off(keys.len().min(HANDOVER_KEYS_MAX));
            let batch = PeerBatch {
                group: self.name.clone(),
                keys,
                epoch: view.epoch(),
                budget: deadline.saturating_duration_since(Instant::now()),
                digest: self.settings.digest,
                only_cached: false,
            };
            let told = match trace::spanned("hop", self.peers.get_many(node, &batch)).await {
                Ok(told) => told,
                // An older version, which is asked as it knows it.
                Err(PeerError::Refused(ErrorCode::RouteNotFound)) => self.ask_singly(node, &batch).await,
                // What it has said so far is as good as ever; the rest is asked of the next node.
                Err(_) if !words.is_empty() => break,
                Err(error) => return Err(error),
            };
            bytes += told
                .iter()
                .filter_map(|word| word.as_ref().ok()?.as_ref()?.value.as_ref())
                .map(bytes_in)
                .sum::<usize>();
            keys = batch.keys;
            keys.drain(..told.len());
            words.extend(told);
            keys.extend(rest);
        }
        Ok(words)
    }

    /// The keys of `batch` in a message each, some at a time.
    async fn ask_singly(&self, node: &Node, batch: &PeerBatch) -> Vec<PeerWord> {
        const AT_ONCE: usize = 32;
        let mut words = Vec::with_capacity(batch.keys.len());
        for keys in batch.keys.chunks(AT_ONCE) {
            let asked = keys.iter().map(|key| async {
                let request = PeerRequest {
                    group: batch.group.clone(),
                    key: key.clone(),
                    epoch: batch.epoch,
                    budget: batch.budget,
                    digest: batch.digest,
                    is_fresh: false,
                    trace: None,
                };
                match self.peers.get(node, &request).await {
                    Ok(answer) => Ok(Some(answer)),
                    Err(PeerError::Refused(code)) => Err(code),
                    Err(_) => Err(ErrorCode::PeerUnavailable),
                }
            });
            words.extend(join_all(asked).await);
        }
        words
    }

    /// Notes what `node` said of the keys at `places`.
    fn take_words(
        &self,
        node: &Node,
        wanted: &mut [Wanted],
        places: Vec<usize>,
        sent: Moment,
        words: Result<Vec<PeerWord>, PeerError>,
        late: bool,
    ) {
        let refused = |code| Some(Err(GetError::Peer { peer: node.address.clone(), code }));
        match words {
            Ok(words) => {
                for (at, word) in places.into_iter().zip(words) {
                    let wanted = &mut wanted[at];
                    wanted.landing = match word {
                        Ok(Some(answer)) => {
                            Some(Ok(self.hopped(node, &wanted.key, wanted.hash, wanted.slot, sent, answer)))
                        }
                        Ok(None) => None,
                        Err(code) => match PeerError::Refused(code).final_code() {
                            Some(code) => refused(code),
                            None => None,
                        },
                    };
                }
            }
            Err(error) => {
                self.note_failure(node, &error);
                for at in places {
                    wanted[at].landing = match error.final_code() {
                        Some(code) => refused(code),
                        None if late => Some(Err(GetError::Deadline(self.settings.flight_timeout))),
                        None => None,
                    };
                }
            }
        }
    }

    /// Answers another node that takes this one for the owner of `keys`; `None` for a key that is not in memory where
    /// `only_cached`. Never asks a third.
    pub async fn get_many_as_owner(
        self: &Arc<Self>,
        keys: &[Key],
        only_cached: bool,
        deadline: Instant,
    ) -> Vec<Result<Option<Answer>, GetError>> {
        let now = self.awake();
        let mut missing = Vec::new();
        let mut results: Vec<Result<Option<Answer>, GetError>> = Vec::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            let found = self.store.get_own(self.store.hash(key.as_bytes()), key.as_bytes(), now);
            if found.is_none() && !only_cached {
                missing.push(at);
            }
            results.push(Ok(found));
        }
        if !missing.is_empty() {
            let wanted: Vec<Key> = missing.iter().map(|at| keys[*at].clone()).collect();
            for (at, landing) in missing.into_iter().zip(self.fly_many_as_owner(&wanted, deadline).await) {
                results[at] = landing.map(Some);
            }
        }
        results
    }

    /// A landing for each of `keys`, none of which was in memory.
    async fn fly_many_as_owner(self: &Arc<Self>, keys: &[Key], deadline: Instant) -> Vec<Landing> {
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
                let start = Start { slot: self.store.slot(hash), is_fresh: false };
                let (seat, turn) = self.owner_flights.join(hash, key.as_bytes(), start).map_err(full)?;
                turns.extend(turn);
                Ok(seat)
            })
            .collect();
        self.spawn_together(turns);
        join_all(seats.into_iter().map(|seat: Result<_, GetError>| async move {
            match seat {
                Ok(seat) => self.wait(seat, deadline).await,
                Err(error) => Err(error),
            }
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
        let mut landings: Vec<Option<Landing>> =
            starts.iter().map(|(hash, key, _)| self.store.peek(*hash, key.as_bytes(), now).map(Ok)).collect();
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
        let mut parts = vec![places];
        let (mut queries, mut bytes) = (0, 0);
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
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
                Err(error) if error.is_one_key_s() && part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) => {
                    let mut landings = landings.lock();
                    part.iter().for_each(|at| landings[*at] = Some(Err(error.clone().into())));
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

fn bytes_in(value: &Value) -> usize {
    value.bytes().len()
}

fn bytes_of(answer: &Answer) -> usize {
    answer.value.as_ref().map_or(0, bytes_in)
}
