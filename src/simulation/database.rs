//! A database with transactions, an outbox whose numbers are taken inside them, a log, and backups.
//!
//! READ COMMITTED: what a query finds is what is committed at one moment of it. A row that is being written is locked
//! until its writer commits. All of it may be gone for a while, and come back as it was earlier.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::{Duration, sleep};

use super::{
    history::{Nanos, Write},
    node::Gate,
    world::World,
};
use crate::group::{
    BoxFuture, Change, Condition, Key, LoadError, Loader, LogAppend, LogId, Position, Selection, Value,
    Write as GroupWrite, WriteError, Writer, Written,
};

/// A row of the outbox or of the log.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) change: Change,
    /// When its writer committed.
    pub(super) at: Nanos,
    /// Drawn when it came into the log.
    pub(super) stamp: i64,
}

/// What is durable.
#[derive(Clone, Debug)]
pub(super) struct Data {
    /// By key: its version, if it has a value.
    pub(super) rows: Vec<Option<u64>>,
    pub(super) next_id: u64,
    /// What is committed, by number.
    pub(super) outbox: BTreeMap<u64, Row>,
    pub(super) id: LogId,
    pub(super) head: u64,
    pub(super) floor: u64,
    /// The rows after the floor.
    pub(super) log: VecDeque<Row>,
}

impl Data {
    /// Row `seq` of the log, if it is there.
    pub(super) fn row(&self, seq: u64) -> Option<&Row> {
        self.log.get(usize::try_from(seq.checked_sub(self.floor + 1)?).ok()?)
    }
}

pub(super) struct State {
    pub(super) data: Data,
    backups: Vec<Data>,
    /// Which rows are locked.
    locked: Vec<bool>,
    /// Somebody relays.
    pub(super) is_relaying: bool,
    is_down: bool,
    /// Changes when all connections break.
    pub(super) session: u64,
    next_version: u64,
    /// What nodes wrote, by the number that they were given with it.
    written: HashMap<u64, Committed>,
    /// What was written without a row in the outbox, and not told of since.
    silent: Vec<Committed>,
    /// Of every log there was: when it began, and its rows.
    logs: HashMap<u64, (Nanos, BTreeMap<u64, Row>)>,
}

pub(super) struct Database {
    pub(super) state: Mutex<State>,
}

/// A write that was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    pub(super) key: usize,
    pub(super) at: Nanos,
    /// Its place in the history.
    pub(super) place: usize,
}

pub(super) fn key(number: usize) -> Key {
    Key::new(format!("key-{number}")).expect("a key")
}

pub(super) fn number(key: &[u8]) -> usize {
    let text = std::str::from_utf8(key).expect("one of ours");
    text.trim_start_matches("key-").parse().expect("one of ours")
}

/// Whether `change` is about the key.
fn names(change: &Change, number: usize) -> bool {
    match change {
        Change::Key(named) => *named == key(number),
        Change::Prefix(prefix) => key(number).as_bytes().starts_with(prefix),
    }
}

impl Database {
    pub(super) fn new(keys: usize, rng: &mut Rng) -> Self {
        let id = LogId(rng.u64(..));
        let data = Data {
            rows: (0..keys).map(|key| (key > 0).then_some(key as u64 + 1)).collect(),
            next_id: 1,
            outbox: BTreeMap::new(),
            id,
            head: 0,
            floor: 0,
            log: VecDeque::new(),
        };
        let state = State {
            backups: vec![data.clone()],
            data,
            locked: vec![false; keys],
            is_relaying: false,
            is_down: false,
            session: 0,
            next_version: 100,
            written: HashMap::new(),
            silent: Vec::new(),
            logs: HashMap::from([(id.0, (0, BTreeMap::new()))]),
        };
        Self { state: Mutex::new(state) }
    }

    /// Notes what is in it at the beginning.
    pub(super) fn open(&self, world: &World) {
        for (key, version) in self.state.lock().data.rows.iter().enumerate() {
            world.wrote(key, Write { version: *version, from: 0, by: Some(0) });
        }
    }

    /// The session of a new query; `None` if the database is down.
    pub(super) fn connect(&self) -> Option<u64> {
        let state = self.state.lock();
        (!state.is_down).then_some(state.session)
    }

    pub(super) fn is_open(&self, session: u64) -> bool {
        let state = self.state.lock();
        !state.is_down && state.session == session
    }

    /// The moment of the last change of the key up to `position`: who has applied that knows of it.
    pub(super) fn moment(&self, position: Position, key: usize) -> Nanos {
        let state = self.state.lock();
        let Some((begun, rows)) = state.logs.get(&position.log.0) else { return 0 };
        let last = rows.range(..=position.seq).rev().find(|(_, row)| names(&row.change, key));
        last.map_or(*begun, |(_, row)| row.at.max(*begun))
    }

    /// Moves rows from the outbox to the log. The caller holds the relay's lock.
    pub(super) fn append(&self, world: &World, ids: &[u64]) -> u64 {
        let mut state = self.state.lock();
        let State { data, logs, .. } = &mut *state;
        for id in ids {
            if let Some(mut row) = data.outbox.remove(id) {
                data.head += 1;
                row.stamp = (world.random() >> 1) as i64;
                world.note(99, "relays to / outbox", data.head, *id);
                data.log.push_back(row.clone());
                if let Some((_, rows)) = logs.get_mut(&data.id.0) {
                    rows.insert(data.head, row);
                }
            }
        }
        data.head
    }

    /// One transaction that gives each of `keys` a new version, or removes it, with or without rows in the outbox.
    /// What it committed; nothing if it rolled back.
    pub(super) async fn transact(
        &self,
        world: &Arc<World>,
        keys: &[usize],
        is_silent: bool,
    ) -> Vec<Committed> {
        world.delay(world.plan.query).await;
        let Some(session) = self.connect() else { return Vec::new() };
        let mut held = Vec::new();
        let mut taken = Vec::new();
        for key in keys {
            if !self.lock(session, *key).await {
                self.unlock(session, &held);
                return Vec::new();
            }
            held.push(*key);
            if !is_silent {
                let mut state = self.state.lock();
                taken.push(state.data.next_id);
                state.data.next_id += 1;
            }
            world.pause(0, 6).await;
        }
        let rolls_back = world.chance(4);
        if !self.is_open(session) || rolls_back {
            self.unlock(session, &held);
            return Vec::new();
        }
        let mut committed = Vec::new();
        // One moment for all of it.
        let at = world.note(99, "commits key / silent", keys[0] as u64, u64::from(is_silent));
        let mut state = self.state.lock();
        for (nth, number) in keys.iter().enumerate() {
            state.next_version += 1;
            let version = (!world.chance(12)).then_some(state.next_version);
            state.data.rows[*number] = version;
            if !is_silent {
                let row = Row { change: Change::Key(key(*number)), at, stamp: 0 };
                state.data.outbox.insert(taken[nth], row);
            }
            let place = world.wrote(*number, Write { version, from: at, by: (!is_silent).then_some(at) });
            let written = Committed { key: *number, at, place };
            if is_silent {
                state.silent.push(written);
            }
            committed.push(written);
        }
        drop(state);
        self.unlock(session, &held);
        committed
    }

    /// What a node wrote that was given `number` with it.
    pub(super) fn written(&self, number: u64) -> Option<Committed> {
        self.state.lock().written.remove(&number)
    }

    async fn lock(&self, session: u64, key: usize) -> bool {
        for _ in 0..100 {
            {
                let mut state = self.state.lock();
                if state.is_down || state.session != session {
                    return false;
                }
                if !state.locked[key] {
                    state.locked[key] = true;
                    return true;
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
        false
    }

    fn unlock(&self, session: u64, keys: &[usize]) {
        let mut state = self.state.lock();
        if state.session == session {
            keys.iter().for_each(|key| state.locked[*key] = false);
        }
    }

    /// All connections break, and new ones are refused until [`start`](Self::start).
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.is_down = true;
        state.session += 1;
        state.is_relaying = false;
        state.locked.fill(false);
    }

    pub(super) fn start(&self) {
        self.state.lock().is_down = false;
    }

    pub(super) fn back_up(&self) {
        let mut state = self.state.lock();
        let data = state.data.clone();
        state.backups.push(data);
    }

    /// Brings a backup back, with a log of another name. The database is stopped.
    pub(super) fn restore(&self, world: &World) {
        let mut state = self.state.lock();
        let at = world.note(99, "is restored to head / from head", 0, state.data.head);
        let from = state.backups.len().saturating_sub(3);
        let chosen = from + world.one_of(state.backups.len() - from);
        let mut data = state.backups[chosen].clone();
        data.id = LogId(world.random());
        for (key, version) in data.rows.iter().enumerate() {
            if state.data.rows[key] != *version {
                world.wrote(key, Write { version: *version, from: at, by: Some(at) });
            }
        }
        // What is not in that log any more was never in it, and its backups are no longer ours.
        state.logs.insert(data.id.0, (at, BTreeMap::new()));
        state.backups = vec![data.clone()];
        state.data = data;
    }

    /// Removes the oldest rows of the log, but the last `keep`.
    pub(super) fn trim(&self, keep: u64) -> u64 {
        let data = &mut self.state.lock().data;
        let floor = data.head.saturating_sub(keep).max(data.floor);
        let gone = floor - data.floor;
        data.log.drain(..gone as usize);
        data.floor = floor;
        gone
    }
}

/// A node's way to the rows.
pub(super) struct Rows {
    pub(super) world: Arc<World>,
    pub(super) node: usize,
    pub(super) gate: Arc<Gate>,
    /// How this node writes a value.
    pub(super) definition: u64,
}

impl Loader for Rows {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let database = &self.world.database;
            self.gate.pass().await;
            super::node::check_owner(&self.world, self.node, keys);
            self.world.delay(self.world.plan.query).await;
            let Some(session) = database.connect() else { return Err(LoadError::unavailable("down")) };
            let found: Vec<Option<u64>> =
                keys.iter().map(|key| database.state.lock().data.rows[number(key.as_bytes())]).collect();
            for (key, version) in keys.iter().zip(&found) {
                self.world.note(
                    self.node,
                    "queries key / version",
                    number(key.as_bytes()) as u64,
                    version.unwrap_or(0),
                );
            }
            self.world.delay(self.world.plan.query).await;
            if !database.is_open(session) {
                return Err(LoadError::unavailable("the connection broke"));
            }
            self.gate.pass().await;
            let value = |version: u64| Value::text(format!("{version}:{}", self.definition));
            Ok(found.into_iter().map(|version| version.map(value)).collect())
        })
    }
}

impl LogAppend for Rows {
    fn append<'a>(&'a self, selection: &'a Selection) -> BoxFuture<'a, Result<(), LoadError>> {
        Box::pin(async move {
            let database = &self.world.database;
            self.gate.pass().await;
            self.world.delay(self.world.plan.query).await;
            let Some(session) = database.connect() else { return Err(LoadError::unavailable("down")) };
            let at = self.world.note(self.node, "appends an invalidation", 0, 0);
            let changes: Vec<Change> = match selection {
                Selection::Keys(keys) => keys.iter().cloned().map(Change::Key).collect(),
                Selection::Prefix(prefix) => vec![Change::Prefix(prefix.clone())],
            };
            {
                let mut state = database.state.lock();
                let due = |silent: &Committed| changes.iter().any(|change| names(change, silent.key));
                state.silent.extract_if(.., |silent| due(silent)).for_each(|silent| {
                    self.world.committed(silent.key, silent.place, at);
                });
                for change in changes {
                    let id = state.data.next_id;
                    state.data.next_id += 1;
                    state.data.outbox.insert(id, Row { change, at, stamp: 0 });
                }
            }
            self.world.delay(self.world.plan.query).await;
            if !database.is_open(session) {
                return Err(LoadError::unavailable("the connection broke"));
            }
            self.gate.pass().await;
            Ok(())
        })
    }
}

impl Writer for Rows {
    /// What is put is only a number, by which the write is found; the database gives the version.
    fn write<'a>(
        &'a self,
        key: &'a Key,
        write: &'a GroupWrite,
        _: Option<&'a Condition>,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let GroupWrite::Put(bytes) = write else { return Ok(Written::Absent) };
            self.gate.pass().await;
            let committed = self.world.database.transact(&self.world, &[number(key.as_bytes())], false).await;
            let Some(committed) = committed.first() else {
                return Err(WriteError::Failed(LoadError::unavailable("it rolled back")));
            };
            let text = String::from_utf8_lossy(bytes);
            let given = text.parse().expect("a number");
            self.world.database.state.lock().written.insert(given, *committed);
            self.gate.pass().await;
            Ok(Written::Done)
        })
    }
}
