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
use tokio::time::Instant;

use super::{
    Answer, GetError, Group, HANDOVER_KEYS_MAX, Key, Landing, LoadError, PeerBatch, PeerError, PeerWord,
    Side, Value,
    asking::ASKED_MAX,
    fence::SlotState,
    flight::{Start, Turn},
    full,
};
use crate::{
    cluster::{Address, Node, View, place},
    telemetry::{field, trace},
    time::Moment,
};

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
            let found = if bytes > bytes_max { None } else { self.cached(key.as_bytes()) };
            match &found {
                Some(answer) => bytes += bytes_of(answer),
                None => missing.entry(key).or_default().push(at),
            }
            results.push(found.map(Ok));
        }
        let wanted = missing.keys().map(|key| self.wanted((*key).clone())).collect();
        let landings = self.fetch_many(wanted, bytes_max.saturating_sub(bytes), deadline).await;
        for (places, landing) in missing.into_values().zip(landings) {
            for at in places {
                self.metrics.request(landing.as_ref().ok().map(|answer| answer.outcome), self.since(begun));
                results[at] = Some(landing.clone());
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
            let (asked, own) = join(join_all(asked), self.fly_many_as_owner(&own, deadline)).await;
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
                tracing::debug!(
                    { field::GROUP } = %self.name,
                    { field::PEER } = %node.address,
                    error = &error as &dyn std::error::Error,
                    "the peer gave no answer"
                );
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
        let seats: Vec<_> = keys
            .iter()
            .map(|key| {
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
        let work = async {
            let mut landings = self.before_load_many(starts).await;
            let places: Vec<usize> = (0..starts.len()).filter(|at| landings[*at].is_none()).collect();
            let keys: Vec<Key> = places.iter().map(|at| starts[*at].1.clone()).collect();
            let since = self.clock.now();
            let loaded = trace::spanned("load", self.load_by_halves(&keys)).await;
            for (at, value) in places.into_iter().zip(loaded) {
                let (hash, key, start) = &starts[at];
                let landing = value.map(|value| self.loaded(key, *hash, start.slot, since, value));
                landings[at] = Some(landing.map_err(GetError::from));
            }
            let none =
                || Err(LoadError::Broken("it answered another number of keys than it was asked").into());
            landings.into_iter().map(|landing| landing.unwrap_or_else(none)).collect()
        };
        let late = |_| starts.iter().map(|_| Err(GetError::Deadline(timeout))).collect();
        tokio::time::timeout(timeout, work).await.unwrap_or_else(late)
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

    /// Loads `keys` by one query. Where that fails for a value that is too large, which fails the others with it, the
    /// keys are halved until it stands alone.
    async fn load_by_halves(&self, keys: &[Key]) -> Vec<Result<Option<Value>, LoadError>> {
        let mut results = Vec::with_capacity(keys.len());
        let mut parts = vec![keys];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.loader.load(part).await {
                Ok(values) if values.len() == part.len() => results.extend(values.into_iter().map(Ok)),
                Ok(_) => {
                    results.extend(part.iter().map(|_| {
                        Err(LoadError::Broken("it answered another number of keys than it was asked"))
                    }))
                }
                Err(LoadError::TooLarge { .. }) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => results.extend(part.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }
}

fn bytes_in(value: &Value) -> usize {
    value.bytes().len()
}

fn bytes_of(answer: &Answer) -> usize {
    answer.value.as_ref().map_or(0, bytes_in)
}
