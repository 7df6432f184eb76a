//! The callee's side: whether a request is sealed by somebody who knows the secret, for this node, now, and for the
//! first time.
//!
//! *Replays.* Each sender has a [`Window`] of the numbers that it has used. It is made for senders only whose seal is
//! right, so that a stranger takes no memory; there are [`SENDERS_MAX`] at most. A sender makes room for another once the
//! latest of its messages is older than [`SKEW_MAX`]: any of them would be refused for its time. And that holds
//! if this node's clock is set back too: `floor_ms` keeps the latest time of all that was forgotten, and whoever is new must
//! be later than it. It begins at the node's start, so that what was seen by an earlier process is refused as well.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use ring::hmac;
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;

use super::{
    DIGEST_BYTES, Head, SEAL, Secrets, Stamp, body_digest, canonical,
    window::{Refused, WINDOW, Window},
};
use crate::error::ErrorCode;

/// How far two nodes' clocks may differ, with the time that a request is under way.
const SKEW_MAX: Duration = Duration::from_secs(30);
pub(super) const SKEW_MS_MAX: u64 = SKEW_MAX.as_millis() as u64;
/// Senders that are remembered: 8 MiB. A process that starts anew is another sender.
pub(super) const SENDERS_MAX: usize = 1_024;

/// Why a request of another node is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    #[error("this node answers other nodes that share its secret (node.secret), and the request has no seal")]
    Missing,
    #[error("the seal is not understood; the nodes may be of different versions")]
    Malformed,
    #[error(
        "the seal is not right: the nodes have different secrets (node.secret), the request is for another node than \
         {0}, or it was changed on its way"
    )]
    Wrong(String),
    #[error("the body is not the one that was sealed")]
    Body,
    #[error(
        "the nodes' clocks differ: the request was sealed {} ms {}, and {} ms are allowed",
        .0.unsigned_abs(), if *.0 < 0 { "ago" } else { "ahead of this node's time" }, SKEW_MS_MAX
    )]
    Clock(i64),
    #[error("the request was answered before")]
    Replayed,
    #[error(
        "the request was overtaken by more than {WINDOW} others, and may be one that was answered before"
    )]
    Overtaken,
    #[error(
        "the request was sealed before this node started, or before it forgot the sender; it may be one that was \
         answered before"
    )]
    Forgotten,
    #[error(
        "this node remembers {SENDERS_MAX} senders at most, and all have sent within the last {SKEW_MAX:?}"
    )]
    Senders,
}

impl SealError {
    /// The code to answer with: it is not known who asks.
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::Unauthenticated
    }
}

/// The digest that a request's body must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the body is not looked at yet"]
pub struct BodyDigest(Option<[u8; DIGEST_BYTES]>);

impl BodyDigest {
    /// Whether this is the body that was sealed; an empty one may be sealed as none.
    ///
    /// # Errors
    /// If it is another.
    pub fn check(self, body: &[u8]) -> Result<(), SealError> {
        // No secret is compared: the digest was sent along.
        let right = self.0.map_or_else(|| body.is_empty(), |digest| digest == body_digest(body));
        if right { Ok(()) } else { Err(SealError::Body) }
    }
}

/// Verifies what one node is asked by others.
pub struct Verifier {
    keys: Vec<hmac::Key>,
    /// The address that this node advertises.
    me: String,
    senders: Mutex<Senders>,
}

impl Verifier {
    /// A verifier of what is sealed under any of `secrets` for the node that advertises `me`. `started_ms` is the Unix time
    /// at which this node began to listen.
    pub fn new(secrets: &Secrets, me: &str, started_ms: u64) -> Self {
        Self {
            keys: secrets.accepted().map(super::PeerSecret::key).collect(),
            me: me.to_owned(),
            senders: Mutex::new(Senders { known: HashMap::new(), floor_ms: started_ms }),
        }
    }

    /// Lets a request's head in, once; `now_ms` is Unix time. Its body is to be compared with what comes back, before
    /// anything is done of what it says.
    ///
    /// # Errors
    /// Why it is refused. The order is: the form, the code, the time, and whether it was there before; so only who knows
    /// the secret learns of clocks, and takes memory.
    pub fn verify(&self, head: &Head<'_>, now_ms: u64) -> Result<BodyDigest, SealError> {
        let mut seals = head.headers.get_all(SEAL).iter();
        let seal = seals.next().ok_or(SealError::Missing)?;
        let (stamp, code) = match seals.next() {
            None => Stamp::read(seal.as_bytes()).ok_or(SealError::Malformed)?,
            Some(_) => return Err(SealError::Malformed),
        };
        let right = self.keys.iter().fold(Choice::from(0), |right, key| {
            right | canonical(key, head, &self.me, &stamp).as_ref().ct_eq(&code)
        });
        if !bool::from(right) {
            return Err(SealError::Wrong(self.me.clone()));
        }
        if stamp.time_ms.abs_diff(now_ms) > SKEW_MS_MAX {
            let ahead = i128::from(stamp.time_ms) - i128::from(now_ms);
            let clamped = ahead.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
            return Err(SealError::Clock(clamped as i64));
        }
        self.senders.lock().let_in(&stamp, now_ms)?;
        Ok(BodyDigest(stamp.body))
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("me", &self.me).finish_non_exhaustive()
    }
}

struct Senders {
    known: HashMap<u64, Sender>,
    /// Who is not known must be later than this.
    floor_ms: u64,
}

struct Sender {
    window: Window,
    /// The latest time of its messages.
    latest_ms: u64,
    /// What was the floor when it became known: its earlier messages may have been forgotten with what was before.
    floor_ms: u64,
}

impl Senders {
    fn let_in(&mut self, stamp: &Stamp, now_ms: u64) -> Result<(), SealError> {
        if let Some(sender) = self.known.get_mut(&stamp.sender) {
            if stamp.time_ms <= sender.floor_ms {
                return Err(SealError::Forgotten);
            }
            sender.window.let_in(stamp.number).map_err(|refused| match refused {
                Refused::Seen => SealError::Replayed,
                Refused::TooOld => SealError::Overtaken,
            })?;
            sender.latest_ms = sender.latest_ms.max(stamp.time_ms);
            return Ok(());
        }
        if self.known.len() >= SENDERS_MAX {
            self.make_room(now_ms)?;
        }
        if stamp.time_ms <= self.floor_ms {
            return Err(SealError::Forgotten);
        }
        let sender =
            Sender { window: Window::new(stamp.number), latest_ms: stamp.time_ms, floor_ms: self.floor_ms };
        self.known.insert(stamp.sender, sender);
        Ok(())
    }

    /// Forgets everybody whose messages are all too old to be let in again.
    fn make_room(&mut self, now_ms: u64) -> Result<(), SealError> {
        let oldest_ms = now_ms.saturating_sub(SKEW_MS_MAX);
        let floor_ms = &mut self.floor_ms;
        self.known.retain(|_, sender| {
            let kept = sender.latest_ms >= oldest_ms;
            if !kept {
                *floor_ms = (*floor_ms).max(sender.latest_ms);
            }
            kept
        });
        if self.known.len() < SENDERS_MAX { Ok(()) } else { Err(SealError::Senders) }
    }
}

#[cfg(test)]
impl Verifier {
    /// How many senders are remembered.
    pub(super) fn senders(&self) -> usize {
        self.senders.lock().known.len()
    }
}
