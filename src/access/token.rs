//! Tokens: how one is made, what it looks like, and its hash, which is all that a node knows of it.

use std::{fmt, str::FromStr};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use thiserror::Error;

use crate::codec::{base64url_decode, base64url_encode};

/// What a token begins with, so that people, and programs that look for leaked secrets, know one when they see it.
const PREFIX: &str = "ggc_";
/// Random bytes in a token. So many need no salt and no slow hash: there is nothing to guess.
const RANDOM_BYTES: usize = 32;
/// A token's length in bytes: the prefix, and base64url without padding.
const TOKEN_BYTES: usize = PREFIX.len() + (RANDOM_BYTES * 8).div_ceil(6);
/// What a hash in the configuration begins with.
const HASH_PREFIX: &str = "sha256:";
const HASH_BYTES: usize = 32;

/// A token. `Debug` shows three asterisks; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the system gives no random bytes")]
    Random,
}

impl Token {
    /// A new token, from the system's random numbers.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn generate() -> Result<Self, TokenError> {
        let mut random = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| TokenError::Random)?;
        Ok(Self(format!("{PREFIX}{}", base64url_encode(&random))))
    }

    /// The token itself. Never to be logged or answered.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the configuration has of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }

    /// Whether `text` looks like a token. It is not secret what one looks like, so this may take its own time.
    pub(super) fn is_one(text: &[u8]) -> bool {
        text.len() == TOKEN_BYTES
            && text.strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| {
                rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                    && base64url_decode(rest).is_ok()
            })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The SHA-256 of a token. It opens nothing, but says which of many tokens is meant: `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash([u8; HASH_BYTES]);

/// The text is no hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a token's hash is sha256: and 64 hex digits")]
pub struct TokenHashError;

impl TokenHash {
    /// The hash of what was shown.
    pub(super) fn of(token: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(hash)
    }

    /// The hash's bytes.
    pub(super) const fn bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// As the configuration has it: `sha256:` and 64 hex digits.
    pub fn expose(&self) -> String {
        use fmt::Write as _;
        let mut text = HASH_PREFIX.to_owned();
        for byte in self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl FromStr for TokenHash {
    type Err = TokenHashError;

    fn from_str(text: &str) -> Result<Self, TokenHashError> {
        let hex = text.strip_prefix(HASH_PREFIX).ok_or(TokenHashError)?.as_bytes();
        let mut hash = [0; HASH_BYTES];
        if hex.len() != 2 * HASH_BYTES {
            return Err(TokenHashError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(TokenHashError);
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_looks_like_one_and_no_two_are_alike() {
        let (token, other) = (Token::generate().expect("random"), Token::generate().expect("random"));
        assert_ne!(token, other);
        assert_eq!((token.expose().len(), TOKEN_BYTES), (47, 47));
        assert!(Token::is_one(token.expose().as_bytes()));
        assert_eq!(format!("{token:?}"), "***");
        for wrong in ["", "ggc_", &token.expose()[..46], &format!("{}A", token.expose()), "ggc_+++"] {
            assert!(!Token::is_one(wrong.as_bytes()), "{wrong}");
        }
        let other_prefix = token.expose().replace("ggc_", "GGC_");
        assert!(!Token::is_one(other_prefix.as_bytes()));
    }

    #[test]
    fn hashes_are_read_back() {
        let hash = TokenHash::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.expose(), text, "FIPS 180-2, appendix B.1");
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(text.to_uppercase().replace("SHA", "sha").parse(), Ok(hash));
        assert_eq!(format!("{hash:?}"), "sha256:***");
        let long = format!("{text}0");
        for wrong in ["", "sha256:", &text[..70], &long, &text.replace('b', "g"), &text[7..], "sha256:é"] {
            assert_eq!(wrong.parse::<TokenHash>(), Err(TokenHashError), "{wrong}");
        }
    }
}
