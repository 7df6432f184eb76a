//! The seal on what crosses the peer plane, where the nodes share a secret: what both protocols need of `access`, which
//! knows neither clocks nor the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

use super::callee::CalleeError;
use crate::{
    access::{BodyDigest, Head, SealError, Sealer, Verifier},
    cluster::Node,
    error::ErrorCode,
    group::PeerError,
    telemetry::field,
};

/// How often one and the same complaint is logged: strangers must not fill the log.
const COMPLAINT_PAUSE_MS: u64 = 10_000;

/// Unix time in milliseconds, by which nodes tell each other when a request was sealed.
#[expect(
    clippy::disallowed_methods,
    reason = "the one reading that another machine compares with its own; a jump refuses requests and lets none in twice"
)]
pub fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When it was complained last.
#[derive(Debug, Default)]
struct Complaints(AtomicU64);

impl Complaints {
    /// Whether it is time to complain again. True for one caller only.
    fn are_due(&self, now_ms: u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        now_ms.abs_diff(last) >= COMPLAINT_PAUSE_MS
            && self.0.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The caller's side.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    sealer: Option<Arc<Sealer>>,
    complaints: Complaints,
}

impl Sealing {
    pub(super) fn new(sealer: Option<Arc<Sealer>>) -> Arc<Self> {
        Arc::new(Self { sealer, complaints: Complaints::default() })
    }

    /// Whether requests are sealed at all.
    pub(super) const fn is_on(&self) -> bool {
        self.sealer.is_some()
    }

    /// The seal of a request to the node that advertises `callee`; none where the nodes share no secret.
    pub(super) fn seal(&self, head: &Head<'_>, body: Option<&[u8]>, callee: &str) -> Option<HeaderValue> {
        Some(self.sealer.as_ref()?.seal(head, body, callee, unix_time_ms()))
    }

    /// Says in the log, now and then, that `node` does not know this one: its keys are then answered elsewhere, and
    /// nothing else would show why.
    pub(super) fn note(&self, node: &Node, error: &PeerError) {
        if matches!(error, PeerError::Refused(ErrorCode::Unauthenticated))
            && self.complaints.are_due(unix_time_ms())
        {
            tracing::warn!(
                { field::PEER } = %node.address,
                "a peer does not accept what this node asks; its log says why: look at node.secret and the clocks of both"
            );
        }
    }
}

/// The callee's side: who is let in.
#[derive(Debug)]
pub(super) struct Gate {
    verifier: Arc<Verifier>,
    complaints: Complaints,
}

impl Gate {
    pub(super) fn new(verifier: Arc<Verifier>) -> Arc<Self> {
        Arc::new(Self { verifier, complaints: Complaints::default() })
    }

    /// Looks at a request before anything else is done with it.
    ///
    /// # Errors
    /// That it is refused, and why.
    pub(super) fn let_in(&self, head: &Head<'_>) -> Result<LetIn<'_>, CalleeError> {
        let verified = self.verifier.verify(head, unix_time_ms());
        verified.map(|body| LetIn { gate: self, body }).map_err(|error| self.refuse(&error))
    }

    fn refuse(&self, error: &SealError) -> CalleeError {
        if self.complaints.are_due(unix_time_ms()) {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a request on the peer plane was refused"
            );
        }
        CalleeError::new(error.code(), error.to_string())
    }
}

/// A request whose head was let in, and whose body is to be looked at.
#[must_use = "the body is not looked at yet"]
pub(super) struct LetIn<'a> {
    gate: &'a Gate,
    body: BodyDigest,
}

impl LetIn<'_> {
    /// Whether this is the body that was sealed.
    ///
    /// # Errors
    /// That the request is refused.
    pub(super) fn with_body(self, body: &[u8]) -> Result<(), CalleeError> {
        self.body.check(body).map_err(|error| self.gate.refuse(&error))
    }

    /// For a request that has none. `is_empty` is false if it has one all the same, which nobody would look at.
    ///
    /// # Errors
    /// That the request is refused.
    pub(super) fn without_body(self, is_empty: bool) -> Result<(), CalleeError> {
        if is_empty { self.with_body(&[]) } else { Err(self.gate.refuse(&SealError::Body)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_few() {
        let complaints = Complaints::default();
        let now = unix_time_ms();
        assert!(complaints.are_due(now));
        assert!(!complaints.are_due(now + COMPLAINT_PAUSE_MS - 1));
        assert!(complaints.are_due(now + COMPLAINT_PAUSE_MS));
    }
}
