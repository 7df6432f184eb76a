//! Many clients, one key: how many queries, how long, and what a dead owner changes.
//!
//! `cargo bench --bench stampede [-- ROUNDS]`, 20 rounds by default. Three nodes of the program on one slow table, which
//! takes about 300 ms a query. In each round 1,000 clients ask at once, spread over the nodes, for a key that nobody has
//! asked for before; then for one that does not exist; then two nodes are asked for a third key while its owner loads it,
//! and the owner is killed. A violation of what is promised is a MISS, and ends the program with 1; times are printed
//! only, but for one: no request may take longer than it may take, and half a second.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use support::{
    client::{Shot, at_once},
    cluster::Cluster,
    site::Site,
    slow::slow_view,
    until,
};

#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod support;

const CLIENTS: usize = 1_000;
const ROUNDS: usize = 20;
/// How long a node may take for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How much later a client may see the answer.
const SLACK: Duration = Duration::from_millis(500);
/// How long the clients wait, to tell an answer that is late from none.
const PATIENCE: Duration = Duration::from_secs(10);
const QUERY: Duration = Duration::from_millis(300);

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"
statement_timeout = "1500ms"

[limits]
request_timeout = "2s"

[group.scores]
table = "slow"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
negative_ttl = "1h"
"#;

/// What became of one round.
struct Round {
    queries: u64,
    statuses: BTreeMap<Option<u16>, usize>,
    took: Vec<Duration>,
}

impl Round {
    fn new(shots: &[Shot], queries: u64) -> Self {
        let mut statuses = BTreeMap::new();
        for shot in shots {
            *statuses.entry(shot.answer.as_ref().map(|answer| answer.status)).or_insert(0) += 1;
        }
        let mut took: Vec<_> = shots.iter().map(|shot| shot.took).collect();
        took.sort_unstable();
        Self { queries, statuses, took }
    }

    fn all(&self, allowed: &[u16]) -> bool {
        self.statuses.keys().all(|status| status.is_some_and(|status| allowed.contains(&status)))
    }

    fn is_in_time(&self) -> bool {
        self.took.last().is_some_and(|longest| *longest <= REQUEST_TIMEOUT + SLACK)
    }

    fn print(&self, round: usize, what: &str, holds: bool) {
        let at = |share: f64| self.took[((self.took.len() - 1) as f64 * share) as usize].as_millis();
        let statuses = self.statuses.iter().map(|(status, count)| match status {
            Some(status) => format!("{status}: {count}"),
            None => format!("no answer: {count}"),
        });
        println!(
            "{round:>5}  {what:<8} {:>7} {:>7} {:>7} {:>7}  {:<28} {}",
            self.queries,
            at(0.5),
            at(0.99),
            at(1.0),
            statuses.collect::<Vec<_>>().join(", "),
            if holds { "PASS" } else { "MISS" }
        );
    }
}

fn main() -> ExitCode {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(run(rounds)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(rounds: usize) -> bool {
    let sql = format!(
        "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER); \
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {}) \
         INSERT INTO students SELECT 'name-' || i, i FROM n; {}",
        2 * rounds.max(1),
        slow_view("slow", "students", QUERY)
    );
    let mut cluster = Cluster::start(Site::with(CONFIG, &sql), 3, &[]).await;
    println!("{CLIENTS} clients at once, three nodes, a query takes about {QUERY:?} on a quiet machine");
    println!(
        "{:>5}  {:<8} {:>7} {:>7} {:>7} {:>7}  statuses",
        "round", "key", "queries", "p50 ms", "p99 ms", "max ms"
    );
    let mut holds_all = true;
    for round in 0..rounds {
        for (what, key, status) in
            [("new", format!("name-{round}"), 200), ("absent", format!("absent-{round}"), 404)]
        {
            let before = cluster.loads(&[0, 1, 2], "scores").await;
            let target = format!("/api?key={key}");
            let shots = at_once(cluster.spread(&[0, 1, 2], CLIENTS), target, PATIENCE).await;
            let ended = Round::new(&shots, cluster.loads(&[0, 1, 2], "scores").await - before);
            let holds = ended.queries == 1 && ended.all(&[status]) && ended.is_in_time();
            ended.print(round, what, holds);
            holds_all &= holds;
        }
        let (ended, right) = killed(&mut cluster, &format!("name-{}", rounds + round), rounds + round).await;
        let holds = right && ended.all(&[200, 503, 504]) && ended.is_in_time();
        ended.print(round, "killed", holds);
        holds_all &= holds;
    }
    println!(
        "one query for each key, and every request answered within {:?}: {}",
        REQUEST_TIMEOUT + SLACK,
        if holds_all { "PASS" } else { "MISS" }
    );
    holds_all
}

/// Kills the owner of `key` while it loads, and starts it again. The queries are those of the other nodes; whether
/// every value was the right one.
async fn killed(cluster: &mut Cluster, key: &str, value: usize) -> (Round, bool) {
    let route = cluster.route("scores", &format!("key={key}")).await;
    let before = cluster.loads(&route[1..], "scores").await;
    let shots = at_once(cluster.spread(&route[1..], CLIENTS), format!("/api?key={key}"), PATIENCE);
    let shots = tokio::spawn(shots);
    until("the owner loads", async || cluster.nodes[route[0]].loading("scores").await == 1).await;
    cluster.nodes[route[0]].kill();
    let shots = shots.await.expect("no panic");
    let ended = Round::new(&shots, cluster.loads(&route[1..], "scores").await - before);
    cluster.restart(route[0]).await;
    let values = shots.iter().filter_map(|shot| shot.answer.as_ref()).filter(|answer| answer.status == 200);
    let value = value.to_string();
    (ended, values.into_iter().all(|answer| answer.text() == value))
}
