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
