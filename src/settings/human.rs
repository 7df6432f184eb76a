//! Durations and sizes in human units, read and written.

use std::time::Duration;

use bytesize::ByteSize;

use super::raw::quote;

/// Reads a duration with a unit, such as `30s`, `250ms` or `1h 30m`; a bare `0` needs none.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if is_plain_number(text) {
        return Err(format!("{} has no unit; write {}", quote(text), quote(&format!("{text}s"))));
    }
    humantime::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => {
            format!("{} is too long for a duration, or too fine", quote(text))
        }
        _ => format!("{} is not a duration; write for example \"30s\", \"250ms\" or \"5m\"", quote(text)),
    })
}

/// Reads a size in bytes with a unit, such as `64MiB` or `10kB`; a bare `0` needs none.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    if is_plain_number(text) {
        return Err(format!("{} has no unit; write {}", quote(text), quote(&format!("{text}B"))));
    }
    match text.parse::<ByteSize>() {
        // The crate saturates, and a size at the very end was surely not meant.
        Ok(ByteSize(u64::MAX)) => Err(format!("{} is too large for a size", quote(text))),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err(format!("{} is not a size; write for example \"64MiB\" or \"32KiB\"", quote(text))),
    }
}

fn is_plain_number(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Writes a duration as one number of the largest unit that is exact: `90s`, `250ms`, `1h`.
/// [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let nanos = duration.as_nanos();
    match UNITS.iter().find(|(unit, _)| nanos > 0 && nanos.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", nanos / unit),
        None => "0s".to_owned(),
    }
}

/// Writes a size as one number of the largest binary unit that is exact: `64MiB`, `1500B`.
/// [`parse_bytes`] reads it back.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = if bytes == 0 { 0 } else { (bytes.trailing_zeros() / 10) as usize };
    // A u64 has at most 63 trailing zeros, so the unit is at most EiB.
    format!("{}{}", bytes >> (10 * unit), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let cases = [
            ("30s", Ok(Duration::from_secs(30))),
            (" 250ms ", Ok(Duration::from_millis(250))),
            ("1h 30m", Ok(Duration::from_secs(5400))),
            ("0", Ok(Duration::ZERO)),
            ("0s", Ok(Duration::ZERO)),
            ("30", Err(r#""30" has no unit; write "30s""#)),
            ("1.5", Err(r#""1.5" has no unit; write "1.5s""#)),
            ("", Err(r#""" is not a duration; write for example "30s", "250ms" or "5m""#)),
            ("-5s", Err(r#""-5s" is not a duration; write for example "30s", "250ms" or "5m""#)),
            (
                "30 parsecs",
                Err(r#""30 parsecs" is not a duration; write for example "30s", "250ms" or "5m""#),
            ),
            (
                "99999999999999999999s",
                Err(r#""99999999999999999999s" is too long for a duration, or too fine"#),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        let cases = [
            ("64MiB", Ok(64 << 20)),
            ("32 KiB", Ok(32 << 10)),
            ("10kB", Ok(10_000)),
            ("0", Ok(0)),
            ("64", Err(r#""64" has no unit; write "64B""#)),
            ("lots", Err(r#""lots" is not a size; write for example "64MiB" or "32KiB""#)),
            ("", Err(r#""" is not a size; write for example "64MiB" or "32KiB""#)),
            ("-1MiB", Err(r#""-1MiB" is not a size; write for example "64MiB" or "32KiB""#)),
            ("99999999999EiB", Err(r#""99999999999EiB" is too large for a size"#)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_bytes(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn one_number_of_the_largest_exact_unit() {
        for (nanos, text) in [(0, "0s"), (90_000_000_000, "90s"), (3_600_000_000_000, "1h"), (1, "1ns")] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
        for (bytes, text) in
            [(0, "0B"), (1500, "1500B"), (64 << 20, "64MiB"), (1 << 63, "8EiB"), (1536, "1536B")]
        {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in any::<u64>(), bytes in 0..u64::MAX) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (parse_duration(&text), parse_bytes(&text));
        }
    }
}
