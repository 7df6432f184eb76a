//! The bodies of `POST /_ggcache.v1/batch`, which carry most of what nodes say to each other: bytes with lengths, since
//! text would cost more than all else on the way.
//!
//! Numbers are little endian. A request is the version, flags (bit 0: from memory only), the epoch and the digest (8
//! bytes each), in version 2 the log's id and the sequence number that the callee must have applied (8 bytes each), the group's name (1 byte of length), the number of keys (2 bytes), and each key (2 bytes of length). An
//! answer is the request's version, the callee's digest, in version 2 whether it has a log (1 byte) and if so its id and the
//! cursor (8 bytes each), the number of answers (2 bytes), and each answer: one byte that tells
//! what it is ([`NOTHING`] in memory, [`VALUE`], [`ABSENT`] or [`ERROR`]), and for a value or an absence the outcome (1
//! byte of length), age and remaining time (8 bytes each, in milliseconds) and, for a value, its media type (1 byte of
//! length) and bytes (4 bytes of length); for an error the code (1 byte of length).
//!
//! What is read is checked against its length before anything is allocated for it.

use std::time::Duration;

use bytes::Bytes;

use super::{BODY_BYTES_MAX, message::ms_up};
use crate::{
    cluster::Epoch,
    error::ErrorCode,
    group::{
        ContentKind, GROUP_NAME_BYTES_MAX, GroupName, HANDOVER_KEYS_MAX, KEY_BYTES_MAX, Key, LogId,
        PeerAnswer, PeerBatch, PeerError, PeerWord, Position, Value,
    },
};

/// Without a log of changes.
pub(super) const PLAIN: u8 = 1;
/// With what is needed of the callee's log. What is not needed is asked for in the older version, which all nodes know.
pub(super) const WITH_LOG: u8 = 2;
/// What versions to come may be called.
const VERSIONS_MAX: u8 = 31;
const ONLY_CACHED: u8 = 1;

const NOTHING: u8 = 0;
const VALUE: u8 = 1;
const ABSENT: u8 = 2;
const ERROR: u8 = 3;

/// The largest request, in bytes.
const BATCH_BYTES_MAX: usize =
    2 + 8 + 8 + 16 + 1 + GROUP_NAME_BYTES_MAX + 2 + HANDOVER_KEYS_MAX * (2 + KEY_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= BODY_BYTES_MAX, "a request is read to its end");
/// What one answer takes beside its value at most, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 512;

/// What a request says, beside its budget.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BatchFrame {
    pub(super) version: u8,
    pub(super) group: GroupName,
    pub(super) keys: Vec<Key>,
    pub(super) epoch: Epoch,
    pub(super) digest: u64,
    pub(super) only_cached: bool,
    pub(super) need: Option<Position>,
}

/// A request's body.
pub(super) fn write_batch(batch: &PeerBatch) -> Vec<u8> {
    let keys: usize = batch.keys.iter().map(|key| 2 + key.as_bytes().len()).sum();
    let version = if batch.need.is_some() { WITH_LOG } else { PLAIN };
    let mut out = Vec::with_capacity(2 + 8 + 8 + 16 + 1 + batch.group.as_str().len() + 2 + keys);
    out.extend([version, if batch.only_cached { ONLY_CACHED } else { 0 }]);
    out.extend(batch.epoch.0.to_le_bytes());
    out.extend(batch.digest.to_le_bytes());
    if let Some(need) = batch.need {
        write_position(&mut out, need);
    }
    write_short(&mut out, batch.group.as_str());
    out.extend((batch.keys.len() as u16).to_le_bytes());
    for key in &batch.keys {
        out.extend((key.as_bytes().len() as u16).to_le_bytes());
        out.extend(key.as_bytes());
    }
    out
}

/// Whether a request is of a version that this node reads.
pub(super) fn is_known(body: &[u8]) -> bool {
    // A first byte beyond those is no version of anything.
    body.first().is_none_or(|version| *version <= WITH_LOG || *version > VERSIONS_MAX)
}

/// Reads a request's body.
///
/// # Errors
/// What is wrong with it, for the caller.
pub(super) fn read_batch(body: &[u8]) -> Result<BatchFrame, String> {
    let mut input = Input(body);
    let version = input.version()?;
    let flags = input.byte()?;
    let epoch = Epoch(input.number()?);
    let digest = input.number()?;
    let need = if version == WITH_LOG { Some(input.position()?) } else { None };
    let group = GroupName::new(input.short()?).map_err(|error| error.to_string())?;
    let count = usize::from(u16::from_le_bytes(input.array()?));
    if count > HANDOVER_KEYS_MAX {
        return Err(format!("{count} keys, and a message names at most {HANDOVER_KEYS_MAX}"));
    }
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(u16::from_le_bytes(input.array()?));
        keys.push(Key::new(input.bytes(length)?).map_err(|error| error.to_string())?);
    }
    input.end()?;
    Ok(BatchFrame { version, group, keys, epoch, digest, only_cached: flags & ONLY_CACHED != 0, need })
}

/// An answer's body, in the request's version.
pub(super) fn write_words(version: u8, digest: u64, cursor: Option<Position>, words: &[PeerWord]) -> Vec<u8> {
    let values = words.iter().filter_map(|word| word.as_ref().ok()?.as_ref()?.value.as_ref());
    let bytes: usize = values.map(|value| value.bytes().len()).sum();
    let mut out = Vec::with_capacity(1 + 8 + 17 + 2 + words.len() * 64 + bytes);
    out.push(version);
    out.extend(digest.to_le_bytes());
    if version == WITH_LOG {
        out.push(u8::from(cursor.is_some()));
        if let Some(cursor) = cursor {
            write_position(&mut out, cursor);
        }
    }
    out.extend((words.len() as u16).to_le_bytes());
    for word in words {
        match word {
            Ok(None) => out.push(NOTHING),
            Ok(Some(answer)) => write_answer(&mut out, answer),
            Err(code) => {
                out.push(ERROR);
                write_short(&mut out, code.as_str());
            }
        }
    }
    out
}

fn write_answer(out: &mut Vec<u8>, answer: &PeerAnswer) {
    out.push(if answer.value.is_some() { VALUE } else { ABSENT });
    write_short(out, answer.outcome.as_str());
    out.extend(ms_up(answer.age).to_le_bytes());
    out.extend(u64::try_from(answer.remaining.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
    if let Some(value) = &answer.value {
        write_short(out, value.kind().media_type());
        // A value is smaller than this by its limit.
        out.extend(u32::try_from(value.bytes().len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(value.bytes());
    }
}

/// Reads an answer's body. Values are copied out of it, each of at most `value_bytes_max` bytes.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_words(body: &[u8], value_bytes_max: usize) -> Result<Vec<PeerWord>, PeerError> {
    read_all_words(body, value_bytes_max).map_err(|fault| match fault {
        Fault::Malformed(what) => PeerError::Malformed(what),
        Fault::Unknown(what) => PeerError::Unknown(what),
    })
}

/// What is wrong with an answer: it is none, or one of a newer version.
enum Fault {
    Malformed(String),
    Unknown(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Malformed(what)
    }
}

fn unknown(what: &str) -> Fault {
    Fault::Unknown(format!("{what} is none that this version knows"))
}

fn read_all_words(body: &[u8], value_bytes_max: usize) -> Result<Vec<PeerWord>, Fault> {
    if !is_known(body) {
        return Err(unknown("the message's version"));
    }
    let mut input = Input(body);
    let version = input.version()?;
    let digest = input.number()?;
    let has_log = version == WITH_LOG && input.byte()? != 0;
    let cursor = if has_log { Some(input.position()?) } else { None };
    let count = usize::from(u16::from_le_bytes(input.array()?));
    // Each answer has a byte at least.
    let mut words = Vec::with_capacity(count.min(input.0.len()));
    for _ in 0..count {
        words.push(match input.byte()? {
            NOTHING => Ok(None),
            what @ (VALUE | ABSENT) => {
                let answer = input.answer(what == VALUE, digest, value_bytes_max)?;
                answer.map(|answer| Some(PeerAnswer { cursor, ..answer }))
            }
            // Newer versions may have codes that this one does not know: it is well, and can't answer.
            ERROR => Err(ErrorCode::from_name(input.short()?).unwrap_or(ErrorCode::PeerUnavailable)),
            _ => return Err(unknown("the kind of an answer")),
        });
    }
    input.end()?;
    Ok(words)
}

fn write_position(out: &mut Vec<u8>, position: Position) {
    out.extend(position.log.0.to_le_bytes());
    out.extend(position.seq.to_le_bytes());
}

/// At most 255 bytes of text.
fn write_short(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
    out.push(bytes.len() as u8);
    out.extend(bytes);
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or("the message ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.0.split_first_chunk().ok_or("the message ends too early")?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn short(&mut self) -> Result<&'a str, String> {
        let length = usize::from(self.byte()?);
        std::str::from_utf8(self.bytes(length)?).map_err(|_| "a name in the message is not text".to_owned())
    }

    fn position(&mut self) -> Result<Position, String> {
        Ok(Position { log: LogId(self.number()?), seq: self.number()? })
    }

    fn version(&mut self) -> Result<u8, String> {
        match self.byte()? {
            version @ (PLAIN | WITH_LOG) => Ok(version),
            version => Err(format!("the message is of version {version}, and this node reads 1 and 2")),
        }
    }

    fn answer(
        &mut self,
        has_value: bool,
        digest: u64,
        value_bytes_max: usize,
    ) -> Result<Result<PeerAnswer, ErrorCode>, Fault> {
        let outcome = self.short()?.parse().map_err(|_| unknown("an outcome"))?;
        let (age, remaining) = (Duration::from_millis(self.number()?), Duration::from_millis(self.number()?));
        let value = if has_value {
            let kind =
                ContentKind::from_media_type(self.short()?).ok_or_else(|| unknown("a value's kind"))?;
            let length = usize::try_from(u32::from_le_bytes(self.array()?)).unwrap_or(usize::MAX);
            let bytes = self.bytes(length)?;
            if bytes.len() > value_bytes_max {
                // The node is well: in a change of the limits, its own may be the higher one for a while.
                return Ok(Err(ErrorCode::TooLarge));
            }
            Some(Value::new(Bytes::copy_from_slice(bytes), kind))
        } else {
            None
        };
        Ok(Ok(PeerAnswer { value, outcome, age, remaining, digest, cursor: None }))
    }

    fn end(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err("the message goes on after its end".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::group::Outcome;

    const NEED: Position = Position { log: LogId(5), seq: 77 };

    fn batch(keys: &[&[u8]], only_cached: bool) -> PeerBatch {
        PeerBatch {
            group: GroupName::new("scores").expect("a name"),
            keys: keys.iter().map(|key| Key::new(key).expect("a key")).collect(),
            epoch: Epoch(7),
            budget: Duration::from_secs(1),
            digest: 9,
            only_cached,
            need: only_cached.then_some(NEED),
        }
    }

    fn words() -> Vec<PeerWord> {
        let answer = |value| PeerAnswer {
            value,
            outcome: Outcome::Hit,
            age: Duration::from_millis(3),
            remaining: Duration::from_millis(4),
            digest: 9,
            cursor: Some(NEED),
        };
        vec![
            Ok(None),
            Ok(Some(answer(Some(Value::text("333"))))),
            Ok(Some(answer(Some(Value::new(vec![0xff; 300], ContentKind::Binary))))),
            Ok(Some(answer(None))),
            Err(ErrorCode::OriginBusy),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for only_cached in [false, true] {
            let batch = batch(&[b"a", &[0xff; 1024], b"\0"], only_cached);
            let read = read_batch(&write_batch(&batch)).expect("well formed");
            assert_eq!((read.keys, read.only_cached), (batch.keys, only_cached));
            assert_eq!((read.epoch, read.digest, read.group), (batch.epoch, 9, batch.group));
            assert_eq!((read.need, read.version), (batch.need, if only_cached { WITH_LOG } else { PLAIN }));
        }
        let read = |version, cursor| {
            read_words(&write_words(version, 9, cursor, &words()), 1_000).expect("well formed")
        };
        assert_eq!(read(WITH_LOG, Some(NEED)), words());
        for (version, cursor) in [(WITH_LOG, None), (PLAIN, Some(NEED))] {
            let answer = read(version, cursor)[1].clone().expect("an answer").expect("a value");
            assert_eq!(answer.cursor, None);
        }
    }

    #[test]
    fn a_message_that_is_cut_or_goes_on_is_refused() {
        let request = write_batch(&batch(&[b"a", b"bc"], true));
        let answer = write_words(WITH_LOG, 9, Some(NEED), &words());
        for length in 0..request.len() {
            assert!(read_batch(&request[..length]).is_err());
        }
        for length in 0..answer.len() {
            assert!(read_words(&answer[..length], 1_000).is_err());
        }
        assert!(read_batch(&[&request[..], &[0]].concat()).is_err());
        assert!(read_words(&[&answer[..], &[0]].concat(), 1_000).is_err());
        let mut newer = request;
        newer[0] = 3;
        assert!(read_batch(&newer).expect_err("another version").contains("version 3"));
    }

    #[test]
    fn a_value_above_the_limit_is_one_answer_s_fault() {
        let read = read_words(&write_words(WITH_LOG, 9, Some(NEED), &words()), 10).expect("well formed");
        assert_eq!(read[2], Err(ErrorCode::TooLarge));
        assert_eq!(read[1], words()[1]);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, at in 0_usize..64, byte: u8) {
            let _ = read_batch(&bytes);
            let _ = read_words(&bytes, 100);
            for mut message in [write_batch(&batch(&[b"a", b"bc"], true)), write_words(WITH_LOG, 9, Some(NEED), &words())] {
                let at = at % message.len();
                message[at] = byte;
                let _ = read_batch(&message);
                let _ = read_words(&message, 100);
            }
        }
    }
}
