//! What a database that is away for a while costs: hits go on as long as they may, misses are refused at once, and all is
//! well soon after it is back.
//!
//! ```text
//! cargo bench --bench outage -- [--database postgres|mariadb] [--seconds N] [--rate N] [--set KEY=VALUE]
//! ```
//!
//! Three nodes with three groups: `items`, whose table has our triggers; and two without, `lasting` with a ttl of one hour,
//! and `brief` with one of ten seconds. At every node keys that are in memory are read all the time, and keys that
//! nobody has asked for before. The server is stopped and started again. Meanwhile the connections that the nodes have
//! are counted in the database.
//!
//! - In memory, `items` are answered for `max_staleness` (1 s) and then no more, `brief` for ten seconds, `lasting` always.
//! - All else is refused by 503 with Retry-After, within the request timeout (2 s).
//! - Two seconds after the database is back nothing is refused, and the nodes have no more connections than they may.
//!
//! The exit code is 1 if that is not so.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    ops::Range,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

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
mod server;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

/// What a database that is away for a while costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server that is stopped
    #[arg(long, value_enum, default_value_t = Kind::Postgres)]
    database: Kind,
    /// For how long
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Reads a second at each node, of keys in memory; a third as many of others
    #[arg(long, default_value_t = 60.0)]
    rate: f64,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
const ROWS: usize = 100_000;
/// Of each group, that are in memory.
const WARM: usize = 20;
const GROUPS: [&str; 3] = ["items", "lasting", "brief"];
const MAX_STALENESS: Duration = Duration::from_secs(1);
const BRIEF: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(300);
/// A node's connections for loads (the default), and for its look at the log.
const POOL: usize = 8 + 2;

/// One read.
#[derive(Clone, Copy, Debug)]
struct Sample {
    start: Instant,
    took: Duration,
    group: usize,
    /// Whether the key was read before.
    is_warm: bool,
    /// 0 without an answer.
    status: u16,
    has_retry_after: bool,
}

#[derive(Debug, Default)]
struct Ledger {
    samples: Mutex<Vec<Sample>>,
    next: AtomicUsize,
    connections: AtomicI64,
    stop: AtomicBool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let server = match Server::start(arguments.database) {
        Ok(Server::Sqlite) => Err("SQLite has no server that could be away"),
        other => other,
    };
    let mut server = match server {
        Ok(server) => server,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    tokio::select! {
        code = run(&arguments, &mut server) => code,
        // Everything that was started is dropped on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn run(arguments: &Arguments, server: &mut Server) -> ExitCode {
    let group = |name: &str, table: &str, ttl: &str| {
        format!(
            "[group.{name}]\ntable = \"{table}\"\nkey_column = \"id\"\nvalue_columns = [\"version\"]\n\
             ttl = \"{ttl}\"\nttl_jitter = 0.0\n"
        )
    };
    let logged = format!("[database.shop]\nurl = \"{}\"\n{}", server.url(), group("items", "items", "1h"));
    let all = format!("{logged}{}{}", group("lasting", "others", "1h"), group("brief", "others", "10s"));
    // The triggers are for the first table only.
    let site = Site::new(&logged);
    // So short that it is soon there again, too.
    let database = server.open(&site, MAX_STALENESS);
    for table in ["items", "others"] {
        server::run(&database, |turn| {
            turn.batch(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)"))?;
            turn.batch(&server::numbers(table, ROWS))
        });
    }
    let installed = site.run(&["changes", "install"]);
    assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
    site.configure(&all);
    let plan = Plan { count: NODES, settings: arguments.set.clone(), static_list: true, ..Plan::default() };
    let fleet = Fleet::start(site, plan).await;
    let ledger = Arc::new(Ledger::default());
    let mut readers = JoinSet::new();
    for node in &fleet.nodes {
        let base = format!("http://{}", node.api());
        readers.spawn(read_warm(base.clone(), arguments.rate, Arc::clone(&ledger)));
        readers.spawn(read_cold(base, arguments.rate / 3.0, Arc::clone(&ledger)));
    }
    let counter = tokio::task::spawn_blocking({
        let (ledger, kind) = (Arc::clone(&ledger), arguments.database);
        move || count(&database, kind, &ledger)
    });

    tokio::time::sleep(Duration::from_secs(6)).await;
    let before = ledger.connections.swap(0, Ordering::SeqCst);
    let stopping = Instant::now();
    tokio::task::block_in_place(|| server.stop());
    let stopped = Instant::now();
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let starting = Instant::now();
    tokio::task::block_in_place(|| server.restart());
    let back = Instant::now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = ledger.connections.load(Ordering::SeqCst);
    readers.shutdown().await;
    ledger.stop.store(true, Ordering::SeqCst);
    counter.await.expect("it counts to the end");

    let samples = std::mem::take(&mut *ledger.samples.lock());
    let checks = judge(&samples, [stopping, stopped, starting, back]);
    let pool = NODES * POOL;
    let mut passed = true;
    let connections = format!("connections: {before} at most before, {after} after, of {pool}");
    let enough = usize::try_from(before.max(after)).is_ok_and(|most| most <= pool) && before > 0 && after > 0;
    println!(
        "{:?} away for {:.1} s, {} reads",
        arguments.database,
        (back - stopping).as_secs_f64(),
        samples.len()
    );
    for (what, is_right) in checks.into_iter().chain([(connections, enough)]) {
        println!("{} {what}", if is_right { "ok  " } else { "MISS" });
        passed &= is_right;
    }
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is to be true, and whether it is.
fn judge(samples: &[Sample], [stopping, stopped, starting, back]: [Instant; 4]) -> Vec<(String, bool)> {
    let of = |range: Range<Instant>, group: Option<usize>, is_warm: bool| {
        samples.iter().filter(move |sample| {
            range.contains(&sample.start)
                && sample.is_warm == is_warm
                // What waited for the database until it was back says nothing of its absence.
                && (sample.start >= starting || sample.start + sample.took < starting)
                && group.is_none_or(|group| group == sample.group)
        })
    };
    let right = |sample: &&Sample| sample.status == 200;
    let refused = |sample: &&Sample| sample.status == 503 && sample.has_retry_after;
    let mut checks = Vec::new();
    // Two seconds after the first reads everything is in memory.
    let usual = samples.iter().map(|sample| sample.start).min().unwrap_or(stopping) + Duration::from_secs(2);
    for is_warm in [true, false] {
        let all = of(usual..stopping, None, is_warm).count();
        let answered = of(usual..stopping, None, is_warm).filter(right).count();
        let what = if is_warm { "in memory" } else { "not in memory" };
        checks.push((format!("before: {answered} of {all} answered, {what}"), all > 0 && answered == all));
    }
    let ends = [(0, MAX_STALENESS), (1, Duration::MAX), (2, BRIEF)];
    for (group, end) in ends {
        let name = GROUPS[group];
        let whole = stopping..starting;
        let served = of(whole.clone(), Some(group), true).filter(right);
        let last = served.map(|sample| sample.start - stopping).max().unwrap_or_default();
        let is_long = match group {
            // A look at the log before was the last one.
            0 => last + SLACK >= end,
            1 => of(whole, Some(group), true).all(|sample| right(&sample)),
            // Some were loaded just before.
            _ => last > SLACK,
        };
        checks.push((format!("{name}: answered from memory until {last:.1?} after the stop began"), is_long));
        let Some(late) = stopped.checked_add(end).filter(|late| *late < starting) else { continue };
        let all = of(late..starting, Some(group), true).count();
        let count = of(late..starting, Some(group), true).filter(refused).count();
        checks.push((format!("{name}: {count} of {all} refused {end:?} later"), count == all && all > 0));
    }
    let all = of(stopped..starting, None, false).count();
    let count = of(stopped..starting, None, false).filter(refused).count();
    let longest = of(stopped..starting, None, false).map(|sample| sample.took).max().unwrap_or_default();
    checks.push((
        format!("not in memory: {count} of {all} refused with Retry-After, after {longest:.1?} at most"),
        count == all && all > 0 && longest <= REQUEST_TIMEOUT + SLACK,
    ));
    let until = samples.iter().map(|sample| sample.start).max().unwrap_or(back);
    let last = samples.iter().filter(|sample| sample.start >= back && sample.status != 200);
    let last = last.map(|sample| sample.start - back).max().unwrap_or_default();
    checks.push((
        format!("nothing was refused from {last:.2?} after its return on (bar 2 s)"),
        last <= Duration::from_secs(2) && until - back > Duration::from_secs(8),
    ));
    for sample in samples
        .iter()
        .filter(|sample| sample.start >= stopped && sample.status != 200)
        .filter(|sample| sample.status != 503 || !sample.has_retry_after)
        .take(10)
    {
        println!("{:.2?} after the stop: {sample:?}", sample.start - stopped);
    }
    checks
}

async fn read(http: &reqwest::Client, base: &str, ledger: &Ledger, group: usize, id: usize, is_warm: bool) {
    let start = Instant::now();
    let answer = http.get(format!("{base}/api/v1/groups/{}/keys/{id}", GROUPS[group])).send().await;
    let (status, has_retry_after) = match answer {
        Ok(answer) => {
            let seen = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
            // So that the connection can be used again.
            let _ = answer.bytes().await;
            seen
        }
        Err(_) => (0, false),
    };
    ledger.samples.lock().push(Sample {
        start,
        took: start.elapsed(),
        group,
        is_warm,
        status,
        has_retry_after,
    });
}

/// Reads what is in memory, until it is aborted.
async fn read_warm(base: String, rate: f64, ledger: Arc<Ledger>) {
    let http = rig::http(Duration::from_secs(10));
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    for at in 0_usize.. {
        ticks.tick().await;
        let (http, base, ledger) = (http.clone(), base.clone(), Arc::clone(&ledger));
        under_way.spawn(async move {
            read(&http, &base, &ledger, at % GROUPS.len(), at / GROUPS.len() % WARM, true).await;
        });
        while under_way.try_join_next().is_some() {}
    }
}

/// Reads what nobody has read before, until it is aborted.
async fn read_cold(base: String, rate: f64, ledger: Arc<Ledger>) {
    let http = rig::http(Duration::from_secs(10));
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    loop {
        ticks.tick().await;
        let at = ledger.next.fetch_add(1, Ordering::SeqCst);
        let (http, base, ledger) = (http.clone(), base.clone(), Arc::clone(&ledger));
        under_way.spawn(async move {
            read(&http, &base, &ledger, at % GROUPS.len(), WARM + at % (ROWS - WARM), false).await;
        });
        while under_way.try_join_next().is_some() {}
    }
}

/// Counts connections to the database but its own, until it is told to stop; the most that were seen.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own, which has nothing else to do")]
fn count(database: &Database, kind: Kind, ledger: &Ledger) {
    let statement = match kind {
        Kind::Mariadb => {
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()"
        }
        _ => {
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        }
    };
    while !ledger.stop.load(Ordering::SeqCst) {
        let found: Result<i64, DatabaseError> =
            database.run_here(Access::Read, Duration::from_secs(1), |turn| {
                let rows = turn.query(&Statement::new(statement))?;
                Ok(rows.first().expect("a count").integer(0)?)
            });
        if let Ok(found) = found {
            ledger.connections.fetch_max(found, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
