//! Discovery by a real etcd: what a node writes there, what it makes of others, and what it survives.
//!
//! Each test starts an etcd of its own and several discoveries within the test's process. A node that crashes is a
//! discovery that is dropped: etcd sees no difference. Needs the program `etcd`, see `support/etcd.rs`.

mod etcd {
    mod follower;
    mod names;
    mod outages;
    mod proxy;
    mod secrets;
    mod watches;
}

#[path = "support/etcd.rs"]
mod server;
