//! A read of a key that memory did not answer at once: how its directives and its position are followed.

use std::sync::Arc;

use tokio::time::Instant;

use super::directives::Directives;
use crate::group::{Answer, GetError, Group, Outcome, Position};

/// A read that outlives its request.
pub(super) struct Read {
    pub(super) group: Arc<Group>,
    pub(super) key: Box<[u8]>,
    pub(super) directives: Directives,
    /// What the client has seen already, or written.
    pub(super) min_position: Option<Position>,
}

impl Read {
    /// What is in this node's memory, if it will do as it is.
    pub(super) fn cached(&self) -> Option<Answer> {
        let Self { group, key, directives, min_position } = self;
        if directives.no_cache || min_position.is_some() {
            return None;
        }
        group.cached(key).filter(|answer| directives.accept(answer, group.now()))
    }

    /// Whether it waits for nothing, though memory does not answer it.
    pub(super) fn is_answered_stale(&self) -> bool {
        self.directives == Directives::default()
            && self.min_position.is_none()
            && self.group.is_answered_stale(&self.key)
    }

    /// The answer; `None` if it is to come from memory and is not there.
    pub(super) async fn answer(&self, deadline: Instant) -> Result<Option<Answer>, GetError> {
        let Self { group, key, directives, min_position } = self;
        let may_cache = match min_position {
            None => true,
            Some(position) => group.caught_up(*position, deadline).await,
        };
        if directives.only_if_cached {
            if directives.no_cache || !may_cache {
                return Ok(None);
            }
            let found = Box::pin(group.in_memory(key, deadline)).await?;
            return Ok(found.filter(|answer| directives.accept(answer, group.now())));
        }
        if !directives.no_cache && may_cache {
            let answer = match min_position {
                // Memory was not looked at yet.
                Some(_) => group.get(key, deadline).await?,
                None => group.miss(key, deadline).await?,
            };
            if answer.outcome == Outcome::Load || directives.accept(&answer, group.now()) {
                return Ok(Some(answer));
            }
        }
        // Rare, and so in a box.
        Box::pin(group.fresh(key, deadline)).await.map(Some)
    }
}
