//! What a process takes for a group of 64 MiB that is filled with far more keys than fit.
//!
//! `cargo bench --bench memory [-- [KEYS] [VALUE_BYTES] [SETTING=VALUE …]]`, by default 10,000,000 distinct keys, half of
//! them present with values of 100 bytes and half absent. A node of the program on a SQLite table with integer keys is
//! asked for each of them once, by 64 clients over HTTP. Its resident memory is read from `/proc` all the while, and must
//! stay within 64 MiB and a quarter, and what the process took when it was idle. More is a MISS, and ends the program
//! with 1. Settings are the program's own (`database.school.max_connections=2`), and its environment is this one's
//! (`MALLOC_ARENA_MAX=2`), so that one can see what helps.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    io::Write as _,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use support::{client::Connection, cluster::Cluster, node::Node, site::Site};

#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod support;

const KEYS: u64 = 10_000_000;
const VALUE_BYTES: u64 = 100;
const CAPACITY_KIB: u64 = 64 << 10;
/// The part of the capacity by which the process may exceed it, beyond what it takes when it is idle.
const ALLOWANCE_PERCENT: u64 = 25;
const CLIENTS: u64 = 64;
/// Requests that a client sends at once, before it reads their answers.
const BATCH: u64 = 32;
/// Steps through the keys out of their order; a prime, and so no divisor of their number.
const STRIDE: u64 = 982_451_653;

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"
statement_timeout = "10s"

[limits]
request_timeout = "20s"

[group.items]
table = "items"
key_column = "id"
value_columns = ["value"]
capacity = "64MiB"
ttl = "1d"
negative_ttl = "1d"
"#;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    let keys = numbers.next().unwrap_or(KEYS);
    let value_bytes = numbers.next().unwrap_or(VALUE_BYTES);
    let settings: Vec<_> =
        arguments.iter().map(String::as_str).filter(|argument| argument.contains('=')).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if runtime.block_on(run(keys, value_bytes, &settings)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Resident memory in KiB: all of it, the part that is the process's own, and the part that is mapped from files.
#[derive(Clone, Copy, Debug, Default)]
struct Resident {
    all: u64,
    own: u64,
    files: u64,
    peak: u64,
    threads: u64,
}

impl Resident {
    fn of(node: &Node) -> Self {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", node.id())).expect("the process runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            all: field("VmRSS"),
            own: field("RssAnon"),
            files: field("RssFile"),
            peak: field("VmHWM"),
            threads: field("Threads"),
        }
    }
}

async fn run(keys: u64, value_bytes: u64, settings: &[&str]) -> bool {
    assert!(
        !keys.is_multiple_of(STRIDE) && !STRIDE.is_multiple_of(keys.max(1)),
        "that number of keys does not work; take another"
    );
    let sql = format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
         CREATE TABLE items (id INTEGER PRIMARY KEY, value TEXT NOT NULL); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) \
         INSERT INTO items SELECT i, printf('%0{value_bytes}d', i) FROM n;",
        keys.div_ceil(2).max(1)
    );
    let cluster = Cluster::start(Site::with(CONFIG, &sql), 1, settings).await;
    let node = &cluster.nodes[0];
    let idle = Resident::of(node);
    println!("{keys} keys, values of {value_bytes} bytes, settings {settings:?}");
    println!("idle: {} KiB (own {}, files {}, {} threads)", idle.all, idle.own, idle.files, idle.threads);

    let done = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| tokio::spawn(client(node.api(), index, keys, Arc::clone(&done), Arc::clone(&failed))))
        .collect();
    let mut largest = idle;
    let mut told = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = Resident::of(node);
        if now.all > largest.all {
            largest = now;
        }
        let done = done.load(Ordering::Relaxed);
        if done >= told {
            told += (keys / 20).max(1);
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            println!(
                "{done:>9} keys, {rate:>6.0} a second: {} KiB (own {}, files {})",
                now.all, now.own, now.files
            );
        }
    }
    let took = begun.elapsed();
    let last = Resident::of(node);
    report(node, idle, largest, last).await;
    let limit = CAPACITY_KIB + CAPACITY_KIB * ALLOWANCE_PERCENT / 100 + idle.all;
    let used = largest.all.max(last.peak);
    let right = !failed.load(Ordering::Relaxed) && done.load(Ordering::Relaxed) == keys;
    let holds = right && used <= limit;
    println!(
        "{keys} keys in {:.0} s; at most {used} KiB, of {limit} KiB ({:+.1} % of the capacity beyond it and the idle \
         process), answers {}: {}",
        took.as_secs_f64(),
        100.0 * (used as f64 - idle.all as f64 - CAPACITY_KIB as f64) / CAPACITY_KIB as f64,
        if right { "right" } else { "WRONG" },
        if holds { "PASS" } else { "MISS" }
    );
    holds
}

/// Prints where the memory is, as far as the process itself can tell.
async fn report(node: &Node, idle: Resident, largest: Resident, last: Resident) {
    let group = node.ask_admin("/api/v1/groups/items").await.json();
    println!(
        "the group counts {} KiB: {} entries, {} KiB of it for {} absent keys",
        group["bytes"].as_u64().unwrap_or(0) >> 10,
        group["entries"],
        group["negative_bytes"].as_u64().unwrap_or(0) >> 10,
        group["negative_entries"],
    );
    let growth = |now: u64, before: u64| now as i64 - before as i64;
    println!(
        "at its largest {} KiB: own {} ({:+}), files {} ({:+}), {} threads; at the end {} KiB, at its peak {}",
        largest.all,
        largest.own,
        growth(largest.own, idle.own),
        largest.files,
        growth(largest.files, idle.files),
        largest.threads,
        last.all,
        last.peak,
    );
}

/// Asks for every `CLIENTS`th of the keys, from `first` on.
async fn client(address: SocketAddr, first: u64, keys: u64, done: Arc<AtomicU64>, failed: Arc<AtomicBool>) {
    let mut connection = Connection::open(address).await.expect("the node accepts connections");
    let present = keys.div_ceil(2);
    let key = |index: u64| (u128::from(index) * u128::from(STRIDE) % u128::from(keys)) as u64 + 1;
    let mut requests = Vec::new();
    let mut index = first;
    while index < keys {
        let batch: Vec<u64> =
            (0..BATCH).map(|at| index + at * CLIENTS).filter(|index| *index < keys).map(key).collect();
        requests.clear();
        for key in &batch {
            write!(requests, "GET /api?key={key} HTTP/1.1\r\nhost: x\r\n\r\n").expect("a Vec takes all");
        }
        connection.send(&requests).await.expect("the node reads");
        for key in &batch {
            let answer = connection.receive(true).await.expect("not cut off").expect("an answer");
            let expected = if *key <= present { 200 } else { 404 };
            let right = answer.status == expected
                && (expected == 404 || answer.text().trim_start_matches('0').parse() == Ok(*key));
            if !right && !failed.swap(true, Ordering::Relaxed) {
                println!("WRONG: key {key}: {}", answer.describe());
            }
        }
        done.fetch_add(batch.len() as u64, Ordering::Relaxed);
        index += BATCH * CLIENTS;
    }
}
