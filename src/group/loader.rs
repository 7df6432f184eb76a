//! The port through which a group reads its origin.

use std::{error::Error as StdError, future::Future, pin::Pin, sync::Arc};

use thiserror::Error;

use super::{Key, Value};
use crate::error::ErrorCode;

/// A boxed future, so that loaders and transports can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads values from the remote system that a group stands in front of.
///
/// The group calls it from a task of its own, at most once at a time for each key, and decides itself
/// what is kept and for how long. A loader MUST NOT cache.
///
/// Cancel safety: the group may drop the future (a timeout, a shutdown). A loader whose work can't be
/// stopped lets it run to its end elsewhere, and goes on counting it against its own limits.
pub trait Loader: Send + Sync + 'static {
    /// Reads `keys` in one round trip where the origin allows it. The answer has one element for each
    /// key, in the order of `keys`: the value, or `None` if the origin says that there is no such key.
    ///
    /// # Errors
    /// An origin that failed, refused or was not asked. [`LoadError::Row`], [`LoadError::TooLarge`] and
    /// [`LoadError::TooMuch`] of several keys say that fewer may do: the group asks again for parts of them. That is never the same as `None`: an absent key
    /// is remembered, an error is not.
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>>;
}

impl<L: Loader + ?Sized> Loader for Arc<L> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        (**self).load(keys)
    }
}

/// Lists the keys of an origin, for a preload. A second port, since not every origin can.
pub trait KeyScan: Send + Sync + 'static {
    /// At most `limit` keys that come after `after` in the origin's key order, or the first ones. Fewer
    /// than `limit` does not mean the end, since an origin may skip rows whose key is no [`Key`]; an empty
    /// answer does.
    ///
    /// # Errors
    /// As [`Loader::load`].
    fn keys_after<'a>(
        &'a self,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Key>, LoadError>>;
}

/// Why a load brought no answer. Cheap to clone: every waiter of a flight gets one.
#[derive(Clone, Debug, Error)]
pub enum LoadError {
    /// The origin can't be reached, or its query failed.
    #[error("the origin could not answer")]
    Unavailable(#[source] Arc<dyn StdError + Send + Sync>),
    /// The connection had been cut before the query, by a restart of the origin for example. Nothing was read.
    #[error("the connection to the origin was cut")]
    Disconnected(#[source] Arc<dyn StdError + Send + Sync>),
    /// The origin is there, and refused the query.
    #[error("the origin refused the query")]
    Refused(#[source] Arc<dyn StdError + Send + Sync>),
    /// The origin kept failing, and was not asked.
    #[error("the origin keeps failing, and is asked by single queries until it answers")]
    Open,
    /// The origin took longer than it may.
    #[error("the origin did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// All of the group's concurrent queries were in use until the deadline.
    #[error("all {0} concurrent queries of the group are in use")]
    Busy(usize),
    /// As many queries as may be sent in a time have been sent.
    #[error("the rate of queries that reach the origin is used up; there is another one in {0:?}")]
    Limited(std::time::Duration),
    /// A row can't be read. Of several keys, it is one's fault.
    #[error("a row of the origin can't be read")]
    Row(#[source] Arc<dyn StdError + Send + Sync>),
    /// The values of several keys are too large to be in memory at once.
    #[error("the values that are loaded together have more than {0} bytes")]
    TooMuch(usize),
    /// A value is larger than the limit.
    #[error("the value has {bytes} bytes, and at most {limit} are served")]
    TooLarge { bytes: usize, limit: usize },
    /// The loader ended without an answer (it panicked, or answered another number of keys).
    #[error("the loader broke its contract: {0}")]
    Broken(&'static str),
}

impl LoadError {
    /// An origin's failure, with its cause.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// A connection that turned out cut, with its cause.
    pub fn disconnected(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Disconnected(Arc::from(source.into()))
    }

    /// A query that was refused, with what the origin said.
    pub fn refused(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Refused(Arc::from(source.into()))
    }

    /// A row that can't be read, with what is wrong with it.
    pub fn row(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Row(Arc::from(source.into()))
    }

    /// Whether one of several keys may be the reason, so that the others can be loaded without it.
    pub const fn is_one_key_s(&self) -> bool {
        matches!(self, Self::Row(_) | Self::TooLarge { .. } | Self::TooMuch(_))
    }

    /// The code that an answer carries for this error.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable(_)
            | Self::Disconnected(_)
            | Self::Refused(_)
            | Self::Open
            | Self::Timeout(_)
            | Self::Row(_)
            | Self::Broken(_) => ErrorCode::OriginUnavailable,
            Self::TooMuch(_) => ErrorCode::Overloaded,
            Self::Busy(_) | Self::Limited(_) => ErrorCode::OriginBusy,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
        }
    }
}
