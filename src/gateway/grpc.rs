//! What clients ask for over gRPC: `ggroupcachepb.GGroupCache`, and the standard services for health and reflection.
//!
//! A request is a client's whichever plane it comes by: routed to the key's owner, and under the same limits as one over
//! HTTP. Existing clients dial the address that a node registers, which is its peer port; what nodes say to each other
//! there is another service.

mod health;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request, Response, Status, metadata::MetadataMap, server::NamedService, service::Routes};

use super::{
    Gateway, GatewayParts, Shared,
    admission::{Admission, Wish},
    layers::InFlight,
    no_view,
    reply::{ABSENT, NodeReply},
    write::min_position,
};
use crate::{
    access::Scope,
    cluster::ViewCell,
    error::ErrorCode,
    group::{Answer, Group, Groups, Position, check_key},
    net::Client,
    problem::{Problem, RequestId},
    rpc::{
        self,
        ggroupcachepb::{
            self,
            g_group_cache_server::{GGroupCache, GGroupCacheServer},
        },
        read_timeout,
    },
    time::{BootClock, Clock as _},
};
use health::NodeHealth;

/// The largest request, in bytes. A group's name and a key need about 1,100; what is larger is not read to its end.
const REQUEST_BYTES_MAX: usize = 64 << 10;
const CLIENT_SERVICE: &str = GGroupCacheServer::<ClientRpcs>::NAME;

/// Answers clients.
#[derive(Clone, Debug)]
struct ClientRpcs {
    groups: Arc<Groups>,
    views: Arc<ViewCell>,
    request_timeout: Duration,
    in_flight: InFlight,
    reply: Arc<NodeReply>,
    admission: Admission,
}

impl Gateway {
    /// The gRPC services of this plane. Their requests count among those under way on it.
    pub fn rpcs(&self) -> Routes {
        let Shared { parts, in_flight, reply, .. } = &*self.0;
        routes(parts, in_flight.clone(), Arc::clone(reply), &[])
    }
}

/// A service that a plane has beside those for clients, as health and reflection tell of it.
#[derive(Clone, Copy, Debug)]
pub struct OtherService {
    /// Its full name.
    pub name: &'static str,
    /// The file that defines it, encoded as a set of descriptors.
    pub descriptors: &'static [u8],
}

/// The same services for a plane of another kind, beside `others` of its own, which the caller adds to the routes.
pub fn client_rpcs(parts: &GatewayParts, others: &[OtherService]) -> Routes {
    let reply = Arc::new(NodeReply::new(parts.views.load().me(), parts.encodings.clone()));
    routes(parts, InFlight::new(parts.in_flight_max), reply, others)
}

fn routes(
    parts: &GatewayParts,
    in_flight: InFlight,
    reply: Arc<NodeReply>,
    others: &[OtherService],
) -> Routes {
    let clients = ClientRpcs {
        groups: Arc::clone(&parts.groups),
        views: Arc::clone(&parts.views),
        request_timeout: parts.request_timeout,
        in_flight,
        reply,
        admission: parts.admission.clone(),
    };
    let names: Vec<_> = others.iter().map(|other| other.name).chain([CLIENT_SERVICE]).collect();
    let health = NodeHealth::server(parts.readiness.clone(), names.clone());
    // Of what this plane answers, and nothing else: clients need not know what nodes say to each other.
    let descriptors = others
        .iter()
        .map(|other| other.descriptors)
        .chain([ggroupcachepb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET]);
    let reflection = descriptors.fold(tonic_reflection::server::Builder::configure(), |reflection, file| {
        reflection.register_encoded_file_descriptor_set(file)
    });
    let standard = [health::SERVICE, "grpc.reflection.v1.ServerReflection"];
    let reflection = names
        .into_iter()
        .chain(standard)
        .fold(reflection, |reflection, name| reflection.with_service_name(name));
    Routes::new(GGroupCacheServer::new(clients).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(health)
        .add_service(reflection.build_v1().expect("the descriptors were compiled into the program"))
}

#[tonic::async_trait]
impl GGroupCache for ClientRpcs {
    async fn get(
        &self,
        request: Request<ggroupcachepb::Request>,
    ) -> Result<Response<ggroupcachepb::Response>, Status> {
        let (metadata, extensions, ggroupcachepb::Request { group, key }) = request.into_parts();
        let client = extensions.get::<Client>().map(|client| client.0.ip());
        let group = self.admitted(&group, &key, &metadata, client)?;
        let key = key.as_bytes();
        check_key(key).map_err(|error| refused(ErrorCode::BadRequest, error.to_string()))?;
        let position = min_position(metadata.as_ref()).map_err(|problem| rpc::problem_status(&problem))?;
        let found = if position.is_none() { group.cached(key) } else { None };
        let answer = match found {
            Some(answer) => answer,
            None => self.missed(&group, key, position, &metadata).await?,
        };
        match answer.value {
            Some(value) => Ok(Response::new(ggroupcachepb::Response { value: value.bytes().clone() })),
            None => Err(rpc::status(ErrorCode::KeyNotFound, ABSENT)),
        }
    }
}

impl ClientRpcs {
    /// The group of that name, for who may read it and has not asked too often.
    fn admitted(
        &self,
        name: &str,
        key: &str,
        metadata: &MetadataMap,
        client: Option<IpAddr>,
    ) -> Result<Arc<Group>, Status> {
        let headers = metadata.clone().into_headers();
        let group = self.group(name);
        let known = group.as_ref().ok().map(|group| group.name());
        let named = known.map_or(name, |group| group.as_str());
        let wish = Wish { scope: Scope::Read, group: Some(named), known };
        let caller = self.admission.caller(&headers, None);
        let is_at_hand = |group: &Group| {
            let key = key.as_bytes();
            let is_plain = matches!(min_position(&headers), Ok(None));
            is_plain && (group.in_sight(key).is_some() || group.is_answered_stale(key))
        };
        let needs_place = || group.as_ref().is_ok_and(|group| !is_at_hand(group));
        let full = || self.in_flight.reached().filter(|_| needs_place());
        match self.admission.admit(caller, wish, client, BootClock.now(), &headers, full) {
            Ok(_) => group,
            Err(refusal) => Err(rpc::problem_status(&refusal.problem())),
        }
    }

    fn group(&self, name: &str) -> Result<Arc<Group>, Status> {
        let found = if name.is_empty() { self.groups.default_group() } else { self.groups.get(name) };
        found.ok_or_else(|| match name {
            "" => refused(ErrorCode::BadRequest, "no group is named, and none is the default"),
            _ => refused(ErrorCode::GroupNotFound, "this node has no group of that name"),
        })
    }

    /// What memory did not answer, or may not where a position is named.
    async fn missed(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        position: Option<Position>,
        metadata: &MetadataMap,
    ) -> Result<Answer, Status> {
        let place = self.in_flight.enter();
        if place.is_none() && !(position.is_none() && group.is_answered_stale(key)) {
            return Err(rpc::problem_status(&self.in_flight.full()));
        }
        if self.views.is_provisional() {
            return Err(rpc::problem_status(&no_view()));
        }
        let asked =
            read_timeout(metadata).map_err(|error| refused(ErrorCode::BadRequest, error.to_string()))?;
        let timeout = asked.map_or(self.request_timeout, |asked| asked.min(self.request_timeout));
        let deadline = Instant::now() + timeout;
        let read = match position {
            None => group.miss(key, deadline).await,
            // Rare, and so in a box.
            Some(position) => Box::pin(group.get_at(key, position, deadline)).await,
        };
        read.map_err(|error| rpc::problem_status(&self.reply.problem(group, &error, &RequestId::new())))
    }
}

fn refused(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Status {
    rpc::problem_status(&Problem::new(code, detail))
}
