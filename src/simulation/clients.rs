//! Who reads at the nodes, and who writes past them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    database::{Committed, key},
    history::{Nanos, Read},
    node::Node,
    world::World,
};
use crate::group::{Answer, GetError, Position, Selection, Write};

const PATIENCE: Duration = Duration::from_secs(1);

/// What a write answers: how far a log must be applied to hold it, and the moment of it.
#[derive(Clone, Copy)]
struct Token {
    position: Position,
    written: Committed,
}

/// The last tokens that were handed out.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Vec<Token>>);

impl Tokens {
    const KEPT: usize = 8;

    fn keep(&self, token: Token) {
        let mut tokens = self.0.lock();
        tokens.push(token);
        if tokens.len() > Self::KEPT {
            tokens.remove(0);
        }
    }

    fn one(&self, world: &World) -> Option<Token> {
        let tokens = self.0.lock();
        (!tokens.is_empty()).then(|| tokens[world.one_of(tokens.len())])
    }
}

/// A node that answers clients: one that follows the log, after it has stood still for as long as it does.
async fn ready(world: &World) -> Option<Arc<Node>> {
    let node = world.node(world.one_of(world.plan.nodes))?;
    tokio::select! {
        biased;
        () = node.crashed.cancelled() => return None,
        () = node.gate.pass() => {}
    }
    node.group.is_logged().then_some(node)
}

/// Reads until the run ends.
pub(super) async fn read_on(world: Arc<World>, tokens: Arc<Tokens>) {
    while !world.is_ending() {
        world.pause(0, world.plan.read_pause).await;
        let Some(node) = ready(&world).await else { continue };
        let key = world.one_of(world.plan.keys);
        match world.draw(99) {
            0..70 => read(&world, &node, key, Kind::Plain).await,
            70..80 => {
                if let Some(token) = tokens.one(&world) {
                    read(&world, &node, token.written.key, Kind::After(token)).await;
                }
            }
            80..86 => read(&world, &node, key, Kind::Fresh).await,
            86..91 => read(&world, &node, key, Kind::InMemory).await,
            _ => read_many(&world, &node, tokens.one(&world).filter(|_| world.chance(50))).await,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    After(Token),
    Fresh,
    InMemory,
}

/// What a read that begins now at `node` may not be older than.
struct Bounds {
    start: Nanos,
    all: Vec<(Nanos, &'static str)>,
}

impl Bounds {
    fn now(world: &World, node: &Node, key: usize) -> Self {
        // What a node holds to is its clock's, which stands still between events.
        let stale = world.now().saturating_sub(world.plan.staleness).as_nanos();
        let applied = node.known.applied.lock()[key];
        let acknowledged = node.known.acknowledged.lock()[key];
        let cursor = node.cell.cursor().map_or(0, |cursor| world.database.moment(cursor, key));
        let all = vec![
            (stale, "that is the bound on age"),
            (applied, "the node had applied a change of that moment"),
            (cursor, "the node's cursor was past a change of that moment"),
            (acknowledged, "the node had acknowledged an invalidation of that moment"),
        ];
        Self { start: world.stamp(), all }
    }
}

async fn read(world: &Arc<World>, node: &Arc<Node>, number: usize, kind: Kind) {
    let name = key(number);
    let mut bounds = Bounds::now(world, node, number);
    let deadline = Instant::now() + PATIENCE;
    let group = &node.group;
    let what = match kind {
        Kind::Plain => "get",
        Kind::After(token) => {
            bounds.all.push((token.written.at, "the client had written at that moment, and sent the token"));
            "get with a token"
        }
        Kind::Fresh => {
            bounds.all.push((bounds.start, "a load was asked for"));
            "fresh"
        }
        Kind::InMemory => "only in memory",
    };
    world.note(node.index, "is asked for key / kind", number as u64, what.len() as u64);
    let asking = async {
        match kind {
            Kind::Plain => group.get(name.as_bytes(), deadline).await.map(Some),
            Kind::After(token) => group.get_at(name.as_bytes(), token.position, deadline).await.map(Some),
            Kind::Fresh => group.fresh(name.as_bytes(), deadline).await.map(Some),
            Kind::InMemory => group.in_memory(name.as_bytes(), deadline).await,
        }
    };
    let answer = tokio::select! {
        biased;
        () = node.crashed.cancelled() => return,
        answer = asking => answer,
    };
    match answer {
        Ok(Some(answer)) => note(world, node, number, bounds, &answer, what),
        Ok(None) => {}
        Err(error) => unanswered(world, node, number, what, &error),
    }
}

async fn read_many(world: &Arc<World>, node: &Arc<Node>, token: Option<Token>) {
    let numbers: Vec<usize> = (0..world.plan.keys).collect();
    let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
    let mut bounds: Vec<_> = numbers.iter().map(|number| Bounds::now(world, node, *number)).collect();
    if let Some(Token { written, .. }) = token {
        bounds[written.key]
            .all
            .push((written.at, "the client had written at that moment, and sent the token"));
    }
    world.note(node.index, "is asked for all keys", 0, 0);
    let deadline = Instant::now() + PATIENCE;
    let asking = async {
        match token {
            None => node.group.get_many(&keys, usize::MAX, deadline).await,
            Some(token) => node.group.get_many_at(&keys, token.position, usize::MAX, deadline).await,
        }
    };
    let answers = tokio::select! {
        biased;
        () = node.crashed.cancelled() => return,
        answers = asking => answers,
    };
    for ((number, bounds), answer) in numbers.into_iter().zip(bounds).zip(answers) {
        match answer {
            Ok(answer) => note(world, node, number, bounds, &answer, "one of all"),
            Err(error) => unanswered(world, node, number, "one of all", &error),
        }
    }
}

fn unanswered(world: &World, node: &Node, number: usize, what: &'static str, error: &GetError) {
    world.unanswered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    world.note(node.index, "does not answer for key / error", number as u64, error.code() as u64);
    if world.plan.is_calm {
        world.breach(format!(
            "node {} fails {what} of key-{number}, though nothing is wrong: {error}",
            node.index
        ));
    }
}

fn note(world: &World, node: &Node, number: usize, bounds: Bounds, answer: &Answer, what: &'static str) {
    let text = answer.value.as_ref().map(|value| String::from_utf8_lossy(value.bytes()).into_owned());
    let parts = text.as_ref().map(|text| text.split_once(':').expect("a version and a definition"));
    let version = parts.map(|(version, _)| version.parse().expect("a version"));
    let end = world.note(node.index, "answers key / version", number as u64, version.unwrap_or(0));
    if let Some((_, definition)) = parts
        && answer.outcome.is_cached()
        && definition != node.definition.to_string()
    {
        world.breach(format!(
            "node {} has key-{number} in memory as another definition of the group writes it: {}",
            node.index,
            text.as_deref().unwrap_or_default()
        ));
    }
    let Bounds { start, all } = bounds;
    let note = format!("({what}, {})", answer.outcome);
    // Reads of several keys and of a single one do not wait for each other.
    let grows = world.plan.is_calm && what == "get";
    world.read(number, Read { node: node.name(), start, end, version, bounds: all, grows, note });
}

/// Writes until the run ends, past all nodes or through one, and tells some of them.
pub(super) async fn write_on(world: Arc<World>, tokens: Arc<Tokens>) {
    while !world.is_ending() {
        world.pause(0, world.plan.write_pause).await;
        if world.chance(25) {
            write_through(&world, &tokens).await;
            continue;
        }
        let mut keys = vec![world.one_of(world.plan.keys)];
        if world.chance(20) {
            let other = world.one_of(world.plan.keys);
            if other > keys[0] {
                keys.push(other);
            }
        }
        let is_silent = world.chance(6);
        let committed = world.database.transact(&world, &keys, is_silent).await;
        if committed.is_empty() {
            continue;
        }
        if is_silent {
            tokio::spawn(invalidate(Arc::clone(&world), committed));
            continue;
        }
        if world.chance(50) {
            hint(&world, &committed);
        }
        if world.chance(40) {
            tokio::spawn(take_token(Arc::clone(&world), Arc::clone(&tokens), committed[0]));
        }
    }
}

/// Has a node write.
async fn write_through(world: &Arc<World>, tokens: &Tokens) {
    let Some(node) = ready(world).await else { return };
    let (name, given) = (key(world.one_of(world.plan.keys)), world.random());
    let deadline = Instant::now() + PATIENCE;
    let write = node.group.write(name.as_bytes(), Write::Put(given.to_string().into()), None, deadline);
    let result = tokio::select! {
        biased;
        () = node.crashed.cancelled() => return,
        result = write => result,
    };
    let position = result.ok().and_then(|committed| committed.position);
    if let (Some(position), Some(written)) = (position, world.database.written(given)) {
        world.note(node.index, "has written key / row", written.key as u64, position.seq);
        tokens.keep(Token { position, written });
    }
}

/// Tells nodes of a write, perhaps late, perhaps twice.
fn hint(world: &Arc<World>, committed: &[Committed]) {
    let keys: Vec<_> = committed.iter().map(|written| key(written.key)).collect();
    for index in 0..world.plan.nodes {
        for _ in 0..world.draw(2) {
            let (world, keys) = (Arc::clone(world), keys.clone());
            let later = if world.chance(70) { world.draw(4) } else { world.draw(80) };
            tokio::spawn(async move {
                sleep(Duration::from_millis(later)).await;
                let Some(node) = world.node(index) else { return };
                node.gate.pass().await;
                world.note(index, "gets a hint", 0, 0);
                node.group.invalidate_for_peer(&Selection::Keys(keys));
            });
        }
    }
}

/// Has a node come as far as the write, as one does that writes itself.
async fn take_token(world: Arc<World>, tokens: Arc<Tokens>, written: Committed) {
    let Some(node) = ready(&world).await else { return };
    let since = world.now();
    if let Some(position) = node.cell.look_now(since, Instant::now() + PATIENCE).await {
        world.note(node.index, "gives a token of key / row", written.key as u64, position.seq);
        tokens.keep(Token { position, written });
    }
}

/// Has a node say everywhere that keys have changed that no trigger saw.
async fn invalidate(world: Arc<World>, committed: Vec<Committed>) {
    let Some(node) = ready(&world).await else { return };
    let keys: Vec<usize> = committed.iter().map(|written| written.key).collect();
    let selection = match world.chance(70) {
        true => Selection::Keys(keys.iter().map(|number| key(*number)).collect()),
        false => Selection::Prefix(b"key-".to_vec()),
    };
    world.note(node.index, "invalidates key", keys[0] as u64, 0);
    let deadline = Instant::now() + PATIENCE;
    let report = tokio::select! {
        biased;
        () = node.crashed.cancelled() => return,
        report = node.group.invalidate_everywhere(&selection, deadline) => report,
    };
    for (address, _) in &report.acknowledged {
        // Whoever begins anew in the meantime has nothing from before.
        let all = world.nodes.lock().clone();
        for node in all.into_iter().flatten().filter(|node| node.views.load().me().address == *address) {
            world.note(node.index, "has acknowledged", 0, 0);
            committed.iter().for_each(|written| node.known.acknowledge(written.key, written.at));
        }
    }
}

/// Reads everything at all nodes, after all is well again.
pub(super) async fn read_all(world: &Arc<World>) {
    for index in 0..world.plan.nodes {
        let Some(node) = world.node(index) else { continue };
        for number in 0..world.plan.keys {
            let failed = world.unanswered.load(std::sync::atomic::Ordering::Relaxed);
            read(world, &node, number, Kind::Plain).await;
            if world.unanswered.load(std::sync::atomic::Ordering::Relaxed) > failed {
                world.breach(format!(
                    "node {index} does not answer for key-{number}, though all is well again"
                ));
            }
        }
    }
}
