//! A rate as people write it: `100/s`, `100/s burst 200`, or `0` for no limit.

use std::{fmt, num::NonZeroU32, str::FromStr};

use thiserror::Error;

/// The fastest rate: a token each microsecond, so that rounding to nanoseconds costs less than 0.1 %.
const PER_SECOND_MAX: u64 = 1_000_000;
/// The longest that an empty bucket takes to fill. It bounds how long a client is remembered, and keeps sums of
/// nanoseconds far from their end.
const FILL_NANOS_MAX: u64 = 24 * 60 * 60 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// The period that a rate is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    const fn letter(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

/// How many requests are let through in a period, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(Option<Limited>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limited {
    count: NonZeroU32,
    per: Per,
    burst: NonZeroU32,
}

/// Why a text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RateError {
    #[error("it is not a number, a slash, and s, m or h; write for example \"100/s\" or \"100/s burst 200\"")]
    Malformed,
    #[error("it is faster than {PER_SECOND_MAX}/s")]
    TooFast,
    #[error("its bucket takes longer than a day to fill; write a smaller burst")]
    TooSlow,
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// What a setting of this kind expects, as a fault says it.
    pub const EXPECTED: &'static str = "a rate of at most 1000000/s whose bucket fills within a day; write for \
         example \"100/s\", \"100/s burst 200\", or \"0\" for no limit";

    /// Whether there is no limit.
    pub const fn is_off(self) -> bool {
        self.0.is_none()
    }

    /// The requests of a period, and its length in seconds; zeros if there is no limit.
    pub const fn quota(self) -> (u32, u32) {
        match self.0 {
            Some(limited) => (limited.count.get(), limited.per.seconds()),
            None => (0, 0),
        }
    }

    /// Nanoseconds from one token to the next, and tokens that the bucket holds; `None` if there is no limit.
    pub(super) fn spacing(self) -> Option<(u64, u32)> {
        let Limited { count, per, burst } = self.0?;
        let (count, period) = (u64::from(count.get()), u64::from(per.seconds()) * SECOND);
        Some(((period + count / 2) / count, burst.get()))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let text = text.trim();
        if text == "0" {
            return Ok(Self::OFF);
        }
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate.trim(), Some(number(burst.trim())?)),
            None => (text, None),
        };
        let (count, per) = rate.split_once('/').ok_or(RateError::Malformed)?;
        let count = number(count.trim())?;
        let per = match per.trim() {
            "s" => Per::Second,
            "m" => Per::Minute,
            "h" => Per::Hour,
            _ => return Err(RateError::Malformed),
        };
        if u64::from(count.get()) > PER_SECOND_MAX * u64::from(per.seconds()) {
            return Err(RateError::TooFast);
        }
        // One second's worth.
        let burst = burst.or(NonZeroU32::new(count.get() / per.seconds())).unwrap_or(NonZeroU32::MIN);
        let rate = Self(Some(Limited { count, per, burst }));
        match rate.spacing() {
            Some((interval, burst)) if interval.saturating_mul(burst.into()) > FILL_NANOS_MAX => {
                Err(RateError::TooSlow)
            }
            _ => Ok(rate),
        }
    }
}

/// Digits only: no sign, no separator.
fn number(text: &str) -> Result<NonZeroU32, RateError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RateError::Malformed);
    }
    text.parse().map_err(|_| RateError::Malformed)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Limited { count, per, burst }) = self.0 else { return f.write_str("0") };
        write!(f, "{count}/{}", per.letter())?;
        if burst.get() != (count.get() / per.seconds()).max(1) {
            write!(f, " burst {burst}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        let cases = [
            ("0", "0", None),
            ("100/s", "100/s", Some((10_000_000, 100))),
            (" 100 / s  burst 200 ", "100/s burst 200", Some((10_000_000, 200))),
            ("100/s burst 100", "100/s", Some((10_000_000, 100))),
            ("600/m", "600/m", Some((100_000_000, 10))),
            ("30/m", "30/m", Some((2_000_000_000, 1))),
            ("1/h", "1/h", Some((3_600_000_000_000, 1))),
            ("1/h burst 24", "1/h burst 24", Some((3_600_000_000_000, 24))),
            ("3/s", "3/s", Some((333_333_333, 3))),
            ("1000000/s", "1000000/s", Some((1000, 1_000_000))),
        ];
        for (text, written, spacing) in cases {
            let rate: Rate = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((rate.to_string().as_str(), rate.spacing()), (written, spacing), "{text}");
        }
        assert_eq!("100/m".parse::<Rate>().map(Rate::quota), Ok((100, 60)));
    }

    #[test]
    fn what_is_no_rate_is_told_apart() {
        use RateError::{Malformed, TooFast, TooSlow};
        for text in [
            "",
            "100",
            "s",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1/d",
            "1/s burst",
            "1/s burst 0",
            "1_0/s",
            "99999999999/s",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(Malformed), "{text}");
        }
        assert_eq!("1000001/s".parse::<Rate>(), Err(TooFast));
        assert_eq!("1/h burst 25".parse::<Rate>(), Err(TooSlow));
        assert_eq!("1/h burst 4294967295".parse::<Rate>(), Err(TooSlow));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(count in 1_u32..1_000_000, per in 0_usize..3, burst in 1_u32..24) {
            let rate: Rate = format!("{count}/{} burst {burst}", ["s", "m", "h"][per]).parse().expect("a rate");
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Rate>();
        }
    }
}
