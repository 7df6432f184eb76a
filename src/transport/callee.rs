//! What a node does when another one asks, whatever protocol the question came by.
//!
//! Each transport's service reads a request from its wire, calls one of these, and writes the answer back.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::ViewCell,
    error::ErrorCode,
    group::{
        Answer, Group, Groups, HANDOVER_KEYS_MAX, Handover, Invalidation, Key, PEEKED_BYTES_MAX, PeerAnswer,
        PeerWord, Position, Selection, check_key,
    },
    telemetry::{NodeMetrics, field},
};

/// A node's groups, as its peers may use them.
#[derive(Clone, Debug)]
pub(super) struct Callee {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    metrics: NodeMetrics,
    /// The longest budget that a caller is given.
    timeout_max: Duration,
}

/// Why a peer's request was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CalleeError {
    pub(super) code: ErrorCode,
    pub(super) detail: String,
}

/// How a caller wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// From where the log of changes is applied up to here.
    Within(Option<Position>),
    /// By a load, whatever is in memory.
    Afresh,
}

impl How {
    pub(super) const fn new(is_fresh: bool, need: Option<Position>) -> Self {
        if is_fresh { Self::Afresh } else { Self::Within(need) }
    }
}

/// What is said of several keys.
#[derive(Debug)]
pub(super) struct Told {
    /// The digest of the group's definition.
    pub(super) digest: u64,
    /// Up to where the log was applied before the look.
    pub(super) cursor: Option<Position>,
    pub(super) words: Vec<PeerWord>,
}

impl CalleeError {
    pub(super) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl Callee {
    pub(super) const fn new(
        groups: Arc<Groups>,
        views: Arc<ViewCell>,
        metrics: NodeMetrics,
        timeout_max: Duration,
    ) -> Self {
        Self { groups, views, metrics, timeout_max }
    }

    /// Answers as owner. `epoch` is the caller's, as 16 hex digits.
    pub(super) async fn get(
        &self,
        group: &str,
        key: &[u8],
        budget: Option<Duration>,
        epoch: Option<&str>,
        how: How,
    ) -> Result<PeerAnswer, CalleeError> {
        let group = self.target(group, key)?;
        self.note_epoch(epoch);
        self.check_view()?;
        let deadline = Instant::now() + self.budget(budget);
        let result = match how {
            How::Afresh => group.fresh_as_owner(key, deadline).await,
            How::Within(need) => group.get_as_owner(key, need, deadline).await,
        };
        self.metrics.peer_served(result.is_ok());
        result.map(|(answer, cursor)| told(&group, answer, cursor)).map_err(|error| {
            tracing::debug!(
                { field::GROUP } = %group.name(),
                error = &error as &dyn std::error::Error,
                "a peer's request failed"
            );
            CalleeError::new(error.code(), error.to_string())
        })
    }

    /// Answers as owner of several keys: of the first ones, as many as a message may hold.
    pub(super) async fn get_many(
        &self,
        group: &str,
        keys: &[Key],
        only_cached: bool,
        need: Option<Position>,
        budget: Duration,
        epoch: &str,
    ) -> Result<Told, CalleeError> {
        let group = self.group(group)?;
        check_count(keys.len())?;
        self.note_epoch(Some(epoch));
        self.check_view()?;
        let deadline = Instant::now() + self.budget(Some(budget));
        let (cursor, results) = group
            .get_many_as_owner(keys, only_cached, need, deadline)
            .await
            .map_err(|error| CalleeError::new(error.code(), error.to_string()))?;
        let mut words: Vec<PeerWord> = Vec::with_capacity(results.len());
        let mut bytes = 0;
        for result in results {
            let word = result.map(|answer| answer.map(|answer| told(&group, answer, cursor)));
            let value = word.as_ref().ok().and_then(|word| word.as_ref()?.value.as_ref());
            bytes += value.map_or(0, |value| value.bytes().len());
            if bytes > PEEKED_BYTES_MAX && !words.is_empty() {
                break;
            }
            if !matches!(word, Ok(None)) {
                self.metrics.peer_served(word.is_ok());
            }
            words.push(word.map_err(|error| error.code()));
        }
        Ok(Told { digest: group.digest(), cursor, words })
    }

    /// Whether this node knows the others; else it would load what they own.
    fn check_view(&self) -> Result<(), CalleeError> {
        if !self.views.is_provisional() {
            return Ok(());
        }
        // Not a code that would be final: the caller goes on to the next node.
        let detail = "the node is starting, and does not know the other nodes yet";
        Err(CalleeError::new(ErrorCode::PeerUnavailable, detail))
    }

    /// What is in memory.
    pub(super) fn peek(&self, group: &str, key: &[u8]) -> Result<Option<PeerAnswer>, CalleeError> {
        let group = self.target(group, key)?;
        let cursor = group.cursor();
        Ok(group.peek(key).map(|answer| told(&group, answer, cursor)))
    }

    /// What is in memory of several keys: of the first ones, as many as a message may hold.
    pub(super) fn peek_many(
        &self,
        group: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<PeerAnswer>>, CalleeError> {
        let group = self.group(group)?;
        check_count(keys.len())?;
        let cursor = group.cursor();
        let mut answers = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for key in keys {
            let answer = group.peek(key.as_bytes()).map(|answer| told(&group, answer, cursor));
            bytes += answer
                .as_ref()
                .and_then(|answer| answer.value.as_ref())
                .map_or(0, |value| value.bytes().len());
            if bytes > PEEKED_BYTES_MAX && !answers.is_empty() {
                break;
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Drops keys here; where a position of the log is named, when the log is applied so far.
    pub(super) async fn invalidate(&self, invalidation: &Invalidation) -> Result<u64, CalleeError> {
        let group = self.group(invalidation.group.as_str())?;
        if let Selection::Keys(keys) = &invalidation.selection {
            check_count(keys.len())?;
        }
        let selection = &invalidation.selection;
        let Some(position) = invalidation.position else { return Ok(group.invalidate_for_peer(selection)) };
        let deadline = Instant::now() + self.budget(Some(invalidation.budget));
        let applied = group.invalidate_by_log(selection, position, deadline).await;
        applied.map_err(|error| CalleeError::new(error.code(), error.to_string()))
    }

    /// Fetches keys from a node that leaves; how many were kept.
    pub(super) async fn handover(&self, handover: Handover) -> Result<u64, CalleeError> {
        let group = self.group(handover.group.as_str())?;
        check_count(handover.keys.len())?;
        let budget = self.budget(Some(handover.budget));
        match tokio::time::timeout(budget, group.accept_handover(&handover.from, handover.keys)).await {
            Ok(Some(kept)) => Ok(kept),
            Ok(None) => {
                let detail = format!("{} is no node that this one knows", handover.from);
                Err(CalleeError::new(ErrorCode::BadRequest, detail))
            }
            Err(_) => {
                Err(CalleeError::new(ErrorCode::DeadlineExceeded, format!("not done within {budget:?}")))
            }
        }
    }

    fn target(&self, group: &str, key: &[u8]) -> Result<Arc<Group>, CalleeError> {
        check_key(key).map_err(|error| CalleeError::new(ErrorCode::BadRequest, error.to_string()))?;
        self.group(group)
    }

    fn group(&self, name: &str) -> Result<Arc<Group>, CalleeError> {
        self.groups
            .get(name)
            .ok_or_else(|| CalleeError::new(ErrorCode::GroupNotFound, "this node has no group of that name"))
    }

    /// How long a caller is given that asks for so much.
    pub(super) fn budget(&self, asked: Option<Duration>) -> Duration {
        asked.map_or(self.timeout_max, |asked| asked.min(self.timeout_max))
    }

    /// Views may differ for moments; that it happened helps who looks for why a key was loaded twice.
    fn note_epoch(&self, theirs: Option<&str>) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let mine = self.views.load().epoch().to_string();
        if let Some(theirs) = theirs.filter(|theirs| *theirs != mine) {
            tracing::debug!({ field::RING_EPOCH } = mine, theirs, "a peer has another view");
        }
    }
}

fn check_count(count: usize) -> Result<(), CalleeError> {
    if count <= HANDOVER_KEYS_MAX {
        return Ok(());
    }
    let detail = format!("{count} keys, and a message names at most {HANDOVER_KEYS_MAX}");
    Err(CalleeError::new(ErrorCode::TooLarge, detail))
}

/// An answer with its times as durations, which is how they cross the wire.
fn told(group: &Group, answer: Answer, cursor: Option<Position>) -> PeerAnswer {
    let now = group.now();
    PeerAnswer {
        age: answer.age(now),
        remaining: answer.remaining(now),
        outcome: answer.outcome,
        digest: group.digest(),
        cursor,
        value: answer.value,
    }
}
