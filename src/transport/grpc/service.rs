//! The callee's side: what the peer plane answers over gRPC.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, server::NamedService};

use super::{
    super::callee::{Callee, CalleeError},
    REQUEST_BYTES_MAX,
    convert::{answer_out, handover_in, invalidation_in, keys_in, words_out},
};
use crate::{
    cluster::{Epoch, ViewCell},
    error::ErrorCode,
    group::Groups,
    rpc::{
        self,
        peer_v1::{
            GetManyRequest, GetManyResponse, GetRequest, GetResponse, HandoverRequest, HandoverResponse,
            InvalidateRequest, InvalidateResponse, PeekManyRequest, PeekManyResponse, PeekRequest,
            PeekResponse, PingRequest, PingResponse,
            peer_server::{Peer, PeerServer},
        },
    },
    telemetry::{
        NodeMetrics,
        trace::{self, TRACEPARENT, TraceContext},
    },
};

/// The service's name, for health and reflection.
pub const PEER_SERVICE: &str = PeerServer::<PeerRpcs>::NAME;

/// Answers other nodes.
#[derive(Clone, Debug)]
pub struct PeerRpcs {
    callee: Callee,
}

impl PeerRpcs {
    /// A service for `groups`, to be routed to. `timeout_max` is the longest budget that a caller is given.
    pub fn server(
        groups: Arc<Groups>,
        views: Arc<ViewCell>,
        metrics: NodeMetrics,
        timeout_max: Duration,
    ) -> PeerServer<Self> {
        let rpcs = Self { callee: Callee::new(groups, views, metrics, timeout_max) };
        PeerServer::new(rpcs).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Peer for PeerRpcs {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let trace = request.metadata().get(TRACEPARENT);
        let trace = trace.and_then(|trace| TraceContext::parse(trace.as_bytes()));
        let request = request.into_inner();
        let budget = request.budget_ms.map(Duration::from_millis);
        // Read at one level of the log only.
        let epoch = tracing::enabled!(tracing::Level::DEBUG).then(|| Epoch(request.epoch).to_string());
        let answered = self.callee.get(&request.group, &request.key, budget, epoch.as_deref(), request.fresh);
        let answer = trace::within(trace, trace::spanned("owner", answered)).await;
        answer.map(|answer| Response::new(GetResponse { answer: Some(answer_out(answer)) })).map_err(refused)
    }

    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        let request = request.into_inner();
        let keys = keys_in(&request.keys).map_err(malformed)?;
        let budget = self.callee.budget(request.budget_ms.map(Duration::from_millis));
        let epoch = Epoch(request.epoch).to_string();
        let told = self.callee.get_many(&request.group, &keys, request.only_cached, budget, &epoch).await;
        told.map(|(_, words)| Response::new(GetManyResponse { words: words_out(words) })).map_err(refused)
    }

    async fn peek(&self, request: Request<PeekRequest>) -> Result<Response<PeekResponse>, Status> {
        let request = request.into_inner();
        let answer = self.callee.peek(&request.group, &request.key).map_err(refused)?;
        Ok(Response::new(PeekResponse { answer: answer.map(answer_out) }))
    }

    async fn peek_many(
        &self,
        request: Request<PeekManyRequest>,
    ) -> Result<Response<PeekManyResponse>, Status> {
        let request = request.into_inner();
        let keys = keys_in(&request.keys).map_err(malformed)?;
        let answers = self.callee.peek_many(&request.group, &keys).map_err(refused)?;
        let answers = answers.into_iter().map(|answer| PeekResponse { answer: answer.map(answer_out) });
        Ok(Response::new(PeekManyResponse { answers: answers.collect() }))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let invalidation = invalidation_in(request.into_inner()).map_err(malformed)?;
        let entries = self.callee.invalidate(&invalidation).map_err(refused)?;
        Ok(Response::new(InvalidateResponse { entries }))
    }

    async fn handover(
        &self,
        request: Request<HandoverRequest>,
    ) -> Result<Response<HandoverResponse>, Status> {
        let handover = handover_in(request.get_ref()).map_err(malformed)?;
        let kept = self.callee.handover(handover).await.map_err(refused)?;
        Ok(Response::new(HandoverResponse { kept }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }
}

fn refused(error: CalleeError) -> Status {
    rpc::status(error.code, error.detail)
}

fn malformed(detail: String) -> Status {
    rpc::status(ErrorCode::BadRequest, detail)
}
