//! The text of an answer to a batch, and how much of the memory such texts may take.
//!
//! An answer is put together in memory, and stays there until its client has taken it, which may take long: a client that
//! reads slowly, or a connection of HTTP/2 whose window is shut. So each answer takes a place of its size first, and keeps
//! it until the last of its bytes is gone, wherever they lie.

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{Landing, VALUES_BYTES_MAX, value_of};
use crate::group::{ContentKind, GetError, Key, Value};

/// What a result takes beside its key and its value, in bytes, at most.
const RESULT_BYTES: usize = 768;

/// The landings, but for values that would make the answer too large; and how many bytes it has at most.
pub(super) fn bounded(keys: &[Key], mut landings: Vec<Landing>) -> (Vec<Landing>, usize) {
    let (mut values, mut rest) = (0, 0);
    for (key, landing) in keys.iter().zip(&mut landings) {
        // The key, written as text with all of it escaped, or as base64.
        rest += RESULT_BYTES + 6 * key.as_bytes().len();
        let Some(bytes) = value_of(landing).map(written_bytes) else { continue };
        // The first one is answered, however large: it passed the limit on values.
        if values > 0 && values + bytes > VALUES_BYTES_MAX {
            *landing = Err(GetError::TooLargeTogether(VALUES_BYTES_MAX));
        } else {
            values += bytes;
        }
    }
    (landings, values + rest)
}

/// How many bytes a value takes in JSON, at most.
fn written_bytes(value: &Value) -> usize {
    let bytes = value.bytes();
    let base64 = bytes.len().div_ceil(3) * 4 + 2;
    match value.kind() {
        ContentKind::Binary => base64,
        ContentKind::Json => base64.max(bytes.len()),
        ContentKind::Text => base64.max(2 + bytes.iter().map(|byte| escaped_bytes(*byte)).sum::<usize>()),
    }
}

const fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// An answer, and its place among those that were not taken yet: until the last of its bytes is.
pub(super) struct Written {
    bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl Written {
    /// One result is in memory beside its own text at a time.
    pub(super) fn new(
        results: impl Iterator<Item = impl Serialize>,
        bytes: usize,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut written = Vec::with_capacity(bytes);
        written.extend_from_slice(br#"{"results":["#);
        for (at, result) in results.enumerate() {
            if at > 0 {
                written.push(b',');
            }
            // Into memory, with keys that are text: nothing of it fails.
            let _ = serde_json::to_writer(&mut written, &result);
        }
        written.extend_from_slice(b"]}");
        written.shrink_to_fit();
        Self { bytes: written, _place: place }
    }
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::{
        super::{BatchFacts, BatchResult, WireKey},
        *,
    };
    use crate::{
        error::ErrorCode,
        group::{Answer, Outcome},
        time::Moment,
    };

    fn landing(value: Value) -> Landing {
        let now = Moment::from_nanos(1);
        let answer = Answer {
            value: Some(value),
            outcome: Outcome::Hit,
            since: now,
            until: now,
            collapsed: false,
            hop: None,
        };
        Ok(Some(answer))
    }

    fn result(key: &Key, landing: &Landing) -> BatchResult {
        let name = WireKey::from_bytes(key.as_bytes());
        match value_of(landing) {
            Some(value) => {
                let facts = BatchFacts {
                    outcome: Outcome::HotHit,
                    content_type: "text/plain; charset=utf-8".to_owned(),
                    etag: "\"2c4b2a5d1f0e9a73\"".to_owned(),
                    age_seconds: u64::MAX,
                    ttl_seconds: u64::MAX,
                };
                BatchResult::found(name, value, facts)
            }
            None => BatchResult::failed(name, Some(Outcome::Negative), ErrorCode::TooLarge, "x".repeat(400)),
        }
    }

    fn written(keys: &[Key], landings: Vec<Landing>) -> (Vec<u8>, usize) {
        let (landings, bytes) = bounded(keys, landings);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let results = keys.iter().zip(&landings).map(|(key, landing)| result(key, landing));
        (Written::new(results, bytes, place).bytes, bytes)
    }

    #[test]
    fn values_that_grow_when_they_are_written_are_counted_as_they_are_written() {
        let keys = vec![Key::new("a").expect("a key"); 1000];
        let value = Value::text("\u{1}".repeat(8_300));
        let (text, bytes) = written(&keys, keys.iter().map(|_| landing(value.clone())).collect());
        assert!(text.len() <= bytes && bytes < VALUES_BYTES_MAX + (1 << 20), "{} {bytes}", text.len());
        let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let results = json["results"].as_array().expect("results");
        let found = results.iter().filter(|result| result["value"] == *"\u{1}".repeat(8_300)).count();
        assert_eq!((results.len(), found), (1000, VALUES_BYTES_MAX / (8_300 * 6 + 2)));
    }

    #[test]
    fn the_first_value_is_answered_however_large() {
        let keys = [Key::new("a").expect("a key"), Key::new("b").expect("a key")];
        let large = Value::text("\u{1}".repeat(4 << 20));
        let (text, _) = written(&keys, vec![landing(large), landing(Value::text("b"))]);
        let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert!(json["results"][0]["value"].is_string() && json["results"][1]["error"].is_object());
    }

    #[tokio::test]
    async fn a_place_is_kept_until_the_last_byte_is_gone() {
        let places = Arc::new(Semaphore::new(8));
        let place = Arc::clone(&places).try_acquire_many_owned(8).expect("all of them");
        let bytes = bytes::Bytes::from_owner(Written::new(std::iter::empty::<BatchResult>(), 100, place));
        let tail = bytes.slice(1..);
        drop(bytes);
        assert_eq!((places.available_permits(), &tail[..]), (0, &br#""results":[]}"#[..]));
        drop(tail);
        assert_eq!(places.available_permits(), 8);
    }

    proptest! {
        /// No answer is longer than what it took a place for.
        #[test]
        fn an_answer_is_no_longer_than_was_said(
            values in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 0..60), 0..4), 1..6),
        ) {
            let keys: Vec<Key> = values.iter().map(|(key, ..)| Key::new(key.clone()).expect("a key")).collect();
            let landings = values.into_iter().map(|(_, value, kind)| match kind {
                0 => landing(Value::new(value, ContentKind::Text)),
                1 => landing(Value::new(value, ContentKind::Json)),
                2 => landing(Value::new(value, ContentKind::Binary)),
                _ => Ok(None),
            });
            let (text, bytes) = written(&keys, landings.collect());
            prop_assert!(text.len() <= bytes, "{} {bytes}", text.len());
        }
    }
}
