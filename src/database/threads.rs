//! The threads that wait for a database in the place of those that serve requests.

use std::{io, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// At most so many threads as there are connections, started as they are needed.
///
/// The runtime's own pool for blocking work would serve as well, but starts a thread whenever none is idle at that
/// moment, and under load that is up to 512 of them for eight connections. Each keeps a stack, and what its
/// allocator holds for it.
#[derive(Debug)]
pub(super) struct Threads {
    /// Never driven: only its pool for blocking work is used. `None` once dropped.
    pool: Option<Runtime>,
}

impl Threads {
    const IDLE: Duration = Duration::from_secs(10);

    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let pool = Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_keep_alive(Self::IDLE)
            .thread_name("ggcache-database")
            .build()?;
        Ok(Self { pool: Some(pool) })
    }

    /// Runs `work` as soon as a thread is free. It runs to its end even if the handle is dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.pool.as_ref().expect("there until dropped").spawn_blocking(work)
    }
}

impl Drop for Threads {
    /// Does not wait for work that still runs: the last handle may be dropped by a task, which must not block, or by one
    /// of the threads themselves.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}
