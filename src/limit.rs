//! How many requests are let through: per client, per group, for the node, and to the database.
//!
//! A [`Limiter`] is a plain library, which a node's planes call directly, by way of `gateway/admission.rs`: a hit goes
//! through no layers, and every route has to go by one order of checks. [`RateLimitLayer`] is the same for the tower
//! services of programs that embed it. It knows neither connections nor tokens: the caller says whose a request is, by a
//! [`ClientKey`], and what time it is.
//!
//! *Buckets.* Each limit is a token bucket of one atomic word (`bucket.rs`), and a client's takes 16 bytes in a table
//! of fixed size (`clients.rs`): `clients_max` of 100,000 is 1.6 MB, taken when the limit is switched on. governor's
//! limiters are the usual choice, but can't test without taking nor give back what was taken, read a clock of their
//! own, and carry their rate with each client, who would stand in a map with locks.
//!
//! *Order.* A request is first tested against all limits, which writes nothing: what one refuses costs the others
//! nothing, and a flood of refusals leaves their cache lines alone. Then it takes its tokens: the node's, the group's,
//! the client's. Where another thread was faster and one of them is refused after all, what was taken before is given
//! back. Hence over any time T a limit lets through at most `rate × T + burst`, and a client that is refused can't use
//! up what belongs to others.
//!
//! *Cost.* No locks on the way of a client that is known, however many connections it has; strangers hold a short one. A
//! check takes some 30 ns of a core for one limit, 60 for three, 120 for strangers that find the table full; the headers
//! take some 150 (`benches/limit.rs` prints what a machine takes). Their values are written anew each time: a shared
//! one has a count of references, which all threads would write.

mod bucket;
mod client;
mod clients;
mod config;
mod decision;
mod forwarded;
mod layer;
mod rate;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::HeaderMap;
use metrics::{Counter, Label};
use parking_lot::Mutex;

use bucket::{Bucket, Pace};
use clients::Clients;

pub use client::ClientKey;
pub use config::{ProxyHeader, RateConfig, Share, TrustedProxy, TrustedProxyError, UnknownWord};
pub use decision::{Decision, Limit};
pub use forwarded::client_address;
pub use layer::{RateLimit, RateLimitLayer};
pub use rate::{Rate, RateError};

use crate::{telemetry::NodeMetrics, time::Moment};

/// The bucket of one group. Clones are the same bucket.
#[derive(Clone, Debug)]
pub struct GroupBucket(Arc<OfGroup>);

#[derive(Debug)]
struct OfGroup {
    name: Box<str>,
    bucket: Bucket,
}

impl GroupBucket {
    /// A full bucket for the group of this name.
    pub fn new(name: &str) -> Self {
        Self(Arc::new(OfGroup { name: name.into(), bucket: Bucket::default() }))
    }
}

/// All limits of a node.
pub struct Limiter {
    /// Whether there is any limit but the origin's.
    is_on: AtomicBool,
    /// Whether there is one for groups.
    has_group: AtomicBool,
    rules: ArcSwap<Rules>,
    /// What the rules were made from. Held while they change.
    given: Mutex<Given>,
    global: Bucket,
    origin: Bucket,
    shared: Bucket,
    refused: [Counter; Limit::ALL.len()],
}

struct Given {
    config: RateConfig,
    nodes: u32,
}

/// One limit that is set.
#[derive(Clone, Copy)]
struct Rule {
    rate: Rate,
    pace: Pace,
}

/// The limits in force, swapped as one.
struct Rules {
    config: RateConfig,
    global: Option<Rule>,
    group: Option<Rule>,
    /// Of groups with a rate of their own, which may be none.
    groups: BTreeMap<Box<str>, Option<Rule>>,
    client: Option<(Rule, Arc<Clients>)>,
    origin: Option<Rule>,
}

impl Rules {
    /// The rules that follow from `given`, with the table of `previous` ones if its size is still right.
    fn new(given: &Given, previous: Option<&Self>) -> Self {
        let config = given.config.clone();
        let nodes = match config.share {
            Share::Node => 1,
            Share::Cluster => given.nodes,
        };
        let rule = |rate| Pace::new(rate, nodes).map(|pace| Rule { rate, pace });
        let same_size = previous.filter(|previous| previous.config.clients_max == config.clients_max);
        let clients =
            same_size.and_then(|previous| previous.client.as_ref()).map(|(_, clients)| Arc::clone(clients));
        Self {
            global: rule(config.global),
            group: rule(config.group),
            groups: config.groups.iter().map(|(name, rate)| (name.as_str().into(), rule(*rate))).collect(),
            client: rule(config.client)
                .map(|rule| (rule, clients.unwrap_or_else(|| Arc::new(Clients::new(config.clients_max))))),
            origin: rule(config.origin),
            config,
        }
    }

    fn is_on(&self) -> bool {
        self.global.is_some() || self.has_group() || self.client.is_some()
    }

    fn has_group(&self) -> bool {
        self.group.is_some() || self.groups.values().any(Option::is_some)
    }

    fn of(&self, group: &str) -> Option<Rule> {
        // Most often there are none.
        if self.groups.is_empty() {
            self.group
        } else {
            self.groups.get(group).copied().unwrap_or(self.group)
        }
    }
}

impl Limiter {
    /// The limits of `config`, for a node on its own until [`set_nodes`](Self::set_nodes) says otherwise.
    pub fn new(config: RateConfig, metrics: &NodeMetrics) -> Self {
        let given = Given { config, nodes: 1 };
        let rules = Rules::new(&given, None);
        let refused = Limit::ALL.map(|limit| {
            metrics.counter("ggcache_rate_limited_total", vec![Label::new("limit", limit.as_str())])
        });
        Self {
            is_on: AtomicBool::new(rules.is_on()),
            has_group: AtomicBool::new(rules.has_group()),
            rules: ArcSwap::from_pointee(rules),
            given: Mutex::new(given),
            global: Bucket::default(),
            origin: Bucket::default(),
            shared: Bucket::default(),
            refused,
        }
    }

    /// Changes the limits. Buckets keep what is in them; one whose rate was far slower is empty at worst, and fills at
    /// the new rate. Only another `clients_max` forgets the clients.
    pub fn replace(&self, config: RateConfig) {
        self.change(|given| given.config = config);
    }

    /// Says how many nodes share the rates, where they are the cluster's.
    pub fn set_nodes(&self, nodes: usize) {
        self.change(|given| given.nodes = u32::try_from(nodes).unwrap_or(u32::MAX));
    }

    fn change(&self, change: impl FnOnce(&mut Given)) {
        let mut given = self.given.lock();
        change(&mut given);
        let rules = Rules::new(&given, Some(&self.rules.load()));
        let (is_on, has_group) = (rules.is_on(), rules.has_group());
        self.rules.store(Arc::new(rules));
        self.has_group.store(has_group, Ordering::Release);
        self.is_on.store(is_on, Ordering::Release);
    }

    /// The client's address behind trusted proxies, as [`client_address`] finds it.
    pub fn client_address(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(socket, headers, &self.rules.load().config)
    }

    /// Whether there is any limit on requests, so that it matters whose they are.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Whether there is a limit for groups, so that it matters which one a request is about.
    pub fn has_group(&self) -> bool {
        self.has_group.load(Ordering::Acquire)
    }

    /// Counts a request of `caller`, for a key of the group whose bucket is given, and says whether it may go on.
    pub fn check(&self, caller: ClientKey, group: Option<&GroupBucket>, now: Moment) -> Decision {
        if !self.is_on() {
            return Decision::UNLIMITED;
        }
        let (rules, now) = (self.rules.load(), now.as_nanos());
        let decision = self.decide(&rules, caller, group, now);
        self.counted(decision)
    }

    /// Counts a request that is refused for another reason: its client's limit decides, and no other is touched.
    pub fn check_client(&self, caller: ClientKey, now: Moment) -> Decision {
        let (rules, now) = (self.rules.load(), now.as_nanos());
        let Some((rule, clients)) = &rules.client else { return Decision::UNLIMITED };
        let (limit, taken) = match clients.take(caller, rule.pace, now) {
            Some(taken) => (Limit::Client, taken),
            None => (Limit::Shared, self.shared.take(rule.pace, now)),
        };
        self.counted(match taken {
            Ok(level) => Decision::allowed(limit, rule.rate, level),
            Err(level) => Decision::refused(limit, rule.rate, level),
        })
    }

    /// Counts a query that would reach the database.
    ///
    /// # Errors
    /// The decision, if it may not.
    pub fn origin_permit(&self, now: Moment) -> Result<(), Decision> {
        let Some(rule) = self.rules.load().origin else { return Ok(()) };
        match self.origin.take(rule.pace, now.as_nanos()) {
            Ok(_) => Ok(()),
            Err(level) => Err(self.counted(Decision::refused(Limit::Origin, rule.rate, level))),
        }
    }

    fn decide(&self, rules: &Rules, caller: ClientKey, group: Option<&GroupBucket>, now: u64) -> Decision {
        let common = [
            rules.global.map(|rule| (Limit::Global, rule, &self.global)),
            group.and_then(|group| Some((Limit::Group, rules.of(&group.0.name)?, &group.0.bucket))),
        ];
        let has_common = common.iter().any(Option::is_some);
        // A limit on its own tests as it takes.
        if has_common && let Some(refusal) = test(&common, rules, caller, now) {
            return refusal;
        }
        let mut decision = Decision::UNLIMITED;
        for (index, (limit, rule, bucket)) in
            common.iter().enumerate().filter_map(|(i, one)| Some((i, (*one)?)))
        {
            match bucket.take(rule.pace, now) {
                Ok(level) => decision = decision.tighter(Decision::allowed(limit, rule.rate, level)),
                Err(level) => {
                    give_back(&common[..index]);
                    return Decision::refused(limit, rule.rate, level);
                }
            }
        }
        let Some((rule, clients)) = &rules.client else { return decision };
        let (limit, taken) = match clients.take(caller, rule.pace, now) {
            Some(taken) => (Limit::Client, taken),
            None => (Limit::Shared, self.shared.take(rule.pace, now)),
        };
        match taken {
            Ok(level) => decision.tighter(Decision::allowed(limit, rule.rate, level)),
            Err(level) => {
                give_back(&common);
                Decision::refused(limit, rule.rate, level)
            }
        }
    }

    fn counted(&self, decision: Decision) -> Decision {
        if let Some(limit) = decision.limit().filter(|_| !decision.is_allowed()) {
            self.refused[limit as usize].increment(1);
        }
        decision
    }
}

type Common<'a> = Option<(Limit, Rule, &'a Bucket)>;

/// The refusal that a request meets, if any; nothing is taken.
fn test(common: &[Common<'_>], rules: &Rules, caller: ClientKey, now: u64) -> Option<Decision> {
    let common = common.iter().flatten();
    let refusals = common.filter_map(|(limit, rule, bucket)| {
        let level = bucket.test(rule.pace, now).err()?;
        Some(Decision::refused(*limit, rule.rate, level))
    });
    let client = rules.client.as_ref().and_then(|(rule, clients)| {
        let level = clients.test(caller, rule.pace, now).err()?;
        Some(Decision::refused(Limit::Client, rule.rate, level))
    });
    refusals.chain(client).reduce(Decision::tighter)
}

fn give_back(taken: &[Common<'_>]) {
    for (_, rule, bucket) in taken.iter().flatten() {
        bucket.give_back(rule.pace);
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("config", &self.rules.load().config).finish_non_exhaustive()
    }
}
