//! Where the current view is kept: read by every request, replaced whole by discovery.

use std::sync::Arc;

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
}

impl ViewCell {
    /// A cell that holds `view`, and no previous one.
    pub fn new(view: View) -> Self {
        Self { current: ArcSwap::from_pointee(view), previous: ArcSwapOption::empty() }
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
    }

    /// The last view with other owners than the current one: the node that a new owner asks before it asks
    /// the database is this view's owner. `None` before the first change.
    pub fn previous(&self) -> Option<Arc<View>> {
        self.previous.load_full()
    }
}
