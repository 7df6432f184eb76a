//! What everything that speaks gRPC shares: the types generated from `proto/`, how they are read and written, and how
//! an [`ErrorCode`] travels.
//!
//! The services themselves stand with their callers' planes: what clients ask for in `gateway`, what nodes say to
//! each other in `transport`.

mod codec;
mod timeout;

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

pub use codec::WireCodec;
pub use timeout::{TimeoutError, read_timeout};

use crate::{error::ErrorCode, problem::Problem};

/// The service that clients ask.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::default_trait_access,
    clippy::missing_errors_doc,
    unused_qualifications,
    reason = "generated code has a style of its own"
)]
pub mod ggroupcachepb {
    tonic::include_proto!("ggroupcachepb");

    /// The file it was generated from, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ggroupcache.fds"));
}

/// What nodes say to each other.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::default_trait_access,
    clippy::missing_errors_doc,
    unused_qualifications,
    reason = "generated code has a style of its own"
)]
pub mod peer_v1 {
    tonic::include_proto!("ggcache.peer.v1");

    /// The file it was generated from, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ggcache_peer_v1.fds"));
}

/// On errors: the name of the [`ErrorCode`], which says more than a gRPC code does.
pub const ERROR: &str = "ggcache-error";

/// On errors: the request's id, under which the node's log has it.
pub const REQUEST_ID: &str = "ggcache-request-id";

/// The status that carries `code`, with a sentence on this occurrence.
pub fn status(code: ErrorCode, detail: impl Into<String>) -> Status {
    let mut metadata = MetadataMap::with_capacity(1);
    metadata.insert(ERROR, MetadataValue::from_static(code.as_str()));
    Status::with_metadata(code.grpc_code(), detail, metadata)
}

/// The status that carries a problem, with the request's id beside it.
pub fn problem_status(problem: &Problem) -> Status {
    let mut status = status(problem.code(), problem.detail());
    if let Ok(id) = MetadataValue::try_from(problem.request_id().to_string()) {
        status.metadata_mut().insert(REQUEST_ID, id);
    }
    status
}

/// The code that a status of another node carries. `None` if it carries none that this version knows.
pub fn error_code(status: &Status) -> Option<ErrorCode> {
    match status.metadata().get(ERROR) {
        Some(name) => ErrorCode::from_name(name.to_str().ok()?),
        // Answered before there was anybody who could say more: the node does not know the service or the method.
        None => (status.code() == Code::Unimplemented).then_some(ErrorCode::RouteNotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_way() {
        for code in ErrorCode::ALL {
            assert_eq!(error_code(&status(code, "detail")), Some(code));
        }
        assert_eq!(error_code(&Status::unimplemented("")), Some(ErrorCode::RouteNotFound));
        assert_eq!(error_code(&Status::internal("")), None);
    }
}
