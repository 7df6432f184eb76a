//! Time and threads: nothing runs for ever, nothing runs beside the pool.

use std::{
    collections::HashSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;

use super::{Fixture, key, load, table};
use crate::{
    database::{Database, DatabaseError},
    group::{LoadError, Loader as _, Value},
    origin::TableLoader,
};

#[tokio::test]
async fn a_locked_database_is_a_timeout() {
    let mut fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    // A reader keeps the write-ahead log from being turned on, and without it a writer keeps readers out.
    fixture.run("BEGIN; SELECT * FROM t");
    let mut config = fixture.config();
    config.statement_timeout = Duration::from_millis(50);
    let database = Database::open(&config).expect("opens without the write-ahead log");
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    fixture.run("COMMIT; BEGIN EXCLUSIVE");
    let error = load(&loader, "a").await.expect_err("locked");
    assert!(matches!(error, LoadError::Timeout(_)), "{error:?}");
    fixture.run("COMMIT");
    let mut config = fixture.config();
    config.max_connections = 1;
    let database = Database::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
}

#[tokio::test]
async fn a_writer_does_not_hold_readers_up() {
    let mut fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    fixture.run("BEGIN EXCLUSIVE; UPDATE t SET v = 2");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
    fixture.run("COMMIT");
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("2")));
}

#[tokio::test]
async fn an_endless_statement_ends() {
    let fixture = Fixture::new(
        "CREATE VIEW endless AS WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)
         SELECT CAST(x AS INTEGER) AS k, x AS v FROM c",
    );
    let mut config = fixture.config();
    config.statement_timeout = Duration::from_millis(100);
    let database = Database::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("endless", "k", &["v"]), 100).expect("opens");
    assert!(!loader.report().indexed);
    // The row of the key is found at once, and then the scan goes on for another one.
    for keys in [vec![key("-1")], vec![key("5")], vec![key("-1"), key("5")]] {
        let error = loader.load(&keys).await.expect_err("endless");
        assert!(matches!(error, LoadError::Timeout(_)), "{error:?}");
        assert_eq!(database.running(), 0, "the thread has ended");
    }
}

#[tokio::test]
async fn no_more_threads_than_connections_even_when_nobody_waits() {
    let fixture = Fixture::new("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    let mut config = fixture.config();
    config.max_connections = 2;
    let database = Database::open(&config).expect("opens");
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    let (started, starts) = mpsc::channel();
    let mut gates = Vec::new();
    for _ in 0..2 {
        let (gate, closed) = mpsc::channel::<()>();
        gates.push(gate);
        let started = started.clone();
        let database = database.clone();
        let caller = tokio::spawn(async move {
            let work = database.run(move |_| {
                started.send(()).expect("the test listens");
                closed.recv().expect_err("ends when the gate is dropped");
                Ok::<_, DatabaseError>(())
            });
            work.await
        });
        let starts = &starts;
        tokio::task::yield_now().await;
        while starts.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        caller.abort();
        assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    }
    // Both callers are gone, and both threads still hold a connection.
    assert_eq!(database.running(), 2);
    tokio::time::pause();
    // The clock does not advance by itself while blocking threads run.
    let (answer, ()) = tokio::join!(load(&loader, "a"), tokio::time::advance(Duration::from_secs(21)));
    let error = answer.expect_err("no connection is free");
    assert!(matches!(error, LoadError::Busy(2)), "{error:?}");
    assert_eq!(database.statements(), 0);
    tokio::time::resume();
    drop(gates);
    assert_eq!(load(&loader, "a").await.expect("works"), Some(Value::text("1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_share_few_connections_and_threads() {
    let fixture =
        Fixture::new("CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER); INSERT INTO t VALUES (1, 1)");
    let database = fixture.open();
    let loader = TableLoader::new(&database, &table("t", "k", &["v"]), 100).expect("opens");
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let callers: Vec<_> = (0..50)
        .map(|n| {
            let (loader, database, threads) = (loader.clone(), database.clone(), Arc::clone(&threads));
            tokio::spawn(async move {
                for _ in 0..10 {
                    let expected = (n == 1).then(|| Value::text("1"));
                    assert_eq!(load(&loader, n.to_string()).await.expect("works"), expected);
                    assert!(database.running() <= 4);
                    let id = database.run(|_| Ok::<_, DatabaseError>(std::thread::current().id()));
                    let thread = id.await.expect("works");
                    threads.lock().insert(thread);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no caller fails");
    }
    assert_eq!(database.statements(), 500);
    assert!(threads.lock().len() <= 4, "{threads:?}");
}

#[tokio::test]
async fn a_panic_on_the_thread_is_an_error_and_frees_its_place() {
    let fixture = Fixture::new("");
    let database = fixture.open();
    for _ in 0..5 {
        let error =
            database.run::<(), DatabaseError, _>(|_| panic!("on purpose")).await.expect_err("it panics");
        assert!(matches!(error, DatabaseError::Panicked), "{error:?}");
    }
    assert_eq!(database.running(), 0);
}
