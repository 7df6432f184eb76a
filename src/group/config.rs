//! `[group.NAME]`: what the configuration says of a group, beside the table that it reads.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    cache::PolicyKind,
    settings::{Checks, Faults, Section},
};

/// How a group keeps its values.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// The memory that the group's entries may take, overhead included, in bytes.
    pub capacity: u64,
    /// Which entry makes room for a new one.
    pub policy: PolicyKind,
    /// The longest that a value is served, counted from the start of its load.
    pub ttl: Duration,
    /// The share of the ttl, 0 to 1, by which it is shortened at random.
    pub ttl_jitter: f64,
    /// The longest that "no such key" is served; zero if it is not remembered.
    pub negative_ttl: Duration,
    /// The share of the capacity, 0 to 0.9, that "no such key" may take.
    pub negative_share: f64,
    /// For how long after its ttl a value is answered at once while it is loaded anew; zero if it is not.
    pub stale_while_revalidate: Duration,
    /// For how long after its ttl a value is answered where it can't be loaded anew; zero if it is not.
    pub stale_if_error: Duration,
    /// The last part of a value's life, 0 to 0.9, in which a hit has it loaded anew; zero if none does.
    pub refresh_ahead: f64,
    /// The longest that a copy of another owner's key is served; zero if none is kept.
    pub hot_ttl: Duration,
    /// How old an answer may be at most where the database has a log of changes, counted back from the read's beginning:
    /// what was committed before that is seen.
    pub max_staleness: Duration,
    /// Queries of this node to the group's database that may be under way at once.
    pub load_budget: usize,
    /// Single keys that one query loads at most, where they are asked for at the same time; 1 if each is loaded by itself.
    pub load_batch: usize,
    /// How many of the node's own rows are loaded before it says that it is ready; zero for none.
    pub preload: u64,
    /// The media type of every answer; `None` if it follows from the value.
    pub content_type: Option<String>,
    /// How long clients may use an answer again without asking; zero if they are to ask each time.
    pub client_ttl: Duration,
    /// Whether a client may ask for a load (`Cache-Control: no-cache`, or a `max-age` that nothing in memory keeps).
    pub allow_no_cache: bool,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            capacity: 64 << 20,
            policy: PolicyKind::default(),
            ttl: Duration::from_secs(30),
            ttl_jitter: 0.1,
            negative_ttl: Duration::from_secs(5),
            negative_share: 0.1,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            refresh_ahead: 0.0,
            hot_ttl: Duration::from_secs(1),
            max_staleness: Duration::from_secs(1),
            load_budget: 16,
            load_batch: 256,
            preload: 0,
            content_type: None,
            client_ttl: Duration::ZERO,
            allow_no_cache: true,
        }
    }
}

/// Less could not hold a shard's worth of entries.
const CAPACITY: RangeInclusive<u64> = 64 << 10..=1 << 50;
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const TTL: RangeInclusive<Duration> = Duration::from_millis(1)..=DURATION_MAX;
const NEGATIVE_TTL: RangeInclusive<Duration> = Duration::ZERO..=DURATION_MAX;
const TTL_JITTER: RangeInclusive<f64> = 0.0..=1.0;
const NEGATIVE_SHARE: RangeInclusive<f64> = 0.0..=0.9;
const STALE: RangeInclusive<Duration> = Duration::ZERO..=DURATION_MAX;
const REFRESH_AHEAD: RangeInclusive<f64> = 0.0..=0.9;
const CLIENT_TTL: RangeInclusive<Duration> = Duration::ZERO..=DURATION_MAX;
const HOT_TTL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);
const MAX_STALENESS: RangeInclusive<Duration> = Duration::from_millis(100)..=DURATION_MAX;
const LOAD_BUDGET: RangeInclusive<usize> = 1..=100_000;
/// As many as a statement has at most.
const LOAD_BATCH: RangeInclusive<usize> = 1..=1_000;
const PRELOAD: RangeInclusive<u64> = 0..=1_000_000_000_000;

impl GroupConfig {
    /// Reads the keys of a group's section, and checks them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            capacity: section.bytes("capacity", default.capacity),
            policy: section.choice("policy", default.policy, &["fifo", "lru", "lfu"]),
            ttl: section.duration("ttl", default.ttl),
            ttl_jitter: section.float("ttl_jitter", default.ttl_jitter, TTL_JITTER),
            negative_ttl: section.duration("negative_ttl", default.negative_ttl),
            negative_share: section.float("negative_share", default.negative_share, NEGATIVE_SHARE),
            stale_while_revalidate: section
                .duration("stale_while_revalidate", default.stale_while_revalidate),
            stale_if_error: section.duration("stale_if_error", default.stale_if_error),
            refresh_ahead: section.float("refresh_ahead", default.refresh_ahead, REFRESH_AHEAD),
            hot_ttl: section.duration("hot_ttl", default.hot_ttl),
            max_staleness: section.duration("max_staleness", default.max_staleness),
            load_budget: section.integer("load_budget", default.load_budget, LOAD_BUDGET),
            load_batch: section.integer("load_batch", default.load_batch, LOAD_BATCH),
            preload: section.integer("preload", default.preload, PRELOAD),
            content_type: section.optional_string("content_type"),
            client_ttl: section.duration("client_ttl", default.client_ttl),
            allow_no_cache: section.bool("allow_no_cache", default.allow_no_cache),
        };
        section.check(config.validate());
        config
    }

    /// Whether every value lies within its bounds.
    ///
    /// # Errors
    /// Every value that does not, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        checks.bytes("capacity", self.capacity, &CAPACITY);
        checks.duration("ttl", self.ttl, &TTL);
        checks.number("ttl_jitter", self.ttl_jitter, &TTL_JITTER);
        checks.duration("negative_ttl", self.negative_ttl, &NEGATIVE_TTL);
        checks.number("negative_share", self.negative_share, &NEGATIVE_SHARE);
        checks.duration("stale_while_revalidate", self.stale_while_revalidate, &STALE);
        checks.duration("stale_if_error", self.stale_if_error, &STALE);
        checks.number("refresh_ahead", self.refresh_ahead, &REFRESH_AHEAD);
        checks.duration("hot_ttl", self.hot_ttl, &HOT_TTL);
        checks.duration("client_ttl", self.client_ttl, &CLIENT_TTL);
        checks.duration("max_staleness", self.max_staleness, &MAX_STALENESS);
        checks.number("load_budget", self.load_budget, &LOAD_BUDGET);
        checks.number("load_batch", self.load_batch, &LOAD_BATCH);
        checks.number("preload", self.preload, &PRELOAD);
        if let Some(name) = self.content_type.as_deref().filter(|name| !is_media_type(name)) {
            let shown: String = name.chars().take(60).collect();
            checks.fault(
                "content_type",
                format!("{shown:?} is not a media type; write for example \"application/json\""),
            );
        }
        checks.finish()
    }
}

/// Whether `text` is a media type with or without parameters (RFC 9110, section 8.3.1).
fn is_media_type(text: &str) -> bool {
    let (essence, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
    let Some((kind, subtype)) = essence.trim_end_matches([' ', '\t']).split_once('/') else { return false };
    if !is_token(kind) || !is_token(subtype) {
        return false;
    }
    while let Some(parameter) = rest.strip_prefix(';') {
        let Some((name, value)) = parameter.trim_start_matches([' ', '\t']).split_once('=') else {
            return false;
        };
        let Some(after) = after_parameter_value(value) else { return false };
        if !is_token(name) {
            return false;
        }
        rest = after.trim_start_matches([' ', '\t']);
    }
    rest.is_empty()
}

/// What follows the token or quoted string that `text` begins with.
fn after_parameter_value(text: &str) -> Option<&str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        return is_token(&text[..end]).then(|| &text[end..]);
    };
    let mut is_escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            // Bytes beyond ASCII are allowed by the RFC, but not by what builds the header.
            _ if byte != b'\t' && !(b' '..=b'~').contains(&byte) => return None,
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(&quoted[at + 1..]),
            _ => {}
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(GroupConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_bound_is_checked() {
        let config = GroupConfig {
            capacity: 1,
            ttl: Duration::ZERO,
            ttl_jitter: f64::NAN,
            negative_ttl: Duration::MAX,
            negative_share: 0.95,
            stale_while_revalidate: Duration::MAX,
            stale_if_error: Duration::MAX,
            refresh_ahead: 1.0,
            max_staleness: Duration::ZERO,
            load_budget: 0,
            load_batch: 0,
            preload: u64::MAX,
            content_type: Some("json".to_owned()),
            ..GroupConfig::default()
        };
        let faults = config.validate().expect_err("nothing in it is right");
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key()).collect();
        assert_eq!(
            keys,
            [
                "capacity",
                "ttl",
                "ttl_jitter",
                "negative_ttl",
                "negative_share",
                "stale_while_revalidate",
                "stale_if_error",
                "refresh_ahead",
                "max_staleness",
                "load_budget",
                "load_batch",
                "preload",
                "content_type"
            ]
        );
    }

    #[test]
    fn media_types() {
        for good in [
            "text/plain",
            "text/plain; charset=utf-8",
            "text/plain;charset=\"utf-8\"",
            "application/vnd.api+json ; a=b ; c=\"d;\\\"e\"",
        ] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in [
            "",
            "json",
            "text/",
            "/plain",
            "text/plain/x",
            "text plain/x",
            "text/plain;",
            "text/plain; charset",
            "text/plain; charset=",
            "text/plain; =x",
            "text/plain; a=\"b",
            "text/plain; a=b c",
            "text/plain\r\nx: y",
            "text/plain; a=\"\u{7f}\"",
            "text/é",
        ] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }
}
