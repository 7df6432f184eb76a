//! The codes by which every answer names its failure, over any protocol.
//!
//! One place maps a cause to an HTTP status and to a gRPC code. The codes are part of the interface: clients match on
//! them, so that a code is never renamed.

use http::StatusCode;

/// Why a request was not answered with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is malformed; the detail says what would be right.
    BadRequest,
    /// The group has no such key: the origin said so, now or within the negative ttl.
    KeyNotFound,
    /// No group of that name is configured.
    GroupNotFound,
    /// The request does not show who sends it, and must.
    Unauthenticated,
    /// Who sends the request may not have it answered.
    Forbidden,
    /// No route of that path exists.
    RouteNotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The request's body is of a media type that the route does not read.
    UnsupportedMediaType,
    /// The request's body or key, or the value, is larger than a limit.
    TooLarge,
    /// The node is at a limit on requests, flights or waiters.
    Overloaded,
    /// The origin can't be reached, refused, or its query failed.
    OriginUnavailable,
    /// The group's budget of concurrent queries is used up.
    OriginBusy,
    /// The other nodes can't be reached, or are not known yet, and the database may not be asked instead.
    PeerUnavailable,
    /// The deadline of the request passed.
    DeadlineExceeded,
    /// The node is stopping.
    ShuttingDown,
}

impl ErrorCode {
    /// Every code, for documentation and for reading a code back from the wire.
    pub const ALL: [Self; 15] = [
        Self::BadRequest,
        Self::KeyNotFound,
        Self::GroupNotFound,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::TooLarge,
        Self::Overloaded,
        Self::OriginUnavailable,
        Self::OriginBusy,
        Self::PeerUnavailable,
        Self::DeadlineExceeded,
        Self::ShuttingDown,
    ];

    /// The stable name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::KeyNotFound => "key_not_found",
            Self::GroupNotFound => "group_not_found",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::OriginUnavailable => "origin_unavailable",
            Self::OriginBusy => "origin_busy",
            Self::PeerUnavailable => "peer_unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// Reads a code back from the wire; `None` for a name that this version does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// A short sentence for people, the same for every occurrence.
    pub const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is malformed",
            Self::KeyNotFound => "The group has no such key",
            Self::GroupNotFound => "There is no group of that name",
            Self::Unauthenticated => "The request does not show who sends it",
            Self::Forbidden => "Who sends the request may not do this",
            Self::RouteNotFound => "There is nothing at this path",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::UnsupportedMediaType => "The body's media type is not read here",
            Self::TooLarge => "Something is larger than a limit",
            Self::Overloaded => "The node is at a limit",
            Self::OriginUnavailable => "The database can't answer",
            Self::OriginBusy => "The budget of concurrent queries is used up",
            Self::PeerUnavailable => "The nodes that have the key can't be asked",
            Self::DeadlineExceeded => "The deadline passed",
            Self::ShuttingDown => "The node is stopping",
        }
    }

    /// The HTTP status that carries this code.
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::KeyNotFound | Self::GroupNotFound | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded
            | Self::OriginUnavailable
            | Self::OriginBusy
            | Self::PeerUnavailable
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The gRPC code that carries this code.
    #[cfg(feature = "grpc")]
    pub const fn grpc_code(self) -> tonic::Code {
        use tonic::Code;
        match self {
            Self::BadRequest | Self::UnsupportedMediaType => Code::InvalidArgument,
            Self::KeyNotFound | Self::GroupNotFound => Code::NotFound,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::RouteNotFound | Self::MethodNotAllowed => Code::Unimplemented,
            Self::TooLarge => Code::OutOfRange,
            Self::Overloaded | Self::OriginBusy => Code::ResourceExhausted,
            Self::OriginUnavailable | Self::PeerUnavailable | Self::ShuttingDown => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }

    /// Whether the same request may succeed later, or at another node, without a change.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::OriginUnavailable
                | Self::OriginBusy
                | Self::PeerUnavailable
                | Self::DeadlineExceeded
                | Self::ShuttingDown
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(code));
        }
        assert_eq!(ErrorCode::from_name("no_such_code"), None);
    }

    #[test]
    fn only_server_errors_are_retryable() {
        for code in ErrorCode::ALL {
            assert_eq!(code.is_retryable(), code.http_status().is_server_error(), "{}", code.as_str());
        }
    }
    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_codes_tell_what_to_retry() {
        use tonic::Code;
        for code in ErrorCode::ALL {
            let retried = matches!(
                code.grpc_code(),
                Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded
            );
            assert_eq!(code.is_retryable(), retried, "{}", code.as_str());
        }
    }
}
