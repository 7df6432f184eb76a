//! Which numbers of one sender were seen: the highest, and a bit for each of those just below it (as IPsec's
//! anti-replay window, RFC 4303, section 3.4.3).

/// How far below the highest number one may still come, since requests overtake each other.
pub(super) const WINDOW: u64 = 1 << 16;
const WORDS: usize = (WINDOW / 64) as usize;

/// The numbers seen. 8 KiB.
pub(super) struct Window {
    highest: u64,
    seen: Box<[u64]>,
}

/// Why a number is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Seen,
    TooOld,
}

impl Window {
    /// A window in which `first` was seen, and nothing below it.
    pub(super) fn new(first: u64) -> Self {
        let mut window = Self { highest: first, seen: vec![0; WORDS].into_boxed_slice() };
        window.mark(first);
        window
    }

    /// Lets each number in once.
    pub(super) fn let_in(&mut self, number: u64) -> Result<(), Refused> {
        if number > self.highest {
            self.advance(number);
        } else if self.highest - number >= WINDOW {
            return Err(Refused::TooOld);
        } else if self.is_marked(number) {
            return Err(Refused::Seen);
        }
        self.mark(number);
        Ok(())
    }

    /// Forgets the numbers whose places those up to `number` take.
    fn advance(&mut self, number: u64) {
        let mut left = number - self.highest;
        if left >= WINDOW {
            self.seen.fill(0);
            left = 0;
        }
        let mut next = self.highest;
        while left > 0 {
            // A word of bits at a time, or what of it is concerned.
            next += 1;
            let (word, bit) = place(next);
            let count = u64::from(64 - bit).min(left);
            self.seen[word] &= !((u64::MAX >> (64 - count)) << bit);
            next += count - 1;
            left -= count;
        }
        self.highest = number;
    }

    fn is_marked(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen[word] & (1 << bit) != 0
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.seen[word] |= 1 << bit;
    }
}

fn place(number: u64) -> (usize, u32) {
    let index = number % WINDOW;
    ((index / 64) as usize, (index % 64) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges() {
        let mut window = Window::new(WINDOW * 3);
        assert_eq!(window.let_in(WINDOW * 3), Err(Refused::Seen));
        assert_eq!(window.let_in(WINDOW * 2), Err(Refused::TooOld));
        assert_eq!(window.let_in(WINDOW * 2 + 1), Ok(()));
        assert_eq!(window.let_in(WINDOW * 2 + 1), Err(Refused::Seen));
        assert_eq!(window.let_in(WINDOW * 3 + 1), Ok(()), "its place was another's");
        assert_eq!(window.let_in(WINDOW * 2 + 1), Err(Refused::TooOld));
        assert_eq!(window.let_in(u64::MAX), Ok(()));
        assert_eq!(window.let_in(u64::MAX), Err(Refused::Seen));
        assert_eq!(window.let_in(u64::MAX - 1), Ok(()), "far ahead all is forgotten");
        let mut window = Window::new(u64::MAX - 70);
        assert_eq!(window.let_in(u64::MAX), Ok(()), "the last of all numbers ends no loop late");
        assert_eq!(window.let_in(0), Err(Refused::TooOld));
    }

    proptest! {
        /// Against a set of all numbers ever seen.
        #[test]
        fn each_number_once(
            start in 0..=u64::MAX - 1_000_000_000,
            steps in proptest::collection::vec((any::<bool>(), prop_oneof![0..200_u64, 0..WINDOW * 2]), 0..200),
        ) {
            let (mut window, mut seen, mut highest) = (Window::new(start), BTreeSet::from([start]), start);
            for (up, by) in steps {
                let number = if up { highest + by } else { highest.saturating_sub(by) };
                let expected = if highest > number && highest - number >= WINDOW {
                    Err(Refused::TooOld)
                } else if !seen.insert(number) {
                    Err(Refused::Seen)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.let_in(number), expected);
                highest = highest.max(number);
            }
        }
    }
}
