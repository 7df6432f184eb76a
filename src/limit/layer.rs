//! The limits as a tower layer, for routes.
//!
//! Whose a request is stands among its extensions, as a [`ClientKey`], and which group it is about as a
//! [`GroupBucket`], if any. A request without a key counts for [`ClientKey::UNKNOWN`]: for less than it may have, never
//! for nothing.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower::{Layer, Service};

use super::{ClientKey, GroupBucket, Limiter};
use crate::time::Clock;

/// Puts a limiter around routes.
#[derive(Clone, Debug)]
pub struct RateLimitLayer<C> {
    limiter: Arc<Limiter>,
    clock: C,
}

impl<C> RateLimitLayer<C> {
    /// The limiter's limits, at the clock's time.
    pub const fn new(limiter: Arc<Limiter>, clock: C) -> Self {
        Self { limiter, clock }
    }
}

impl<S, C: Clone> Layer<S> for RateLimitLayer<C> {
    type Service = RateLimit<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, layer: self.clone() }
    }
}

/// Routes behind a limiter.
#[derive(Clone, Debug)]
pub struct RateLimit<S, C> {
    inner: S,
    layer: RateLimitLayer<C>,
}

impl<S, C, A, B> Service<Request<A>> for RateLimit<S, C>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: From<Bytes>,
    C: Clock,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let extensions = request.extensions();
        let caller = extensions.get::<ClientKey>().copied().unwrap_or(ClientKey::UNKNOWN);
        let decision =
            self.layer.limiter.check(caller, extensions.get::<GroupBucket>(), self.layer.clock.now());
        if !decision.is_allowed() {
            return Box::pin(async move { Ok(decision.into_response().map(B::from)) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            decision.write(&mut response);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, body::Body};
    use tower::ServiceExt;

    use super::*;
    use crate::{
        limit::RateConfig,
        telemetry::NodeMetrics,
        time::{ManualClock, Moment},
    };

    /// A clock that test and layer share.
    #[derive(Clone)]
    struct Shared(Arc<ManualClock>);

    impl Clock for Shared {
        fn now(&self) -> Moment {
            self.0.now()
        }
    }

    async fn ask(router: &Router, caller: Option<ClientKey>, group: Option<&GroupBucket>) -> Response<Body> {
        let mut request = Request::new(Body::empty());
        caller.map(|caller| request.extensions_mut().insert(caller));
        group.map(|group| request.extensions_mut().insert(group.clone()));
        router.clone().oneshot(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn routes_are_limited_by_who_asks() {
        let clock = Shared(Arc::new(ManualClock::new(Moment::from_nanos(1_000_000_000))));
        let rate = |text: &str| text.parse().expect("a rate");
        let config = RateConfig { client: rate("1/m"), group: rate("3/m burst 3"), ..RateConfig::default() };
        let limiter = Arc::new(Limiter::new(config, &NodeMetrics::new()));
        let layer = RateLimitLayer::new(limiter, clock.clone());
        let router = Router::new().fallback(async || "found").layer(layer);
        let (anna, otto) = (Some(ClientKey::token(1)), Some(ClientKey::token(2)));

        let first = ask(&router, anna, None).await;
        assert_eq!(first.status(), 200);
        assert_eq!(first.headers()["ratelimit"], "\"client\";r=0;t=60");
        let second = ask(&router, anna, None).await;
        assert_eq!(second.status(), 429);
        assert_eq!(second.headers()["retry-after"], "60");
        assert_eq!(second.headers()["content-type"], "application/problem+json");
        assert_eq!(ask(&router, otto, None).await.status(), 200);
        // Nobody said who these are.
        assert_eq!(ask(&router, None, None).await.status(), 200);
        assert_eq!(ask(&router, None, None).await.status(), 429);

        clock.0.advance(Duration::from_secs(60));
        let bucket = GroupBucket::new("scores");
        for id in 0..3 {
            assert_eq!(ask(&router, Some(ClientKey::token(id)), Some(&bucket)).await.status(), 200);
        }
        let refused = ask(&router, Some(ClientKey::token(3)), Some(&bucket)).await;
        assert_eq!(refused.headers()["ratelimit-policy"], "\"group\";q=3;w=60");
    }

    #[tokio::test]
    async fn without_limits_nothing_is_told() {
        let limiter = Arc::new(Limiter::new(RateConfig::default(), &NodeMetrics::new()));
        let layer = RateLimitLayer::new(limiter, crate::time::BootClock);
        let router = Router::new().fallback(async || "found").layer(layer);
        let answer = ask(&router, None, None).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("ratelimit")));
    }
}
