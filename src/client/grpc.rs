//! Asks a node by the gRPC service `ggroupcachepb.GGroupCache`.

use std::{error::Error as _, time::Duration};

use http::{Uri, header};
use hyper_util::client::legacy::connect::HttpConnector;
use tonic::{
    Code, Request,
    metadata::AsciiMetadataValue,
    transport::{self, Channel},
};

use super::{BuildError, Endpoint, Fetched, error::Failure, token::Authorization, wire::Wire};
use crate::{
    error::ErrorCode,
    group::{BoxFuture, GroupName, Key},
    net::{Dialler, TlsConnect},
    rpc::{
        self,
        ggroupcachepb::{Request as GetRequest, g_group_cache_client::GGroupCacheClient},
    },
};

/// How often a connection is asked for a sign of life, and how long it is waited for: what a partition has cut is
/// given up then, and does not wait for TCP's growing retransmission times after it has healed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What a message takes beside the value.
const MESSAGE_OVERHEAD: usize = 64;

/// One connection to a node, made when it is first needed, and anew after it broke.
#[derive(Debug)]
pub(super) struct GrpcWire {
    client: GGroupCacheClient<Channel>,
    token: Option<Authorization>,
    endpoint: Endpoint,
    value_bytes_max: usize,
}

impl GrpcWire {
    pub(super) fn new(
        endpoint: &Endpoint,
        connect_timeout: Duration,
        value_bytes_max: usize,
        tls: Option<&Dialler>,
        token: Option<Authorization>,
    ) -> Result<Self, BuildError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let connector = TlsConnect::new(connector, tls, connect_timeout);
        let (scheme, address) = (if tls.is_some() { "https" } else { "http" }, &endpoint.address);
        let origin = Uri::try_from(format!("{scheme}://{address}")).expect("an address is a URI's authority");
        let channel = transport::Endpoint::from_shared(format!("http://{address}"))
            .map_err(BuildError::Grpc)?
            // The connector does what the scheme says.
            .origin(origin)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_with_connector_lazy(connector);
        let client = GGroupCacheClient::new(channel)
            .max_decoding_message_size(value_bytes_max.saturating_add(MESSAGE_OVERHEAD));
        Ok(Self { client, token, endpoint: endpoint.clone(), value_bytes_max })
    }

    async fn ask(
        &self,
        group: &GroupName,
        key: &Key,
        patience: Duration,
    ) -> Result<Option<Fetched>, Failure> {
        let node = || self.endpoint.clone();
        let key = std::str::from_utf8(key.as_bytes()).map_err(|_| Failure::NotText(node()))?;
        let mut request = Request::new(GetRequest { group: group.to_string(), key: key.to_owned() });
        // The node need not go on for longer than it is waited for.
        request.set_timeout(patience);
        if let Some(token) = self.token.as_ref().and_then(|token| token.value().to_str().ok()?.parse().ok()) {
            let mut token: AsciiMetadataValue = token;
            token.set_sensitive(true);
            request.metadata_mut().insert(header::AUTHORIZATION.as_str(), token);
        }
        match self.client.clone().get(request).await {
            Ok(response) => {
                let bytes = response.into_inner().value;
                if bytes.len() > self.value_bytes_max {
                    return Err(Failure::TooLarge(node(), self.value_bytes_max));
                }
                let (content_type, etag, cache_status) = (None, None, None);
                Ok(Some(Fetched { bytes, content_type, etag, cache_status, node: node(), attempts: 1 }))
            }
            Err(status) => match failure(status, node(), patience, self.value_bytes_max) {
                None => Ok(None),
                Some(failure) => Err(failure),
            },
        }
    }
}

/// Why there is no answer; `None` for an absence.
fn failure(
    status: tonic::Status,
    node: Endpoint,
    patience: Duration,
    value_bytes_max: usize,
) -> Option<Failure> {
    match rpc::error_code(&status) {
        Some(ErrorCode::KeyNotFound) => return None,
        Some(code) => return Some(Failure::Refused(node, code, status.message().to_owned())),
        None => {}
    }
    // Without a node's code it is another server of the same service, a proxy, or this side's own transport.
    Some(match status.code() {
        Code::NotFound => return None,
        Code::DeadlineExceeded | Code::Cancelled => Failure::Silent(node, patience),
        Code::InvalidArgument => Failure::Refused(node, ErrorCode::BadRequest, status.message().to_owned()),
        Code::ResourceExhausted => Failure::Refused(node, ErrorCode::Overloaded, status.message().to_owned()),
        // What tonic's decoder says of a message above its limit.
        Code::OutOfRange => Failure::TooLarge(node, value_bytes_max),
        // A connection that was refused, or broke: tonic says either.
        Code::Unavailable | Code::Unknown => Failure::unconnected(node, status),
        // tonic keeps the cause of what went wrong at this end; what came over the wire has none. A node that stops says
        // GOAWAY, and what it does not take any more ends here as `Internal`.
        _ if status.source().is_some() => Failure::unconnected(node, status),
        _ => Failure::Rpc(node, status),
    })
}

impl Wire for GrpcWire {
    fn get<'a>(
        &'a self,
        group: &'a GroupName,
        key: &'a Key,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Fetched>, Failure>> {
        Box::pin(self.ask(group, key, patience))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tonic::Status;

    use super::*;

    fn node() -> Endpoint {
        "grpc://h:1".parse().expect("valid")
    }

    fn of(status: Status) -> Option<Failure> {
        failure(status, node(), Duration::from_secs(1), 10)
    }

    #[test]
    fn a_node_s_code_says_more_than_the_status() {
        assert!(of(rpc::status(ErrorCode::KeyNotFound, "")).is_none());
        for code in ErrorCode::ALL.into_iter().filter(|code| *code != ErrorCode::KeyNotFound) {
            let failure = of(rpc::status(code, "detail")).expect("no absence");
            assert_eq!((failure.code(), failure.is_retryable()), (code, code.is_retryable()));
        }
    }

    #[test]
    fn others_are_understood_by_their_status() {
        assert!(of(Status::not_found("")).is_none());
        for (status, code, retryable) in [
            (Status::unavailable(""), ErrorCode::PeerUnavailable, true),
            (Status::unknown(""), ErrorCode::PeerUnavailable, true),
            (Status::deadline_exceeded(""), ErrorCode::DeadlineExceeded, true),
            (Status::resource_exhausted(""), ErrorCode::Overloaded, true),
            (Status::invalid_argument(""), ErrorCode::BadRequest, false),
            (Status::internal(""), ErrorCode::PeerUnavailable, false),
            (Status::unimplemented(""), ErrorCode::RouteNotFound, false),
        ] {
            let failure = of(status).expect("no absence");
            assert_eq!((failure.code(), failure.is_retryable()), (code, retryable), "{failure}");
        }
    }

    #[test]
    fn what_broke_at_this_end_is_a_node_out_of_reach() {
        for (code, is_unreachable) in [
            (Code::Internal, true),
            (Code::Unknown, true),
            (Code::PermissionDenied, true),
            // A limit and a deadline of this client's own.
            (Code::OutOfRange, false),
            (Code::Cancelled, false),
            (Code::DeadlineExceeded, false),
        ] {
            let mut status = Status::new(code, "");
            status.set_source(Arc::new(std::io::Error::other("it broke")));
            let failure = of(status).expect("no absence");
            assert_eq!(matches!(failure, Failure::Unreachable(..)), is_unreachable, "{code:?}: {failure:?}");
        }
    }

    /// The kind of the next frame (RFC 9113, section 4.1), which is read to its end.
    async fn frame(stream: &mut TcpStream) -> u8 {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame's head");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("at most 24 bits")];
        stream.read_exact(&mut payload).await.expect("a frame's payload");
        head[3]
    }

    #[tokio::test]
    async fn a_node_that_stops_before_it_took_the_request_is_out_of_reach() {
        const HEADERS: u8 = 1;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stopping = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.read_exact(&mut [0; 24]).await.expect("the preface");
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("SETTINGS");
            while frame(&mut stream).await != HEADERS {}
            // GOAWAY without an error: no stream was taken.
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            stream.write_all(&goaway).await.expect("GOAWAY");
            // It closes when it likes.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let node = format!("grpc://{address}").parse().expect("valid");
        let wire = GrpcWire::new(&node, Duration::from_secs(10), 10, None, None).expect("valid");
        let (group, key) = (GroupName::new("g").expect("valid"), Key::new("k").expect("valid"));
        let failure = wire.ask(&group, &key, Duration::from_secs(10)).await.expect_err("nobody took it");
        assert!(matches!(failure, Failure::Unreachable(..)), "{failure:?}");
        assert!(failure.is_retryable() && failure.blames_node());
        drop(wire);
        stopping.await.expect("no panic");
    }

    #[tokio::test]
    async fn keys_that_are_not_text_are_refused_before_they_are_sent() {
        let wire = GrpcWire::new(&node(), Duration::from_secs(1), 10, None, None).expect("valid");
        let group = GroupName::new("g").expect("valid");
        let key = Key::new([0xff]).expect("valid");
        let failure = wire.ask(&group, &key, Duration::from_secs(1)).await.expect_err("not text");
        assert_eq!((failure.code(), failure.is_retryable()), (ErrorCode::BadRequest, false));
    }
}
