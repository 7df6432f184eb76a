//! What docs/queue.md promises of a message queue: the consumer in `examples/nats.rs`, a real NATS server, real nodes.
//!
//! Needs the program `nats-server`, see `support/nats.rs`, and the example, which `cargo test` builds.

mod queue {
    mod consumer;
    mod feeding;
    mod messages;
}

#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other tests, each of which takes what it needs")]
mod support;

#[path = "support/nats.rs"]
mod nats;

#[path = "../examples/nats/message.rs"]
mod message;
