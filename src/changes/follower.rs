//! The task that follows one database's log.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{ChangeStore, Pace, Relayed, Seen, Source, Sources, StoreError};
use crate::{
    group::{
        Change, LogCell, LogId, Position,
        omit::{Step, omitted, seam},
    },
    time::Clock,
};

/// How long one question to the database may take. Its own timeouts are shorter, but for one that hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a flood may take to be relayed before another look begins.
const RELAY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the triggers are looked at.
const INSPECT_PERIOD: Duration = Duration::from_secs(10);
/// How often old rows are removed, if there were none the last time.
const TRIM_PERIOD: Duration = Duration::from_secs(10);
/// The wait after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The wait for somebody else's relay, at first and at most.
const RELAY_WAIT: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// Who is this many rows behind does not read them, and drops whole tables instead.
const FAR_BEHIND: u64 = 100_000;

/// Follows the log of one database until the node stops.
pub struct Follower<S: ?Sized> {
    database: String,
    sources: Arc<Sources>,
    cell: Arc<LogCell>,
    clock: Arc<dyn Clock>,
    pace: Pace,
    /// Up to where the log is applied.
    applied: Option<Applied>,
    /// Why a source's changes do not get into the log; `None` if they do.
    states: BTreeMap<Source, Option<String>>,
    inspect_at: Instant,
    trim_at: Instant,
    failures: u32,
    store: Arc<S>,
}

/// The last row that is applied.
#[derive(Clone, Copy, Debug)]
struct Applied {
    log: LogId,
    seq: u64,
    stamp: Option<i64>,
}

impl<S: ?Sized> std::fmt::Debug for Follower<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("database", &self.database).finish_non_exhaustive()
    }
}

impl<S: ChangeStore + ?Sized> Follower<S> {
    /// Who will follow the log in `store` for `sources`, and say in `cell` how far it has come. `database` is for the log
    /// only.
    pub fn new(
        database: impl Into<String>,
        store: Arc<S>,
        sources: Arc<Sources>,
        cell: Arc<LogCell>,
        clock: Arc<dyn Clock>,
        pace: Pace,
    ) -> Self {
        let now = Instant::now();
        Self {
            database: database.into(),
            sources,
            cell,
            clock,
            pace,
            applied: None,
            states: BTreeMap::new(),
            inspect_at: now,
            trim_at: now + TRIM_PERIOD,
            failures: 0,
            store,
        }
    }

    /// Goes on until `stopping` is cancelled.
    pub async fn run(mut self, stopping: CancellationToken) {
        tokio::select! {
            // In a fixed order, so that a simulation is the same each time.
            biased;
            () = stopping.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            let begun = Instant::now();
            if begun >= self.inspect_at {
                self.inspect().await;
            }
            if self.is_any_logged() {
                self.look_once().await;
            } else {
                // Whoever waits for a look need not wait for long.
                let look = self.cell.begin_look();
                self.cell.end_look(look, None);
            }
            self.trim().await;
            self.wait(begun.elapsed()).await;
        }
    }

    fn is_any_logged(&self) -> bool {
        self.states.values().any(Option::is_none)
    }

    /// Waits for the next look: for the usual time, but at least as long as the last one took; or until one is wanted.
    /// After a failure nobody hurries it.
    async fn wait(&mut self, took: Duration) {
        if self.failures > 0 {
            let backoff = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
            return sleep(backoff.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
        }
        let pause = if self.is_any_logged() {
            self.pace.pause(took)
        } else {
            self.inspect_at.saturating_duration_since(Instant::now())
        };
        tokio::select! {
            // In a fixed order, so that a simulation is the same each time.
            biased;
            () = sleep(pause) => {}
            () = self.cell.wanted() => {}
            () = self.sources.grown() => self.inspect_at = Instant::now(),
        }
    }

    /// One look, with what it brings.
    async fn look_once(&mut self) {
        let look = self.cell.begin_look();
        let since = self.clock.now();
        let outcome = self.look().await;
        self.cell.end_look(look, outcome.is_ok().then_some(since));
        self.note(outcome);
    }

    fn note(&mut self, outcome: Result<(), StoreError>) {
        match outcome {
            Ok(()) if self.failures > 0 => {
                self.failures = 0;
                tracing::info!(database = %self.database, "the log of changes is followed again");
            }
            Ok(()) => {}
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(
                        database = %self.database,
                        error = &error as &dyn std::error::Error,
                        "the log of changes can't be followed; what is in memory is served only as long as it may be"
                    );
                }
                self.failures = self.failures.saturating_add(1);
                // Perhaps there is no log any more.
                self.inspect_at = Instant::now();
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let seen = call(self.store.look()).await?;
        self.join(seen).await;
        let target = match seen.waiting {
            Some(waiting) => {
                let head = self.relay(waiting.newest).await?;
                // What waited comes after the head that was seen along with it. If the log is no longer than that, the
                // database was restored since, and nothing is known of what waited.
                if head <= seen.head && !omitted(Step::LogId) {
                    self.applied = None;
                    return Err(StoreError::Broken(seen.head));
                }
                head
            }
            None => seen.head,
        };
        self.read_up_to(target).await
    }

    /// Sees whether the log goes on where it was left, and begins anew at its head where it does not.
    async fn join(&mut self, seen: Seen) {
        let reason = match self.applied {
            None => "the log is followed from its head",
            Some(applied) if applied.log != seen.log && !omitted(Step::LogId) => "the log is another one",
            Some(applied) if seen.head < applied.seq => "the log is shorter than it was",
            Some(applied) if seen.floor > applied.seq => "rows of the log are gone that were not applied",
            Some(applied) if seen.head == applied.seq && differ(applied.stamp, seen.stamp) => {
                "the log is not the one that was applied"
            }
            Some(_) => return,
        };
        tracing::info!(database = %self.database, seq = seen.head, "{reason}; nothing from before is kept");
        self.cell.lose();
        self.sources.reset(seen.head);
        seam().await;
        self.applied = Some(Applied { log: seen.log, seq: seen.head, stamp: seen.stamp });
        self.cell.advance(Position { log: seen.log, seq: seen.head });
    }

    /// Sees to it that what a look has found in the outbox gets into the log; up to where the log goes then. Rows that
    /// come later with greater numbers are left to the next look: under steady writers the outbox is never empty.
    async fn relay(&self, newest: u64) -> Result<u64, StoreError> {
        let begun = Instant::now();
        let mut pause = RELAY_WAIT.0;
        loop {
            match timeout(RELAY_TIMEOUT, self.store.relay(newest)).await {
                Err(_) => return Err(StoreError::Late(RELAY_TIMEOUT)),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Relayed::All { head })) => return Ok(head),
                Ok(Ok(Relayed::Some)) => {}
                Ok(Ok(Relayed::Busy)) => {
                    sleep(pause).await;
                    // Not doubled: what is waited in vain adds to the age of answers.
                    pause = (pause * 3 / 2).min(RELAY_WAIT.1);
                    let seen = call(self.store.look()).await?;
                    if seen.waiting.is_none_or(|waiting| waiting.oldest > newest) {
                        return Ok(seen.head);
                    }
                    if begun.elapsed() > RELAY_TIMEOUT {
                        return Err(StoreError::Locked(RELAY_TIMEOUT));
                    }
                }
            }
        }
    }

    /// Applies the log up to `target` at least.
    async fn read_up_to(&mut self, target: u64) -> Result<(), StoreError> {
        while let Some(applied) = self.applied.filter(|applied| applied.seq < target) {
            let next = if target - applied.seq > FAR_BEHIND {
                self.skip(applied, target).await
            } else {
                self.read(applied).await
            };
            match next {
                Ok(next) => {
                    self.applied = Some(next);
                    self.cell.advance(Position { log: next.log, seq: next.seq });
                }
                Err(error) => {
                    // Nothing is known of what was missed: the next look begins at the head.
                    if matches!(error, StoreError::Broken(_)) {
                        self.applied = None;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn read(&self, applied: Applied) -> Result<Applied, StoreError> {
        let page = call(self.store.read(applied.seq)).await?;
        if is_cut(applied, page.log, page.floor, page.before) {
            return Err(StoreError::Broken(applied.seq));
        }
        let last = page.rows.last().ok_or(StoreError::Broken(applied.seq))?;
        let next = Applied { log: applied.log, seq: last.seq, stamp: Some(last.stamp) };
        if omitted(Step::SlotBeforeCursor) {
            self.cell.advance(Position { log: next.log, seq: next.seq });
        }
        for row in &page.rows {
            seam().await;
            if let Some(change) = &row.change {
                self.sources.apply(&row.source, row.seq, change);
            }
        }
        seam().await;
        Ok(next)
    }

    async fn skip(&self, applied: Applied, target: u64) -> Result<Applied, StoreError> {
        let touched = call(self.store.touched(applied.seq, target)).await?;
        if is_cut(applied, touched.log, touched.floor, touched.before) {
            return Err(StoreError::Broken(applied.seq));
        }
        for source in &touched.sources {
            self.sources.apply(source, target, &Change::Prefix(Vec::new()));
        }
        Ok(Applied { log: applied.log, seq: target, stamp: touched.stamp })
    }

    /// Looks which tables have their triggers, and tells their groups.
    async fn inspect(&mut self) {
        self.inspect_at = Instant::now() + INSPECT_PERIOD.mul_f64(fastrand::f64().mul_add(0.2, 0.9));
        let tracked = self.sources.tracked();
        let found = match call(self.store.inspect(&tracked)).await {
            Ok(found) => found,
            Err(StoreError::NotInstalled) => {
                vec![Some(StoreError::NotInstalled.to_string()); tracked.len()]
            }
            // Nothing is known, and what was known still holds: if the database is away, looks fail too.
            Err(error) => {
                self.note(Err(error));
                self.inspect_at = Instant::now() + BACKOFF.1;
                return;
            }
        };
        // A table that comes into the log needs a cursor to begin at.
        let is_new = |(tracked, why): (&super::Tracked, &Option<String>)| {
            why.is_none() && !matches!(self.states.get(&tracked.source), Some(None))
        };
        if tracked.iter().zip(&found).any(is_new) {
            self.look_once().await;
            if self.failures > 0 {
                self.inspect_at = Instant::now();
                return;
            }
        }
        for (tracked, why) in tracked.into_iter().zip(found) {
            self.sources.set_logged(&tracked.source, why.is_none());
            self.tell(&tracked.source, why.as_deref());
            self.states.insert(tracked.source, why);
        }
        if !self.is_any_logged() {
            self.failures = 0;
        }
    }

    fn tell(&self, source: &Source, why: Option<&str>) {
        let known = self.states.get(source);
        if known.is_some_and(|known| known.as_deref() == why) {
            return;
        }
        let (database, table) = (&self.database, &source.table);
        match (known, why) {
            (_, None) => tracing::info!(%database, %table, "changes of the table are followed"),
            (Some(None), Some(why)) => {
                tracing::warn!(%database, %table, why, "changes of the table are not seen any more; it goes by ttl only");
            }
            (_, Some(why)) => {
                tracing::info!(%database, %table, why, "changes of the table are not seen; it goes by ttl only");
            }
        }
    }

    /// Removes old rows, some at a time.
    async fn trim(&mut self) {
        if !self.is_any_logged() || self.failures > 0 || Instant::now() < self.trim_at {
            return;
        }
        let period = TRIM_PERIOD.mul_f64(fastrand::f64().mul_add(0.5, 0.75));
        match call(self.store.trim()).await {
            // There may be more.
            Ok(1..) => {}
            Ok(0) => self.trim_at = Instant::now() + period,
            Err(error) => {
                self.trim_at = Instant::now() + period;
                tracing::warn!(
                    database = %self.database,
                    error = &error as &dyn std::error::Error,
                    "old rows of the log can't be removed"
                );
            }
        }
    }
}

/// Whether rows do not go on where `applied` ends: they are another log's, some before them are gone that were not applied,
/// or the row before them is another one.
fn is_cut(applied: Applied, log: Option<LogId>, floor: u64, before: Option<i64>) -> bool {
    let is_other = log != Some(applied.log) && !omitted(Step::LogId);
    // Where the row before has been removed, and nothing after it, nothing is known of it.
    let is_first = floor == applied.seq;
    is_other || floor > applied.seq || (!is_first && applied.stamp.is_some() && before != applied.stamp)
}

fn differ(one: Option<i64>, other: Option<i64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

async fn call<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(CALL_TIMEOUT, question).await.unwrap_or(Err(StoreError::Late(CALL_TIMEOUT)))
}
