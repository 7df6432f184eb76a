//! What a connection remembers, so that a token is hashed once and not with each request.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use subtle::ConstantTimeEq as _;

use super::Caller;

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
            (Some(known), Some(shown)) => equal(known, shown),
            _ => false,
        };
        equal.then(|| remembered.caller.clone())
    }

    pub(super) fn remember(&self, header: Option<&[u8]>, generation: u64, caller: &Caller) {
        let caller = caller.apart();
        self.0.store(Some(Arc::new(Remembered { header: header.map(Box::from), caller, generation })));
    }
}

/// Whether two headers are equal. All that differs is gathered before it is looked at, once: `subtle` byte by byte takes
/// longer than the rest of a request's check.
fn equal(known: &[u8], shown: &[u8]) -> bool {
    if known.len() != shown.len() {
        return false;
    }
    let ((known, known_rest), (shown, shown_rest)) = (known.as_chunks::<8>(), shown.as_chunks::<8>());
    let words = known.iter().zip(shown).map(|(a, b)| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b));
    let rest = known_rest.iter().zip(shown_rest).map(|(a, b)| u64::from(a ^ b));
    words.chain(rest).fold(0, |differences, next| differences | next).ct_eq(&0).into()
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_of_a_token_is_shown() {
        let memo = Memo::default();
        memo.remember(Some(b"Bearer ggc_secret"), 1, &Caller::anonymous(super::super::Scopes::NONE));
        assert_eq!(format!("{memo:?}"), "Memo { .. }");
    }

    proptest! {
        #[test]
        fn equal_is_equality(a in proptest::collection::vec(0_u8..4, 0..40), at in 0_usize..40, b: Vec<u8>) {
            prop_assert!(equal(&a, &a.clone()));
            prop_assert_eq!(equal(&a, &b), a == b);
            if let Some(byte) = a.get(at) {
                let mut changed = a.clone();
                changed[at] = byte ^ 0x80;
                prop_assert!(!equal(&a, &changed));
            }
        }
    }
}
