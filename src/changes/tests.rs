//! The follower on paused time, over a database in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Applies, ChangeStore, Follower, LogRow, Pace, Page, Relayed, Seen, Source, Sources, StoreError, Touched,
    Tracked, Waiting,
};
use crate::{
    database::KeyType,
    group::{BoxFuture, Change, Key, LogCell, LogId, Position},
    time::{Clock, TokioClock},
};

/// Outbox and log in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    log_id: u64,
    history: i64,
    floor: u64,
    head: u64,
    outbox: Vec<(u64, LogRow)>,
    log: Vec<LogRow>,
    locked: bool,
    away: bool,
    /// What the log's id is right after the next look.
    restored: Option<u64>,
    /// Where the log begins right after the next look.
    trimmed_to: Option<u64>,
    not_logged: Option<String>,
    looks: u64,
    asked: u64,
    trimmed: u64,
}

fn source() -> Source {
    Source { table: "t".into(), key_column: "k".into() }
}

fn key(key: &str) -> Change {
    Change::Key(Key::new(key).expect("a key"))
}

impl Memory {
    fn write(&self, id: u64, name: &str) {
        let row = LogRow { seq: 0, source: source(), change: Some(key(name)), stamp: 0 };
        self.0.lock().outbox.push((id, row));
    }

    fn state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> T + Send,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let mut state = self.0.lock();
        state.asked += u64::from(state.away);
        let answer = if state.away { Err(StoreError::Late(Duration::ZERO)) } else { Ok(work(&mut state)) };
        Box::pin(async move {
            sleep(Duration::from_millis(1)).await;
            answer
        })
    }
}

impl ChangeStore for Memory {
    fn look(&self) -> BoxFuture<'_, Result<Seen, StoreError>> {
        self.state(|state| {
            state.looks += 1;
            let ids = || state.outbox.iter().map(|(id, _)| *id);
            let waiting = ids().min().zip(ids().max());
            let log = LogId(state.log_id);
            state.log_id = state.restored.take().unwrap_or(state.log_id);
            let floor = state.floor;
            state.floor = state.trimmed_to.take().unwrap_or(floor);
            Seen {
                log,
                head: state.head,
                stamp: state.log.last().map(|row| row.stamp),
                floor,
                waiting: waiting.map(|(oldest, newest)| Waiting { oldest, newest }),
            }
        })
    }

    fn relay(&self, up_to: u64) -> BoxFuture<'_, Result<Relayed, StoreError>> {
        self.state(move |state| {
            if state.locked {
                return Relayed::Busy;
            }
            state.outbox.sort_by_key(|(id, _)| *id);
            let Some(at) = state.outbox.iter().position(|(id, _)| *id <= up_to) else {
                return Relayed::All { head: state.head };
            };
            let (_, row) = state.outbox.remove(at);
            state.head += 1;
            state.log.push(LogRow { seq: state.head, stamp: state.history, ..row });
            Relayed::Some
        })
    }

    fn read(&self, after: u64) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.state(move |state| Page {
            log: Some(LogId(state.log_id)),
            before: state.log.iter().find(|row| row.seq == after).map(|row| row.stamp),
            floor: state.floor,
            rows: state.log.iter().filter(|row| row.seq > after).take(2).cloned().collect(),
        })
    }

    fn touched(&self, after: u64, up_to: u64) -> BoxFuture<'_, Result<Touched, StoreError>> {
        self.state(move |state| Touched {
            before: state.log.iter().find(|row| row.seq == after).map(|row| row.stamp),
            floor: state.floor,
            log: Some(LogId(state.log_id)),
            sources: vec![source()],
            stamp: state.log.iter().find(|row| row.seq == up_to).map(|row| row.stamp),
        })
    }

    fn trim(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.state(|state| {
            state.trimmed += 1;
            0
        })
    }

    fn inspect<'a>(
        &'a self,
        tracked: &'a [Tracked],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        self.state(|state| vec![state.not_logged.clone(); tracked.len()])
    }
}

/// Notes what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>, AtomicBool);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Applies for Told {
    fn apply(&self, seq: u64, change: &Change) {
        let what = match change {
            Change::Key(key) => String::from_utf8_lossy(key.as_bytes()).into_owned(),
            Change::Prefix(prefix) => format!("{}*", String::from_utf8_lossy(prefix)),
        };
        self.0.lock().push(format!("{seq} {what}"));
    }

    fn reset(&self, head: u64) {
        self.0.lock().push(format!("reset {head}"));
    }

    fn set_logged(&self, is_on: bool) {
        let mut told = self.0.lock();
        if self.1.swap(is_on, Ordering::SeqCst) != is_on {
            told.push(format!("logged {is_on}"));
        }
    }
}

struct Site {
    store: Arc<Memory>,
    told: Arc<Told>,
    cell: Arc<LogCell>,
    clock: TokioClock,
    stop: CancellationToken,
}

impl Site {
    async fn start(prepare: impl FnOnce(&mut State)) -> Self {
        let store = Arc::new(Memory::default());
        prepare(&mut store.0.lock());
        let (told, cell, clock) = (Arc::new(Told::default()), LogCell::new(), TokioClock::new());
        let sources = Sources::new();
        let tracked = Tracked { source: source(), key_type: KeyType::Text };
        sources.add(tracked, Arc::clone(&told) as Arc<dyn Applies>);
        let pace = Pace::new(Duration::from_millis(20), Duration::from_secs(1), || 1);
        let follower =
            Follower::new("db", Arc::clone(&store), sources, Arc::clone(&cell), Arc::new(clock), pace);
        let stop = CancellationToken::new();
        tokio::spawn(follower.run(stop.clone()));
        let site = Self { store, told, cell, clock, stop };
        site.settle().await;
        site
    }

    /// Waits for a few looks.
    async fn settle(&self) {
        sleep(Duration::from_millis(200)).await;
    }

    fn is_fresh(&self) -> bool {
        self.cell.is_fresh(self.clock.now(), Duration::from_millis(100))
    }

    fn at(&self) -> Option<Position> {
        self.cell.cursor()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const fn position(log: u64, seq: u64) -> Option<Position> {
    Some(Position { log: LogId(log), seq })
}

#[tokio::test(start_paused = true)]
async fn rows_are_applied_in_the_order_of_the_log() {
    let site = Site::start(|state| state.log_id = 7).await;
    assert_eq!((site.told.take(), site.at()), (vec!["reset 0".into(), "logged true".into()], position(7, 0)));
    assert!(site.is_fresh());
    for (id, name) in [(3, "c"), (1, "a"), (2, "b"), (9, "a"), (8, "d")] {
        site.store.write(id, name);
    }
    site.settle().await;
    assert_eq!(site.told.take(), ["1 a", "2 b", "3 c", "4 d", "5 a"]);
    assert_eq!(site.at(), position(7, 5));
}

#[tokio::test(start_paused = true)]
async fn who_wants_a_look_need_not_wait_for_the_poll() {
    let site = Site::start(|state| state.log_id = 7).await;
    site.store.write(1, "a");
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(1);
    let cursor = site.cell.look_now(site.clock.now(), deadline).await;
    assert_eq!(cursor, position(7, 1));
    assert!(begun.elapsed() < Duration::from_millis(15), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_relay_is_waited_for() {
    let site = Site::start(|state| state.log_id = 7).await;
    site.told.take();
    site.store.0.lock().locked = true;
    site.store.write(1, "a");
    site.settle().await;
    assert!(!site.is_fresh() && site.told.take().is_empty(), "a row that waits is not known");
    {
        // The other one is done, and more has come meanwhile.
        let mut state = site.store.0.lock();
        let (_, row) = state.outbox.remove(0);
        state.head = 1;
        state.log.push(LogRow { seq: 1, ..row });
    }
    site.store.write(2, "b");
    sleep(Duration::from_millis(60)).await;
    assert_eq!((site.told.take(), site.at()), (vec!["1 a".to_owned()], position(7, 1)));
    site.store.0.lock().locked = false;
    // The look took long, and the next one comes no sooner for that.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(site.told.take(), ["2 b"]);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_followed_resets() {
    let row = |seq, stamp| LogRow { seq, source: source(), change: Some(key("x")), stamp };
    let site = Site::start(|state| {
        state.log_id = 7;
        state.head = 3;
        state.log = (1..=3).map(|seq| row(seq, 1)).collect();
    })
    .await;
    assert_eq!(site.told.take()[0], "reset 3");
    let reset = async |change: Box<dyn FnOnce(&mut State) + '_>, cursor| {
        change(&mut site.store.0.lock());
        site.settle().await;
        assert_eq!(site.at(), cursor);
        assert!(site.is_fresh());
        site.told.take()
    };
    // A restore, of the same log.
    assert_eq!(
        reset(
            Box::new(|state| {
                state.log.pop();
                state.head = 2;
            }),
            position(7, 2)
        )
        .await,
        ["reset 2"]
    );
    // One that has grown again, to the same length or beyond.
    let again = |state: &mut State, head| {
        state.head = head;
        state.history += 1;
        let stamp = state.history + 10;
        state.log = (1..=head).map(|seq| row(seq, stamp)).collect();
    };
    assert_eq!(reset(Box::new(|state| again(state, 2)), position(7, 2)).await, ["reset 2"]);
    assert_eq!(reset(Box::new(|state| again(state, 5)), position(7, 5)).await, ["reset 5"]);
    // Rows that retention took before they were read.
    let told = reset(
        Box::new(|state| {
            state.head = 9;
            state.floor = 7;
            state.log = vec![row(8, 50), row(9, 50)];
        }),
        position(7, 9),
    );
    assert_eq!(told.await, ["reset 9"]);
    // Another log.
    assert_eq!(reset(Box::new(|state| state.log_id = 8), position(8, 9)).await, ["reset 9"]);
    // The row before is gone, and nothing after it.
    let told = reset(
        Box::new(|state| {
            state.floor = 9;
            state.head = 10;
            state.log = vec![row(10, 50)];
        }),
        position(8, 10),
    );
    assert_eq!(told.await, ["10 x"]);
}

#[tokio::test(start_paused = true)]
async fn rows_of_another_log_are_not_taken_for_those_of_this_one() {
    // Some rows, and so many that only their tables are asked for.
    for head in [1, 200_000] {
        let site = Site::start(|state| state.log_id = 7).await;
        site.told.take();
        {
            let mut state = site.store.0.lock();
            state.restored = Some(8);
            state.head = head;
            state.log.push(LogRow { seq: head, source: source(), change: Some(key("x")), stamp: 0 });
        }
        site.settle().await;
        assert_eq!((site.told.take(), site.at()), (vec![format!("reset {head}")], position(8, head)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_a_database_that_was_restored_is_not_taken_for_applied() {
    let site = Site::start(|state| state.log_id = 7).await;
    site.told.take();
    site.store.0.lock().locked = true;
    site.store.write(1, "a");
    let (cell, now) = (Arc::clone(&site.cell), site.clock.now());
    let deadline = Instant::now() + Duration::from_secs(10);
    let looking = tokio::spawn(async move { cell.look_now(now, deadline).await });
    site.settle().await;
    {
        // The row is gone from the outbox, and never was in a log.
        let mut state = site.store.0.lock();
        (state.log_id, state.locked) = (8, false);
        state.outbox.clear();
    }
    assert_eq!(looking.await.expect("it ends"), None, "it is not known what has become of the row");
    site.settle().await;
    assert_eq!((site.told.take(), site.at()), (vec!["reset 0".to_owned()], position(8, 0)));
}

#[tokio::test(start_paused = true)]
async fn who_is_far_behind_drops_tables() {
    let site = Site::start(|state| state.log_id = 7).await;
    site.told.take();
    {
        let mut state = site.store.0.lock();
        state.head = 200_000;
        state.log.push(LogRow { seq: 200_000, source: source(), change: Some(key("x")), stamp: 3 });
    }
    site.settle().await;
    assert_eq!((site.told.take(), site.at()), (vec!["200000 *".to_owned()], position(7, 200_000)));
}

#[tokio::test(start_paused = true)]
async fn who_is_far_behind_misses_no_rows_that_were_removed() {
    let site = Site::start(|state| state.log_id = 7).await;
    site.told.take();
    {
        let mut state = site.store.0.lock();
        // Removed after the look, before the tables are asked for.
        state.trimmed_to = Some(150_000);
        state.head = 200_000;
        state.log.push(LogRow { seq: 200_000, source: source(), change: Some(key("x")), stamp: 3 });
    }
    site.settle().await;
    assert_eq!((site.told.take(), site.at()), (vec!["reset 200000".to_owned()], position(7, 200_000)));
}

#[tokio::test(start_paused = true)]
async fn a_table_without_triggers_goes_by_ttl() {
    let site = Site::start(|state| state.not_logged = Some("no triggers".into())).await;
    assert!(site.told.take().is_empty() && !site.is_fresh());
    let soon = Instant::now() + Duration::from_millis(500);
    assert_eq!(site.cell.look_now(site.clock.now(), soon).await, None);
    assert!(Instant::now() < soon, "nobody waits for a look that will not be");
    assert_eq!(site.store.0.lock().looks, 0);
    site.store.0.lock().not_logged = None;
    sleep(Duration::from_secs(12)).await;
    assert_eq!(site.told.take(), ["reset 0", "logged true"]);
    assert!(site.is_fresh());
    site.store.0.lock().not_logged = Some("dropped".into());
    sleep(Duration::from_secs(12)).await;
    let told = site.told.take();
    assert_eq!(told.last().map(String::as_str), Some("logged false"), "{told:?}");
    assert!(!site.is_fresh());
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_asked_again_with_pauses() {
    let site = Site::start(|state| state.log_id = 7).await;
    site.store.0.lock().away = true;
    sleep(Duration::from_secs(30)).await;
    assert!(!site.is_fresh());
    assert_eq!(site.at(), position(7, 0));
    site.store.0.lock().away = false;
    site.store.write(1, "a");
    sleep(Duration::from_secs(2)).await;
    assert!(site.is_fresh());
    let told = site.told.take();
    assert_eq!(
        told.iter().filter(|told| told.starts_with("reset")).count(),
        1,
        "only at the start: {told:?}"
    );
    assert!(told.contains(&"1 a".to_owned()));
    let asked = site.store.0.lock().asked;
    assert!((30..150).contains(&asked), "{asked} questions while it was away");
    assert!(site.store.0.lock().trimmed > 0);
}
