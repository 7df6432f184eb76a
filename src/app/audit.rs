//! The database's side of `ggcache audit`: which keys of a group's table are compared, and what the database says of them.
//!
//! Half of a sample are keys that the log of changes has named last, since a change is when a cache can go wrong; the rest
//! are any of the table's.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;

use super::origins::Origins;
use crate::{
    changes::{ChangeStore as _, SqlStore, StoreError, Tracked},
    config::Config,
    group::{Change, GroupConfig, GroupName, Halves, Key, KeyScan, LoadError, Loader, Value},
    limit::Limiter,
    telemetry::NodeMetrics,
};

/// The last rows of the log that are looked at: one page of it.
const ROWS_MAX: u64 = 999;
/// Keys that one query lists.
const PAGE_KEYS: usize = 1_000;
/// Keys of the table that a sample is drawn from.
const SCAN_MAX: usize = 100_000;

/// A group's table, as an audit reads it.
pub struct AuditTable {
    loader: Arc<dyn Loader>,
    scan: Arc<dyn KeyScan>,
    /// The log of changes, if the table is in it.
    log: Option<SqlStore>,
    tracked: Tracked,
    bound: Duration,
}

impl std::fmt::Debug for AuditTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditTable").field("tracked", &self.tracked).finish_non_exhaustive()
    }
}

impl AuditTable {
    /// Opens the table of the group called `name`.
    ///
    /// # Errors
    /// If there is no such group, or its database or table can't be read.
    pub async fn open(config: &Config, name: &GroupName) -> anyhow::Result<Self> {
        let section = config
            .groups
            .get(name)
            .with_context(|| format!("there is no [group.{name}] in the configuration"))?;
        let metrics = NodeMetrics::new();
        let limiter = Arc::new(Limiter::new(config.rate.clone(), &metrics));
        let origin = Origins::default().open(name, section, config, &metrics, &limiter).await?;
        let changes = config.databases.get(&section.table.database).map(|database| database.changes.clone());
        let store = SqlStore::new(origin.database.clone(), changes.unwrap_or_default());
        let is_logged = match store.inspect(std::slice::from_ref(&origin.tracked)).await {
            Ok(found) => found.iter().all(Option::is_none),
            Err(StoreError::NotInstalled) => false,
            Err(error) => return Err(error).with_context(|| format!("group {name}")),
        };
        Ok(Self {
            loader: origin.loader,
            scan: origin.scan,
            log: is_logged.then_some(store),
            tracked: origin.tracked,
            bound: bound(&section.group, is_logged),
        })
    }

    /// Whether the table's changes get into a log.
    pub const fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// How long an answer may differ from what the database says.
    pub const fn bound(&self) -> Duration {
        self.bound
    }

    /// Up to `count` keys: half of them such as changed lately, if there are so many, the others at random from the
    /// first ones of the table.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn sample(&self, count: usize) -> anyhow::Result<Vec<Key>> {
        let mut keys = self.changed(count.div_ceil(2)).await.context("the log of changes can't be read")?;
        let free = count - keys.len();
        let others = self.some(free, &keys).await.context("the table's keys can't be listed")?;
        keys.extend(others);
        Ok(keys.into_iter().collect())
    }

    async fn changed(&self, count: usize) -> Result<BTreeSet<Key>, StoreError> {
        let mut keys = BTreeSet::new();
        let Some(log) = &self.log else { return Ok(keys) };
        let seen = log.look().await?;
        let page = log.read(seen.head.saturating_sub(ROWS_MAX).max(seen.floor)).await?;
        for row in page.rows.into_iter().rev().filter(|row| row.source == self.tracked.source) {
            if keys.len() == count {
                break;
            }
            if let Some(Change::Key(key)) = row.change {
                keys.insert(key);
            }
        }
        Ok(keys)
    }

    /// Up to `count` keys that are not among `known`, each one that is looked at as likely as any other.
    async fn some(&self, count: usize, known: &BTreeSet<Key>) -> Result<Vec<Key>, LoadError> {
        let mut drawn = Vec::new();
        let (mut seen, mut last) = (0, None);
        while count > 0 && seen < SCAN_MAX {
            let page = self.scan.keys_after(last.as_ref(), PAGE_KEYS).await?;
            let Some(end) = page.last().cloned() else { break };
            last = Some(end);
            for key in page.into_iter().filter(|key| !known.contains(key)) {
                seen += 1;
                if drawn.len() < count {
                    drawn.push(key);
                } else if let Some(place) = drawn.get_mut(fastrand::usize(..seen)) {
                    *place = key;
                }
            }
        }
        Ok(drawn)
    }

    /// What the database says now of each of `keys`.
    pub async fn load(&self, keys: &[Key]) -> Vec<Result<Option<Value>, LoadError>> {
        let mut all: Vec<_> = keys.iter().map(|_| Err(LoadError::Broken("it named no such key"))).collect();
        let mut parts = Halves::new((0..keys.len()).collect());
        while let Some(part) = parts.next_part() {
            let asked: Vec<Key> = part.iter().map(|at| keys[*at].clone()).collect();
            match self.loader.load(&asked).await {
                Ok(loaded) => part.into_iter().zip(loaded).for_each(|(at, value)| all[at] = Ok(value)),
                Err(error) => {
                    for at in parts.halve(part, &error).into_iter().flatten() {
                        all[at] = Err(error.clone());
                    }
                }
            }
        }
        all
    }
}

/// How long an answer may be out of date.
fn bound(group: &GroupConfig, is_logged: bool) -> Duration {
    if is_logged {
        return group.max_staleness;
    }
    let window = group.stale_while_revalidate.max(group.stale_if_error);
    group.ttl.saturating_add(window).max(group.negative_ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_bounds_how_old_an_answer_may_be_else_the_ttl_does() {
        let seconds = Duration::from_secs;
        let group = GroupConfig {
            ttl: seconds(30),
            negative_ttl: seconds(5),
            stale_while_revalidate: seconds(1),
            stale_if_error: seconds(60),
            max_staleness: seconds(2),
            ..GroupConfig::default()
        };
        assert_eq!(bound(&group, true), seconds(2));
        assert_eq!(bound(&group, false), seconds(90));
        let group = GroupConfig { negative_ttl: seconds(120), ..group };
        assert_eq!(bound(&group, false), seconds(120));
    }
}
