//! The main job: three nodes, a database, and what a person with curl sees.

use std::time::{Duration, Instant};

use crate::support::{client::Response, cluster::Cluster, site::Site, until};

/// The demo's table as it is served by default, and others with values of each type.
const CONFIG: &str = r#"
default_group = "scores"

[database.school]
url = "sqlite:school.db"
statement_timeout = "10s"

[limits]
request_timeout = "20s"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
capacity = "4MiB"

[group.rows]
table = "people"
key_column = "id"
value_columns = ["name", "born", "height", "note"]
capacity = "4MiB"

[group.photos]
table = "people"
key_column = "id"
value_columns = ["photo"]
capacity = "4MiB"

[group.pages]
table = "people"
key_column = "id"
value_columns = ["note"]
content_type = "text/markdown; charset=utf-8"
capacity = "4MiB"
"#;

const PEOPLE: &str = "
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born INTEGER, height REAL, note TEXT, photo BLOB);
INSERT INTO people VALUES
    (7, 'Anna \"the\" 张', -9007199254740993, 1.5, NULL, x'00ff0a'),
    (8, 'Ben', 1, 2.0, '# hello', x'');
";

const ZHANG: &str = "%E5%BC%A0%E4%B8%89";

async fn cluster(count: usize) -> Cluster {
    let site = Site::new(CONFIG);
    let migrated = site.run(&["migrate"]);
    assert_eq!(migrated.code, Some(0), "{}", migrated.stderr);
    site.sql(PEOPLE);
    Cluster::start(site, count, &[]).await
}

/// The members of a `Cache-Status`, each with its parameters (RFC 9211).
fn cache_status(answer: &Response) -> Vec<(String, Vec<String>)> {
    let text = answer.header("cache-status").unwrap_or_else(|| panic!("{}", answer.describe()));
    let members = text.split(',').map(|member| {
        let mut parts = member.split(';').map(|part| part.trim().to_owned());
        (parts.next().expect("split gives at least one"), parts.collect())
    });
    members.collect()
}

/// The value of a member's `ttl`.
fn ttl(parameters: &[String]) -> u64 {
    let ttl = parameters.iter().find_map(|parameter| parameter.strip_prefix("ttl="));
    ttl.and_then(|ttl| ttl.parse().ok()).unwrap_or_else(|| panic!("{parameters:?}"))
}

fn has(parameters: &[String], parameter: &str) -> bool {
    parameters.iter().any(|seen| seen == parameter)
}

#[tokio::test]
async fn a_key_is_loaded_once_kept_by_its_owner_and_asked_of_it() {
    let cluster = cluster(3).await;
    let route = cluster.route("scores", &format!("key={ZHANG}")).await;
    let (owner, stranger) = (&cluster.nodes[route[0]], &cluster.nodes[route[2]]);
    let target = format!("/api?key={ZHANG}");

    let missed = stranger.get(&target).await;
    assert_eq!((missed.status, missed.text()), (200, "333"));
    let members = cache_status(&missed);
    assert_eq!(members.len(), 2, "{members:?}");
    assert_eq!((members[0].0.as_str(), members[1].0.as_str()), (owner.name.as_str(), stranger.name.as_str()));
    assert!(has(&members[0].1, "fwd=miss") && has(&members[1].1, "fwd=miss"), "{members:?}");
    assert!((1..=30).contains(&ttl(&members[0].1)), "{members:?}");

    let hopped = stranger.get(&target).await;
    assert_eq!((hopped.status, hopped.text()), (200, "333"));
    let members = cache_status(&hopped);
    assert_eq!((members[0].0.as_str(), members[1].0.as_str()), (owner.name.as_str(), stranger.name.as_str()));
    assert!(has(&members[0].1, "hit") && has(&members[1].1, "fwd=miss"), "{members:?}");

    let hit = owner.get(&format!("/api/v1/groups/scores/keys/{ZHANG}")).await;
    assert_eq!((hit.status, hit.text()), (200, "333"));
    let members = cache_status(&hit);
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!(members[0].0, owner.name);
    assert!(has(&members[0].1, "hit") && ttl(&members[0].1) <= 30, "{members:?}");
    assert_eq!(hit.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(hit.header("x-content-type-options"), Some("nosniff"));
    assert!(hit.header("cache-control").is_some());
    assert!(hit.header("age").is_some_and(|age| age.parse::<u64>().is_ok()), "{}", hit.describe());

    assert_eq!(cluster.loads(&[0, 1, 2], "scores").await, 1);
    assert_eq!(owner.metric("ggcache_requests_total{group=\"scores\",outcome=\"hit\"}").await, 1.0);
    assert_eq!(stranger.metric("ggcache_requests_total{group=\"scores\",outcome=\"peer\"}").await, 2.0);
    assert_eq!(owner.metric("ggcache_peer_served_total{result=\"ok\"}").await, 2.0);
}

#[tokio::test]
async fn an_absent_key_is_a_404_and_one_query() {
    let cluster = cluster(3).await;
    for _ in 0..2 {
        for node in &cluster.nodes {
            for target in ["/api?key=nobody", "/api/v1/groups/scores/keys/nobody"] {
                let answer = node.get(target).await;
                assert_eq!((answer.status, answer.problem().as_str()), (404, "key_not_found"));
                assert!(!cache_status(&answer).is_empty());
            }
        }
    }
    assert_eq!(cluster.loads(&[0, 1, 2], "scores").await, 1);
    let unknown = cluster.nodes[0].get("/api?key=nobody&group=nothing").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "group_not_found"));
}

#[tokio::test]
async fn a_client_that_has_the_value_is_told_so() {
    let cluster = cluster(2).await;
    let target = format!("/api?key={ZHANG}");
    let mut tags = Vec::new();
    // The owner and the other answer alike, from a load, from memory and over the hop.
    for node in [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[0], &cluster.nodes[1]] {
        let full = node.get(&target).await;
        let tag = full.header("etag").expect("a tag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "a strong tag: {tag}");
        for seen in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let answer = node.ask("GET", &target, &format!("if-none-match: {seen}\r\n")).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{seen}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
            assert!(answer.header("cache-status").is_some() && answer.header("cache-control").is_some());
        }
        for other in ["\"0000000000000000\"", "x", ""] {
            let answer = node.ask("GET", &target, &format!("if-none-match: {other}\r\n")).await;
            assert_eq!((answer.status, answer.text()), (200, "333"), "{other}");
        }
        let head = node.ask("HEAD", &target, "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["etag", "content-type", "content-length", "cache-control", "x-content-type-options"] {
            assert_eq!(head.header(name), full.header(name), "{name}");
        }
        tags.push(tag);
    }
    tags.dedup();
    assert_eq!(tags.len(), 1, "one value has one tag everywhere: {tags:?}");
    let head = cluster.nodes[0].ask("HEAD", "/api?key=nobody", "").await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    let other = cluster.nodes[0].get("/api?key=%E6%9D%8E%E5%9B%9B").await;
    assert_ne!(other.header("etag"), Some(tags[0].as_str()), "another value has another tag");
}

#[tokio::test]
async fn a_value_grows_old_and_is_loaded_again() {
    let site = Site::new(CONFIG);
    assert_eq!(site.run(&["migrate"]).code, Some(0));
    site.sql(PEOPLE);
    let settings = ["group.scores.ttl=1500ms", "group.scores.ttl_jitter=0"];
    let cluster = Cluster::start(site, 2, &settings).await;
    let route = cluster.route("scores", &format!("key={ZHANG}")).await;
    let (owner, other) = (&cluster.nodes[route[0]], &cluster.nodes[route[1]]);
    let target = format!("/api?key={ZHANG}");
    assert_eq!(owner.get(&target).await.text(), "333");
    let loaded = Instant::now();
    cluster.site.sql("UPDATE students SET score = 334 WHERE score = 333");
    let mut ages = Vec::new();
    until("the new value is served", async || {
        let mut new = true;
        for node in [owner, other] {
            let asked = loaded.elapsed();
            let answer = node.get(&target).await;
            match answer.text() {
                "333" => {
                    assert!(asked <= Duration::from_millis(1500), "served {asked:?} after its load");
                    let age: u64 = answer.header("age").expect("an age").parse().expect("a number");
                    ages.push(age);
                    new = false;
                }
                text => assert_eq!(text, "334"),
            }
        }
        new
    })
    .await;
    assert!(ages.contains(&0) && ages.contains(&1), "the age counts: {ages:?}");
    assert!(ages.is_sorted(), "{ages:?}");
    assert_eq!(cluster.loads(&[0, 1], "scores").await, 2);
    assert_eq!(owner.metric("ggcache_evictions_total{group=\"scores\"").await, 1.0);
}

#[tokio::test]
async fn values_have_the_type_of_their_columns() {
    let cluster = cluster(2).await;
    for node in &cluster.nodes {
        let row = node.get("/api?group=rows&key=7").await;
        assert_eq!(row.header("content-type"), Some("application/json"));
        let expected = r#"{"name":"Anna \"the\" 张","born":-9007199254740993,"height":1.5,"note":null}"#;
        assert_eq!(row.text(), expected);
        let row = node.get("/api/v1/groups/rows/keys/8").await;
        assert_eq!(row.text(), r##"{"name":"Ben","born":1,"height":2.0,"note":"# hello"}"##);
        let photo = node.get("/api?group=photos&key=7").await;
        assert_eq!(photo.header("content-type"), Some("application/octet-stream"));
        assert_eq!(photo.body, b"\x00\xff\x0a".as_slice());
        let empty = node.get("/api?group=photos&key=8").await;
        assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")), "empty is not absent");
        let page = node.get("/api?group=pages&key=8").await;
        assert_eq!(page.header("content-type"), Some("text/markdown; charset=utf-8"));
        assert_eq!(page.text(), "# hello");
        let null = node.get("/api?group=pages&key=7").await;
        assert_eq!((null.status, null.text()), (200, ""), "a NULL is an empty value, and the row is there");
        for key in ["007", "+7", "7.0", "9", "seven"] {
            let answer = node.get(&format!("/api?group=rows&key={}", key.replace('+', "%2B"))).await;
            assert_eq!(answer.status, 404, "{key} is not a spelling of 7");
        }
    }
}

#[tokio::test]
async fn keys_and_groups_can_be_named_in_every_way() {
    let cluster = cluster(1).await;
    let node = &cluster.nodes[0];
    for target in [
        "/api?key=%E5%BC%A0%E4%B8%89",
        "/api/?key=%e5%bc%a0%e4%b8%89",
        "/api?key=张三",
        "/api?key_b64=5byg5LiJ",
        "/api?key_b64=5byg5LiJ&group=scores",
        "/api?group=scores&key=%E5%BC%A0%E4%B8%89&unknown=1",
        "/api?k%65y=%E5%BC%A0%E4%B8%89",
        "/api/v1/groups/scores/keys/%E5%BC%A0%E4%B8%89",
        "/api/v1/groups/scores/keys/张三",
        "/api/v1/groups/scores/keys/%E5%BC%A0%E4%B8%89?key=other",
    ] {
        let answer = node.get(target).await;
        assert_eq!((answer.status, answer.text()), (200, "333"), "{target}");
    }
    assert_eq!(cluster.loads(&[0], "scores").await, 1, "all of them name one key");
}

#[tokio::test]
async fn a_node_tells_about_its_groups_its_cluster_and_itself() {
    let cluster = cluster(3).await;
    let node = &cluster.nodes[0];
    node.get(&format!("/api?key={ZHANG}")).await;

    let report = node.get("/api/v1/groups").await.json();
    let names: Vec<_> = report["groups"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert_eq!(names, ["pages", "photos", "rows", "scores"]);
    assert_eq!(report["default_group"], "scores");
    let group = node.get("/api/v1/groups/scores").await.json();
    for (key, value) in [("ttl_ms", 30_000), ("negative_ttl_ms", 5_000), ("capacity_bytes", 4 << 20)] {
        assert_eq!(group[key], value, "{group}");
    }
    let unknown = node.get("/api/v1/groups/nothing").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "group_not_found"));

    let mut epochs = Vec::new();
    for node in &cluster.nodes {
        let report = node.get("/api/v1/cluster").await.json();
        assert_eq!(report["node"], node.name.as_str());
        let nodes = report["nodes"].as_array().expect("a list");
        let mut seen: Vec<_> = nodes.iter().filter_map(|node| node["address"].as_str()).collect();
        let mut names: Vec<_> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        seen.sort_unstable();
        names.sort_unstable();
        assert_eq!(seen, names);
        let shares: f64 = nodes.iter().filter_map(|node| node["share"].as_f64()).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{report}");
        assert_eq!(nodes.iter().filter(|node| node["me"] == true).count(), 1);
        epochs.push(report["epoch"].clone());
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "all have one view: {epochs:?}");

    let mut owners = Vec::new();
    for node in &cluster.nodes {
        let report = node.get(&format!("/api/v1/cluster/owner?key={ZHANG}")).await.json();
        assert_eq!((report["group"].as_str(), report["key"].as_str()), (Some("scores"), Some("张三")));
        assert_eq!(report["mine"], report["owner"] == node.name.as_str());
        assert_ne!(report["owner"], report["successor"]);
        owners.push((report["owner"].clone(), report["place"].clone(), report["point"].clone()));
    }
    owners.dedup();
    assert_eq!(owners.len(), 1, "all name one owner: {owners:?}");

    for (target, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        assert_eq!(node.get(target).await.text(), text);
        assert_eq!(node.ask_admin(target).await.text(), text);
    }
    let config = node.ask_admin("/api/v1/config").await;
    assert!(config.text().contains("key_column = \"name\""), "{}", config.text());
    for secret in ["/metrics", "/api/v1/config"] {
        assert_eq!(node.get(secret).await.problem(), "route_not_found", "{secret} is for operators only");
    }
}

#[tokio::test]
async fn the_metrics_have_the_names_of_the_contract() {
    let cluster = cluster(2).await;
    for node in &cluster.nodes {
        node.get(&format!("/api?key={ZHANG}")).await;
        node.get("/api?key=nobody").await;
    }
    for node in &cluster.nodes {
        let answer = node.ask_admin("/metrics").await;
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=")));
        let text = answer.text();
        for name in [
            "ggcache_requests_total{group=\"scores\",outcome=\"hit\"}",
            "ggcache_requests_total{group=\"scores\",outcome=\"negative\"}",
            "ggcache_requests_total{group=\"scores\",outcome=\"peer\"}",
            "ggcache_requests_total{group=\"scores\",outcome=\"load\"}",
            "ggcache_requests_total{group=\"scores\",outcome=\"error\"}",
            "ggcache_request_duration_seconds_bucket{group=\"scores\",le=\"",
            "ggcache_request_duration_seconds_count{group=\"scores\"}",
            "ggcache_loads_total{group=\"scores\",result=\"found\"}",
            "ggcache_loads_total{group=\"scores\",result=\"absent\"}",
            "ggcache_loads_total{group=\"scores\",result=\"error\"}",
            "ggcache_load_duration_seconds_",
            "ggcache_coalesced_total{group=\"scores\"}",
            "ggcache_entries{group=\"scores\",cache=\"main\"}",
            "ggcache_entries{group=\"scores\",cache=\"negative\"}",
            "ggcache_bytes{group=\"scores\",cache=\"main\"}",
            "ggcache_capacity_bytes{group=\"scores\",cache=\"main\"}",
            "ggcache_evictions_total{group=\"scores\",cause=\"capacity\"}",
            "ggcache_evictions_total{group=\"scores\",cause=\"expired\"}",
            "ggcache_evictions_total{group=\"scores\",cause=\"invalidated\"}",
            "ggcache_evictions_total{group=\"scores\",cause=\"replaced\"}",
            "ggcache_peer_served_total{result=\"ok\"}",
            "ggcache_members 2",
            "ggcache_view_changes_total",
            "ggcache_invalidations_total{group=\"scores\",source=",
            "ggcache_build_info{version=\"",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing in\n{text}");
        }
        assert!(!text.contains("nobody") && !text.contains("张三"), "a key is never a label");
    }
    let asked: f64 = cluster.nodes[0].metric("ggcache_peer_requests_total{peer=\"localhost:").await
        + cluster.nodes[1].metric("ggcache_peer_requests_total{peer=\"localhost:").await;
    assert!(asked >= 1.0, "each of two nodes was asked for each of two keys");
    let (entries, bytes) =
        (cluster.nodes[0].metric("ggcache_entries{").await, cluster.nodes[0].metric("ggcache_bytes{").await);
    assert_eq!(entries > 0.0, bytes > 0.0);
}
