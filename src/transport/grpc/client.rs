//! The caller's side: what a node asks its peers over gRPC.

use std::{error::Error as _, sync::Arc, time::Duration};

use tonic::{
    Code, Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
};

use super::{
    super::{gate::FROM, sealed::Sealing, tls::PeerTls},
    convert::{answer_in, handover_out, invalidation_out, keys_out, ms_down, position_out, words_in},
    links::Links,
    sealed::SealedChannel,
};
use crate::{
    access::Sealer,
    cluster::Node,
    error::ErrorCode,
    group::{
        BoxFuture, HANDOVER_KEYS_MAX, Handover, Invalidation, PEEKED_BYTES_MAX, PeekMany, PeerAnswer,
        PeerBatch, PeerError, PeerRequest, PeerTransport, PeerWord,
    },
    rpc::{
        self,
        peer_v1::{self, peer_client::PeerClient},
    },
    telemetry::trace::TRACEPARENT,
};

/// What the answers of a message have beside their values, in bytes, with some room for fields of newer versions.
const ANSWERS_ROOM: usize = 128 * HANDOVER_KEYS_MAX;

/// Asks peers over gRPC. Connections are kept and shared.
#[derive(Debug)]
pub struct GrpcTransport {
    links: Links,
    sender: Sender,
    value_bytes_max: usize,
    sealing: Arc<Sealing>,
}

/// Puts this node's name into each request, where there is TLS to prove it.
#[derive(Clone, Debug)]
struct Sender(Option<AsciiMetadataValue>);

impl Interceptor for Sender {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(from) = &self.0 {
            request.metadata_mut().insert(FROM, from.clone());
        }
        Ok(request)
    }
}

type Client = PeerClient<InterceptedService<SealedChannel, Sender>>;

impl GrpcTransport {
    /// A client that gives up a connection attempt after `connect_timeout`, and refuses values of more than
    /// `value_bytes_max` bytes. It speaks TLS if it is told how.
    pub fn new(connect_timeout: Duration, value_bytes_max: usize, tls: Option<PeerTls>) -> Self {
        let links = Links::new(connect_timeout, tls.as_ref().map(|tls| &tls.dialler));
        let from = tls.map(|tls| tls.from);
        Self {
            links,
            sender: Sender(from.and_then(|from| from.to_str().ok()?.parse().ok())),
            value_bytes_max,
            sealing: Arc::default(),
        }
    }

    /// Seals every request, if there is something to seal it with.
    pub fn sealing(self, sealer: Option<Arc<Sealer>>) -> Self {
        Self { sealing: Sealing::new(sealer), ..self }
    }

    /// One call of `node`, given up after `patience`.
    async fn call<T, F>(
        &self,
        node: &Node,
        patience: Duration,
        ask: impl FnOnce(Client) -> F,
    ) -> Result<T, PeerError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let seat = self.links.seat(&node.address).map_err(PeerError::unreachable)?;
        let channel =
            SealedChannel::new(seat.channel.clone(), node.address.clone(), Arc::clone(&self.sealing));
        // The sender's name goes in before the seal, which covers it.
        let service = InterceptedService::new(channel, self.sender.clone());
        let client = Client::new(service).max_decoding_message_size(
            self.value_bytes_max.max(PEEKED_BYTES_MAX).saturating_add(ANSWERS_ROOM),
        );
        match tokio::time::timeout(patience, ask(client)).await {
            Ok(answered) => answered
                .map(Response::into_inner)
                .map_err(failure)
                .inspect_err(|e| self.sealing.note(node, e)),
            Err(_) => Err(PeerError::Silent(patience)),
        }
    }

    fn answer(&self, answer: peer_v1::Answer) -> Result<PeerAnswer, PeerError> {
        answer_in(answer, self.value_bytes_max)
    }
}

impl PeerTransport for GrpcTransport {
    fn get<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<PeerAnswer, PeerError>> {
        let message = peer_v1::GetRequest {
            group: request.group.to_string(),
            key: bytes::Bytes::copy_from_slice(request.key.as_bytes()),
            epoch: request.epoch.0,
            budget_ms: Some(ms_down(request.budget)),
            digest: request.digest,
            fresh: request.is_fresh,
            need: request.need.map(position_out),
        };
        let mut message = Request::new(message);
        if let Some(trace) = request.trace.and_then(|trace| trace.to_string().parse().ok()) {
            message.metadata_mut().insert(TRACEPARENT, trace);
        }
        Box::pin(async move {
            let answered = self
                .call(node, request.budget, |mut client| async move { client.get(message).await })
                .await?;
            let answer =
                answered.answer.ok_or_else(|| PeerError::Unknown("it holds no answer".to_owned()))?;
            self.answer(answer)
        })
    }

    fn get_many<'a>(
        &'a self,
        node: &'a Node,
        batch: &'a PeerBatch,
    ) -> BoxFuture<'a, Result<Vec<PeerWord>, PeerError>> {
        let message = peer_v1::GetManyRequest {
            group: batch.group.to_string(),
            keys: keys_out(&batch.keys),
            epoch: batch.epoch.0,
            budget_ms: Some(ms_down(batch.budget)),
            digest: batch.digest,
            only_cached: batch.only_cached,
            need: batch.need.map(position_out),
        };
        Box::pin(async move {
            let ask = |mut client: Client| async move { client.get_many(message).await };
            let answered = self.call(node, batch.budget, ask).await?;
            words_in(answered.words, self.value_bytes_max)
        })
    }

    fn peek<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeerRequest,
    ) -> BoxFuture<'a, Result<Option<PeerAnswer>, PeerError>> {
        let message = peer_v1::PeekRequest {
            group: request.group.to_string(),
            key: bytes::Bytes::copy_from_slice(request.key.as_bytes()),
            epoch: request.epoch.0,
            digest: request.digest,
        };
        Box::pin(async move {
            let answered = self
                .call(node, request.budget, |mut client| async move { client.peek(message).await })
                .await?;
            answered.answer.map(|answer| self.answer(answer)).transpose()
        })
    }

    fn peek_many<'a>(
        &'a self,
        node: &'a Node,
        request: &'a PeekMany,
    ) -> BoxFuture<'a, Result<Vec<Option<PeerAnswer>>, PeerError>> {
        let message =
            peer_v1::PeekManyRequest { group: request.group.to_string(), keys: keys_out(&request.keys) };
        Box::pin(async move {
            let ask = |mut client: Client| async move { client.peek_many(message).await };
            let answered = self.call(node, request.budget, ask).await?;
            let answers = answered.answers.into_iter();
            answers.map(|peeked| peeked.answer.map(|answer| self.answer(answer)).transpose()).collect()
        })
    }

    fn invalidate<'a>(
        &'a self,
        node: &'a Node,
        invalidation: &'a Invalidation,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        let message = invalidation_out(invalidation);
        Box::pin(async move {
            let ask = |mut client: Client| async move { client.invalidate(message).await };
            Ok(self.call(node, invalidation.budget, ask).await?.entries)
        })
    }

    fn handover<'a>(
        &'a self,
        node: &'a Node,
        handover: &'a Handover,
    ) -> BoxFuture<'a, Result<u64, PeerError>> {
        let message = handover_out(handover);
        Box::pin(async move {
            let ask = |mut client: Client| async move { client.handover(message).await };
            Ok(self.call(node, handover.budget, ask).await?.kept)
        })
    }

    fn ping<'a>(&'a self, node: &'a Node, patience: Duration) -> BoxFuture<'a, Result<(), PeerError>> {
        Box::pin(async move {
            let ask = |mut client: Client| async move { client.ping(peer_v1::PingRequest {}).await };
            self.call(node, patience, ask).await.map(drop)
        })
    }
}

/// A status that the peer answered, or that stands for a connection which could not be made or broke.
fn failure(status: Status) -> PeerError {
    // tonic keeps the cause of what went wrong at this end; what came over the wire has none.
    if status.source().is_some() {
        return PeerError::unreachable(status);
    }
    match rpc::error_code(&status) {
        Some(code) => PeerError::Refused(code),
        None if status.metadata().contains_key(rpc::ERROR) => {
            PeerError::Unknown(format!("status {:?} with a code of its own", status.code()))
        }
        // What tonic's decoder says of a message above its limit, at either end.
        None if status.code() == Code::OutOfRange => PeerError::Refused(ErrorCode::TooLarge),
        None => PeerError::Malformed(format!("status {:?} without a code", status.code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_node_s_code_is_an_answer_and_a_strange_server_s_is_none() {
        let mut newer = Status::unavailable("");
        newer.metadata_mut().insert(rpc::ERROR, "code_of_tomorrow".parse().expect("text"));
        let error = failure(newer);
        assert!(matches!(error, PeerError::Unknown(_)) && error.is_answer(), "{error:?}");
        assert_eq!(error.final_code(), None, "another node may do better");

        let error = failure(Status::out_of_range("the decoder's limit"));
        assert!(matches!(error, PeerError::Refused(ErrorCode::TooLarge)), "{error:?}");
        let error = failure(Status::permission_denied("who are you?"));
        assert!(matches!(error, PeerError::Malformed(_)) && !error.is_answer(), "{error:?}");

        let mut broken = Status::out_of_range("");
        broken.set_source(Arc::new(std::io::Error::other("it broke")));
        assert!(matches!(failure(broken), PeerError::Unreachable(_)));
    }
}
