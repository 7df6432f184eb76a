//! Members from a list that the configuration, or an embedding program, gives.

use tokio::sync::{mpsc, watch};

use super::{Discovery, DiscoveryError};
use crate::{
    cluster::{Address, Node},
    group::BoxFuture,
};

/// A list of members. It changes when its [`StaticListHandle`] is told so.
#[derive(Debug)]
pub struct StaticList {
    members: watch::Receiver<Vec<Address>>,
}

/// Changes a [`StaticList`] that is in use. While no handle is left, the list stays as it is.
#[derive(Clone, Debug)]
pub struct StaticListHandle(watch::Sender<Vec<Address>>);

impl StaticList {
    /// A list of `members`; the node itself may be among them.
    pub fn new(members: Vec<Address>) -> (Self, StaticListHandle) {
        let (sender, receiver) = watch::channel(members);
        (Self { members: receiver }, StaticListHandle(sender))
    }
}

impl StaticListHandle {
    /// Replaces the list.
    pub fn set(&self, members: Vec<Address>) {
        self.0.send_replace(members);
    }
}

impl Discovery for StaticList {
    fn run(
        mut self: Box<Self>,
        reports: mpsc::Sender<Vec<Node>>,
    ) -> BoxFuture<'static, Result<(), DiscoveryError>> {
        Box::pin(async move {
            loop {
                let members = self.members.borrow_and_update().iter().cloned().map(Node::new).collect();
                if reports.send(members).await.is_err() {
                    return Ok(());
                }
                if self.members.changed().await.is_err() {
                    // No handle is left: the list is final.
                    reports.closed().await;
                    return Ok(());
                }
            }
        })
    }
}
