//! The wires between simulated nodes: messages take their time, overtake each other, come twice or not at all.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{node::Gate, world::World};
use crate::{
    cluster::{Address, Node},
    group::{
        BoxFuture, Handover, Invalidation, PeekMany, PeerAnswer, PeerBatch, PeerError, PeerRequest,
        PeerTransport, PeerWord,
    },
    transport::MemoryTransport,
};

/// Which wires are cut, by sender and receiver.
pub(super) struct Links {
    nodes: usize,
    cut: Mutex<Vec<u32>>,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes, cut: Mutex::new(vec![0; nodes * nodes]) }
    }

    /// Cuts a wire once more, or mends one cut.
    pub(super) fn cut(&self, from: usize, to: usize, is_cut: bool) {
        let mut cut = self.cut.lock();
        let count = &mut cut[from * self.nodes + to];
        *count = if is_cut { *count + 1 } else { count.saturating_sub(1) };
    }

    pub(super) fn mend_all(&self) {
        self.cut.lock().fill(0);
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.lock()[from * self.nodes + to] > 0
    }
}

pub(super) fn address(index: usize) -> Address {
    Address::new(&format!("node-{index}:10001")).expect("an address")
}

fn index(address: &Address) -> usize {
    address.host().trim_start_matches("node-").parse().expect("one of ours")
}

/// One node's end of the wires.
pub(super) struct Wire {
    pub(super) world: Arc<World>,
    pub(super) from: usize,
    pub(super) gate: Arc<Gate>,
    pub(super) inner: MemoryTransport,
}

impl Wire {
    /// One way: whether the message arrives.
    async fn way(&self, from: usize, to: usize) -> Result<(), PeerError> {
        let world = &self.world;
        world.delay(world.plan.wire).await;
        let is_lost = !world.plan.is_calm && !world.is_ending() && world.chance(1);
        if is_lost || world.links.is_cut(from, to) {
            if world.chance(50) {
                return Err(PeerError::unreachable("the wire is cut"));
            }
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// There and back, at most for `budget`. What is carried may arrive twice.
    async fn through<T, F>(&self, node: &Node, budget: Duration, call: impl Fn() -> F) -> Result<T, PeerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PeerError>> + Send + 'static,
    {
        let to = index(&node.address);
        let trip = async {
            self.gate.pass().await;
            self.way(self.from, to).await?;
            let callee = self.world.node(to).ok_or_else(|| PeerError::unreachable("nobody is there"))?;
            callee.gate.pass().await;
            if !self.world.plan.is_calm && self.world.chance(2) {
                let (again, later) = (call(), self.world.draw(40));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(later)).await;
                    drop(again.await);
                });
            }
            let result = call().await;
            callee.gate.pass().await;
            self.way(to, self.from).await?;
            self.gate.pass().await;
            result
        };
        timeout(budget, trip).await.unwrap_or(Err(PeerError::Silent(budget)))
    }
}

impl PeerTransport for Wire {
    fn get<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<PeerAnswer, PeerError>> {
        Box::pin(self.through(node, request.budget, || {
            let (inner, node, request) = (self.inner.clone(), node.clone(), request.clone());
            async move { inner.get(&node, &request).await }
        }))
    }

    fn get_many<'a>(
        &'a self,
        node: &'a Node,
        batch: &'a PeerBatch,
    ) -> BoxFuture<'a, Result<Vec<PeerWord>, PeerError>> {
        Box::pin(self.through(node, batch.budget, || {
            let (inner, node, batch) = (self.inner.clone(), node.clone(), batch.clone());
            async move { inner.get_many(&node, &batch).await }
        }))
    }

    fn peek<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<Option<PeerAnswer>, PeerError>> {
        Box::pin(self.through(node, request.budget, || {
            let (inner, node, request) = (self.inner.clone(), node.clone(), request.clone());
            async move { inner.peek(&node, &request).await }
        }))
    }

    fn peek_many<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeekMany,
    ) -> BoxFuture<'a, Result<Vec<Option<PeerAnswer>>, PeerError>> {
        Box::pin(self.through(node, request.budget, || {
            let (inner, node, request) = (self.inner.clone(), node.clone(), request.clone());
            async move { inner.peek_many(&node, &request).await }
        }))
    }

    fn invalidate<'a>(
        &'a self,
        node: &'a Node,
        invalidation: &'a Invalidation,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        Box::pin(self.through(node, invalidation.budget, || {
            let (inner, node, invalidation) = (self.inner.clone(), node.clone(), invalidation.clone());
            async move { inner.invalidate(&node, &invalidation).await }
        }))
    }

    fn handover<'a>(
        &'a self,
        node: &'a Node,
        handover: &'a Handover,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        Box::pin(self.through(node, handover.budget, || {
            let (inner, node, handover) = (self.inner.clone(), node.clone(), handover.clone());
            async move { inner.handover(&node, &handover).await }
        }))
    }

    fn ping<'a>(&'a self, node: &'a Node, patience: Duration) -> BoxFuture<'a, Result<(), PeerError>> {
        Box::pin(self.through(node, patience, move || {
            let (inner, node) = (self.inner.clone(), node.clone());
            async move { inner.ping(&node, patience).await }
        }))
    }
}
