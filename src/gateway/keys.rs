//! What is said to a method that a key does not answer.

pub(super) mod document;
mod parameters;

pub(super) use parameters::{GroupInPath, KeyInQuery, PositionHeader, ReadDirectives};

use http::{HeaderValue, Response, header};

use super::{GatewayBody, problem};
use crate::{error::ErrorCode, problem::Problem};

const READ_ONLY: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const WRITABLE: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, DELETE, OPTIONS");

/// 405 of a group that is read only, with the methods that there are.
pub(super) fn read_only() -> Response<GatewayBody> {
    not_allowed("a key answers GET, HEAD and OPTIONS; the group is not writable", READ_ONLY)
}

/// 405 of a method that no key answers.
pub(super) fn method_not_allowed(is_writable: bool) -> Response<GatewayBody> {
    if !is_writable {
        return read_only();
    }
    not_allowed("a key answers GET, HEAD, PUT, DELETE and OPTIONS", WRITABLE)
}

fn not_allowed(detail: &'static str, allowed: HeaderValue) -> Response<GatewayBody> {
    let mut response = problem(Problem::new(ErrorCode::MethodNotAllowed, detail));
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
