//! Who is registered under a service, for those who only want to know: nothing is written, nobody is judged.
//!
//! A list is read, then a watch from the next revision on wakes the reader up, and the list is read again: a client
//! needs no more than that. While etcd is out of reach the last list stays.

use std::time::Duration;

use etcd_client::{GetOptions, WatchOptions};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    backoff::Backoff,
    client::{CALL_TIMEOUT, Etcd, EtcdError, EtcdSetupError},
    entry::{self, Entry},
};
use crate::{cluster::Address, discovery::EtcdConfig};

/// The most entries that are read.
const ENTRIES_MAX: i64 = 10_000;
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// After so long without a word the member is asked for one, and given as long again.
const SILENCE: Duration = Duration::from_secs(1);
/// After the first change of many, so that a burst is one list.
const COALESCE: Duration = Duration::from_millis(20);

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it serves the service `GGroupCache` over gRPC.
    pub address: Address,
    /// Where it serves the HTTP API, as it says; `None` if it doesn't, or is not one of ours.
    pub api: Option<String>,
}

/// Reads who is registered.
#[derive(Debug)]
pub struct EtcdListing {
    etcd: Etcd,
    prefix: Vec<u8>,
}

impl EtcdListing {
    /// A reader of what is registered under `service`. Reads the files that `etcd` names, and connects to nothing.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn new(etcd: &EtcdConfig, service: &str) -> Result<Self, EtcdSetupError> {
        Ok(Self { etcd: Etcd::new(etcd)?, prefix: format!("{service}/").into_bytes() })
    }

    /// Keeps `list` in step with etcd, until nobody listens any more. An entry that can't be understood is left out.
    pub async fn run(self, list: watch::Sender<Vec<Listed>>) {
        tokio::select! {
            () = list.closed() => {}
            () = self.follow(&list) => {}
        }
    }

    async fn follow(&self, list: &watch::Sender<Vec<Listed>>) {
        let mut backoff = Backoff::new();
        loop {
            match self.read().await {
                Ok((revision, listed)) => {
                    list.send_if_modified(|known| {
                        let is_new = *known != listed;
                        *known = listed;
                        is_new
                    });
                    match self.changed(revision + 1).await {
                        Ok(()) => {
                            backoff.reset();
                            sleep(COALESCE).await;
                            continue;
                        }
                        Err(error) => tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "a watch in etcd ended; listing again"
                        ),
                    }
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the nodes can't be listed in etcd; those that are known are asked still"
                ),
            }
            sleep(backoff.next()).await;
        }
    }

    /// All entries, and the revision of the list.
    async fn read(&self) -> Result<(i64, Vec<Listed>), EtcdError> {
        let answer = self.etcd.call(|client| {
            // Whichever member answers, without asking the others: a client needs the nodes in an election too, and the
            // watch tells it what the member had not heard of.
            let options = GetOptions::new().with_prefix().with_limit(ENTRIES_MAX).with_serializable();
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            let prefix = self.prefix.clone();
            async move { kv.get(prefix, Some(options)).await }
        });
        let answer = answer.await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let listed = answer.kvs().iter().filter_map(|entry| {
            match entry::parse(&self.prefix, entry.key(), entry.value()).ok()? {
                Entry::Node(node) => Some(Listed { address: node.address, api: node.api }),
                Entry::Foreign(address) => Some(Listed { address: Address::new(&address).ok()?, api: None }),
            }
        });
        Ok((revision, listed.collect()))
    }

    /// Waits for a change from `revision` on. An `Ok` may also mean that there is no telling.
    async fn changed(&self, revision: i64) -> Result<(), EtcdError> {
        let opened = self.etcd.call_for(CALL_TIMEOUT, |client| {
            let options = WatchOptions::new().with_prefix().with_start_revision(revision);
            let mut watcher = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            let prefix = self.prefix.clone();
            async move { watcher.watch(prefix, Some(options)).await }
        });
        let (mut stream, source) = opened.await?;
        let mut was_asked = false;
        loop {
            match timeout(SILENCE, stream.message()).await {
                // Compacted, or cancelled for another reason: the next list tells.
                Ok(Ok(Some(message))) if message.canceled() || !message.events().is_empty() => return Ok(()),
                Ok(Ok(Some(_))) => was_asked = false,
                Ok(Ok(None) | Err(_)) => break,
                Err(_) if was_asked => break,
                Err(_) => {
                    if timeout(SILENCE, stream.request_progress()).await.is_err() {
                        break;
                    }
                    was_asked = true;
                }
            }
        }
        self.etcd.blame(source);
        Ok(())
    }
}
