//! The client's side of a read: asks other nodes for what they own.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Answer, GetError, Group, Hop, Key, Landing, Outcome, PeerAnswer, PeerError, PeerRequest,
    fence::SlotState, store::Fresh,
};
use crate::{
    cluster::{Node, View, place},
    telemetry::{
        field,
        trace::{self, TraceContext},
    },
    time::Moment,
};

/// How many other nodes a request is sent to before this one reads the origin itself.
pub(super) const ASKED_MAX: usize = 2;

impl Group {
    /// A client-side flight: asks the owner, then its successor, then the origin. Nodes that are known to be down
    /// are passed over.
    pub(super) async fn ask(
        self: &Arc<Self>,
        key: &Key,
        hash: u64,
        slot: SlotState,
        deadline: Instant,
    ) -> Landing {
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
            match self.ask_peer(&view, node, key, hash, slot, false, deadline).await {
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
        self.fly_as_owner(hash, key.as_bytes(), false, deadline).await
    }

    #[expect(clippy::too_many_arguments, reason = "each is one thing, and there is one caller of each kind")]
    pub(super) async fn ask_peer(
        &self,
        view: &View,
        node: &Node,
        key: &Key,
        hash: u64,
        slot: SlotState,
        is_fresh: bool,
        deadline: Instant,
    ) -> Result<Answer, PeerError> {
        let sent = self.clock.now();
        let trace = trace::current();
        let request = PeerRequest {
            group: self.name.clone(),
            key: key.clone(),
            epoch: view.epoch(),
            budget: deadline.saturating_duration_since(Instant::now()),
            digest: self.settings.digest,
            is_fresh,
            trace,
        };
        let answer = if is_fresh || trace.is_some_and(TraceContext::is_sampled) {
            trace::spanned("hop", self.ask_alone(node, request)).await?
        } else {
            self.hops.ask(&self.peers, node, request).await?
        };
        Ok(self.hopped(node, key, hash, slot, sent, answer))
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
        hash: u64,
        slot: SlotState,
        sent: Moment,
        answer: PeerAnswer,
    ) -> Answer {
        let fresh = self.aged(&answer, sent);
        if answer.digest == self.settings.digest {
            self.store.keep_copy(hash, key, fresh.clone(), self.clock.now(), slot);
        }
        let hop = Some(Arc::new(Hop { peer: node.address.clone(), outcome: answer.outcome }));
        let Fresh { value, since, until } = fresh;
        Answer { value, outcome: Outcome::Peer, since, until, collapsed: false, hop }
    }
}
