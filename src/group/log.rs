//! How far a node has come in a database's log of changes, as its groups see it.
//!
//! A database whose tables carry our triggers has one log: every change has a sequence number, and the numbers are the
//! order in which changes were committed. Somebody outside (`changes`) reads the log, has each group
//! [apply](super::Group::apply) every row, and only then moves the [`LogCell`] on. A group asks the cell two
//! things: up to where the rows are applied ([`LogCell::cursor`]), and since when at the latest that is known to be all
//! there was ([`LogCell::fresh_at`]).
//!
//! Invariants: the cursor moves only after every row up to it is applied in every group of the database; `fresh_at` is
//! a moment before the look at the database that found nothing more. Both only grow while the log is the same; where it is
//! begun anew there is no cursor until every group is reset. A log
//! that is another one (a restored database) has another [`LogId`], and positions of different logs never satisfy each
//! other.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{sync::Notify, time::Instant};

use super::{
    BoxFuture, Key, LoadError, Selection,
    omit::{Step, omitted},
};
use crate::time::Moment;

/// Which log a position is of: random, drawn when the log was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub u64);

/// A place in a log: everything up to and with this sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The log.
    pub log: LogId,
    /// The sequence number of the last row that is included; 0 before the first one.
    pub seq: u64,
}

impl Position {
    /// Whether whoever is here has seen everything that `need` asks for. Never of another log's.
    pub fn satisfies(self, need: Self) -> bool {
        (self.log == need.log || omitted(Step::LogId)) && self.seq >= need.seq
    }
}

impl Position {
    /// The one that is furthest in its log. Of several logs it is one of the last one's: who needs another is not served
    /// by it, and will say so.
    pub(super) fn furthest(all: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        all.into_iter().flatten().reduce(|one, other| match one.log == other.log {
            true if one.seq > other.seq => one,
            _ => other,
        })
    }
}

/// As it stands in headers: 16 hex digits, a dash, a decimal number.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.log.0, self.seq)
    }
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a position; one has 16 hex digits, a dash and a number, as a write answered it")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (log, seq) = text.split_once('-').ok_or(PositionError)?;
        let is_hex = log.len() == 16 && log.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_decimal = !seq.is_empty() && seq.len() <= 20 && seq.bytes().all(|byte| byte.is_ascii_digit());
        if !is_hex || !is_decimal {
            return Err(PositionError);
        }
        let log = u64::from_str_radix(log, 16).map_err(|_| PositionError)?;
        Ok(Self { log: LogId(log), seq: seq.parse().map_err(|_| PositionError)? })
    }
}

/// What one row of a log says of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row with this key has changed, or come, or gone.
    Key(Key),
    /// Rows whose keys begin with these bytes may have changed; all of them if there are none.
    Prefix(Vec<u8>),
}

/// Writes into the log that keys are to be dropped, for who changes data in ways that no trigger sees.
pub trait LogAppend: Send + Sync + 'static {
    /// Commits what `selection` names to the outbox. A look at the database that begins afterwards finds it.
    ///
    /// # Errors
    /// As of a load: an origin that failed, or was not asked.
    fn append<'a>(&'a self, selection: &'a Selection) -> BoxFuture<'a, Result<(), LoadError>>;
}

/// How far this node has come in one database's log. Shared by the database's groups and by who reads the log.
#[derive(Debug)]
pub struct LogCell {
    cursor: Mutex<Option<Position>>,
    /// In nanoseconds; 0 before the first look.
    fresh_at: AtomicU64,
    /// Looks that were begun.
    begun: AtomicU64,
    /// The last look that ended, whatever it found.
    ended: AtomicU64,
    /// A look has ended.
    look_ended: Notify,
    /// Somebody waits for a look.
    wanted: Notify,
}

/// A look at the log that is under way; see [`LogCell::begin_look`].
#[derive(Debug)]
pub struct Look(u64);

impl LogCell {
    /// A cell of a log that was never looked at.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            cursor: Mutex::new(None),
            fresh_at: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            look_ended: Notify::new(),
            wanted: Notify::new(),
        })
    }

    /// Up to where every row is applied; `None` before the first look.
    pub fn cursor(&self) -> Option<Position> {
        *self.cursor.lock()
    }

    /// When the last look began that found everything applied; `None` before the first one.
    pub fn fresh_at(&self) -> Option<Moment> {
        match self.fresh_at.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        }
    }

    /// Whether everything that was committed until `max_staleness` before `now` is applied.
    pub fn is_fresh(&self, now: Moment, max_staleness: Duration) -> bool {
        let fresh_at = self.fresh_at.load(Ordering::Acquire);
        fresh_at != 0 && now.saturating_since(Moment::from_nanos(fresh_at)) <= max_staleness
    }

    /// Waits until the cursor satisfies `need`, at the latest until a look that began after this call has ended, or
    /// until `deadline`. Whether it does. Cancel safe.
    pub async fn catch_up(&self, need: Position, deadline: Instant) -> bool {
        let satisfied = || self.cursor().is_some_and(|cursor| cursor.satisfies(need));
        if satisfied() {
            return true;
        }
        let look = self.want_look();
        let waiting = self.until(|| satisfied() || self.ended.load(Ordering::SeqCst) >= look);
        // The last word is the cursor's, also when the time is up.
        let _ = tokio::time::timeout_at(deadline, waiting).await;
        satisfied()
    }

    /// Waits for a look that begins after this call and finds everything applied: the cursor after it. `None` if there
    /// was none until `deadline`, or the look failed. Cancel safe.
    pub async fn look_now(&self, since: Moment, deadline: Instant) -> Option<Position> {
        let look = self.want_look();
        let waiting = self.until(|| self.ended.load(Ordering::SeqCst) >= look);
        let in_time = tokio::time::timeout_at(deadline, waiting).await.is_ok();
        (in_time && self.fresh_at().is_some_and(|fresh_at| fresh_at >= since))
            .then(|| self.cursor())
            .flatten()
    }

    /// Waits until somebody has looked at the log once, whatever that found. Cancel safe.
    pub async fn looked_at(&self) {
        self.until(|| self.ended.load(Ordering::SeqCst) > 0).await;
    }

    /// Waits until `is_met`, which is asked after each look.
    async fn until(&self, is_met: impl Fn() -> bool) {
        loop {
            let ended = self.look_ended.notified();
            let mut ended = std::pin::pin!(ended);
            // Registered before the question, so that an end in between is not missed.
            ended.as_mut().enable();
            if is_met() {
                return;
            }
            ended.await;
        }
    }

    /// Asks for a look soon, and waits for nothing.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    fn want_look(&self) -> u64 {
        let look = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        look
    }

    /// For who reads the log: waits until somebody wants a look. Cancel safe.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// For who reads the log: says that a look begins. Every look is [ended](Self::end_look), whatever it found.
    pub fn begin_look(&self) -> Look {
        Look(self.begun.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// For who reads the log: says that it is to be begun anew, before the groups are reset. Nothing is known of any
    /// position until [`advance`](Self::advance): a group's slots are of the new log first, and its cursor of the old one
    /// would vouch for what peers say by that.
    pub fn lose(&self) {
        *self.cursor.lock() = None;
    }

    /// For who reads the log: says that everything up to `position` is applied in every group.
    pub fn advance(&self, position: Position) {
        *self.cursor.lock() = Some(position);
    }

    /// For who reads the log: ends a look. `fresh_at` is a moment before its first query, if all that it found is applied
    /// and the cursor has moved; `None` if it failed.
    pub fn end_look(&self, look: Look, fresh_at: Option<Moment>) {
        if let Some(fresh_at) = fresh_at {
            self.fresh_at.fetch_max(fresh_at.as_nanos().max(1), Ordering::AcqRel);
        }
        self.ended.fetch_max(look.0, Ordering::SeqCst);
        self.look_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(log: u64, seq: u64) -> Position {
        Position { log: LogId(log), seq }
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        let position = at(0xab, 17);
        assert_eq!(position.to_string(), "00000000000000ab-17");
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in [
            "",
            "-",
            "00000000000000ab",
            "00000000000000ab-",
            "ab-17",
            "00000000000000ab-+1",
            "00000000000000ab-17 ",
        ] {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad:?}");
        }
        assert_eq!("00000000000000ab-99999999999999999999".parse::<Position>(), Err(PositionError));
    }

    #[test]
    fn positions_of_different_logs_never_satisfy_each_other() {
        assert!(at(1, 5).satisfies(at(1, 5)) && at(1, 6).satisfies(at(1, 5)));
        assert!(!at(1, 4).satisfies(at(1, 5)) && !at(2, 9).satisfies(at(1, 5)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_a_position_waits_for_one_look_at_most() {
        let cell = LogCell::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        let waiter = tokio::spawn({
            let cell = Arc::clone(&cell);
            async move { cell.catch_up(at(1, 5), deadline).await }
        });
        cell.wanted().await;
        let look = cell.begin_look();
        cell.advance(at(1, 5));
        cell.end_look(look, Some(Moment::from_nanos(7)));
        assert!(waiter.await.expect("it ends"));
        let waiter = tokio::spawn({
            let cell = Arc::clone(&cell);
            async move { cell.catch_up(at(1, 6), deadline).await }
        });
        cell.wanted().await;
        let look = cell.begin_look();
        cell.end_look(look, None);
        assert!(!waiter.await.expect("it ends"), "a look that failed is the last one");
        assert!(!cell.catch_up(at(1, 6), Instant::now() + Duration::from_secs(1)).await, "nobody looks");
        assert!(cell.is_fresh(Moment::from_nanos(8), Duration::from_nanos(1)));
        assert!(!cell.is_fresh(Moment::from_nanos(9), Duration::from_nanos(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_began_before_does_not_count() {
        let cell = LogCell::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        let early = cell.begin_look();
        let waiter = tokio::spawn({
            let cell = Arc::clone(&cell);
            async move { cell.look_now(Moment::from_nanos(10), deadline).await }
        });
        cell.wanted().await;
        cell.end_look(early, Some(Moment::from_nanos(9)));
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        let look = cell.begin_look();
        cell.advance(at(1, 2));
        cell.end_look(look, Some(Moment::from_nanos(11)));
        assert_eq!(waiter.await.expect("it ends"), Some(at(1, 2)));
    }
}
