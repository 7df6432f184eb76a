//! The follower's port to the simulated database.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{history::Nanos, node::Gate, world::World};
use crate::{
    changes::{ChangeStore, LogRow, Page, Relayed, Seen, Source, StoreError, Touched, Tracked, Waiting},
    database::KeyType,
    group::BoxFuture,
};

/// Rows of one relay, and of one page: few, so that there are several.
const RELAYED_MAX: usize = 3;
const PAGE_MAX: usize = 4;
/// A relayer that holds the lock for longer is thrown out by the database.
const LOCK_TIMEOUT: u64 = 120;

pub(super) fn tracked() -> Tracked {
    let source = Source { table: "scores".to_owned(), key_column: "name".to_owned() };
    Tracked { source, key_type: KeyType::Text }
}

/// A node's way to the outbox and the log.
pub(super) struct LogStore {
    pub(super) world: Arc<World>,
    pub(super) gate: Arc<Gate>,
    /// When the rows were committed that were read.
    pub(super) read: Arc<Mutex<HashMap<u64, Nanos>>>,
}

fn down() -> StoreError {
    StoreError::Failed("the database is down".into())
}

impl LogStore {
    /// One round trip, with `work` done at one moment of it.
    async fn trip<T>(&self, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        let database = &self.world.database;
        self.gate.pass().await;
        self.world.delay(self.world.plan.query).await;
        let session = database.connect().ok_or_else(down)?;
        let result = work();
        self.world.delay(self.world.plan.query).await;
        if !database.is_open(session) {
            return Err(down());
        }
        self.gate.pass().await;
        Ok(result)
    }
}

impl ChangeStore for LogStore {
    fn look(&self) -> BoxFuture<'_, Result<Seen, StoreError>> {
        Box::pin(self.trip(|| {
            let state = self.world.database.state.lock();
            let data = &state.data;
            let oldest = data.outbox.keys().next().copied();
            let newest = data.outbox.keys().next_back().copied();
            Seen {
                log: data.id,
                head: data.head,
                stamp: data.row(data.head).map(|row| row.stamp),
                floor: data.floor,
                waiting: oldest.zip(newest).map(|(oldest, newest)| Waiting { oldest, newest }),
            }
        }))
    }

    fn relay(&self, up_to: u64) -> BoxFuture<'_, Result<Relayed, StoreError>> {
        Box::pin(async move {
            let world = &self.world;
            self.gate.pass().await;
            world.delay(world.plan.query).await;
            let session = world.database.connect().ok_or_else(down)?;
            let ids: Vec<u64> = {
                let mut state = world.database.state.lock();
                if state.is_relaying {
                    return Ok(Relayed::Busy);
                }
                let ids: Vec<u64> = state.data.outbox.range(..=up_to).map(|(id, _)| *id).collect();
                if ids.is_empty() {
                    return Ok(Relayed::All { head: state.data.head });
                }
                state.is_relaying = true;
                ids
            };
            // The database goes on with it whoever waits.
            let relaying = tokio::spawn(hold(Arc::clone(world), session, ids));
            let relayed = relaying.await.map_err(|_| down())??;
            world.delay(world.plan.query).await;
            if !world.database.is_open(session) {
                return Err(down());
            }
            self.gate.pass().await;
            Ok(relayed)
        })
    }

    fn read(&self, after: u64) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.trip(move || {
            let state = self.world.database.state.lock();
            let data = &state.data;
            let mut read = self.read.lock();
            let rows = (after.max(data.floor) + 1..=data.head).take(PAGE_MAX).filter_map(|seq| {
                let row = data.row(seq)?;
                read.insert(seq, row.at);
                let change = Some(row.change.clone());
                Some(LogRow { seq, source: tracked().source, change, stamp: row.stamp })
            });
            let before = data.row(after).map(|row| row.stamp);
            Page { log: Some(data.id), rows: rows.collect(), before, floor: data.floor }
        }))
    }

    fn touched(&self, after: u64, up_to: u64) -> BoxFuture<'_, Result<Touched, StoreError>> {
        Box::pin(self.trip(move || {
            let state = self.world.database.state.lock();
            let stamp = state.data.row(up_to).map(|row| row.stamp);
            let before = state.data.row(after).map(|row| row.stamp);
            Touched {
                before,
                floor: state.data.floor,
                log: Some(state.data.id),
                sources: vec![tracked().source],
                stamp,
            }
        }))
    }

    fn trim(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        // The log is trimmed by the faults, more often than nodes would.
        Box::pin(async { Ok(0) })
    }

    fn inspect<'a>(
        &'a self,
        tracked: &'a [Tracked],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        Box::pin(self.trip(|| vec![None; tracked.len()]))
    }
}

/// A relay's transaction, from when it has the lock.
async fn hold(world: Arc<World>, session: u64, ids: Vec<u64>) -> Result<Relayed, StoreError> {
    let stands_still = !world.plan.is_calm && world.chance(4);
    let millis = if stands_still { world.between(20, 2 * LOCK_TIMEOUT) } else { world.draw(3) };
    sleep(Duration::from_millis(millis.min(LOCK_TIMEOUT))).await;
    if !world.database.is_open(session) {
        return Err(down());
    }
    let is_thrown_out = millis > LOCK_TIMEOUT;
    let moved = &ids[..ids.len().min(RELAYED_MAX)];
    let head = if is_thrown_out { 0 } else { world.database.append(&world, moved) };
    world.database.state.lock().is_relaying = false;
    match (is_thrown_out, moved.len() < ids.len()) {
        (true, _) => Err(StoreError::Locked(Duration::from_millis(LOCK_TIMEOUT))),
        (false, true) => Ok(Relayed::Some),
        (false, false) => Ok(Relayed::All { head }),
    }
}
