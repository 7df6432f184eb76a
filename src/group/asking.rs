//! The client's side of a read: asks other nodes for what they own.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Answer, GetError, Group, Hop, Key, Landing, Outcome, PeerAnswer, PeerError, PeerRequest, Position,
    fence::SlotState,
    flight::Start,
    omit::{Step, omitted, seam},
    store::Fresh,
};
use crate::{
    cluster::{Node, View, place},
    error::ErrorCode,
    telemetry::{
        field,
        trace::{self, TraceContext},
    },
    time::Moment,
};

/// How many other nodes a request is sent to before this one reads the origin itself.
pub(super) const ASKED_MAX: usize = 2;

/// How a peer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asking {
    /// For what it has applied the log far enough for.
    Within(Option<Position>),
    /// For a load. A copy of the answer is held to the same.
    Afresh(Option<Position>),
}

/// What a peer's answer is worth that has not applied the log far enough: another one may do better.
pub(super) const fn behind() -> PeerError {
    PeerError::Refused(ErrorCode::PeerUnavailable)
}

impl Group {
    /// A client-side flight: asks the owner, then its successor, then the origin. Nodes that are known to be down
    /// are passed over.
    pub(super) async fn ask(
        self: &Arc<Self>,
        key: &Key,
        hash: u64,
        Start { slot, is_fresh }: Start,
        deadline: Instant,
    ) -> Landing {
        let place = place(self.name.as_str(), key.as_bytes());
        let view = self.peers.views().load_full();
        seam().await;
        let need = self.need(slot);
        let asking = if is_fresh { Asking::Afresh(need) } else { Asking::Within(need) };
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
            match self.ask_peer(&view, node, key, (hash, slot), asking, deadline).await {
                Ok(answer) => return Ok(answer),
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
        // Through the owner's map, where this node may hold a flight of the key for others already.
        self.fly_as_owner(hash, key.as_bytes(), is_fresh, deadline).await
    }

    /// Asks `node` as owner of a key whose slot was in the state `slot`.
    pub(super) async fn ask_peer(
        &self,
        view: &View,
        node: &Node,
        key: &Key,
        (hash, slot): (u64, SlotState),
        asking: Asking,
        deadline: Instant,
    ) -> Result<Answer, PeerError> {
        let is_fresh = matches!(asking, Asking::Afresh(_));
        let sent = self.clock.now();
        let trace = trace::current();
        let request = PeerRequest {
            group: self.name.clone(),
            key: key.clone(),
            epoch: view.epoch(),
            budget: deadline.saturating_duration_since(Instant::now()),
            digest: self.settings.digest,
            is_fresh,
            need: match asking {
                Asking::Within(need) if !omitted(Step::NeedInRequest) => need,
                _ => None,
            },
            trace,
        };
        let answer = if is_fresh || trace.is_some_and(TraceContext::is_sampled) {
            trace::spanned("hop", self.ask_alone(node, request)).await?
        } else {
            self.hops.ask(&self.peers, node, request).await?
        };
        let need = match asking {
            Asking::Within(need) if !self.is_usable(need, answer.cursor) => return Err(behind()),
            // A load that begins after the question brings nothing older than the database has.
            Asking::Within(need) | Asking::Afresh(need) => need,
        };
        Ok(self.hopped(node, key, (hash, slot, need), sent, answer))
    }

    /// A message of its own, in the span that is the present one when it is sent.
    async fn ask_alone(&self, node: &Node, request: PeerRequest) -> Result<PeerAnswer, PeerError> {
        self.peers.get(node, &PeerRequest { trace: trace::current(), ..request }).await
    }

    pub(super) fn note_failure(&self, node: &Node, error: &PeerError) {
        tracing::debug!(
            { field::GROUP } = %self.name,
            { field::PEER } = %node.address,
            error = error as &dyn std::error::Error,
            "the peer gave no answer"
        );
    }

    /// What `node` answered to a question that was sent at `sent`; a copy is kept if the key is in demand.
    pub(super) fn hopped(
        &self,
        node: &Node,
        key: &Key,
        (hash, slot, need): (u64, SlotState, Option<Position>),
        sent: Moment,
        answer: PeerAnswer,
    ) -> Answer {
        let fresh = self.aged(&answer, sent);
        let kept = self.is_keepable(hash, answer.digest, need, answer.cursor)
            && self.store.keep_copy(hash, key, fresh.clone(), self.clock.now(), slot);
        if !kept {
            self.store.end_copy(hash, key.as_bytes());
        }
        let hop = Some(Arc::new(Hop { peer: node.address.clone(), outcome: answer.outcome }));
        let Fresh { value, since, until, window: _ } = fresh;
        Answer { value, outcome: Outcome::Peer, since, until, collapsed: false, hop }
    }
}
