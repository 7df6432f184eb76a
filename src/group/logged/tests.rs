//! A group alone with a log that the test moves.

use super::*;
use crate::{
    group::{
        BoxFuture, GroupName, GroupParts, GroupSettings, Key, LoadError, Loader, LogId, Outcome, Selection,
        Value,
    },
    time::{Clock, TokioClock},
};
use parking_lot::Mutex;

const LOG: LogId = LogId(7);

const fn at(seq: u64) -> Position {
    Position { log: LOG, seq }
}

/// A database of one row, whose value is the number of changes so far.
#[derive(Default)]
struct Row {
    version: AtomicU64,
    loads: AtomicU64,
    /// What a load does between its read and its answer.
    delay: Mutex<Duration>,
    is_down: AtomicBool,
}

impl Loader for Row {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            self.loads.fetch_add(1, Ordering::SeqCst);
            if self.is_down.load(Ordering::SeqCst) {
                return Err(LoadError::unavailable("on purpose"));
            }
            let version = self.version.load(Ordering::SeqCst);
            let delay = *self.delay.lock();
            tokio::time::sleep(delay).await;
            Ok(keys.iter().map(|_| Some(Value::text(version.to_string()))).collect())
        })
    }
}

struct Site {
    row: Arc<Row>,
    cell: Arc<LogCell>,
    clock: Arc<TokioClock>,
    group: Arc<Group>,
}

impl Site {
    fn new() -> Self {
        let site = Self::unknown();
        site.group.set_logged(true);
        site
    }

    /// Nobody has seen yet whether the table has its triggers.
    fn unknown() -> Self {
        let (row, cell, clock) = (Arc::new(Row::default()), LogCell::new(), Arc::new(TokioClock::new()));
        let log = Some(GroupLog { cell: Arc::clone(&cell), append: None });
        let parts = GroupParts { clock: clock.clone(), log, ..GroupParts::alone(Arc::clone(&row)) };
        let name = GroupName::new("scores").expect("a name");
        let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
        Self { row, cell, clock, group }
    }

    fn change(&self) -> u64 {
        self.row.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A look at the log that finds rows up to `seq`, the last of which is about the key.
    fn look(&self, seq: u64) {
        let (look, now) = (self.cell.begin_look(), self.clock.now());
        if self.cell.cursor().is_none_or(|cursor| cursor.seq < seq) {
            self.group.apply(seq, &Change::Key(Key::new("anna").expect("a key")));
            self.cell.advance(at(seq));
        }
        self.cell.end_look(look, Some(now));
    }

    async fn get(&self) -> (String, Outcome) {
        let answer = self.group.get(b"anna", deadline()).await.expect("an answer");
        (text(&answer), answer.outcome)
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.value.as_ref().expect("a value").bytes().to_vec()).expect("text")
}

#[tokio::test(start_paused = true)]
async fn memory_answers_only_as_long_as_it_is_known_to_be_current() {
    let site = Site::new();
    assert_eq!(site.get().await.1, Outcome::Load);
    assert_eq!(site.get().await.1, Outcome::Load, "nobody has looked at the log yet");
    site.look(1);
    assert_eq!(site.get().await.1, Outcome::Load);
    assert_eq!(site.get().await.1, Outcome::Hit);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(site.get().await.1, Outcome::Hit);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(site.get().await.1, Outcome::Load, "the bound is over");
    assert_eq!(site.group.peek(b"anna"), None);
    site.row.is_down.store(true, Ordering::SeqCst);
    let refused = site.group.get(b"anna", deadline()).await.expect_err("an older value is no answer");
    assert!(matches!(refused, GetError::Load(LoadError::Unavailable(_))), "{refused:?}");
    site.look(1);
    assert_eq!(site.get().await.1, Outcome::Hit, "nothing has changed meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_row_drops_what_it_names_and_keeps_out_what_is_under_way() {
    let site = Site::new();
    site.look(1);
    assert_eq!(site.get().await.0, "0");
    site.change();
    site.look(2);
    assert_eq!(site.get().await, ("1".to_owned(), Outcome::Load));
    site.group.apply(3, &Change::Prefix(b"an".to_vec()));
    *site.row.delay.lock() = Duration::from_millis(10);
    let under_way = tokio::spawn({
        let group = Arc::clone(&site.group);
        async move { group.get(b"anna", deadline()).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let version = site.change();
    site.look(4);
    let late = tokio::spawn({
        let group = Arc::clone(&site.group);
        async move { group.get(b"anna", deadline()).await }
    });
    assert_eq!(text(&under_way.await.expect("no panic").expect("an answer")), "1", "it asked before");
    let late = late.await.expect("no panic").expect("an answer");
    assert_eq!(text(&late), version.to_string(), "it joined no flight from before the row");
    assert_eq!(site.get().await, (version.to_string(), Outcome::Hit));
}

#[tokio::test(start_paused = true)]
async fn a_position_is_waited_for_or_read_past() {
    let site = Site::new();
    site.look(1);
    assert_eq!(site.get().await.0, "0");
    site.change();
    let reader = tokio::spawn({
        let group = Arc::clone(&site.group);
        async move { group.get_at(b"anna", at(2), deadline()).await }
    });
    site.cell.wanted().await;
    site.look(2);
    assert_eq!(text(&reader.await.expect("no panic").expect("an answer")), "1");
    // Positions that the log does not have: memory is as good, after a look.
    let loads = site.row.loads.load(Ordering::SeqCst);
    for position in [at(3), Position { log: LogId(1), seq: 0 }] {
        let reader = tokio::spawn({
            let group = Arc::clone(&site.group);
            async move { group.get_at(b"anna", position, deadline()).await }
        });
        site.cell.wanted().await;
        site.look(2);
        let read = reader.await.expect("no panic").expect("an answer");
        assert_eq!((text(&read).as_str(), read.outcome), ("1", Outcome::Hit));
    }
    assert_eq!(site.row.loads.load(Ordering::SeqCst), loads);
    // Nobody reads the log: the database is asked.
    tokio::time::advance(Duration::from_millis(1)).await;
    for position in [at(3), Position { log: LogId(1), seq: 0 }] {
        site.change();
        let read = site.group.get_at(b"anna", position, deadline()).await.expect("an answer");
        assert_eq!(text(&read), site.row.version.load(Ordering::SeqCst).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_peer_says_is_used_between_two_logs() {
    let site = Site::new();
    site.look(5);
    let slot = || site.group.store.slot(site.group.store.hash(b"anna"));
    let need = site.group.need(slot());
    assert!(need == Some(at(5)) && site.group.is_usable(need, Some(at(5))));
    site.cell.lose();
    site.group.reset(3);
    // A peer that still reads the old log is further in it than the slot says.
    let need = site.group.need(slot());
    assert!(need.is_none() && !site.group.is_usable(need, Some(at(5))));
    site.cell.advance(Position { log: LogId(8), seq: 3 });
    let need = site.group.need(slot());
    assert!(!site.group.is_usable(need, Some(at(5))));
}

#[tokio::test(start_paused = true)]
async fn memory_answers_nothing_before_it_is_known_whether_there_are_triggers() {
    let site = Site::unknown();
    for version in ["1", "2", "3"] {
        site.row.version.store(version.parse().expect("a number"), Ordering::SeqCst);
        assert_eq!(site.get().await, (version.to_owned(), Outcome::Load));
    }
    site.group.set_logged(false);
    site.get().await;
    assert_eq!(site.get().await.1, Outcome::Hit);
}

#[tokio::test(start_paused = true)]
async fn without_triggers_the_ttl_bounds() {
    let site = Site::new();
    site.look(1);
    assert_eq!(site.get().await.1, Outcome::Load);
    site.group.set_logged(false);
    assert_eq!((site.get().await.1, site.group.cursor()), (Outcome::Load, None), "the memory was dropped");
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(site.get().await.1, Outcome::Hit);
    site.group.set_logged(true);
    site.look(1);
    assert_eq!(site.get().await.1, Outcome::Load, "and once more");
    assert_eq!(site.group.staleness(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_goes_through_the_log() {
    struct Append(AtomicBool);
    impl LogAppend for Append {
        fn append<'a>(&'a self, _: &'a Selection) -> BoxFuture<'a, Result<(), LoadError>> {
            Box::pin(async move {
                if self.0.load(Ordering::SeqCst) { Err(LoadError::unavailable("on purpose")) } else { Ok(()) }
            })
        }
    }
    let cell = LogCell::new();
    let append = Arc::new(Append(AtomicBool::new(false)));
    let log = Some(GroupLog { cell: Arc::clone(&cell), append: Some(append.clone()) });
    let parts = GroupParts { log, ..GroupParts::alone(Arc::new(Row::default())) };
    let group = Group::new(
        GroupName::new("scores").expect("a name"),
        GroupConfig::default(),
        GroupSettings::default(),
        parts,
    );
    group.set_logged(true);
    let selection = Selection::Keys(vec![Key::new("anna").expect("a key")]);
    let told = tokio::spawn({
        let (group, selection) = (Arc::clone(&group), selection.clone());
        async move { group.invalidate_everywhere(&selection, deadline()).await }
    });
    cell.wanted().await;
    let look = cell.begin_look();
    cell.advance(at(1));
    cell.end_look(look, Some(group.now()));
    assert!(told.await.expect("no panic").is_complete());
    append.0.store(true, Ordering::SeqCst);
    let report = group.invalidate_everywhere(&selection, deadline()).await;
    assert!(!report.is_complete() && report.acknowledged.is_empty(), "{report:?}");
}
