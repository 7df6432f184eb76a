//! What one statement that changes a whole table costs: the cluster answers meanwhile, and is fresh again soon.
//!
//! ```text
//! cargo bench --bench flood -- [--database postgres|mariadb|sqlite] [--rows N] [--rate N] [--set KEY=VALUE]
//! ```
//!
//! Three nodes on a database whose table has our triggers, with a ttl of one hour, and readers at every node, most of them
//! of a few keys that are in memory. Then one UPDATE changes every row. No read may fail before its commit, none that
//! begins `max_staleness` (1 s) after the commit may be of the old version, and ten seconds after it all nodes must
//! answer from memory again, and have no read fail any more.
//!
//! The exit code is 1 if that is not so.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use ggcache::database::{Access, Database, DatabaseError, Statement};
use parking_lot::Mutex;
use rig::fleet::{Fleet, Plan};
use server::{Kind, Server};
use support::site::Site;
use tokio::{task::JoinSet, time::Instant};

#[path = "../tests/support/keeper.rs"]
mod keeper;
#[cfg(feature = "mysql")]
#[path = "../tests/support/mariadb.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod mariadb;
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod postgres;
#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod rig;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod server;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

/// What one statement that changes a whole table costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the table is
    #[arg(long, value_enum, default_value_t = Kind::Postgres)]
    database: Kind,
    /// How many rows the statement changes
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Reads a second at each node
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
/// Keys that four of five reads are of.
const HOT: usize = 200;
const MAX_STALENESS: Duration = Duration::from_secs(1);
const BAR: Duration = Duration::from_secs(10);
/// How long a node is waited for.
const WAIT: Duration = Duration::from_secs(60);

/// One read: the version, or why there is none.
#[derive(Clone, Debug)]
struct Sample {
    start: Instant,
    took: Duration,
    version: Result<u64, String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let server = match Server::start(arguments.database) {
        Ok(server) => server,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    tokio::select! {
        code = run(&arguments, &server) => code,
        // Everything that was started is dropped on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn run(arguments: &Arguments, server: &Server) -> ExitCode {
    let site = Site::new(&format!(
        "[database.shop]\nurl = \"{}\"\n[group.items]\ntable = \"items\"\nkey_column = \"id\"\n\
         value_columns = [\"version\"]\nttl = \"1h\"\n",
        server.url()
    ));
    let database = Arc::new(server.open(&site, server::PATIENCE));
    server::run(&database, |turn| {
        turn.batch("CREATE TABLE items (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")?;
        turn.batch(&server::numbers("items", arguments.rows))
    });
    let installed = site.run(&["changes", "install"]);
    assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
    let plan = Plan { count: NODES, settings: arguments.set.clone(), static_list: true, ..Plan::default() };
    let fleet = Fleet::start(site, plan).await;
    let samples = Arc::default();
    let mut readers = JoinSet::new();
    let nodes: Vec<String> = fleet.nodes.iter().map(|node| format!("http://{}", node.api())).collect();
    for node in &nodes {
        readers.spawn(read(node.clone(), arguments.rate, arguments.rows, Arc::clone(&samples)));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = Instant::now();
    let work = {
        let database = Arc::clone(&database);
        move || {
            server::run(&database, |turn| {
                turn.execute(&Statement::new("UPDATE items SET version = version + 1"))
            })
        }
    };
    let changed = tokio::task::spawn_blocking(work).await.expect("the statement succeeds");
    let committed = Instant::now();
    let drained = tokio::task::spawn_blocking({
        let (database, kind) = (Arc::clone(&database), arguments.database);
        move || drained(&database, kind, committed)
    });
    let fresh = futures_util::future::join_all(nodes.iter().map(|node| fresh(node, committed))).await;
    let drained = drained.await.expect("it looks to the end");
    tokio::time::sleep(Duration::from_secs(5)).await;
    readers.shutdown().await;

    let samples = std::mem::take(&mut *samples.lock());
    let before = of(&samples, begun - Duration::from_secs(3), begun);
    let during = of(&samples, begun, committed);
    let after = of(&samples, committed, Instant::now());
    println!(
        "{:?}: {changed} rows changed in {:.1} s, {} reads",
        arguments.database,
        (committed - begun).as_secs_f64(),
        samples.len()
    );
    for (when, part) in [("before", &before), ("meanwhile", &during), ("after", &after)] {
        let mut times: Vec<_> = part.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        let failed: Vec<_> = part.iter().filter_map(|sample| sample.version.as_ref().err()).collect();
        println!(
            "{when}: {} reads, {} failed, p50 {:.1?}, p99 {:.1?}, at most {:.1?}",
            part.len(),
            failed.len(),
            at(50),
            at(99),
            times.last().copied().unwrap_or_default()
        );
        if let Some(why) = failed.first() {
            println!("  {why}");
        }
    }
    let old = after.iter().filter(|sample| sample.version == Ok(0)).map(|sample| sample.start - committed);
    let oldest = old.max().unwrap_or_default();
    let last_failed =
        after.iter().filter(|sample| sample.version.is_err()).map(|sample| sample.start - committed);
    let last_failed = last_failed.max().unwrap_or_default();
    let fresh = fresh.into_iter().max().unwrap_or(WAIT);
    println!(
        "after the commit: the old version was read for {oldest:.2?} (bound {MAX_STALENESS:?}), reads failed for {last_failed:.2?}"
    );
    println!(
        "all nodes answer from memory after {fresh:.2?} (bar {BAR:?}), the outbox is empty after {drained:.2?}"
    );
    let failed = during.iter().filter(|sample| sample.version.is_err()).count();
    let passed = changed == arguments.rows
        && failed == 0
        && !during.is_empty()
        && oldest <= MAX_STALENESS
        && last_failed <= BAR
        && fresh <= BAR;
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn of(samples: &[Sample], from: Instant, to: Instant) -> Vec<Sample> {
    samples.iter().filter(|sample| (from..to).contains(&sample.start)).cloned().collect()
}

async fn ask(http: &reqwest::Client, node: &str, id: usize, directive: &str) -> Result<u64, String> {
    let request =
        http.get(format!("{node}/api/v1/groups/items/keys/{id}")).header("cache-control", directive);
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    text.parse().map_err(|_| format!("{status}: {text}"))
}

/// Reads keys at one node, on a schedule, until it is aborted.
async fn read(node: String, rate: f64, rows: usize, samples: Arc<Mutex<Vec<Sample>>>) {
    let http = rig::http(Duration::from_secs(10));
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let (begun, mut sent) = (Instant::now(), 0_u64);
    loop {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            sent += 1;
            let (http, node, samples) = (http.clone(), node.clone(), Arc::clone(&samples));
            under_way.spawn(async move {
                let id = if fastrand::u8(..5) < 4 { fastrand::usize(..HOT) } else { fastrand::usize(..rows) };
                let start = Instant::now();
                let version = ask(&http, &node, id, "max-age=3600").await;
                samples.lock().push(Sample { start, took: start.elapsed(), version });
            });
        }
        while under_way.try_join_next().is_some() {}
    }
}

/// How long it takes until a node answers the new version from memory, and goes on to do so.
async fn fresh(node: &str, committed: Instant) -> Duration {
    const IN_A_ROW: usize = 20;
    let http = rig::http(Duration::from_secs(10));
    let (mut since, mut count) = (None, 0);
    while count < IN_A_ROW && committed.elapsed() < WAIT {
        let start = Instant::now();
        // So that it can be there.
        let _ = ask(&http, node, 0, "max-age=3600").await;
        if ask(&http, node, 0, "only-if-cached").await.is_ok_and(|version| version > 0) {
            since = since.or(Some(start));
            count += 1;
        } else {
            (since, count) = (None, 0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    since.map_or(WAIT, |since| since - committed)
}

/// How long it takes until the changes have left the outbox.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own, which has nothing else to do")]
fn drained(database: &Database, kind: Kind, committed: Instant) -> Duration {
    // On SQLite it is the log itself.
    while kind != Kind::Sqlite && committed.elapsed() < WAIT {
        let rows: Result<_, DatabaseError> = database.run_here(Access::Read, WAIT, |turn| {
            turn.query(&Statement::new("SELECT id FROM gg_outbox ORDER BY id LIMIT 1"))
        });
        if rows.is_ok_and(|rows| rows.is_empty()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    committed.elapsed()
}
