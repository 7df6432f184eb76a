//! How nodes speak to each other: over HTTP, by gRPC, and in memory for tests and simulations.
//!
//! Every transport implements [`PeerTransport`](crate::group::PeerTransport) and passes one conformance suite. The
//! callee's side of each ends in [`Group::get_as_owner`](crate::group::Group::get_as_owner).

mod callee;
#[cfg(test)]
mod conformance;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod memory;
mod resolve;
mod sealed;

#[cfg(feature = "grpc")]
pub use grpc::{GrpcTransport, PEER_SERVICE, PeerRpcs, SealedRpcs};
pub use http::{HttpClientError, HttpTransport, PeerService};
pub use memory::{Fault, MemoryNetwork, MemoryTransport};
pub use sealed::unix_time_ms;
