//! What a process that stood still may still believe: nothing.
//!
//! Nodes that are told of every invalidation may answer from memory. One that was paused, or whose machine was suspended,
//! until its lease ended is no longer in anybody's view: it is not told, and nobody is told that it was not. When it
//! wakes, requests that waited in the kernel are answered before it has heard of anything.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Group, Selection};
use crate::{telemetry::field, time::Moment};

/// When the process was last known to run.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// In nanoseconds; 0 where nobody says so.
    beat_at: AtomicU64,
    waking: Mutex<()>,
}

impl Group {
    /// Says that the process runs. To be called several times within [`GroupSettings::pause_max`](super::GroupSettings::pause_max), or never.
    ///
    /// A process that stood still (paused, or its machine suspended) for longer than the others remember it was told of
    /// no invalidation, and nobody was told that it was not. So the first to look into memory after that finds it empty.
    pub fn beat(&self) {
        let now = self.awake();
        self.pulse.beat_at.fetch_max(now.as_nanos().max(1), Ordering::AcqRel);
    }

    /// The time, for a look into memory: what may be there is what was there before a pause that was short enough.
    pub(super) fn awake(&self) -> Moment {
        let now = self.clock.now();
        self.awake_at(now);
        now
    }

    /// The same, at a time that was read already.
    pub(super) fn awake_at(&self, now: Moment) {
        if self.stood_still(now) {
            self.wake(now);
        }
    }

    fn stood_still(&self, now: Moment) -> bool {
        let beat_at = self.pulse.beat_at.load(Ordering::Acquire);
        beat_at != 0 && now.saturating_since(Moment::from_nanos(beat_at)) > self.settings.pause_max
    }

    #[cold]
    fn wake(&self, now: Moment) {
        let _one = self.pulse.waking.lock();
        // Another one may have done it in the meantime.
        if !self.stood_still(now) {
            return;
        }
        let dropped = self.store.invalidate(&Selection::Prefix(Vec::new()), now);
        self.pulse.beat_at.fetch_max(now.as_nanos(), Ordering::AcqRel);
        tracing::warn!(
            { field::GROUP } = %self.name,
            dropped,
            pause_max = ?self.settings.pause_max,
            "the process stood still for too long to have heard of every invalidation; its memory is dropped"
        );
    }
}
