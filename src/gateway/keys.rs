//! What is said to a method that a key does not answer.

use http::{HeaderValue, Response, header};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{Either, Full};

use super::{GatewayBody, problem};
use crate::{error::ErrorCode, problem::Problem};

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// What a key answers to.
pub(super) fn options() -> Response<GatewayBody> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::new())));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}

/// 405, with the methods that there are.
pub(super) fn method_not_allowed() -> Response<GatewayBody> {
    let mut response = problem(Problem::new(
        ErrorCode::MethodNotAllowed,
        "a key answers GET, HEAD and OPTIONS; the group is not writable",
    ));
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}
