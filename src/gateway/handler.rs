//! How a plane's requests come in: as hyper reads them, or at hand, as `net` does by itself for plain reads of keys. Both
//! ways look at the same head by the same rules.

use std::{future::Future, sync::Arc};

use futures_util::future::Either;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{Gateway, GatewayBody, Hit, Next, Wait, exchange::Exchange, problem, reply::Told, target};
use crate::{
    access::Memo,
    error::ErrorCode,
    head::{RequestHead, names_its_host},
    net::{AtHand, Connection, Handler, Lines},
    problem::Problem,
    telemetry::trace::{self, TraceContext},
};

impl Handler for Gateway {
    type Session = Memo;
    type Body = GatewayBody;

    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Connection<Memo>,
    ) -> impl Future<Output = Response<GatewayBody>> + Send {
        let head = RequestHead::from(&request);
        let mut exchange = Exchange::new(&head, &self.0.parts.live, self.0.plane);
        let at_once = |response| Either::Left(std::future::ready(response));
        // What is read at hand names one.
        if !names_its_host(&request) {
            let refusal = Problem::new(
                ErrorCode::BadRequest,
                "the request has no Host header, several, a malformed one, or one that is not its target's",
            );
            return at_once(exchange.finish_at_once(problem(refusal)));
        }
        let wait = match self.0.look(&head, connection, &mut exchange) {
            Next::Answered(response) => return at_once(exchange.finish_at_once(response)),
            Next::Hit(Hit { group, answer, now }) => {
                let response = self.0.reply.answer(&group, &answer, now, head.headers);
                return at_once(exchange.finish_at_once(response));
            }
            Next::Wait(wait) => wait,
        };
        let shared = Arc::clone(&self.0);
        let is_stream = request.version() == Version::HTTP_2;
        // In a box: a hit, which is none of this, would be moved with room for all of it.
        Either::Right(Box::pin(async move {
            if is_stream {
                // A stream that its client has reset already (CVE-2023-44487) ends here, and has begun no load: hyper looks
                // for resets when there is no answer yet.
                tokio::task::yield_now().await;
            }
            let (id, span) = (exchange.id.clone(), exchange.trace);
            let work = std::pin::pin!(async move {
                match wait {
                    Wait::Read(read) => shared.read(read, request.into_parts().0.headers, &id).await,
                    Wait::Write(write) => Box::pin(shared.write(write, request, &id)).await,
                    Wait::Route(caller) => Box::pin(shared.routed(request, caller, id)).await,
                }
            });
            exchange.finish(traced(span, work).await)
        }))
    }

    fn at_hand(
        &self,
        head: &RequestHead<'_>,
        connection: &Connection<Memo>,
        lines: &mut Lines,
    ) -> AtHand<GatewayBody> {
        if *head.method != Method::GET || !target::is_of_key(head.path) {
            return AtHand::Unknown;
        }
        let mut exchange = Exchange::new(head, &self.0.parts.live, self.0.plane);
        let read = match self.0.look(head, connection, &mut exchange) {
            Next::Answered(response) => return AtHand::Answered(exchange.finish_at_once(response)),
            Next::Hit(Hit { group, answer, now }) => {
                return match self.0.reply.write(lines, &group, &answer, now, head.headers) {
                    Told::Value(body) => {
                        exchange.mark();
                        exchange.write(lines);
                        AtHand::Written(body)
                    }
                    Told::Problem(response) => AtHand::Answered(exchange.finish_at_once(response)),
                };
            }
            Next::Wait(Wait::Read(read)) => read,
            // Not for a GET of a key.
            Next::Wait(Wait::Write(_) | Wait::Route(_)) => return AtHand::Unknown,
        };
        let (shared, headers) = (Arc::clone(&self.0), head.headers.clone());
        AtHand::Later(Box::pin(async move {
            let (id, span) = (exchange.id.clone(), exchange.trace);
            let work = std::pin::pin!(shared.read(read, headers, &id));
            exchange.finish(traced(span, work).await)
        }))
    }
}

/// Runs `work` in the span of its request, if there is one.
async fn traced<F: Future>(span: Option<(TraceContext, Instant)>, work: F) -> F::Output {
    match span {
        Some((context, _)) => trace::rooted("request", context, work).await,
        None => work.await,
    }
}
