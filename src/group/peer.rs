//! The port through which a group asks another node.

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use super::{BoxFuture, GroupName, Key, Outcome, Position, Value};
use crate::{
    cluster::{Address, Epoch, Node},
    error::ErrorCode,
    telemetry::trace::TraceContext,
};

/// A read that another node is asked for as the key's owner. It is answered there, never forwarded.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    /// The group's name.
    pub group: GroupName,
    /// The key.
    pub key: Key,
    /// The epoch of the view by which the caller chose the node.
    pub epoch: Epoch,
    /// How long the callee may take.
    pub budget: Duration,
    /// The digest of the caller's definition of the group.
    pub digest: u64,
    /// Whether the callee is to load the key whatever it has in memory.
    pub is_fresh: bool,
    /// Up to where the callee must have applied the log of changes before it answers; `None` without a log.
    pub need: Option<Position>,
    /// The span that asks.
    pub trace: Option<TraceContext>,
}

/// Reads that another node is asked for together, as the keys' owner.
#[derive(Clone, Debug)]
pub struct PeerBatch {
    /// The group's name.
    pub group: GroupName,
    /// The keys, at most [`HANDOVER_KEYS_MAX`], each once.
    pub keys: Vec<Key>,
    /// The epoch of the view by which the caller chose the node.
    pub epoch: Epoch,
    /// How long the callee may take.
    pub budget: Duration,
    /// The digest of the caller's definition of the group.
    pub digest: u64,
    /// Whether the callee is to answer from memory only.
    pub only_cached: bool,
    /// As in [`PeerRequest`]; what the key asks for that asks for most.
    pub need: Option<Position>,
}

/// What a node says of one key of a [`PeerBatch`]: its answer; `None` if it was to look into memory only, where there is
/// nothing; or why there is no answer.
pub type PeerWord = Result<Option<PeerAnswer>, ErrorCode>;

/// What a node answered as owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// The value; `None` if the origin has no such key.
    pub value: Option<Value>,
    /// Where the callee had it from.
    pub outcome: Outcome,
    /// How old it may be, counted at the callee when it answered.
    pub age: Duration,
    /// How long it may still be served, counted at the callee when it answered.
    pub remaining: Duration,
    /// The digest of the callee's definition of the group. The caller may keep the value only if it is
    /// equal to its own.
    pub digest: u64,
    /// Up to where the callee had applied the log of changes before it looked for the answer; `None` without a log. The
    /// caller may use the answer only if that is as far as it asked for.
    pub cursor: Option<Position>,
}

/// A look at what another node has of several keys in memory.
#[derive(Clone, Debug)]
pub struct PeekMany {
    /// The group's name.
    pub group: GroupName,
    /// The keys; at most [`HANDOVER_KEYS_MAX`].
    pub keys: Vec<Key>,
    /// How long the callee may take.
    pub budget: Duration,
}

/// Which keys an invalidation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These keys.
    Keys(Vec<Key>),
    /// Every key that begins with these bytes; all keys if there are none.
    Prefix(Vec<u8>),
}

/// Drops keys at another node. It may come twice; the second time there is nothing left to drop, but what is
/// under way there is kept out once more. Where there is a log of changes it is a hint that wakes its reader, which
/// sees the change by itself too.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// The group's name.
    pub group: GroupName,
    /// Which keys.
    pub selection: Selection,
    /// Up to where the callee is to apply the log of changes before it acknowledges.
    pub position: Option<Position>,
    /// How long the callee may take.
    pub budget: Duration,
}

/// The names of keys that a leaving node held, for their new owner, which fetches them by
/// [`PeerTransport::peek_many`] under its own fence. Values are never pushed.
#[derive(Clone, Debug)]
pub struct Handover {
    /// The group's name.
    pub group: GroupName,
    /// Who leaves, and can be peeked at until it is gone.
    pub from: Address,
    /// The keys, hottest first; at most [`HANDOVER_KEYS_MAX`].
    pub keys: Vec<Key>,
    /// How long the callee may take to fetch them.
    pub budget: Duration,
}

/// The most keys that one [`PeerBatch`], [`Handover`], [`PeekMany`] or [`Invalidation`] names.
pub const HANDOVER_KEYS_MAX: usize = 1_000;

/// After so many bytes of values the answer to a [`PeerBatch`] or [`PeekMany`] ends.
pub const PEEKED_BYTES_MAX: usize = 1 << 20;

/// Why a peer gave no answer.
#[derive(Clone, Debug, Error)]
pub enum PeerError {
    /// No connection, or it broke. The node may be down.
    #[error("the peer can't be reached")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The peer was silent for too long. The node may be paused.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
    /// The peer answered with an error.
    #[error("the peer answered {}", .0.as_str())]
    Refused(ErrorCode),
    /// The peer answered in the protocol, and said what this version does not know: it is of a newer one, and well.
    #[error("the peer answered what this version does not know: {0}")]
    Unknown(String),
    /// The peer's answer is none of the protocol's. Something else may listen there.
    #[error("the peer's answer is malformed: {0}")]
    Malformed(String),
}

impl PeerError {
    /// A broken connection, with its cause.
    pub fn unreachable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreachable(Arc::from(source.into()))
    }

    /// Whether the peer gave an answer, and so is there.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unknown(_))
    }

    /// The label in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Silent(_) => "silent",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
            Self::Malformed(_) => "malformed",
        }
    }

    /// The code to answer with, if the peer spoke for the group: nobody else is to be asked then, since
    /// a database that failed for the owner is not helped by more queries. `None` if another node may
    /// do better.
    pub const fn final_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(
                code @ (ErrorCode::OriginUnavailable
                | ErrorCode::OriginBusy
                | ErrorCode::DeadlineExceeded
                | ErrorCode::Overloaded
                | ErrorCode::TooLarge),
            ) => Some(*code),
            _ => None,
        }
    }
}

/// Speaks to other nodes. Implementations pool connections; none of them retries by itself.
///
/// Cancel safety: a dropped future abandons the request; the callee may go on with it.
pub trait PeerTransport: Send + Sync + 'static {
    /// Asks `node` for a key as its owner.
    ///
    /// # Errors
    /// See [`PeerError`]. The request's budget bounds the wait; silence is an error only after it.
    fn get<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<PeerAnswer, PeerError>>;

    /// Asks `node` for several keys as their owner, which it reads by one query as far as it has to. The answers are
    /// those of the first keys, in their order: fewer than were asked for where the values of all would have more
    /// than [`PEEKED_BYTES_MAX`] bytes, but one at least.
    ///
    /// # Errors
    /// As [`get`](Self::get). [`ErrorCode::RouteNotFound`] from a node of an older version.
    fn get_many<'a>(
        &'a self,
        node: &'a Node,
        batch: &'a PeerBatch,
    ) -> BoxFuture<'a, Result<Vec<PeerWord>, PeerError>>;

    /// Asks `node` for what it has of a key in memory, and nothing else: it loads nothing and counts nothing.
    /// `None` if it has nothing.
    ///
    /// # Errors
    /// As [`get`](Self::get). [`ErrorCode::RouteNotFound`] from a node of an older version.
    fn peek<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<Option<PeerAnswer>, PeerError>>;

    /// As [`peek`](Self::peek), for several keys at once. The answers are those of the first keys, in their order:
    /// fewer than were asked for where the values of all would have more than [`PEEKED_BYTES_MAX`] bytes, but
    /// one at least.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    fn peek_many<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeekMany,
    ) -> BoxFuture<'a, Result<Vec<Option<PeerAnswer>>, PeerError>>;

    /// Drops keys at `node`, and there only. How many entries there were.
    ///
    /// # Errors
    /// As [`get`](Self::get). Without an `Ok` nothing is known of whether the keys were dropped.
    fn invalidate<'a>(
        &'a self,
        node: &'a Node,
        invalidation: &'a Invalidation,
    ) -> BoxFuture<'a, Result<u64, PeerError>>;

    /// Names keys to their new owner. How many it has fetched and kept.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn handover<'a>(
        &'a self,
        node: &'a Node,
        handover: &'a Handover,
    ) -> BoxFuture<'a, Result<u64, PeerError>>;

    /// Asks `node` for a sign of life, to tell a slow load from a dead or paused node.
    ///
    /// # Errors
    /// [`PeerError::Silent`] after `patience`, or as [`get`](Self::get).
    fn ping<'a>(&'a self, node: &'a Node, patience: Duration) -> BoxFuture<'a, Result<(), PeerError>>;
}

/// The transport of a node that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl NoPeers {
    fn nobody<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, PeerError>> {
        Box::pin(async { Err(PeerError::unreachable("this node has no transport")) })
    }
}

impl PeerTransport for NoPeers {
    fn get<'a>(&'a self, _: &'a Node, _: &'a PeerRequest) -> BoxFuture<'a, Result<PeerAnswer, PeerError>> {
        Self::nobody()
    }

    fn get_many<'a>(
        &'a self,
        _: &'a Node,
        _: &'a PeerBatch,
    ) -> BoxFuture<'a, Result<Vec<PeerWord>, PeerError>> {
        Self::nobody()
    }

    fn peek<'a>(
        &'a self,
        _: &'a Node,
        _: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<Option<PeerAnswer>, PeerError>> {
        Self::nobody()
    }

    fn peek_many<'a>(
        &'a self,
        _: &'a Node,
        _: &'a PeekMany,
    ) -> BoxFuture<'a, Result<Vec<Option<PeerAnswer>>, PeerError>> {
        Self::nobody()
    }

    fn invalidate<'a>(&'a self, _: &'a Node, _: &'a Invalidation) -> BoxFuture<'a, Result<u64, PeerError>> {
        Self::nobody()
    }

    fn handover<'a>(&'a self, _: &'a Node, _: &'a Handover) -> BoxFuture<'a, Result<u64, PeerError>> {
        Self::nobody()
    }

    fn ping<'a>(&'a self, _: &'a Node, _: Duration) -> BoxFuture<'a, Result<(), PeerError>> {
        Self::nobody()
    }
}
