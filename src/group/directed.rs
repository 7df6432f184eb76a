//! Reads that say how they want to be answered: by a load whatever is in memory, or from memory and not at all else
//! (RFC 9111, section 5.2.1: `no-cache` and `only-if-cached`).

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Answer, GetError, Group, Key, PeerBatch, Position,
    asking::{ASKED_MAX, Asking},
    check_key,
};
use crate::cluster::place;

impl Group {
    /// Answers a client's read of `key` by a load that begins after this call, until `deadline`. It never joins a flight
    /// that began before; what it brings is kept for others, and ends this node's copy.
    ///
    /// Copies that other nodes hold live on for their hot ttl at most.
    ///
    /// # Errors
    /// As [`get`](Self::get); also where the origin failed and an older value is in memory.
    pub async fn fresh(self: &Arc<Self>, key: &[u8], deadline: Instant) -> Result<Answer, GetError> {
        let key = Key::new(key)?;
        let begun = self.clock.now();
        let result = self.loaded_afresh(&key, deadline).await;
        self.metrics.request(result.as_ref().ok().map(|answer| answer.outcome), self.since(begun));
        result
    }

    /// Answers another node that takes this one for the owner and asks for a load; see [`fresh`](Self::fresh).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn fresh_as_owner(
        self: &Arc<Self>,
        key: &[u8],
        deadline: Instant,
    ) -> Result<(Answer, Option<Position>), GetError> {
        check_key(key)?;
        let cursor = self.cursor();
        let answer = self.fly_as_owner(self.store.hash(key), key, true, deadline).await?;
        Ok((answer, cursor))
    }

    async fn loaded_afresh(self: &Arc<Self>, key: &Key, deadline: Instant) -> Result<Answer, GetError> {
        let hash = self.store.hash(key.as_bytes());
        let place = place(self.name.as_str(), key.as_bytes());
        let view = self.peers.views().load_full();
        let mut asked = 0;
        let in_time = || {
            let late = Instant::now() >= deadline;
            if late { Err(GetError::Deadline(self.settings.flight_timeout)) } else { Ok(()) }
        };
        for node in view.route(place) {
            if node.address == view.me().address || asked == ASKED_MAX {
                break;
            }
            if !self.peers.may_ask(node) {
                continue;
            }
            in_time()?;
            asked += 1;
            let slot = self.store.slot(hash);
            let asking = Asking::Afresh(self.need(slot));
            match self.ask_peer(&view, node, key, (hash, slot), asking, deadline).await {
                Ok(answer) => {
                    // What was copied before the load is older than what this client knows now.
                    self.store.drop_copy(hash, key.as_bytes());
                    return Ok(answer);
                }
                Err(error) => {
                    self.note_failure(node, &error);
                    if let Some(code) = error.final_code() {
                        return Err(GetError::Peer { peer: node.address.clone(), code });
                    }
                }
            }
        }
        // Nobody waits for it any longer, and a database that is too slow is not helped by one query more.
        in_time()?;
        let answer = self.fly_as_owner(hash, key.as_bytes(), true, deadline).await?;
        self.store.drop_copy(hash, key.as_bytes());
        Ok(answer)
    }

    /// Answers a client's read of `key` from this node's memory or its owner's, until `deadline`; `None` if neither has
    /// it. Nothing is loaded.
    ///
    /// # Errors
    /// If `key` is none, or the owner can't be asked.
    pub async fn in_memory(
        self: &Arc<Self>,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Option<Answer>, GetError> {
        let key = Key::new(key)?;
        if let Some(answer) = self.cached(key.as_bytes()) {
            return Ok(Some(answer));
        }
        let begun = self.clock.now();
        let found = self.in_owners_memory(&key, deadline).await;
        let outcome = found.as_ref().ok().and_then(|found| Some(found.as_ref()?.outcome));
        self.metrics.request(outcome, self.since(begun));
        found
    }

    async fn in_owners_memory(&self, key: &Key, deadline: Instant) -> Result<Option<Answer>, GetError> {
        let hash = self.store.hash(key.as_bytes());
        let place = place(self.name.as_str(), key.as_bytes());
        let view = self.peers.views().load_full();
        let others = view.route(place).take_while(|node| node.address != view.me().address);
        let Some(node) = others.into_iter().find(|node| self.peers.may_ask(node)) else { return Ok(None) };
        let (slot, sent) = (self.store.slot(hash), self.clock.now());
        let need = self.need(slot);
        let batch = PeerBatch {
            group: self.name.clone(),
            keys: vec![key.clone()],
            epoch: view.epoch(),
            budget: deadline.saturating_duration_since(Instant::now()),
            digest: self.settings.digest,
            only_cached: true,
            need,
        };
        match self.peers.get_many(node, &batch).await.map(|mut words| words.pop()) {
            Ok(Some(Ok(Some(answer)))) if self.is_usable(need, answer.cursor) => {
                Ok(Some(self.hopped(node, key, (hash, slot, need), sent, answer)))
            }
            Ok(Some(Ok(_)) | None) => Ok(None),
            Ok(Some(Err(code))) => Err(GetError::Peer { peer: node.address.clone(), code }),
            Err(error) => match error.final_code() {
                Some(code) => Err(GetError::Peer { peer: node.address.clone(), code }),
                None => Ok(None),
            },
        }
    }
}
