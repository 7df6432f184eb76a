//! Who is let in: what a request may do, by the token that it shows, and how often.
//!
//! Of each request first the token is looked at, then its right to the scope and the group, then whether the plane has a
//! place for it, then its rate: what is shed costs its client nothing. A request that shows a wrong token, or none where
//! one is needed, counts against its address in any case: guessing is no faster than asking.
//!
//! Nothing is said of a group to who may not read it, not even whether there is one of the name.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, header};
use parking_lot::RwLock;

use super::{GatewayBody, layers::overloaded, problem, routed_problem};
use crate::{
    access::{Access, AccessError, Caller, Memo, Scope},
    error::ErrorCode,
    group::GroupName,
    limit::{ClientKey, Decision, GroupBucket, Limiter},
    problem::Problem,
    time::Moment,
};

/// The tokens and limits of a node, for all its planes. Clones share them.
#[derive(Clone, Debug)]
pub struct Admission {
    access: Arc<Access>,
    limiter: Arc<Limiter>,
    /// Whether nothing is allowed without a token, whatever the configuration says of other planes.
    only_tokens: bool,
    /// Of groups that exist and were asked for.
    buckets: Arc<RwLock<BTreeMap<GroupName, GroupBucket>>>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// It may not.
    Access(AccessError),
    /// It has asked too often.
    Rate(Decision),
    /// The plane has no place for it: so many have one.
    Full(usize),
}

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) scope: Scope,
    /// The group that it is about, by a name that may be none's.
    pub(super) group: Option<&'a str>,
    /// That group, if there is one of the name.
    pub(super) known: Option<&'a GroupName>,
}

impl Admission {
    /// Lets in whom `access` knows as often as `limiter` says.
    pub fn new(access: Arc<Access>, limiter: Arc<Limiter>) -> Self {
        Self { access, limiter, only_tokens: false, buckets: Arc::default() }
    }

    /// The same for a plane that is guarded for others than clients: a client that comes by it needs a token.
    #[must_use]
    pub fn only_tokens(self) -> Self {
        Self { only_tokens: true, ..self }
    }

    /// Who sent this `Authorization`, remembered with its connection where there is a memo.
    pub(super) fn caller(&self, headers: &HeaderMap, memo: Option<&Memo>) -> Result<Caller, AccessError> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let first = shown.next();
        if shown.next().is_some() {
            return Err(AccessError::NotBearer);
        }
        let header = first.map(HeaderValue::as_bytes);
        match memo {
            Some(memo) => self.access.recognize(header, memo),
            None => self.access.authenticate(header),
        }
    }

    /// Lets a request in that wants `wish`; who sent it, and what was decided of its rate. It counts for its token, or
    /// for `client`, the other end of its connection, or whom that forwards for; for nobody without a `client`. `full`
    /// is asked of who may do what it wants: how many are under way, if there is no place for it.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(super) fn admit(
        &self,
        caller: Result<Caller, AccessError>,
        wish: Wish<'_>,
        client: Option<IpAddr>,
        now: Moment,
        headers: &HeaderMap,
        full: impl FnOnce() -> Option<usize>,
    ) -> Result<(Caller, Decision), Refusal> {
        let allowed = caller.and_then(|caller| {
            if self.only_tokens && caller.is_anonymous() {
                return Err(AccessError::TokenNeeded(wish.scope));
            }
            caller.may(wish.scope, wish.group).map(|()| caller)
        });
        if allowed.is_ok()
            && let Some(limit) = full()
        {
            return Err(Refusal::Full(limit));
        }
        let Some(client) = client.filter(|_| self.limiter.is_on()) else {
            return allowed.map(|caller| (caller, Decision::UNLIMITED)).map_err(Refusal::Access);
        };
        let key = match &allowed {
            Ok(caller) if !caller.is_anonymous() => ClientKey::token(caller.key()),
            _ => ClientKey::address(self.limiter.client_address(client, headers)),
        };
        let decision = match &allowed {
            Ok(_) => {
                let known = wish.known.filter(|_| self.limiter.has_group());
                let bucket = known.map(|group| self.bucket(group));
                self.limiter.check(key, bucket.as_ref(), now)
            }
            // What belongs to all is not used up by who may have nothing.
            Err(_) => self.limiter.check_client(key, now),
        };
        match allowed {
            _ if !decision.is_allowed() => Err(Refusal::Rate(decision)),
            Err(error) => Err(Refusal::Access(error)),
            Ok(caller) => Ok((caller, decision)),
        }
    }

    /// Counts a request that needs no right for its address, and says what was decided.
    ///
    /// # Errors
    /// If it has asked too often.
    pub(super) fn count(
        &self,
        client: IpAddr,
        now: Moment,
        headers: &HeaderMap,
    ) -> Result<Decision, Refusal> {
        if !self.limiter.is_on() {
            return Ok(Decision::UNLIMITED);
        }
        let key = ClientKey::address(self.limiter.client_address(client, headers));
        match self.limiter.check(key, None, now) {
            decision if decision.is_allowed() => Ok(decision),
            decision => Err(Refusal::Rate(decision)),
        }
    }

    fn bucket(&self, group: &GroupName) -> GroupBucket {
        if let Some(bucket) = self.buckets.read().get(group) {
            return bucket.clone();
        }
        let mut buckets = self.buckets.write();
        buckets.entry(group.clone()).or_insert_with(|| GroupBucket::new(group.as_str())).clone()
    }
}

impl Refusal {
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Access(error) => Problem::new(error.code(), error.to_string()),
            Self::Rate(decision) => Problem::new(ErrorCode::RateLimited, decision.to_string()),
            Self::Full(limit) => overloaded(*limit),
        }
    }

    /// The answer to who is not let in.
    pub(super) fn into_response(self) -> Response<GatewayBody> {
        self.explained(problem(self.problem()))
    }

    /// The same as an axum route answers it.
    pub(super) fn into_routed(self) -> Response<Body> {
        self.explained(routed_problem(self.problem()))
    }

    fn explained<B>(self, mut response: Response<B>) -> Response<B> {
        match self {
            Self::Access(error) => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, error.challenge());
            }
            Self::Rate(decision) => decision.write(&mut response),
            Self::Full(_) => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::admission, *};
    use crate::{
        access::AuthConfig,
        limit::RateConfig,
        time::{BootClock, Clock as _},
    };

    const READ: Wish<'static> = Wish { scope: Scope::Read, group: None, known: None };

    fn admit(admission: &Admission) -> Result<Decision, Refusal> {
        let headers = HeaderMap::new();
        let caller = admission.caller(&headers, None);
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        admission
            .admit(caller, READ, client, BootClock.now(), &headers, || None)
            .map(|(_, decision)| decision)
    }

    #[test]
    fn a_plane_that_is_guarded_for_nodes_wants_tokens_of_clients() {
        let open = admission(&AuthConfig::default(), RateConfig::default());
        assert!(admit(&open).is_ok(), "without a token everybody may everything");
        let refused = admit(&open.only_tokens()).expect_err("but not by way of the nodes");
        assert!(matches!(refused, Refusal::Access(AccessError::TokenNeeded(Scope::Read))), "{refused:?}");
    }

    #[test]
    fn what_is_shed_is_not_counted() {
        let rate = RateConfig { client: "1/h".parse().expect("a rate"), ..RateConfig::default() };
        let admission = admission(&AuthConfig::default(), rate);
        let headers = HeaderMap::new();
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..3 {
            let caller = admission.caller(&headers, None);
            let shed = admission.admit(caller, READ, client, BootClock.now(), &headers, || Some(7));
            assert!(matches!(shed, Err(Refusal::Full(7))));
        }
        assert!(admit(&admission).is_ok() && matches!(admit(&admission), Err(Refusal::Rate(_))));
        let closed = admission.only_tokens();
        let caller = closed.caller(&headers, None);
        let refused = closed.admit(caller, READ, client, BootClock.now(), &headers, || Some(7));
        assert!(matches!(refused, Err(Refusal::Rate(_))), "who may nothing counts, and learns nothing");
    }

    #[test]
    fn who_may_nothing_uses_up_nothing_of_what_belongs_to_all() {
        let rate = RateConfig { global: "2/h burst 2".parse().expect("a rate"), ..RateConfig::default() };
        let open = admission(&AuthConfig::default(), rate);
        let guarded = open.clone().only_tokens();
        for _ in 0..10 {
            let refused = admit(&guarded).expect_err("it shows no token");
            assert!(matches!(refused, Refusal::Access(_)), "{refused:?}");
        }
        assert!(admit(&open).is_ok() && admit(&open).is_ok());
        assert!(matches!(admit(&open), Err(Refusal::Rate(_))), "now the node's rate is used up");
    }
}
