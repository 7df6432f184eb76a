//! That an acknowledged invalidation is final: keys are changed in the database and invalidated while every node reads
//! them, and no read that begins after all nodes have acknowledged returns the older value.
//!
//! ```text
//! cargo bench --bench invalidate -- [--invalidations N] [--rate N] [--set KEY=VALUE]
//! ```
//!
//! Then one node is paused: the answer has to name it, and be complete again once it runs. The exit code is 1 if an
//! older value was read, an acknowledgement was missing or too many, or hardly anything was read.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use diesel::{RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _, sql_types};
use ggcache::{
    client::Client,
    group::{GroupName, Key},
};
use rig::{
    fleet::{Fleet, Plan},
    items,
};
use rustix::process::Signal;
use serde::Deserialize;
use support::{PATIENCE, site::Site};
use tokio::{task::JoinSet, time::Instant};

#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod rig;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

/// That an acknowledged invalidation is final.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many, one after another
    #[arg(long, default_value_t = 1000)]
    invalidations: usize,
    /// Reads a second at each node
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
/// So few that each is read many times between two of its invalidations.
const KEYS: usize = 50;
/// Far longer than the run: only an invalidation makes a read see a change.
const GROUP: &str = "ttl = \"1h\"\nhot_ttl = \"10m\"";
/// Between two invalidations, so that there are reads.
const PAUSE: Duration = Duration::from_millis(20);

/// What the readers share with the writer.
#[derive(Debug)]
struct Ledger {
    /// For each key, the version that every node has acknowledged.
    acknowledged: Vec<AtomicU64>,
    reads: AtomicUsize,
    /// Of a version before the acknowledged one, though the read began after.
    older: AtomicUsize,
    /// Of a value that is none of the key's.
    wrong: AtomicUsize,
    errors: AtomicUsize,
}

#[derive(Debug, Deserialize)]
struct Report {
    complete: bool,
    acknowledged: Vec<Named>,
    failed: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    node: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tokio::select! {
        code = run(&arguments) => code,
        // Everything that was started is dropped on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn run(arguments: &Arguments) -> ExitCode {
    let site = Site::with(&items::configuration(GROUP), &items::table(KEYS));
    let plan = Plan { count: NODES, settings: arguments.set.clone(), ..Plan::default() };
    let fleet = Fleet::start(site, plan).await;
    let mut writer = Writer::new(&fleet);
    let ledger = Arc::new(Ledger {
        acknowledged: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        reads: AtomicUsize::new(0),
        older: AtomicUsize::new(0),
        wrong: AtomicUsize::new(0),
        errors: AtomicUsize::new(0),
    });
    let mut readers = JoinSet::new();
    for index in 0..NODES {
        let client = Client::builder().addresses([fleet.nodes[index].endpoint(false)]);
        let client = client.build().expect("HTTP is always there");
        readers.spawn(read(client, Arc::clone(&ledger), arguments.rate));
    }

    let begun = Instant::now();
    let (mut complete, mut took) = (0, Vec::new());
    for number in 0..arguments.invalidations {
        let asked = Instant::now();
        let report = writer.change(&ledger, number % KEYS, number % NODES).await;
        took.push(asked.elapsed());
        complete += usize::from(report.complete && report.acknowledged.len() == NODES);
        tokio::time::sleep(PAUSE).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let reads = ledger.reads.load(Ordering::SeqCst);
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    println!("invalidations: {}, complete: {complete}, p99 {p99:.1?}", arguments.invalidations);
    println!("reads meanwhile: {reads}, {:.0}/s over {NODES} nodes", reads as f64 / seconds);

    // The paused node keeps its readers waiting, who then fail: it is not their errors that count.
    let errors = ledger.errors.load(Ordering::SeqCst);
    let paused = &fleet.nodes[NODES - 1];
    paused.signal(Signal::STOP);
    let report = writer.change(&ledger, 0, 0).await;
    let failed: Vec<_> = report.failed.iter().map(|failed| failed.node.as_str()).collect();
    let named = !report.complete && failed == [paused.name.as_str()];
    println!("with {} paused: complete {}, failed {failed:?}", paused.name, report.complete);
    paused.signal(Signal::CONT);
    let healed = async {
        while !writer.change(&ledger, 0, 0).await.complete {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let healed = tokio::time::timeout(PATIENCE, healed).await.is_ok();
    println!("after it goes on: complete {healed}");
    // Reads of what was changed last.
    tokio::time::sleep(Duration::from_secs(1)).await;
    readers.abort_all();

    let (older, wrong) = (ledger.older.load(Ordering::SeqCst), ledger.wrong.load(Ordering::SeqCst));
    println!("older values: {older}, wrong values: {wrong}, errors before the pause: {errors}");
    let enough = reads as f64 / seconds >= 0.5 * arguments.rate * NODES as f64;
    let passed = older == 0
        && wrong == 0
        && errors == 0
        && enough
        && complete == arguments.invalidations
        && named
        && healed;
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Changes rows, and invalidates their keys.
struct Writer {
    database: SqliteConnection,
    versions: Vec<u64>,
    http: reqwest::Client,
    urls: Vec<String>,
}

impl Writer {
    fn new(fleet: &Fleet) -> Self {
        let mut database = fleet.site.connect();
        database.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA synchronous = OFF").expect("pragmas");
        let path = format!("/api/v1/groups/{}/keys:invalidate", items::GROUP);
        Self {
            database,
            versions: vec![0; KEYS],
            http: rig::http(PATIENCE),
            urls: fleet.nodes.iter().map(|node| format!("http://{}{path}", node.api())).collect(),
        }
    }

    /// Changes the `index`th row and invalidates its key, by the `node`th node. If all acknowledged, reads that begin
    /// from now on are held to the new version.
    async fn change(&mut self, ledger: &Ledger, index: usize, node: usize) -> Report {
        self.versions[index] += 1;
        let version = self.versions[index];
        // The row is in the page cache: this takes a fraction of a millisecond.
        diesel::sql_query("UPDATE items SET value = ? WHERE key = ?")
            .bind::<sql_types::Text, _>(items::value(index, version))
            .bind::<sql_types::Text, _>(items::key(index))
            .execute(&mut self.database)
            .expect("the database can be written");
        let body = serde_json::json!({ "keys": [items::key(index)] }).to_string();
        let asked = self.http.post(&self.urls[node]).header("content-type", "application/json").body(body);
        let answer = asked.send().await.expect("the node that is asked runs");
        assert_eq!(answer.status(), 200);
        let report = answer.bytes().await.expect("a whole answer");
        let report: Report = serde_json::from_slice(&report).expect("a report");
        if report.complete {
            ledger.acknowledged[index].store(version, Ordering::SeqCst);
        }
        report
    }
}

/// Reads keys at one node, on a schedule, until it is aborted.
async fn read(client: Client, ledger: Arc<Ledger>, rate: f64) {
    let group = GroupName::new(items::GROUP).expect("a group's name");
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
                let key = Key::new(items::key(index)).expect("a key");
                // Read before the request begins: whatever is acknowledged later doesn't bind it.
                let least = ledger.acknowledged[index].load(Ordering::SeqCst);
                match client.get(&group, &key).await {
                    Ok(found) => {
                        ledger.reads.fetch_add(1, Ordering::SeqCst);
                        match found.and_then(|fetched| items::version(index, &fetched.bytes)) {
                            Some(version) if version >= least => {}
                            Some(_) => drop(ledger.older.fetch_add(1, Ordering::SeqCst)),
                            None => drop(ledger.wrong.fetch_add(1, Ordering::SeqCst)),
                        }
                    }
                    Err(_) => drop(ledger.errors.fetch_add(1, Ordering::SeqCst)),
                }
            });
        }
        while under_way.try_join_next().is_some() {}
    }
}
