//! The bodies of the requests that name many keys, as JSON. Keys are base64url, since they are any bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cluster::Address,
    codec::{base64url_decode, base64url_encode},
    group::{GroupName, Handover, Invalidation, Key, Selection},
};

/// The body of `POST /_ggcache.v1/invalidate`: keys, or a prefix.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InvalidateMessage {
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
}

impl From<&Invalidation> for InvalidateMessage {
    fn from(invalidation: &Invalidation) -> Self {
        let (keys, prefix) = match &invalidation.selection {
            Selection::Keys(keys) => {
                (Some(keys.iter().map(|key| base64url_encode(key.as_bytes())).collect()), None)
            }
            Selection::Prefix(prefix) => (None, Some(base64url_encode(prefix))),
        };
        Self { group: invalidation.group.to_string(), keys, prefix }
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
        Ok(Invalidation { group: group_of(&self.group)?, selection, budget })
    }
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
            keys: handover.keys.iter().map(|key| base64url_encode(key.as_bytes())).collect(),
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

fn keys_of(texts: &[String]) -> Result<Vec<Key>, String> {
    let key = |text: &String| {
        let bytes = base64url_decode(text.as_bytes()).map_err(|error| format!("a key is {error}"))?;
        Key::new(bytes).map_err(|error| error.to_string())
    };
    texts.iter().map(key).collect()
}
