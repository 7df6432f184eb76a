//! Where the current view is kept: read by every request, replaced whole by discovery.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::View;

/// The current view and the one before it.
///
/// Reading takes no lock and does not wait for a writer. There is one writer, the membership; were there
/// more, each view would still be whole, only the previous one could be any that was replaced.
#[derive(Debug)]
pub struct ViewCell {
    current: ArcSwap<View>,
    previous: ArcSwapOption<View>,
    is_provisional: AtomicBool,
}

impl ViewCell {
    /// A cell that holds `view`, and no previous one.
    pub fn new(view: View) -> Self {
        Self {
            current: ArcSwap::from_pointee(view),
            previous: ArcSwapOption::empty(),
            is_provisional: AtomicBool::new(false),
        }
    }

    /// A cell of a node that has not heard yet who else is there. `view` stands in until the first one is stored.
    pub fn provisional(view: View) -> Self {
        Self { is_provisional: AtomicBool::new(true), ..Self::new(view) }
    }

    /// Whether the view only stands in for one that has yet to come. Who routes by it would take each key for its own.
    pub fn is_provisional(&self) -> bool {
        self.is_provisional.load(Ordering::Acquire)
    }

    /// The current view. The guard is for a short while, to look up an owner; what must live across an
    /// `await` takes [`ViewCell::load_full`].
    pub fn load(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// The current view, to be kept.
    pub fn load_full(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Makes `view` the current one. The one that it replaces becomes the previous view, unless both have
    /// the same owners: then the previous view stays, for it still tells who owned what before.
    pub fn store(&self, view: View) {
        let replaced = self.current.load_full();
        if replaced.epoch() != view.epoch() {
            // First, so that whoever sees the new view also sees the one before it.
            self.previous.store(Some(replaced));
        }
        self.current.store(Arc::new(view));
        self.is_provisional.store(false, Ordering::Release);
    }

    /// The last view with other owners than the current one: the node that a new owner asks before it asks
    /// the database is this view's owner. `None` before the first change.
    pub fn previous(&self) -> Option<Arc<View>> {
        self.previous.load_full()
    }
}
