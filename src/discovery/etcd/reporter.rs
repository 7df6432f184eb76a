//! Tells the rest of the node who is there: quickly after a single change, and seldom during many.
//!
//! The first report waits for a list, and for a word on the registration, since who is in no list is told of no
//! invalidation. That another process has our address is such a word: most often it is this node's own last life, and
//! the others go on asking here. Nor is it waited for ever: without etcd the first report is the configured list of
//! peers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    shared::{PATIENCE, Registration, Shared},
    watching::{Board, tell},
};
use crate::cluster::{Address, Node};

/// How long after a change it is reported, if it comes alone.
const WINDOW_MIN: Duration = Duration::from_millis(10);
/// How long after a change it is reported at most. Grows up to this while changes follow each other.
const WINDOW_MAX: Duration = Duration::from_millis(50);
/// A change that comes so long after the last report comes alone.
const QUIET: Duration = Duration::from_millis(100);

/// Reports until nobody listens.
pub(super) async fn run(
    shared: &Shared,
    board: &Arc<Board>,
    peers: &[Address],
    reports: &mpsc::Sender<Vec<Node>>,
) {
    tokio::select! {
        () = first_view(shared, board, peers) => {}
        () = reports.closed() => return,
    }
    let mut last: Option<Vec<Node>> = None;
    let mut window = Window::new();
    loop {
        // Nobody takes a report before the last one is taken; meanwhile changes gather.
        let Ok(permit) = reports.reserve().await else { return };
        let members = board.with(|members| members.nodes());
        if last.as_ref() != Some(&members) {
            permit.send(members.clone());
            last = Some(members);
            window.reported(Instant::now());
        }
        tokio::select! {
            () = change(board) => {}
            () = reports.closed() => return,
        }
        sleep_until(window.end(Instant::now())).await;
    }
}

/// Ends when there is something to report for the first time.
async fn first_view(shared: &Shared, board: &Board, peers: &[Address]) {
    let deadline = Instant::now() + PATIENCE;
    let mut registration = shared.registration();
    let ready = async {
        while !board.is_listed() {
            board.changed().await;
        }
        // The sender lives as long as `shared`.
        let _ = registration.wait_for(|now| *now != Registration::Absent).await;
    };
    if timeout_at(deadline, ready).await.is_err() && !board.is_listed() {
        board.with(|members| members.seed(peers));
        tracing::warn!(
            peers = peers.len(),
            "etcd has not answered since the start; the view is the configured list of peers until it does"
        );
    }
}

/// Ends when the members may have changed.
async fn change(board: &Board) {
    loop {
        let Some(expiry) = board.with(|members| members.next_expiry()) else { return board.changed().await };
        if timeout_at(expiry, board.changed()).await.is_ok() {
            return;
        }
        let gone = board.with(|members| members.expire(Instant::now()));
        if !gone.is_empty() {
            gone.into_iter().for_each(tell);
            return;
        }
    }
}

/// How long changes gather: briefly, and the longer the more reports have followed each other.
#[derive(Debug)]
struct Window {
    length: Duration,
    last: Option<Instant>,
}

impl Window {
    const fn new() -> Self {
        Self { length: WINDOW_MIN, last: None }
    }

    /// A report was made.
    fn reported(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Until when to gather, for a change that has just come.
    fn end(&mut self, now: Instant) -> Instant {
        let is_alone = self.last.is_none_or(|last| now.duration_since(last) >= QUIET);
        self.length = if is_alone { WINDOW_MIN } else { (self.length * 2).min(WINDOW_MAX) };
        now + self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn windows_grow_during_a_burst() {
        let mut window = Window::new();
        let mut lengths = Vec::new();
        for _ in 0..5 {
            let now = Instant::now();
            let end = window.end(now);
            lengths.push((end - now).as_millis());
            sleep_until(end).await;
            window.reported(Instant::now());
        }
        assert_eq!(lengths, [10, 20, 40, 50, 50]);
        tokio::time::advance(QUIET).await;
        assert_eq!(window.end(Instant::now()) - Instant::now(), WINDOW_MIN);
    }
}
