//! Real nodes for tests and measurements: processes of the program, real sockets, real database files.
//!
//! A [`Site`] is a directory with a configuration and a database; a [`Cluster`] is the nodes that run in it. Whatever
//! was started is gone when its owner is dropped, and a test that fails prints what its nodes logged. Shared by
//! `tests/program.rs` and the programs in `benches/`, which take what they need of it.

pub mod client;
pub mod cluster;
pub mod node;
pub mod site;
pub mod slow;

use std::time::Duration;

use tokio::time::Instant;

/// How long anything is waited for that should happen. Far more than it takes, and reached only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `probe` is true.
///
/// # Panics
/// After [`PATIENCE`], with `what` was waited for.
pub async fn until(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !probe().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
