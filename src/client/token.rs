//! The token by which a client shows who it is.

use std::fmt;

use http::HeaderValue;

use super::BuildError;

/// The value of the header `authorization` for a token. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Authorization(HeaderValue);

impl Authorization {
    /// For a bearer token (RFC 6750, section 2.1), of visible ASCII characters.
    pub(super) fn bearer(token: &str) -> Result<Self, BuildError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BuildError::Token);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| BuildError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) const fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
