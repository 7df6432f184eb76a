//! Who is in the cluster, who owns which key, and who can be asked right now.
//!
//! A key has a [`Place`] on the [`Ring`]; the ring says which [`Node`] owns it. A [`View`] is one
//! agreed set of nodes with its ring, swapped whole through a [`ViewCell`]. A [`HealthBoard`] says
//! which peers of the view answer.
//!
//! Everything here is pure: no I/O, no runtime, no logging, no clock (`now` is passed in). The ring is
//! for efficiency and never for correctness: two nodes with different views both answer correctly,
//! they only load a key twice. `discovery` makes the views, `group` routes by them, and the gateway
//! shows them.

mod health;
mod node;
mod place;
mod ring;
mod view;

pub use health::{Allow, Health, HealthBoard, HealthConfig, HealthState, Transition};
pub use node::{
    ADDRESS_BYTES_MAX, Address, AddressError, HexError, Node, NodeId, PROTOCOL_VERSION, WEIGHT_MAX,
    is_never_peer,
};
pub use place::{Place, place};
pub use ring::{POINTS_MAX, Point, Ring, Successors, VIRTUAL_NODES_MAX};
pub use view::{Epoch, View, ViewCell};
