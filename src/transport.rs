//! How nodes speak to each other: over HTTP, by gRPC, and in memory for tests and simulations.
//!
//! Every transport implements [`PeerTransport`](crate::group::PeerTransport) and passes one conformance suite. The
//! callee's side of each ends in [`Group::get_as_owner`](crate::group::Group::get_as_owner).

mod callee;
#[cfg(test)]
mod conformance;
mod gate;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod memory;
mod resolve;
mod sealed;
mod tls;

pub use gate::PeerGate;
#[cfg(all(feature = "fuzzing", feature = "grpc"))]
pub(crate) use grpc::fuzz_grpc_messages;
#[cfg(feature = "grpc")]
pub use grpc::{GrpcTransport, PEER_SERVICE, PeerRpcs};
pub use http::{HttpClientError, HttpTransport, PEER_ROUTES, PeerRoute, PeerService};
#[cfg(feature = "fuzzing")]
pub(crate) use http::{fuzz_frames, fuzz_messages};
pub use memory::{Fault, MemoryNetwork, MemoryTransport};
pub use sealed::unix_time_ms;
pub use tls::PeerTls;
