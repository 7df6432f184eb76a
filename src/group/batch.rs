//! Reads of many keys at once: one message to each owner, one query there, a result for each key.
//!
//! The asked node goes by rounds: each key that has no answer yet is asked of the next node on its route, keys of one
//! node in one message, all nodes at the same time; a node that fails sends its keys into the next round. What nobody
//! answered is loaded here, within the group's budget, as a single read would be.
//! What the owner does is in `batch_load`.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::{join, join_all};
use tokio::time::Instant;

use super::{
    Answer, GetError, Group, HANDOVER_KEYS_MAX, Key, Landing, PeerBatch, PeerError, PeerRequest, PeerWord,
    Position, Value, asking::ASKED_MAX, fence::SlotState,
};
use crate::{
    cluster::{Address, Node, View, place},
    error::ErrorCode,
    telemetry::trace,
    time::Moment,
};

/// A key without an answer yet.
struct Wanted {
    key: Key,
    hash: u64,
    /// Noted before anybody is asked.
    slot: SlotState,
    need: Option<Position>,
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
        self.read_many(keys, false, bytes_max, deadline).await
    }

    /// As [`get_many`](Self::get_many), with nothing older than `position`, which a write answered. Cancel safe.
    pub async fn get_many_at(
        self: &Arc<Self>,
        keys: &[Key],
        position: Position,
        bytes_max: usize,
        deadline: Instant,
    ) -> Vec<Result<Answer, GetError>> {
        let is_fresh = !self.caught_up(position, deadline).await;
        self.read_many(keys, is_fresh, bytes_max, deadline).await
    }

    /// With `is_fresh`, nothing comes from memory.
    async fn read_many(
        self: &Arc<Self>,
        keys: &[Key],
        is_fresh: bool,
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
            } else if is_fresh {
                None
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
        let landings = self.fetch_many(wanted, is_fresh, bytes_max.saturating_sub(bytes), deadline).await;
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
        let slot = self.store.slot(hash);
        Wanted { hash, slot, need: self.need(slot), key, passed: 0, asked: 0, landing: None }
    }

    /// A landing for each of `wanted`, in their order.
    async fn fetch_many(
        self: &Arc<Self>,
        mut wanted: Vec<Wanted>,
        is_fresh: bool,
        bytes_max: usize,
        deadline: Instant,
    ) -> Vec<Landing> {
        let view = self.peers.views().load_full();
        let mut bytes = 0;
        if is_fresh || !self.may_serve(self.clock.now()) {
            // Nobody's memory is wanted, or known to be current: one query answers.
            let keys: Vec<Key> = wanted.into_iter().map(|wanted| wanted.key).collect();
            return self.fly_many_as_owner(&keys, true, deadline).await;
        }
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
                let need = Position::furthest(places.iter().map(|at| wanted[*at].need));
                let (group, view) = (&self, &view);
                async move {
                    let sent = group.clock.now();
                    let words = if late {
                        Err(PeerError::Silent(group.settings.flight_timeout))
                    } else {
                        group.ask_many(view, node, (keys, need), bytes_max, deadline).await
                    };
                    (node, places, sent, words)
                }
            });
            let own: Vec<Key> = mine.iter().map(|at| wanted[*at].key.clone()).collect();
            // Nobody would wait for it, and a database that is too slow is not helped by one query more.
            let late_here =
                || own.iter().map(|_| Err(GetError::Deadline(self.settings.flight_timeout))).collect();
            let fly = async {
                if late { late_here() } else { self.fly_many_as_owner(&own, false, deadline).await }
            };
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
        (mut keys, need): (Vec<Key>, Option<Position>),
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
                need,
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
                    need: batch.need,
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
                        Ok(Some(answer)) if self.is_usable(wanted.need, answer.cursor) => {
                            let vouched = (wanted.hash, wanted.slot, wanted.need);
                            Some(Ok(self.hopped(node, &wanted.key, vouched, sent, answer)))
                        }
                        Ok(_) => None,
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
}

pub(super) fn bytes_in(value: &Value) -> usize {
    value.bytes().len()
}

fn bytes_of(answer: &Answer) -> usize {
    answer.value.as_ref().map_or(0, bytes_in)
}
