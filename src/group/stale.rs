//! Values past their ttl, within the windows that a group allows (RFC 5861), and values that are loaded before theirs ends.
//!
//! - `stale_while_revalidate`: for so long after its end a value is answered at once, and a flight loads it anew behind the
//!   answer.
//! - `stale_if_error`: for so long after its end a value is answered where the load that was to replace it failed.
//! - `refresh_ahead`: a hit in the last part of a value's life has it loaded anew, so that a key in demand never misses.
//!
//! Invariants: only the owner's own entries have windows; a stale answer is none that may be kept, and is told to a peer as
//! such, with nothing that remains of its life. What an invalidation names is gone, window and all. A read that is to be
//! loaded whatever is in memory gets nothing stale: one that asks so, or one that begins while the log of changes is behind
//! its bound. An absence has no window.

use std::{sync::Arc, time::Duration};

use super::{Answer, GetError, Group, Landing, Role, Side, flight::Start};
use crate::{cluster::place, error::ErrorCode, time::Moment};

impl Group {
    /// For how long after its end what this node loads in `role` is kept.
    pub(super) fn window(&self, role: Role) -> Duration {
        let config = self.config.load();
        match role {
            Role::Owner => config.stale_while_revalidate.max(config.stale_if_error),
            Role::Successor | Role::Stranger => Duration::ZERO,
        }
    }

    fn stale_within(&self, hash: u64, key: &[u8], window: Duration) -> Option<Answer> {
        if window.is_zero() {
            return None;
        }
        let now = self.clock.now();
        self.store.stale(hash, key, now).filter(|answer| now < answer.until.saturating_add(window))
    }

    /// Whether a read of `key` that memory does not answer is answered at once all the same, by a value past its ttl.
    pub fn is_answered_stale(&self, key: &[u8]) -> bool {
        let now = self.clock.now();
        self.may_serve(now) && self.stale_meanwhile(self.store.hash(key), key, false).is_some()
    }

    /// What is answered at once, while the flight that was just joined loads the key anew.
    pub(super) fn stale_meanwhile(&self, hash: u64, key: &[u8], is_fresh: bool) -> Option<Answer> {
        let window = self.config.load().stale_while_revalidate;
        if is_fresh { None } else { self.stale_within(hash, key, window) }
    }

    /// What is answered in place of `landing`, where the origin failed.
    pub(super) fn stale_instead(&self, hash: u64, key: &[u8], is_fresh: bool, landing: Landing) -> Landing {
        match landing {
            Err(error) if !is_fresh && is_the_origin_s(&error) => {
                let window = self.config.load().stale_if_error;
                self.stale_within(hash, key, window).ok_or(error)
            }
            landing => landing,
        }
    }

    /// Has a key loaded anew of which `answer` was just found in memory, if its end is near and there is room: while half of
    /// the budget is free, so that no miss waits for it. By its owner only, and once at a time.
    pub(super) fn refresh_ahead(self: &Arc<Self>, hash: u64, key: &[u8], answer: &Answer, now: Moment) {
        if !self.store.is_ending(answer, now) {
            return;
        }
        let limit = self.config.load().load_budget.div_ceil(2);
        let place = place(self.name.as_str(), key);
        let flights = &self.owner_flights;
        if flights.running() >= limit
            || flights.is_flying(hash, key)
            || !self.peers.views().load().is_mine(place)
            || tokio::runtime::Handle::try_current().is_err()
        {
            return;
        }
        let start = Start { slot: self.store.slot(hash), is_fresh: true };
        // Nobody waits for it.
        if let Ok((_, Some(turn))) = flights.join(hash, key, start) {
            self.spawn(turn, hash, key, Side::Owner);
        }
    }
}

/// Whether the origin is why there is no answer: it failed, or had no room, or was too slow.
const fn is_the_origin_s(error: &GetError) -> bool {
    matches!(error.code(), ErrorCode::OriginUnavailable | ErrorCode::OriginBusy | ErrorCode::DeadlineExceeded)
}

#[cfg(test)]
mod tests;
