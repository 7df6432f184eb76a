//! What a limit says about a request, and how an answer tells it (draft-ietf-httpapi-ratelimit-headers-11).

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, Response, header};

use super::{Rate, bucket::Level};
use crate::{
    error::ErrorCode,
    head::{AnswerHead, DIGITS_MAX, decimal},
    problem::Problem,
};

/// `RateLimit-Policy`: the limit that was nearest, and what it allows.
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`: what is left of it.
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The limits, by the names that answers and metrics give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// That of one client.
    Client,
    /// That of one group.
    Group,
    /// That of the node.
    Global,
    /// That of what reaches the database.
    Origin,
    /// That of all clients for whom the table has no place.
    Shared,
}

impl Limit {
    /// Every limit, in the order of their discriminants.
    pub const ALL: [Self; 5] = [Self::Client, Self::Group, Self::Global, Self::Origin, Self::Shared];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Group => "group",
            Self::Global => "global",
            Self::Origin => "origin",
            Self::Shared => "shared",
        }
    }

    const fn people(self) -> &'static str {
        match self {
            Self::Client => "this client's",
            Self::Group => "the group's",
            Self::Global => "the node's",
            Self::Origin => "the database's",
            Self::Shared => "the clients' beyond those that are told apart",
        }
    }
}

/// Whether a request may go on, and the limit that decided: of those that let it through the one with the fewest
/// tokens, of those that refused it the one that takes the longest to have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(Option<Told>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    is_allowed: bool,
    limit: Limit,
    rate: Rate,
    level: Level,
}

impl Decision {
    /// There is no limit, and nothing to tell.
    pub const UNLIMITED: Self = Self(None);

    pub(super) const fn allowed(limit: Limit, rate: Rate, level: Level) -> Self {
        Self(Some(Told { is_allowed: true, limit, rate, level }))
    }

    pub(super) const fn refused(limit: Limit, rate: Rate, level: Level) -> Self {
        Self(Some(Told { is_allowed: false, limit, rate, level }))
    }

    /// The decision of two limits together, each of which let the request through, or each of which refused it.
    pub(super) fn tighter(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => {
                let keep = if a.is_allowed {
                    a.level.tokens <= b.level.tokens
                } else {
                    a.level.next >= b.level.next
                };
                if keep { self } else { other }
            }
            (None, _) => other,
            (_, None) => self,
        }
    }

    /// Whether the request may go on.
    pub const fn is_allowed(&self) -> bool {
        match self.0 {
            Some(told) => told.is_allowed,
            None => true,
        }
    }

    /// The limit that decided, if any is set.
    pub fn limit(&self) -> Option<Limit> {
        self.0.map(|told| told.limit)
    }

    /// Requests that the limit would let through now.
    pub fn remaining(&self) -> Option<u64> {
        self.0.map(|told| told.level.tokens)
    }

    /// Seconds, rounded up, until it would let through one more than [`remaining`](Self::remaining); at least 1.
    pub fn reset_secs(&self) -> Option<u64> {
        self.0.map(|told| told.level.next.div_ceil(1_000_000_000).max(1))
    }

    /// Seconds after which the request may be tried again, if it was refused; at least 1.
    pub fn retry_after(&self) -> Option<u64> {
        if self.is_allowed() { None } else { self.reset_secs() }
    }

    /// Puts what there is to tell into the head of the answer: nothing where there is no limit.
    pub fn write(&self, head: &mut impl AnswerHead) {
        let (Some(told), Some(reset)) = (self.0, self.reset_secs()) else { return };
        let (name, (quota, window)) = (told.limit.as_str(), told.rate.quota());
        let policy = Line::new()
            .text("\"")
            .text(name)
            .text("\";q=")
            .number(quota.into())
            .text(";w=")
            .number(window.into());
        let left = Line::new()
            .text("\"")
            .text(name)
            .text("\";r=")
            .number(told.level.tokens)
            .text(";t=")
            .number(reset);
        head.text(&POLICY, policy.as_bytes());
        head.text(&RATE_LIMIT, left.as_bytes());
        if !told.is_allowed {
            head.number(&header::RETRY_AFTER, reset);
        }
    }

    /// The answer to a request that was refused: 429 with all headers. Of no use for one that was not.
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Problem::new(ErrorCode::RateLimited, self.to_string()).into_response();
        self.write(&mut response);
        response
    }
}

/// For people: which limit, how much it is, and when there is more.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(told), Some(reset)) = (self.0, self.reset_secs()) else {
            return f.write_str("there is no limit");
        };
        let (whose, rate) = (told.limit.people(), told.rate);
        if told.is_allowed {
            write!(f, "{whose} limit of {rate} has {} left", told.level.tokens)
        } else {
            write!(f, "{whose} limit of {rate} is used up; try again in {reset} s")
        }
    }
}

/// A header's value in the making. It holds the longest: a name of 6, two numbers of 20 digits, and 8 in between.
struct Line {
    bytes: [u8; 64],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
        self
    }

    fn number(self, number: u64) -> Self {
        self.bytes(decimal(number, &mut [0; DIGITS_MAX]))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(decision: Decision) -> Vec<String> {
        let mut response = Response::new(());
        decision.write(&mut response);
        response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect()
    }

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn an_answer_tells_the_limit_and_what_is_left() {
        let decision = Decision::allowed(Limit::Client, rate("100/s"), Level { tokens: 50, next: 1 });
        assert_eq!(
            told(decision),
            ["ratelimit-policy: \"client\";q=100;w=1", "ratelimit: \"client\";r=50;t=1"]
        );
        assert_eq!(
            (decision.remaining(), decision.reset_secs(), decision.retry_after()),
            (Some(50), Some(1), None)
        );
        assert_eq!(told(Decision::UNLIMITED), [""; 0]);
    }

    #[test]
    fn a_refusal_tells_when_to_come_back() {
        let level = Level { tokens: 0, next: 90_000_000_001 };
        let decision = Decision::refused(Limit::Global, rate("20/h"), level);
        let lines =
            ["ratelimit-policy: \"global\";q=20;w=3600", "ratelimit: \"global\";r=0;t=91", "retry-after: 91"];
        assert_eq!(told(decision), lines);
        let response = decision.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "91");
        let body = String::from_utf8(response.body().to_vec()).expect("text");
        assert!(body.contains("\"code\":\"rate_limited\""), "{body}");
        assert!(body.contains("the node's limit of 20/h is used up; try again in 91 s"), "{body}");
    }

    #[test]
    fn the_longest_line_fits() {
        for limit in Limit::ALL {
            let level = Level { tokens: u64::MAX, next: u64::MAX };
            assert_eq!(told(Decision::refused(limit, rate("3600000000/h"), level)).len(), 3);
        }
        assert_eq!(Line::new().number(u64::MAX).as_bytes(), b"18446744073709551615");
    }

    #[test]
    fn the_tighter_limit_is_told() {
        let level = |tokens, next| Level { tokens, next };
        let allowed = |limit, tokens| Decision::allowed(limit, rate("1/s"), level(tokens, 9));
        let refused = |limit, next| Decision::refused(limit, rate("1/s"), level(0, next));
        assert_eq!(allowed(Limit::Client, 5).tighter(allowed(Limit::Global, 4)).limit(), Some(Limit::Global));
        assert_eq!(refused(Limit::Client, 5).tighter(refused(Limit::Global, 4)).limit(), Some(Limit::Client));
        assert_eq!(Decision::UNLIMITED.tighter(allowed(Limit::Group, 1)).limit(), Some(Limit::Group));
        assert_eq!(Limit::ALL.map(|limit| limit as usize), [0, 1, 2, 3, 4]);
    }
}
