//! That nobody reads a stale value, whoever changes the database: direct writers in transactions of different lengths,
//! readers at every node, and nodes that stand still or are killed meanwhile.
//!
//! ```text
//! cargo bench --bench changes --features mysql -- --database postgres [--seconds N] [--rate N] [--set KEY=VALUE]
//! ```
//!
//! Three nodes on a database whose table has our triggers; a ttl of one hour, so that only the log of changes makes a
//! read see a change. Eight writers change rows in transactions of 0 to 20 ms, and note when each commit had returned. A
//! read that begins `max_staleness` (1 s) after that must not be of an older version. On the way one node is stopped for
//! some seconds (SIGSTOP), and another one killed (SIGKILL) and started again. In the end every node must answer what the
//! database has. Beside them a probe changes one row after another, and sees how long it takes until the last node
//! answers the change.
//!
//! The exit code is 1 if an older value was read, a change was lost, or hardly anything was read or written.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use ggcache::{
    client::Client,
    database::{Access, Database, DatabaseConfig, DatabaseError, DatabaseUrl, Statement},
    group::{GroupName, Key},
};
use parking_lot::Mutex;
use rig::fleet::{Fleet, Plan};
use rustix::process::Signal;
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

/// That nobody reads a stale value, whoever changes the database.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the table is
    #[arg(long, value_enum, default_value_t = Kind::Postgres)]
    database: Kind,
    /// How long the writers and readers go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Reads a second at each node
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
const WRITERS: usize = 8;
const KEYS: usize = 200;
/// The key of the probe, which no writer changes.
const PROBE: usize = KEYS;
const MAX_STALENESS: Duration = Duration::from_secs(1);
const GROUP: &str = "items";

/// What readers are held to: for each key, the versions with the moment at which their commit had returned.
struct Ledger {
    committed: Vec<Mutex<Vec<(Instant, u64)>>>,
    /// The last version that was begun.
    begun: Vec<AtomicU64>,
    writes: AtomicUsize,
    retried: AtomicUsize,
    reads: AtomicUsize,
    stale: AtomicUsize,
    /// Of a version that nobody has written.
    wrong: AtomicUsize,
    errors: AtomicUsize,
    /// How far behind the oldest answer was, in microseconds, judged at its request's start.
    age_max: AtomicU64,
    stop: AtomicBool,
}

fn key(index: usize) -> String {
    format!("item-{index:04}")
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
    let url = server.url();
    let configuration = format!(
        "[database.shop]\nurl = \"{url}\"\n[group.{GROUP}]\ndatabase = \"shop\"\ntable = \"items\"\n\
         key_column = \"name\"\nvalue_columns = [\"version\"]\nttl = \"1h\"\nhot_ttl = \"10m\"\nttl_jitter = 0.0\n"
    );
    let site = Site::new(&configuration);
    if matches!(server, Server::Sqlite) {
        site.sql("PRAGMA journal_mode = WAL");
    }
    let place = if matches!(server, Server::Sqlite) {
        format!("sqlite:{}", site.database().display())
    } else {
        url.clone()
    };
    prepare(&place);
    let installed = site.run(&["changes", "install"]);
    assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
    let plan = Plan { count: NODES, settings: arguments.set.clone(), ..Plan::default() };
    let mut fleet = Fleet::start(site, plan).await;
    let ledger = Arc::new(Ledger {
        committed: (0..=KEYS).map(|_| Mutex::new(Vec::new())).collect(),
        begun: (0..=KEYS).map(|_| AtomicU64::new(0)).collect(),
        writes: AtomicUsize::new(0),
        retried: AtomicUsize::new(0),
        reads: AtomicUsize::new(0),
        stale: AtomicUsize::new(0),
        wrong: AtomicUsize::new(0),
        errors: AtomicUsize::new(0),
        age_max: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let mut readers = JoinSet::new();
    for node in &fleet.nodes {
        let client =
            Client::builder().addresses([node.endpoint(false)]).build().expect("HTTP is always there");
        readers.spawn(read(client, Arc::clone(&ledger), arguments.rate));
    }
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (ledger, place) = (Arc::clone(&ledger), place.clone());
        writers.spawn_blocking(move || write(&place, &ledger, number));
    }
    let begun = Instant::now();
    let length = Duration::from_secs(arguments.seconds);
    // In the first half nothing goes wrong, so that the probe measures the usual.
    let mut took = probe(&fleet, &place, &ledger, begun + length / 2).await;
    let quiet_errors = ledger.errors.load(Ordering::SeqCst);
    println!("a node is stopped for {:?}, then another one is killed", length / 10);
    fleet.nodes[1].signal(Signal::STOP);
    tokio::time::sleep(length / 10).await;
    fleet.nodes[1].signal(Signal::CONT);
    tokio::time::sleep(length / 10).await;
    fleet.nodes[2].kill();
    tokio::time::sleep(length / 10).await;
    fleet.spawn(2);
    fleet.ready(2).await;
    tokio::time::sleep_until(begun + length).await;
    ledger.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer goes on to its end");
    }
    tokio::time::sleep(MAX_STALENESS + Duration::from_millis(500)).await;
    readers.abort_all();
    let lost = lost(&fleet, &place).await;

    let seconds = begun.elapsed().as_secs_f64();
    let [writes, retried, reads, stale, wrong, errors] =
        [&ledger.writes, &ledger.retried, &ledger.reads, &ledger.stale, &ledger.wrong, &ledger.errors]
            .map(|count| count.load(Ordering::SeqCst));
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    println!("{:?}: {seconds:.0} s, {NODES} nodes, {WRITERS} writers", arguments.database);
    println!("writes: {writes} ({:.0}/s), tried again: {retried}", writes as f64 / seconds);
    println!(
        "reads: {reads} ({:.0}/s), errors: {quiet_errors} before the faults, {errors} in all",
        reads as f64 / seconds
    );
    println!(
        "from a commit to the last node's answer, {} changes: p50 {:.1?}, p99 {:.1?}, at most {:.1?} (bar: p99 60 ms)",
        took.len(),
        at(50),
        at(99),
        took.last().copied().unwrap_or_default()
    );
    let age = Duration::from_micros(ledger.age_max.load(Ordering::SeqCst));
    println!("the oldest answer was {age:.1?} behind when its read began (bound {MAX_STALENESS:?})");
    println!("stale reads: {stale}, values that nobody wrote: {wrong}, keys lost in the end: {lost}");
    let passed = stale == 0
        && wrong == 0
        && lost == 0
        && quiet_errors == 0
        && writes > arguments.seconds as usize * 50
        && reads > arguments.seconds as usize * 100
        && at(99) <= Duration::from_millis(60);
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn open(place: &str) -> Database {
    let mut config = DatabaseConfig::new(DatabaseUrl::new(place.to_owned()));
    (config.max_connections, config.statement_timeout) = (1, Duration::from_secs(10));
    Database::open(&config).expect("the database answers")
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the table, with every key in version 0.
fn prepare(place: &str) {
    let database = open(place);
    let rows: Vec<String> = (0..=KEYS).map(|index| format!("('{}', 0)", key(index))).collect();
    let rows = format!("INSERT INTO items (name, version) VALUES {}", rows.join(", "));
    let made: Result<(), DatabaseError> = database.run_here(Access::Write, PATIENCE, |turn| {
        turn.batch("CREATE TABLE items (name VARCHAR(50) PRIMARY KEY, version BIGINT NOT NULL)")?;
        turn.batch(&rows)
    });
    made.expect("the table can be made");
}

/// Adds one to a key's version in a transaction that stays open for `open_for`; the new version. `None` if it was
/// rolled back.
fn change(database: &Database, name: &str, open_for: Duration, on_version: impl Fn(u64)) -> Option<u64> {
    let changed: Result<u64, DatabaseError> = database.run_here(Access::Write, PATIENCE, |turn| {
        turn.transaction(|turn| {
            turn.execute(&Statement::new("UPDATE items SET version = version + 1 WHERE name = ").bind(name))?;
            let rows = turn.query(&Statement::new("SELECT version FROM items WHERE name = ").bind(name))?;
            let version = rows.first().expect("the row is there").integer(0)?;
            on_version(version as u64);
            #[expect(
                clippy::disallowed_methods,
                reason = "a transaction that stays open, on a thread of its own"
            )]
            std::thread::sleep(open_for);
            Ok(version as u64)
        })
    });
    changed.ok()
}

/// Changes rows until it is told to stop.
fn write(place: &str, ledger: &Ledger, number: usize) {
    let database = open(place);
    let mut random = fastrand::Rng::with_seed(number as u64);
    while !ledger.stop.load(Ordering::SeqCst) {
        let index = random.usize(..KEYS);
        let open_for = Duration::from_micros(random.u64(0..20_000));
        let begun = |version| {
            ledger.begun[index].fetch_max(version, Ordering::SeqCst);
        };
        match change(&database, &key(index), open_for, begun) {
            Some(version) => {
                ledger.committed[index].lock().push((Instant::now(), version));
                ledger.writes.fetch_add(1, Ordering::SeqCst);
            }
            None => drop(ledger.retried.fetch_add(1, Ordering::SeqCst)),
        }
    }
}

impl Ledger {
    /// Judges an answer to a read that began at `start`.
    fn judge(&self, index: usize, start: Instant, version: Option<u64>) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let Some(version) = version.filter(|version| *version <= self.begun[index].load(Ordering::SeqCst))
        else {
            self.wrong.fetch_add(1, Ordering::SeqCst);
            return;
        };
        let committed = self.committed[index].lock();
        // The first newer version that had been committed when the read began.
        let newer = committed.iter().rev().take_while(|(_, other)| *other > version).last();
        if let Some((at, _)) = newer.filter(|(at, _)| *at < start) {
            let age = start - *at;
            self.age_max.fetch_max(age.as_micros() as u64, Ordering::SeqCst);
            if age > MAX_STALENESS {
                self.stale.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

async fn version(client: &Client, group: &GroupName, index: usize) -> Result<Option<u64>, ()> {
    let key = Key::new(key(index)).expect("a key");
    let found = client.get(group, &key).await.map_err(|_| ())?;
    Ok(found.and_then(|fetched| std::str::from_utf8(&fetched.bytes).ok()?.parse().ok()))
}

/// Reads keys at one node, on a schedule, until it is aborted.
async fn read(client: Client, ledger: Arc<Ledger>, rate: f64) {
    let group = GroupName::new(GROUP).expect("a group's name");
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (begun, mut sent) = (Instant::now(), 0_u64);
    loop {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            sent += 1;
            let (client, group, ledger) = (client.clone(), group.clone(), Arc::clone(&ledger));
            under_way.spawn(async move {
                let index = fastrand::usize(..KEYS);
                let start = Instant::now();
                match version(&client, &group, index).await {
                    Ok(version) => ledger.judge(index, start, version),
                    Err(()) => drop(ledger.errors.fetch_add(1, Ordering::SeqCst)),
                }
            });
        }
        while under_way.try_join_next().is_some() {}
    }
}

/// Changes one row after another until `end`, and sees how long it takes from the commit until each node has answered it.
async fn probe(fleet: &Fleet, place: &str, ledger: &Arc<Ledger>, end: Instant) -> Vec<Duration> {
    let group = GroupName::new(GROUP).expect("a group's name");
    let clients: Vec<Client> = fleet
        .nodes
        .iter()
        .map(|node| {
            Client::builder().addresses([node.endpoint(false)]).build().expect("HTTP is always there")
        })
        .collect();
    let database = Arc::new(open(place));
    let mut took = Vec::new();
    while Instant::now() < end {
        let (database, ledger) = (Arc::clone(&database), Arc::clone(ledger));
        let work = move || {
            let begun = |version| {
                ledger.begun[PROBE].fetch_max(version, Ordering::SeqCst);
            };
            change(&database, &key(PROBE), Duration::ZERO, begun)
        };
        let Ok(Some(changed)) = tokio::task::spawn_blocking(work).await else { continue };
        let committed = Instant::now();
        let seen = clients.iter().map(|client| async {
            while version(client, &group, PROBE).await.ok().flatten().is_none_or(|version| version < changed)
            {
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
        futures_util::future::join_all(seen).await;
        took.push(committed.elapsed());
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..40))).await;
    }
    took
}

/// The keys that some node does not answer as the database has them.
async fn lost(fleet: &Fleet, place: &str) -> usize {
    let database = open(place);
    let rows: Result<_, DatabaseError> = database.run_here(Access::Read, PATIENCE, |turn| {
        turn.query(&Statement::new("SELECT version FROM items ORDER BY name"))
    });
    let versions: Vec<u64> = rows
        .expect("the database answers")
        .iter()
        .map(|row| row.integer(0).expect("a version") as u64)
        .collect();
    let group = GroupName::new(GROUP).expect("a group's name");
    let mut lost = 0;
    for node in &fleet.nodes {
        let client =
            Client::builder().addresses([node.endpoint(false)]).build().expect("HTTP is always there");
        for (index, expected) in versions.iter().enumerate() {
            let answered = version(&client, &group, index).await.ok().flatten();
            if answered != Some(*expected) {
                println!("{}: {} is {answered:?}, and {expected} in the database", node.name, key(index));
                lost += 1;
            }
        }
    }
    lost
}
