//! What a configuration is read from. Nothing here looks at the process: the caller passes everything in.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr};

use thiserror::Error;

/// The sources of a configuration. The default is none: everything is at its default.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file to read.
    pub file: Option<PathBuf>,
    /// The environment; variables that do not start with `GGCACHE__` are ignored.
    pub env: Vec<(OsString, OsString)>,
    /// Values of single keys, from the command line.
    pub flags: Vec<FlagSetting>,
    /// The peer plane's port, in place of the one that the other sources give to `node.listen` and
    /// `node.advertise`. Their hosts stay, and so does `admin.listen` if it is given.
    pub port: Option<u16>,
    /// Switches the public plane on, at this address.
    pub api: Option<ApiAddress>,
}

/// A key's value on the command line.
#[derive(Clone)]
pub struct FlagSetting {
    /// The full key, dotted.
    pub key: String,
    /// The value, as in a variable.
    pub value: String,
    /// The flag's name.
    pub flag: String,
}

/// Where the public plane is to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiAddress {
    /// At the address that the other sources give.
    Configured,
    /// At that address, but at this port.
    Port(u16),
    /// Here.
    Full(SocketAddr),
}

/// The text is not an address of the public plane.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an address; write for example 8000, :8000 or 127.0.0.1:8000")]
pub struct ApiAddressError(String);

/// Reads `8000`, `:8000` and `127.0.0.1:8000`; the empty text is the configured address.
impl FromStr for ApiAddress {
    type Err = ApiAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Configured);
        }
        let port = text.strip_prefix(':').unwrap_or(text);
        if port.bytes().all(|b| b.is_ascii_digit())
            && let Ok(port) = port.parse()
        {
            return Ok(Self::Port(port));
        }
        text.parse().map(Self::Full).map_err(|_| ApiAddressError(text.chars().take(60).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_addresses() {
        let full = |text: &str| ApiAddress::Full(text.parse().expect(text));
        for (text, expected) in [
            ("", ApiAddress::Configured),
            ("8000", ApiAddress::Port(8000)),
            (":8000", ApiAddress::Port(8000)),
            ("0", ApiAddress::Port(0)),
            ("127.0.0.1:8000", full("127.0.0.1:8000")),
            ("[::1]:8000", full("[::1]:8000")),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["65536", ":", "::8000", "+80", "localhost:8000", "127.0.0.1"] {
            assert_eq!(text.parse::<ApiAddress>(), Err(ApiAddressError(text.to_owned())));
        }
    }
}
