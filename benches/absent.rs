//! A flood of keys that do not exist: what it takes in memory, and what it displaces.
//!
//! `cargo bench --bench absent [-- KEYS]`, 1,000,000 keys by default. A group in this process on a SQLite table is filled
//! with values up to what is not for negative entries; then each of the absent keys is asked for once, by 64 clients. No
//! value may leave, the negative entries must stay within their share, and the process's resident memory may not grow in
//! the second half of the flood. What is otherwise is a MISS, and ends the program with 1.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ggcache::{
    cache::EvictionCause,
    database::{Access, Database, DatabaseConfig, DatabaseError, DatabaseUrl, Statement},
    group::{Group, GroupConfig, GroupName, GroupParts, GroupSettings},
    origin::{Batched, Budget, TableConfig, TableLoader, Timeout},
};

const KEYS: u64 = 1_000_000;
const ROWS: u64 = 100_000;
const CLIENTS: u64 = 64;
/// By how much resident memory may grow in the second half.
const GROWTH_MAX_KIB: u64 = 4 << 10;
const CAPACITY: u64 = 64 << 20;
const NEGATIVE_SHARE: f64 = 0.1;

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn open(folder: &std::path::Path) -> Database {
    let file = folder.join("items.db");
    std::fs::File::create(&file).expect("a file");
    let config = DatabaseConfig::new(DatabaseUrl::new(format!("sqlite:{}", file.display())));
    let database = Database::open(&config).expect("the database opens");
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {ROWS}) \
         INSERT INTO items SELECT 'name-' || i, 'the value of ' || i FROM n"
    );
    let made: Result<(), DatabaseError> = database.run_here(Access::Write, Duration::from_secs(60), |turn| {
        turn.batch("CREATE TABLE items (name TEXT PRIMARY KEY, value TEXT)")?;
        turn.execute(&Statement::new(rows)).map(drop)
    });
    made.expect("a table");
    database
}

/// Asks for the keys from `from` to `to`, each once. How many were there.
async fn ask(group: &Arc<Group>, what: &'static str, from: u64, to: u64) -> u64 {
    let next = Arc::new(AtomicU64::new(from));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (group, next) = (Arc::clone(group), Arc::clone(&next));
            tokio::spawn(async move {
                let mut found = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= to {
                        return found;
                    }
                    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
                    let answer = group.get(format!("{what}-{number}").as_bytes(), deadline).await;
                    found += u64::from(answer.expect("an answer").value.is_some());
                }
            })
        })
        .collect();
    let mut found = 0;
    for client in clients {
        found += client.await.expect("no panic");
    }
    found
}

async fn run(keys: u64) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let table = TableConfig {
        database: "items".to_owned(),
        table: "items".to_owned(),
        key_column: "name".to_owned(),
        value_columns: vec!["value".to_owned()],
        writable: false,
    };
    let loader = TableLoader::new(&database, &table, usize::MAX).expect("the table is there");
    let day = Duration::from_secs(24 * 60 * 60);
    let config = GroupConfig {
        capacity: CAPACITY,
        negative_share: NEGATIVE_SHARE,
        ttl: day,
        negative_ttl: day,
        hot_ttl: Duration::ZERO,
        ..GroupConfig::default()
    };
    let batch = config.load_batch;
    let budget = Budget::new(loader, config.load_budget, Duration::from_secs(10));
    let loader = Timeout::new(Batched::new(budget, batch), Duration::from_secs(10));
    let name = GroupName::new("items").expect("a name");
    let settings = GroupSettings { flight_timeout: Duration::from_secs(20), ..GroupSettings::default() };
    let group = Group::new(name, config, settings, GroupParts::alone(loader));

    assert_eq!(ask(&group, "name", 0, ROWS).await, ROWS, "every row has a value");
    let values = group.stats().entries;
    let before = resident();
    println!("{values} values in memory, {before} KiB resident");
    let begun = Instant::now();
    let found = ask(&group, "absent", 0, keys / 2).await;
    let half = resident();
    let found = found + ask(&group, "absent", keys / 2, keys).await;
    let after = resident();
    let took = begun.elapsed().as_secs_f64();
    let stats = group.stats();
    println!(
        "{keys} absent keys in {took:.1} s, {} queries: {half} KiB resident after half of them, {after} KiB after all",
        database.statements()
    );
    let share = (CAPACITY as f64 * NEGATIVE_SHARE) as u64;
    let kept = stats.entries - stats.negative_entries;
    let checks = [
        (format!("none of them was there: {found}"), found == 0),
        (format!("values that are left: {kept} of {values}"), kept == values),
        (
            format!(
                "negative entries: {}, {} bytes of at most {share}",
                stats.negative_entries, stats.negative_bytes
            ),
            stats.negative_bytes <= share,
        ),
        (
            format!(
                "growth in the second half: {} KiB of at most {GROWTH_MAX_KIB}",
                after.saturating_sub(half)
            ),
            after.saturating_sub(half) <= GROWTH_MAX_KIB,
        ),
        (
            format!(
                "negative entries that made room for others: {}",
                stats.evictions(EvictionCause::Capacity)
            ),
            stats.evictions(EvictionCause::Capacity) + stats.negative_entries == keys,
        ),
    ];
    for (what, holds) in &checks {
        println!("{what}: {}", if *holds { "PASS" } else { "MISS" });
    }
    checks.iter().all(|(_, holds)| *holds)
}

fn main() -> ExitCode {
    let keys = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if runtime.block_on(run(keys)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
