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
    /// Who asks did not say who it is, or said so wrongly.
    Unauthenticated,
    /// Who asks is known, and may not do this.
    Forbidden,
    /// The group has no such key: the origin said so, now or within the negative ttl.
    KeyNotFound,
    /// No group of that name is configured.
    GroupNotFound,
    /// No route of that path exists.
    RouteNotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The request says what the present value has to be, and it is not.
    PreconditionFailed,
    /// The database does not accept the row that is to be written.
    Conflict,
    /// The request's body is of a media type that the route does not read.
    UnsupportedMediaType,
    /// The request's body or key, or the value, is larger than a limit.
    TooLarge,
    /// The client, the group, the node or the database is at the rate that is set for it.
    RateLimited,
    /// The node is at a limit on requests, flights or waiters.
    Overloaded,
    /// The origin can't be reached, refused, or its query failed.
    OriginUnavailable,
    /// No more queries may be sent to the database now: the group's budget or the rate of queries is used up.
    OriginBusy,
    /// The other nodes can't be reached, or are not known yet, and the database may not be asked instead.
    PeerUnavailable,
    /// The deadline of the request passed.
    DeadlineExceeded,
    /// The client wants an answer from memory, and there is none.
    NotCached,
    /// The node is stopping.
    ShuttingDown,
}

impl ErrorCode {
    /// Every code, for documentation and for reading a code back from the wire.
    pub const ALL: [Self; 19] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::KeyNotFound,
        Self::GroupNotFound,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::PreconditionFailed,
        Self::Conflict,
        Self::UnsupportedMediaType,
        Self::TooLarge,
        Self::RateLimited,
        Self::Overloaded,
        Self::OriginUnavailable,
        Self::OriginBusy,
        Self::PeerUnavailable,
        Self::DeadlineExceeded,
        Self::NotCached,
        Self::ShuttingDown,
    ];

    /// The stable name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::KeyNotFound => "key_not_found",
            Self::GroupNotFound => "group_not_found",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PreconditionFailed => "precondition_failed",
            Self::Conflict => "conflict",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::OriginUnavailable => "origin_unavailable",
            Self::OriginBusy => "origin_busy",
            Self::PeerUnavailable => "peer_unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotCached => "not_cached",
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
            Self::Unauthenticated => "Who asks is not known",
            Self::Forbidden => "Who asks may not do this",
            Self::KeyNotFound => "The group has no such key",
            Self::GroupNotFound => "There is no group of that name",
            Self::RouteNotFound => "There is nothing at this path",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::PreconditionFailed => "The value is not what the condition asks for",
            Self::Conflict => "The database does not accept the row",
            Self::UnsupportedMediaType => "The body's media type is not read here",
            Self::TooLarge => "Something is larger than a limit",
            Self::RateLimited => "There are more requests than a limit allows",
            Self::Overloaded => "The node is at a limit",
            Self::OriginUnavailable => "The database can't answer",
            Self::OriginBusy => "No more queries may be sent to the database now",
            Self::PeerUnavailable => "The nodes that have the key can't be asked",
            Self::DeadlineExceeded => "The deadline passed",
            Self::NotCached => "The key is not in memory",
            Self::ShuttingDown => "The node is stopping",
        }
    }

    /// The HTTP status that carries this code.
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::KeyNotFound | Self::GroupNotFound | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded
            | Self::OriginUnavailable
            | Self::OriginBusy
            | Self::PeerUnavailable
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            // RFC 9111, section 5.2.1.7, asks for this status.
            Self::DeadlineExceeded | Self::NotCached => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The gRPC code that carries this code.
    #[cfg(feature = "grpc")]
    pub const fn grpc_code(self) -> tonic::Code {
        use tonic::Code;
        match self {
            Self::BadRequest | Self::UnsupportedMediaType => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::KeyNotFound | Self::GroupNotFound => Code::NotFound,
            Self::RouteNotFound | Self::MethodNotAllowed => Code::Unimplemented,
            Self::PreconditionFailed | Self::Conflict => Code::FailedPrecondition,
            Self::TooLarge => Code::OutOfRange,
            Self::RateLimited | Self::Overloaded | Self::OriginBusy => Code::ResourceExhausted,
            Self::OriginUnavailable | Self::PeerUnavailable | Self::NotCached | Self::ShuttingDown => {
                Code::Unavailable
            }
            Self::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }

    /// Whether the same request may succeed at once, or at another node, without a change. One that met a rate may
    /// after its `Retry-After`, but not before, and trying the other nodes meanwhile is what the rate is to prevent.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::OriginUnavailable
                | Self::OriginBusy
                | Self::PeerUnavailable
                | Self::DeadlineExceeded
                | Self::NotCached
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
            // gRPC has one code for what is full and for who asked too often.
            assert_eq!(code.is_retryable(), retried && code != ErrorCode::RateLimited, "{}", code.as_str());
        }
    }
}
