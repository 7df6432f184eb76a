//! What the ring costs and how even it is: the figures that the docs quote.
//!
//! Run it by `cargo bench --bench ring` on a quiet machine. Every time is the best of several runs of one
//! core, which is the one that other work on the machine disturbed least; the others are exact and repeat.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use ggcache::cluster::{Address, Node, Place, Ring, View, ViewCell, place};

/// Points of a node, as configured by default.
const VIRTUAL_NODES: u32 = 2048;
/// How many times a measurement is repeated.
const RUNS: usize = 7;
/// Sets of addresses over which shares are compared.
const SETS: usize = 20;

fn main() {
    lookups();
    changes();
    shares();
    moves();
}

/// Twenty clusters as people name them: hosts, ports, pods, addresses of both kinds.
fn address(set: usize, node: usize) -> Address {
    let text = match set % 5 {
        0 => format!("10.{set}.{}.{}:10001", node / 250, node % 250 + 1),
        1 => format!("localhost:{}", 10_000 + 1_000 * set + node),
        2 => format!("cache-{node}.cache.prod-{set}.svc.cluster.local:10001"),
        3 => format!("[2001:db8:{set}::{node:x}]:10001"),
        _ => format!("node{node:02}.rack{set}.example.com:8443"),
    };
    Address::new(&text).expect("the addresses are right")
}

fn ring(set: usize, nodes: usize) -> Ring {
    let members: Vec<_> = (0..nodes).map(|node| (address(set, node), 1)).collect();
    Ring::new(&members, VIRTUAL_NODES).expect("there are members")
}

/// The best time of a call, of [`RUNS`]. What the call gives is dropped outside the measured time.
fn best<T>(mut call: impl FnMut() -> T) -> Duration {
    let run = |_| {
        let start = Instant::now();
        let given = black_box(call());
        let elapsed = start.elapsed();
        drop(given);
        elapsed
    };
    (0..RUNS).map(run).min().expect("there are runs")
}

fn lookups() {
    const KEYS: usize = 1_000_000;
    println!("lookups of {KEYS} different keys at random, ns each ({VIRTUAL_NODES} points a node)");
    println!(
        "{:>6} {:>12} {:>9} {:>11} {:>14} {:>15} {:>12}",
        "nodes", "independent", "owner", "successor", "place + owner", "the same, view", "memory read"
    );
    // Keys of eight bytes that are made as they are looked up: a million texts in memory would drive the ring
    // out of the processor's caches, and the figure would be theirs.
    let places: Vec<Place> = (0..KEYS).map(|i| place("scores", &i.to_le_bytes())).collect();
    for nodes in [3, 10, 100, 1000] {
        let ring = ring(0, nodes);
        let cell = ViewCell::new(View::new(
            Node::new(address(0, 0)),
            (1..nodes).map(|node| Node::new(address(0, node))),
            VIRTUAL_NODES,
        ));
        let ns = |time: Duration| time.as_nanos() as f64 / KEYS as f64;
        // Each of these starts from the outcome of the one before it, hidden from the compiler, so that the
        // processor can't overlap the cache misses of several, as it does where a batch is looked up.
        let after = |at: Place, last: usize| Place(at.0 ^ (black_box(last) as u64 >> 32));
        let key = |i: usize| place("scores", &i.to_le_bytes());
        let independent = best(|| places.iter().map(|at| ring.owner(*at)).sum::<usize>());
        let owner = best(|| places.iter().fold(0, |last, at| ring.owner(after(*at, last))));
        let successor =
            best(|| places.iter().fold(0, |last, at| ring.successor(after(*at, last)).unwrap_or_default()));
        let hashed = best(|| (0..KEYS).fold(0, |last, i| ring.owner(after(key(i), last))));
        let viewed =
            best(|| (0..KEYS).fold(0, |last, i| cell.load().owner(after(key(i), last)).weight as usize));
        // What one read at random costs in that much memory: no lookup can be faster.
        let memory: Vec<u64> = (0..(ring.heap_bytes() / size_of::<u64>()) as u64).collect();
        let read = best(|| {
            places.iter().fold(0, |last, at| {
                let at = (u128::from(after(*at, last).0) * memory.len() as u128) >> 64;
                memory[at as usize] as usize
            })
        });
        println!(
            "{nodes:>6} {:>12.1} {:>9.1} {:>11.1} {:>14.1} {:>15.1} {:>12.1}",
            ns(independent),
            ns(owner),
            ns(successor),
            ns(hashed),
            ns(viewed),
            ns(read)
        );
    }
    println!();
}

fn changes() {
    println!("making rings, ms");
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "nodes", "build", "join", "leave", "one of 10", "shares", "bytes/point"
    );
    for nodes in [3, 10, 100, 1000] {
        let members: Vec<_> = (0..nodes).map(|node| (address(0, node), 1)).collect();
        let ring = ring(0, nodes);
        let joining = address(1, 0);
        let leaving = address(0, nodes / 2);
        // A tenth of the members is replaced by others at once.
        let replaced: Vec<_> =
            (0..nodes).map(|node| (address(usize::from(node % 10 == 0), node), 1)).collect();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let build = best(|| Ring::new(&members, VIRTUAL_NODES));
        let join = best(|| ring.with(&joining, 1));
        let leave = best(|| ring.without(&leaving));
        let tenth = best(|| ring.changed(&replaced));
        let shares = best(|| ring.shares());
        println!(
            "{nodes:>6} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>12.1}",
            ms(build),
            ms(join),
            ms(leave),
            ms(tenth),
            ms(shares),
            ring.heap_bytes() as f64 / ring.points() as f64
        );
        if nodes == 1000 {
            println!(
                "a ring of {nodes} nodes has {} points in {:.1} MiB",
                ring.points(),
                ring.heap_bytes() as f64 / 1_048_576.0
            );
        }
    }
    println!();
}

fn shares() {
    println!("largest share over the mean, {SETS} sets of addresses");
    println!("{:>6} {:>9} {:>9}", "nodes", "mean", "worst");
    let mut worst_of_all = (0.0, 0, 0);
    let mut rings: Vec<Ring> = (0..SETS).map(|set| ring(set, 2)).collect();
    for nodes in 3..=64 {
        let mut sum = 0.0;
        let mut worst = 0.0_f64;
        for (set, ring) in rings.iter_mut().enumerate() {
            *ring = ring.with(&address(set, nodes - 1), 1);
            let largest = ring.shares().into_iter().fold(0.0, f64::max) * nodes as f64;
            sum += largest;
            worst = worst.max(largest);
            if largest > worst_of_all.0 {
                worst_of_all = (largest, nodes, set);
            }
        }
        if [3, 5, 10, 20, 30, 50, 64].contains(&nodes) {
            println!("{nodes:>6} {:>9.3} {worst:>9.3}", sum / SETS as f64);
        }
    }
    let (largest, nodes, set) = worst_of_all;
    println!("worst of all from 3 to 64 nodes: {largest:.3}, at {nodes} nodes of set {set}\n");
}

fn moves() {
    const KEYS: usize = 1_000_000;
    println!("keys that a join moves, of {KEYS} sequential ones");
    println!("{:>6} {:>9} {:>9} {:>10}", "joins", "moved", "1/(N+1)", "elsewhere");
    let places: Vec<Place> = (0..KEYS).map(|i| place("scores", format!("user:{i:07}").as_bytes())).collect();
    for nodes in [3, 10, 30, 64] {
        let before = ring(0, nodes);
        let joining = address(0, nodes);
        let after = before.with(&joining, 1);
        let (mut moved, mut elsewhere) = (0, 0);
        for at in &places {
            let (from, to) = (&before.members()[before.owner(*at)].0, &after.members()[after.owner(*at)].0);
            moved += usize::from(from != to);
            elsewhere += usize::from(from != to && *to != joining);
        }
        println!(
            "{nodes:>6} {:>8.2}% {:>8.2}% {elsewhere:>10}",
            100.0 * moved as f64 / KEYS as f64,
            100.0 / (nodes + 1) as f64
        );
    }
}
