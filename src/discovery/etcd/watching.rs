//! Reads who is registered: a list at one revision, then every change from the next one on, so that none is missed.
//!
//! Whatever ends the changes (a broken connection, a silence, a compaction, a member without a leader) is answered in
//! one way: list again, watch again. That is always right, and an etcd that lost its data shows itself only so: it
//! would accept a watch from a revision that it has not reached, and say nothing for a long time.

use std::{sync::Arc, time::Duration};

use etcd_client::{GetOptions, KeyValue, WatchOptions, WatchStream};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    backoff::Backoff,
    client::{CALL_TIMEOUT, EtcdError},
    members::{Members, Notice, Raw},
    shared::{Registration, Shared},
};
use crate::telemetry::field;

/// Entries in one answer to a list. Even if each is as large as etcd allows, an answer can be held.
const PAGE: usize = 500;
/// The largest answer, in bytes; tonic's own limit is 4 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The most entries that are listed; a few more than are kept, so that their excess is noticed.
const ENTRIES_MAX: usize = 10_500;
/// After so long without a word the member is asked for one.
const SILENCE: Duration = Duration::from_secs(1);
/// A watch that lasted so long was a good one: the next attempt is made at once.
const GOOD_WATCH: Duration = Duration::from_secs(1);
/// Complaints about entries of one list that are logged.
const COMPLAINTS_MAX: usize = 20;

/// What etcd says, for the reporter to look at.
pub(super) struct Board {
    members: Mutex<Members>,
    is_listed: std::sync::atomic::AtomicBool,
    changed: Notify,
}

impl Board {
    pub(super) fn new(members: Members) -> Self {
        Self { members: Mutex::new(members), is_listed: false.into(), changed: Notify::new() }
    }

    /// Whether there was a list.
    pub(super) fn is_listed(&self) -> bool {
        self.is_listed.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Ends when something has changed since it last ended.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks at the members, or changes them.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Members) -> T) -> T {
        look(&mut self.members.lock())
    }
}

/// Keeps `board` in step with etcd, for ever.
pub(super) async fn run(shared: &Shared, board: &Arc<Board>) {
    let mut backoff = Backoff::new();
    loop {
        match list(shared).await {
            Ok((revision, entries)) => {
                shared.in_reach();
                let notices = board.with(|members| members.list(revision, entries, Instant::now()));
                tell_list(notices);
                board.is_listed.store(true, std::sync::atomic::Ordering::Release);
                after_change(shared, board);
                let begun = Instant::now();
                let ended = watch(shared, board, revision + 1).await;
                tracing::debug!(
                    reason = ended.reason,
                    error = ended.error.as_ref().map(|error| error as &dyn std::error::Error),
                    "the watch in etcd ended; listing again"
                );
                if begun.elapsed() >= GOOD_WATCH {
                    backoff.reset();
                }
            }
            Err(error) => shared.out_of_reach(&error),
        }
        sleep(backoff.next()).await;
    }
}

/// All entries, as of one revision.
async fn list(shared: &Shared) -> Result<(i64, Vec<Raw>), EtcdError> {
    let mut entries: Vec<Raw> = Vec::new();
    let mut from = shared.prefix().to_vec();
    let end = prefix_end(shared.prefix());
    let mut revision = 0;
    loop {
        let answer = shared
            .etcd()
            .call(|client| {
                let page = GetOptions::new().with_range(end.clone()).with_limit(PAGE as i64);
                // 0 is the newest; further pages are of the same revision as the first.
                let (from, page) = (from.clone(), page.with_revision(revision));
                let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
                async move { kv.get(from, Some(page)).await }
            })
            .await;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(error),
        };
        if revision == 0 {
            revision = answer.header().map_or(0, |header| header.revision());
        }
        let has_more = answer.more();
        entries.extend(answer.take_kvs().into_iter().map(raw));
        match entries.last() {
            Some(last) if has_more && entries.len() < ENTRIES_MAX => {
                from.clone_from(&last.key);
                from.push(0);
            }
            _ => return Ok((revision, entries)),
        }
    }
}

fn raw(entry: KeyValue) -> Raw {
    let (create_revision, mod_revision) = (entry.create_revision(), entry.mod_revision());
    let (key, value) = entry.into_key_value();
    Raw { key, value, create_revision, mod_revision }
}

/// The first key that does not begin with `prefix`, which ends with a slash.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// Why a watch ended.
struct Ended {
    reason: &'static str,
    error: Option<EtcdErrorOrStatus>,
}

/// The error of a request or of a stream.
#[derive(Debug, thiserror::Error)]
enum EtcdErrorOrStatus {
    #[error(transparent)]
    Request(EtcdError),
    #[error(transparent)]
    Stream(etcd_client::Error),
}

/// Takes in changes until there is no telling whether any are missing.
async fn watch(shared: &Shared, board: &Board, revision: i64) -> Ended {
    let opened = shared
        .etcd()
        .call_for(CALL_TIMEOUT, |client| {
            let options =
                WatchOptions::new().with_range(prefix_end(shared.prefix())).with_start_revision(revision);
            let mut watcher = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            async move { watcher.watch(shared.prefix(), Some(options)).await }
        })
        .await;
    let (stream, source) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return Ended { reason: "it could not begin", error: Some(EtcdErrorOrStatus::Request(error)) };
        }
    };
    let (ended, is_members_fault) = take_in(shared, board, stream).await;
    if is_members_fault {
        shared.etcd().blame(source);
    }
    ended
}

/// The second part of the answer: whether another member may do better.
async fn take_in(shared: &Shared, board: &Board, mut stream: WatchStream) -> (Ended, bool) {
    let end = |reason| Ended { reason, error: None };
    let mut was_asked = false;
    loop {
        let message = match timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return (end("the stream ended"), true),
            Ok(Err(error)) => {
                return (
                    Ended { reason: "the stream broke", error: Some(EtcdErrorOrStatus::Stream(error)) },
                    true,
                );
            }
            Err(_) if was_asked => return (end("the member is silent"), true),
            Err(_) => {
                // A connection may look well while the member is stopped. The answer also keeps etcd from taking
                // our pings for too many.
                if timeout(SILENCE, stream.request_progress()).await.is_err() {
                    return (end("the member takes no request"), true);
                }
                was_asked = true;
                continue;
            }
        };
        was_asked = false;
        if message.canceled() {
            let reason =
                if message.compact_revision() > 0 { "the revision is compacted" } else { "it was cancelled" };
            return (end(reason), message.compact_revision() == 0);
        }
        if message.events().is_empty() {
            continue;
        }
        let notices = board.with(|members| {
            let apply = |event: &etcd_client::Event| {
                let entry = event.kv()?;
                // etcd-client panics on a kind of event that it does not know; only a deleted entry has version 0.
                if entry.version() == 0 {
                    members.delete(entry.key(), entry.mod_revision())
                } else {
                    members.put(raw(entry.clone()))
                }
            };
            message.events().iter().filter_map(apply).collect::<Vec<_>>()
        });
        notices.into_iter().for_each(tell);
        after_change(shared, board);
    }
}

/// What follows from a change: the reporter looks at it, and a missing entry of our own is written again.
fn after_change(shared: &Shared, board: &Board) {
    let foreign = board.with(|members| members.foreign());
    shared.set_foreign(foreign);
    if let Registration::Registered { revision } = *shared.registration().borrow()
        && !board.with(|members| members.holds_mine(revision))
    {
        shared.write_entry_again();
    }
    board.changed.notify_one();
}

/// Logs what a list brought: changes of members in one line, and only the first complaints.
fn tell_list(notices: Vec<Notice>) {
    let count = |is: fn(&Notice) -> bool| notices.iter().filter(|notice| is(notice)).count();
    let (joined, left, kept) = (
        count(|notice| matches!(notice, Notice::Joined(_))),
        count(|notice| matches!(notice, Notice::Left(_))),
        count(|notice| matches!(notice, Notice::Kept(_))),
    );
    if joined + left > 0 {
        tracing::info!(joined, left, "listed the nodes in etcd");
    }
    if kept > 0 {
        tracing::warn!(kept, "etcd lacks nodes that it did not delete; they stay for a while");
    }
    let complaint =
        |notice: &Notice| matches!(notice, Notice::Foreign { .. } | Notice::Refused { .. } | Notice::TooMany);
    let mut complaints: Vec<_> = notices.into_iter().filter(complaint).collect();
    let silent = complaints.len().saturating_sub(COMPLAINTS_MAX);
    complaints.truncate(COMPLAINTS_MAX);
    complaints.into_iter().for_each(tell);
    if silent > 0 {
        tracing::warn!(more = silent, "and more entries in etcd that are not nodes");
    }
}

/// Logs one notice.
pub(super) fn tell(notice: Notice) {
    match notice {
        Notice::Joined(address) => tracing::info!({ field::PEER } = %address, "a node joined"),
        Notice::Left(address) => tracing::info!({ field::PEER } = %address, "a node left"),
        Notice::Kept(address) => {
            tracing::warn!({ field::PEER } = %address, "etcd lacks a node that it did not delete; it stays for a while");
        }
        Notice::Foreign { key, address } => tracing::warn!(
            entry = key,
            address,
            "an entry in etcd is not a node's; it is listed, and never asked for a key"
        ),
        Notice::Refused { key, error } => tracing::warn!(
            entry = key,
            error = &error as &dyn std::error::Error,
            "an entry in etcd is skipped"
        ),
        Notice::TooMany => {
            tracing::warn!("etcd holds too many entries under the service; the last ones are skipped")
        }
    }
}
