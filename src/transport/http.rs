//! The peer protocol over HTTP/1.1, on the peer plane.
//!
//! `GET /_ggcache/{group}/{key}` asks a node as owner. A value comes as 200 with the value's bytes, an absence as
//! 404; both carry [`OUTCOME`], [`AGE_MS`], [`REMAINING_MS`] and [`DIGEST`]. Any other status carries [`ERROR`], whose
//! text is an [`ErrorCode`](crate::error::ErrorCode). `GET /_ggcache.v1/ping` answers 204.
//!
//! `GET /_ggcache.v1/peek/{group}/{key}` answers in the same way what is in memory, and 204 if nothing is. `POST
//! /_ggcache.v1/invalidate` and `/_ggcache.v1/handover` take JSON (see [`message`]) and answer a number as text; `POST
//! /_ggcache.v1/peek-many` takes and answers JSON.
//!
//! A key is percent-encoded into one segment. Two keys can't be written so, since URL libraries fold the segments `.`
//! and `..` away: they are asked for as `/_ggcache/{group}/?key_b64=…`.

mod client;
mod frame;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod message;
mod service;

use http::Method;

pub use client::{HttpClientError, HttpTransport};
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::{fuzz_frames, fuzz_messages};
pub use service::PeerService;

/// Everything that the peer plane answers over HTTP. [`PeerService`] goes by this table alone, and tests walk it: what is
/// not in it is not answered, and what is in it can't be forgotten by what guards the plane.
pub const PEER_ROUTES: &[PeerRoute] = &[
    PeerRoute::below(OWNER_PATH, Asked::Owner),
    PeerRoute::at(PING_PATH, Method::GET, Asked::Ping),
    PeerRoute::below(PEEK_PATH, Asked::Peek),
    PeerRoute::at(PEEK_MANY_PATH, Method::POST, Asked::Message(Message::PeekMany)),
    PeerRoute::at(BATCH_PATH, Method::POST, Asked::Message(Message::Batch)),
    PeerRoute::at(INVALIDATE_PATH, Method::POST, Asked::Message(Message::Invalidate)),
    PeerRoute::at(HANDOVER_PATH, Method::POST, Asked::Message(Message::Handover)),
];

/// What is answered at a path of the peer plane.
#[derive(Debug)]
pub struct PeerRoute {
    /// The path; where a key is read, what stands before the group and the key.
    pub path: &'static str,
    /// The method.
    pub method: Method,
    /// Whether a group and a key follow the path.
    pub names_key: bool,
    asked: Asked,
}

/// What a request wants.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Owner,
    Peek,
    Ping,
    Message(Message),
}

/// A request with a body.
#[derive(Clone, Copy, Debug)]
enum Message {
    PeekMany,
    Batch,
    Invalidate,
    Handover,
}

impl PeerRoute {
    const fn at(path: &'static str, method: Method, asked: Asked) -> Self {
        Self { path, method, names_key: false, asked }
    }

    const fn below(path: &'static str, asked: Asked) -> Self {
        Self { path, method: Method::GET, names_key: true, asked }
    }

    /// The route of a request's path, and what follows it there.
    fn of(path: &str) -> Option<(&'static Self, &str)> {
        PEER_ROUTES.iter().find_map(|route| {
            let rest = path.strip_prefix(route.path)?;
            (route.names_key || rest.is_empty()).then_some((route, rest))
        })
    }
}

/// Where a node is asked as owner; group and key follow.
const OWNER_PATH: &str = "/_ggcache/";
/// Where a node gives a sign of life.
const PING_PATH: &str = "/_ggcache.v1/ping";

/// Where a node is asked for what it has in memory; group and key follow.
const PEEK_PATH: &str = "/_ggcache.v1/peek/";
/// Where a node is asked for what it has of several keys in memory.
const PEEK_MANY_PATH: &str = "/_ggcache.v1/peek-many";
/// Where a node is asked as owner for several keys; see [`frame`].
const BATCH_PATH: &str = "/_ggcache.v1/batch";
/// Where keys are dropped.
const INVALIDATE_PATH: &str = "/_ggcache.v1/invalidate";
/// Where a leaving node names keys.
const HANDOVER_PATH: &str = "/_ggcache.v1/handover";
/// The largest body of a request: a message with all the keys that it may name, at their longest, and some room.
const BODY_BYTES_MAX: usize = 2 << 20;

/// On requests: the epoch of the caller's view, 16 hex digits.
const EPOCH: &str = "ggcache-epoch";
/// On requests: how long the callee may take, in milliseconds.
const BUDGET_MS: &str = "ggcache-budget-ms";
/// On requests: `1` if the callee is to load the key whatever it has in memory.
const FRESH: &str = "ggcache-fresh";
/// On requests: up to where the callee must have applied the log of changes, as a position is written.
const NEED: &str = "ggcache-need";
/// On answers: up to where the callee had applied it before it looked.
const CURSOR: &str = "ggcache-cursor";
/// On both: the digest of the group's definition, 16 hex digits.
const DIGEST: &str = "ggcache-digest";
/// On answers: where the callee had the answer from.
const OUTCOME: &str = "ggcache-outcome";
/// On answers: how long it may still be served, in whole milliseconds, rounded down.
const REMAINING_MS: &str = "ggcache-remaining-ms";
/// On answers: how old it may be, in whole milliseconds, rounded up.
const AGE_MS: &str = "ggcache-age-ms";
/// On errors: the code.
const ERROR: &str = "ggcache-error";
