//! What a connection remembers, so that a token is hashed once and not with each request.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;

use super::Caller;
use crate::codec::same_bytes;

/// The header that a connection has sent last and that was accepted, with its caller. Part of a connection's session
/// (`net::Handler::Session`). Read without a lock.
#[derive(Default)]
pub struct Memo(ArcSwapOption<Remembered>);

struct Remembered {
    header: Option<Box<[u8]>>,
    caller: Caller,
    generation: u64,
}

impl Memo {
    /// The caller, if the header is the one that was remembered under this generation. Connections of proxies carry the
    /// requests of many callers: the comparison takes the same time wherever two headers of one length differ.
    pub(super) fn caller(&self, header: Option<&[u8]>, generation: u64) -> Option<Caller> {
        let remembered = self.0.load();
        let remembered = remembered.as_ref().filter(|remembered| remembered.generation == generation)?;
        let equal = match (&remembered.header, header) {
            (None, None) => true,
            (Some(known), Some(shown)) => same_bytes(known, shown),
            _ => false,
        };
        equal.then(|| remembered.caller.clone())
    }

    pub(super) fn remember(&self, header: Option<&[u8]>, generation: u64, caller: &Caller) {
        let caller = caller.apart();
        self.0.store(Some(Arc::new(Remembered { header: header.map(Box::from), caller, generation })));
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_token_is_shown() {
        let memo = Memo::default();
        memo.remember(Some(b"Bearer ggc_secret"), 1, &Caller::anonymous(super::super::Scopes::NONE));
        assert_eq!(format!("{memo:?}"), "Memo { .. }");
    }
}
