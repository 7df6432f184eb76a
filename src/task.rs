//! Tasks that somebody joins: one owner spawns, names, cancels and waits.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one node. Clones share the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Not a token: it is read for each answer, and a token takes a lock.
    is_closing: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the node begins to stop. Long-running tasks end when they see it.
    pub const fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task that ends by itself.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future)
    }

    /// Starts a task that the node can't do without: if it ends before the node stops, however it
    /// ends, the node stops.
    pub fn spawn_critical<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let alarm = Alarm { name, tasks: self.clone() };
        self.tracker.spawn(async move {
            let _alarm = alarm;
            future.await;
        });
    }

    /// Notes that the node will stop soon: whoever is answered from now on should go elsewhere the next time.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Whether the node stops, or will soon.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Tells every task to end.
    pub fn stop(&self) {
        self.close();
        self.stop.cancel();
    }

    /// Waits until all tasks have ended, at most `grace`; whether they have.
    pub async fn join(&self, grace: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Stops the node when a critical task ends early, by return or by panic.
struct Alarm {
    name: &'static str,
    tasks: Tasks,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.tasks.stop.is_cancelled() {
            tracing::error!(task = self.name, "a critical task ended; the node stops");
            self.tasks.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_critical_task_that_panics_stops_the_node() {
        let tasks = Tasks::new();
        tasks.spawn_critical("doomed", async { panic!("on purpose") });
        tasks.stopping().cancelled().await;
        assert!(tasks.join(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn join_gives_up_after_the_grace() {
        let tasks = Tasks::new();
        tasks.spawn(std::future::pending::<()>());
        assert!(!tasks.join(Duration::from_secs(5)).await);
    }
}
