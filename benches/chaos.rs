//! What clients see while nodes crash, pause, restart, join, are parted, and while etcd dies under them.
//!
//! ```text
//! cargo bench --bench chaos -- [SCENARIO…] [--seconds N] [--rate N] [--set KEY=VALUE]
//! ```
//!
//! Three nodes of the program and three members of etcd (a static list, where the build knows no etcd), a table of
//! 20,000 rows, and a steady load through the library's own client with a deadline of 2 s: keys by a Zipf law, some
//! of them absent, with a ttl so short that misses never end. Each scenario starts a cluster of its own. A line for each
//! is printed at the end, with the bars that it meets or misses; the exit code is 1 if one is missed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures and its progress"
)]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use rig::{
    fleet::{Fleet, Plan},
    items::{self, Zipf},
    load::{Demand, Load},
    network::Network,
    queries::Queries,
};
use scenario::Scenario;
use support::site::Site;
use tokio::time::Instant;

#[path = "chaos/ejection.rs"]
mod ejection;
#[path = "chaos/report.rs"]
mod report;
#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod rig;
#[path = "chaos/scenario.rs"]
mod scenario;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

/// What clients see while a cluster is disturbed.
#[derive(Debug, Parser)]
struct Arguments {
    /// The scenarios; all of them if none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// How long is measured before the fault, and after its end
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Requests a second
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The nodes and the client know each other by a list, though the build knows etcd
    #[arg(long = "static")]
    static_list: bool,
    /// The client asks by gRPC
    #[arg(long)]
    grpc: bool,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const NODES: usize = 3;
const ROWS: usize = 20_000;
const ABSENT_KEYS: usize = 2_000;
const DEADLINE: Duration = Duration::from_secs(2);
/// Before the measurement begins: connections, the hottest keys, the retry budget.
const WARM_UP: Duration = Duration::from_secs(4);
const GROUP: &str = "ttl = \"5s\"\nnegative_ttl = \"2s\"";

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
    let all = Scenario::ALL.to_vec();
    let chosen = if arguments.scenarios.is_empty() { &all } else { &arguments.scenarios };
    let mut rows = Vec::new();
    for scenario in chosen {
        eprintln!("{}: {}", scenario.name(), scenario.story());
        match run(*scenario, arguments).await {
            Ok(row) => {
                eprintln!("{}", row.line());
                rows.push(row);
            }
            Err(reason) => eprintln!("{}: skipped: {reason}", scenario.name()),
        }
    }
    println!("{}", report::table(&rows));
    if rows.iter().all(report::Row::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one scenario.
///
/// # Errors
/// Why it can't be run here.
async fn run(scenario: Scenario, arguments: &Arguments) -> Result<report::Row, String> {
    let site = Site::with(&items::configuration(GROUP), &items::table(ROWS));
    if scenario.needs_etcd() && arguments.static_list {
        return Err("it needs etcd, and --static says not to use it".to_owned());
    }
    if scenario.needs_etcd() && !rig::fleet::knows_etcd(&site) {
        return Err("it needs etcd, which is not installed or which this build does not know".to_owned());
    }
    let network = if scenario.needs_network() {
        let network = Network::create(NODES);
        Some(network.map_err(|error| format!("it needs network namespaces: {error}"))?)
    } else {
        None
    };
    let spare = usize::from(scenario == Scenario::Join);
    let static_list = arguments.static_list;
    let plan = Plan { count: NODES, spare, settings: arguments.set.clone(), network, static_list };
    let mut fleet = Fleet::start(site, plan).await;
    let queries = Queries::watch(fleet.nodes.iter().map(|node| node.admin()).collect());
    let client = fleet.client(NODES, DEADLINE, arguments.grpc)?;
    let demand = Demand {
        rate: arguments.rate,
        law: Zipf::new(ROWS, 0.9),
        absent: 0.05,
        absent_keys: ABSENT_KEYS,
        deadline: DEADLINE,
    };
    let span = Duration::from_secs(arguments.seconds);
    let load = Load::start(client, demand);
    tokio::time::sleep(WARM_UP).await;
    let (warm, queries_warm) = (Instant::now(), queries.total().await);
    tokio::time::sleep(span).await;
    let (fault, queries_fault) = (Instant::now(), queries.total().await);
    let ejected = scenario.run(&mut fleet).await;
    let healed = Instant::now();
    tokio::time::sleep(span).await;
    let (end, queries_end) = (Instant::now(), queries.total().await);
    let requests = load.stop().await;
    Ok(report::Row {
        scenario,
        before: requests.between(warm, fault),
        during: requests.between(fault, end),
        fault: healed - fault,
        queries_before: (queries_fault - queries_warm) as f64 / (fault - warm).as_secs_f64(),
        queries_during: (queries_end - queries_fault) as f64 / (end - fault).as_secs_f64(),
        ejected,
    })
}
