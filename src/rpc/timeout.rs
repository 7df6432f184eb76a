//! `grpc-timeout`: how long a client waits (gRPC over HTTP/2, "Timeout").

use std::time::Duration;

use thiserror::Error;
use tonic::metadata::MetadataMap;

const TIMEOUT: &str = "grpc-timeout";

/// The text is not a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("grpc-timeout is not 1 to 8 digits and one of the units H, M, S, m, u, n")]
pub struct TimeoutError;

/// How long the client of a request waits, if it says so.
///
/// # Errors
/// If it says so in another way than the protocol has it.
pub fn read_timeout(metadata: &MetadataMap) -> Result<Option<Duration>, TimeoutError> {
    let Some(text) = metadata.get(TIMEOUT) else { return Ok(None) };
    text.to_str().ok().and_then(parse).map(Some).ok_or(TimeoutError)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 60 * 60),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_has_them() {
        for (text, timeout) in [
            ("1S", Duration::from_secs(1)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse(text), Some(timeout), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1 S", "100000000S", "1.5S", "1µ", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
