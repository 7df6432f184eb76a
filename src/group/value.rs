//! Values: what a loader brings and a cache keeps.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What the bytes of a value are, which decides the content type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentKind {
    /// UTF-8 text: `text/plain; charset=utf-8`.
    Text,
    /// Any bytes: `application/octet-stream`.
    Binary,
    /// A JSON document: `application/json`.
    Json,
}

impl ContentKind {
    /// The media type that a value of this kind is served with.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Binary => "application/octet-stream",
            Self::Json => "application/json",
        }
    }

    /// The kind that [`media_type`](Self::media_type) names; `None` for any other text.
    pub fn from_media_type(name: &str) -> Option<Self> {
        [Self::Text, Self::Binary, Self::Json].into_iter().find(|kind| kind.media_type() == name)
    }
}

/// An immutable value: bytes, their kind and a tag of their content. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    bytes: Bytes,
    tag: u64,
    kind: ContentKind,
}

impl Value {
    /// A value of `bytes`, which are taken over without a copy. A buffer with spare capacity keeps it, and it is not
    /// accounted for: shrink it first.
    pub fn new(bytes: impl Into<Bytes>, kind: ContentKind) -> Self {
        let bytes = bytes.into();
        let tag = xxh3_64_with_seed(&bytes, kind as u64);
        Self { bytes, tag, kind }
    }

    /// A value of UTF-8 text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into().into_boxed_str().into_boxed_bytes(), ContentKind::Text)
    }

    /// The value's bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What the bytes are.
    pub const fn kind(&self) -> ContentKind {
        self.kind
    }

    /// A 64-bit hash of content and kind (XXH3): equal for equal values, at every node.
    pub const fn tag(&self) -> u64 {
        self.tag
    }
}
