//! Keys and group names: the two words that name a value.

use std::{borrow::Borrow, fmt};

use thiserror::Error;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest group name, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 63;

/// A key: 1 to [`KEY_BYTES_MAX`] bytes of anything. Two keys are one only if their bytes are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("the key is empty, and a key has 1 to {KEY_BYTES_MAX} bytes")]
    Empty,
    #[error("the key has {0} bytes, and a key has 1 to {KEY_BYTES_MAX}")]
    TooLong(usize),
}

impl Key {
    /// Copies `bytes` as a key.
    ///
    /// # Errors
    /// If there are none, or more than [`KEY_BYTES_MAX`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let bytes = bytes.as_ref();
        check_key(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether `bytes` could be a key, without copying them.
///
/// # Errors
/// If there are none, or more than [`KEY_BYTES_MAX`].
pub fn check_key(bytes: &[u8]) -> Result<(), KeyError> {
    match bytes.len() {
        0 => Err(KeyError::Empty),
        1..=KEY_BYTES_MAX => Ok(()),
        length => Err(KeyError::TooLong(length)),
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Escaped, for tests and assertions; a log names a key by its hash only.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// The name of a group: `[a-z][a-z0-9_]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(std::sync::Arc<str>);

/// Why a text is not a group's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a group name: a lower-case letter, then at most 62 of a-z, 0-9 and _")]
pub struct GroupNameError(String);

impl GroupName {
    /// Checks `name` and keeps it.
    ///
    /// # Errors
    /// If it is not `[a-z][a-z0-9_]{0,62}`.
    pub fn new(name: &str) -> Result<Self, GroupNameError> {
        let bytes = name.as_bytes();
        let valid = bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.len() <= GROUP_NAME_BYTES_MAX
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
        if valid { Ok(Self(name.into())) } else { Err(GroupNameError(name.chars().take(80).collect())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_1024_bytes() {
        assert_eq!(Key::new(b""), Err(KeyError::Empty));
        assert!(Key::new([0xff; 1]).is_ok());
        assert!(Key::new([0xff; 1024]).is_ok());
        assert_eq!(Key::new([0; 1025]), Err(KeyError::TooLong(1025)));
    }

    #[test]
    fn group_names() {
        for good in ["a", "scores", "a_1", &"a".repeat(63)] {
            assert!(GroupName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "_a", "a-b", "a b", "é", &"a".repeat(64)] {
            assert!(GroupName::new(bad).is_err(), "{bad}");
        }
    }
}
