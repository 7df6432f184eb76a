//! What a test may leave out of the protocol, to see that it would be missed.
//!
//! Each [`Step`] keeps some order of events from ending in a stale answer. The simulation takes each of them away in turn,
//! and must find such an order; see `simulation`. In a program nothing is ever left out: [`omitted`] is `false` there, and
//! [`seam`] is nothing.

/// A step that a test may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests name one to leave it out"))]
pub(crate) enum Step {
    /// A flight's result is stored only if its slot is as it was.
    SlotCheckAtStore,
    /// That check and the store are one step.
    CheckAndStoreAsOne,
    /// A request joins a flight only if the slot is as it was when that began.
    SlotCheckAtJoin,
    /// What is needed of a peer is the slot's sequence number; left out, it is the cursor's.
    SlotInNeed,
    /// A peer is told what is needed of it.
    NeedInRequest,
    /// An answer is used only if the peer had applied what was needed.
    EchoedCursor,
    /// An answer is kept only if the peer has the same definition of the group.
    EchoedDigest,
    /// The slots change before the cursor moves.
    SlotBeforeCursor,
    /// A hint hides no row of the log.
    RowAfterHint,
    /// Positions of different logs never satisfy each other, and another log is begun anew.
    LogId,
}

#[cfg(test)]
thread_local! {
    static OMITTED: std::cell::Cell<Option<Step>> = const { std::cell::Cell::new(None) };
    static HINTED: std::cell::RefCell<std::collections::HashSet<u64>> = std::cell::RefCell::default();
    static PAUSES: std::cell::RefCell<Option<fastrand::Rng>> = const { std::cell::RefCell::new(None) };
}

/// Leaves `step` out on this thread from now on; nothing for `None`. Where the code has a [`seam`], it pauses for a time that
/// `pauses` draws.
#[cfg(test)]
pub(crate) fn omit(step: Option<Step>, pauses: Option<fastrand::Rng>) {
    OMITTED.set(step);
    HINTED.take();
    PAUSES.replace(pauses);
}

/// Whether `step` is left out.
#[cfg(test)]
pub(crate) fn omitted(step: Step) -> bool {
    OMITTED.get() == Some(step)
}

/// Whether `step` is left out.
#[cfg(not(test))]
#[inline]
pub(crate) const fn omitted(_: Step) -> bool {
    false
}

/// What hashes a store's keys, with a random seed; in a simulation it is drawn as pauses are.
#[cfg(test)]
pub(crate) type KeyHasher = foldhash::quality::SeedableRandomState;

/// A new one.
#[cfg(test)]
pub(crate) fn key_hasher() -> KeyHasher {
    let seed = PAUSES.with_borrow_mut(|pauses| pauses.as_mut().map(|pauses| pauses.u64(..)));
    seed.map_or_else(KeyHasher::random, |seed| {
        KeyHasher::with_seed(seed, foldhash::SharedSeed::global_fixed())
    })
}

/// What hashes a store's keys, with a random seed.
#[cfg(not(test))]
pub(crate) type KeyHasher = foldhash::quality::RandomState;

/// A new one.
#[cfg(not(test))]
pub(crate) fn key_hasher() -> KeyHasher {
    KeyHasher::default()
}

/// For [`Step::RowAfterHint`]: notes that a key was dropped by a hint.
#[cfg(test)]
pub(crate) fn note_hint(hash: u64) {
    if omitted(Step::RowAfterHint) {
        HINTED.with_borrow_mut(|hinted| hinted.insert(hash));
    }
}

/// For [`Step::RowAfterHint`]: whether a hint hides the row that follows it.
#[cfg(test)]
pub(crate) fn hides_row(hash: u64) -> bool {
    HINTED.with_borrow_mut(|hinted| hinted.remove(&hash))
}

/// Nothing.
#[cfg(not(test))]
#[inline]
pub(crate) const fn note_hint(_: u64) {}

/// No hint hides a row.
#[cfg(not(test))]
#[inline]
pub(crate) const fn hides_row(_: u64) -> bool {
    false
}

/// A moment in which, on several threads, others may run: a simulation on one thread lets them.
#[cfg(test)]
pub(crate) async fn seam() {
    let pause = PAUSES.with_borrow_mut(|pauses| pauses.as_mut().map(|pauses| pauses.u64(0..3)));
    match pause {
        None | Some(0) => {}
        Some(1) => tokio::task::yield_now().await,
        Some(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
    }
}

/// A moment in which, on several threads, others may run.
#[cfg(not(test))]
pub(crate) async fn seam() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_left_out_on_one_thread_only() {
        omit(Some(Step::SlotBeforeCursor), None);
        assert!(omitted(Step::SlotBeforeCursor) && !omitted(Step::LogId));
        std::thread::spawn(|| assert!(!omitted(Step::SlotBeforeCursor))).join().expect("no panic");
        omit(None, None);
        assert!(!omitted(Step::SlotBeforeCursor));
    }
}
