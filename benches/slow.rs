//! That a node answers who behaves while thousands don't: slow connections of every kind, handshakes that never end, and
//! floods of HTTP/2 frames.
//!
//! ```text
//! cargo bench --bench slow -- [--connections N] [--seconds N] [--only KIND…] [--flood FLOOD…] [--set KEY=VALUE]
//! ```
//!
//! One node of the program with limits of a few seconds, so that one can see connections reach them; a second one that
//! speaks TLS. A probe asks for a hit every 4 ms, by a new connection every tenth time. Of each kind there are a thousand
//! connections, and then as many of all kinds at once: no probe fails, 99 of 100 are answered within 100 ms, the slow are
//! closed within their limits, and memory and descriptors come back. A flood goes on for 30 s; the node's memory stays. A
//! line for each is printed; the exit code is 1 if one misses.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clap::Parser;
use flood::{Flood, Flooders};
use ggcache::net::Dialler;
use probe::{Probe, Seen};
use rig::{
    fleet::{Fleet, Plan},
    items,
};
use slowly::{Crowd, Kind, Paths, coming};
use support::site::Site;
use target::{Process, Target, watch};

#[path = "slow/flood.rs"]
mod flood;
#[path = "slow/probe.rs"]
mod probe;
#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod rig;
#[path = "slow/slowly.rs"]
mod slowly;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;
#[path = "slow/target.rs"]
mod target;

/// That a node answers who behaves while thousands don't.
#[derive(Debug, Parser)]
struct Arguments {
    /// Slow connections of each kind
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How long a flood goes on
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Connections that a flood comes by
    #[arg(long, default_value_t = 4)]
    flooders: usize,
    /// These kinds of slowness only
    #[arg(long, value_enum, num_args = 0..)]
    only: Option<Vec<Kind>>,
    /// These floods only
    #[arg(long, value_enum, num_args = 0..)]
    flood: Option<Vec<Flood>>,
    /// A single key of the nodes' configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// What is allowed beyond a limit, on a machine that is busy with the other end too.
const SLACK: Duration = Duration::from_secs(5);
/// How long the node may take to give back what it has taken.
const SETTLED_MAX: Duration = Duration::from_secs(20);
/// How long a probe goes on at least.
const PROBED_MIN: Duration = Duration::from_secs(5);
const P99_MAX: Duration = Duration::from_millis(100);
/// What the node may have taken in the end beyond what it had, for each kind at once: what its allocator keeps of what is
/// gone, the first time.
const KEPT_KIB_MAX: u64 = 64 << 10;
/// The same, when as many have been there before.
const GROWN_KIB_MAX: u64 = 16 << 10;
/// The probe has one or two, and the node may have opened its database again.
const DESCRIPTORS_KEPT_MAX: usize = 20;
/// The value that nobody reads.
const LARGE_BYTES: usize = 2 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tokio::select! {
        code = run(&arguments) => code,
        // Everything that was started is dropped on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

/// A node, and how it is asked.
struct Scene {
    fleet: Fleet,
    target: Target,
    paths: Paths,
    id: u32,
}

impl Scene {
    async fn set(arguments: &Arguments, is_tls: bool) -> Self {
        let site = Site::new(&items::configuration("ttl = \"1h\""));
        site.sql(&items::table(100));
        site.sql(&format!("INSERT INTO items VALUES ('large', hex(zeroblob({})))", LARGE_BYTES / 2));
        let seconds = |key: &str, limit: Duration| format!("limits.{key}={}s", limit.as_secs());
        let mut settings = vec![
            seconds("header_timeout", HEADER_TIMEOUT),
            seconds("idle_timeout", IDLE_TIMEOUT),
            seconds("request_timeout", REQUEST_TIMEOUT),
        ];
        let mut tls = None;
        if is_tls {
            let made = site.run(&["certs", "--out", "certs", "--node", "localhost,127.0.0.1"]);
            assert_eq!(made.code, Some(0), "{}", made.stderr);
            settings.extend(
                ["cert=certs/localhost.pem", "key=certs/localhost.key"].map(|set| format!("api.tls.{set}")),
            );
            let dialler = Dialler::from_file(&site.path("certs/ca.pem")).expect("an authority");
            tls = Some(Arc::new(dialler.http1()));
        }
        settings.extend(arguments.set.iter().cloned());
        let plan = Plan { count: 1, settings, static_list: true, ..Plan::default() };
        let fleet = Fleet::start(site, plan).await;
        let resource = |rest: &str| format!("/api/v1/groups/{}/keys{rest}", items::GROUP);
        let paths = Paths {
            hit: resource(&format!("/{}", items::key(0))),
            large: resource("/large"),
            posts: [resource(":batchGet"), resource(":invalidate")],
        };
        let (target, id) =
            (Target { address: fleet.nodes[0].api(), tls }, fleet.nodes[0].id().expect("it runs"));
        let scene = Self { fleet, target, paths, id };
        for path in [&scene.paths.hit, &scene.paths.large] {
            let mut stream = scene.target.open().await.expect("it listens");
            target::get(&mut *stream, path).await.expect("it is there");
        }
        scene
    }

    fn probe(&self) -> Probe {
        Probe::start(self.target.clone(), self.paths.hit.clone())
    }

    /// Waits for what is closed to be gone; what the node takes then. It is asked meanwhile: an allocator gives memory back
    /// while it is at work.
    async fn settled(&self, before: Process) -> Process {
        let probe = self.probe();
        watch(self.id, SETTLED_MAX, |now, _| {
            now.resident_kib <= before.resident_kib + KEPT_KIB_MAX / 2
                && now.descriptors <= before.descriptors
        })
        .await;
        probe.stop();
        Process::of(self.id)
    }

    /// Slow connections of these kinds at once.
    async fn slow(&self, kinds: &[Kind], count: usize) -> bool {
        let before = Process::of(self.id);
        let probe = self.probe();
        let mut crowd = Crowd::new();
        for kind in kinds {
            crowd.add(*kind, count, &self.target, &self.paths);
        }
        let limit = kinds.iter().map(|kind| limit(*kind)).max().unwrap_or_default();
        let few = before.descriptors + DESCRIPTORS_KEPT_MAX;
        let (mut most, all) = (0, count * kinds.len());
        let (peak, closed) = watch(self.id, coming(count) + limit + SLACK, |now, after| {
            most = most.max(now.descriptors.saturating_sub(before.descriptors));
            crowd.begun() >= all && now.descriptors <= few && after >= PROBED_MIN
        })
        .await;
        let (begun, seen) = (crowd.begun(), probe.stop());
        let left = Process::of(self.id).descriptors.saturating_sub(few);
        drop(crowd);
        let after = self.settled(before).await;
        let tls = if self.target.tls.is_some() { "TLS" } else { "plain" };
        println!(
            "{tls} {kinds:?}: {begun} of {all} begun, {most} open at once, closed after {closed:.1?} (limit {limit:?}), {left} left"
        );
        let passed =
            well(&seen) & kept(kinds.len(), before, peak, after) & (closed.is_some() && begun == all);
        verdict(passed)
    }

    async fn flood(&self, flood: Flood, arguments: &Arguments) -> bool {
        let before = Process::of(self.id);
        let probe = self.probe();
        let flooders = Flooders::start(flood, arguments.flooders, self.target.address, &self.paths);
        let time = Duration::from_secs(arguments.seconds);
        let (peak, _) = watch(self.id, time, |_, after| after >= time).await;
        let seen = probe.stop();
        let tally = flooders.stop();
        let after = self.settled(before).await;
        println!("{flood:?}, {time:?}: {tally}");
        let refused = tally.ended.load(Ordering::Relaxed) > 0;
        let bounded = peak.resident_kib <= before.resident_kib + KEPT_KIB_MAX;
        let passed = well(&seen) & kept(1, before, peak, after) & refused & bounded;
        verdict(passed)
    }
}

/// How long the node lets them.
const fn limit(kind: Kind) -> Duration {
    match kind {
        Kind::Header | Kind::Handshake => HEADER_TIMEOUT,
        Kind::Body => REQUEST_TIMEOUT,
        Kind::Read | Kind::Idle => IDLE_TIMEOUT,
    }
}

fn well(seen: &Seen) -> bool {
    println!("    {seen}");
    seen.errors == 0 && seen.within(0.99) <= P99_MAX
}

fn kept(kinds: usize, before: Process, peak: Process, after: Process) -> bool {
    println!(
        "    memory {} KiB before, {} at most, {} after; descriptors {}, {}, {}",
        before.resident_kib,
        peak.resident_kib,
        after.resident_kib,
        before.descriptors,
        peak.descriptors,
        after.descriptors
    );
    after.resident_kib <= before.resident_kib + KEPT_KIB_MAX * kinds as u64
        && after.descriptors <= before.descriptors + DESCRIPTORS_KEPT_MAX
}

fn verdict(passed: bool) -> bool {
    println!("    {}", if passed { "PASS" } else { "MISS" });
    passed
}

async fn run(arguments: &Arguments) -> ExitCode {
    let count = arguments.connections;
    let every = arguments.only.is_none() && arguments.flood.is_none();
    let chosen = |kind: Kind| every || arguments.only.as_ref().is_some_and(|only| only.contains(&kind));
    let mut passed = true;
    for is_tls in [false, true] {
        let kinds = [Kind::Header, Kind::Body, Kind::Read, Kind::Idle, Kind::Handshake];
        let kinds: Vec<_> =
            kinds.into_iter().filter(|kind| chosen(*kind) && (is_tls || *kind != Kind::Handshake)).collect();
        let floods: Vec<_> = <Flood as clap::ValueEnum>::value_variants()
            .iter()
            .copied()
            .filter(|flood| every || arguments.flood.as_ref().is_some_and(|only| only.contains(flood)))
            .filter(|_| !is_tls && cfg!(feature = "grpc"))
            .collect();
        if kinds.is_empty() && floods.is_empty() {
            continue;
        }
        let scene = Scene::set(arguments, is_tls).await;
        for kind in &kinds {
            passed &= scene.slow(&[*kind], count).await;
        }
        if kinds.len() > 1 {
            passed &= scene.slow(&kinds, count).await;
            // What is kept is used again.
            let before = Process::of(scene.id).resident_kib;
            passed &= scene.slow(&kinds, count).await;
            let grown = Process::of(scene.id).resident_kib.saturating_sub(before);
            println!("grown by {grown} KiB the second time");
            passed &= verdict(grown <= GROWN_KIB_MAX);
        }
        for flood in floods {
            passed &= scene.flood(flood, arguments).await;
        }
        drop(scene.fleet);
    }
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
