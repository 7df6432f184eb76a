//! The accept loop of every plane: hyper's HTTP/1 server with limits that hold before there is a request.
//!
//! `axum::serve` sets no timer and knows no cap on connections, so the planes don't use it. Whoever serves a plane
//! gives a [`Handler`]; nothing here knows what it answers.

mod config;
mod guarded;
mod server;

pub use config::LimitsConfig;
pub use server::{Handler, Plane, serve};
