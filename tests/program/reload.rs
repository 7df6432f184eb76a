//! The configuration is read again while nodes run: what can change does, all or nothing, and nobody is disturbed.

use std::time::Duration;

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use serde_json::{Value as Json, json};

use crate::support::{
    client::{Connection, Response, at_once, exchange},
    cluster::Cluster,
    node::Node,
    site::Site,
    slow::slow_view,
    until,
};

const CONFIG: &str = r#"
[limits]
request_timeout = "20s"

[database.school]
url = "sqlite:school.db"

[group.scores]
database = "school"
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
ttl_jitter = 0.0
hot_ttl = "0s"
"#;

/// A second group of the same table.
const RANKS: &str = r#"
[group.ranks]
database = "school"
table = "students"
key_column = "name"
value_columns = ["rank"]
hot_ttl = "0s"
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER, rank INTEGER);
INSERT INTO students VALUES ('anna', 333, 1), ('bert', 222, 2), ('carl', 111, 3), ('dora', 99, 4), ('emil', 98, 5);";

const ANNA: &str = "/api/v1/groups/scores/keys/anna";

async fn cluster(config: &str, count: usize) -> Cluster {
    Cluster::start(Site::with(config, SQL), count, &[]).await
}

async fn call(node: &Node) -> Response {
    let request = "POST /api/v1/config:reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    exchange(node.admin(), request.as_bytes()).await.expect("an answer")
}

/// Has the node read its file again, which is right; what it says of it.
async fn reload(node: &Node) -> Json {
    let answer = call(node).await;
    assert_eq!(answer.status, 200, "{}", answer.describe());
    answer.json()
}

/// The same by a signal. It has come to its end when this does.
async fn hang_up(node: &Node) {
    let before = node.metric("ggcache_reloads_total").await;
    node.signal(Signal::HUP);
    until("the configuration was read again", async || node.metric("ggcache_reloads_total").await > before)
        .await;
}

/// The keys that were told of.
fn keys(changes: &Json) -> Vec<&str> {
    changes.as_array().expect("a list").iter().filter_map(|change| change["key"].as_str()).collect()
}

async fn status(connection: &mut Connection, headers: &str) -> u16 {
    let request = format!("GET {ANNA} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    connection.send(request.as_bytes()).await.expect("it is open");
    connection.receive(true).await.expect("it is open").expect("an answer").status
}

#[tokio::test]
async fn tokens_come_and_go_on_an_open_connection() {
    let cluster = cluster(CONFIG, 1).await;
    let node = &cluster.nodes[0];
    let mut connection = Connection::open(node.api()).await.expect("it listens");
    assert_eq!(status(&mut connection, "").await, 200);
    let (first, second) = (cluster.site.run(&["token", "app"]), cluster.site.run(&["token", "app"]));
    // Operators need none, as before.
    let with = |section: &str| {
        cluster.site.configure(&format!("{CONFIG}[auth]\nanonymous = [\"admin\"]\n{section}"))
    };
    let shown = |token: &str| format!("authorization: Bearer {}\r\n", token.trim());

    with(&first.stderr);
    let report = reload(node).await;
    assert!(keys(&report["changed"]).contains(&"auth.token.app.hash"), "{report}");
    assert_eq!(report["needs_restart"], json!([]));
    assert_eq!(status(&mut connection, "").await, 401);
    assert_eq!(status(&mut connection, &shown(&first.stdout)).await, 200);
    assert_eq!(status(&mut connection, &shown(&second.stdout)).await, 401);

    with(&second.stderr);
    hang_up(node).await;
    assert_eq!(status(&mut connection, &shown(&first.stdout)).await, 401, "it is revoked");
    assert_eq!(status(&mut connection, &shown(&second.stdout)).await, 200);
    let log = node.log();
    let line = log.lines().filter(|line| line.contains("key=auth.token.app.hash")).count();
    assert_eq!(line, 2, "{log}");
    for made in [&first, &second] {
        let hash =
            made.stderr.lines().find_map(|line| line.strip_prefix("hash = \"sha256:")).expect("a hash");
        assert!(!log.contains(hash.trim_end_matches('"')) && !log.contains(made.stdout.trim()), "{log}");
    }
}

#[tokio::test]
async fn rates_lifetimes_sizes_and_the_log_s_level_change() {
    let cluster = cluster(CONFIG, 1).await;
    let node = &cluster.nodes[0];
    assert_eq!(node.get(ANNA).await.text(), "333");
    assert_eq!(reload(node).await, json!({"changed": [], "needs_restart": [], "certificates": []}));

    let changed = CONFIG
        .replace("ttl = \"1h\"", "ttl = \"7s\"\ncapacity = \"1MiB\"\nload_budget = 3\nclient_ttl = \"3s\"");
    cluster.site.configure(&format!("{changed}[log]\nlevel = \"debug\"\n"));
    assert!(!node.log().contains("loaded from the origin"));
    hang_up(node).await;
    let report = node.ask_admin("/api/v1/groups/scores").await.json();
    let figures =
        ["ttl_ms", "capacity_bytes", "load_budget", "entries"].map(|figure| report[figure].as_u64());
    assert_eq!(figures, [Some(7_000), Some(1 << 20), Some(3), Some(1)], "{report}");
    let loaded = node.get("/api/v1/groups/scores/keys/bert").await;
    let told = loaded.header("cache-status").expect("it is told").to_owned();
    assert!(told.contains("ttl=7") || told.contains("ttl=6"), "{told}");
    assert_eq!(loaded.header("cache-control"), Some("max-age=3"));
    assert!(node.log().contains("loaded from the origin"), "{}", node.log());
    for line in ["key=group.scores.ttl old=\"\\\"1h\\\"\" new=\"\\\"7s\\\"\"", "key=log.level"] {
        assert!(node.log().contains(line), "{line} is not in {}", node.log());
    }
    let config = node.ask_admin("/api/v1/config").await;
    assert!(config.text().contains("ttl = \"7s\""), "{}", config.text());

    cluster.site.configure(&format!("{CONFIG}[limits.rate]\nclient = \"2/h burst 2\"\n"));
    let report = reload(node).await;
    let expected = ["log.level", "limits.rate.client", "group.scores.client_ttl"];
    assert!(expected.iter().all(|key| keys(&report["changed"]).contains(key)), "{report}");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(node.get(ANNA).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    cluster.site.configure(&format!("{CONFIG}rate = \"1/h burst 1\"\n"));
    let report = reload(node).await;
    assert!(keys(&report["changed"]).contains(&"group.scores.rate"), "{report}");
    assert_eq!(node.get(ANNA).await.header("ratelimit-policy"), Some("\"group\";q=1;w=3600"));
    assert_eq!(node.get(ANNA).await.status, 429);
    cluster.site.configure(CONFIG);
    reload(node).await;
    assert_eq!(node.get(ANNA).await.status, 200);
    assert_eq!(node.metric("ggcache_reloads_total{result=\"applied\"}").await, 4.0);
    assert_eq!(node.metric("ggcache_reloads_total{result=\"unchanged\"}").await, 1.0);
}

#[tokio::test]
async fn a_group_comes_to_one_node_after_the_other() {
    let cluster = cluster(CONFIG, 2).await;
    cluster.site.configure(&format!("{CONFIG}{RANKS}"));
    let names = ["anna", "bert", "carl", "dora", "emil"];
    let target = |name: &str| format!("/api/v1/groups/ranks/keys/{name}");
    for (index, node) in cluster.nodes.iter().enumerate() {
        assert_eq!(node.get(&target("anna")).await.problem(), "group_not_found");
        let report = reload(node).await;
        assert!(keys(&report["changed"]).contains(&"group.ranks.table"), "{report}");
        // A request that names no group goes where it went, until somebody starts the node anew.
        assert_eq!(keys(&report["needs_restart"]), ["default_group"], "{report}");
        assert_eq!(node.get("/api?key=anna").await.text(), "333");
        for (rank, name) in names.iter().enumerate() {
            let answer = node.get(&target(name)).await;
            assert_eq!(
                (answer.status, answer.text()),
                (200, (rank + 1).to_string().as_str()),
                "node {index}"
            );
        }
    }
    // Each key was loaded by its owner, and maybe by the first node while it was alone with the group; and one key that is
    // not there by each node, to see whether the database answers.
    let loads = cluster.loads(&[0, 1], "ranks").await;
    assert!((7..=12).contains(&loads), "{loads} loads");
    for node in &cluster.nodes {
        for name in names {
            assert_eq!(node.get(&target(name)).await.status, 200);
        }
    }
    let (first, second) = (cluster.loads(&[0], "ranks").await, cluster.loads(&[1], "ranks").await);
    assert_eq!(first + second, loads, "each key has an owner that both ask");
    // It does not go again.
    cluster.site.configure(CONFIG);
    let report = reload(&cluster.nodes[0]).await;
    assert!(keys(&report["needs_restart"]).contains(&"group.ranks.table"), "{report}");
    assert_eq!(cluster.nodes[0].get(&target("anna")).await.text(), "1");
}

#[tokio::test]
async fn a_configuration_that_is_wrong_changes_nothing() {
    let cluster = cluster(CONFIG, 1).await;
    let (site, node) = (&cluster.site, &cluster.nodes[0]);
    let before = node.ask_admin("/api/v1/config").await.text().to_owned();
    let shorter = CONFIG.replace("\"1h\"", "\"7s\"");
    let wrong = [
        (
            format!("{shorter}[log]\nlevle = \"debug\"\n[limits.rate]\nclient = \"often\"\n"),
            vec!["log.levle", "limits.rate.client"],
        ),
        (format!("{shorter}[nonsense"), vec!["site.toml line"]),
        (
            format!("{shorter}{}", RANKS.replace("students", "pupils")),
            vec!["group ranks: ", "has no table \"pupils\"", "it has"],
        ),
        (
            format!(
                "{shorter}{}[database.other]\nurl = \"sqlite:nowhere.db\"\n",
                RANKS.replace("school", "other")
            ),
            vec!["database other: there is no database file"],
        ),
    ];
    let attempts = wrong.len() as f64;
    for (text, expected) in wrong {
        site.configure(&text);
        let answer = call(node).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad_request"));
        let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
        for part in expected {
            assert!(detail.contains(part), "{detail:?} does not say {part:?}");
            assert!(node.log().contains(part), "the log does not say {part:?}: {}", node.log());
        }
        assert_eq!(node.ask_admin("/api/v1/config").await.text(), before);
        assert_eq!(node.ask_admin("/api/v1/groups/scores").await.json()["ttl_ms"], 3_600_000);
        assert_eq!(node.get("/api/v1/groups/ranks/keys/anna").await.problem(), "group_not_found");
    }
    assert_eq!(node.metric("ggcache_reloads_total{result=\"refused\"}").await, attempts);
    std::fs::remove_file(site.path("site.toml")).expect("it was there");
    assert_eq!(call(node).await.problem(), "bad_request");
    assert_eq!(node.get(ANNA).await.text(), "333");
}

#[tokio::test]
async fn a_pipe_in_place_of_the_file_is_not_waited_for() {
    let cluster = cluster(CONFIG, 1).await;
    let node = &cluster.nodes[0];
    let path = cluster.site.path("site.toml");
    std::fs::remove_file(&path).expect("the file");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let answer = call(node).await;
    let told = answer.text();
    assert!(answer.status == 400 && told.contains("no file that could be read again"), "{told}");
    std::fs::remove_file(&path).expect("the pipe");
    cluster.site.configure(CONFIG);
    assert_eq!(reload(node).await["changed"], json!([]));
}

#[tokio::test]
async fn certificates_that_can_t_be_used_change_nothing() {
    let site = Site::with(CONFIG, SQL);
    let certs = |directory: &str| {
        assert_eq!(site.run(&["certs", "--out", directory, "--node", "localhost,127.0.0.1"]).code, Some(0));
        let read = |end: &str| {
            let mut files = std::fs::read_dir(site.path(directory)).expect("it was made").flatten();
            let file = files.find(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                name.ends_with(end) && !name.starts_with("ca.")
            });
            std::fs::read(file.expect("a file").path()).expect("it can be read")
        };
        (read(".pem"), read(".key"))
    };
    let (old, new) = (certs("old"), certs("new"));
    let put = |cert: &[u8], key: &[u8]| {
        std::fs::write(site.path("node.pem"), cert).expect("a file");
        std::fs::write(site.path("node.key"), key).expect("a file");
    };
    put(&old.0, &old.1);
    let config = format!("{CONFIG}[api.tls]\ncert = \"node.pem\"\nkey = \"node.key\"\n");
    site.configure(&config);
    let cluster = Cluster::start(site, 1, &[]).await;
    let (site, node) = (&cluster.site, &cluster.nodes[0]);

    let put = |cert: &[u8], key: &[u8]| {
        std::fs::write(site.path("node.pem"), cert).expect("a file");
        std::fs::write(site.path("node.key"), key).expect("a file");
    };
    put(&new.0, &old.1);
    site.configure(&config.replace("\"1h\"", "\"7s\""));
    let answer = call(node).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad_request"));
    assert!(answer.text().contains("api.tls"), "{}", answer.text());
    assert_eq!(node.ask_admin("/api/v1/groups/scores").await.json()["ttl_ms"], 3_600_000);
    put(&new.0, &new.1);
    let report = reload(node).await;
    assert_eq!(keys(&report["changed"]), ["group.scores.ttl"], "{report}");
    // Whoever looks at the files all the time may have been faster.
    let log = node.log();
    assert!(report["certificates"] == json!(["api.tls"]) || log.contains("took over new files"), "{report}");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_done() {
    let cluster = cluster(CONFIG, 1).await;
    let (site, node) = (&cluster.site, &cluster.nodes[0]);
    let changed = CONFIG.replace("\"1h\"", "\"7s\"").replace("\"20s\"", "\"19s\"");
    site.configure(&format!("{changed}policy = \"lfu\"\n[cluster]\nvirtual_nodes = 1024\n"));
    for expected in [vec!["group.scores.ttl"], vec![]] {
        let report = reload(node).await;
        assert_eq!(keys(&report["changed"]), expected, "{report}");
        let mut named = keys(&report["needs_restart"]);
        named.sort_unstable();
        assert_eq!(
            named,
            ["cluster.virtual_nodes", "group.scores.policy", "limits.request_timeout"],
            "{report}"
        );
    }
    assert!(node.log().contains("needs a restart"), "{}", node.log());
    let config = node.ask_admin("/api/v1/config").await;
    for line in ["virtual_nodes = 2048", "policy = \"lru\"", "request_timeout = \"20s\"", "ttl = \"7s\""] {
        assert!(config.text().contains(line), "{line} is not in {}", config.text());
    }
}

#[tokio::test]
async fn no_request_fails_while_it_is_read_again() {
    let config = format!(
        "{CONFIG}{}",
        CONFIG
            .split_once("[group.scores]")
            .map_or("", |(_, rest)| rest)
            .replace("students", "slow")
            .trim_start()
            .lines()
            .fold("[group.slow]\n".to_owned(), |text, line| text + line + "\n")
    );
    let site =
        Site::with(&config, &format!("{SQL}{}", slow_view("slow", "students", Duration::from_millis(300))));
    let cluster = Cluster::start(site, 2, &[]).await;
    let nodes = &cluster.nodes;
    let (slow, quick) = (cluster.spread(&[0, 1], 60), cluster.spread(&[0, 1], 60));
    let patience = Duration::from_secs(60);
    let slow = tokio::spawn(at_once(slow, "/api/v1/groups/slow/keys/anna", patience));
    until("the slow ones wait", async || nodes[0].loading("slow").await + nodes[1].loading("slow").await > 0)
        .await;
    let quick = tokio::spawn(at_once(quick, ANNA, patience));
    for (round, capacity) in ["1MiB", "96MiB", "64KiB"].iter().enumerate() {
        let other =
            format!("ttl = \"{}s\"\ncapacity = \"{capacity}\"\nload_budget = {}", 60 + round, 1 + round * 7);
        cluster.site.configure(&config.replace("ttl = \"1h\"", &other));
        for node in nodes {
            assert!(keys(&reload(node).await["changed"]).contains(&"group.slow.capacity"));
        }
    }
    for shot in slow.await.expect("no panic").into_iter().chain(quick.await.expect("no panic")) {
        let answer = shot.answer.expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "333"), "{}", answer.describe());
    }
}
