//! The callee's side: what the peer plane answers over gRPC.

use std::{sync::Arc, time::Duration};

use tonic::{
    Request, Response, Status,
    server::NamedService,
    service::{Interceptor, interceptor::InterceptedService},
};

use super::{
    super::{
        callee::{Callee, CalleeError, How},
        gate::{FROM, PeerGate},
    },
    REQUEST_BYTES_MAX, SealedRpcs,
    convert::{answer_out, handover_in, invalidation_in, keys_in, position_in, words_out},
};
use crate::{
    access::Verifier,
    cluster::{Epoch, ViewCell},
    error::ErrorCode,
    group::Groups,
    net::Identity,
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
    /// A service for `groups`, to be routed to. `timeout_max` is the longest budget that a caller is given; `gate`
    /// decides who may ask, if not everybody may who can connect, and `verifier` what is sealed for this node, if the nodes
    /// share a secret.
    pub fn server(
        groups: Arc<Groups>,
        views: Arc<ViewCell>,
        metrics: NodeMetrics,
        timeout_max: Duration,
        gate: Option<PeerGate>,
        verifier: Option<Arc<Verifier>>,
    ) -> InterceptedService<SealedRpcs<PeerServer<Self>>, Guard> {
        let rpcs = Self { callee: Callee::new(groups, views, metrics, timeout_max) };
        let server = PeerServer::new(rpcs).max_decoding_message_size(REQUEST_BYTES_MAX);
        InterceptedService::new(SealedRpcs::new(server, verifier), Guard(gate))
    }
}

/// Asks the gate of each request. Who sends it the accept loop has put among the request's extensions.
#[derive(Clone, Debug)]
pub struct Guard(Option<PeerGate>);

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(gate) = &self.0 {
            let identity = request.extensions().get::<Arc<Identity>>();
            let from = request.metadata().get(FROM).map(|from| from.as_encoded_bytes());
            gate.admit(identity.map(AsRef::as_ref), from).map_err(refused)?;
        }
        Ok(request)
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
        let how = How::new(request.fresh, request.need.map(position_in));
        let answered = self.callee.get(&request.group, &request.key, budget, epoch.as_deref(), how);
        let answer = trace::within(trace, trace::spanned("owner", answered)).await;
        answer.map(|answer| Response::new(GetResponse { answer: Some(answer_out(answer)) })).map_err(refused)
    }

    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        let request = request.into_inner();
        let keys = keys_in(&request.keys).map_err(malformed)?;
        let budget = self.callee.budget(request.budget_ms.map(Duration::from_millis));
        let epoch = Epoch(request.epoch).to_string();
        let (group, need) = (&request.group, request.need.map(position_in));
        let told = self.callee.get_many(group, &keys, request.only_cached, need, budget, &epoch).await;
        told.map(|told| Response::new(GetManyResponse { words: words_out(told.words) })).map_err(refused)
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
        let entries = self.callee.invalidate(&invalidation).await.map_err(refused)?;
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
