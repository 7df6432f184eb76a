//! `PUT` and `DELETE` of a key, at a group that is writable; and the position by which a reader sees its own writes.
//!
//! A write answers 204 with `GGCache-Position`. A read that shows it as `GGCache-Min-Position`, at whatever node, is
//! answered with nothing older.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::{GatewayBody, Shared, etag, keys, no_view, problem, reply};
use crate::{
    error::ErrorCode,
    group::{Committed, Condition, Group, Position, Write, WriteError, Written},
    problem::{Problem, RequestId},
};

static POSITION: HeaderName = HeaderName::from_static("ggcache-position");
static MIN_POSITION: HeaderName = HeaderName::from_static("ggcache-min-position");

/// A write that outlives its request's head.
pub(super) struct KeyWrite {
    pub(super) group: Arc<Group>,
    pub(super) key: Box<[u8]>,
}

/// Whether a method changes a key.
pub(super) fn is_write(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::DELETE)
}

/// The position that a reader has to see at least, if it names one.
///
/// # Errors
/// If it names none that is one.
pub(super) fn min_position(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let mut lines = headers.get_all(&MIN_POSITION).iter();
    let Some(text) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        let detail = "GGCache-Min-Position is given more than once; send the one that is to be reached";
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    let position = text.to_str().ok().and_then(|text| text.trim().parse().ok());
    position.map(Some).ok_or_else(|| {
        let detail = "GGCache-Min-Position is not a position; send what a write answered as GGCache-Position";
        Problem::new(ErrorCode::BadRequest, detail)
    })
}

impl Shared {
    /// Carries a write out, and says where in the log it is.
    pub(super) async fn write(
        &self,
        KeyWrite { group, key }: KeyWrite,
        request: Request<Incoming>,
        id: &RequestId,
    ) -> Response<GatewayBody> {
        let Some(_place) = self.in_flight.enter() else { return problem(self.in_flight.full()) };
        if self.parts.views.is_provisional() {
            return problem(no_view());
        }
        if !group.is_writable() {
            return keys::read_only();
        }
        let deadline = Instant::now() + self.parts.request_timeout;
        let (head, body) = request.into_parts();
        let write = match head.method {
            Method::DELETE => Ok(Write::Delete),
            _ => self.body(&head.headers, body, deadline).await.map(Write::Put),
        };
        let write = match write {
            Ok(write) => write,
            Err(refusal) => return problem(refusal),
        };
        match group.write(&key, write, condition(&head.headers), deadline).await {
            Ok(Committed { written: Written::Absent, .. }) => {
                problem(Problem::new(ErrorCode::KeyNotFound, reply::ABSENT))
            }
            Ok(Committed { written: Written::Done, position }) => {
                let mut response = Response::new(Either::Left(Full::new(Bytes::new())));
                *response.status_mut() = StatusCode::NO_CONTENT;
                let position = position.and_then(|position| HeaderValue::try_from(position.to_string()).ok());
                if let Some(position) = position {
                    response.headers_mut().insert(POSITION.clone(), position);
                }
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Err(error) => self.not_written(&group, &error, id),
        }
    }

    /// The value that a request brings.
    async fn body(&self, headers: &HeaderMap, body: Incoming, deadline: Instant) -> Result<Bytes, Problem> {
        let not_read = |detail| Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
        if headers.contains_key(header::CONTENT_ENCODING) {
            return not_read("the value is not decoded here; send it as it is, without content-encoding");
        }
        if headers.contains_key(header::CONTENT_RANGE) {
            let detail = "a value is written as a whole; send it without content-range";
            return Err(Problem::new(ErrorCode::BadRequest, detail));
        }
        let limit = self.parts.value_bytes_max;
        // Nothing of it is asked for (100) where its length says it all.
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        match timeout_at(deadline, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
            Ok(Err(_)) => Err(Problem::new(ErrorCode::BadRequest, "the body broke off; nothing was written")),
            Err(_) => {
                let detail = "the body did not come in time; nothing was written";
                Err(Problem::new(ErrorCode::DeadlineExceeded, detail))
            }
        }
    }

    fn not_written(&self, group: &Group, error: &WriteError, id: &RequestId) -> Response<GatewayBody> {
        if matches!(error, WriteError::ReadOnly) {
            return keys::read_only();
        }
        let detail = match error {
            WriteError::Failed(_) => {
                "nothing was written; the database's error is in this node's log".to_owned()
            }
            error => error.to_string(),
        };
        self.reply.note_unwritten(group, error, id);
        problem(Problem::new(error.code(), detail))
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ErrorCode::TooLarge, format!("the value has more than {limit} bytes"))
}

/// What a request asks of the present value (RFC 9110, section 13.1). A value has a tag for each of its encodings.
fn condition(headers: &HeaderMap) -> Option<Condition> {
    let all = |name| headers.get_all(name).iter().cloned().collect::<Vec<HeaderValue>>();
    let (wanted, unwanted) = (all(header::IF_MATCH), all(header::IF_NONE_MATCH));
    if wanted.is_empty() && unwanted.is_empty() {
        return None;
    }
    Some(Condition::new(move |present| {
        let is_one_of = |lines: &[HeaderValue], names: fn(u64, &[u8]) -> bool| {
            present.is_some_and(|value| lines.iter().any(|line| names(value.tag(), line.as_bytes())))
        };
        (wanted.is_empty() || is_one_of(&wanted, etag::is_matched)) && !is_one_of(&unwanted, etag::is_seen)
    }))
}

#[cfg(test)]
mod tests {
    use super::{super::etag::EntityTag, *};
    use crate::group::Value;

    fn holds(lines: &[(HeaderName, &'static str)], present: Option<&Value>) -> bool {
        let headers =
            lines.iter().map(|(name, line)| (name.clone(), HeaderValue::from_static(line))).collect();
        condition(&headers).is_none_or(|condition| condition.holds(present))
    }

    #[test]
    fn conditions_are_those_of_the_rfc() {
        let value = Value::text("333");
        let etag = EntityTag::new(value.tag(), false).as_str().to_owned();
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let gzip = leak(EntityTag::new(value.tag(), true).as_str().to_owned());
        let (list, weak) = (leak(format!("\"x\", {etag}")), leak(format!("W/{etag}")));
        let (some, none) = (Some(&value), None);
        assert!(holds(&[], none) && holds(&[], some));
        for (line, held) in
            [("*", true), (list, true), (gzip, true), (weak, false), ("\"x\"", false), ("", false)]
        {
            assert_eq!(holds(&[(header::IF_MATCH, line)], some), held, "if-match: {line}");
            assert!(!holds(&[(header::IF_MATCH, line)], none), "there is nothing to match");
        }
        for (line, held) in [("*", false), (list, false), (gzip, false), (weak, false), ("\"x\"", true)] {
            assert_eq!(holds(&[(header::IF_NONE_MATCH, line)], some), held, "if-none-match: {line}");
            assert!(holds(&[(header::IF_NONE_MATCH, line)], none));
        }
        assert!(!holds(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")], some));
    }

    #[test]
    fn positions_are_read() {
        let read = |text| {
            let mut headers = HeaderMap::new();
            for line in <str>::lines(text) {
                headers.append(MIN_POSITION.clone(), HeaderValue::from_static(line));
            }
            min_position(&headers).map_err(|problem| problem.code())
        };
        assert_eq!(min_position(&HeaderMap::new()).expect("nothing is named"), None);
        assert!(matches!(read("00000000000000ab-17"), Ok(Some(Position { seq: 17, .. }))));
        assert_eq!(read("17"), Err(ErrorCode::BadRequest));
        assert_eq!(read("00000000000000ab-17\n00000000000000ab-17"), Err(ErrorCode::BadRequest));
    }
}
