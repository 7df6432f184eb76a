//! The seal around gRPC: a layer on the caller's channel, and one around the callee's service.
//!
//! Every call of `ggcache.peer.v1` is unary, so that both can hold its message. Without a secret they pass on what they
//! are given.

use std::{
    convert::Infallible,
    error::Error,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    TryFutureExt as _,
    future::{Either, MapErr},
};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::{body::Body, server::NamedService, transport::Channel};
use tower::Service;

use super::{
    super::{
        callee::CalleeError,
        sealed::{Gate, Sealing},
    },
    REQUEST_BYTES_MAX,
};
use crate::{
    access::{Head, SEAL, Verifier},
    cluster::Address,
    error::ErrorCode,
    group::BoxFuture,
    rpc,
};

/// What a message has before it: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

type BoxError = Box<dyn Error + Send + Sync>;

fn head<'a, B>(request: &'a Request<B>) -> Head<'a> {
    let target = |uri: &'a Uri| uri.path_and_query().map_or("", |target| target.as_str());
    Head { method: request.method().as_str(), target: target(request.uri()), headers: request.headers() }
}

/// A connection on which everything is sealed for the node at its other end.
#[derive(Clone, Debug)]
pub(super) struct SealedChannel {
    channel: Channel,
    callee: Address,
    sealing: Arc<Sealing>,
}

impl SealedChannel {
    pub(super) const fn new(channel: Channel, callee: Address, sealing: Arc<Sealing>) -> Self {
        Self { channel, callee, sealing }
    }
}

impl Service<Request<Body>> for SealedChannel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Either<
        MapErr<<Channel as Service<Request<Body>>>::Future, fn(tonic::transport::Error) -> BoxError>,
        BoxFuture<'static, Result<Response<Body>, BoxError>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.sealing.is_on() {
            return Either::Left(self.channel.call(request).map_err(Into::into));
        }
        // The one that said it was ready.
        let spare = self.channel.clone();
        let mut channel = mem::replace(&mut self.channel, spare);
        let (sealing, callee) = (Arc::clone(&self.sealing), self.callee.clone());
        Either::Right(Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let mut request = Request::from_parts(parts, Body::new(Full::new(bytes.clone())));
            if let Some(seal) = sealing.seal(&head(&request), Some(&bytes), callee.as_str()) {
                request.headers_mut().insert(SEAL, seal);
            }
            Ok(channel.call(request).await?)
        }))
    }
}

/// A service that answers what is sealed for this node, where the nodes share a secret.
#[derive(Clone, Debug)]
pub struct SealedRpcs<S> {
    inner: S,
    gate: Option<Arc<Gate>>,
}

impl<S> SealedRpcs<S> {
    /// A layer around `inner`; one that lets everything through, without a verifier.
    pub fn new(inner: S, verifier: Option<Arc<Verifier>>) -> Self {
        Self { inner, gate: verifier.map(Gate::new) }
    }
}

impl<S: NamedService> NamedService for SealedRpcs<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for SealedRpcs<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(gate) = self.gate.clone() else { return Either::Left(self.inner.call(request)) };
        let spare = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, spare);
        Either::Right(Box::pin(async move {
            match let_in(&gate, request).await {
                Ok(request) => inner.call(request).await,
                Err(error) => Ok(rpc::status(error.code, error.detail).into_http()),
            }
        }))
    }
}

/// The request with its whole body, if both are what was sealed.
async fn let_in(gate: &Gate, request: Request<Body>) -> Result<Request<Body>, CalleeError> {
    // The head says enough to refuse a stranger: nothing of its body is read.
    let let_in = gate.let_in(&head(&request))?;
    let (parts, body) = request.into_parts();
    let collected = Limited::new(body, REQUEST_BYTES_MAX + FRAME_BYTES).collect().await.map_err(|_| {
        let detail = format!("the message broke off, or has more than {REQUEST_BYTES_MAX} bytes");
        CalleeError::new(ErrorCode::TooLarge, detail)
    })?;
    let bytes = collected.to_bytes();
    let_in.with_body(&bytes)?;
    Ok(Request::from_parts(parts, Body::new(Full::new(bytes))))
}
