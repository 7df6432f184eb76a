//! The database fails, and comes back.

use crate::support::{client::Response, cluster::Cluster, site::Site, until};

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "1h"
negative_ttl = "1h"
"#;

const SQL: &str = "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)
INSERT INTO students SELECT 'name-' || i, i FROM n;";

/// Asserts that a failure is told as one, and tells nothing of the database.
fn assert_unavailable(answer: &Response) {
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "origin_unavailable"),
        "{}",
        answer.describe()
    );
    assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok()));
    let body = answer.text().to_lowercase();
    for secret in
        ["select", "sqlite", "school", "students", "no such", "malformed", "disk", "name-", "where", "/"]
    {
        assert!(!body.contains(secret), "{secret:?} is in {body}");
    }
}

/// Asks every node for keys that none has seen, which must all fail, and for one that is in memory, which must not.
async fn assert_fails(cluster: &Cluster, from: usize) {
    for node in &cluster.nodes {
        for key in from..from + 4 {
            assert_unavailable(&node.get(&format!("/api?key=name-{key}")).await);
        }
        assert_eq!(node.get("/api?key=name-1").await.text(), "1", "what is in memory is served");
        assert_eq!(node.ask_admin("/livez").await.status, 200);
    }
}

/// Waits until keys that none has seen are loaded again: failures are not remembered.
async fn assert_recovers(cluster: &Cluster, from: usize) {
    for node in &cluster.nodes {
        for key in from..from + 4 {
            until("the key is loaded", async || {
                let answer = node.get(&format!("/api?key=name-{key}")).await;
                assert!(matches!(answer.status, 200 | 503), "{}", answer.describe());
                answer.status == 200 && answer.text() == key.to_string()
            })
            .await;
        }
    }
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start(Site::with(CONFIG, SQL), 2, &[]).await;
    for node in &cluster.nodes {
        assert_eq!(node.get("/api?key=name-1").await.text(), "1");
    }
    cluster
}

#[tokio::test]
async fn a_table_that_is_dropped_and_comes_back() {
    let cluster = cluster().await;
    cluster.site.sql("ALTER TABLE students RENAME TO elsewhere");
    assert_fails(&cluster, 10).await;
    let failed = cluster.nodes[0].metric("ggcache_loads_total{group=\"scores\",result=\"error\"}").await
        + cluster.nodes[1].metric("ggcache_loads_total{group=\"scores\",result=\"error\"}").await;
    assert!(failed >= 8.0, "an error is not an absence and not remembered: {failed}");
    cluster.site.sql("ALTER TABLE elsewhere RENAME TO students");
    assert_recovers(&cluster, 10).await;
}

#[tokio::test]
async fn a_column_that_is_renamed_and_comes_back() {
    let cluster = cluster().await;
    cluster.site.sql("ALTER TABLE students RENAME COLUMN score TO points");
    assert_fails(&cluster, 20).await;
    cluster.site.sql("ALTER TABLE students RENAME COLUMN points TO score");
    assert_recovers(&cluster, 20).await;
}

#[tokio::test]
async fn a_file_that_is_damaged_cut_short_gone_and_back() {
    let cluster = cluster().await;
    cluster.site.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let path = cluster.site.database();
    let whole = std::fs::read(&path).expect("read");
    // In place, as a failing disk or a careless script would.
    let mut damaged = whole.clone();
    damaged[2048..].fill(0x5a);
    std::fs::write(&path, &damaged).expect("written");
    assert_fails(&cluster, 30).await;
    std::fs::write(&path, &whole).expect("written");
    assert_recovers(&cluster, 30).await;

    std::fs::write(&path, &whole[..1000]).expect("written");
    assert_fails(&cluster, 40).await;
    std::fs::write(&path, &whole).expect("written");
    assert_recovers(&cluster, 40).await;

    let away = cluster.site.path("away.db");
    std::fs::rename(&path, &away).expect("renamed");
    assert_fails(&cluster, 50).await;
    std::fs::rename(&away, &path).expect("renamed");
    assert_recovers(&cluster, 50).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_is_read_anew() {
    let cluster = cluster().await;
    cluster.site.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let other = Site::with(CONFIG, &format!("{SQL} UPDATE students SET score = -score;"));
    let path = cluster.site.database();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    std::fs::copy(other.database(), cluster.site.path("new.db")).expect("copied");
    std::fs::rename(cluster.site.path("new.db"), &path).expect("renamed");
    for node in &cluster.nodes {
        until("the new file is read", async || {
            let answer = node.get("/api?key=name-60").await;
            assert!(matches!(answer.status, 200 | 503), "{}", answer.describe());
            answer.status == 200 && answer.text() == "-60"
        })
        .await;
    }
}

#[tokio::test]
async fn a_row_without_one_value_is_an_error_and_not_an_absence() {
    let sql = "CREATE TABLE students (name TEXT, score INTEGER); \
               INSERT INTO students VALUES ('twice', 1), ('twice', 2), ('once', 3); \
               INSERT INTO students VALUES ('invalid', CAST(x'ff' AS TEXT)), ('large', zeroblob(5000));";
    let cluster = Cluster::start(Site::with(CONFIG, sql), 2, &["limits.value_bytes=4KiB"]).await;
    for node in &cluster.nodes {
        assert_eq!(node.get("/api?key=once").await.text(), "3");
        assert_unavailable(&node.get("/api?key=twice").await);
        assert_unavailable(&node.get("/api?key=invalid").await);
        let large = node.get("/api?key=large").await;
        assert_eq!((large.status, large.problem().as_str()), (413, "too_large"));
    }
}
