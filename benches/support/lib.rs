//! Clusters of real processes under a steady load, for the programs that measure what a fault or a change costs.
//!
//! A [`fleet::Fleet`] is the nodes (and the etcd that they meet in, where the build knows one), a [`load::Load`] the
//! requests that go on meanwhile through the library's own client. All processes and namespaces that were started are
//! gone when their owner is dropped. Stands on `tests/support`, which the including program names `support`.

pub mod etcd;
pub mod fleet;
pub mod frames;
pub mod items;
pub mod load;
pub mod network;
pub mod queries;
