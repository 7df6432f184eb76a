//! What a rolling restart costs the database, with and without what softens it: peeks at the previous owner, and the
//! hottest keys' names that a leaving node hands over.
//!
//! ```text
//! cargo bench --bench rolling -- [--seconds N] [--rate N] [--keys N] [--set KEY=VALUE]
//! ```
//!
//! Three nodes hold every key, with a ttl of an hour; then each is restarted, one after another, under a load by a Zipf
//! law. Counted are the queries from the first SIGTERM to a minute after the last node is ready: the restart itself is
//! part of what it costs. The exit code is 1 if more than a tenth remains, or a value was wrong, or a request failed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use ggcache::{
    client::Client,
    group::{GroupName, Key},
};
use rig::{
    fleet::{Fleet, Plan},
    items::{self, Zipf},
    load::{Demand, Load, Summary},
    queries::Queries,
};
use support::{PATIENCE, site::Site};
use tokio::{task::JoinSet, time::Instant};

#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod rig;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

/// What a rolling restart costs the database.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long is counted after the last node is ready
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Requests a second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Rows, all of which are in memory before the restart
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
const DEADLINE: Duration = Duration::from_secs(2);
const GROUP: &str = "ttl = \"1h\"\nttl_jitter = 0\ncapacity = \"200MiB\"";
/// Of the queries without peek and handover, in percent.
const REMAINS_PERCENT_MAX: f64 = 10.0;
/// Readers that warm the nodes.
const WARMERS: usize = 16;

/// What one run came to.
struct Outcome {
    /// From the first SIGTERM until the last node was ready.
    restart: Duration,
    queries_restart: u64,
    queries_after: u64,
    requests: Summary,
}

impl Outcome {
    const fn queries(&self) -> u64 {
        self.queries_restart + self.queries_after
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tokio::select! {
        code = run_all(&arguments) => code,
        // Everything that was started is dropped on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn run_all(arguments: &Arguments) -> ExitCode {
    let mut outcomes = Vec::new();
    for on in [false, true] {
        let outcome = run(arguments, on).await;
        println!(
            "peek and handover {}: {} queries in the restart of {:.1} s, {} in the {} s after it; {:.0} answers/s, \
             {} wrong, {} errors, p99 {:.1} ms",
            if on { "on" } else { "off" },
            outcome.queries_restart,
            outcome.restart.as_secs_f64(),
            outcome.queries_after,
            arguments.seconds,
            outcome.requests.rate(),
            outcome.requests.wrong,
            outcome.requests.failed(),
            outcome.requests.p99.as_secs_f64() * 1e3,
        );
        outcomes.push(outcome);
    }
    let [off, on] = &outcomes[..] else { return ExitCode::FAILURE };
    let remains = 100.0 * on.queries() as f64 / off.queries().max(1) as f64;
    let sound = outcomes.iter().all(|outcome| outcome.requests.wrong == 0 && outcome.requests.failed() == 0);
    let passed = remains <= REMAINS_PERCENT_MAX && sound;
    println!(
        "{remains:.1} % of the queries remain (bar {REMAINS_PERCENT_MAX} %): {}",
        if passed { "PASS" } else { "MISS" }
    );
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: &Arguments, on: bool) -> Outcome {
    let site = Site::with(&items::configuration(GROUP), &items::table(arguments.keys));
    let mut settings = vec![format!("cluster.peek={on}"), format!("cluster.handover={on}")];
    settings.extend(arguments.set.iter().cloned());
    let plan = Plan { count: NODES, settings, ..Plan::default() };
    let mut fleet = Fleet::start(site, plan).await;
    if fleet.etcd.is_none() {
        println!("(a static list: the owners never change, and nobody hands over or peeks)");
    }
    let client = fleet.client(NODES, DEADLINE, false).expect("HTTP is always there");
    warm(&client, arguments.keys).await;
    let queries = Queries::watch(fleet.nodes.iter().map(|node| node.admin()).collect());
    let demand = Demand {
        rate: arguments.rate,
        law: Zipf::new(arguments.keys, 0.9),
        absent: 0.0,
        absent_keys: 1,
        deadline: DEADLINE,
    };
    let load = Load::start(client, demand);
    // The nodes learn which keys are hot.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (begun, queries_begun) = (Instant::now(), queries.total().await);
    for index in 0..NODES {
        fleet.restart(index).await;
    }
    let (restarted, queries_restarted) = (Instant::now(), queries.total().await);
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let (end, queries_end) = (Instant::now(), queries.total().await);
    let requests = load.stop().await.between(begun, end);
    Outcome {
        restart: restarted - begun,
        queries_restart: queries_restarted - queries_begun,
        queries_after: queries_end - queries_restarted,
        requests,
    }
}

/// Reads every key once. Whoever else uses the machine may make it slow: only a key that can't be read at all ends it.
async fn warm(client: &Client, keys: usize) {
    let group = GroupName::new(items::GROUP).expect("a group's name");
    let mut readers = JoinSet::new();
    for reader in 0..WARMERS {
        let (client, group) = (client.clone(), group.clone());
        readers.spawn(async move {
            for index in (reader..keys).step_by(WARMERS) {
                let key = Key::new(items::key(index)).expect("a key");
                let give_up = Instant::now() + PATIENCE;
                let found = loop {
                    match client.get(&group, &key).await {
                        Ok(found) => break found,
                        Err(error) => assert!(Instant::now() < give_up, "{error:?}"),
                    }
                };
                assert!(found.is_some_and(|fetched| fetched.bytes == items::value(index, 0)));
            }
        });
    }
    readers.join_all().await;
}
