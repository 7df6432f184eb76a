//! That an acknowledged write is kept and seen: writes through the API at all nodes, which are killed on the way.
//!
//! ```text
//! cargo bench --bench writes -- [--database postgres|mariadb|sqlite] [--writes N] [--kills N] [--set KEY=VALUE]
//! ```
//!
//! Three nodes on a database whose table has our triggers, with a ttl of one hour. Sixteen clients put values, each to
//! keys of its own, at random nodes. Each write that was acknowledged is read at another node with the position that it
//! answered, and must be there. Over the run nodes are killed (SIGKILL) and started again. A write whose answer was lost
//! may be there or not, and also come later: its key is not written again. In the end the database must have, of each key,
//! the last acknowledged version, or the one whose answer was lost; and every node must answer what the database has.
//!
//! The exit code is 1 if a write is missing, an older value was read, or many could not be read.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    collections::{BTreeMap, HashMap},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use ggcache::database::{Database, Statement};
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

/// That an acknowledged write is kept and seen.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the table is
    #[arg(long, value_enum, default_value_t = Kind::Postgres)]
    database: Kind,
    /// Writes that are acknowledged
    #[arg(long, default_value_t = 100_000)]
    writes: usize,
    /// How often a node is killed on the way
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
const CLIENTS: usize = 16;
/// Keys that a client writes at a time: few, so that each is in many memories in older versions.
const KEYS: usize = 8;
/// How often a read is tried, at one node after another.
const ATTEMPTS: usize = 20;

#[derive(Debug, Default)]
struct Ledger {
    acknowledged: AtomicUsize,
    /// Without a position, which the node could not find out in time.
    unplaced: AtomicUsize,
    /// Read again as they were written.
    seen: AtomicUsize,
    older: AtomicUsize,
    /// Of a version that is neither older nor the one that was written.
    wrong: AtomicUsize,
    /// At no node, however often.
    unread: AtomicUsize,
    /// Why writes were refused, or their answers lost.
    failures: Mutex<BTreeMap<String, usize>>,
    took: Mutex<Vec<Duration>>,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    index: usize,
    acknowledged: u64,
    /// A version whose answer was lost.
    lost: Option<u64>,
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
        "[database.shop]\nurl = \"{}\"\n[group.items]\ntable = \"items\"\nkey_column = \"name\"\n\
         value_columns = [\"version\"]\nwritable = true\nttl = \"1h\"\nhot_ttl = \"10m\"\n",
        server.url()
    ));
    let database = server.open(&site, server::PATIENCE);
    server::run(&database, |turn| {
        turn.batch("CREATE TABLE items (name VARCHAR(50) PRIMARY KEY, version BIGINT NOT NULL)")
    });
    let installed = site.run(&["changes", "install"]);
    assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
    let plan = Plan { count: NODES, settings: arguments.set.clone(), static_list: true, ..Plan::default() };
    let mut fleet = Fleet::start(site, plan).await;
    let ledger = Arc::new(Ledger::default());
    let nodes: Vec<String> = fleet.nodes.iter().map(|node| format!("http://{}", node.api())).collect();
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (http, nodes) = (rig::http(Duration::from_secs(10)), nodes.clone());
        let client = Client { number, http, nodes, ledger: Arc::clone(&ledger), goal: arguments.writes };
        clients.spawn(client.write());
    }
    for kill in 0..arguments.kills {
        let due = arguments.writes * (kill + 1) / (arguments.kills + 1);
        while ledger.acknowledged.load(Ordering::SeqCst) < due {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let index = fastrand::usize(..NODES);
        fleet.nodes[index].kill();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1000))).await;
        fleet.spawn(index);
        fleet.ready(index).await;
    }
    let known: Vec<Known> = clients.join_all().await.into_iter().flatten().collect();
    let took = begun.elapsed();
    // What was lost may still come.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let rows = rows(&database);
    let missing = missing(&known, &rows);
    let different = different(&nodes, &rows).await;
    report(arguments, &ledger, &known, took, missing, different)
}

fn report(
    arguments: &Arguments,
    ledger: &Ledger,
    known: &[Known],
    took: Duration,
    missing: usize,
    different: usize,
) -> ExitCode {
    let [acknowledged, unplaced, seen, older, wrong, unread] =
        [&ledger.acknowledged, &ledger.unplaced, &ledger.seen, &ledger.older, &ledger.wrong, &ledger.unread]
            .map(|count| count.load(Ordering::SeqCst));
    let lost = known.iter().filter(|known| known.lost.is_some()).count();
    let mut times = std::mem::take(&mut *ledger.took.lock());
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!(
        "{:?}: {acknowledged} writes acknowledged in {:.0} s ({:.0}/s; p50 {:.1?}, p99 {:.1?}), {} kills, {} keys",
        arguments.database,
        took.as_secs_f64(),
        acknowledged as f64 / took.as_secs_f64(),
        at(50),
        at(99),
        arguments.kills,
        known.len()
    );
    for (why, count) in &*ledger.failures.lock() {
        println!("  not acknowledged: {count} times {why}");
    }
    println!("answers lost: {lost}, acknowledged without a position: {unplaced}");
    println!("read at another node: {seen} as written, {older} older, {wrong} wrong, {unread} not answered");
    println!("acknowledged and not in the database: {missing}; answered otherwise in the end: {different}");
    let few = acknowledged / 100;
    let passed = acknowledged >= arguments.writes
        && missing == 0
        && different == 0
        && older == 0
        && wrong == 0
        && unread <= few
        && unplaced <= few
        && seen + unread + unplaced == acknowledged;
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn key(index: usize) -> String {
    format!("item-{index:06}")
}

fn target(node: &str, index: usize) -> String {
    format!("{node}/api/v1/groups/items/keys/{}", key(index))
}

/// One that writes.
struct Client {
    number: usize,
    http: reqwest::Client,
    nodes: Vec<String>,
    ledger: Arc<Ledger>,
    goal: usize,
}

/// What became of a write.
enum Outcome {
    Acknowledged(Option<String>),
    /// It was certainly not carried out.
    Refused,
    Lost,
}

impl Client {
    /// Writes until all clients together have reached the goal; what it knows of its keys then.
    async fn write(self) -> Vec<Known> {
        let mut next = self.number;
        let mut fresh = || {
            let index = next;
            next += CLIENTS;
            Known { index, acknowledged: 0, lost: None }
        };
        let mut live: Vec<Known> = (0..KEYS).map(|_| fresh()).collect();
        let mut all = Vec::new();
        while self.ledger.acknowledged.load(Ordering::SeqCst) < self.goal {
            let slot = fastrand::usize(..KEYS);
            let Known { index, acknowledged, .. } = live[slot];
            let (node, version) = (fastrand::usize(..NODES), acknowledged + 1);
            match self.put(node, index, version).await {
                Outcome::Acknowledged(position) => {
                    live[slot].acknowledged = version;
                    self.ledger.acknowledged.fetch_add(1, Ordering::SeqCst);
                    match position {
                        Some(position) => self.read(node, index, version, &position).await,
                        None => drop(self.ledger.unplaced.fetch_add(1, Ordering::SeqCst)),
                    }
                }
                Outcome::Refused => tokio::time::sleep(Duration::from_millis(20)).await,
                Outcome::Lost => {
                    live[slot].lost = Some(version);
                    all.push(std::mem::replace(&mut live[slot], fresh()));
                }
            }
        }
        all.extend(live);
        all
    }

    async fn put(&self, node: usize, index: usize, version: u64) -> Outcome {
        let begun = Instant::now();
        let request = self.http.put(target(&self.nodes[node], index)).body(version.to_string());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                self.failed("no connection".to_owned());
                return Outcome::Refused;
            }
            Err(_) => {
                self.failed("no answer".to_owned());
                return Outcome::Lost;
            }
        };
        let status = answer.status().as_u16();
        if status == 204 {
            self.ledger.took.lock().push(begun.elapsed());
            let position = answer.headers().get("ggcache-position").and_then(|value| value.to_str().ok());
            return Outcome::Acknowledged(position.map(str::to_owned));
        }
        let text = answer.text().await.unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or_default();
        self.failed(format!("{status}: {detail}"));
        // Who says so has not begun, or has rolled back.
        let is_refused = detail.starts_with("nothing was written") || detail.contains("no triggers");
        if is_refused { Outcome::Refused } else { Outcome::Lost }
    }

    fn failed(&self, why: String) {
        *self.ledger.failures.lock().entry(why).or_default() += 1;
    }

    /// Reads a key somewhere else than it was written, with the position that the write answered.
    async fn read(&self, writer: usize, index: usize, version: u64, position: &str) {
        let first = fastrand::usize(1..NODES);
        for attempt in 0..ATTEMPTS {
            // One of the others, then the third one, and so on.
            let other = if (first + attempt).is_multiple_of(2) { 1 } else { 2 };
            let node = &self.nodes[(writer + other) % NODES];
            let request = self.http.get(target(node, index)).header("ggcache-min-position", position);
            let Ok(answer) = request.send().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let status = answer.status().as_u16();
            let Ok(text) = answer.text().await else { continue };
            let read = match status {
                200 => text.parse::<u64>().ok(),
                404 => Some(0),
                _ => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let count = match read {
                Some(read) if read == version => &self.ledger.seen,
                Some(read) if read < version => &self.ledger.older,
                _ => &self.ledger.wrong,
            };
            if read != Some(version) {
                println!(
                    "{}: {version} was acknowledged at {position}, and {text:.100} is read at {node}",
                    key(index)
                );
            }
            count.fetch_add(1, Ordering::SeqCst);
            return;
        }
        self.ledger.unread.fetch_add(1, Ordering::SeqCst);
    }
}

fn rows(database: &Database) -> HashMap<String, u64> {
    let rows = server::run(database, |turn| turn.query(&Statement::new("SELECT name, version FROM items")));
    let pair = |row: &ggcache::database::Row| {
        Some((row.text(0).ok()?.to_owned(), u64::try_from(row.integer(1).ok()?).ok()?))
    };
    rows.iter().map(|row| pair(row).expect("a name and a version")).collect()
}

/// The keys that the database has in no version that it may have.
fn missing(known: &[Known], rows: &HashMap<String, u64>) -> usize {
    let is_missing = |known: &&Known| {
        let found = rows.get(&key(known.index)).copied().unwrap_or_default();
        let is_missing = found != known.acknowledged && Some(found) != known.lost;
        if is_missing {
            println!("{}: {found} is in the database; {known:?}", key(known.index));
        }
        is_missing
    };
    known.iter().filter(is_missing).count()
}

/// The rows that some node does not answer as they are.
async fn different(nodes: &[String], rows: &HashMap<String, u64>) -> usize {
    let http = rig::http(Duration::from_secs(10));
    let mut different = 0;
    for node in nodes {
        for (name, version) in rows {
            let answer = http.get(format!("{node}/api/v1/groups/items/keys/{name}")).send().await;
            let text = match answer {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if text != version.to_string() {
                println!("{name}: {version} is in the database, and {text:.100} is read at {node}");
                different += 1;
            }
        }
    }
    different
}
