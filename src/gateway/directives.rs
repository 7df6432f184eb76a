//! What a client says of how its read is to be answered: `Cache-Control` on requests (RFC 9111, section 5.2.1).
//!
//! `no-store` and `max-stale` change nothing: this cache keeps what it loads for others, and the group says how
//! stale an answer may be.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::{
    group::{Answer, Group},
    time::Moment,
};

/// The directives of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    /// Load, whatever is in memory.
    pub(super) no_cache: bool,
    /// Answer from memory or not at all.
    pub(super) only_if_cached: bool,
    /// The oldest that an answer may be.
    max_age: Option<Duration>,
    /// How long an answer must be good for.
    min_fresh: Option<Duration>,
}

impl Directives {
    /// Reads them. What is malformed or unknown is passed over, as the RFC asks for.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            for directive in line.as_bytes().split(|byte| *byte == b',') {
                all.note(directive.trim_ascii());
            }
        }
        all
    }

    fn note(&mut self, directive: &[u8]) {
        let (name, value) = match directive.iter().position(|byte| *byte == b'=') {
            Some(at) => (&directive[..at], Some(&directive[at + 1..])),
            None => (directive, None),
        };
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            // Of two, the stricter one.
            self.max_age = value.and_then(seconds).into_iter().chain(self.max_age).min();
        } else if is("min-fresh") {
            self.min_fresh = value.and_then(seconds).into_iter().chain(self.min_fresh).max();
        }
    }

    /// Without what asks for a load, for a group that does not let clients.
    pub(super) const fn without_loads(self) -> Self {
        Self { no_cache: false, max_age: None, min_fresh: None, ..self }
    }

    /// As far as the group lets clients ask.
    pub(super) fn allowed_by(self, group: &Group) -> Self {
        let is_allowed = self == Self::default() || group.config().allow_no_cache;
        if is_allowed { self } else { self.without_loads() }
    }

    /// Whether `answer` is what the client accepts at `now`.
    pub(super) fn accept(&self, answer: &Answer, now: Moment) -> bool {
        // How old an absence is, is not known.
        self.max_age.is_none_or(|max_age| answer.value.is_some() && answer.age(now) <= max_age)
            && self.min_fresh.is_none_or(|min_fresh| answer.remaining(now) >= min_fresh)
    }
}

/// Delta-seconds, quoted or not. More than a year says no more than a year does.
fn seconds(text: &[u8]) -> Option<Duration> {
    const YEAR: u64 = 365 * 24 * 60 * 60;
    let digits = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().unwrap_or(YEAR);
    Some(Duration::from_secs(number.min(YEAR)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::group::{Outcome, Value};

    fn read(lines: &[&'static str]) -> Directives {
        Directives::read(
            &lines.iter().map(|line| (header::CACHE_CONTROL, HeaderValue::from_static(line))).collect(),
        )
    }

    #[test]
    fn directives_are_read_from_all_lines() {
        assert_eq!(read(&[]), Directives::default());
        assert_eq!(read(&["no-store, max-stale=5, private, =, , ;"]), Directives::default());
        let all = read(&["No-Cache , max-age=60", "ONLY-IF-CACHED,min-fresh=\"5\", max-age=30"]);
        let expected = Directives {
            no_cache: true,
            only_if_cached: true,
            max_age: Some(Duration::from_secs(30)),
            min_fresh: Some(Duration::from_secs(5)),
        };
        assert_eq!(all, expected);
        assert_eq!(read(&["max-age=-1, min-fresh=1.5, max-age=, max-age"]), Directives::default());
        let huge = read(&["max-age=99999999999999999999999"]);
        assert_eq!(huge.max_age, Some(Duration::from_secs(365 * 24 * 60 * 60)));
    }

    #[test]
    fn an_answer_is_as_young_and_as_fresh_as_asked() {
        let second = Duration::from_secs(1);
        let start = Moment::from_nanos(1_000_000_000_000);
        let answer = Answer {
            value: Some(Value::text("333")),
            outcome: Outcome::Hit,
            since: start,
            until: start.saturating_add(second * 10),
            collapsed: false,
            hop: None,
        };
        let at = |after| start.saturating_add(second * after);
        assert!(read(&["max-age=3"]).accept(&answer, at(3)) && !read(&["max-age=3"]).accept(&answer, at(4)));
        assert!(read(&["max-age=0"]).accept(&answer, at(0)));
        assert!(read(&["min-fresh=6"]).accept(&answer, at(4)));
        assert!(!read(&["min-fresh=7"]).accept(&answer, at(4)));
        let absent = Answer { value: None, ..answer.clone() };
        assert!(
            !read(&["max-age=1000"]).accept(&absent, at(0)) && read(&["min-fresh=1"]).accept(&absent, at(0))
        );
        assert!(read(&["max-age=1, min-fresh=9"]).without_loads().accept(&answer, at(9)));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            Directives::default().note(&bytes);
        }
    }
}
