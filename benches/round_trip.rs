//! Keys of any bytes, by the million: through a client, a node, the hop to another node, SQLite, and back.
//!
//! `cargo bench --bench round_trip [-- KEYS [SEED]]`, 1,000,000 keys and a random seed by default. A table with a BLOB
//! key column is filled with keys of 1 to 1,024 random bytes, each with its bytes reversed as its value, so that a key
//! that was mixed up or changed on its way shows. One of two nodes of the program is asked for all of them by 64
//! clients, and owns about half. Then both get 10,000 malformed requests, made at random from the seed. A wrong answer,
//! a 5xx or a node that is gone is a MISS, and ends the program with 1; the throughput is printed only.
//!
//! The table takes about 1.2 GB in the directory for temporary files.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, RunQueryDsl as _, connection::SimpleConnection as _, sql_query, sql_types::Binary,
    sqlite::Sqlite,
};
use ggcache::codec::{base64url_encode, percent_encode};
use support::{
    client::{Connection, exchange, get},
    cluster::Cluster,
    site::Site,
};

#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod support;

const KEYS: u64 = 1_000_000;
const KEY_BYTES_MAX: usize = 1024;
const CLIENTS: usize = 64;
const MALFORMED: u64 = 10_000;
/// Rows of one INSERT; SQLite takes 32,766 values.
const ROWS: usize = 100;
/// How many wrong answers are shown in full.
const SHOWN: u64 = 10;

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"
statement_timeout = "5s"

[limits]
request_timeout = "10s"

[group.any]
table = "blobs"
key_column = "key"
value_columns = ["value"]
ttl = "1h"
"#;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let keys = numbers.next().unwrap_or(KEYS);
    let seed = numbers.next().unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}: `cargo bench --bench round_trip -- {keys} {seed}` does the same again");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(run(keys, seed)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(keys: u64, seed: u64) -> bool {
    let site =
        Site::with(CONFIG, "CREATE TABLE blobs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID");
    let begun = Instant::now();
    fill(&site, keys, seed);
    println!("the table is filled: {} s", begun.elapsed().as_secs());
    let mut cluster = Cluster::start(site, 2, &[]).await;
    let round_trip = round_trip(&cluster, keys, seed).await;
    let malformed = malformed(&mut cluster, seed).await;
    round_trip && malformed
}

/// The key of that index: the same for a seed.
fn key(seed: u64, index: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut key = vec![0; random.usize(1..=KEY_BYTES_MAX)];
    random.fill(&mut key);
    key
}

fn value_of(key: &[u8]) -> Vec<u8> {
    key.iter().rev().copied().collect()
}

fn fill(site: &Site, keys: u64, seed: u64) {
    let mut connection = site.connect();
    // Nobody needs this table after a crash.
    connection
        .batch_execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1500000")
        .expect("pragmas");
    connection
        .transaction(|connection| {
            let mut index = 0;
            while index < keys {
                let rows = usize::try_from(keys - index).unwrap_or(ROWS).min(ROWS);
                // Short keys are there several times.
                let mut insert = sql_query("INSERT OR IGNORE INTO blobs VALUES ").into_boxed::<Sqlite>();
                for row in 0..rows {
                    let key = key(seed, index + row as u64);
                    let value = value_of(&key);
                    insert = insert.sql(if row == 0 { "(?, ?)" } else { ", (?, ?)" });
                    insert = insert.bind::<Binary, _>(key).bind::<Binary, _>(value);
                }
                insert.execute(connection)?;
                index += rows as u64;
            }
            Ok::<_, diesel::result::Error>(())
        })
        .expect("the table can be filled");
}

/// What all clients count together.
#[derive(Default)]
struct Counts {
    next: AtomicU64,
    done: AtomicU64,
    hops: AtomicU64,
    wrong: AtomicU64,
}

impl Counts {
    fn wrong(&self, what: impl FnOnce() -> String) {
        if self.wrong.fetch_add(1, Ordering::Relaxed) < SHOWN {
            println!("WRONG: {}", what());
        }
    }
}

async fn round_trip(cluster: &Cluster, keys: u64, seed: u64) -> bool {
    let counts = Arc::new(Counts::default());
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(cluster.nodes[0].api(), keys, seed, Arc::clone(&counts))))
        .collect();
    let progress = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        loop {
            ticks.tick().await;
            let done = counts.done.load(Ordering::Relaxed);
            println!("{done:>9} of {keys}, {:.0} a second", done as f64 / begun.elapsed().as_secs_f64());
        }
    };
    tokio::select! {
        () = async { for client in clients { client.await.expect("no panic"); } } => {}
        () = progress => {}
    }
    let took = begun.elapsed();
    let (done, hops, wrong) = (
        counts.done.load(Ordering::Relaxed),
        counts.hops.load(Ordering::Relaxed),
        counts.wrong.load(Ordering::Relaxed),
    );
    let loads = cluster.loads(&[0, 1], "any").await;
    let holds = done == keys && wrong == 0 && (keys < 1_000 || hops.abs_diff(keys / 2) < keys / 4);
    println!(
        "{done} keys in {:.1} s, {:.0} a second; {hops} over the hop, {loads} queries, {wrong} wrong: {}",
        took.as_secs_f64(),
        done as f64 / took.as_secs_f64(),
        if holds { "PASS" } else { "MISS" }
    );
    holds
}

async fn client(address: SocketAddr, keys: u64, seed: u64, counts: Arc<Counts>) {
    let mut connection = Connection::open(address).await.expect("the node accepts connections");
    loop {
        let index = counts.next.fetch_add(1, Ordering::Relaxed);
        if index >= keys {
            return;
        }
        let key = key(seed, index);
        // All three spellings in turn.
        let mut target = String::with_capacity(64 + 3 * key.len());
        match index % 3 {
            0 => {
                target.push_str("/api/v1/groups/any/keys/");
                percent_encode(&key, &mut target);
            }
            1 => {
                target.push_str("/api?group=any&key=");
                percent_encode(&key, &mut target);
            }
            _ => {
                target.push_str("/api?key_b64=");
                target.push_str(&base64url_encode(&key));
            }
        }
        match connection.get(&target).await {
            Ok(answer) if answer.status == 200 && answer.body == value_of(&key) => {
                let hop = answer.header("cache-status").is_some_and(|status| status.contains(", "));
                counts.hops.fetch_add(u64::from(hop), Ordering::Relaxed);
            }
            Ok(answer) => counts.wrong(|| format!("key {index}, {target}: {}", answer.describe())),
            Err(error) => {
                counts.wrong(|| format!("key {index}, {target}: {error}"));
                connection = Connection::open(address).await.expect("the node accepts connections");
            }
        }
        counts.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Which planes a malformed request may be sent to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Planes {
    Public,
    Peer,
    All,
}

/// One malformed request: what is wrong with it, its bytes, where to send it, and whether the connection may be closed
/// without an answer, since there is no request in it.
struct Malformed {
    kind: &'static str,
    bytes: Vec<u8>,
    planes: Planes,
    is_no_request: bool,
}

fn malformed_request(random: &mut fastrand::Rng) -> Malformed {
    use Planes::{All, Peer, Public};
    let letters = |random: &mut fastrand::Rng, range: std::ops::Range<usize>| -> String {
        let length = random.usize(range);
        (0..length).map(|_| random.alphanumeric()).collect()
    };
    let (kind, bytes, planes, is_no_request) = match random.u8(0..13) {
        0 => {
            let broken = ["%", "%a", "%g1", "%1g", "%%", "%-1", "% 1", "%u0041"];
            let broken = random.choice(broken).expect("there are some").replace(' ', "+");
            let (before, after) = (letters(random, 0..40), letters(random, 0..1));
            let target = match random.u8(0..3) {
                0 => format!("/api?group=any&key={before}{broken}{after}"),
                1 => format!("/api/v1/groups/any/keys/{before}{broken}{after}"),
                _ => format!("/api?group=any&key_b64={before}{broken}{after}"),
            };
            ("bad percent-encoding", get(&target).into_bytes(), Public, false)
        }
        1 => {
            let key = letters(random, 1025..5000);
            let target = match random.u8(0..3) {
                0 => format!("/api?group=any&key={key}"),
                1 => format!("/api/v1/groups/any/keys/{key}"),
                _ => format!("/api?group=any&key_b64={}", base64url_encode(key.as_bytes())),
            };
            ("oversized key", get(&target).into_bytes(), Public, false)
        }
        2 => {
            let value = letters(random, 70_000..120_000);
            let bytes = format!(
                "GET /api?key=a HTTP/1.1\r\nhost: x\r\nx-{}: {value}\r\n\r\n",
                letters(random, 1..20)
            );
            ("oversized header", bytes.into_bytes(), All, false)
        }
        3 => {
            let lines: String = (0..random.usize(150..400)).map(|line| format!("x-{line}: y\r\n")).collect();
            let bytes = format!("GET /api?key=a HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
            ("too many headers", bytes.into_bytes(), All, false)
        }
        4 => {
            let group = format!("x{}", letters(random, 0..80));
            let target = match random.u8(0..3) {
                0 => format!("/api?group={group}&key=a"),
                1 => format!("/api/v1/groups/{group}/keys/a"),
                _ => format!("/api/v1/groups/{group}"),
            };
            ("unknown group", get(&target).into_bytes(), Public, false)
        }
        5 => {
            let methods = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"];
            let method = match random.bool() {
                true => random.choice(methods).expect("there are some").to_owned(),
                false => letters(random, 1..30).to_uppercase() + "X",
            };
            let targets =
                ["/api?key=a", "/api/v1/groups/any/keys/a", "/api/v1/groups", "/livez", "/api/v1/cluster"];
            let target = random.choice(targets).expect("there are some");
            let bytes = format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
            ("wrong method", bytes.into_bytes(), Public, false)
        }
        6 => {
            let broken = ["!", "a", "YR", "====", "+/", "Y Q", "=YQ", "YQ=YQ"];
            let broken = random.choice(broken).expect("there are some").replace(' ', "+").replace('+', "%2B");
            let target = format!("/api?group=any&key_b64={broken}");
            ("bad base64", get(&target).into_bytes(), Public, false)
        }
        7 => {
            let queries = [
                "",
                "key=",
                "key",
                "group=any",
                "key=a&key=b",
                "key=a&key_b64=YQ",
                "group=any&group=any&key=a",
                "k=a",
            ];
            let query = random.choice(queries).expect("there are some");
            ("no key, or several", get(&format!("/api?{query}")).into_bytes(), Public, false)
        }
        8 => {
            let mut target = b"/api?key=".to_vec();
            let bad = [0, b'\r', b'\n', b' ', b'"', 0x7f, 0x1f, 0xff, 0xc0];
            target.extend(letters(random, 0..20).bytes());
            target.push(random.choice(bad).expect("there are some"));
            target.push(b'z');
            let bytes = [b"GET ".as_slice(), &target, b" HTTP/1.1\r\nhost: x\r\n\r\n"].concat();
            ("bytes that no target has", bytes, All, false)
        }
        9 => {
            let target = format!("/{}/{}", letters(random, 1..20), letters(random, 0..200));
            ("unknown path", get(&target).into_bytes(), All, false)
        }
        10 => {
            let targets = [
                "/_ggcache/any/",
                "/_ggcache/any/%",
                "/_ggcache/other/a",
                "/_ggcache/any",
                "/_ggcache/any/?key_b64=!",
            ];
            let target = random.choice(targets).expect("there are some");
            ("malformed for a peer", get(target).into_bytes(), Peer, false)
        }
        11 => {
            let versions = ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP", "http/1.1", "HTTP/1.1 x", "ICY/1.0"];
            let version = random.choice(versions).expect("there are some");
            let bytes = format!("GET /api?key=a {version}\r\nhost: x\r\n\r\n");
            ("another protocol", bytes.into_bytes(), All, false)
        }
        _ => {
            let mut bytes = vec![0; random.usize(0..2000)];
            random.fill(&mut bytes);
            ("random bytes", bytes, All, true)
        }
    };
    Malformed { kind, bytes, planes, is_no_request }
}

async fn malformed(cluster: &mut Cluster, seed: u64) -> bool {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut outcomes = BTreeMap::<(&'static str, String), u64>::new();
    let mut wrong = 0;
    let begun = Instant::now();
    let mut sent = 0;
    while sent < MALFORMED {
        let batch: Vec<_> = (0..CLIENTS.min((MALFORMED - sent) as usize))
            .map(|_| {
                let node = &cluster.nodes[random.usize(0..cluster.nodes.len())];
                let request = malformed_request(&mut random);
                let planes: &[SocketAddr] = match request.planes {
                    Planes::Public => &[node.api(), node.admin()],
                    Planes::Peer => &[node.peer()],
                    Planes::All => &[node.api(), node.admin(), node.peer()],
                };
                let plane = planes[random.usize(0..planes.len())];
                tokio::spawn(async move {
                    let answer = exchange(plane, &request.bytes).await;
                    (request, answer)
                })
            })
            .collect();
        sent += batch.len() as u64;
        for asked in batch {
            let (request, answer) = asked.await.expect("an answer or a closed connection");
            let outcome = answer.as_ref().map_or("closed".to_owned(), |answer| answer.status.to_string());
            let right = match &answer {
                Some(answer) => (400..500).contains(&answer.status),
                None => request.is_no_request,
            };
            if !right {
                wrong += 1;
                if wrong <= SHOWN {
                    let bytes: Vec<u8> = request.bytes.iter().copied().take(200).collect();
                    println!("WRONG: {} for {}: {}", outcome, request.kind, bytes.escape_ascii());
                }
            }
            *outcomes.entry((request.kind, outcome)).or_default() += 1;
        }
    }
    for ((kind, outcome), count) in outcomes {
        println!("{kind:<26} {outcome:<7} {count:>6}");
    }
    let mut well = true;
    for node in &mut cluster.nodes {
        well &= node.is_alive()
            && node.ask_admin("/readyz").await.status == 200
            && !node.log().contains("panicked");
        well &= node.get("/api?key_b64=bm9ib2R5").await.status == 404;
    }
    let holds = wrong == 0 && well;
    println!(
        "{MALFORMED} malformed requests in {:.1} s: {wrong} without their 4xx, the nodes are {}: {}",
        begun.elapsed().as_secs_f64(),
        if well { "well" } else { "NOT WELL" },
        if holds { "PASS" } else { "MISS" }
    );
    holds
}
