//! The nodes that a client knows, and which of them is asked next.
//!
//! Nodes are asked in turn. One that could not be reached, or was silent, is set aside: it comes after all others
//! until it answers. When its time is over one request tries it, and sets the next time, so that a node that is paused
//! delays one request in seconds, and not one in three.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    Endpoint, Endpoints, Fetched,
    error::Failure,
    wire::{Connect, Wire},
};
use crate::{
    group::{GroupName, Key},
    telemetry::field,
};

/// How long a node is set aside at first; doubled with each request that tries it in vain.
const ASIDE_FIRST: Duration = Duration::from_millis(250);
/// The longest that a node is set aside before a request tries it again.
const ASIDE_MAX: Duration = Duration::from_secs(2);

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    endpoint: Endpoint,
    wire: Arc<dyn Wire>,
    standing: Mutex<Standing>,
}

/// Whether a node is set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Well,
    Aside {
        /// When it may be tried.
        until: Instant,
        /// How long that was from when it was set aside, or tried.
        span: Duration,
        /// Whether a request is trying it.
        trying: bool,
    },
}

impl Standing {
    const fn is_well(self) -> bool {
        matches!(self, Self::Well)
    }

    /// Whether the caller is the one that tries it. A caller that goes away in between is no loss: the next time
    /// is set already.
    fn claim(&mut self, now: Instant) -> bool {
        match self {
            Self::Aside { until, span, trying } if now >= *until => {
                (*until, *trying) = (now + *span, true);
                true
            }
            _ => false,
        }
    }

    fn failed(&mut self, now: Instant) {
        match self {
            Self::Well => *self = Self::Aside { until: now + ASIDE_FIRST, span: ASIDE_FIRST, trying: false },
            Self::Aside { until, span, trying } if *trying => {
                *span = (*span * 2).min(ASIDE_MAX);
                (*until, *trying) = (now + *span, false);
            }
            // A request from before it was set aside.
            Self::Aside { .. } => {}
        }
    }
}

impl Node {
    /// Asks the node once, for at most `patience`, and remembers whether it answered.
    pub(super) async fn get(
        &self,
        group: &GroupName,
        key: &Key,
        patience: Duration,
    ) -> Result<Option<Fetched>, Failure> {
        let answer = match tokio::time::timeout(patience, self.wire.get(group, key, patience)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Silent(self.endpoint.clone(), patience)),
        };
        let blamed = answer.as_ref().is_err_and(Failure::blames_node);
        let was = {
            let mut standing = self.standing.lock();
            let was = *standing;
            if blamed {
                standing.failed(Instant::now());
            } else {
                *standing = Standing::Well;
            }
            was
        };
        match &answer {
            Err(failure) if blamed && was.is_well() => tracing::warn!(
                { field::PEER } = %self.endpoint,
                error = failure as &dyn std::error::Error,
                "a node is asked last from now on"
            ),
            _ if !blamed && !was.is_well() => {
                tracing::info!({ field::PEER } = %self.endpoint, "a node answers again");
            }
            _ => {}
        }
        answer
    }
}

/// What the source tells.
#[derive(Debug)]
struct News {
    list: watch::Receiver<Vec<Endpoint>>,
    /// Whether the source has gone and its last list was read.
    ended: bool,
}

impl News {
    fn take(&mut self) -> Option<Vec<Endpoint>> {
        let is_new = match self.list.has_changed() {
            Ok(is_new) => is_new,
            Err(_) => !std::mem::replace(&mut self.ended, true),
        };
        is_new.then(|| self.list.borrow_and_update().clone())
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Keeps the source alive that the receiver listens to.
    source: Arc<dyn Endpoints>,
    news: Mutex<News>,
    connect: Box<dyn Connect>,
    known: ArcSwap<Box<[Arc<Node>]>>,
    turn: AtomicUsize,
}

impl Nodes {
    /// The nodes of `source`, asked in turn from the `start`th.
    pub(super) fn new(source: Arc<dyn Endpoints>, connect: Box<dyn Connect>, start: usize) -> Self {
        let mut list = source.watch();
        // What is there already is news to this client.
        list.mark_changed();
        Self {
            news: Mutex::new(News { list, ended: false }),
            source,
            connect,
            known: ArcSwap::default(),
            turn: AtomicUsize::new(start),
        }
    }

    /// Waits until a node is known; `None` if none is before `deadline`.
    pub(super) async fn first(&self, deadline: Instant) -> Option<()> {
        if !self.known().is_empty() {
            return Some(());
        }
        let mut news = self.source.watch();
        let found = tokio::time::timeout_at(deadline, news.wait_for(|list| !list.is_empty())).await;
        matches!(found, Ok(Ok(_))).then_some(())
    }

    /// The node to ask next in a read for which those of `tried` failed, in that order.
    ///
    /// Never the one that failed last, unless there is no other. Of the rest, those first that are not set aside; then
    /// those that were not tried, then the one that was tried longest ago; among equals in turn.
    pub(super) fn pick(&self, tried: &[Arc<Node>], now: Instant) -> Option<Arc<Node>> {
        let known = self.known();
        let was_tried = |node: &Arc<Node>| tried.iter().rposition(|tried| Arc::ptr_eq(tried, node));
        let due = known.iter().find(|node| was_tried(node).is_none() && node.standing.lock().claim(now));
        if let Some(due) = due {
            return Some(Arc::clone(due));
        }
        let ranks: Vec<_> = known
            .iter()
            .map(|node| {
                let at = was_tried(node).map(|at| at + 1);
                (at == Some(tried.len()), !node.standing.lock().is_well(), at)
            })
            .collect();
        let best = ranks.iter().min()?;
        let equals = ranks.iter().filter(|rank| *rank == best).count();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % equals;
        let mut candidates = known.iter().zip(&ranks).filter(|(_, rank)| *rank == best);
        candidates.nth(turn).map(|(node, _)| Arc::clone(node))
    }

    /// Whether there are nodes that are not among those of `tried`.
    pub(super) fn has_others_than(&self, tried: &[Arc<Node>]) -> bool {
        self.known().iter().any(|node| !tried.iter().any(|tried| Arc::ptr_eq(tried, node)))
    }

    /// The nodes of the newest list that names any; those that stay keep their standing and connections.
    fn known(&self) -> Arc<Box<[Arc<Node>]>> {
        // Whoever finds the lock taken goes on with the list that is there.
        if let Some(mut news) = self.news.try_lock()
            && let Some(list) = news.take()
            && !list.is_empty()
        {
            let known = self.known.load_full();
            let nodes = list.iter().filter_map(|endpoint| {
                let same = known.iter().find(|node| node.endpoint == *endpoint);
                same.cloned().or_else(|| self.new_node(endpoint))
            });
            self.known.store(Arc::new(nodes.collect()));
        }
        self.known.load_full()
    }

    fn new_node(&self, endpoint: &Endpoint) -> Option<Arc<Node>> {
        match self.connect.connect(endpoint) {
            Ok(wire) => Some(Arc::new(Node { endpoint: endpoint.clone(), wire, standing: Mutex::default() })),
            Err(error) => {
                tracing::warn!(
                    { field::PEER } = %endpoint,
                    error = &error as &dyn std::error::Error,
                    "a node is left out"
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_set_aside_is_tried_by_one_request_at_a_time_and_ever_more_seldom() {
        let start = Instant::now();
        let mut standing = Standing::Well;
        assert!(!standing.claim(start), "a node that is well needs no trial");
        let mut now = start;
        for span in [250, 500, 1000, 2000, 2000].map(Duration::from_millis) {
            standing.failed(now);
            assert!(!standing.claim(now + span - Duration::from_millis(1)));
            now += span;
            assert!(standing.claim(now));
            assert!(!standing.claim(now), "another request is trying it");
        }
    }

    #[test]
    fn failures_of_one_moment_count_once() {
        let now = Instant::now();
        let mut standing = Standing::Well;
        standing.failed(now);
        let once = standing;
        standing.failed(now + Duration::from_millis(100));
        assert_eq!(standing, once);
    }

    #[test]
    fn a_trial_that_is_abandoned_is_followed_by_another() {
        let now = Instant::now();
        let mut standing = Standing::Well;
        standing.failed(now);
        assert!(standing.claim(now + ASIDE_FIRST));
        assert!(standing.claim(now + 2 * ASIDE_FIRST));
    }
}
