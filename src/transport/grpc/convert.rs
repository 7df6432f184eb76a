//! Between the generated messages and what the group knows: times, kinds, outcomes, selections.
//!
//! What comes from the wire is checked here. An age is rounded up and a remaining time down, so that no rounding makes
//! a value younger than it is.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    cluster::Address,
    error::ErrorCode,
    group::{
        ContentKind, GroupName, Handover, Invalidation, Key, LogId, Outcome, PeerAnswer, PeerError, PeerWord,
        Position, Selection, Value,
    },
    rpc::peer_v1::{self, invalidate_request, word},
};

/// Whole milliseconds, for a time that may be told too short: what remains, and budgets.
pub(super) fn ms_down(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn ms_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// An answer for the wire. The value's bytes are shared.
pub(super) fn answer_out(answer: PeerAnswer) -> peer_v1::Answer {
    peer_v1::Answer {
        outcome: outcome_out(answer.outcome).into(),
        age_ms: ms_up(answer.age),
        remaining_ms: ms_down(answer.remaining),
        digest: answer.digest,
        cursor: answer.cursor.map(position_out),
        value: answer.value.map(|value| peer_v1::Value {
            kind: kind_out(value.kind()).into(),
            bytes: value.bytes().clone(),
        }),
    }
}

/// An answer from the wire, whose value has at most `value_bytes_max` bytes.
///
/// # Errors
/// That the value is too large, or that this version does not know what is said of it.
pub(super) fn answer_in(answer: peer_v1::Answer, value_bytes_max: usize) -> Result<PeerAnswer, PeerError> {
    let unknown = |what: &str| PeerError::Unknown(what.to_owned());
    let outcome = outcome_in(answer.outcome()).ok_or_else(|| unknown("its outcome"))?;
    let value = match answer.value {
        None => None,
        // The node is well: in a change of the limits, its own may be the higher one for a while.
        Some(value) if value.bytes.len() > value_bytes_max => {
            return Err(PeerError::Refused(ErrorCode::TooLarge));
        }
        Some(value) => {
            let kind = kind_in(value.kind()).ok_or_else(|| unknown("its value's kind"))?;
            // A copy that holds nothing but the value: the bytes are a slice of the message's whole buffer.
            Some(Value::new(Bytes::copy_from_slice(&value.bytes), kind))
        }
    };
    Ok(PeerAnswer {
        value,
        outcome,
        age: Duration::from_millis(answer.age_ms),
        remaining: Duration::from_millis(answer.remaining_ms),
        digest: answer.digest,
        cursor: answer.cursor.map(position_in),
    })
}

/// A place in the log for the wire.
pub(super) const fn position_out(position: Position) -> peer_v1::Position {
    peer_v1::Position { log: position.log.0, seq: position.seq }
}

/// A place in the log from the wire.
pub(super) const fn position_in(position: peer_v1::Position) -> Position {
    Position { log: LogId(position.log), seq: position.seq }
}

/// What is said of several keys, for the wire.
pub(super) fn words_out(words: Vec<PeerWord>) -> Vec<peer_v1::Word> {
    let out = |word: PeerWord| {
        let word = match word {
            Ok(answer) => answer.map(|answer| word::Word::Answer(answer_out(answer))),
            Err(code) => Some(word::Word::Error(code.as_str().to_owned())),
        };
        peer_v1::Word { word }
    };
    words.into_iter().map(out).collect()
}

/// What is said of several keys, from the wire. A value above the limit is its key's fault only.
///
/// # Errors
/// That this version does not know what is said of a value.
pub(super) fn words_in(
    words: Vec<peer_v1::Word>,
    value_bytes_max: usize,
) -> Result<Vec<PeerWord>, PeerError> {
    let read = |word: peer_v1::Word| match word.word {
        None => Ok(Ok(None)),
        // Newer versions may have codes that this one does not know: it is well, and can't answer.
        Some(word::Word::Error(name)) => {
            Ok(Err(ErrorCode::from_name(&name).unwrap_or(ErrorCode::PeerUnavailable)))
        }
        Some(word::Word::Answer(answer)) => match answer_in(answer, value_bytes_max) {
            Ok(answer) => Ok(Ok(Some(answer))),
            Err(PeerError::Refused(code)) => Ok(Err(code)),
            Err(error) => Err(error),
        },
    };
    words.into_iter().map(read).collect()
}

const fn outcome_out(outcome: Outcome) -> peer_v1::Outcome {
    match outcome {
        Outcome::Hit => peer_v1::Outcome::Hit,
        Outcome::HotHit => peer_v1::Outcome::HotHit,
        Outcome::Stale => peer_v1::Outcome::Stale,
        Outcome::Negative => peer_v1::Outcome::Negative,
        Outcome::Peer => peer_v1::Outcome::Peer,
        Outcome::Load => peer_v1::Outcome::Load,
    }
}

fn outcome_in(outcome: peer_v1::Outcome) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|known| outcome_out(*known) == outcome)
}

const fn kind_out(kind: ContentKind) -> peer_v1::Kind {
    match kind {
        ContentKind::Text => peer_v1::Kind::Text,
        ContentKind::Binary => peer_v1::Kind::Binary,
        ContentKind::Json => peer_v1::Kind::Json,
    }
}

const fn kind_in(kind: peer_v1::Kind) -> Option<ContentKind> {
    match kind {
        peer_v1::Kind::Text => Some(ContentKind::Text),
        peer_v1::Kind::Binary => Some(ContentKind::Binary),
        peer_v1::Kind::Json => Some(ContentKind::Json),
        peer_v1::Kind::Unspecified => None,
    }
}

/// Keys for the wire.
pub(super) fn keys_out(keys: &[Key]) -> Vec<Bytes> {
    keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect()
}

/// Keys from the wire.
///
/// # Errors
/// What is wrong with one of them.
pub(super) fn keys_in(keys: &[Bytes]) -> Result<Vec<Key>, String> {
    keys.iter().map(|key| Key::new(key).map_err(|error| error.to_string())).collect()
}

fn group_in(name: &str) -> Result<GroupName, String> {
    GroupName::new(name).map_err(|error| error.to_string())
}

/// An invalidation for the wire.
pub(super) fn invalidation_out(invalidation: &Invalidation) -> peer_v1::InvalidateRequest {
    let selection = match &invalidation.selection {
        Selection::Keys(keys) => invalidate_request::Selection::Keys(peer_v1::Keys { keys: keys_out(keys) }),
        Selection::Prefix(prefix) => invalidate_request::Selection::Prefix(Bytes::copy_from_slice(prefix)),
    };
    peer_v1::InvalidateRequest {
        group: invalidation.group.to_string(),
        selection: Some(selection),
        position: invalidation.position.map(position_out),
        budget_ms: Some(ms_down(invalidation.budget)),
    }
}

/// An invalidation from the wire.
///
/// # Errors
/// What is wrong with it.
pub(super) fn invalidation_in(request: peer_v1::InvalidateRequest) -> Result<Invalidation, String> {
    let selection = match request.selection {
        Some(invalidate_request::Selection::Keys(keys)) => Selection::Keys(keys_in(&keys.keys)?),
        Some(invalidate_request::Selection::Prefix(prefix)) => Selection::Prefix(prefix.to_vec()),
        // Nothing that this version knows: taken for a prefix of nothing, it would drop everything.
        None => return Err("the message names neither keys nor a prefix".to_owned()),
    };
    Ok(Invalidation {
        group: group_in(&request.group)?,
        selection,
        position: request.position.map(position_in),
        budget: request.budget_ms.map_or(Duration::MAX, Duration::from_millis),
    })
}

/// A handover for the wire.
pub(super) fn handover_out(handover: &Handover) -> peer_v1::HandoverRequest {
    peer_v1::HandoverRequest {
        group: handover.group.to_string(),
        from: handover.from.to_string(),
        keys: keys_out(&handover.keys),
        budget_ms: Some(ms_down(handover.budget)),
    }
}

/// A handover from the wire.
///
/// # Errors
/// What is wrong with it.
pub(super) fn handover_in(request: &peer_v1::HandoverRequest) -> Result<Handover, String> {
    Ok(Handover {
        group: group_in(&request.group)?,
        from: Address::new(&request.from).map_err(|error| error.to_string())?,
        keys: keys_in(&request.keys)?,
        budget: request.budget_ms.map_or(Duration::MAX, Duration::from_millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> PeerAnswer {
        PeerAnswer {
            value: Some(Value::text("333")),
            outcome: Outcome::HotHit,
            age: Duration::from_micros(1),
            remaining: Duration::from_micros(1_999),
            digest: u64::MAX,
            cursor: Some(Position { log: LogId(7), seq: u64::MAX }),
        }
    }

    #[test]
    fn rounding_never_makes_a_value_younger() {
        let read = answer_in(answer_out(answer()), 3).expect("well formed");
        assert_eq!((read.age, read.remaining), (Duration::from_millis(1), Duration::from_millis(1)));
        assert_eq!((read.value, read.outcome, read.digest), (answer().value, Outcome::HotHit, u64::MAX));
        assert_eq!(read.cursor, answer().cursor);
    }

    #[test]
    fn outcomes_and_kinds_are_read_back() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome_in(outcome_out(outcome)), Some(outcome));
        }
        for kind in [ContentKind::Text, ContentKind::Binary, ContentKind::Json] {
            assert_eq!(kind_in(kind_out(kind)), Some(kind));
        }
    }

    #[test]
    fn what_a_newer_node_says_is_refused_not_guessed() {
        let mut newer = answer_out(answer());
        newer.outcome = 99;
        assert!(matches!(answer_in(newer, 3), Err(PeerError::Unknown(what)) if what.contains("outcome")));
        let mut newer = answer_out(answer());
        newer.value.as_mut().expect("a value").kind = 99;
        assert!(matches!(answer_in(newer, 3), Err(PeerError::Unknown(what)) if what.contains("kind")));
        let too_large = answer_in(answer_out(answer()), 2);
        assert!(matches!(too_large, Err(PeerError::Refused(ErrorCode::TooLarge))), "{too_large:?}");
        let nothing = peer_v1::InvalidateRequest { group: "scores".to_owned(), ..Default::default() };
        assert!(invalidation_in(nothing).is_err(), "an unknown selection is not all keys");
    }
}
