//! The bodies of the requests that name many keys, as JSON. Keys are base64url, since they are any bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cluster::Address,
    codec::{base64url_decode, base64url_encode},
    group::{
        ContentKind, GroupName, Handover, Invalidation, Key, PeekMany, PeerAnswer, Position, PositionError,
        Selection, Value,
    },
};

/// The body of `POST /_ggcache.v1/invalidate`: keys, or a prefix.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InvalidateMessage {
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Up to where the callee is to apply the log of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

impl From<&Invalidation> for InvalidateMessage {
    fn from(invalidation: &Invalidation) -> Self {
        let (keys, prefix) = match &invalidation.selection {
            Selection::Keys(keys) => (Some(keys_out(keys)), None),
            Selection::Prefix(prefix) => (None, Some(base64url_encode(prefix))),
        };
        Self {
            group: invalidation.group.to_string(),
            keys,
            prefix,
            position: invalidation.position.map(|position| position.to_string()),
        }
    }
}

impl InvalidateMessage {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        read(body)
    }

    pub(super) fn into_invalidation(self, budget: Duration) -> Result<Invalidation, String> {
        let selection = match (self.keys, self.prefix) {
            (Some(keys), None) => Selection::Keys(keys_of(&keys)?),
            (None, Some(prefix)) => {
                let prefix =
                    base64url_decode(prefix.as_bytes()).map_err(|error| format!("prefix is {error}"))?;
                Selection::Prefix(prefix)
            }
            _ => return Err("the message names keys or a prefix, one of the two".to_owned()),
        };
        let position = self.position.as_deref().map(position_of).transpose()?;
        Ok(Invalidation { group: group_of(&self.group)?, selection, position, budget })
    }
}

/// The body of `POST /_ggcache.v1/peek-many`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PeekManyMessage {
    group: String,
    keys: Vec<String>,
}

impl From<&PeekMany> for PeekManyMessage {
    fn from(request: &PeekMany) -> Self {
        Self { group: request.group.to_string(), keys: keys_out(&request.keys) }
    }
}

impl PeekManyMessage {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        read(body)
    }

    pub(super) fn into_parts(self) -> Result<(GroupName, Vec<Key>), String> {
        Ok((group_of(&self.group)?, keys_of(&self.keys)?))
    }
}

/// What a `POST /_ggcache.v1/peek-many` answers: for each of the first keys what is in memory, or null.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PeekedMessage {
    answers: Vec<Option<AnswerMessage>>,
}

/// What one answer has beside its value, as JSON, in bytes: the most that it may take.
pub(super) const ANSWER_ROOM: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct AnswerMessage {
    /// The value's bytes and their media type; neither for a key that the origin does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    outcome: String,
    age_ms: u64,
    remaining_ms: u64,
    /// 16 hex digits.
    digest: String,
    /// Up to where the log of changes was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl PeekedMessage {
    pub(super) fn new(answers: Vec<Option<PeerAnswer>>) -> Self {
        Self { answers: answers.into_iter().map(|answer| answer.map(AnswerMessage::from)).collect() }
    }

    pub(super) fn read(body: &[u8]) -> Result<Vec<Option<PeerAnswer>>, String> {
        let message: Self = read(body)?;
        message.answers.into_iter().map(|answer| answer.map(AnswerMessage::into_answer).transpose()).collect()
    }
}

impl From<PeerAnswer> for AnswerMessage {
    fn from(answer: PeerAnswer) -> Self {
        Self {
            kind: answer.value.as_ref().map(|value| value.kind().media_type().to_owned()),
            value: answer.value.map(|value| base64url_encode(value.bytes())),
            outcome: answer.outcome.to_string(),
            age_ms: ms_up(answer.age),
            remaining_ms: u64::try_from(answer.remaining.as_millis()).unwrap_or(u64::MAX),
            digest: format!("{:016x}", answer.digest),
            cursor: answer.cursor.map(|cursor| cursor.to_string()),
        }
    }
}

impl AnswerMessage {
    fn into_answer(self) -> Result<PeerAnswer, String> {
        let value = match (self.value, self.kind) {
            (Some(value), Some(kind)) => {
                let bytes =
                    base64url_decode(value.as_bytes()).map_err(|error| format!("a value is {error}"))?;
                let kind = ContentKind::from_media_type(&kind)
                    .ok_or_else(|| "a value's kind is none that a value has".to_owned())?;
                Some(Value::new(bytes.into_boxed_slice(), kind))
            }
            (None, None) => None,
            _ => return Err("a value and its kind come together".to_owned()),
        };
        Ok(PeerAnswer {
            value,
            outcome: self
                .outcome
                .parse()
                .map_err(|_| "an outcome is none that this version knows".to_owned())?,
            age: Duration::from_millis(self.age_ms),
            remaining: Duration::from_millis(self.remaining_ms),
            digest: u64::from_str_radix(&self.digest, 16).map_err(|_| "a digest is none".to_owned())?,
            cursor: self.cursor.as_deref().map(position_of).transpose()?,
        })
    }
}

/// Rounded up, so that no rounding makes a value younger than it is.
pub(super) fn ms_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The body of `POST /_ggcache.v1/handover`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandoverMessage {
    group: String,
    from: String,
    keys: Vec<String>,
}

impl From<&Handover> for HandoverMessage {
    fn from(handover: &Handover) -> Self {
        Self {
            group: handover.group.to_string(),
            from: handover.from.to_string(),
            keys: keys_out(&handover.keys),
        }
    }
}

impl HandoverMessage {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        read(body)
    }

    pub(super) fn into_handover(self, budget: Duration) -> Result<Handover, String> {
        Ok(Handover {
            group: group_of(&self.group)?,
            from: Address::new(&self.from).map_err(|error| error.to_string())?,
            keys: keys_of(&self.keys)?,
            budget,
        })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("the body is not the JSON that is due here: {error}"))
}

fn group_of(name: &str) -> Result<GroupName, String> {
    GroupName::new(name).map_err(|error| error.to_string())
}

fn position_of(text: &str) -> Result<Position, String> {
    text.parse()
        .map_err(|error: PositionError| format!("{:?} is {error}", text.chars().take(60).collect::<String>()))
}

fn keys_out(keys: &[Key]) -> Vec<String> {
    keys.iter().map(|key| base64url_encode(key.as_bytes())).collect()
}

fn keys_of(texts: &[String]) -> Result<Vec<Key>, String> {
    let key = |text: &String| {
        let bytes = base64url_decode(text.as_bytes()).map_err(|error| format!("a key is {error}"))?;
        Key::new(bytes).map_err(|error| error.to_string())
    };
    texts.iter().map(key).collect()
}
