//! What a group does where its database has a log of changes: nothing that it answers is older than the bound.
//!
//! The reader of the log calls [`Group::apply`] for each row, in order, and then moves the [`LogCell`]'s cursor. What
//! follows from that for a read that begins at `t`:
//!
//! - Memory answers only while the cell [is fresh](LogCell::is_fresh): everything that was committed until
//!   `max_staleness` before `t` is applied, and what is in memory is what no row was applied to since it was loaded.
//! - Otherwise a load that begins after `t` answers, or nobody does.
//! - A peer is asked with a *need*: the sequence number in the key's slot. The slot holds the last row that was applied to
//!   any of its keys, so that a peer which has applied that row too knows of every change of the key that this node knows
//!   of, wherever else the two are in the log. A peer that is behind reads on first; one that stays behind refuses, and the
//!   next node or the database is asked.
//! - What a peer answers is used only if the cursor that it held before it looked is as far as the need.
//!
//! The cursor is no part of the need: nodes are never at the same place of a log that moves, and each read of another
//! node's key would make its owner look at the database. A position that a client names
//! ([`Group::caught_up`]) is waited for by the cursor before the read begins, and then it is in the slot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Answer, Change, GetError, Group, GroupConfig, LogAppend, LogCell, Position,
    fence::SlotState,
    metrics::Source,
    omit::{Step, hides_row, omitted, seam},
};
use crate::{telemetry::field, time::Moment};

/// A database's log, as a group uses it.
#[derive(Clone)]
pub struct GroupLog {
    /// How far this node has come in it.
    pub cell: Arc<LogCell>,
    /// How invalidations get into it; `None` if they can't.
    pub append: Option<Arc<dyn LogAppend>>,
}

/// A group's part in it.
pub(super) struct Logged {
    log: GroupLog,
    /// Whether the group's table has its triggers.
    is_on: AtomicBool,
    /// Whether that was ever found out. Until then memory answers nothing: there may be triggers.
    is_known: AtomicBool,
    /// In nanoseconds.
    max_staleness: AtomicU64,
}

impl Logged {
    pub(super) fn new(log: GroupLog, config: &GroupConfig) -> Self {
        let logged = Self {
            log,
            is_on: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            max_staleness: AtomicU64::default(),
        };
        logged.reconfigure(config);
        logged
    }

    pub(super) fn reconfigure(&self, config: &GroupConfig) {
        let nanos = u64::try_from(config.max_staleness.as_nanos()).unwrap_or(u64::MAX);
        self.max_staleness.store(nanos, Ordering::Relaxed);
    }

    fn max_staleness(&self) -> Duration {
        Duration::from_nanos(self.max_staleness.load(Ordering::Relaxed))
    }
}

impl Group {
    /// The log by which the group's answers are bounded, if its table is in one.
    pub(super) fn log(&self) -> Option<&GroupLog> {
        let logged = self.logged.as_ref()?;
        logged.is_on.load(Ordering::Acquire).then_some(&logged.log)
    }

    /// Whether the group's answers are bounded by a log of changes.
    pub fn is_logged(&self) -> bool {
        self.log().is_some()
    }

    /// Says whether every change of the group's table gets into the log: whether its triggers are there. What is in memory
    /// is dropped when that changes, since changes may have passed unseen. Until it is first said, memory answers nothing.
    /// Without a log it changes nothing.
    pub fn set_logged(&self, is_on: bool) {
        let Some(logged) = &self.logged else { return };
        if logged.is_on.swap(is_on, Ordering::AcqRel) != is_on {
            // After the switch: what peers say from now on is held to what is needed of them.
            self.reset(logged.log.cell.cursor().map_or(0, |cursor| cursor.seq));
        }
        logged.is_known.store(true, Ordering::Release);
    }

    /// Waits until it is known whether the group's table is in a log, which takes one look at its database. At once where
    /// there can be no log. Cancel safe.
    pub async fn log_looked_at(&self) {
        if let Some(logged) = &self.logged {
            logged.log.cell.looked_at().await;
        }
    }

    /// Up to where the log is applied here; `None` without one, or before the first look at it. To be read before a look
    /// into memory whose result it is to vouch for.
    pub fn cursor(&self) -> Option<Position> {
        self.log()?.cell.cursor()
    }

    /// Applies row `seq` of the log: drops what it names, and keeps out loads of it that are under way. To be called for
    /// all rows, in their order, before the cell's cursor moves past them. How many entries were dropped.
    pub fn apply(&self, seq: u64, change: &Change) -> u64 {
        if let Change::Key(key) = change
            && hides_row(self.store.hash(key.as_bytes()))
        {
            return 0;
        }
        if let Change::Key(key) = change {
            self.audit.note(key, self.config.load().audit);
        }
        self.metrics.invalidated(Source::Log);
        self.store.apply(seq, change, self.clock.now())
    }

    /// Drops everything, because the log is to be read from `head` on: at the start, when it is another log, or when rows
    /// that were not applied are gone. To be called before the cell's cursor is set to `head`.
    pub fn reset(&self, head: u64) {
        let dropped = self.store.apply(head, &Change::Prefix(Vec::new()), self.clock.now());
        if dropped > 0 {
            tracing::info!({ field::GROUP } = %self.name, dropped, head, "the memory of a group is dropped, to read its log anew");
        }
    }

    /// Whether memory may answer a read that begins at `now`.
    pub(super) fn may_serve(&self, now: Moment) -> bool {
        match &self.logged {
            Some(logged) if logged.is_on.load(Ordering::Acquire) => {
                logged.log.cell.is_fresh(now, logged.max_staleness())
            }
            Some(logged) => logged.is_known.load(Ordering::Acquire),
            None => true,
        }
    }

    /// How far behind the database the group may be; `None` without a log.
    pub fn staleness(&self) -> Option<Duration> {
        let log = self.log()?;
        Some(
            log.cell.fresh_at().map_or(Duration::MAX, |fresh_at| self.clock.now().saturating_since(fresh_at)),
        )
    }

    /// What a flight that begins at `slot` needs of a peer.
    pub(super) fn need(&self, slot: SlotState) -> Option<Position> {
        let cursor = self.cursor()?;
        if omitted(Step::SlotInNeed) {
            return Some(cursor);
        }
        Some(Position { seq: slot.seq(), ..cursor })
    }

    /// Whether what a peer answered to a question with `need` may be used at all.
    pub(super) fn is_usable(&self, need: Option<Position>, cursor: Option<Position>) -> bool {
        if omitted(Step::EchoedCursor) {
            return true;
        }
        match need {
            Some(need) => cursor.is_some_and(|cursor| cursor.satisfies(need)),
            // Before the first look nothing can be needed, and nothing is known.
            None => !self.is_logged(),
        }
    }

    /// Whether what a peer answered may be kept, beside what the fence says of it.
    pub(super) fn is_keepable(
        &self,
        hash: u64,
        digest: u64,
        need: Option<Position>,
        cursor: Option<Position>,
    ) -> bool {
        if digest != self.settings.digest && !omitted(Step::EchoedDigest) {
            return false;
        }
        if !self.is_usable(need, cursor) {
            return false;
        }
        // Without a log, peers may hear of an invalidation later than this node did.
        need.is_some() || !self.store.is_quiet(hash, self.clock.now())
    }

    /// The state of the slot that a load's result is held to when it is stored: that of the load's beginning.
    pub(super) async fn held_to(&self, hash: u64, slot: SlotState) -> SlotState {
        if !omitted(Step::CheckAndStoreAsOne) || self.store.slot(hash) != slot {
            return slot;
        }
        // As long as a thread may be kept from going on.
        for _ in 0..12 {
            seam().await;
        }
        self.store.slot(hash)
    }

    /// Waits until this node has applied the log up to `need`, for [`GroupSettings::peer_timeout`](super::GroupSettings::peer_timeout)
    /// at most: the cursor, for the caller to judge by.
    ///
    /// # Errors
    /// [`GetError::Behind`] if it does not get there: the log can't be read, or is another one.
    pub(super) async fn come_to(
        &self,
        need: Option<Position>,
        deadline: Instant,
    ) -> Result<Option<Position>, GetError> {
        let Some(log) = self.log() else {
            return if need.is_none() { Ok(None) } else { Err(GetError::Behind) };
        };
        if let Some(need) = need {
            let patience = deadline.min(Instant::now() + self.settings.peer_timeout);
            if !log.cell.catch_up(need, patience).await {
                return Err(GetError::Behind);
            }
        }
        Ok(log.cell.cursor())
    }

    /// Whether this node has applied the log up to `position`, after waiting for its next looks at the database at most.
    /// If so, a read that begins now is answered with nothing older; if not, only a [fresh](Self::fresh) one is. Cancel
    /// safe.
    ///
    /// A position that the log does not have, since it is made up or from before a restore, is no reason to ask the
    /// database for each read: whatever was committed before a look began is applied when it has ended, and so is every
    /// write whose answer somebody knew by then.
    pub async fn caught_up(&self, position: Position, deadline: Instant) -> bool {
        let begun = self.clock.now();
        if self.come_to(Some(position), deadline).await.is_ok() {
            return true;
        }
        // The look that was waited for.
        self.log().is_some_and(|log| {
            log.cell.cursor().is_some() && log.cell.fresh_at().is_some_and(|fresh_at| fresh_at >= begun)
        })
    }

    /// As [`get`](Self::get), with nothing older than `position`, which a write answered.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_at(
        self: &Arc<Self>,
        key: &[u8],
        position: Position,
        deadline: Instant,
    ) -> Result<Answer, GetError> {
        if self.caught_up(position, deadline).await {
            self.get(key, deadline).await
        } else {
            self.fresh(key, deadline).await
        }
    }
}

#[cfg(test)]
mod tests;
