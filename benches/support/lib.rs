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

/// A client that speaks HTTP to this machine.
///
/// # Panics
/// If it can't be made.
pub fn http(timeout: std::time::Duration) -> reqwest::Client {
    // reqwest wants to know by whom it would encrypt, also where it does not; the first one to say so is heard.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(timeout).build().expect("a client")
}
