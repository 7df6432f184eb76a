//! A record of what was written and read, and the judgement whether the reads kept what was promised.
//!
//! Whoever runs a system notes each [`Write`] and each [`Read`] in a [`History`], on one clock: nanoseconds, from any
//! moment on. [`History::check`] then holds each read to its *bounds*. A bound is a moment and why: what was answered
//! must have been current at some moment after it, and before the read's end. A value is current from its own write's
//! beginning until the next write of the key is known to be committed.
//!
//! What may be promised that way:
//!
//! - *Bounded age*: a read that begins at `t` has the bound `t - max_staleness`.
//! - *Read your writes*: a read with a write's token has the moment of that write.
//! - *What is applied stays applied*: a read at a node that has applied a change has the moment of that change.
//! - *Versions only grow*: asked for by [`Read::grows`], a read must be of no older version than those that the same node
//!   answered before it began. Across nodes nothing of the kind is promised: another node may be behind, within the
//!   bound on age. Who wants it across nodes sends the token along.
//!
//! It knows nothing of caches, and is used by the simulation and by the programs in `benches/`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Display},
    hash::Hash,
};

/// A moment, in nanoseconds.
pub type Nanos = u64;

/// A value that a key was given.
#[derive(Clone, Debug)]
pub struct Write {
    /// The version, which no other write of the key has; `None` if the key was removed.
    pub version: Option<u64>,
    /// Since when it may have been read.
    pub from: Nanos,
    /// By when it had been committed, and those who read had to know; `None` if that is not known.
    pub by: Option<Nanos>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who answered. A node that began anew, with nothing in memory, is another one.
    pub node: u32,
    pub start: Nanos,
    pub end: Nanos,
    /// What was answered; `None` for "no such key".
    pub version: Option<u64>,
    /// Each is a moment, and why what is older may not be answered.
    pub bounds: Vec<(Nanos, &'static str)>,
    /// Whether it may be of no older version than what the node answered before.
    pub grows: bool,
    /// More of it, for who reads a counterexample.
    pub note: String,
}

/// All that was written and read, by key.
#[derive(Debug)]
pub struct History<K> {
    keys: BTreeMap<K, Story>,
}

#[derive(Debug, Default)]
struct Story {
    /// In the order of versions.
    writes: Vec<Write>,
    reads: Vec<Read>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub writes: u64,
    pub reads: u64,
}

/// A read that broke a promise, with what is to be known of it.
#[derive(Debug)]
pub struct Counterexample {
    /// In nanoseconds, the end of the read.
    pub at: Nanos,
    text: String,
}

impl Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> Default for History<K> {
    fn default() -> Self {
        Self { keys: BTreeMap::new() }
    }
}

impl<K: Ord + Clone + Display + Hash> History<K> {
    /// Notes a write, after all writes of the key that it came after; its place among them, for
    /// [`committed`](Self::committed).
    pub fn write(&mut self, key: &K, write: Write) -> usize {
        let story = self.keys.entry(key.clone()).or_default();
        story.writes.push(write);
        story.writes.len() - 1
    }

    /// Says by when a write had been committed.
    pub fn committed(&mut self, key: &K, place: usize, by: Nanos) {
        let story = self.keys.entry(key.clone()).or_default();
        if let Some(write) = story.writes.get_mut(place) {
            write.by = Some(write.by.map_or(by, |known| known.min(by)));
        }
    }

    /// Notes a read that was answered.
    pub fn read(&mut self, key: &K, read: Read) {
        self.keys.entry(key.clone()).or_default().reads.push(read);
    }

    /// Judges all reads.
    ///
    /// # Errors
    /// The first read, by its end, that broke a promise.
    pub fn check(&self) -> Result<Judged, Box<Counterexample>> {
        let mut judged = Judged::default();
        let mut worst: Option<Box<Counterexample>> = None;
        for (key, story) in &self.keys {
            judged.writes += story.writes.len() as u64;
            judged.reads += story.reads.len() as u64;
            if let Some(found) = story.check(key)
                && worst.as_ref().is_none_or(|worst| found.at < worst.at)
            {
                worst = Some(found);
            }
        }
        worst.map_or(Ok(judged), Err)
    }
}

/// While a version was current.
#[derive(Clone, Copy)]
struct Span {
    version: Option<u64>,
    from: Nanos,
    until: Nanos,
}

impl Story {
    fn spans(&self) -> Vec<Span> {
        let mut until = Nanos::MAX;
        let mut spans: Vec<Span> = self
            .writes
            .iter()
            .rev()
            .map(|write| {
                let span = Span { version: write.version, from: write.from, until };
                until = until.min(write.by.unwrap_or(Nanos::MAX));
                span
            })
            .collect();
        spans.reverse();
        spans
    }

    fn check(&self, key: &impl Display) -> Option<Box<Counterexample>> {
        let spans = self.spans();
        let mut by_version: HashMap<Option<u64>, Vec<usize>> = HashMap::new();
        for (at, span) in spans.iter().enumerate() {
            by_version.entry(span.version).or_default().push(at);
        }
        let fits = |read: &Read, after: Nanos| {
            let mut places = by_version.get(&read.version).into_iter().flatten();
            places.find(|at| spans[**at].from <= read.end && spans[**at].until > after).copied()
        };
        let mut by_end: Vec<&Read> = self.reads.iter().collect();
        by_end.sort_by_key(|read| read.end);
        let mut found: Option<(&Read, String)> = None;
        for read in &by_end {
            let broken = read.bounds.iter().find(|(after, _)| fits(read, *after).is_none());
            if let Some((after, why)) = broken {
                found = Some((read, format!("must not be older than {}: {why}", seconds(*after))));
                break;
            }
        }
        // By node: the reads that ended, of which the latest version counts, beside those that begin.
        let mut by_node: BTreeMap<u32, Vec<&Read>> = BTreeMap::new();
        for read in by_end.iter().filter(|read| read.grows) {
            by_node.entry(read.node).or_default().push(read);
        }
        for ended in by_node.into_values() {
            let mut begun = ended.clone();
            begun.sort_by_key(|read| read.start);
            let (mut next, mut newest) = (0, (0, None::<&Read>));
            for read in begun {
                while let Some(before) = ended.get(next).filter(|before| before.end < read.start) {
                    let place = fits(before, 0).unwrap_or(0);
                    if place >= newest.0 {
                        newest = (place, Some(before));
                    }
                    next += 1;
                }
                // One that was current again later is as new.
                let places = by_version.get(&read.version).into_iter().flatten();
                let mut places = places.filter(|at| spans[**at].from <= read.end);
                let is_first = found.as_ref().is_none_or(|(first, _)| read.end < first.end);
                if !is_first || places.any(|at| *at >= newest.0) {
                    continue;
                }
                let before = newest.1.map(|before| format!("; the node had answered\n  {before}"));
                let why = format!("is older than before{}", before.unwrap_or_default());
                found = Some((read, why));
            }
        }
        found.map(|(read, why)| Box::new(self.counterexample(key, read, &why)))
    }

    fn counterexample(&self, key: &impl Display, read: &Read, why: &str) -> Counterexample {
        const AROUND: usize = 8;
        let mut text = format!("a read of {key}\n  {read}\n{why}\nwrites of {key} until then:\n");
        let known: Vec<&Write> = self.writes.iter().filter(|write| write.from <= read.end).collect();
        for write in &known[known.len().saturating_sub(AROUND)..] {
            text.push_str(&format!("  {write}\n"));
        }
        text.push_str("reads before it at the same node:\n");
        let mut reads: Vec<&Read> =
            self.reads.iter().filter(|other| other.node == read.node && other.end <= read.end).collect();
        reads.sort_by_key(|read| read.end);
        for read in &reads[reads.len().saturating_sub(AROUND)..] {
            text.push_str(&format!("  {read}\n"));
        }
        Counterexample { at: read.end, text }
    }
}

impl Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (seconds(self.start), seconds(self.end));
        write!(f, "node {} from {start} to {end}: {} {}", self.node, named(self.version), self.note)
    }
}

impl Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", named(self.version), seconds(self.from))?;
        match self.by {
            Some(by) if by == self.from => Ok(()),
            Some(by) => write!(f, ", committed by {}", seconds(by)),
            None => f.write_str(", perhaps never committed"),
        }
    }
}

fn named(version: Option<u64>) -> String {
    version.map_or_else(|| "no value".to_owned(), |version| format!("version {version}"))
}

/// As seconds with all digits, since what comes first often is a matter of the last one.
pub fn seconds(nanos: Nanos) -> String {
    format!("{}.{:09} s", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::{History, Judged, Read, Write};

    const fn write(version: u64, from: u64, by: u64) -> Write {
        Write { version: Some(version), from, by: Some(by) }
    }

    fn read(start: u64, end: u64, version: Option<u64>, after: u64) -> Read {
        let bounds = vec![(after, "a test")];
        Read { node: 1, start, end, version, bounds, grows: true, note: String::new() }
    }

    fn history(reads: impl IntoIterator<Item = Read>) -> History<&'static str> {
        let mut history = History::default();
        let writes = [write(1, 10, 10), write(2, 20, 25), Write { version: None, from: 40, by: Some(41) }];
        for write in writes.into_iter().chain([write(1, 60, 60)]) {
            history.write(&"k", write);
        }
        reads.into_iter().for_each(|read| history.read(&"k", read));
        history
    }

    #[test]
    fn a_value_is_current_from_its_write_until_the_next_one_is_known() {
        for (start, end, version, after) in [
            (12, 13, Some(1), 9),
            (22, 23, Some(1), 24),
            (15, 20, Some(2), 11),
            (42, 43, None, 41),
            (70, 71, Some(1), 65),
        ] {
            let judged = history([read(start, end, version, after)]).check();
            assert_eq!(judged.expect("kept"), Judged { writes: 4, reads: 1 });
        }
        for (start, end, version, after) in [
            (26, 27, Some(1), 25),
            (15, 19, Some(2), 11),
            (50, 51, Some(2), 41),
            (70, 71, None, 60),
            (5, 6, Some(1), 0),
            (50, 51, Some(9), 0),
        ] {
            assert!(
                history([read(start, end, version, after)]).check().is_err(),
                "{start} {version:?} {after}"
            );
        }
    }

    #[test]
    fn versions_only_grow_at_a_node() {
        let grows = |reads: [Read; 2]| history(reads).check();
        assert!(grows([read(21, 22, Some(2), 0), read(23, 24, Some(2), 0)]).is_ok());
        assert!(grows([read(21, 23, Some(2), 0), read(23, 24, Some(1), 0)]).is_ok(), "they overlap");
        let broken = grows([read(21, 22, Some(2), 0), read(23, 24, Some(1), 0)]).expect_err("it went back");
        assert!(broken.to_string().contains("is older than before; the node had answered"), "{broken}");
        let other = Read { node: 2, ..read(23, 24, Some(1), 0) };
        assert!(grows([read(21, 22, Some(2), 0), other]).is_ok(), "another node may be behind");
        assert!(grows([read(41, 42, None, 0), read(61, 62, Some(1), 0)]).is_ok(), "it is current again");
    }

    #[test]
    fn a_write_that_may_not_be_committed_ends_nothing() {
        let mut history = history([]);
        let place = history.write(&"k", Write { version: Some(5), from: 80, by: None });
        history.read(&"k", read(90, 91, Some(1), 85));
        history.read(&"k", read(90, 91, Some(5), 85));
        assert!(history.check().is_ok());
        history.committed(&"k", place, 84);
        let broken = history.check().expect_err("it was committed");
        assert!(broken.to_string().contains("must not be older than 0.000000085 s: a test"), "{broken}");
        assert_eq!(broken.at, 91);
    }
}
