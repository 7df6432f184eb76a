//! What goes wrong, and is mended after a while.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    database::key,
    network::address,
    node::{GROUP, Node},
    world::World,
};
use crate::{
    cluster::Node as Member,
    group::{GroupName, Handover, PeerTransport},
    transport::MemoryNetwork,
};

/// Makes faults until the run ends.
pub(super) async fn go_on(world: Arc<World>, network: MemoryNetwork) {
    if world.plan.is_calm {
        return;
    }
    while !world.is_ending() {
        world.pause(5, 120).await;
        match world.draw(19) {
            0..3 => pause(&world),
            3..5 => crash(&world, &network),
            5..7 => cut(&world),
            7..9 => stop_database(&world),
            9..11 => trim(&world),
            11 => restore(&world),
            12..14 => world.database.back_up(),
            _ => change_ring(&world),
        }
    }
}

fn after(millis: u64, work: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        sleep(Duration::from_millis(millis)).await;
        work();
    });
}

/// A node stands still: what it has asked for is answered, and it does not hear of it.
fn pause(world: &Arc<World>) {
    let Some(node) = world.node(world.one_of(world.plan.nodes)) else { return };
    let millis = world.between(10, 400);
    world.note(node.index, "stands still for ms", millis, 0);
    node.gate.shut();
    after(millis, move || node.gate.open());
}

fn crash(world: &Arc<World>, network: &MemoryNetwork) {
    let index = world.one_of(world.plan.nodes);
    let Some(node) = world.nodes.lock()[index].take() else { return };
    node.crash(world, network);
    let (world, network) = (Arc::clone(world), network.clone());
    after(world.between(5, 150), move || {
        let members = world.members.lock().clone();
        let node = Node::start(&world, &network, index, node.life + 1, &members);
        world.nodes.lock()[index] = Some(node);
    });
}

/// Wires are cut, in one direction or both.
fn cut(world: &Arc<World>) {
    let (from, to) = (world.one_of(world.plan.nodes), world.one_of(world.plan.nodes));
    let (both, millis) = (world.chance(60), world.between(20, 400));
    world.note(from, "is cut off from node / for ms", to as u64, millis);
    let set = move |world: &World, is_cut| {
        world.links.cut(from, to, is_cut);
        if both {
            world.links.cut(to, from, is_cut);
        }
    };
    set(world, true);
    let world = Arc::clone(world);
    after(millis, move || {
        if !world.is_ending() {
            set(&world, false);
        }
    });
}

fn stop_database(world: &Arc<World>) {
    let millis = world.between(10, 500);
    world.note(99, "is down for ms", millis, 0);
    world.database.stop();
    let world = Arc::clone(world);
    after(millis, move || world.database.start());
}

fn trim(world: &Arc<World>) {
    let gone = world.database.trim(world.draw(6));
    world.note(99, "removes rows of the log", gone, 0);
}

/// The database stops, becomes what it was at a backup, and starts.
fn restore(world: &Arc<World>) {
    world.database.stop();
    let world = Arc::clone(world);
    after(world.draw(30), move || {
        world.database.stop();
        world.database.restore(&world);
        let millis = world.draw(30);
        after(millis, move || world.database.start());
    });
}

/// A node leaves the cluster or comes back; the others hear of it one after another.
fn change_ring(world: &Arc<World>) {
    let index = world.one_of(world.plan.nodes);
    let members = {
        let mut members = world.members.lock();
        match members.iter().position(|member| *member == index) {
            Some(at) if members.len() > 1 => drop(members.remove(at)),
            Some(_) => return,
            None => members.push(index),
        }
        members.clone()
    };
    world.note(index, "comes or goes; members", members.len() as u64, 0);
    for other in 0..world.plan.nodes {
        let (world, members) = (Arc::clone(world), members.clone());
        after(world.draw(100), move || {
            if let Some(node) = world.node(other) {
                node.see(&members);
            }
        });
    }
    if !members.contains(&index) && world.chance(50) {
        tokio::spawn(hand_over(Arc::clone(world), index));
    }
}

/// Names all keys to all nodes, as the node does that leaves.
async fn hand_over(world: Arc<World>, from: usize) {
    let Some(node) = world.node(from) else { return };
    for to in (0..world.plan.nodes).filter(|to| *to != from) {
        let handover = Handover {
            group: GroupName::new(GROUP).expect("a name"),
            from: address(from),
            keys: (0..world.plan.keys).map(key).collect(),
            budget: Duration::from_millis(200),
        };
        drop(node.wire.handover(&Member::new(address(to)), &handover).await);
    }
}

/// Mends everything, and waits until it shows.
pub(super) async fn mend(world: &Arc<World>, network: &MemoryNetwork) {
    // What is under way ends by itself.
    sleep(Duration::from_millis(900)).await;
    world.links.mend_all();
    world.database.start();
    let all: Vec<usize> = (0..world.plan.nodes).collect();
    (*world.members.lock()).clone_from(&all);
    for index in &all {
        match world.node(*index) {
            Some(node) => node.see(&all),
            None => {
                let node = Node::start(world, network, *index, 900, &all);
                world.nodes.lock()[*index] = Some(node);
            }
        }
    }
    world.note(99, "all is mended", 0, 0);
    let deadline = Instant::now() + Duration::from_secs(8);
    while Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        let nodes = world.nodes.lock().clone();
        let is_fresh = |node: &Arc<Node>| {
            node.cell.is_fresh(world.now(), Duration::from_millis(100)) && node.group.is_logged()
        };
        if nodes.iter().flatten().all(is_fresh) {
            break;
        }
    }
    sleep(world.plan.staleness).await;
}
