//! Who may ask: tokens for clients and operators, and the seal by which nodes know each other.
//!
//! A client shows a token, `Authorization: Bearer ggc_…`. [`Access`] knows tokens by their SHA-256 only, and makes a
//! [`Caller`] of a request's header; the caller says what it may ([`Caller::may`]). A connection keeps a [`Memo`] of the
//! header that it has accepted last. Nodes that share a secret seal what they ask each other ([`seal`]).
//!
//! Invariants: no token and no secret is in a log, a `Debug`, an error or the effective settings; what is compared with
//! a secret is compared in constant time; nothing here grows with what strangers send. This module knows neither routes
//! nor groups: `gateway` asks it for clients, `transport` for nodes.

mod caller;
mod check;
mod config;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod memo;
mod scope;
mod seal;
mod token;

pub use caller::{AccessError, Caller};
pub use check::Access;
pub use config::{AuthConfig, TokenConfig, token_name};
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz_token;
pub use memo::Memo;
pub use scope::{Scope, ScopeError, Scopes};
#[cfg(feature = "fuzzing")]
pub(crate) use seal::fuzz_seal;
pub use seal::{
    BodyDigest, Head, PeerSecret, SEAL, SealConfig, SealError, Sealer, Secrets, SecretsError, Verifier,
};
pub use token::{Token, TokenError, TokenHash};
