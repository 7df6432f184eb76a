//! Nodes in one process that speak to each other by function calls, with faults on request.
//!
//! For tests and simulations: it keeps the semantics of a network (a deadline, a lost answer, a node that is
//! silent) and obeys tokio's clock, paused or not.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::callee::{Callee, CalleeError, How};
use crate::{
    cluster::{Address, Node, View, ViewCell},
    group::{
        BoxFuture, Groups, Handover, Invalidation, PeekMany, PeerAnswer, PeerBatch, PeerError, PeerRequest,
        PeerTransport, PeerWord,
    },
    telemetry::NodeMetrics,
};

/// What is wrong on the way from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Connections are refused.
    Refuse,
    /// Requests arrive nowhere, and nothing comes back.
    Silence,
    /// The request is carried out, and the answer is lost with the connection.
    LoseAnswer,
    /// Each way takes this long.
    Delay(Duration),
}

/// Who is reachable, and what is wrong between whom.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork(Arc<Mutex<Wires>>);

#[derive(Debug, Default)]
struct Wires {
    nodes: HashMap<Address, Weak<Groups>>,
    faults: HashMap<(Address, Address), Fault>,
    requests: u64,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `groups` answer at `address`.
    pub fn attach(&self, address: &Address, groups: &Arc<Groups>) {
        self.0.lock().nodes.insert(address.clone(), Arc::downgrade(groups));
    }

    /// Takes the node at `address` away, as a crash does.
    pub fn detach(&self, address: &Address) {
        self.0.lock().nodes.remove(address);
    }

    /// Sets or mends what is wrong on the way from `from` to `to`.
    pub fn fault(&self, from: &Address, to: &Address, fault: Option<Fault>) {
        let wire = (from.clone(), to.clone());
        let mut wires = self.0.lock();
        match fault {
            Some(fault) => wires.faults.insert(wire, fault),
            None => wires.faults.remove(&wire),
        };
    }

    /// Requests that were sent so far, those included that did not arrive.
    pub fn requests(&self) -> u64 {
        self.0.lock().requests
    }

    /// The transport of the node at `address`.
    pub fn transport(&self, address: &Address) -> MemoryTransport {
        MemoryTransport { network: self.clone(), from: address.clone(), metrics: NodeMetrics::new() }
    }

    fn wire(&self, from: &Address, to: &Address) -> (Option<Arc<Groups>>, Option<Fault>) {
        let mut wires = self.0.lock();
        wires.requests += 1;
        let fault = wires.faults.get(&(from.clone(), to.clone())).copied();
        (wires.nodes.get(to).and_then(Weak::upgrade), fault)
    }
}

/// One node's end of a [`MemoryNetwork`].
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    from: Address,
    /// What callees count, which nobody reads.
    metrics: NodeMetrics,
}

impl MemoryTransport {
    /// The way there: the callee, and the delay of the way back.
    async fn travel(&self, to: &Node) -> Result<(Arc<Groups>, Option<Fault>), PeerError> {
        let (groups, fault) = self.network.wire(&self.from, &to.address);
        match fault {
            Some(Fault::Refuse) => return Err(PeerError::unreachable("refused")),
            Some(Fault::Silence) => std::future::pending::<()>().await,
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::LoseAnswer) | None => {}
        }
        let groups = groups.ok_or_else(|| PeerError::unreachable("nobody listens there"))?;
        Ok((groups, fault))
    }

    async fn back(&self, fault: Option<Fault>) -> Result<(), PeerError> {
        match fault {
            Some(Fault::LoseAnswer) => return Err(PeerError::unreachable("the connection broke")),
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        Ok(())
    }

    /// Carries a request out at the callee, which goes on with it when the caller hangs up.
    async fn carry<T, F>(
        &self,
        node: &Node,
        budget: Duration,
        work: impl FnOnce(Callee) -> F,
    ) -> Result<T, PeerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CalleeError>> + Send + 'static,
    {
        let there_and_back = async {
            let (groups, fault) = self.travel(node).await?;
            let views = Arc::new(ViewCell::new(View::new(node.clone(), [], 1)));
            let callee = Callee::new(groups, views, self.metrics.clone(), Duration::MAX);
            let result = tokio::spawn(work(callee)).await.map_err(PeerError::unreachable)?;
            self.back(fault).await?;
            result.map_err(|error| PeerError::Refused(error.code))
        };
        tokio::time::timeout(budget, there_and_back).await.unwrap_or(Err(PeerError::Silent(budget)))
    }
}

impl PeerTransport for MemoryTransport {
    fn get<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<PeerAnswer, PeerError>> {
        let PeerRequest { group, key, budget, is_fresh, need, .. } = request.clone();
        let work = move |callee: Callee| async move {
            callee.get(group.as_str(), key.as_bytes(), Some(budget), None, How::new(is_fresh, need)).await
        };
        Box::pin(self.carry(node, budget, work))
    }

    fn get_many<'a>(
        &'a self,
        node: &'a Node,
        batch: &'a PeerBatch,
    ) -> BoxFuture<'a, Result<Vec<PeerWord>, PeerError>> {
        let PeerBatch { group, keys, budget, only_cached, epoch, need, .. } = batch.clone();
        let work = move |callee: Callee| async move {
            let epoch = epoch.to_string();
            let told = callee.get_many(group.as_str(), &keys, only_cached, need, budget, &epoch).await;
            told.map(|told| told.words)
        };
        Box::pin(self.carry(node, budget, work))
    }

    fn peek<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<Option<PeerAnswer>, PeerError>> {
        let PeerRequest { group, key, budget, .. } = request.clone();
        let work = move |callee: Callee| async move { callee.peek(group.as_str(), key.as_bytes()) };
        Box::pin(self.carry(node, budget, work))
    }

    fn peek_many<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeekMany,
    ) -> BoxFuture<'a, Result<Vec<Option<PeerAnswer>>, PeerError>> {
        let PeekMany { group, keys, budget } = request.clone();
        let work = move |callee: Callee| async move { callee.peek_many(group.as_str(), &keys) };
        Box::pin(self.carry(node, budget, work))
    }

    fn invalidate<'a>(
        &'a self,
        node: &'a Node,
        invalidation: &'a Invalidation,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        let message = invalidation.clone();
        let work = move |callee: Callee| async move { callee.invalidate(&message).await };
        Box::pin(self.carry(node, invalidation.budget, work))
    }

    fn handover<'a>(
        &'a self,
        node: &'a Node,
        handover: &'a Handover,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        let message = handover.clone();
        let work = move |callee: Callee| async move { callee.handover(message).await };
        Box::pin(self.carry(node, handover.budget, work))
    }

    fn ping<'a>(&'a self, node: &'a Node, patience: Duration) -> BoxFuture<'a, Result<(), PeerError>> {
        Box::pin(async move {
            let there_and_back = async {
                let (_, fault) = self.travel(node).await?;
                self.back(fault).await
            };
            tokio::time::timeout(patience, there_and_back).await.unwrap_or(Err(PeerError::Silent(patience)))
        })
    }
}
