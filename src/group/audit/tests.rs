//! A group alone with a database that logs its changes, but for those that the test keeps from it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::{
    group::{
        BoxFuture, Change, GroupConfig, GroupLog, GroupName, GroupParts, GroupSettings, LoadError, Loader,
        LogCell, LogId, Position,
    },
    telemetry::NodeMetrics,
    time::{Clock as _, TokioClock},
};

/// One row, whose value is the number of changes so far, and the sequence number of its last change in the log.
#[derive(Default)]
struct Row {
    version: AtomicU64,
    logged: AtomicU64,
}

impl Row {
    fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.logged.fetch_add(1, Ordering::SeqCst);
    }

    fn change_unseen(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

impl Loader for Row {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let version = self.version.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(keys.iter().map(|_| Some(Value::text(version.to_string()))).collect())
        })
    }
}

struct Site {
    row: Arc<Row>,
    group: Arc<Group>,
    metrics: NodeMetrics,
}

fn key() -> Key {
    Key::new("anna").expect("a key")
}

impl Site {
    /// With somebody who looks at the log every `poll`, and when that is wanted.
    fn new(poll: Duration) -> Self {
        let (row, cell, clock) = (Arc::new(Row::default()), LogCell::new(), Arc::new(TokioClock::new()));
        let log = Some(GroupLog { cell: Arc::clone(&cell), append: None });
        let parts = GroupParts { clock: clock.clone(), log, ..GroupParts::alone(Arc::clone(&row)) };
        let metrics = parts.metrics.clone();
        let name = GroupName::new("scores").expect("a name");
        let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
        group.set_logged(true);
        let (follower, rows) = (Arc::clone(&group), Arc::clone(&row));
        tokio::spawn(async move {
            let mut applied = 0;
            loop {
                let (look, now) = (cell.begin_look(), clock.now());
                let head = rows.logged.load(Ordering::SeqCst);
                if head > applied {
                    follower.apply(head, &Change::Key(key()));
                    applied = head;
                }
                cell.advance(Position { log: LogId(7), seq: head });
                cell.end_look(look, Some(now));
                let _ = tokio::time::timeout(poll, cell.wanted()).await;
            }
        });
        Self { row, group, metrics }
    }

    async fn get(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(2);
        let answer = self.group.get(b"anna", deadline).await.expect("an answer");
        String::from_utf8(answer.value.expect("a value").bytes().to_vec()).expect("text")
    }

    fn has_counted(&self, count: u64) -> bool {
        let line = format!("ggcache_inconsistent_reads_total{{group=\"scores\"}} {count}");
        self.metrics.render().contains(&line)
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_never_reached_the_log_is_found_and_dropped() {
    let site = Site::new(Duration::from_millis(20));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(site.get().await, "0");
    assert_eq!(site.group.audit().await, Audited { equal: 1, ..Audited::default() });
    site.row.change_unseen();
    assert_eq!(site.get().await, "0", "nobody knows");
    assert_eq!(site.group.audit().await, Audited { inconsistent: 1, ..Audited::default() });
    assert!(site.has_counted(1), "{}", site.metrics.render());
    assert_eq!(site.get().await, "1", "the entry is gone");
    assert_eq!(site.group.audit().await, Audited { equal: 1, ..Audited::default() });
    site.group.set_logged(false);
    site.row.change_unseen();
    assert_eq!(site.get().await, "2");
    site.row.change_unseen();
    assert_eq!(site.group.audit().await, Audited::default(), "by ttl only, that is as it should be");
}

#[tokio::test(start_paused = true)]
async fn a_change_under_way_is_no_alarm() {
    // So seldom that most rounds see a change before its row is applied.
    let site = Site::new(Duration::from_millis(200));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut sum = Audited::default();
    for round in 0..500_u64 {
        site.get().await;
        let change = async {
            tokio::time::sleep(Duration::from_millis(round % 11)).await;
            site.row.change();
        };
        let (audited, ()) = tokio::join!(site.group.audit(), change);
        sum.equal += audited.equal;
        sum.open += audited.open;
        sum.inconsistent += audited.inconsistent;
    }
    assert!(sum.inconsistent == 0 && sum.equal > 50 && sum.open > 50, "{sum:?}");
    assert!(site.has_counted(0), "{}", site.metrics.render());
}

#[test]
fn applied_keys_wait_for_their_turn_and_there_are_never_many() {
    let audit = Audit::new();
    let at = |seconds| Moment::default().saturating_add(Duration::from_secs(seconds));
    let noted = |count: u32, limit| {
        for number in 0..count {
            audit.note(&Key::new(number.to_string()).expect("a key"), limit);
        }
    };
    let second = Duration::from_secs(1);
    noted(10_000, 4);
    assert_eq!(audit.take(at(10), second), []);
    assert_eq!(audit.take(at(11), second).len(), 4);
    noted(100, 0);
    assert_eq!((audit.take(at(12), second), audit.take(at(13), second)), (vec![], vec![]));
    noted(2 * DUE_MAX as u32, 2 * DUE_MAX);
    assert_eq!(audit.take(at(20), Duration::MAX), []);
    assert_eq!(audit.take(at(80), second).len(), DUE_MAX);
}
