//! ggcache: a distributed read-through cache that stands in front of a SQL database.
//!
//! Most people run the program. Rust developers can embed the library: a [`group::Group`] with a
//! [`group::Loader`] of their own answers reads from memory, and loads each absent key once, however many ask.
//!
//! ```
//! use std::time::Duration;
//!
//! use ggcache::group::{Group, GroupConfig, GroupName, GroupParts, GroupSettings, Key, Value};
//! use ggcache::origin::MapLoader;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let origin = MapLoader::new([(Key::new("anna").unwrap(), Value::text("333"))]);
//! let name = GroupName::new("scores").unwrap();
//! let parts = GroupParts::alone(origin);
//! let group = Group::new(name, GroupConfig::default(), GroupSettings::default(), parts);
//!
//! let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
//! let answer = group.get(b"anna", deadline).await.unwrap();
//! assert_eq!(answer.value.unwrap().bytes(), "333");
//! # });
//! ```
//!
//! The layers, from the inside out; a lower one never names a higher one, and `tests/tidy.rs` holds them to it:
//! `time`, `error`, `codec`, `head`, `problem`, `rpc`, `settings`, `task`, `telemetry`, `limit`, `net`, `access` may be used by all; then
//! [`cache`] and [`cluster`], which are pure; [`database`], connections to databases; [`group`], the read-through algorithm; the adapters [`origin`], [`changes`],
//! [`transport`], [`discovery`] and [`gateway`], which never name each other; [`config`]; [`client`], which is for applications;
//! [`app`], which joins them; [`cli`].

pub mod access;
pub mod app;
pub mod cache;
pub mod changes;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod database;
pub mod discovery;
pub mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod gateway;
pub mod group;
pub mod head;
pub mod limit;
pub mod net;
pub mod origin;
pub mod problem;
#[cfg(feature = "grpc")]
pub mod rpc;
pub mod settings;
#[cfg(test)]
mod simulation;
pub mod task;
pub mod telemetry;
pub mod time;
pub mod transport;
