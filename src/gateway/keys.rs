//! What is said to a method that a key does not answer.

pub(super) mod document;
mod parameters;

pub(super) use parameters::{GroupInPath, KeyInQuery};

use http::{HeaderValue, Response, header};

use super::{GatewayBody, problem};
use crate::{error::ErrorCode, problem::Problem};

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// 405, with the methods that there are.
pub(super) fn method_not_allowed() -> Response<GatewayBody> {
    let mut response = problem(Problem::new(
        ErrorCode::MethodNotAllowed,
        "a key answers GET, HEAD and OPTIONS; the group is not writable",
    ));
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}
