//! The log of changes on real databases: what the triggers see, what the relay makes of it, and what becomes of the log.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ggcache::{
    changes::{
        Appender, Applies, ChangeStore, Follower, Installation, Pace, Relayed, Source, Sources, SqlStore,
        Tracked,
    },
    database::{Access, DatabaseError, DatabaseKind, KeyType, Statement},
    group::{Change, Key, LogAppend, LogCell, Selection},
    time::{BootClock, Clock as _},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::site::{Site, relayed, texts, tracked};
use crate::keeper::run;

/// The same test for each kind of database.
macro_rules! on_each {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(ggcache::database::DatabaseKind::Sqlite).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(ggcache::database::DatabaseKind::Postgres).await; })*
        }
        #[cfg(feature = "mysql")]
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(ggcache::database::DatabaseKind::Mysql).await; })*
        }
    };
}

on_each! {
    what_the_triggers_see
    what_is_printed_runs_in_the_databases_own_client
    installing_again_changes_nothing
    names_are_nothing_but_names
    views_are_left_out
    a_flood_becomes_one_row
    a_flood_waits_for_nobody
    retention_leaves_the_last_row
    invalidations_go_the_same_way
    what_the_guide_says_a_writer_may_do
    no_row_is_lost
    triggers_that_go_are_missed
}

async fn what_the_triggers_see(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.install();
    let store = site.store();
    let mut after = 0;
    let mut seen = async |sql: &str| {
        site.sql(sql);
        let rows = relayed(&store, after).await;
        after = rows.last().map_or(after, |row| row.seq);
        texts(&rows)
    };
    assert_eq!(seen("INSERT INTO t VALUES (1, 'a', 1), (2, 'B é', 1)").await, ["a", "B é"]);
    assert_eq!(seen("UPDATE t SET v = 2 WHERE id = 1").await, ["a"]);
    let mut both = seen("UPDATE t SET k = 'c' WHERE id = 1").await;
    both.sort();
    assert_eq!(both, ["a", "c"]);
    assert_eq!(seen("UPDATE t SET k = NULL WHERE id = 1").await, ["c"]);
    assert_eq!(seen("UPDATE t SET v = 3 WHERE id = 1").await.len(), 0, "a row without a key");
    assert_eq!(seen("UPDATE t SET k = '' WHERE id = 1").await.len(), 0, "no key is empty");
    assert_eq!(seen("UPDATE t SET k = 'd' WHERE id = 1").await, ["d"]);
    assert_eq!(seen("BEGIN; INSERT INTO t VALUES (9, 'x', 1); ROLLBACK").await.len(), 0);
    let upsert = match kind {
        DatabaseKind::Mysql => "INSERT INTO t VALUES (7, 'd', 1) ON DUPLICATE KEY UPDATE v = 9",
        _ => "INSERT INTO t VALUES (7, 'd', 1) ON CONFLICT (k) DO UPDATE SET v = 9",
    };
    assert_eq!(seen(upsert).await, ["d"]);
    assert_eq!(seen("DELETE FROM t WHERE id = 1").await, ["d"]);
    // 1,024 bytes are a key, one more is none.
    let (full, long) = ("é".repeat(512), format!("{}a", "é".repeat(512)));
    assert_eq!(seen(&format!("INSERT INTO t VALUES (3, '{full}', 1), (4, '{long}', 1)")).await, [full]);
    if kind == DatabaseKind::Mysql {
        let replaced = seen("REPLACE INTO t VALUES (2, 'e', 1)").await;
        assert_eq!(replaced, ["B é", "e"]);
    }
    if kind == DatabaseKind::Postgres {
        assert_eq!(seen("TRUNCATE t").await, ["*"]);
        assert_eq!(
            seen("SET session_replication_role = replica; INSERT INTO t VALUES (1, 'r', 1)").await,
            ["r"]
        );
        let copied = "COPY t FROM stdin;\n11\tcopied\t1\n\\.\n";
        assert_eq!(seen(copied).await, ["copied"]);
        // Whoever may write the table need not know of the outbox.
        let role = format!("{}_writer", site.name);
        site.sql(&format!("CREATE ROLE {role}; GRANT ALL ON t TO {role}"));
        let denied = format!("SELECT has_table_privilege('{role}', 'gg_outbox', 'INSERT')");
        assert_eq!(site.sql(&denied), "f\n");
        let write = format!("SET ROLE {role}; SET search_path = pg_temp; DELETE FROM public.t WHERE id = 11");
        assert_eq!(seen(&write).await, ["copied"]);
        site.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    } else {
        assert_eq!(seen("DELETE FROM t WHERE id IN (2, 7)").await.len(), 1);
    }
}

async fn what_is_printed_runs_in_the_databases_own_client(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    let printed = site.installation().to_string();
    site.sql(&printed);
    assert!(site.installation().is_empty(), "{}", site.installation());
    // Twice does no harm, nor does it begin another log.
    let id = site.store().look().await.expect("a look").log;
    site.sql(&printed);
    assert_eq!(site.store().look().await.expect("a look").log, id);
    site.sql("INSERT INTO t VALUES (1, 'a', 1)");
    assert_eq!(texts(&relayed(&site.store(), 0).await), ["a"]);
    let (database, tracked) = (site.open(1), tracked());
    let installation = Installation::new(&database, &tracked);
    site.sql(&installation.removal(true).expect("it can be removed").to_string());
    site.sql("INSERT INTO t VALUES (2, 'b', 1)");
    let status = installation.status().expect("a status");
    assert!(!status.installed && status.log.is_none() && !status.sources[0].1.is_empty(), "{status:?}");
    assert!(installation.removal(false).expect("nothing is left").is_empty());
}

async fn installing_again_changes_nothing(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.install();
    let before = site.store().look().await.expect("a look");
    assert!(site.installation().is_empty());
    site.install();
    assert_eq!(site.store().look().await.expect("a look"), before);
    // Of another version's triggers nothing is left.
    let database = site.open(1);
    let other = vec![Tracked { key_type: KeyType::Bytes, ..tracked().remove(0) }];
    let old = Installation::new(&database, &other);
    assert!(!old.installation(true).expect("it can be made").is_empty());
    old.execute(&old.installation(true).expect("it can be made")).expect("it is made");
    assert_eq!(site.store().inspect(&tracked()).await.expect("an answer").len(), 1);
    assert!(site.store().inspect(&tracked()).await.expect("an answer")[0].is_some());
    site.install();
    assert_eq!(site.store().inspect(&tracked()).await.expect("an answer"), [None]);
    site.sql("INSERT INTO t VALUES (1, 'a', 1)");
    // Nobody knows what changed while others were there.
    let told = texts(&relayed(&site.store(), 0).await);
    assert_eq!(told[told.len() - 2..], ["*", "a"]);
}

/// A view can have no triggers, and keeps no other table from having them.
async fn views_are_left_out(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.sql("CREATE VIEW w AS SELECT k, v FROM t");
    let view =
        Tracked { source: Source { table: "w".into(), key_column: "k".into() }, key_type: KeyType::Text };
    let (database, both) = (site.open(1), vec![view.clone(), tracked().remove(0)]);
    let installation = Installation::new(&database, &both);
    installation.execute(&installation.installation(true).expect("it can be made")).expect("it is made");
    let unseen = installation.unseen().expect("an answer");
    assert!(unseen.iter().any(|line| line.contains("\"w\"") && line.contains("view")), "{unseen:?}");
    let status = installation.status().expect("a status");
    assert_eq!((status.views.len(), status.sources.len()), (1, 1), "{status:?}");
    let found = site.store().inspect(&both).await.expect("an answer");
    assert!(found[0].is_some() && found[1].is_none(), "{found:?}");
    let alone = [view];
    let refused =
        Installation::new(&database, &alone).installation(true).expect_err("there is nothing to make");
    assert!(refused.to_string().contains("view"), "{refused}");
}

async fn names_are_nothing_but_names(kind: DatabaseKind) {
    let site = Site::new(kind);
    let (table, column) = (r#"a"b`c'; DROP TABLE x; {column} $$ -- "#.trim_end(), r#"k'"`\ {table}"#);
    let (quoted, quoted_column) = (kind.quoted(table), kind.quoted(column));
    site.sql(&format!("CREATE TABLE {quoted} ({quoted_column} integer PRIMARY KEY, v integer)"));
    let source = Source { table: table.into(), key_column: column.into() };
    let tracked = vec![Tracked { source: source.clone(), key_type: KeyType::Integer }];
    let database = site.open(1);
    let installation = Installation::new(&database, &tracked);
    site.sql(&installation.installation(true).expect("it can be made").to_string());
    assert!(installation.installation(true).expect("an answer").is_empty());
    site.sql(&format!("INSERT INTO {quoted} VALUES (-7, 1)"));
    let rows = relayed(&site.store(), 0).await;
    assert_eq!((texts(&rows), &rows[0].source), (vec!["-7".to_owned()], &source));
    installation.execute(&installation.removal(true).expect("an answer")).expect("it is removed");
    assert!(site.store().inspect(&tracked).await.is_err(), "nothing is left");
}

async fn a_flood_becomes_one_row(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.install();
    let store = site.store();
    site.sql("INSERT INTO t VALUES (0, 'before', 1)");
    let flood = match kind {
        DatabaseKind::Postgres => "SELECT g, 'k' || g, 1 FROM generate_series(1, 12000) AS g",
        DatabaseKind::Mysql => "SELECT seq, CONCAT('k', seq), 1 FROM seq_1_to_12000",
        DatabaseKind::Sqlite => {
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) \
             SELECT i, 'k' || i, 1 FROM n"
        }
    };
    site.sql(&format!("INSERT INTO t {flood}"));
    if kind == DatabaseKind::Sqlite {
        // The log is what the triggers write; who is far behind drops whole tables.
        let touched = store.touched(1, 12_001).await.expect("an answer");
        assert_eq!(touched.sources, [tracked().remove(0).source]);
        assert!(touched.stamp.is_some());
        assert_eq!(relayed(&store, 0).await.len(), 12_001);
        return;
    }
    assert_eq!(texts(&relayed(&store, 0).await), ["*"]);
    site.sql("INSERT INTO t VALUES (20000, 'after', 1)");
    assert_eq!(texts(&relayed(&store, 1).await), ["after"]);
    assert_eq!(store.look().await.expect("a look").waiting, None);
}

/// Transactions that are open before, among and behind the rows of a flood.
async fn a_flood_waits_for_nobody(kind: DatabaseKind) {
    if kind == DatabaseKind::Sqlite {
        // One transaction at a time writes.
        return;
    }
    let site = Site::with_table(kind);
    site.install();
    let store = site.store();
    let numbers = |from: u32, to: u32| match kind {
        DatabaseKind::Mysql => format!("SELECT seq, CONCAT('k', seq), 1 FROM seq_{from}_to_{to}"),
        _ => format!("SELECT g, 'k' || g, 1 FROM generate_series({from}, {to}) AS g"),
    };
    let open = |id: u32| {
        let (database, insert) = (site.open(1), format!("INSERT INTO t VALUES ({id}, 'open{id}', 1)"));
        let (written, is_written) = std::sync::mpsc::channel();
        let (release, is_released) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            let work = database.run_here(Access::Write, Duration::from_secs(60), |turn| {
                turn.transaction(|turn| {
                    turn.batch(&insert)?;
                    written.send(()).expect("the test waits");
                    is_released.recv().expect("the test goes on");
                    Ok::<_, DatabaseError>(())
                })
            });
            work.expect("a transaction");
        });
        is_written.recv().expect("it is written");
        (release, holder)
    };
    let mut holders = vec![open(1)];
    site.sql(&format!("INSERT INTO t {}", numbers(100, 12_100)));
    holders.push(open(2));
    assert_eq!(texts(&relayed(&store, 0).await), ["*"], "rows of one statement only");
    site.sql(&format!("INSERT INTO t {}", numbers(20_000, 27_000)));
    holders.push(open(3));
    site.sql(&format!("INSERT INTO t {}", numbers(30_000, 37_000)));
    holders.push(open(4));
    assert_eq!(texts(&relayed(&store, 1).await), ["*"], "with a row among them that is not committed");
    assert_eq!(store.look().await.expect("a look").waiting, None);
    for (release, holder) in holders {
        release.send(()).expect("the holder waits");
        tokio::task::spawn_blocking(move || holder.join().expect("it ends")).await.expect("it ends");
    }
    let mut late = texts(&relayed(&store, 2).await);
    late.sort();
    assert_eq!(late, ["open1", "open2", "open3", "open4"], "none is lost");
}

async fn retention_leaves_the_last_row(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.install();
    let store = site.store();
    assert_eq!(store.trim().await.expect("nothing to do"), 0);
    for id in 1..=5 {
        site.sql(&format!("INSERT INTO t VALUES ({id}, 'k{id}', 1)"));
    }
    let rows = relayed(&store, 0).await;
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let before = store.read(3).await.expect("a page");
    assert_eq!((before.floor, before.before), (0, Some(rows[2].stamp)));
    assert_eq!(store.trim().await.expect("it is trimmed"), 4);
    assert_eq!(store.trim().await.expect("nothing is left"), 0);
    let seen = store.look().await.expect("a look");
    assert_eq!((seen.head, seen.floor, seen.stamp), (5, 4, Some(rows[4].stamp)));
    let page = store.read(3).await.expect("a page");
    assert_eq!((page.floor, page.before), (4, None));
    site.sql("DELETE FROM t");
    assert_eq!(relayed(&store, 5).await.first().map(|row| row.seq), Some(6));
}

async fn invalidations_go_the_same_way(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.install();
    let append = Appender::new(site.open(1), tracked().remove(0).source);
    let keys: Vec<_> = (0..250).map(|n| Key::new(format!("k{n}\0")).expect("a key")).collect();
    append.append(&Selection::Keys(keys)).await.expect("it is written");
    append.append(&Selection::Prefix(b"p".to_vec())).await.expect("it is written");
    append.append(&Selection::Prefix(Vec::new())).await.expect("it is written");
    let texts = texts(&relayed(&site.store(), 0).await);
    assert_eq!(
        (texts.len(), texts[249].as_str(), &texts[250..]),
        (252, "k249\0", &["p*".into(), "*".into()][..])
    );
}

/// The statements of docs/queue.md, beside a change that is rolled back.
async fn what_the_guide_says_a_writer_may_do(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    site.install();
    let heading = match kind {
        DatabaseKind::Sqlite => "-- SQLite",
        DatabaseKind::Postgres => "-- PostgreSQL",
        DatabaseKind::Mysql => "-- MySQL, MariaDB",
    };
    let guide = include_str!("../../docs/queue.md").lines().skip_while(|line| *line != heading).skip(1);
    let inserts: Vec<_> = guide.take_while(|line| line.starts_with("INSERT INTO gg_outbox ")).collect();
    assert_eq!(inserts.len(), 2, "a key, and all keys");
    let inserts = inserts.concat().replace("'students', 'name'", "'t', 'k'");
    site.sql(&format!("BEGIN; {inserts} ROLLBACK"));
    site.sql(&format!("BEGIN; {} COMMIT", inserts.replace("'anna'", "'é'")));
    assert_eq!(texts(&relayed(&site.store(), 0).await), ["é", "*"]);
}

async fn triggers_that_go_are_missed(kind: DatabaseKind) {
    let site = Site::with_table(kind);
    assert!(site.store().inspect(&tracked()).await.is_err(), "nothing is installed");
    site.install();
    let store = site.store();
    assert_eq!(store.inspect(&tracked()).await.expect("an answer"), [None]);
    let (database, tracked) = (site.open(1), tracked());
    let installation = Installation::new(&database, &tracked);
    installation.execute(&installation.removal(false).expect("an answer")).expect("they are removed");
    let why = store.inspect(&tracked).await.expect("an answer").remove(0).expect("a reason");
    assert!(why.contains("has no triggers"), "{why}");
    site.install();
    if kind == DatabaseKind::Postgres {
        site.sql("ALTER TABLE t DISABLE TRIGGER ALL");
        let why = store.inspect(&tracked).await.expect("an answer").remove(0).expect("a reason");
        assert!(why.contains("ENABLE ALWAYS"), "{why}");
        site.install();
        assert_eq!(store.inspect(&tracked).await.expect("an answer"), [None]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_is_not_waited_for() {
    let site = Site::with_table(DatabaseKind::Postgres);
    site.install();
    site.sql("INSERT INTO t VALUES (1, 'a', 1)");
    let (store, database) = (site.store(), site.open(1));
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (release, is_released) = std::sync::mpsc::channel::<()>();
    let holder = tokio::spawn(async move {
        let hold = database.run_as(Access::Write, Duration::from_secs(20), move |turn| {
            turn.transaction(|turn| {
                turn.query(&Statement::new("SELECT head FROM gg_ctl FOR UPDATE"))?;
                locked.send(()).expect("the test waits");
                is_released.recv().expect("the test goes on");
                Ok::<_, DatabaseError>(())
            })
        });
        hold.await.expect("a transaction");
    });
    is_locked.await.expect("it is locked");
    assert_eq!(store.relay(1).await.expect("an answer"), Relayed::Busy);
    assert_eq!(store.trim().await.expect("an answer"), 0);
    release.send(()).expect("the holder waits");
    holder.await.expect("it ends");
    assert_eq!(store.relay(1).await.expect("an answer"), Relayed::All { head: 1 });
}

/// Notes which keys were told of, and in which order.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, Vec<u8>)>>);

impl Applies for Told {
    fn apply(&self, seq: u64, change: &Change) {
        let Change::Key(key) = change else { panic!("no flood: {change:?}") };
        self.0.lock().push((seq, key.as_bytes().to_vec()));
    }

    fn reset(&self, _: u64) {}

    fn set_logged(&self, _: bool) {}
}

/// Eight writers in transactions that stay open for up to 20 ms, and two nodes that follow.
async fn no_row_is_lost(kind: DatabaseKind) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let site = Site::with_table(kind);
    site.install();
    let stop = CancellationToken::new();
    let follow = |store: Arc<SqlStore>| {
        let (told, sources, cell) = (Arc::new(Told::default()), Sources::new(), LogCell::new());
        sources.add(tracked().remove(0), Arc::clone(&told) as Arc<dyn Applies>);
        let pace = Pace::new(Duration::from_millis(5), Duration::from_secs(1), || 1);
        let follower = Follower::new("test", store, sources, Arc::clone(&cell), Arc::new(BootClock), pace);
        tokio::spawn(follower.run(stop.clone()));
        (told, cell)
    };
    let nodes = [follow(site.store()), follow(site.store())];
    for (_, cell) in &nodes {
        let soon = tokio::time::Instant::now() + Duration::from_secs(20);
        while cell.look_now(BootClock.now(), soon).await.is_none() {
            assert!(tokio::time::Instant::now() < soon, "the log is followed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let writers = (0..WRITERS).map(|writer| {
        let database = site.open(1);
        std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(writer);
            for at in 0..EACH {
                let (id, pause) = (writer * EACH + at, random.u64(0..=20));
                let write = database.run_here(Access::Write, Duration::from_secs(20), |turn| {
                    turn.transaction(|turn| {
                        turn.execute(
                            &Statement::new(format!("INSERT INTO t VALUES ({id}, 'k{id}', 1)")).once(),
                        )?;
                        match turn.kind() {
                            // It has one writer at a time; who holds it longer only makes the others wait.
                            DatabaseKind::Sqlite => {}
                            DatabaseKind::Postgres => {
                                turn.batch(&format!("SELECT pg_sleep({pause} / 1000.0)"))?;
                            }
                            DatabaseKind::Mysql => turn.batch(&format!("DO SLEEP({pause} / 1000)"))?,
                        }
                        // The same key again, and one that all write.
                        turn.execute(&Statement::new(format!("UPDATE t SET v = 2 WHERE id = {id}")).once())?;
                        Ok::<_, DatabaseError>(())
                    })
                });
                write.expect("it is written");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        tokio::task::spawn_blocking(move || writer.join().expect("a writer ends")).await.expect("it ends");
    }
    for (told, cell) in &nodes {
        let soon = tokio::time::Instant::now() + Duration::from_secs(20);
        cell.look_now(BootClock.now(), soon).await.expect("a look");
        let told = std::mem::take(&mut *told.0.lock());
        let expected: Vec<_> = (1..=2 * WRITERS * EACH).collect();
        assert_eq!(
            told.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
            expected,
            "in order and without gaps"
        );
        let mut counts = BTreeMap::new();
        told.into_iter().for_each(|(_, key)| *counts.entry(key).or_insert(0) += 1);
        assert_eq!(counts.len() as u64, WRITERS * EACH);
        assert!(counts.values().all(|count| *count == 2));
    }
    stop.cancel();
}

/// A restored database has a shorter log, or another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_file_is_followed_anew() {
    let site = Site::with_table(DatabaseKind::Sqlite);
    site.install();
    site.sql("INSERT INTO t VALUES (1, 'a', 1)");
    let backup = site.directory().join("backup.db").display().to_string();
    run(std::process::Command::new("sqlite3").arg(&site.name), &format!(".backup {backup}\n"));
    site.sql("INSERT INTO t VALUES (2, 'b', 1)");
    let store = site.store();
    let before = store.look().await.expect("a look");
    run(std::process::Command::new("sqlite3").arg(&site.name), &format!(".restore {backup}\n"));
    site.sql("INSERT INTO t VALUES (3, 'c', 1)");
    let after = store.look().await.expect("a look");
    assert_eq!((before.log, before.head), (after.log, after.head));
    assert_ne!(before.stamp, after.stamp, "as long as before, and not the same");
}

/// Run with `--ignored --nocapture`: how long a flood takes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes, and prints figures"]
async fn a_million_rows() {
    for kind in DatabaseKind::ALL.into_iter().filter(|kind| kind.is_built_in()) {
        let site = Site::with_table(kind);
        let rows = match kind {
            DatabaseKind::Postgres => "SELECT g, 'k' || g, 1 FROM generate_series(1, 1000000) AS g",
            DatabaseKind::Mysql => "SELECT seq, CONCAT('k', seq), 1 FROM seq_1_to_1000000",
            DatabaseKind::Sqlite => {
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) \
                 SELECT i, 'k' || i, 1 FROM n"
            }
        };
        site.sql(&format!("INSERT INTO t {rows}"));
        let begun = Instant::now();
        site.sql("UPDATE t SET v = 2");
        let bare = begun.elapsed();
        site.install();
        let store = site.store();
        let begun = Instant::now();
        site.sql("UPDATE t SET v = 3");
        let update = begun.elapsed();
        let begun = Instant::now();
        let seen = store.look().await.expect("a look");
        if let Some(waiting) = seen.waiting {
            while !matches!(store.relay(waiting.newest).await.expect("a relay"), Relayed::All { .. }) {}
        } else {
            store.touched(0, seen.head).await.expect("an answer");
        }
        println!(
            "{kind}: update {bare:.1?}, with triggers {update:.1?}, then relayed in {:.1?}",
            begun.elapsed()
        );
    }
}
