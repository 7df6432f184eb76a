//! The auditor: looks now and then whether memory says what the database says, where a log of changes bounds its age.
//!
//! The log's promise holds only for changes that get into it. One that passes its triggers by (a restore of one table, a
//! cascade that the database hides from triggers, a writer that switched them off) leaves a value in memory that is
//! out of date until its ttl is over. Nothing but a comparison can find that.
//!
//! A change that is merely under way is no such case. So memory is looked at before a load and, once a look at the log
//! that began after the load has found everything applied, again: had the log said anything of what the load saw, the
//! key's slot would be another by then. What is left is counted (`ggcache_inconsistent_reads_total`), told, and dropped.
//!
//! Keys are drawn from those that rows of the log named a while ago, since a change is when a cache can go wrong, and from
//! all of memory, since what passes the triggers by is named by no row; each has its share. The auditor has the lowest
//! priority: it does nothing while half of the group's budget is in use, or the log can't be read; it takes a place of the
//! budget as any load does, and asks nothing of a database whose breaker is open.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Answer, Group, Key, Selection, Value, fence::SlotState};
use crate::{cluster::place, telemetry::field, time::Moment};

/// Applied keys that wait for their turn at most.
const DUE_MAX: usize = 1_000;
/// The longest that an applied key waits for it.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// What a round of the auditor has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Keys of which memory and the database say the same.
    pub equal: u64,
    /// Keys that changed meanwhile, or that nobody can say it of: the log can't be read.
    pub open: u64,
    /// Keys of which memory said something else, without a word in the log.
    pub inconsistent: u64,
}

/// Keys to look at.
pub(super) struct Audit(Mutex<Sample>);

struct Sample {
    /// Its own, so that the draws of others don't depend on how often rows are applied.
    random: fastrand::Rng,
    /// Rows since the last round.
    rows: u64,
    /// Some of their keys, each as likely as any other.
    applied: Vec<Key>,
    /// Those of earlier rounds, and when they are to be looked at.
    due: VecDeque<(Moment, Key)>,
}

impl Audit {
    pub(super) fn new() -> Self {
        let random = fastrand::Rng::new();
        Self(Mutex::new(Sample { random, rows: 0, applied: Vec::new(), due: VecDeque::new() }))
    }

    /// Takes note of a row about `key`, of which up to `limit` are kept a round.
    pub(super) fn note(&self, key: &Key, limit: usize) {
        if limit == 0 {
            return;
        }
        let mut sample = self.0.lock();
        sample.rows += 1;
        if sample.applied.len() < limit {
            sample.applied.push(key.clone());
            return;
        }
        let rows = sample.rows;
        let at = usize::try_from(sample.random.u64(0..rows)).unwrap_or(usize::MAX);
        if at < limit {
            sample.applied[at] = key.clone();
        }
    }

    /// Ends a round: the keys whose turn has come at `now`. Those of this round have theirs after `delay`.
    fn take(&self, now: Moment, delay: Duration) -> Vec<Key> {
        let mut sample = self.0.lock();
        sample.rows = 0;
        let applied = std::mem::take(&mut sample.applied);
        let at = now.saturating_add(delay.min(DELAY_MAX));
        sample.due.extend(applied.into_iter().map(|key| (at, key)));
        let surplus = sample.due.len().saturating_sub(DUE_MAX);
        sample.due.drain(..surplus);
        let count = sample.due.iter().take_while(|(at, _)| *at <= now).count();
        sample.due.drain(..count).map(|(_, key)| key).collect()
    }
}

/// A key as it was found in memory.
struct Suspect {
    key: Key,
    hash: u64,
    slot: SlotState,
    answer: Answer,
}

impl Group {
    /// Compares up to [`audit`](super::GroupConfig::audit) keys of memory with the database, and drops what is
    /// inconsistent. To be called once a second. Does nothing without a log of changes. Cancel safe.
    pub async fn audit(&self) -> Audited {
        let mut audited = Audited::default();
        let (limit, budget, delay) = {
            let config = self.config.load();
            (config.audit, config.load_budget, config.max_staleness)
        };
        let due = self.audit.take(self.clock.now(), delay);
        if limit == 0 || !self.is_logged() {
            return audited;
        }
        self.metrics.audits();
        if self.owner_flights.running() * 2 >= budget.max(2) {
            return audited;
        }
        let suspects = self.suspects(due, limit);
        if suspects.is_empty() {
            return audited;
        }
        let keys: Vec<Key> = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        let load = tokio::time::timeout(self.settings.flight_timeout, self.loader.load(&keys)).await;
        let Ok(Ok(loaded)) = load else {
            audited.open += suspects.len() as u64;
            return audited;
        };
        let (differing, equal): (Vec<_>, Vec<_>) = suspects
            .into_iter()
            .zip(loaded)
            .partition(|(suspect, loaded)| bytes(suspect.answer.value.as_ref()) != bytes(loaded.as_ref()));
        audited.equal += equal.len() as u64;
        if differing.is_empty() {
            return audited;
        }
        let all_applied = self.is_all_applied().await;
        for (suspect, _) in differing {
            if all_applied && self.is_still_there(&suspect) {
                self.expose(&suspect);
                audited.inconsistent += 1;
            } else {
                audited.open += 1;
            }
        }
        audited
    }

    /// What there is in memory of keys that are due and of keys drawn at random; up to `limit` of them.
    fn suspects(&self, due: Vec<Key>, limit: usize) -> Vec<Suspect> {
        let mut keys = due;
        keys.extend((0..limit).filter_map(|_| self.store.any(fastrand::u64(..))));
        keys.sort_unstable();
        keys.dedup();
        fastrand::shuffle(&mut keys);
        let suspects = keys.into_iter().filter_map(|key| {
            let hash = self.store.hash(key.as_bytes());
            // The slot first: what comes into memory afterwards is newer than that.
            let (slot, now) = (self.store.slot(hash), self.clock.now());
            if !self.may_serve(now) {
                return None;
            }
            let answer = self.store.peek(hash, key.as_bytes(), now)?;
            Some(Suspect { key, hash, slot, answer })
        });
        suspects.take(limit).collect()
    }

    /// Whether everything is applied that was committed until this call.
    async fn is_all_applied(&self) -> bool {
        let Some(log) = self.log() else { return false };
        let deadline = Instant::now() + self.settings.flight_timeout;
        log.cell.look_now(self.clock.now(), deadline).await.is_some()
    }

    fn is_still_there(&self, suspect: &Suspect) -> bool {
        let Suspect { key, hash, slot, answer } = suspect;
        let found = self.store.peek(*hash, key.as_bytes(), self.clock.now());
        self.is_logged() && self.store.slot(*hash) == *slot && found.as_ref() == Some(answer)
    }

    fn expose(&self, suspect: &Suspect) {
        self.metrics.inconsistent();
        tracing::error!(
            { field::GROUP } = %self.name,
            { field::KEY_HASH } = %place(self.name.as_str(), suspect.key.as_bytes()),
            { field::OUTCOME } = %suspect.answer.outcome,
            "memory said something else than the database, and the log of changes nothing; the entry is dropped. A change \
             has passed the triggers by: `ggcache check` names those that do, `ggcache audit` other keys"
        );
        self.store.invalidate(&Selection::Keys(vec![suspect.key.clone()]), self.clock.now());
    }
}

/// What is compared: how a value is served is the configuration's.
fn bytes(value: Option<&Value>) -> Option<&[u8]> {
    value.map(|value| value.bytes().as_ref())
}

#[cfg(test)]
mod tests;
