//! Turns a group's answer into an HTTP response.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use std::{borrow::Cow, fmt::Write as _, sync::OnceLock};

use super::{
    GatewayBody,
    complaints::Complaints,
    encoding::{Encodings, accepts_gzip},
    etag::{self, EntityTag},
};
use crate::{
    cluster::Node,
    error::ErrorCode,
    group::{Answer, GetError, Group, LoadError, Outcome, WriteError},
    head::AnswerHead,
    problem::{Problem, RequestId},
    time::Moment,
};

/// What is said of a key that is not there.
pub(super) const ABSENT: &str = "the database has no row with this key";

/// What is said of a key that is not in memory, to who wants it from there only.
pub(super) const NOT_CACHED: &str =
    "neither this node nor the key's owner has it in memory, and the request says only-if-cached";

const OTHER_VALUE: &str = "the value has none of the entity tags that If-Match names";

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What every answer of this node begins with.
#[derive(Debug)]
pub(super) struct NodeReply {
    complaints: Complaints,
    encodings: Encodings,
    /// This node's name as an item of a structured field (RFC 8941).
    name: String,
    /// `Cache-Status` of a hit, by the seconds that it is still good for: made when it is first needed.
    hits: Box<[OnceLock<HeaderValue>]>,
}

/// What became of the head of an answer.
pub(super) enum Told {
    /// It was written, and this is the body.
    Value(Bytes),
    /// It was not: the answer is this one.
    Problem(Response<GatewayBody>),
}

/// Up to so many seconds, `Cache-Status` is made once.
const MADE_SECONDS: usize = 4096;

impl NodeReply {
    pub(super) fn new(me: &Node, encodings: Encodings) -> Self {
        let hits = std::iter::repeat_with(OnceLock::new).take(MADE_SECONDS).collect();
        Self { complaints: Complaints::default(), encodings, name: structured(me.address.as_str()), hits }
    }

    /// The response to a read of a key by a request with these headers.
    pub(super) fn answer(
        &self,
        group: &Group,
        answer: &Answer,
        now: Moment,
        request: &HeaderMap,
    ) -> Response<GatewayBody> {
        let mut response = Response::new(Either::Left(Full::default()));
        response.headers_mut().reserve(12);
        match self.write(&mut response, group, answer, now, request) {
            Told::Value(body) => {
                *response.body_mut() = Either::Left(Full::new(body));
                response
            }
            Told::Problem(response) => response,
        }
    }

    /// Tells the head of an answer with a value to `head`; to the others nothing.
    pub(super) fn write(
        &self,
        head: &mut impl AnswerHead,
        group: &Group,
        answer: &Answer,
        now: Moment,
        request: &HeaderMap,
    ) -> Told {
        let config = group.config();
        let remaining = answer.remaining(now).as_secs();
        let status = self.cache_status(answer, remaining, now);
        let Some(value) = &answer.value else {
            let mut response = super::problem(Problem::new(ErrorCode::KeyNotFound, ABSENT));
            response.value(&CACHE_STATUS, &status);
            return Told::Problem(response);
        };
        if config.content_type.is_some() && is_for_script(request) {
            return Told::Problem(super::problem(Problem::new(ErrorCode::Forbidden, NO_SCRIPT)));
        }
        if !etag::is_meant(value.tag(), request) {
            let mut response = super::problem(Problem::new(ErrorCode::PreconditionFailed, OTHER_VALUE));
            response.value(&CACHE_STATUS, &status);
            return Told::Problem(response);
        }
        let varies = self.encodings.may_vary(value);
        let gzip = if varies && accepts_gzip(request) { self.encodings.gzip(value) } else { None };
        let etag = EntityTag::new(value.tag(), gzip.is_some());
        let is_known = request.get_all(header::IF_NONE_MATCH).iter().any(|seen| etag.is_in(seen.as_bytes()));
        head.status(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
        if !is_known {
            // The configuration was checked when it was read.
            match config.content_type.as_ref().and_then(|own| HeaderValue::from_str(own).ok()) {
                None => head.fixed(&header::CONTENT_TYPE, value.kind().media_type()),
                Some(own) => {
                    head.fixed(&header::CONTENT_SECURITY_POLICY, INERT);
                    head.value(&header::CONTENT_TYPE, &own);
                }
            }
            if gzip.is_some() {
                head.fixed(&header::CONTENT_ENCODING, "gzip");
            }
        }
        let age = answer.age(now).as_secs();
        head.text(&header::ETAG, etag.as_bytes());
        // How long whoever keeps a copy may use it without asking. An invalidation does not reach it, so that it is to ask
        // each time unless the group allows more.
        match config.client_ttl.as_secs().min(remaining) {
            0 => head.fixed(&header::CACHE_CONTROL, "no-cache"),
            // Who keeps it counts the age that it has already (RFC 9111, section 4.2.3).
            seconds => {
                let max_age = format!("max-age={}", age.saturating_add(seconds));
                head.text(&header::CACHE_CONTROL, max_age.as_bytes());
            }
        }
        head.number(&header::AGE, age);
        head.value(&CACHE_STATUS, &status);
        head.fixed(&header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if varies {
            head.fixed(&header::VARY, "accept-encoding");
        }
        if config.content_type.is_some() {
            // See `is_for_script`.
            head.also(&header::VARY, "sec-fetch-dest, sec-fetch-site, service-worker");
        }
        Told::Value(match gzip {
            _ if is_known => Bytes::new(),
            Some(gzip) => gzip,
            None => value.bytes().clone(),
        })
    }

    /// The problem that tells a client why there is no answer; the cause goes to the log.
    pub(super) fn problem(&self, group: &Group, error: &GetError, request: &RequestId) -> Problem {
        let detail = match error {
            GetError::Load(
                LoadError::Unavailable(_)
                | LoadError::Disconnected(_)
                | LoadError::Refused(_)
                | LoadError::Row(_)
                | LoadError::Broken(_),
            ) => "the database could not answer; its error is in this node's log".to_owned(),
            // Which node that is, is the operators' business.
            GetError::Peer { code, .. } => format!("the key's owner answered {}", code.as_str()),
            error => error.to_string(),
        };
        self.complaints.note(group.name(), error, request);
        let problem = Problem::new(error.code(), detail).with_request(request.clone());
        match error {
            GetError::Load(LoadError::Limited(wait)) => problem.retry_after(wait.as_secs()),
            _ => problem,
        }
    }

    /// Tells the log of a write that was not carried out through no fault of the client's.
    pub(super) fn note_unwritten(&self, group: &Group, error: &WriteError, request: &RequestId) {
        if !matches!(error, WriteError::Key(_) | WriteError::Malformed(_) | WriteError::Condition) {
            self.complaints.note_write(group.name(), error, request);
        }
    }

    /// RFC 9211: one member for each hop, the owner first.
    fn cache_status(&self, answer: &Answer, ttl: u64, now: Moment) -> Cow<'_, HeaderValue> {
        let is_stale = answer.outcome == Outcome::Stale;
        let is_hit = answer.outcome.is_cached() && answer.hop.is_none() && !answer.collapsed && !is_stale;
        match usize::try_from(ttl).ok().and_then(|ttl| self.hits.get(ttl)).filter(|_| is_hit) {
            Some(made) => Cow::Borrowed(made.get_or_init(|| self.new_cache_status(answer, ttl, now))),
            None => Cow::Owned(self.new_cache_status(answer, ttl, now)),
        }
    }

    fn new_cache_status(&self, answer: &Answer, ttl: u64, now: Moment) -> HeaderValue {
        let mut text = BytesMut::with_capacity(96);
        // Writing to a growing buffer does not fail.
        let _ = match (&answer.hop, answer.outcome) {
            // How stale it was there is not told, but that it was.
            (Some(hop), _) if hop.outcome == Outcome::Stale => {
                let peer = structured(hop.peer.as_str());
                write!(text, "{peer}; hit; detail=stale, {}; fwd=miss", self.name)
            }
            (Some(hop), _) => {
                let peer = structured(hop.peer.as_str());
                let did = if hop.outcome.is_cached() { "hit" } else { "fwd=miss" };
                write!(text, "{peer}; {did}; ttl={ttl}, {}; fwd=miss", self.name)
            }
            (None, Outcome::Hit | Outcome::HotHit | Outcome::Negative) => {
                write!(text, "{}; hit; ttl={ttl}", self.name)
            }
            // A ttl below zero says for how long it has been stale (RFC 9211, section 2.5).
            (None, Outcome::Stale) => {
                let late = now.saturating_since(answer.until).as_secs().max(1);
                write!(text, "{}; hit; ttl=-{late}; detail=stale", self.name)
            }
            (None, Outcome::Load | Outcome::Peer) => write!(text, "{}; fwd=miss; ttl={ttl}", self.name),
        };
        if answer.collapsed {
            text.extend_from_slice(b"; collapsed");
        }
        HeaderValue::from_maybe_shared(text.freeze()).unwrap_or(HeaderValue::from_static("ggcache"))
    }
}

/// For values whose media type the group names: whatever it is, no script in it runs, and it loads nothing. The types that
/// follow from a value are safe by themselves, with `nosniff`.
const INERT: &str = "default-src 'none'; sandbox; frame-ancestors 'none'; base-uri 'none'";

const NO_SCRIPT: &str =
    "a page of this origin asks for the value as a script or a worker, and it may be anybody's text";

/// Whether a browser would run the answer on this origin: as a worker, or as a script of one of its pages. No policy on
/// the answer keeps it from that. Pages of other origins run on theirs what they like.
fn is_for_script(request: &HeaderMap) -> bool {
    let is = |name: &str, values: &[&[u8]]| {
        request.get(name).is_some_and(|value| values.contains(&value.as_bytes()))
    };
    request.contains_key("service-worker")
        || (is("sec-fetch-site", &[b"same-origin"])
            && is(
                "sec-fetch-dest",
                &[
                    b"script",
                    b"worker",
                    b"sharedworker",
                    b"serviceworker",
                    b"audioworklet",
                    b"paintworklet",
                    b"xslt",
                ],
            ))
}

/// `name` as a token if it is one, else as a string (RFC 8941). An address holds neither `"` nor `\`.
fn structured(name: &str) -> String {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
    if first && token { name.to_owned() } else { format!("\"{name}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_are_structured() {
        assert_eq!(structured("localhost:10001"), "localhost:10001");
        assert_eq!(structured("127.0.0.1:10001"), "\"127.0.0.1:10001\"");
        assert_eq!(structured("[::1]:10001"), "\"[::1]:10001\"");
    }
}
