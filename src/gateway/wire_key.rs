//! A key as JSON has it, in what is asked and in what is answered.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

use crate::codec::{base64url_decode, base64url_encode};

/// A key as text, or as `{"b64": "…"}` where it is none. 1 to 1,024 bytes.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Key, examples("anna", json!({"b64": "_w"})))]
pub(super) enum WireKey {
    #[schema(title = "KeyText")]
    Text(String),
    Bytes(WireKeyBytes),
}

/// A key that is not text.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyBytes)]
pub(super) struct WireKeyBytes {
    /// The bytes in base64url (RFC 4648, section 5), with or without padding.
    #[schema(min_length = 2, max_length = 1368, example = "_w")]
    b64: String,
}

/// Written out: as derived it takes lists for objects too, and does not say what is wrong.
impl<'de> Deserialize<'de> for WireKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = WireKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key: a string, or {\"b64\": \"…\"}")
            }

            fn visit_str<E>(self, text: &str) -> Result<WireKey, E> {
                Ok(WireKey::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WireKey, A::Error> {
                WireKeyBytes::deserialize(MapAccessDeserializer::new(map)).map(WireKey::Bytes)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl WireKey {
    /// As text, if the bytes are text.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(WireKeyBytes { b64: base64url_encode(bytes) }),
        }
    }

    /// The key's bytes; no limit is checked here.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Bytes(WireKeyBytes { b64 }) => {
                base64url_decode(b64.as_bytes()).map_err(|error| format!("a b64 is {error}"))
            }
        }
    }
}
