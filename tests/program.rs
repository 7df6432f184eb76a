//! The program as its users have it: processes, sockets and database files, and what is promised of them.
//!
//! One module for each promise. What needs a clock or a fault inside the process is tested in `tests/cluster.rs`.

mod program {
    mod access;
    mod changes;
    mod commands;
    mod invalidation;
    mod keys;
    mod lifecycle;
    mod limits;
    mod logs;
    mod malformed;
    #[cfg(feature = "etcd")]
    mod membership;
    mod origin;
    mod reload;
    mod secret;
    mod stampede;
    mod story;
    mod tls;
    mod writes;
}

#[path = "support/lib.rs"]
#[expect(dead_code, reason = "the measurements in benches/ use the rest of it")]
mod support;

#[cfg(feature = "etcd")]
#[path = "support/etcd.rs"]
#[expect(dead_code, reason = "shared with the tests of discovery")]
mod server;
