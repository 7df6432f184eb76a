//! Writes: what changes the origin through a group, and how every node hears of it.
//!
//! The node that is asked for a write executes it, whoever owns the key: the origin's own transaction orders the writes of
//! a key. The log of changes gets a row in that transaction, so that a write needs nothing more to be seen everywhere
//! within the bound; this node then looks at the log, to answer with the position up to which it must be
//! read to see the write, and hints to the others, so that they look at once.
//!
//! Writes of one key that one node was asked for run one after another, in the order in which they came: one whose client
//! has given up does not end after one that came later.

use std::{
    collections::{HashMap, hash_map::Entry},
    error::Error as StdError,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use super::{
    BoxFuture, Group, Invalidation, Key, KeyError, LoadError, Position, Selection, Value, check_key,
    metrics::Source,
};
use crate::error::ErrorCode;

/// Changes the remote system that a group stands in front of.
///
/// Cancel safety: a write that is dropped may have been carried out or not.
pub trait Writer: Send + Sync + 'static {
    /// Carries `write` out if `condition` holds, in one transaction, together with the row of the log by which everybody
    /// hears of it.
    ///
    /// # Errors
    /// See [`WriteError`]; but for [`WriteError::Unknown`], nothing has changed then.
    fn write<'a>(
        &'a self,
        key: &'a Key,
        write: &'a Write,
        condition: Option<&'a Condition>,
    ) -> BoxFuture<'a, Result<Written, WriteError>>;
}

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets its value, which is written as it would be read.
    Put(Bytes),
    /// Removes it.
    Delete,
}

/// What has become of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done.
    Done,
    /// There was nothing to remove.
    Absent,
}

/// What the present value has to be like for a write to be carried out.
#[derive(Clone)]
pub struct Condition(Arc<Holds>);

type Holds = dyn Fn(Option<&Value>) -> bool + Send + Sync;

impl Condition {
    /// One that holds if `holds` says so of the present value, or of there being none.
    pub fn new(holds: impl Fn(Option<&Value>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Whether it holds.
    pub fn holds(&self, present: Option<&Value>) -> bool {
        (self.0)(present)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").finish_non_exhaustive()
    }
}

/// Why a write was not carried out.
#[derive(Clone, Debug, Error)]
pub enum WriteError {
    /// The bytes are not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The group is read only.
    #[error("the group is not writable")]
    ReadOnly,
    /// The table is in no log of changes, so that nobody would hear of the write.
    #[error("the group's table has no triggers for its changes; `ggcache changes install` makes them")]
    Unlogged,
    /// The value is none that the columns can hold.
    #[error("{0}")]
    Malformed(String),
    /// The condition does not hold.
    #[error("the value is not what the request's condition asks for")]
    Condition,
    /// The origin does not allow the row: a constraint, a column without a default.
    #[error("the database does not accept the row")]
    Refused(#[source] Arc<dyn StdError + Send + Sync>),
    /// Nothing was written.
    #[error("nothing was written")]
    Failed(#[source] LoadError),
    /// The origin did not say whether it was written.
    #[error("the database did not say whether it was written; read the key to see")]
    Unknown(#[source] LoadError),
    /// The same, because the time is up.
    #[error("no answer within {0:?}; it may still be written, read the key to see")]
    Deadline(Duration),
    /// A limit of the group is reached.
    #[error("{0} writes are under way, and no more are admitted")]
    Overloaded(usize),
    /// The node stopped.
    #[error("the node is stopping; it may still be written, read the key to see")]
    ShuttingDown,
}

impl WriteError {
    /// The origin did not allow the row, for a reason that is for the log.
    pub fn refused(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Refused(Arc::from(source.into()))
    }

    /// The code that an answer carries for this error.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Key(_) | Self::Malformed(_) => ErrorCode::BadRequest,
            Self::ReadOnly => ErrorCode::MethodNotAllowed,
            Self::Condition => ErrorCode::PreconditionFailed,
            Self::Refused(_) => ErrorCode::Conflict,
            Self::Failed(error) => error.code(),
            Self::Unlogged | Self::Unknown(_) => ErrorCode::OriginUnavailable,
            Self::Deadline(_) => ErrorCode::DeadlineExceeded,
            Self::Overloaded(_) => ErrorCode::Overloaded,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
        }
    }
}

/// A write that is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What has become of it.
    pub written: Written,
    /// Where in the log it is at the latest: who reads at this position sees it. `None` if the log could not be looked at
    /// since: the write is carried out, and seen everywhere within the bound.
    pub position: Option<Position>,
}

/// Writes of a group at a node at once, those that wait for another one of their key included.
const WRITES_MAX: usize = 1_024;
/// Writes that are hinted to the other nodes at once. Beyond them, the nodes' own looks at the log have to do.
const HINTS_MAX: usize = 64;
const HINT_BUDGET: Duration = Duration::from_millis(250);

/// The writes that are under way, by key.
#[derive(Default)]
pub(super) struct Writes {
    by_key: Mutex<HashMap<Key, Turn>>,
    count: AtomicUsize,
    hints: AtomicUsize,
}

/// Whose turn it is of the writes of one key: the lock is fair.
struct Turn {
    lock: Arc<tokio::sync::Mutex<()>>,
    writes: usize,
}

/// A write's place among those of its key.
struct Place {
    writes: Arc<Writes>,
    key: Key,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Writes {
    fn enter(self: &Arc<Self>, key: &Key) -> Result<Place, WriteError> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= WRITES_MAX {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(WriteError::Overloaded(WRITES_MAX));
        }
        let mut by_key = self.by_key.lock();
        let turn = by_key.entry(key.clone()).or_insert_with(|| Turn { lock: Arc::default(), writes: 0 });
        turn.writes += 1;
        Ok(Place { writes: Arc::clone(self), key: key.clone(), lock: Arc::clone(&turn.lock) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.writes.count.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut turn) = self.writes.by_key.lock().entry(self.key.clone()) {
            turn.get_mut().writes -= 1;
            if turn.get().writes == 0 {
                turn.remove();
            }
        }
    }
}

impl Group {
    /// Whether the group takes writes.
    pub const fn is_writable(&self) -> bool {
        self.writer.is_some()
    }

    /// Carries `write` out if `condition` holds, and answers when it is committed and this node has applied it, at
    /// the latest at `deadline`.
    ///
    /// Cancel safe: a write that has begun goes on, and is told to the other nodes.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(
        self: &Arc<Self>,
        key: &[u8],
        write: Write,
        condition: Option<Condition>,
        deadline: Instant,
    ) -> Result<Committed, WriteError> {
        check_key(key)?;
        let key = Key::new(key)?;
        let writer = self.writer.clone().ok_or(WriteError::ReadOnly)?;
        if !self.is_logged() {
            return Err(WriteError::Unlogged);
        }
        let place = self.writes.enter(&key)?;
        let (done, result) = tokio::sync::oneshot::channel();
        let group = Arc::clone(self);
        self.tasks.spawn(async move {
            // Nobody waits any more where the client has gone.
            let _ = done.send(group.write_in_turn(&key, &*writer, write, condition, place, deadline).await);
        });
        let patience = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout_at(deadline, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(WriteError::ShuttingDown),
            Err(_) => Err(WriteError::Deadline(patience)),
        }
    }

    async fn write_in_turn(
        self: &Arc<Self>,
        key: &Key,
        writer: &dyn Writer,
        write: Write,
        condition: Option<Condition>,
        place: Place,
        deadline: Instant,
    ) -> Result<Committed, WriteError> {
        let turn = tokio::time::timeout_at(deadline, place.lock.lock()).await;
        // Nobody waits for it any longer, and it has not begun.
        let Ok(_turn) = turn else {
            return Err(WriteError::Failed(LoadError::Busy(1)));
        };
        let result = writer.write(key, &write, condition.as_ref()).await;
        if !matches!(result, Ok(Written::Done) | Err(WriteError::Unknown(_))) {
            return result.map(|written| Committed { written, position: self.cursor() });
        }
        // What may have been written is dropped here at once.
        let selection = Selection::Keys(vec![key.clone()]);
        self.metrics.invalidated(Source::Local);
        let now = self.clock.now();
        self.store.invalidate(&selection, now);
        let position = match self.log() {
            Some(log) => log.cell.look_now(now, deadline).await,
            None => None,
        };
        self.hint(selection);
        result.map(|written| Committed { written, position })
    }

    /// Tells the other nodes that keys have changed, as far as it goes: they see it by themselves within the bound.
    fn hint(self: &Arc<Self>, selection: Selection) {
        let hints = &self.writes.hints;
        if hints.fetch_add(1, Ordering::Relaxed) >= HINTS_MAX {
            hints.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let group = Arc::clone(self);
        self.tasks.spawn(async move {
            let view = group.peers.views().load_full();
            let hint =
                Invalidation { group: group.name.clone(), selection, position: None, budget: HINT_BUDGET };
            let peers = view.peers().filter(|node| !group.peers.is_ejected(&node.address));
            // Who does not hear of it looks at the log by itself.
            join_all(peers.map(|node| async { group.peers.hint(node, &hint).await })).await;
            group.writes.hints.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests;
