//! The seal on what nodes ask each other, where they share a secret.
//!
//! A request carries one header more:
//!
//! ```text
//! ggcache-seal: v1 t=1760000000000,s=00112233445566aa,n=42,b=<43 characters>,m=<43 characters>
//! ```
//!
//! - `t` is when it was sealed, in milliseconds of Unix time; `s` who sent it, a number that each process draws; `n` counts
//!   what this sender has sealed for this callee; `b` is the SHA-256 of the body, left out where there is none.
//! - `m` is the HMAC-SHA-256 (RFC 2104) under the secret of [the canonical text](canonical): method, path and query
//!   as sent, the callee's advertised address, the four above, and every other header that begins with `ggcache-`, by name.
//!   Each field has its length before it, so that no two requests have one text.
//!
//! Since the body's digest is in the head, a stranger is refused before a byte of a body is read. The callee's address
//! makes a message for one node worthless at another, and [`Verifier`] lets each message in once.
//!
//! What the seal does not do: it hides nothing, and answers carry none. Who can change what is under way between nodes
//! can read it, and answer in a node's place; that is what TLS is for.

mod config;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod verifier;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

use crate::codec::{base64url_decode, base64url_encode};

pub use config::{PeerSecret, SealConfig, Secrets, SecretsError};
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz_seal;
pub use verifier::{BodyDigest, SealError, Verifier};

/// The header's name.
pub const SEAL: &str = "ggcache-seal";
/// What the canonical text begins with: another version, or another use of the secret, gives another code.
const CONTEXT: &[u8] = b"ggcache-seal v1";
const VERSION: &str = "v1 ";
/// The longest header that is looked at, in bytes; what [`Stamp::write`] makes is shorter.
const SEAL_BYTES_MAX: usize = 256;
/// What the request headers that carry meaning begin with. All are sealed, so that a node understands the seal of a newer
/// one, whose headers it does not know.
const HEADERS: &str = "ggcache-";
const DIGEST_BYTES: usize = 32;

/// What of a request is sealed beside its body.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The path and query as they are sent.
    pub target: &'a str,
    /// All headers, of which some are sealed.
    pub headers: &'a HeaderMap,
}

/// What a seal says, beside its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    time_ms: u64,
    sender: u64,
    number: u64,
    body: Option<[u8; DIGEST_BYTES]>,
}

impl Stamp {
    fn write(&self, code: &[u8]) -> String {
        let body = self.body.map_or_else(String::new, |body| format!(",b={}", base64url_encode(&body)));
        let Self { time_ms, sender, number, .. } = self;
        format!("{VERSION}t={time_ms},s={sender:016x},n={number}{body},m={}", base64url_encode(code))
    }

    /// Reads a header's value; what it says, and its code.
    fn read(text: &[u8]) -> Option<(Self, [u8; DIGEST_BYTES])> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= SEAL_BYTES_MAX)?;
        let mut fields = text.strip_prefix(VERSION)?.split(',');
        let mut field = |name: &str| fields.next()?.strip_prefix(name);
        let (time, sender, number, rest) = (field("t=")?, field("s=")?, field("n=")?, fields.next()?);
        let (body, code) = match rest.strip_prefix("b=") {
            Some(body) => (Some(binary(body)?), fields.next()?.strip_prefix("m=")?),
            None => (None, rest.strip_prefix("m=")?),
        };
        let stamp = Self {
            time_ms: time.parse().ok()?,
            sender: u64::from_str_radix(sender, 16).ok()?,
            number: number.parse().ok()?,
            body,
        };
        fields.next().is_none().then_some((stamp, binary(code)?))
    }
}

fn binary(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    base64url_decode(text.as_bytes()).ok()?.try_into().ok()
}

fn body_digest(body: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut bytes = [0; DIGEST_BYTES];
    bytes.copy_from_slice(digest(&SHA256, body).as_ref());
    bytes
}

/// The code of a request's canonical text.
fn canonical(key: &hmac::Key, head: &Head<'_>, callee: &str, stamp: &Stamp) -> hmac::Tag {
    let mut text = hmac::Context::with_key(key);
    let mut field = |bytes: &[u8]| {
        text.update(&(bytes.len() as u64).to_be_bytes());
        text.update(bytes);
    };
    field(CONTEXT);
    field(head.method.as_bytes());
    field(head.target.as_bytes());
    field(callee.as_bytes());
    field(&stamp.sender.to_be_bytes());
    field(&stamp.number.to_be_bytes());
    field(&stamp.time_ms.to_be_bytes());
    // No body and an empty one are told apart by the field's length.
    field(stamp.body.as_ref().map_or(&[], |digest| digest));
    let ours = |(name, _): &(&HeaderName, _)| name.as_str().starts_with(HEADERS) && *name != SEAL;
    let mut headers: Vec<_> = head.headers.iter().filter(ours).collect();
    // Values of one name keep their order, which means something; that of names does not.
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        field(name.as_str().as_bytes());
        field(value.as_bytes());
    }
    text.sign()
}

/// Different callees share a count only if their hashes agree, which does no harm: numbers may be left out.
const COUNTS: usize = 64;

/// Seals what one process asks of others.
pub struct Sealer {
    key: hmac::Key,
    sender: u64,
    counts: [AtomicU64; COUNTS],
}

impl Sealer {
    /// A sealer under the first of `secrets`, with a number of its own as sender: a process that starts anew counts anew.
    ///
    /// # Errors
    /// If the system gives no random number.
    pub fn new(secrets: &Secrets) -> Result<Self, SecretsError> {
        let mut sender = [0; 8];
        SystemRandom::new().fill(&mut sender).map_err(|_| SecretsError::Random)?;
        Ok(Self::with_sender(secrets, u64::from_ne_bytes(sender)))
    }

    fn with_sender(secrets: &Secrets, sender: u64) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(1));
        Self { key: secrets.current().key(), sender, counts }
    }

    /// The value of [`SEAL`] for a request to the node that advertises the address `callee`. Each is good for one
    /// request. `now_ms` is Unix time.
    pub fn seal(&self, head: &Head<'_>, body: Option<&[u8]>, callee: &str, now_ms: u64) -> HeaderValue {
        // Counted for each callee, since it remembers some numbers only, and what goes to others takes none of them.
        let at = xxhash_rust::xxh3::xxh3_64(callee.as_bytes()) as usize % COUNTS;
        let number = self.counts[at].fetch_add(1, Ordering::Relaxed);
        let stamp = Stamp { time_ms: now_ms, sender: self.sender, number, body: body.map(body_digest) };
        let code = canonical(&self.key, head, callee, &stamp);
        HeaderValue::try_from(stamp.write(code.as_ref())).expect("digits, letters and a few signs")
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
