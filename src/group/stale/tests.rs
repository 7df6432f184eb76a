//! What is answered past the ttl, and what is loaded before it, counted by the loads; on paused time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;
use crate::{
    group::{
        BoxFuture, GroupConfig, GroupLog, GroupName, GroupParts, GroupSettings, Key, LoadError, Loader,
        LogCell, LogId, Outcome, Position, Selection, Value,
    },
    time::{Clock, TokioClock},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A database of one row, whose value is the number of loads so far.
#[derive(Default)]
struct Row {
    loads: AtomicU64,
    delay: Mutex<Duration>,
    failure: Mutex<Option<LoadError>>,
    is_gone: AtomicBool,
}

impl Loader for Row {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let load = self.loads.fetch_add(1, Ordering::SeqCst) + 1;
            let delay = *self.delay.lock();
            tokio::time::sleep(delay).await;
            if let Some(failure) = self.failure.lock().clone() {
                return Err(failure);
            }
            let value = (!self.is_gone.load(Ordering::SeqCst)).then(|| Value::text(load.to_string()));
            Ok(vec![value; keys.len()])
        })
    }
}

struct Site {
    row: Arc<Row>,
    clock: Arc<TokioClock>,
    cell: Arc<LogCell>,
    group: Arc<Group>,
}

impl Site {
    fn new(config: GroupConfig) -> Self {
        let (row, clock, cell) = (Arc::new(Row::default()), Arc::new(TokioClock::new()), LogCell::new());
        let log = Some(GroupLog { cell: Arc::clone(&cell), append: None });
        let parts = GroupParts { clock: clock.clone(), log, ..GroupParts::alone(Arc::clone(&row)) };
        let config = GroupConfig { ttl: 10 * SECOND, ttl_jitter: 0.0, ..config };
        let name = GroupName::new("scores").expect("a name");
        let group = Group::new(name, config, GroupSettings::default(), parts);
        // Its table has no triggers, for most of the tests.
        group.set_logged(false);
        Self { row, clock, cell, group }
    }

    async fn get(&self) -> Result<Answer, GetError> {
        self.group.get(b"anna", Instant::now() + 2 * SECOND).await
    }

    /// The value, and where it came from.
    async fn told(&self) -> (String, Outcome) {
        told(&self.get().await.expect("an answer"))
    }

    fn loads(&self) -> u64 {
        self.row.loads.load(Ordering::SeqCst)
    }

    fn fail(&self, failure: Option<LoadError>) {
        *self.row.failure.lock() = failure;
    }
}

fn told(answer: &Answer) -> (String, Outcome) {
    let value = answer.value.as_ref().expect("a value");
    (String::from_utf8(value.bytes().to_vec()).expect("text"), answer.outcome)
}

fn is(value: &str, outcome: Outcome) -> (String, Outcome) {
    (value.to_owned(), outcome)
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn revalidating() -> GroupConfig {
    GroupConfig { stale_while_revalidate: 5 * SECOND, ..GroupConfig::default() }
}

fn erring() -> GroupConfig {
    GroupConfig { stale_if_error: 5 * SECOND, ..GroupConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn without_windows_nothing_is_served_past_its_ttl() {
    let site = Site::new(GroupConfig::default());
    assert_eq!(site.told().await, is("1", Outcome::Load));
    pass(10 * SECOND).await;
    assert_eq!(site.told().await, is("2", Outcome::Load));
    site.fail(Some(LoadError::unavailable("on purpose")));
    pass(10 * SECOND).await;
    assert!(site.get().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_answered_at_once_while_one_flight_loads_it_anew() {
    let site = Site::new(revalidating());
    assert_eq!(site.told().await, is("1", Outcome::Load));
    pass(9 * SECOND).await;
    assert_eq!(site.told().await, is("1", Outcome::Hit));
    pass(2 * SECOND).await;
    *site.row.delay.lock() = SECOND / 2;
    let begun = Instant::now();
    for _ in 0..100 {
        let answer = site.get().await.expect("an answer");
        assert_eq!(told(&answer), is("1", Outcome::Stale));
        let now = site.clock.now();
        assert_eq!((answer.age(now), answer.remaining(now)), (11 * SECOND, Duration::ZERO));
        tokio::task::yield_now().await;
    }
    assert_eq!((begun.elapsed(), site.loads()), (Duration::ZERO, 2));
    pass(SECOND).await;
    assert_eq!(site.told().await, is("2", Outcome::Hit));
    assert_eq!(site.loads(), 2);
    // Once the window is over, it is a miss.
    pass(16 * SECOND).await;
    assert_eq!(site.told().await, is("3", Outcome::Load));
}

#[tokio::test(start_paused = true)]
async fn peers_and_reads_of_many_keys_get_it_too_and_peeks_do_not() {
    let site = Site::new(revalidating());
    site.told().await;
    pass(11 * SECOND).await;
    *site.row.delay.lock() = SECOND / 2;
    assert_eq!(site.group.peek(b"anna"), None);
    let deadline = Instant::now() + 2 * SECOND;
    let (answer, _) = site.group.get_as_owner(b"anna", None, deadline).await.expect("an answer");
    assert_eq!(told(&answer), is("1", Outcome::Stale));
    let keys = [Key::new("anna").expect("a key")];
    let many = site.group.get_many(&keys, usize::MAX, deadline).await;
    assert_eq!(told(many[0].as_ref().expect("an answer")), is("1", Outcome::Stale));
    let (_, cached) = site.group.get_many_as_owner(&keys, true, None, deadline).await.expect("it is there");
    assert!(matches!(cached[0], Ok(None)), "{cached:?}");
    assert!(site.group.in_memory(b"anna", deadline).await.expect("it looks").is_none());
    pass(MS).await;
    assert_eq!(site.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_load_gets_one() {
    let config = GroupConfig { stale_if_error: 5 * SECOND, ..revalidating() };
    let site = Site::new(config);
    site.told().await;
    pass(11 * SECOND).await;
    let fresh = site.group.fresh(b"anna", Instant::now() + SECOND).await.expect("an answer");
    assert_eq!(told(&fresh), is("2", Outcome::Load));
    pass(11 * SECOND).await;
    site.fail(Some(LoadError::unavailable("on purpose")));
    assert!(site.group.fresh(b"anna", Instant::now() + SECOND).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_the_origin_fails_to_give_is_answered_as_it_was() {
    let site = Site::new(erring());
    site.told().await;
    pass(11 * SECOND).await;
    let failures = [
        LoadError::unavailable("on purpose"),
        LoadError::Timeout(SECOND),
        LoadError::Open,
        LoadError::Busy(1),
        LoadError::Limited(Duration::from_secs(1)),
    ];
    for (n, failure) in failures.into_iter().enumerate() {
        site.fail(Some(failure));
        assert_eq!(site.told().await, is("1", Outcome::Stale));
        assert_eq!(site.loads(), n as u64 + 2, "each time it is tried first");
    }
    site.fail(Some(LoadError::TooLarge { bytes: 2, limit: 1 }));
    assert!(matches!(site.get().await, Err(GetError::Load(LoadError::TooLarge { .. }))));
    site.fail(None);
    *site.row.delay.lock() = 60 * SECOND;
    assert_eq!(site.told().await, is("1", Outcome::Stale), "a database that hangs has failed");
    pass(60 * SECOND).await;
    site.fail(Some(LoadError::unavailable("on purpose")));
    *site.row.delay.lock() = Duration::ZERO;
    assert!(site.get().await.is_err(), "the window is over");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_or_invalidated_is_never_served_as_stale() {
    let config = GroupConfig { stale_if_error: 5 * SECOND, negative_ttl: Duration::ZERO, ..revalidating() };
    let site = Site::new(config);
    site.told().await;
    pass(11 * SECOND).await;
    site.row.is_gone.store(true, Ordering::SeqCst);
    assert_eq!(site.told().await, is("1", Outcome::Stale));
    pass(MS).await;
    for loads in [3, 4] {
        let answer = site.get().await.expect("an answer");
        assert_eq!((answer.value, answer.outcome, site.loads()), (None, Outcome::Load, loads));
    }
    site.row.is_gone.store(false, Ordering::SeqCst);
    assert_eq!(site.told().await, is("5", Outcome::Load));
    pass(11 * SECOND).await;
    assert_eq!(site.group.invalidate(&Selection::Keys(vec![Key::new("anna").expect("a key")])), 1);
    site.fail(Some(LoadError::unavailable("on purpose")));
    assert!(site.get().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_absence_has_no_window() {
    let site = Site::new(GroupConfig { stale_if_error: 5 * SECOND, ..revalidating() });
    site.row.is_gone.store(true, Ordering::SeqCst);
    assert_eq!(site.get().await.expect("an answer").value, None);
    pass(5 * SECOND).await;
    site.fail(Some(LoadError::unavailable("on purpose")));
    assert!(site.get().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn where_the_log_is_behind_its_bound_nothing_stale_is_served() {
    let site = Site::new(GroupConfig { stale_if_error: 5 * SECOND, ..revalidating() });
    site.group.set_logged(true);
    let look = || {
        let look = site.cell.begin_look();
        site.cell.advance(Position { log: LogId(7), seq: 1 });
        site.cell.end_look(look, Some(site.clock.now()));
    };
    look();
    assert_eq!(site.told().await, is("1", Outcome::Load));
    pass(11 * SECOND).await;
    look();
    assert_eq!(site.told().await, is("1", Outcome::Stale), "it is known to be current");
    pass(MS).await;
    assert_eq!(site.told().await, is("2", Outcome::Hit));
    pass(11 * SECOND).await;
    site.fail(Some(LoadError::unavailable("on purpose")));
    assert!(site.get().await.is_err(), "nobody has looked at the log for longer than the bound");
}

#[tokio::test(start_paused = true)]
async fn a_key_in_demand_is_loaded_before_its_end_once() {
    let site = Site::new(GroupConfig { refresh_ahead: 0.2, ..GroupConfig::default() });
    site.told().await;
    *site.row.delay.lock() = SECOND / 2;
    pass(8 * SECOND).await;
    assert_eq!((site.told().await, site.loads()), (is("1", Outcome::Hit), 1), "its end is not near");
    pass(MS * 10).await;
    for _ in 0..100 {
        assert_eq!(site.told().await, is("1", Outcome::Hit));
        tokio::task::yield_now().await;
    }
    assert_eq!(site.loads(), 2);
    pass(SECOND).await;
    assert_eq!((site.told().await, site.loads()), (is("2", Outcome::Hit), 2));
    // Not where nobody asks.
    pass(30 * SECOND).await;
    assert_eq!(site.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_ahead_takes_no_miss_s_place() {
    let site = Site::new(GroupConfig {
        refresh_ahead: 0.9,
        load_budget: 4,
        stale_if_error: SECOND,
        ..GroupConfig::default()
    });
    site.told().await;
    pass(5 * SECOND).await;
    *site.row.delay.lock() = SECOND;
    let misses: Vec<_> = ["b", "c"]
        .map(|key| {
            let group = Arc::clone(&site.group);
            tokio::spawn(async move { group.get(key.as_bytes(), Instant::now() + 2 * SECOND).await })
        })
        .into();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(site.loads(), 3);
    assert_eq!(site.told().await, is("1", Outcome::Hit));
    tokio::task::yield_now().await;
    assert_eq!(site.loads(), 3, "half of the budget is taken");
    for miss in misses {
        assert!(miss.await.expect("no panic").is_ok());
    }
    site.fail(Some(LoadError::unavailable("on purpose")));
    assert_eq!(site.told().await, is("1", Outcome::Hit));
    pass(2 * SECOND).await;
    assert_eq!((site.told().await, site.loads()), (is("1", Outcome::Hit), 4), "a failure changes nothing");
}
