//! Each rule can be broken, and says so; and what looks like a breach is none.

use super::rules::check;

/// The faults of one file, as `line: text`, with a first line as it should be.
fn faults_of(path: &str, code: &str) -> Vec<String> {
    let files = [(path.to_owned(), format!("//! A file.\n{code}"))];
    check(&files).iter().map(|fault| format!("{}: {}", fault.line, fault.text)).collect()
}

#[track_caller]
fn assert_fault(path: &str, code: &str, line: usize, text: &str) {
    let faults = faults_of(path, code);
    let expected =
        faults.len() == 1 && faults[0].starts_with(&format!("{line}: ")) && faults[0].contains(text);
    assert!(expected, "{path} should have one fault, in line {line}, about {text:?}: {faults:?}\n{code}");
}

#[track_caller]
fn assert_tidy(path: &str, code: &str) {
    assert_eq!(faults_of(path, code), [""; 0], "{path}\n{code}");
}

#[test]
fn layers_are_told_apart() {
    assert_fault("src/cache/shard.rs", "use crate::group::Key;", 2, "`cache` must not name `group`");
    assert_fault(
        "src/cluster.rs",
        "use crate::{\n    time::Moment,\n    task::{Tasks, crate_of},\n};",
        4,
        "`task`",
    );
    assert_fault("src/gateway/keys.rs", "fn f() -> crate::origin::KeyType {}", 2, "`origin`");
    assert_fault("src/origin.rs", "use crate::{group::{Key, Value}, transport};", 2, "`transport`");
    assert_fault("src/group.rs", "use crate::{net, time};", 2, "`net`");
    assert_fault("src/config/group.rs", "use crate::app;", 2, "`app`");
    assert_fault("src/app.rs", "use crate::cli;", 2, "`cli`");
    assert_fault("src/time.rs", "use crate::error::ErrorCode;", 2, "it may name: none");
    assert_fault("src/brand_new.rs", "", 1, "table of layers");
    assert_fault("src/main.rs", "fn main() { ggcache::app::serve() }", 2, "`ggcache::cli`");
    assert_tidy(
        "src/gateway.rs",
        "use crate::{cluster::{View, place}, group::Group, net, problem::Problem};",
    );
    assert_tidy(
        "src/cache/policy/fifo.rs",
        "use crate::cache::{list::List, slots::Nodes};\nuse super::Policy;",
    );
    assert_tidy("src/cache.rs", "pub(crate) fn f() {}\npub(in crate::cache) fn g() {}");
    assert_tidy("src/main.rs", "fn main() { ggcache::cli::run(); }");
}

#[test]
fn super_stays_in_the_layer() {
    assert_fault("src/cache.rs", "use super::group;", 2, "`super` leaves the layer");
    assert_fault(
        "src/origin/map.rs",
        "use super::{\n    render,\n};\nuse super::super::gateway;",
        5,
        "leaves",
    );
    assert_tidy("src/origin/sqlite/query.rs", "use super::super::render;\npub(super) fn f() {}");
}

#[test]
fn crates_stay_where_they_belong() {
    assert_fault("src/cache/shard.rs", "use tokio::sync::Mutex;", 2, "`cache` must not name `tokio`");
    assert_fault("src/cluster/view.rs", "fn f() { tracing::debug!(\"x\"); }", 2, "`tracing`");
    assert_fault("src/cluster/node.rs", "use {serde::Serialize};", 2, "`serde`");
    assert_fault("src/cache.rs", "fn f(now: std::time::Instant) {}", 2, "`Instant`");
    assert_fault("src/cache.rs", "use std::time::{Duration, SystemTime};", 2, "`SystemTime`");
    assert_fault("src/group/peer.rs", "use http::StatusCode;", 2, "`group` must not name `http`");
    assert_fault(
        "src/group/store.rs",
        "type C = ::diesel::SqliteConnection;",
        2,
        "`diesel` belongs into changes and database and origin",
    );
    assert_fault(
        "src/discovery.rs",
        "use reqwest as client;",
        2,
        "`reqwest` belongs into client and transport",
    );
    assert_fault(
        "src/net/server.rs",
        "fn f() -> anyhow::Result<()> {}",
        2,
        "`anyhow` belongs into app and cli",
    );
    assert_tidy("src/app/node.rs", "use anyhow::Context as _;");
    assert_tidy(
        "src/group.rs",
        "mod http;\nuse self::http::X;\nfn f(http: u8) { x.http(); tokio::spawn(y); }",
    );
    assert_tidy(
        "src/cache/stats.rs",
        "struct Figures { metrics: u8 }\nfn f() { crate::cache::metrics::g(); }",
    );
}

#[test]
fn habits_are_kept() {
    assert_fault("src/net.rs", "use super_crate::prelude::*;", 2, "glob import");
    assert_fault("src/cli.rs", "fn f() { println!(\"x\"); }", 2, "`println!`");
    assert_fault("src/net.rs", "fn f() { std::dbg!(1); }", 2, "`dbg!`");
    assert_fault("src/net.rs", "fn f() {\n    todo!()\n}", 3, "`todo!`");
    assert_fault("src/net.rs", "#[allow(dead_code)]\nfn f() {}", 2, "`#[expect(");
    assert_fault("tests/some.rs", "#![allow(dead_code)]", 2, "`#[expect(");
    assert_fault("src/net.rs", "pub mod server;", 2, "make it private");
    assert_fault("src/net/mod.rs", "", 1, "foo/mod.rs");
    assert_fault("src/net.rs", &"fn f() {}\n".repeat(401), 1, "401 lines of code");
    assert_tidy("src/net.rs", &"fn f() {}\n// A comment.\n\n".repeat(400));
    assert_tidy("src/net.rs", "mod server;\nfn f() -> u8 { allow(print * 3) }\npub(crate) fn print() {}");
    assert_tidy("tests/some.rs", "use ggcache::group::*;\nfn f() { println!(\"x\"); }");
    let bare = [("benches/some.rs".to_owned(), "use std::fs;\n//! Too late.\n".to_owned())];
    assert!(check(&bare)[0].to_string().starts_with("benches/some.rs:1: the first line is not"));
}

#[test]
fn test_code_is_exempt_and_what_follows_is_not() {
    let test_only = "use crate::app; use tokio::x; use super::*; fn f() { println!(\"}\"); }";
    assert_tidy("src/cache.rs", &format!("#[cfg(test)]\nmod tests {{\n{test_only}\n}}"));
    assert_tidy("src/cache.rs", "struct S {\n    #[cfg(test)]\n    at: std::time::Instant,\n}");
    let after = format!("#[cfg(test)]\nmod tests {{\n{test_only}\n}}\nuse crate::app;");
    assert_fault("src/cache.rs", &after, 6, "`app`");
    assert_fault("src/cache.rs", "#[cfg(test)]\nuse crate::app;\nuse crate::cli;", 4, "`cli`");

    let file = |path: &str, text: &str| (path.to_owned(), format!("//! A file.\n{text}\n"));
    let below = [
        file("src/cache.rs", "#[cfg(test)]\nmod checks;\nmod checksum;"),
        file("src/cache/checks.rs", "use crate::app;"),
        file("src/cache/checks/model.rs", "use crate::app;"),
        file("src/cache/checksum.rs", "use crate::app;"),
    ];
    let faults: Vec<_> = check(&below).into_iter().map(|fault| fault.path).collect();
    assert_eq!(faults, ["src/cache/checksum.rs"]);
}

#[test]
fn comments_and_literals_are_no_code() {
    let code = r##"
        // use crate::app;
        /* use crate::app; /* nested */ use crate::app; */
        /// See [`App`](crate::app::App).
        fn f<'a>(text: &'a str) -> [char; 4] {
            let _ = ("use crate::app; \" use crate::app;", r#"" use crate::app"#, b"crate::app", br"crate::app");
            ['"', '\'', '\\', '张']
        }
    "##;
    assert_tidy("src/cache.rs", code);
    let with_use = format!("{code}\nuse crate::app;");
    assert_fault("src/cache.rs", &with_use, 11, "`app`");
}
