//! What goes along when a key's owner changes: a miss at the new owner peeks at the previous one before it asks
//! the origin, and a node that leaves names its hottest keys to their new owners, which fetch them in the same way.
//!
//! Values are never pushed: a value that is fetched is fetched under the fetcher's own fence, so that an invalidation
//! that comes in between keeps it out.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Answer, Group, HANDOVER_KEYS_MAX, Handover, Hop, Key, Outcome, PeekMany, PeerAnswer, PeerRequest,
    Position, fence::SlotState, flight::Start, store::Fresh,
};
use crate::{
    cluster::{Address, Node, place},
    telemetry::field,
    time::Moment,
};

/// The most keys of a group that a leaving node names.
const NAMED_MAX: usize = 200_000;

/// What became of the keys of a node that leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Keys that were named to their new owners.
    pub named: u64,
    /// Those that the new owners did not have, and fetched.
    pub fetched: u64,
}

impl std::iter::Sum for HandedOver {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            named: sum.named + one.named,
            fetched: sum.fetched + one.fetched,
        })
    }
}

impl Group {
    /// What this node has of `key` in its main cache. Counts nothing and loads nothing.
    pub fn peek(&self, key: &[u8]) -> Option<Answer> {
        let now = self.awake();
        self.may_serve(now).then(|| self.store.peek(self.store.hash(key), key, now)).flatten()
    }

    /// What memory would answer a read of `key` now: the main cache, or a copy of another node's. Counts nothing and loads
    /// nothing.
    pub fn in_sight(&self, key: &[u8]) -> Option<Answer> {
        let now = self.awake();
        self.may_serve(now).then(|| self.store.peek_all(self.store.hash(key), key, now)).flatten()
    }

    /// Asks the key's previous owner for what it has in memory, if the owner has changed lately.
    pub(super) async fn peek_previous(&self, key: &Key, hash: u64, slot: SlotState) -> Option<Answer> {
        let owner = self.previous_owner(key)?;
        let sent = self.clock.now();
        let request = PeerRequest {
            group: self.name.clone(),
            key: key.clone(),
            epoch: self.peers.views().load().epoch(),
            budget: self.settings.peer_timeout / 10,
            digest: self.settings.digest,
            is_fresh: false,
            // A peek waits for nothing; what it says of the callee's log is looked at.
            need: None,
            trace: None,
        };
        let need = self.need(slot);
        let answer = self.peers.peek(&owner, &request).await?;
        self.keep_peeked(&owner, key, (hash, slot, need), sent, answer)
    }

    /// As [`peek_previous`](Self::peek_previous), for several keys at once: by one message to each previous owner.
    pub(super) async fn peek_previous_many(&self, starts: &[(u64, Key, Start)]) -> Vec<Option<Answer>> {
        let mut found: Vec<Option<Answer>> = vec![None; starts.len()];
        let mut by_owner: BTreeMap<Address, (Node, Vec<usize>)> = BTreeMap::new();
        for (at, (_, key, start)) in starts.iter().enumerate() {
            if let Some(owner) = self.previous_owner(key).filter(|_| !start.is_fresh) {
                by_owner.entry(owner.address.clone()).or_insert_with(|| (owner, Vec::new())).1.push(at);
            }
        }
        let peeks = by_owner.into_values().map(|(owner, places)| async move {
            let sent = self.clock.now();
            let needs: Vec<_> = places.iter().map(|at| self.need(starts[*at].2.slot)).collect();
            let request = PeekMany {
                group: self.name.clone(),
                keys: places.iter().map(|at| starts[*at].1.clone()).collect(),
                budget: self.settings.peer_timeout / 10,
            };
            // What is not told is loaded.
            let answers = self.peers.peek_many(&owner, &request).await.unwrap_or_default();
            let told = places.into_iter().zip(needs).zip(answers);
            told.filter_map(|((at, need), answer)| {
                let (hash, key, start) = &starts[at];
                Some((at, self.keep_peeked(&owner, key, (*hash, start.slot, need), sent, answer?)))
            })
            .collect::<Vec<_>>()
        });
        for (at, answer) in join_all(peeks).await.into_iter().flatten() {
            found[at] = answer;
        }
        found
    }

    /// Who owned the key before, and may have it in memory still; `None` if nobody else did, lately.
    fn previous_owner(&self, key: &Key) -> Option<Node> {
        if !self.settings.peek {
            return None;
        }
        let views = self.peers.views();
        let view = views.load();
        let place = place(self.name.as_str(), key.as_bytes());
        if !view.is_mine(place) {
            return None;
        }
        let me = &view.me().address;
        // What was in memory before a change has expired by one ttl after it.
        let ttl = self.config.load().ttl;
        let lately = |moment| self.clock.now().saturating_since(moment) < ttl;
        let previous = views.previous().filter(|_| lately(self.peers.changed_at()));
        let owner = match previous.as_deref().map(|previous| previous.owner(place)) {
            Some(owner) if owner.address != *me => owner,
            // A node that has only just come was in no view before: without it, the next one owned the key.
            _ if lately(self.peers.started_at()) => view.successor(place)?,
            _ => return None,
        };
        (!self.peers.is_ejected(&owner.address)).then(|| owner.clone())
    }

    /// Keeps what `node` has in its memory, as it said to a question that was sent at `sent`. `None` if it may not be
    /// kept.
    fn keep_peeked(
        &self,
        node: &Node,
        key: &Key,
        (hash, slot, need): (u64, SlotState, Option<Position>),
        sent: Moment,
        answer: PeerAnswer,
    ) -> Option<Answer> {
        if !self.is_keepable(hash, answer.digest, need, answer.cursor) {
            return None;
        }
        let fresh = self.aged(&answer, sent);
        let kept = self.store.keep(hash, key, fresh.clone(), self.clock.now(), slot);
        // What may not be kept may be out of date as well: the origin is asked instead.
        kept.then(|| Answer {
            value: fresh.value,
            outcome: Outcome::Peer,
            since: fresh.since,
            until: fresh.until,
            collapsed: false,
            hop: Some(Arc::new(Hop { peer: node.address.clone(), outcome: answer.outcome })),
        })
    }

    /// Fetches `keys` from `from`, a node that leaves and names them to this one. How many were kept; `None` if `from`
    /// is no node that this one knows.
    pub async fn accept_handover(self: &Arc<Self>, from: &Address, keys: Vec<Key>) -> Option<u64> {
        let views = self.peers.views();
        let view = views.load_full();
        let node = view
            .node(from)
            .cloned()
            .or_else(|| views.previous().and_then(|previous| previous.node(from).cloned()))?;
        let mine = |key: &Key| {
            let place = place(self.name.as_str(), key.as_bytes());
            // The news of the leave may not have come yet: whoever is next after `from` is the new owner.
            view.route(place).find(|node| node.address != *from).is_some_and(|node| *node == *view.me())
        };
        let missing = |key: &Key| {
            self.store.peek(self.store.hash(key.as_bytes()), key.as_bytes(), self.clock.now()).is_none()
        };
        let mut keys: Vec<Key> = keys.into_iter().filter(mine).filter(missing).collect();
        let mut kept = 0;
        while !keys.is_empty() {
            let budget = self.settings.peer_timeout;
            let request = PeekMany { group: self.name.clone(), keys, budget };
            // Noted before the question is sent: what an invalidation drops from now on is not kept.
            let fences: Vec<(u64, SlotState, Option<Position>)> = request
                .keys
                .iter()
                .map(|key| self.store.hash(key.as_bytes()))
                .map(|hash| (hash, self.store.slot(hash)))
                .map(|(hash, slot)| (hash, slot, self.need(slot)))
                .collect();
            let sent = self.clock.now();
            let answers = match self.peers.peek_many(&node, &request).await {
                Ok(answers) if !answers.is_empty() => answers,
                // They are loaded when they are asked for.
                answered => {
                    tracing::debug!(
                        { field::GROUP } = %self.name,
                        { field::PEER } = %node.address,
                        error = answered.as_ref().err().map(|error| error as &dyn std::error::Error),
                        keys = request.keys.len(),
                        "a node that leaves did not say what it has"
                    );
                    break;
                }
            };
            keys = request.keys;
            let told = answers.len().min(keys.len());
            for ((key, answer), (hash, slot, need)) in keys.drain(..told).zip(answers).zip(fences) {
                let keepable =
                    |answer: &PeerAnswer| self.is_keepable(hash, answer.digest, need, answer.cursor);
                let Some(answer) = answer.filter(keepable) else { continue };
                let fresh = self.aged(&answer, sent);
                kept += u64::from(self.store.keep_new(hash, &key, fresh, self.clock.now(), slot));
            }
        }
        Some(kept)
    }

    /// Names the hottest keys of this node, which leaves, to those who own them without it, and waits until they have
    /// fetched them, at most until `deadline`.
    pub async fn hand_over(self: &Arc<Self>, deadline: Instant) -> HandedOver {
        if !self.settings.handover {
            return HandedOver::default();
        }
        let view = self.peers.views().load_full();
        let me = &view.me().address;
        let mut by_owner: BTreeMap<Address, (Node, Vec<Key>)> = BTreeMap::new();
        let group = Arc::clone(self);
        // It walks all of the memory, and requests go on.
        let walk = tokio::task::spawn_blocking(move || group.store.hottest(NAMED_MAX));
        let Ok(hottest) = walk.await else { return HandedOver::default() };
        for key in hottest {
            let place = place(self.name.as_str(), key.as_bytes());
            let Some(owner) = view.route(place).find(|node| node.address != *me) else {
                return HandedOver::default();
            };
            let entry = by_owner.entry(owner.address.clone()).or_insert_with(|| (owner.clone(), Vec::new()));
            entry.1.push(key);
        }
        let named = by_owner.into_values().map(|(owner, keys)| async move {
            let mut sum = HandedOver::default();
            for batch in keys.chunks(HANDOVER_KEYS_MAX) {
                let budget = deadline.saturating_duration_since(Instant::now());
                if budget.is_zero() {
                    break;
                }
                let handover =
                    Handover { group: self.name.clone(), from: me.clone(), keys: batch.to_vec(), budget };
                match self.peers.handover(&owner, &handover).await {
                    Ok(fetched) => {
                        sum.named += batch.len() as u64;
                        sum.fetched += fetched;
                    }
                    Err(error) => {
                        tracing::warn!(
                            { field::GROUP } = %self.name,
                            { field::PEER } = %owner.address,
                            error = &error as &dyn std::error::Error,
                            "a new owner did not take over; it will load what it is asked for"
                        );
                        break;
                    }
                }
            }
            sum
        });
        join_all(named).await.into_iter().sum()
    }

    /// What a peer answered, on this node's clock. The callee counted both durations after `sent`: counted from
    /// `sent`, the value is at least as old and expires at least as early as the callee says. It expires no later
    /// than this node's own ttl allows, should the callee have another.
    pub(super) fn aged(&self, answer: &PeerAnswer, sent: Moment) -> Fresh {
        let since = sent.saturating_sub(answer.age);
        let config = self.config.load();
        let own = match answer.value {
            Some(_) => since.saturating_add(config.ttl),
            None => sent.saturating_add(config.negative_ttl),
        };
        let until = sent.saturating_add(answer.remaining).min(own);
        Fresh { value: answer.value.clone(), since, until, window: self.window(super::Role::Owner) }
    }
}
