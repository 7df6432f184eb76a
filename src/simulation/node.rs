//! A simulated node: a real group, a real follower and real peers, on simulated wires and a simulated database.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    database::{Rows, number},
    history::Nanos,
    log::{LogStore, tracked},
    network::{Wire, address},
    world::World,
};
use crate::{
    changes::{Applies, Follower, Pace, Sources},
    cluster::{Node as Member, View, ViewCell, place},
    group::{
        Change, Group, GroupConfig, GroupLog, GroupName, GroupParts, GroupSettings, Groups, Key, LogCell,
        Peers,
    },
    task::Tasks,
    telemetry::NodeMetrics,
    transport::MemoryNetwork,
};

pub(super) const GROUP: &str = "scores";
const POLL: Duration = Duration::from_millis(20);
const VIRTUAL_NODES: u32 = 16;

/// What lets a node's questions out and answers in: shut while the node stands still, and for good when it crashes.
#[derive(Default)]
pub(super) struct Gate {
    shut: AtomicU64,
    changed: Notify,
}

impl Gate {
    /// Waits until the node runs.
    pub(super) async fn pass(&self) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.shut.load(Ordering::Relaxed) == 0 {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn shut(&self) {
        self.shut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn open(&self) {
        self.shut.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

pub(super) struct Node {
    pub(super) index: usize,
    /// Another number for each of its lives.
    pub(super) life: u32,
    pub(super) definition: u64,
    pub(super) group: Arc<Group>,
    // Held, since the network does not.
    _groups: Arc<Groups>,
    pub(super) views: Arc<ViewCell>,
    pub(super) peers: Arc<Peers>,
    pub(super) cell: Arc<LogCell>,
    pub(super) wire: Arc<Wire>,
    pub(super) gate: Arc<Gate>,
    pub(super) known: Arc<Known>,
    /// Cancelled when it crashes.
    pub(super) crashed: CancellationToken,
}

/// Since when, by key, what this node answers must be current, because it has applied a change of that moment, or has
/// acknowledged an invalidation.
pub(super) struct Known {
    pub(super) applied: Mutex<Vec<Nanos>>,
    pub(super) acknowledged: Mutex<Vec<Nanos>>,
}

impl Known {
    pub(super) fn acknowledge(&self, key: usize, at: Nanos) {
        let known = &mut self.acknowledged.lock()[key];
        *known = (*known).max(at);
    }
}

/// Passes rows on to the group, and notes what is applied.
struct Recorder {
    world: Arc<World>,
    node: usize,
    group: Arc<Group>,
    known: Arc<Known>,
    read: Arc<Mutex<HashMap<u64, Nanos>>>,
}

impl Applies for Recorder {
    fn apply(&self, seq: u64, change: &Change) {
        self.group.apply(seq, change);
        self.world.note(self.node, "applies row", seq, 0);
        let Some(at) = self.read.lock().get(&seq).copied() else { return };
        let mut applied = self.known.applied.lock();
        for (key, known) in applied.iter_mut().enumerate() {
            let is_named = match change {
                Change::Key(named) => number(named.as_bytes()) == key,
                Change::Prefix(_) => true,
            };
            if is_named {
                *known = (*known).max(at);
            }
        }
    }

    fn reset(&self, head: u64) {
        self.group.reset(head);
        self.world.note(self.node, "begins anew at row", head, 0);
    }

    fn set_logged(&self, is_on: bool) {
        self.group.set_logged(is_on);
    }
}

impl Node {
    /// Starts a node that sees `members`.
    pub(super) fn start(
        world: &Arc<World>,
        network: &MemoryNetwork,
        index: usize,
        life: u32,
        members: &[usize],
    ) -> Arc<Self> {
        let me = address(index);
        let others = members.iter().map(|member| Member::new(address(*member)));
        let view = View::new(Member::new(me.clone()), others, VIRTUAL_NODES);
        let views = Arc::new(ViewCell::new(view));
        let gate = Arc::new(Gate::default());
        let wire = Arc::new(Wire {
            world: Arc::clone(world),
            from: index,
            gate: Arc::clone(&gate),
            inner: network.transport(&me),
        });
        // Its next life is of the same mind as the others.
        let definition = if world.plan.alien == Some(index) && life == 0 { 2 } else { 1 };
        let settings = GroupSettings {
            digest: definition,
            peer_timeout: Duration::from_millis(100),
            flight_timeout: Duration::from_millis(800),
            peer_deadline: Duration::from_millis(800),
            ..GroupSettings::default()
        };
        // Nothing but the log keeps anything fresh.
        let hour = Duration::from_secs(3_600);
        let (ttl, window) = match world.plan.is_short_lived {
            true => (Duration::from_millis(30), hour),
            false => (hour, Duration::ZERO),
        };
        let config = GroupConfig {
            capacity: 1 << 20,
            ttl,
            ttl_jitter: 0.0,
            stale_while_revalidate: window,
            stale_if_error: window,
            refresh_ahead: if world.plan.is_short_lived { 0.5 } else { 0.0 },
            negative_ttl: hour,
            hot_ttl: hour,
            max_staleness: world.plan.staleness,
            ..GroupConfig::default()
        };
        let (tasks, metrics, cell) = (Tasks::new(), NodeMetrics::new(), LogCell::new());
        let clock = Arc::clone(&world.clock);
        let peers = Peers::new(
            Arc::clone(&wire) as _,
            Arc::clone(&views),
            clock.clone(),
            tasks.clone(),
            metrics.clone(),
            settings.peer_timeout,
        );
        let rows = || Rows { world: Arc::clone(world), node: index, gate: Arc::clone(&gate), definition };
        let parts = GroupParts {
            loader: Box::new(rows()),
            peers: Arc::clone(&peers),
            clock: clock.clone(),
            tasks: tasks.clone(),
            metrics,
            log: Some(GroupLog { cell: Arc::clone(&cell), append: Some(Arc::new(rows())) }),
            writer: Some(Arc::new(rows())),
        };
        let group = Group::new(GroupName::new(GROUP).expect("a name"), config, settings, parts);
        let groups = Arc::new(Groups::new([Arc::clone(&group)], None).expect("one group"));
        network.attach(&me, &groups);
        let known = Arc::new(Known {
            applied: Mutex::new(vec![0; world.plan.keys]),
            acknowledged: Mutex::new(vec![0; world.plan.keys]),
        });
        let read = Arc::new(Mutex::default());
        let recorder = Recorder {
            world: Arc::clone(world),
            node: index,
            group: Arc::clone(&group),
            known: Arc::clone(&known),
            read: Arc::clone(&read),
        };
        let sources = Sources::new();
        sources.add(tracked(), Arc::new(recorder));
        let store = LogStore { world: Arc::clone(world), gate: Arc::clone(&gate), read };
        let nodes = world.plan.nodes;
        let pace = Pace::new(POLL, world.plan.staleness, move || nodes);
        let follower = Follower::new("simulated", Arc::new(store), sources, Arc::clone(&cell), clock, pace);
        let crashed = CancellationToken::new();
        tasks.spawn(follower.run(crashed.clone()));
        world.note(index, "starts its life", u64::from(life), 0);
        Arc::new(Self {
            index,
            life,
            definition,
            group,
            _groups: groups,
            views,
            peers,
            cell,
            wire,
            gate,
            known,
            crashed,
        })
    }

    /// Nothing of it is left but what it sent before.
    pub(super) fn crash(&self, world: &World, network: &MemoryNetwork) {
        world.note(self.index, "crashes", u64::from(self.life), 0);
        network.detach(&address(self.index));
        self.gate.shut();
        self.crashed.cancel();
    }

    /// Gives it another view.
    pub(super) fn see(&self, members: &[usize]) {
        let others = members.iter().map(|member| Member::new(address(*member)));
        let view = self.views.load().change(others);
        self.views.store(view);
        self.peers.view_changed(&self.views.load());
    }

    /// As it stands in the history.
    pub(super) fn name(&self) -> u32 {
        self.index as u32 * 1_000 + self.life
    }
}

/// While nothing is wrong, only a key's owner reads it from the database.
pub(super) fn check_owner(world: &World, index: usize, keys: &[Key]) {
    let Some(node) = world.node(index).filter(|_| world.plan.is_calm) else { return };
    let view = node.views.load();
    for key in keys {
        let owner = view.owner(place(GROUP, key.as_bytes()));
        if owner.address != view.me().address {
            let key = number(key.as_bytes());
            world.breach(format!(
                "node {index} reads key-{key} from the database, though nothing is wrong with its owner {}",
                owner.address
            ));
        }
    }
}
