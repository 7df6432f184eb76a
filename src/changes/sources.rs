//! Who is told of which table's changes.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{Source, Tracked};
use crate::{
    database::KeyType,
    group::{Change, Group},
};

/// What a group does with a log's rows: the follower's port to groups.
pub trait Applies: Send + Sync + 'static {
    /// Drops what `change` names, and keeps out loads of it that are under way.
    fn apply(&self, seq: u64, change: &Change);
    /// Drops everything; the log is applied from `head` on.
    fn reset(&self, head: u64);
    /// Whether every change of the table gets into the log from now on. Drops everything when that is new.
    fn set_logged(&self, is_on: bool);
}

impl Applies for Group {
    fn apply(&self, seq: u64, change: &Change) {
        Self::apply(self, seq, change);
    }

    fn reset(&self, head: u64) {
        Self::reset(self, head);
    }

    fn set_logged(&self, is_on: bool) {
        Self::set_logged(self, is_on);
    }
}

/// The sources of one database, and the groups that read them. Grows when the configuration is read again.
#[derive(Default)]
pub struct Sources {
    all: ArcSwap<BTreeMap<Source, Readers>>,
    grown: Notify,
}

/// Those who read one source.
#[derive(Clone)]
pub(super) struct Readers {
    key_type: KeyType,
    groups: Vec<Arc<dyn Applies>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all.load().keys()).finish()
    }
}

impl Sources {
    /// No sources yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a group, before it loads anything.
    pub fn add(&self, tracked: Tracked, group: Arc<dyn Applies>) {
        self.all.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            let readers = all.entry(tracked.source.clone());
            let readers =
                readers.or_insert_with(|| Readers { key_type: tracked.key_type, groups: Vec::new() });
            readers.groups.push(Arc::clone(&group));
            all
        });
        self.grown.notify_one();
    }

    /// Every source, in a fixed order.
    pub fn tracked(&self) -> Vec<Tracked> {
        let tracked = |(source, readers): (&Source, &Readers)| Tracked {
            source: source.clone(),
            key_type: readers.key_type,
        };
        self.all.load().iter().map(tracked).collect()
    }

    pub(super) fn apply(&self, source: &Source, seq: u64, change: &Change) {
        if let Some(readers) = self.all.load().get(source) {
            readers.groups.iter().for_each(|group| group.apply(seq, change));
        }
    }

    pub(super) fn reset(&self, head: u64) {
        self.all.load().values().flat_map(|readers| &readers.groups).for_each(|group| group.reset(head));
    }

    pub(super) fn set_logged(&self, source: &Source, is_on: bool) {
        if let Some(readers) = self.all.load().get(source) {
            readers.groups.iter().for_each(|group| group.set_logged(is_on));
        }
    }

    /// Waits until a group was added. Cancel safe.
    pub(super) async fn grown(&self) {
        self.grown.notified().await;
    }
}
