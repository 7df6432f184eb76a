//! Reads of one node that are under way at the same time share a message.
//!
//! A message costs a node far more than a key in it. So the first read that asks a node sends its message at once, and
//! those that come while it is under way wait for its end and go together in the next one: nothing waits where nothing
//! is under way, and the more there is to ask, the larger the messages get (group commit, as databases do it with their
//! logs).
//!
//! A message of several keys looks into the callee's memory only: what it does not have is asked for again, each key by
//! itself, so that no read waits for another one's load. A message that takes longer than [`SLOW`] no longer holds up
//! those behind it.
//!
//! Cancel safety: whoever leads a message and goes away hands the lead over; those whose keys were in the message ask by
//! themselves.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Key, PeerAnswer, PeerBatch, PeerError, PeerRequest, PeerWord, Peers, Position};
use crate::{
    cluster::{Address, Node},
    error::ErrorCode,
};

/// Keys of one message at most. Larger ones save nothing more, and delay their first answer.
const KEYS_MAX: usize = 256;
/// Messages to one node that others wait for at once.
const UNDER_WAY_MAX: usize = 1;
/// After this, a message is no longer waited for: the callee is busy with it, and may answer others sooner.
const SLOW: Duration = Duration::from_millis(2);

/// The messages of one group, by the node that they go to. A node stands in it while one is under way.
#[derive(Clone, Default)]
pub(super) struct Hops(Arc<Mutex<HashMap<Address, Queue>>>);

#[derive(Default)]
struct Queue {
    under_way: usize,
    waiting: Vec<Waiting>,
}

/// A read that goes with the next message.
struct Waiting {
    key: Key,
    need: Option<Position>,
    word: oneshot::Sender<Word>,
}

/// What a waiting read is told.
enum Word {
    /// What came back for it.
    Said(Result<PeerWord, PeerError>),
    /// It leads the next message, in which these go along.
    Lead(Lead, Vec<Waiting>),
}

/// How a read begins.
enum Begin {
    Lead(Lead),
    Wait(oneshot::Receiver<Word>),
}

/// The lead of a message. Whoever comes next begins when it is given up, or dropped on its way to somebody who is gone.
struct Lead {
    hops: Hops,
    node: Address,
    is_held: bool,
}

impl Hops {
    /// Asks `node` as owner, in a message with others if there are any.
    pub(super) async fn ask(
        &self,
        peers: &Peers,
        node: &Node,
        request: PeerRequest,
    ) -> Result<PeerAnswer, PeerError> {
        let (mut lead, others) = match self.begin(&node.address, &request) {
            Begin::Lead(lead) => (lead, Vec::new()),
            Begin::Wait(word) => match word.await {
                Ok(Word::Said(Ok(Ok(Some(answer))))) => return Ok(answer),
                Ok(Word::Said(Ok(Err(code)))) => return Err(PeerError::Refused(code)),
                Ok(Word::Said(Err(error))) if !is_the_message_s(&error) => return Err(error),
                // Not in its memory, or the message's fault.
                Ok(Word::Said(_)) | Err(_) => return peers.get(node, &request).await,
                Ok(Word::Lead(lead, others)) => (lead, others),
            },
        };
        if others.is_empty() {
            return lead.while_quick(peers.get(node, &request)).await;
        }
        let word = lead.while_quick(together(peers, node, &request, others)).await;
        drop(lead);
        match word {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Err(code)) => Err(PeerError::Refused(code)),
            Err(error) if !is_the_message_s(&error) => Err(error),
            Ok(Ok(None)) | Err(_) => peers.get(node, &request).await,
        }
    }

    fn begin(&self, node: &Address, request: &PeerRequest) -> Begin {
        let mut queues = self.0.lock();
        match queues.get_mut(node) {
            Some(queue) if queue.under_way >= UNDER_WAY_MAX => {
                let (sender, receiver) = oneshot::channel();
                queue.waiting.push(Waiting { key: request.key.clone(), need: request.need, word: sender });
                Begin::Wait(receiver)
            }
            Some(queue) => {
                queue.under_way += 1;
                Begin::Lead(self.lead(node))
            }
            None => {
                queues.insert(node.clone(), Queue { under_way: 1, waiting: Vec::new() });
                Begin::Lead(self.lead(node))
            }
        }
    }

    fn lead(&self, node: &Address) -> Lead {
        Lead { hops: self.clone(), node: node.clone(), is_held: true }
    }

    /// A message has ended: the reads that wait go with the next one, led by one of them that is still there.
    fn next(&self, node: &Address) {
        let mut queues = self.0.lock();
        let Some(queue) = queues.get_mut(node) else { return };
        let mut lead = self.lead(node);
        while !queue.waiting.is_empty() {
            let count = queue.waiting.len().min(KEYS_MAX);
            let mut batch: Vec<Waiting> = queue.waiting.drain(..count).collect();
            // From the back, so that nothing has to move.
            while let Some(Waiting { word, .. }) = batch.pop() {
                match word.send(Word::Lead(lead, batch)) {
                    // The lead goes over, and with it the place among those under way.
                    Ok(()) => return,
                    Err(Word::Lead(same, left)) => (lead, batch) = (same, left),
                    Err(Word::Said(_)) => unreachable!("what can't be sent comes back"),
                }
            }
        }
        // Nobody is left to take it. Its drop would come back here, under the lock.
        lead.is_held = false;
        queue.under_way -= 1;
        if queue.under_way == 0 {
            queues.remove(node);
        }
    }
}

impl Lead {
    /// Runs `message`, and gives the lead up when it takes too long.
    async fn while_quick<T>(&mut self, message: impl Future<Output = T>) -> T {
        let mut message = std::pin::pin!(message);
        match tokio::time::timeout(SLOW, &mut message).await {
            Ok(result) => result,
            Err(_) => {
                self.give_up();
                message.await
            }
        }
    }

    fn give_up(&mut self) {
        if std::mem::take(&mut self.is_held) {
            self.hops.next(&self.node);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Whether the node might answer each key by itself: an older version does not know messages of several, and what is too
/// large together may not be alone.
const fn is_the_message_s(error: &PeerError) -> bool {
    matches!(error, PeerError::Refused(ErrorCode::RouteNotFound | ErrorCode::TooLarge))
}

/// Sends one message for `request` and `others`, and tells the others what came back; what came back for `request`.
async fn together(
    peers: &Peers,
    node: &Node,
    request: &PeerRequest,
    others: Vec<Waiting>,
) -> Result<PeerWord, PeerError> {
    let mut keys = Vec::with_capacity(others.len() + 1);
    keys.push(request.key.clone());
    keys.extend(others.iter().map(|other| other.key.clone()));
    let batch = PeerBatch {
        group: request.group.clone(),
        keys,
        epoch: request.epoch,
        budget: request.budget,
        digest: request.digest,
        only_cached: true,
        need: Position::furthest(others.iter().map(|other| other.need).chain([request.need])),
    };
    match peers.get_many(node, &batch).await {
        Ok(words) => {
            let mut words = words.into_iter();
            let own = words.next();
            for other in others {
                // A key that found no room in the answer is asked for by itself. A read that is gone needs nothing.
                let word = words.next().unwrap_or(Ok(None));
                let _ = other.word.send(Word::Said(Ok(word)));
            }
            Ok(own.unwrap_or(Ok(None)))
        }
        Err(error) => {
            for other in others {
                let _ = other.word.send(Word::Said(Err(error.clone())));
            }
            Err(error)
        }
    }
}
