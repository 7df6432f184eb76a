//! Failed reads in the log: one line a second for each group and code, with a count of those left out. A database that
//! is down fails every read; a line for each would fill the disk of a node that is otherwise well.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    error::ErrorCode,
    group::{GetError, GroupName, WriteError},
    problem::RequestId,
    telemetry::field,
};

const PERIOD: Duration = Duration::from_secs(1);

/// What was complained of lately. Bounded by the groups and codes that there are.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<(GroupName, ErrorCode), Complaint>>);

#[derive(Clone, Copy, Debug)]
struct Complaint {
    logged_at: Instant,
    left_out: u64,
}

impl Complaints {
    /// Logs that a read of `group` failed, or counts it.
    pub(super) fn note(&self, group: &GroupName, error: &GetError, request: &RequestId) {
        self.complain(group, error.code(), error, request, "a read failed");
    }

    /// Logs that a write of `group` failed, or counts it.
    pub(super) fn note_write(&self, group: &GroupName, error: &WriteError, request: &RequestId) {
        self.complain(group, error.code(), error, request, "a write failed");
    }

    fn complain(
        &self,
        group: &GroupName,
        code: ErrorCode,
        error: &(dyn std::error::Error + 'static),
        request: &RequestId,
        what: &'static str,
    ) {
        match self.due(group, code, Instant::now()) {
            Some(left_out) => tracing::warn!(
                { field::GROUP } = %group,
                request.id = %request,
                code = code.as_str(),
                error,
                left_out,
                "{what}"
            ),
            None => tracing::debug!(
                { field::GROUP } = %group,
                request.id = %request,
                code = code.as_str(),
                error,
                "{what}"
            ),
        }
    }

    /// Whether a line is due, and how many were left out since the last one.
    fn due(&self, group: &GroupName, code: ErrorCode, now: Instant) -> Option<u64> {
        let mut complaints = self.0.lock();
        let Some(complaint) = complaints.get_mut(&(group.clone(), code)) else {
            complaints.insert((group.clone(), code), Complaint { logged_at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(complaint.logged_at) < PERIOD {
            complaint.left_out += 1;
            return None;
        }
        complaint.logged_at = now;
        Some(std::mem::take(&mut complaint.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_second_and_a_count() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let group = GroupName::new("scores").expect("a name");
        let due = |code, after| complaints.due(&group, code, start + after);
        assert_eq!(due(ErrorCode::OriginUnavailable, Duration::ZERO), Some(0));
        for _ in 0..100 {
            assert_eq!(due(ErrorCode::OriginUnavailable, PERIOD / 2), None);
        }
        assert_eq!(due(ErrorCode::DeadlineExceeded, PERIOD / 2), Some(0), "another code");
        assert_eq!(due(ErrorCode::OriginUnavailable, PERIOD), Some(100));
        assert_eq!(due(ErrorCode::OriginUnavailable, PERIOD * 2), Some(0));
    }
}
