//! Bodies of requests, as JSON.

use axum::{
    body::Bytes,
    extract::rejection::{BytesRejection, FailedToBufferBody},
};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::{error::ErrorCode, problem::Problem};

/// What a body says, of at most `bytes_max` bytes. `expected` shows what one looks like.
///
/// # Errors
/// What is wrong with it, for the client.
pub(super) fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    bytes_max: usize,
    expected: &str,
) -> Result<T, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            "the body is JSON, and must say so; send the header content-type: application/json",
        ));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "the body is not decoded here; send it as it is, without content-encoding";
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
    }
    match body {
        Ok(body) => parse(&body, expected),
        Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_))) => {
            Err(Problem::new(ErrorCode::TooLarge, format!("the body has more than {bytes_max} bytes")))
        }
        Err(_) => Err(Problem::new(ErrorCode::BadRequest, "the body broke off")),
    }
}

/// How much of what is wrong with a body is told, in characters: it repeats the body's own words, however long.
const WRONG_CHARS_MAX: usize = 200;

/// What the bytes of a body say.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Problem> {
    // A list of what it should have is taken for an object by serde.
    if body.trim_ascii_start().first() == Some(&b'[') {
        let detail = format!("the body is a list, and should be an object; write {expected}");
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    serde_json::from_slice(body).map_err(|error| {
        let mut wrong = error.to_string();
        if let Some((end, _)) = wrong.char_indices().nth(WRONG_CHARS_MAX) {
            // Where it is comes last.
            wrong = format!("{}… at line {} column {}", &wrong[..end], error.line(), error.column());
        }
        let detail = format!("the body is not what is due here ({wrong}); write {expected}");
        Problem::new(ErrorCode::BadRequest, detail)
    })
}

/// Whether the body is said to be JSON, in UTF-8. Any page may have a browser send what a form sends; for this type it
/// asks first, and is not allowed to.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(text)), None) = (types.next().map(|text| text.to_str()), types.next()) else { return false };
    let mut parts = text.split(';').map(str::trim);
    let is_utf8 = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    };
    parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json")) && parts.all(is_utf8)
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::{body::Body, extract::FromRequest as _};
    use futures_util::stream;
    use http::Request;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_short() {
        let body = format!(r#"{{"{}": 1}}"#, "é".repeat(1 << 20));
        let problem =
            parse::<crate::gateway::batch::BatchRequest>(body.as_bytes(), "{}").err().expect("wrong");
        let detail = problem.detail();
        assert!(
            detail.len() < 600 && detail.contains("unknown field") && detail.contains("line 1"),
            "{detail}"
        );
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_told_from_one_that_broke_off() {
        let told = async |body: Body, encoding: Option<&'static str>| {
            let mut request = Request::new(body);
            let json = header::HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
            if let Some(encoding) = encoding {
                let encoding = header::HeaderValue::from_static(encoding);
                request.headers_mut().insert(header::CONTENT_ENCODING, encoding);
            }
            let headers = request.headers().clone();
            let body = Bytes::from_request(request, &()).await;
            read::<serde_json::Value>(&headers, body, 2 << 20, "{}").map_err(|problem| problem.code())
        };
        let broken = stream::iter([Ok("{"), Err(io::Error::other("reset"))]);
        assert_eq!(told(Body::from_stream(broken), None).await, Err(ErrorCode::BadRequest));
        // What the router takes at most, where a route says nothing else.
        assert_eq!(told(Body::from(" ".repeat(3 << 20)), None).await, Err(ErrorCode::TooLarge));
        assert_eq!(told(Body::from("{}"), Some("gzip")).await, Err(ErrorCode::UnsupportedMediaType));
        assert!(told(Body::from("{}"), None).await.is_ok());
    }

    #[test]
    fn a_body_says_that_it_is_json() {
        let is = |types: &[&'static str]| {
            let header = |text: &&'static str| (header::CONTENT_TYPE, header::HeaderValue::from_static(text));
            is_json(&types.iter().map(header).collect())
        };
        for right in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json; charset=\"UTF-8\"",
        ] {
            assert!(is(&[right]), "{right}");
        }
        for wrong in [
            "",
            "application/x-www-form-urlencoded",
            "text/plain",
            "text/plain; application/json",
            "application/json; charset=utf-16",
            "application/json; boundary=x",
            "application/jsonl",
            "application/json, text/plain",
            "multipart/form-data; boundary=application/json",
        ] {
            assert!(!is(&[wrong]), "{wrong}");
        }
        assert!(!is(&[]) && !is(&["application/json", "text/plain"]));
    }
}
