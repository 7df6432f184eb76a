//! A group: one table's values, read through a cache that is spread over the cluster.
//!
//! This file is the algorithm. A read goes through these steps and no others:
//!
//! 1. [`Group::cached`]: the main cache, without a lock that waits or an allocation. Most reads end here.
//! 2. [`Group::get`]: on a miss the view names the key's owner. If that is this node, the request takes a seat in
//!    an *owner-side* flight; if it is another, in a *client-side* flight.
//! 3. An owner-side flight ([`Group::load`]) reads the origin, once for all who ask, and keeps the result as
//!    [`Freshness`] says and if the [`fence`] allows.
//! 4. A client-side flight (`asking`) asks the owner; if that is down, the next node on the ring; and only if
//!    that is down too, the origin, as in 3. Flights that ask one node at a time share their messages ([`hops`]).
//!
//! [`Group::get_as_owner`] is the read that another node sends: steps 1 and 3, never 4, so that a request takes
//! one hop at most. The two kinds of flight live in two maps, so that two nodes that each take the other for the
//! owner can't wait for each other.
//!
//! [`Group::get_many`] is the same for many keys at once, with one message to each owner and one query there (`batch`);
//! [`Group::fresh`] loads whatever is in memory, and [`Group::in_memory`] never loads (`directed`). Where the database has
//! a log of changes, memory answers only as long as it is known to be current (`logged`); [`Group::write`] changes the
//! origin (`writer`).
//!
//! Around these stand [`invalidate`], which reaches every node, and [`handover`], by which memory survives a change
//! of owner: a flight of step 3 first peeks at the key's previous owner.
//!
//! The group knows its neighbours by their traits only: [`Loader`] below, [`PeerTransport`] beside (through
//! [`Peers`], which knows who is well). It never knows HTTP or SQL.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use tokio::time::Instant;

mod answer;
mod asking;
mod audit;
mod batch;
mod batch_load;
mod config;
mod demand;
mod directed;
mod fence;
mod figures;
mod flight;
mod freshness;
mod halves;
mod handover;
mod hops;
mod invalidate;
mod key;
mod loader;
mod log;
mod logged;
mod metrics;
pub(crate) mod omit;
mod parts;
mod peer;
mod peers;
mod preload;
mod pulse;
mod registry;
mod stale;
mod store;
mod value;
mod writer;

pub use answer::{Answer, GetError, Hop, Outcome, UnknownOutcome};
pub use audit::Audited;
pub use config::GroupConfig;
pub use freshness::{Freshness, Role};
pub use halves::Halves;
pub use handover::HandedOver;
pub use invalidate::InvalidationReport;
pub use key::{GROUP_NAME_BYTES_MAX, GroupName, GroupNameError, KEY_BYTES_MAX, Key, KeyError, check_key};
pub use loader::{BoxFuture, KeyScan, LoadError, Loader};
pub use log::{Change, LogAppend, LogCell, LogId, Look, Position, PositionError};
pub use logged::GroupLog;
pub use metrics::{GroupMetrics, Source};
pub use parts::{GroupParts, GroupSettings};
pub use peer::{
    HANDOVER_KEYS_MAX, Handover, Invalidation, NoPeers, PEEKED_BYTES_MAX, PeekMany, PeerAnswer, PeerBatch,
    PeerError, PeerRequest, PeerTransport, PeerWord, Selection,
};
pub use peers::{PeerHealth, Peers};
pub use registry::{Groups, GroupsError};
pub use store::Resident;
pub use value::{ContentKind, Value};
pub use writer::{Committed, Condition, Write, WriteError, Writer, Written};

use audit::Audit;
use fence::SlotState;
use flight::{Aborted, FlightLimits, Flights, Full, Seat, Start, Turn};
use hops::Hops;
use logged::Logged;
use omit::seam;
use pulse::Pulse;
use store::{Fresh, Store};
use writer::Writes;

use crate::{
    cluster::place,
    task::Tasks,
    telemetry::{field, trace},
    time::{Clock, Moment},
};

/// Which of the two maps a flight is in, and so what it does.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// It asks another node.
    Client,
    /// It reads the origin.
    Owner,
}

/// What a group's flights end with.
type Landing = Result<Answer, GetError>;

/// One table's values at one node. Cheap to share behind an [`Arc`].
pub struct Group {
    name: GroupName,
    /// Exchanged whole when the configuration is read again.
    config: ArcSwap<GroupConfig>,
    settings: GroupSettings,
    store: Store,
    loader: Box<dyn Loader>,
    peers: Arc<Peers>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    metrics: GroupMetrics,
    /// Flights that ask another node. Never waited for by a request from a peer.
    client_flights: Arc<Flights<Landing>>,
    /// Flights that read the origin.
    owner_flights: Arc<Flights<Landing>>,
    /// Messages to other nodes that reads share.
    hops: Hops,
    pulse: Pulse,
    logged: Option<Logged>,
    audit: Audit,
    writer: Option<Arc<dyn Writer>>,
    writes: Arc<Writes>,
}

impl Group {
    /// A group with an empty cache.
    pub fn new(
        name: GroupName,
        config: GroupConfig,
        settings: GroupSettings,
        parts: GroupParts,
    ) -> Arc<Self> {
        let limits = FlightLimits { flights: settings.flights_max, waiters: settings.waiters_max };
        let metrics = GroupMetrics::new(&parts.metrics, &name);
        Arc::new(Self {
            store: Store::new(&config, &metrics, settings.peer_deadline),
            writer: parts.writer,
            writes: Arc::default(),
            audit: Audit::new(),
            logged: parts.log.map(|log| Logged::new(log, &config)),
            name,
            config: ArcSwap::from_pointee(config),
            settings,
            loader: parts.loader,
            peers: parts.peers,
            clock: parts.clock,
            tasks: parts.tasks,
            metrics,
            client_flights: Flights::new(limits),
            owner_flights: Flights::new(limits),
            hops: Hops::default(),
            pulse: Pulse::default(),
        })
    }

    /// Answers a client's read of `key` (1 to [`KEY_BYTES_MAX`] bytes) until `deadline`.
    ///
    /// Cancel safe: what was begun for this request goes on for others, and is kept.
    ///
    /// # Errors
    /// See [`GetError`]. An absent key is an [`Answer`] without a value, not an error.
    pub async fn get(self: &Arc<Self>, key: &[u8], deadline: Instant) -> Result<Answer, GetError> {
        check_key(key)?;
        match self.cached(key) {
            Some(answer) => Ok(answer),
            None => self.miss(key, deadline).await,
        }
    }

    /// As [`get`](Self::get), for who has just been told by [`cached`](Self::cached) that there is nothing.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn miss(self: &Arc<Self>, key: &[u8], deadline: Instant) -> Result<Answer, GetError> {
        check_key(key)?;
        let begun = self.clock.now();
        let result = self.get_missed(key, deadline).await;
        self.metrics.request(result.as_ref().ok().map(|answer| answer.outcome), self.since(begun));
        result
    }

    /// The answer to a client's read, if this node has it in memory. Counts as a request if so.
    pub fn cached(self: &Arc<Self>, key: &[u8]) -> Option<Answer> {
        self.cached_at(key, self.clock.now()).map(|(answer, _)| answer)
    }

    /// As [`cached`](Self::cached), for a request that came at `begun`, by the group's clock; and the time after it. A
    /// clock is a part of what a hit costs.
    pub fn cached_at(self: &Arc<Self>, key: &[u8], begun: Moment) -> Option<(Answer, Moment)> {
        self.awake_at(begun);
        if !self.may_serve(begun) {
            return None;
        }
        let hash = self.store.hash(key);
        let answer = self.store.get(hash, key, begun)?;
        self.refresh_ahead(hash, key, &answer, begun);
        self.story(key, &answer);
        let now = self.clock.now();
        self.metrics.request(Some(answer.outcome), now.saturating_since(begun));
        Some((answer, now))
    }

    /// Answers another node that takes this one for the owner, with nothing older than `need`, and says up to where the
    /// log was applied here before it looked. Never asks a third.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`GetError::Behind`] if this node does not get as far as `need`.
    pub async fn get_as_owner(
        self: &Arc<Self>,
        key: &[u8],
        need: Option<Position>,
        deadline: Instant,
    ) -> Result<(Answer, Option<Position>), GetError> {
        let cursor = self.come_to(need, deadline).await?;
        seam().await;
        let (hash, now) = (self.store.hash(key), self.awake());
        let may_serve = self.may_serve(now);
        // Never a copy: whoever asks takes this node for the owner, and would keep a copy of the copy.
        let answer = match self.store.get_own(hash, key, now).filter(|_| may_serve) {
            Some(answer) => {
                self.refresh_ahead(hash, key, &answer, now);
                answer
            }
            None => self.fly_as_owner(hash, key, !may_serve, deadline).await?,
        };
        Ok((answer, cursor))
    }

    async fn get_missed(self: &Arc<Self>, key: &[u8], deadline: Instant) -> Result<Answer, GetError> {
        let hash = self.store.hash(key);
        // What is not known to be current is loaded; nor is a flight joined that began before.
        let is_fresh = !self.may_serve(self.clock.now());
        let place = place(self.name.as_str(), key);
        let view = self.peers.views().load();
        tracing::debug!(
            { field::GROUP } = %self.name,
            { field::KEY_HASH } = %place,
            { field::RING_EPOCH } = %view.epoch(),
            { field::RING_POINT } = view.ring().point(place).index,
            owner = %view.owner(place).address,
            mine = view.is_mine(place),
            "not in memory; the ring names the owner"
        );
        let answer = if view.is_mine(place) {
            drop(view);
            self.fly_as_owner(hash, key, is_fresh, deadline).await?
        } else {
            drop(view);
            self.store.note_demand(hash, self.clock.now());
            let start = Start { slot: self.store.slot(hash), is_fresh };
            let (seat, turn) = self.client_flights.join(hash, key, start).map_err(full)?;
            if let Some(turn) = turn {
                self.spawn(turn, hash, key, Side::Client);
            }
            self.wait(seat, deadline).await?
        };
        self.story(key, &answer);
        Ok(answer)
    }

    async fn fly_as_owner(
        self: &Arc<Self>,
        hash: u64,
        key: &[u8],
        is_fresh: bool,
        deadline: Instant,
    ) -> Landing {
        let start = Start { slot: self.store.slot(hash), is_fresh };
        let joined = self.owner_flights.join(hash, key, start);
        let seat = joined.map(|(seat, turn)| {
            if let Some(turn) = turn {
                self.spawn(turn, hash, key, Side::Owner);
            }
            seat
        });
        if let Some(stale) = self.stale_meanwhile(hash, key, is_fresh) {
            return Ok(stale);
        }
        let landing = self.wait(seat.map_err(full)?, deadline).await;
        self.stale_instead(hash, key, is_fresh, landing)
    }

    /// Runs a flight, and those that come to wait for it, in a task of its own.
    fn spawn(self: &Arc<Self>, turn: Turn<Landing>, hash: u64, key: &[u8], side: Side) {
        // A turn that is dropped answers its waiters. The key was checked where it came in.
        let Ok(key) = Key::new(key) else { return };
        let group = Arc::clone(self);
        let trace = trace::current();
        self.tasks.spawn(trace::within(trace, async move {
            turn.fly(|| group.store.slot(hash), |start| Box::pin(group.flight(&key, hash, start, side)))
                .await;
        }));
    }

    async fn flight(self: &Arc<Self>, key: &Key, hash: u64, start: Start, side: Side) -> Landing {
        let timeout = self.settings.flight_timeout;
        let until = Instant::now() + timeout;
        let work = async {
            match side {
                Side::Owner => self.load(key, hash, start).await,
                Side::Client => self.ask(key, hash, start, until).await,
            }
        };
        tokio::time::timeout_at(until, work).await.unwrap_or(Err(GetError::Deadline(timeout)))
    }

    async fn wait(&self, seat: Seat<Landing>, deadline: Instant) -> Landing {
        if seat.collapsed {
            self.metrics.coalesced();
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout_at(deadline, seat.wait()).await {
            Ok(Ok(landing)) => {
                landing.map(|answer| Answer { collapsed: answer.collapsed || seat.collapsed, ..answer })
            }
            Ok(Err(Aborted::Panicked)) => Err(LoadError::Broken("it panicked").into()),
            Ok(Err(Aborted::Stopped)) => Err(GetError::ShuttingDown),
            Err(_) => Err(GetError::Deadline(patience)),
        }
    }

    /// An owner-side flight: reads the origin and keeps what may be kept.
    async fn load(&self, key: &Key, hash: u64, start: Start) -> Landing {
        if let Some(found) = self.before_load(key, hash, start).await {
            return Ok(found);
        }
        let since = self.clock.now();
        let load = self.loader.load(std::slice::from_ref(key));
        let mut loaded = trace::spanned("load", load).await?;
        match (loaded.pop(), loaded.is_empty()) {
            (Some(value), true) => {
                let slot = self.held_to(hash, start.slot).await;
                Ok(self.loaded(key, hash, slot, since, value))
            }
            _ => Err(LoadError::Broken("it answered another number of keys than it was asked").into()),
        }
    }

    /// What spares a flight its query.
    async fn before_load(&self, key: &Key, hash: u64, start: Start) -> Option<Answer> {
        if start.is_fresh {
            return None;
        }
        // Another flight may have landed since the look that missed: without a second look, a crowd would now and then
        // be two queries.
        if let Some(found) = self.store.peek(hash, key.as_bytes(), self.clock.now()) {
            return Some(found);
        }
        self.peek_previous(key, hash, start.slot).await
    }

    /// Keeps what a load that began at `since` has brought, if it may be kept, and answers it.
    fn loaded(&self, key: &Key, hash: u64, slot: SlotState, since: Moment, value: Option<Value>) -> Answer {
        let role = self.role(key);
        let until = self.freshness().until(since, value.is_some(), role, fastrand::f64());
        let fresh = Fresh { value: value.clone(), since, until, window: self.window(role) };
        let kept = self.store.keep(hash, key, fresh, self.clock.now(), slot);
        tracing::debug!(
            { field::GROUP } = %self.name,
            found = value.is_some(),
            role = ?role,
            kept,
            "loaded from the origin"
        );
        // What the fence refused may have been out of date already: no copy of it may be kept anywhere.
        let until = if self.store.slot(hash) == slot { until } else { since };
        Answer { value, outcome: Outcome::Load, since, until, collapsed: false, hop: None }
    }

    /// In which role this node loads `key`, by the present view.
    fn role(&self, key: &Key) -> Role {
        let place = place(self.name.as_str(), key.as_bytes());
        let view = self.peers.views().load();
        // Who would be asked instead of an owner that is down: the next one on the ring that is not down too.
        let mut before = view.route(place).take_while(|node| node.address != view.me().address);
        match before.next() {
            None => Role::Owner,
            Some(_) if before.all(|node| self.peers.is_ejected(&node.address)) => Role::Successor,
            Some(_) => Role::Stranger,
        }
    }

    /// Takes up to `steps_max` entries in hand and drops those that have expired; how many were dropped.
    pub fn reclaim_expired(&self, steps_max: usize) -> usize {
        self.store.reclaim_expired(self.clock.now(), steps_max)
    }

    /// The group's name.
    pub const fn name(&self) -> &GroupName {
        &self.name
    }

    /// The group's own configuration, as it is now.
    pub fn config(&self) -> Guard<Arc<GroupConfig>> {
        self.config.load()
    }

    /// Goes by another configuration from now on. Times hold for what is loaded from then on; what is in memory keeps the
    /// deadline that it has. The policy and the content type stay, and so does whether there are copies at all, which the
    /// group was made with. May evict a lot, and block for as long as that takes: not for requests.
    pub fn reconfigure(&self, config: GroupConfig) {
        self.store.reconfigure(&config, self.clock.now());
        if let Some(logged) = &self.logged {
            logged.reconfigure(&config);
        }
        self.config.store(Arc::new(config));
    }

    /// How long what is loaded now may live.
    fn freshness(&self) -> Freshness {
        let config = self.config.load();
        Freshness {
            ttl: config.ttl,
            jitter: config.ttl_jitter,
            negative_ttl: config.negative_ttl,
            failover_ttl: self.settings.failover_ttl,
        }
    }

    /// The digest of the group's definition.
    pub const fn digest(&self) -> u64 {
        self.settings.digest
    }

    /// The present moment on the group's clock.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    fn since(&self, begun: Moment) -> Duration {
        self.clock.now().saturating_since(begun)
    }

    /// The last line of a read's story.
    fn story(&self, key: &[u8], answer: &Answer) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(
                { field::GROUP } = %self.name,
                { field::KEY_HASH } = %place(self.name.as_str(), key),
                { field::OUTCOME } = %answer.outcome,
                collapsed = answer.collapsed,
                found = answer.value.is_some(),
                "answered"
            );
        }
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}

fn full(full: Full) -> GetError {
    match full {
        Full::Flights(limit) => GetError::Overloaded { what: "loads", limit },
        Full::Waiters(limit) => GetError::Overloaded { what: "waiting requests", limit },
    }
}
