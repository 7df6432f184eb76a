//! What it brings that keys which miss at the same time are one query.
//!
//! `cargo bench --bench batching [-- SECONDS]`, 5 seconds a measurement by default. 64 clients of a group in this process
//! ask for keys that are not in memory, as fast as they are answered: on an origin in memory that takes a millisecond a
//! query, on SQLite, and on a PostgreSQL of its own; with a query for each key (`load_batch = 1`), and with the default. The
//! database has 8 connections, and the group a budget of 16, as by default. On PostgreSQL, batching must bring at least 5
//! times the throughput: less is a MISS, and ends the program with 1. One client alone shows that nothing waits then.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ggcache::{
    database::{Database, DatabaseConfig, DatabaseError, DatabaseKind, DatabaseUrl, SqlValue, Statement},
    group::{
        BoxFuture, Group, GroupConfig, GroupName, GroupParts, GroupSettings, Key, LoadError, Loader, Outcome,
        Value,
    },
    origin::{Batched, Budget, MapLoader, Timeout},
};

#[path = "../tests/support/keeper.rs"]
mod keeper;
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod postgres;

const CLIENTS: u64 = 64;
const ROWS: u64 = 100_000;
const TIMES: f64 = 5.0;

/// Reads a table by key, with one statement whatever the number of keys.
#[derive(Clone)]
struct Table(Database);

impl Loader for Table {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let kind = self.0.kind();
            let names: Vec<String> =
                keys.iter().map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()).collect();
            let found: Result<HashMap<Vec<u8>, Value>, DatabaseError> = self
                .0
                .run(move |turn| {
                    let select = Statement::new("SELECT name, score FROM items WHERE name ");
                    let statement = match kind {
                        DatabaseKind::Postgres => {
                            let names = names.into_iter().map(Into::into).collect();
                            select.then("= ANY(").bind(SqlValue::Texts(names)).then(")")
                        }
                        _ => select.then("IN (").bind_all(names).then(")").once(),
                    };
                    let mut found = HashMap::new();
                    for row in turn.query(&statement)? {
                        found.insert(row.bytes(0)?.to_vec(), Value::text(row.integer(1)?.to_string()));
                    }
                    Ok(found)
                })
                .await;
            let found = found.map_err(LoadError::unavailable)?;
            Ok(keys.iter().map(|key| found.get(key.as_bytes()).cloned()).collect())
        })
    }
}

/// Counts queries.
struct Counted<L>(L, Arc<AtomicU64>);

impl<L: Loader> Loader for Counted<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.load(keys)
    }
}

/// What one measurement came to.
struct Figures {
    misses: u64,
    queries: u64,
    took: Duration,
    latencies: Vec<Duration>,
}

impl Figures {
    fn per_second(&self) -> f64 {
        self.misses as f64 / self.took.as_secs_f64()
    }

    fn print(&self, origin: &str, clients: u64, batch: usize) {
        let at = |share: f64| {
            let at = ((self.latencies.len() - 1) as f64 * share) as usize;
            self.latencies[at].as_secs_f64() * 1000.0
        };
        println!(
            "{origin:<12} {clients:>7} {batch:>10} {:>10.0} {:>10.0} {:>10.1} {:>8.2} {:>8.2}",
            self.per_second(),
            self.queries as f64 / self.took.as_secs_f64(),
            self.misses as f64 / self.queries.max(1) as f64,
            at(0.5),
            at(0.99),
        );
    }
}

async fn measure(loader: impl Loader, clients: u64, load_batch: usize, period: Duration) -> Figures {
    let queries = Arc::new(AtomicU64::new(0));
    let config = GroupConfig { ttl: Duration::from_millis(1), ..GroupConfig::default() };
    let budget =
        Budget::new(Counted(loader, Arc::clone(&queries)), config.load_budget, Duration::from_secs(1));
    let loader = Timeout::new(Batched::new(budget, load_batch), Duration::from_secs(2));
    let name = GroupName::new("items").expect("a name");
    let group = Group::new(name, config, GroupSettings::default(), GroupParts::alone(loader));
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let (group, next) = (Arc::clone(&group), Arc::clone(&next));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while begun.elapsed() < period {
                    // Out of the rows' order.
                    let row = next.fetch_add(1, Ordering::Relaxed) * 7919 % ROWS;
                    let asked = Instant::now();
                    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
                    let answer = group.get(format!("name-{row}").as_bytes(), deadline).await;
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.outcome, Outcome::Load, "every key misses");
                    assert_eq!(answer.value.expect("a row").bytes(), row.to_string().as_bytes());
                    latencies.push(asked.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.expect("no panic"));
    }
    latencies.sort_unstable();
    let (misses, queries) = (latencies.len() as u64, queries.load(Ordering::Relaxed));
    Figures { misses, queries, took: begun.elapsed(), latencies }
}

/// How many times the throughput of single queries batching brings.
async fn compare(origin: &str, loader: impl Loader + Clone, period: Duration) -> f64 {
    let batch = GroupConfig::default().load_batch;
    let mut throughput = Vec::new();
    for (clients, load_batch) in [(1, 1), (1, batch), (CLIENTS, 1), (CLIENTS, batch)] {
        let figures = measure(loader.clone(), clients, load_batch, period).await;
        figures.print(origin, clients, load_batch);
        throughput.push(figures.per_second());
    }
    throughput[3] / throughput[2]
}

fn open(url: &str) -> Database {
    let config = DatabaseConfig::new(DatabaseUrl::new(url));
    Database::open(&config).expect("the database opens")
}

fn main() -> ExitCode {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5.0);
    let period = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "{:<12} {:>7} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8}",
        "origin", "clients", "load_batch", "misses/s", "queries/s", "keys/query", "p50 ms", "p99 ms"
    );
    let map = Arc::new(MapLoader::new(
        (0..ROWS).map(|row| (Key::new(format!("name-{row}")).expect("a key"), Value::text(row.to_string()))),
    ));
    map.set_delay(Duration::from_millis(1));
    let times = runtime.block_on(compare("memory, 1 ms", map, period));
    println!("batching brings {times:.1} times the throughput on an origin that takes a millisecond");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("items.db");
    std::fs::File::create(&file).expect("a file");
    let sqlite = open(&format!("sqlite:{}", file.display()));
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {ROWS}) \
         INSERT INTO items SELECT 'name-' || i, i FROM n"
    );
    let made: Result<(), DatabaseError> =
        sqlite.run_here(ggcache::database::Access::Write, Duration::from_secs(60), |turn| {
            turn.batch("CREATE TABLE items (name TEXT PRIMARY KEY, score INTEGER)")?;
            turn.execute(&Statement::new(rows)).map(drop)
        });
    made.expect("a table");
    let times = runtime.block_on(compare("sqlite", Table(sqlite), period));
    println!("batching brings {times:.1} times the throughput on SQLite");

    let server = postgres::Postgres::start(&[]);
    let name = server.database();
    server.psql(
        &name,
        &format!(
            "CREATE TABLE items (name text PRIMARY KEY, score bigint); \
             INSERT INTO items SELECT 'name-' || i, i FROM generate_series(0, {ROWS} - 1) i; ANALYZE items;"
        ),
    );
    let times = runtime.block_on(compare("postgres", Table(open(&server.url(&name))), period));
    let holds = times >= TIMES;
    println!(
        "batching brings {times:.1} times the throughput on PostgreSQL, of at least {TIMES}: {}",
        if holds { "PASS" } else { "MISS" }
    );
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
