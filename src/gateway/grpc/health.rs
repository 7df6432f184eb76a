//! `grpc.health.v1`: whether the node wants requests, as `/readyz` says it.
//!
//! Every service of a plane has the same health, which is the node's. A watch ends when the node stops, after it has
//! said so, so that it never keeps a stopping node waiting.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status, server::NamedService};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use crate::{
    gateway::health::{Readiness, Stage},
    net::LongLived,
};

/// The service's name.
pub(super) const SERVICE: &str = HealthServer::<NodeHealth>::NAME;

/// Tells the health of a node.
#[derive(Clone, Debug)]
pub(super) struct NodeHealth {
    readiness: Readiness,
    /// The services that may be asked about by name.
    services: Vec<&'static str>,
}

impl NodeHealth {
    pub(super) fn server(readiness: Readiness, services: Vec<&'static str>) -> HealthServer<Self> {
        HealthServer::new(Self { readiness, services })
    }

    /// The name of no service stands for the node.
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

const fn serving(stage: Stage) -> ServingStatus {
    match stage {
        Stage::Ready => ServingStatus::Serving,
        Stage::Starting | Stage::Stopping => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for NodeHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if self.knows(&request.get_ref().service) {
            return Ok(Response::new(response(serving(self.readiness.stage()))));
        }
        // The code that the protocol asks for.
        Err(Status::not_found("this plane has no service of that name"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.knows(&request.get_ref().service);
        // The stage that was told last; a watch of what is not known is told so once, and may come to know.
        let told = None::<Stage>;
        let told_stages =
            stream::unfold((self.readiness.watch(), told), move |(mut stages, told)| async move {
                if told == Some(Stage::Stopping) {
                    return None;
                }
                // It ends when the node is gone.
                let stage = *stages.wait_for(|stage| Some(*stage) != told).await.ok()?;
                let status = if known { serving(stage) } else { ServingStatus::ServiceUnknown };
                Some((Ok(response(status)), (stages, Some(stage))))
            });
        let mut response = Response::new(Box::pin(told_stages) as Self::WatchStream);
        response.extensions_mut().insert(LongLived);
        Ok(response)
    }
}
