//! What is found of changes that no trigger saw: by the nodes themselves, and by `ggcache audit`.

use std::{io::Write as _, process::Stdio};

use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types::Text};

use crate::support::{
    cluster::Cluster,
    site::{Finished, Site},
    until,
};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
negative_ttl = "1h"
max_staleness = "200ms"
"#;

const SQL: &str = "CREATE TABLE students (id INTEGER PRIMARY KEY, name TEXT UNIQUE, score INTEGER);
INSERT INTO students (name, score) VALUES ('anna', 333), ('bert', 222);";

#[derive(QueryableByName)]
struct Trigger {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    sql: String,
}

/// Runs `sql` without the triggers, which are there again before anybody can see that they were gone.
fn unseen(site: &Site, sql: &str) {
    let triggers = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
    let triggers: Vec<Trigger> = sql_query(triggers).load(&mut site.connect()).expect("a query");
    assert!(!triggers.is_empty(), "they are installed");
    let mut script = String::from("BEGIN IMMEDIATE;\n");
    for trigger in &triggers {
        script += &format!("DROP TRIGGER \"{}\";\n", trigger.name);
    }
    script += &format!("{sql};\n");
    for trigger in &triggers {
        script += &format!("{};\n", trigger.sql);
    }
    site.sql(&(script + "COMMIT"));
}

/// Three nodes that go by the log, and have anna in memory; carl is known to be absent.
async fn cluster(audit: &str) -> Cluster {
    let site = Site::with(CONFIG, SQL);
    assert_eq!(site.run(&["changes", "install"]).code, Some(0));
    let cluster = Cluster::start(site, 3, &[audit]).await;
    for node in &cluster.nodes {
        assert_eq!(node.get("/api?key=anna").await.text(), "333");
        assert_eq!(node.get("/api?key=carl").await.status, 404);
    }
    cluster
}

/// `ggcache audit` at every node, with `arguments`.
fn audit(cluster: &Cluster, arguments: &[&str]) -> Finished {
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| format!("http://{}", node.api())).collect();
    cluster.site.run(&[&["audit", "--addresses", &nodes.join(",")], arguments].concat())
}

fn table(row: &str) -> String {
    format!("group   keys  nodes  reads  equal  changed  inconsistent  failed\nscores  {row}\n")
}

#[tokio::test]
async fn the_command_finds_nothing_in_a_sound_cluster() {
    let cluster = cluster("group.scores.audit=0").await;
    let sound = audit(&cluster, &[]);
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
    assert_eq!(sound.stdout, table("   2      3      6      6        0             0       0"));
    // What has changed lately is in the sample, though it is gone.
    cluster.site.sql("DELETE FROM students WHERE name = 'anna'; UPDATE students SET score = 223");
    let sound = audit(&cluster, &[]);
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
    assert!(sound.stdout.starts_with("group   keys  nodes  reads"), "{}", sound.stdout);
    assert!(sound.stdout.contains("\nscores     2      3      6 "), "{}", sound.stdout);
    let some = audit(&cluster, &["bert", "carl", "bert", "--group", "scores"]);
    assert_eq!(
        (some.code, some.stdout),
        (Some(0), table("   2      3      6      6        0             0       0"))
    );
}

#[tokio::test]
async fn the_command_names_what_no_trigger_saw() {
    let cluster = cluster("group.scores.audit=0").await;
    unseen(&cluster.site, "UPDATE students SET score = 334 WHERE name = 'anna'");
    let found = audit(&cluster, &[]);
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    assert!(
        found.stdout.starts_with(&table("   2      3      6      3        0             3       0")),
        "{}",
        found.stdout
    );
    for node in &cluster.nodes {
        let line = format!(
            "http://{}: it answers a value of 3 bytes; the database has another value of as many\n",
            node.api()
        );
        assert!(found.stdout.contains(&line), "{}", found.stdout);
    }
    assert_eq!(found.stdout.matches("inconsistent: group scores, key \"anna\", key.hash ").count(), 3);
    assert!(!found.stdout.contains("33"), "no value is shown: {}", found.stdout);
    assert!(found.stderr.contains("keys:invalidate"), "{}", found.stderr);
    assert!(cluster.nodes[0].get("/api?key=anna").await.text() == "333", "nothing is mended");

    // An absence can be wrong, too. The keys come from another program.
    unseen(&cluster.site, "INSERT INTO students (name, score) VALUES ('carl', 1)");
    let node = format!("http://{}", cluster.nodes[0].api());
    let mut command = cluster.site.command(&["audit", "-", "--addresses", &node]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    child.stdin.take().expect("a pipe").write_all(b"bert\ncarl\n\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("key \"carl\""), "{text}");
    assert!(text.ends_with("it answers no such key; the database has a value of 1 byte\n"), "{text}");
}

#[tokio::test]
async fn the_nodes_find_and_drop_what_no_trigger_saw() {
    let cluster = cluster("group.scores.audit=100").await;
    let found = async || {
        let mut sum = 0.0;
        for node in &cluster.nodes {
            sum += node.metric("ggcache_inconsistent_reads_total{group=\"scores\"}").await;
        }
        sum
    };
    for node in &cluster.nodes {
        until("the node audits", async || {
            node.ask_admin("/metrics")
                .await
                .text()
                .contains("ggcache_inconsistent_reads_total{group=\"scores\"} 0")
        })
        .await;
        let metrics = node.ask_admin("/metrics").await;
        assert!(metrics.text().contains("# HELP ggcache_staleness_seconds "), "{}", metrics.text());
    }
    unseen(&cluster.site, "UPDATE students SET score = 334 WHERE name = 'anna'");
    until("the owner has found it", async || found().await > 0.0).await;
    until("all nodes answer rightly", async || {
        let mut right = true;
        for node in &cluster.nodes {
            right &= node.get("/api?key=anna").await.text() == "334";
        }
        right
    })
    .await;
    let logs: String = cluster.nodes.iter().map(|node| node.log()).collect();
    let lines: Vec<&str> = logs.lines().filter(|line| line.contains("the entry is dropped")).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.contains("key.hash") && !line.contains("anna")),
        "{logs}"
    );
    // Only the owner has had it, but for copies.
    assert_eq!(found().await, lines.len() as f64);
    let sound = audit(&cluster, &[]);
    assert_eq!(sound.code, Some(0), "{}{}", sound.stdout, sound.stderr);
}

#[test]
fn what_can_t_be_told_is_said() {
    let site = Site::with(CONFIG, SQL);
    let code = |arguments: &[&str]| {
        let finished = site.run(arguments);
        assert!(finished.stderr.starts_with("error: "), "{arguments:?}: {}", finished.stderr);
        (finished.code, finished.stdout)
    };
    // Nobody listens at this port.
    let nobody = ["audit", "--addresses", "http://127.0.0.1:1", "--deadline", "100ms"];
    let failed = table("   2      1      2      0        0             0       2");
    assert_eq!(code(&nobody), (Some(2), failed));
    let nothing = || (Some(2), String::new());
    assert_eq!(code(&["audit", "--group", "others"]), nothing());
    assert_eq!(code(&["audit", "--keys", "0"]), nothing());
    assert_eq!(code(&["audit", "anna", "--keys", "3"]), nothing());
    assert_eq!(code(&["audit", "!", "--key-b64"]), nothing());
    std::fs::remove_file(site.database()).expect("it is there");
    assert_eq!(code(&nobody), nothing());
}
