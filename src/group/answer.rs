//! What a group answers, and why it did not.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use thiserror::Error;

use super::{KeyError, LoadError, Value};
use crate::{cluster::Address, error::ErrorCode, time::Moment};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// This node's main cache.
    Hit,
    /// This node's copy of another owner's key.
    HotHit,
    /// This node's main cache, past the ttl and within a window that the group allows.
    Stale,
    /// A negative entry of this node: the origin said within the negative ttl that there is no such key.
    Negative,
    /// Another node, asked as owner.
    Peer,
    /// The origin, asked by this node.
    Load,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [Self::Hit, Self::HotHit, Self::Stale, Self::Negative, Self::Peer, Self::Load];

    /// The name in metrics, logs and the peer protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::HotHit => "hot_hit",
            Self::Stale => "stale",
            Self::Negative => "negative",
            Self::Peer => "peer",
            Self::Load => "load",
        }
    }

    /// Whether the answer came from memory.
    pub const fn is_cached(self) -> bool {
        matches!(self, Self::Hit | Self::HotHit | Self::Stale | Self::Negative)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an outcome")]
pub struct UnknownOutcome;

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(name: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name).ok_or(UnknownOutcome)
    }
}

/// The answer to a read: a value, or the fact that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The value; `None` if the origin has no such key.
    pub value: Option<Value>,
    /// Where it came from, as seen by this node.
    pub outcome: Outcome,
    /// When the load that brought it began: it is no older than that.
    pub since: Moment,
    /// Until when it may be served from memory. In the past if it may not be kept at all.
    pub until: Moment,
    /// Whether the request waited for a flight that another request had begun.
    pub collapsed: bool,
    /// What the node that was asked as owner did, for an answer with [`Outcome::Peer`].
    pub hop: Option<Arc<Hop>>,
}

/// The owner's part in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Who was asked.
    pub peer: Address,
    /// Where that node had the answer from.
    pub outcome: Outcome,
}

impl Answer {
    /// How old the value may be at `now`.
    pub const fn age(&self, now: Moment) -> Duration {
        now.saturating_since(self.since)
    }

    /// How long it may still be served at `now`.
    pub const fn remaining(&self, now: Moment) -> Duration {
        self.until.saturating_since(now)
    }
}

/// Why a group gave no answer. Cheap to clone: every waiter of a flight gets one.
#[derive(Clone, Debug, Error)]
pub enum GetError {
    /// The bytes are not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The origin was asked by this node and brought nothing.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The owner answered with an error.
    #[error("{peer} answered {}", .code.as_str())]
    Peer { peer: Address, code: ErrorCode },
    /// The request's time was up.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The values that were asked for together are too large together; others of them were answered.
    #[error("the values have more than {0} bytes together; ask for this key by itself")]
    TooLargeTogether(usize),
    /// A limit of the group is reached.
    #[error("{limit} {what} are under way, and no more are admitted")]
    Overloaded { what: &'static str, limit: usize },
    /// Another node asked for an answer by a log of changes that this node has not applied so far.
    #[error("this node has not applied the log of changes as far as it was asked to")]
    Behind,
    /// The node stopped before there was an answer.
    #[error("the node is stopping")]
    ShuttingDown,
}

impl GetError {
    /// The code that an answer carries for this error.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Key(_) => ErrorCode::BadRequest,
            Self::Load(error) => error.code(),
            Self::Peer { code, .. } => *code,
            Self::Deadline(_) => ErrorCode::DeadlineExceeded,
            Self::TooLargeTogether(_) => ErrorCode::TooLarge,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            // Another node, or the database, may do better.
            Self::Behind => ErrorCode::PeerUnavailable,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
        }
    }
}
