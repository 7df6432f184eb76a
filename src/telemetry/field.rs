//! The names of the fields in log lines, so that one thing has one name everywhere. A key is named by its hash only.

/// The group's name.
pub const GROUP: &str = "group.name";
/// The name of a `[database.NAME]` section.
pub const DATABASE: &str = "database.name";
/// The key's place on the ring, 16 hex digits: the same at every node.
pub const KEY_HASH: &str = "key.hash";
/// The advertised address of another node.
pub const PEER: &str = "peer.id";
/// The advertised address of this node.
pub const NODE: &str = "node.id";
/// The epoch of the view.
pub const RING_EPOCH: &str = "ring.epoch";
/// Which of the owner's virtual nodes covers the key's place.
pub const RING_POINT: &str = "ring.point";
/// Where an answer came from.
pub const OUTCOME: &str = "outcome";
/// A duration in milliseconds.
pub const DURATION_MS: &str = "duration_ms";
