//! The peer protocol over gRPC, on the peer plane: the service `ggcache.peer.v1.Peer` of `proto/ggcache_peer_v1.proto`.
//!
//! Both sides speak it whatever `cluster.transport` says: the setting chooses what a node asks by, and every node
//! answers in both ways. A node of another version answers UNIMPLEMENTED to what it does not know, which arrives as
//! [`ErrorCode::RouteNotFound`](crate::error::ErrorCode::RouteNotFound).

mod client;
mod convert;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod links;
mod sealed;
mod service;

pub use client::GrpcTransport;
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz_grpc_messages;
pub use sealed::SealedRpcs;
pub use service::{PEER_SERVICE, PeerRpcs};

/// The largest request, in bytes: a message with all the keys that it may name, at their longest, and some room.
const REQUEST_BYTES_MAX: usize = 2 << 20;
