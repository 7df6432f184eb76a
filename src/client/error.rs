//! Why a read gave neither a value nor an absence.

use std::time::Duration;

use thiserror::Error;

use super::{ATTEMPT_MIN, Endpoint};
use crate::{error::ErrorCode, net::is_certificate_disbelieved};

/// A read that failed, with all its attempts. The cause is that of the last one.
#[derive(Debug, Error)]
#[error("the read failed after {} ms, in {attempts} attempt{}", took.as_millis(), if *attempts == 1 { "" } else { "s" })]
pub struct ClientError {
    attempts: usize,
    took: Duration,
    #[source]
    last: Failure,
}

impl ClientError {
    pub(super) const fn new(last: Failure, attempts: usize, took: Duration) -> Self {
        Self { attempts, took, last }
    }

    /// The code that the last node answered with. In its absence [`ErrorCode::DeadlineExceeded`] for a node that was
    /// silent, and [`ErrorCode::PeerUnavailable`] for one that could not be reached, or understood.
    pub const fn code(&self) -> ErrorCode {
        self.last.code()
    }

    /// Whether the same read may succeed later without a change.
    pub const fn is_retryable(&self) -> bool {
        self.last.is_retryable()
    }

    /// How often a node was asked. Zero if none was known.
    pub const fn attempts(&self) -> usize {
        self.attempts
    }
}

/// Why one attempt failed.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(
        "no node is known: etcd names none for the service, or does not answer; see --etcd and --service"
    )]
    NoNodes,
    #[error("{0} can't be reached")]
    Unreachable(Endpoint, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the certificate of {0} is not believed; --ca names a file with the authorities to believe")]
    Disbelieved(Endpoint, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} was silent for {1:?}")]
    Silent(Endpoint, Duration),
    #[error("{0} answered {code}: {2}", code = .1.as_str())]
    Refused(Endpoint, ErrorCode, String),
    /// A proxy's error, or a server's that is no node.
    #[error("{0} answered status {1}, which is not a node's answer")]
    Status(Endpoint, u16),
    #[error("{0} sent a value of more than {1} bytes, which is this client's limit")]
    TooLarge(Endpoint, usize),
    #[cfg(feature = "grpc")]
    #[error("the key is not text (UTF-8), and {0} takes only text; ask over HTTP")]
    NotText(Endpoint),
    /// A proxy's error, or a server's that is no node.
    #[cfg(feature = "grpc")]
    #[error("{0} answered with a status that is not a node's answer")]
    Rpc(Endpoint, #[source] tonic::Status),
}

impl Failure {
    pub(super) const fn code(&self) -> ErrorCode {
        match self {
            Self::NoNodes | Self::Unreachable(..) | Self::Disbelieved(..) | Self::Status(..) => {
                ErrorCode::PeerUnavailable
            }
            Self::Silent(..) => ErrorCode::DeadlineExceeded,
            Self::Refused(_, code, _) => *code,
            Self::TooLarge(..) => ErrorCode::TooLarge,
            #[cfg(feature = "grpc")]
            Self::NotText(_) => ErrorCode::BadRequest,
            #[cfg(feature = "grpc")]
            Self::Rpc(..) => ErrorCode::PeerUnavailable,
        }
    }

    /// Whether another attempt may end better.
    pub(super) const fn is_retryable(&self) -> bool {
        match self {
            Self::NoNodes | Self::Unreachable(..) | Self::Silent(..) => true,
            Self::Refused(_, code, _) => code.is_retryable(),
            // What a proxy says when the node behind it is away.
            Self::Status(_, status) => matches!(status, 502..=504),
            Self::Disbelieved(..) | Self::TooLarge(..) => false,
            #[cfg(feature = "grpc")]
            Self::NotText(_) | Self::Rpc(..) => false,
        }
    }

    /// What came of a connection, or of none.
    pub(super) fn unconnected(
        node: Endpoint,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let error = error.into();
        if is_certificate_disbelieved(&*error) {
            Self::Disbelieved(node, error)
        } else {
            Self::Unreachable(node, error)
        }
    }

    /// Whether the node would say the same again, and another one may not.
    pub(super) const fn is_final_there(&self) -> bool {
        matches!(self, Self::Disbelieved(..))
    }

    /// Whether the node is to be asked last for a while. A node that answers at all is well: a database that
    /// is down looks the same from the others.
    pub(super) fn blames_node(&self) -> bool {
        match self {
            Self::Unreachable(..) | Self::Disbelieved(..) | Self::Status(..) => true,
            // Within less, nobody could have answered.
            Self::Silent(_, patience) => *patience >= ATTEMPT_MIN,
            Self::Refused(_, code, _) => matches!(code, ErrorCode::ShuttingDown | ErrorCode::Overloaded),
            Self::NoNodes | Self::TooLarge(..) => false,
            #[cfg(feature = "grpc")]
            Self::NotText(_) => false,
            #[cfg(feature = "grpc")]
            Self::Rpc(..) => true,
        }
    }
}
