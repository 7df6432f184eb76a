//! A writable group alone: its log is read when the test says so.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::group::{
    Change, GroupConfig, GroupLog, GroupName, GroupParts, GroupSettings, Loader, LogCell, LogId, Outcome,
};

/// A database of one row and its log, which gets a row with each change.
struct Database {
    rows: Mutex<HashMap<Key, Value>>,
    log: Mutex<Vec<Key>>,
    writes_at_once: AtomicUsize,
    writes_at_once_max: AtomicUsize,
    loses_answers: AtomicBool,
}

impl Database {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            log: Mutex::default(),
            writes_at_once: AtomicUsize::new(0),
            writes_at_once_max: AtomicUsize::new(0),
            loses_answers: AtomicBool::new(false),
        })
    }
}

impl Loader for Database {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move { Ok(keys.iter().map(|key| self.rows.lock().get(key).cloned()).collect()) })
    }
}

impl Writer for Database {
    fn write<'a>(
        &'a self,
        key: &'a Key,
        write: &'a Write,
        condition: Option<&'a Condition>,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let at_once = self.writes_at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.writes_at_once_max.fetch_max(at_once, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.writes_at_once.fetch_sub(1, Ordering::SeqCst);
            if condition.is_some_and(|condition| !condition.holds(self.rows.lock().get(key))) {
                return Err(WriteError::Condition);
            }
            let written = match write {
                Write::Put(bytes) => {
                    let text = String::from_utf8(bytes.to_vec())
                        .map_err(|_| WriteError::Malformed("no text".to_owned()))?;
                    self.rows.lock().insert(key.clone(), Value::text(text));
                    Written::Done
                }
                Write::Delete if self.rows.lock().remove(key).is_some() => Written::Done,
                Write::Delete => Written::Absent,
            };
            if written == Written::Done {
                self.log.lock().push(key.clone());
            }
            match self.loses_answers.load(Ordering::SeqCst) {
                true => Err(WriteError::Unknown(LoadError::unavailable("the connection broke"))),
                false => Ok(written),
            }
        })
    }
}

/// Reads the log whenever somebody wants it.
fn follow(database: &Arc<Database>, group: &Arc<Group>, cell: &Arc<LogCell>) {
    let (database, group, cell) = (Arc::clone(database), Arc::clone(group), Arc::clone(cell));
    tokio::spawn(async move {
        let mut seq = 0;
        loop {
            let (look, now) = (cell.begin_look(), group.now());
            let rows: Vec<Key> = database.log.lock().drain(..).collect();
            for key in rows {
                seq += 1;
                group.apply(seq, &Change::Key(key));
            }
            cell.advance(Position { log: LogId(7), seq });
            cell.end_look(look, Some(now));
            let _ = tokio::time::timeout(Duration::from_millis(20), cell.wanted()).await;
        }
    });
}

fn site() -> (Arc<Database>, Arc<Group>) {
    let (database, cell) = (Database::new(), LogCell::new());
    let parts = GroupParts {
        clock: Arc::new(crate::time::TokioClock::new()),
        log: Some(GroupLog { cell: Arc::clone(&cell), append: None }),
        writer: Some(database.clone()),
        ..GroupParts::alone(Arc::clone(&database))
    };
    let name = GroupName::new("scores").expect("a name");
    let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
    follow(&database, &group, &cell);
    (database, group)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

fn put(text: &'static str) -> Write {
    Write::Put(Bytes::from_static(text.as_bytes()))
}

async fn read(group: &Arc<Group>, key: &str) -> (Option<Value>, Outcome) {
    let answer = group.get(key.as_bytes(), soon()).await.expect("an answer");
    (answer.value, answer.outcome)
}

#[tokio::test(start_paused = true)]
async fn a_write_is_read_at_once_and_says_where_it_is() {
    let (_, group) = site();
    let unlogged = group.write(b"anna", put("1"), None, soon()).await;
    assert!(matches!(unlogged, Err(WriteError::Unlogged)), "{unlogged:?}");
    group.set_logged(true);
    assert_eq!(read(&group, "anna").await, (None, Outcome::Load));
    for (at, text) in ["1", "2"].into_iter().enumerate() {
        let committed = group.write(b"anna", put(text), None, soon()).await.expect("written");
        assert_eq!(committed.written, Written::Done);
        assert_eq!(committed.position, Some(Position { log: LogId(7), seq: at as u64 + 1 }));
        assert_eq!(read(&group, "anna").await, (Some(Value::text(text)), Outcome::Load));
        assert_eq!(read(&group, "anna").await.1, Outcome::Hit);
    }
    let removed = group.write(b"anna", Write::Delete, None, soon()).await.expect("removed");
    assert_eq!(removed.written, Written::Done);
    assert_eq!(read(&group, "anna").await.0, None);
    assert_eq!(
        group.write(b"anna", Write::Delete, None, soon()).await.expect("done").written,
        Written::Absent
    );
    assert!(matches!(group.write(b"", Write::Delete, None, soon()).await, Err(WriteError::Key(_))));
}

#[tokio::test(start_paused = true)]
async fn writes_of_one_key_run_in_their_order() {
    let (database, group) = site();
    group.set_logged(true);
    let texts = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let mut writes = tokio::task::JoinSet::new();
    for text in texts {
        let group = Arc::clone(&group);
        // One after another on this thread: each has its place when the next one begins.
        let mut write = Box::pin(async move { group.write(b"anna", put(text), None, soon()).await });
        assert!(futures_util::poll!(&mut write).is_pending());
        writes.spawn(write);
    }
    while let Some(written) = writes.join_next().await {
        written.expect("no panic").expect("written");
    }
    assert_eq!(database.writes_at_once_max.load(Ordering::SeqCst), 1);
    assert_eq!(read(&group, "anna").await.0, Some(Value::text("8")));
    // One whose client gives up still ends before the next.
    let given_up = group.write(b"anna", put("9"), None, Instant::now() + Duration::from_millis(1)).await;
    assert!(matches!(given_up, Err(WriteError::Deadline(_))), "{given_up:?}");
    group.write(b"anna", put("10"), None, soon()).await.expect("written");
    assert_eq!(read(&group, "anna").await.0, Some(Value::text("10")));
    assert!(group.writes.by_key.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_written_is_not_answered_from_memory() {
    let (database, group) = site();
    group.set_logged(true);
    assert_eq!(read(&group, "anna").await.0, None);
    database.loses_answers.store(true, Ordering::SeqCst);
    let unknown = group.write(b"anna", put("1"), None, soon()).await;
    assert!(matches!(unknown, Err(WriteError::Unknown(_))), "{unknown:?}");
    assert_eq!(read(&group, "anna").await.0, Some(Value::text("1")));
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_asked_of_the_present_value() {
    let (_, group) = site();
    group.set_logged(true);
    let absent = || Condition::new(|present| present.is_none());
    group.write(b"anna", put("1"), Some(absent()), soon()).await.expect("there was none");
    let refused = group.write(b"anna", put("2"), Some(absent()), soon()).await;
    assert!(matches!(refused, Err(WriteError::Condition)), "{refused:?}");
    assert_eq!(read(&group, "anna").await.0, Some(Value::text("1")));
}
