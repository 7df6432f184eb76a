//! That limits hold: at five times a rate no more is let through than the rate and the burst, a million spoofed clients
//! take no more memory than their table, and a forged header gains nobody a request.
//!
//! ```text
//! cargo bench --bench limit -- [--rate RATE] [--seconds N] [--node ADDRESS --path PATH]
//! ```
//!
//! First the library itself is asked, by eight threads; then a node that is started for it, over HTTP/1.1, by a client who
//! says with each request that it asks for another one. Who is refused must be told when to come again. With `--node`
//! a node is asked that runs already, and must limit its clients to the same rate (`--set limits.rate.client=RATE`)
//! and answer 200 at the path. The exit code is 1 if a part misses.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    hint::black_box,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use ggcache::{
    limit::{ClientKey, Limiter, Rate, RateConfig},
    telemetry::NodeMetrics,
    time::{BootClock, Clock},
};
use http::{HeaderMap, HeaderName};
use rig::{
    fleet::{Fleet, Plan},
    items,
};
use support::site::Site;

#[path = "support/lib.rs"]
#[expect(dead_code, reason = "shared with other programs, each of which takes what it needs")]
mod rig;
#[path = "../tests/support/lib.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

/// That limits hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// What a client may ask for
    #[arg(long, default_value = "2000/s burst 4000")]
    rate: Rate,
    /// For how long five times as much is asked for
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// A node's api plane, in place of the library and of a node of this program's own
    #[arg(long, requires = "path")]
    node: Option<SocketAddr>,
    /// What to ask the node for
    #[arg(long, requires = "node")]
    path: Option<String>,
    /// Says nothing: cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const THREADS: u32 = 8;
/// How many times the rate is asked for.
const EXCESS: f64 = 5.0;
/// By how much the number that is let through may differ from what it should be.
const TOLERANCE: f64 = 0.01;
const SPOOFED: u32 = 1_000_000;
/// What the process may take beyond the table: what the allocator keeps of headers that are gone.
const SLACK_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(burst) = burst(arguments.rate) else {
        println!("--rate 0 is no limit; write for example --rate 2000/s");
        return ExitCode::FAILURE;
    };
    let mut passed = match (arguments.node, &arguments.path) {
        (Some(node), Some(path)) => excess(&arguments, burst, || at_node(node, path)),
        _ => {
            let limiter = limiter(RateConfig { client: arguments.rate, ..RateConfig::default() });
            excess(&arguments, burst, || at_limiter(&limiter)) & at_own_node(&arguments, burst)
        }
    };
    passed &= spoofed();
    passed &= forged();
    cost();
    println!("{}", if passed { "PASS" } else { "MISS" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn limiter(config: RateConfig) -> Limiter {
    Limiter::new(config, &NodeMetrics::new())
}

/// How many requests a full bucket of the rate lets through at once.
fn burst(rate: Rate) -> Option<u64> {
    let limiter = limiter(RateConfig { client: rate, ..RateConfig::default() });
    limiter.check(ClientKey::UNKNOWN, None, BootClock.now()).remaining().map(|left| left + 1)
}

/// Asks once, and says whether it was let through.
type Ask<'a> = Box<dyn FnMut() -> bool + 'a>;

fn at_limiter(limiter: &Limiter) -> Ask<'_> {
    Box::new(|| limiter.check(ClientKey::token(1), None, BootClock.now()).is_allowed())
}

/// As with `--node`, at a node that is started for it.
fn at_own_node(arguments: &Arguments, burst: u64) -> bool {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let site = Site::with(&items::configuration("ttl = \"1d\""), &items::table(1));
    let settings = vec![format!("limits.rate.client={}", arguments.rate)];
    let plan = Plan { count: 1, settings, static_list: true, ..Plan::default() };
    let fleet = runtime.block_on(Fleet::start(site, plan));
    let (node, path) = (fleet.nodes[0].api(), format!("/api?key={}", items::key(0)));
    excess(arguments, burst, || at_node(node, &path))
}

/// What a refused client has to be told.
const TOLD: [&str; 3] = ["retry-after", "ratelimit", "ratelimit-policy"];

/// Asks a node over a connection of its own, with a forged header each time.
fn at_node(node: SocketAddr, path: &str) -> Ask<'_> {
    let mut connection = BufReader::new(TcpStream::connect(node).expect("the node listens"));
    connection.get_ref().set_nodelay(true).expect("a socket");
    Box::new(move || {
        let forged = Ipv4Addr::from_bits(fastrand::u32(..));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {node}\r\nx-forwarded-for: {forged}\r\n\r\n");
        connection.get_mut().write_all(request.as_bytes()).expect("the node reads");
        let (mut status, mut length, mut told, mut line) = (None, 0, 0, String::new());
        loop {
            line.clear();
            assert!(connection.read_line(&mut line).expect("the node answers") > 0, "the node hung up");
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().expect("a length");
                }
                Some((name, _)) => told += usize::from(TOLD.contains(&&*name.to_ascii_lowercase())),
                None if line.trim_end().is_empty() => break,
                None => status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()),
            }
        }
        connection.read_exact(&mut vec![0; length]).expect("the whole body");
        match status {
            Some(200) => true,
            Some(429) => {
                assert_eq!(told, TOLD.len(), "who is refused is not told when to come again");
                false
            }
            other => panic!("the node answered {other:?}"),
        }
    })
}

/// Asks for five times the rate, steadily, and counts what is let through.
fn excess<'a>(arguments: &Arguments, burst: u64, ask: impl Fn() -> Ask<'a> + Sync) -> bool {
    let (count, period) = arguments.rate.quota();
    let rate = f64::from(count) / f64::from(period);
    let each = rate * EXCESS / f64::from(THREADS);
    let begun = Instant::now();
    let run = || {
        let (mut ask, mut sent, mut admitted) = (ask(), 0_u64, 0_u64);
        loop {
            let elapsed = begun.elapsed();
            if elapsed >= Duration::from_secs(arguments.seconds.into()) {
                return (sent, admitted);
            }
            let due = (elapsed.as_secs_f64() * each) as u64;
            while sent < due {
                sent += 1;
                admitted += u64::from(ask());
            }
            pause();
        }
    };
    let counts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (sent, admitted) = counts.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let expected = rate * seconds + burst as f64;
    let off = admitted as f64 / expected - 1.0;
    println!(
        "{} asked {sent} times in {seconds:.2} s, {:.2} times the rate",
        arguments.rate,
        sent as f64 / seconds / rate
    );
    println!("let through: {admitted}, expected: {expected:.0}, {:+.3} %", off * 100.0);
    let is_excess = sent as f64 >= 0.9 * EXCESS * rate * seconds;
    is_excess && off.abs() <= TOLERANCE
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which keeps to a schedule")]
fn pause() {
    thread::sleep(Duration::from_millis(1));
}

/// A client behind a proxy at 10.0.0.1, which appends `address` to what the client sent.
fn through_proxy(limiter: &Limiter, sent: Option<Ipv4Addr>, address: Ipv4Addr) -> ClientKey {
    let value = sent.map_or_else(|| address.to_string(), |sent| format!("{sent}, {address}"));
    let headers = [(HeaderName::from_static("x-forwarded-for"), value.parse().expect("a value"))];
    let headers = HeaderMap::from_iter(headers);
    ClientKey::address(limiter.client_address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), &headers))
}

fn behind_proxies() -> RateConfig {
    RateConfig {
        client: "1/h".parse().expect("a rate"),
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
        ..RateConfig::default()
    }
}

/// The address number `index` of a million, none of which is a proxy's.
fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0000 + index)
}

/// A million clients at once, each with an address of its own.
fn spoofed() -> bool {
    let config = behind_proxies();
    let (places, cap) = (config.clients_max, config.clients_max * 16 + SLACK_BYTES);
    // What is set up once is not the table's.
    let warm = limiter(RateConfig { clients_max: 16, ..config.clone() });
    warm.check(through_proxy(&warm, None, address(0)), None, BootClock.now());
    let before = resident_bytes();
    let limiter = limiter(config);
    let mut admitted = 0;
    for _ in 0..2 {
        for index in 0..SPOOFED {
            let client = through_proxy(&limiter, None, address(index));
            admitted += usize::from(limiter.check(client, None, BootClock.now()).is_allowed());
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "{SPOOFED} addresses, twice each at 1/h: {admitted} let through, {places} places and one for all others"
    );
    println!("memory: grown by {} KiB, at most {} KiB", grown >> 10, cap >> 10);
    // The shared bucket gains less than a token in the time that this takes.
    grown <= cap && admitted <= places + 1
}

/// One client that says each time that it is another: at the node itself, and through a proxy.
fn forged() -> bool {
    let limiter = limiter(behind_proxies());
    let socket = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    let (mut direct, mut proxied) = (0, 0);
    for index in 0..SPOOFED {
        let value = address(index).to_string().parse().expect("a value");
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), value)]);
        let client = ClientKey::address(limiter.client_address(socket, &headers));
        direct += u32::from(limiter.check(client, None, BootClock.now()).is_allowed());
        let client = through_proxy(&limiter, Some(address(index)), Ipv4Addr::new(198, 51, 100, 2));
        proxied += u32::from(limiter.check(client, None, BootClock.now()).is_allowed());
    }
    println!("{SPOOFED} forged headers at 1/h: {direct} let through directly, {proxied} through a proxy");
    direct == 1 && proxied == 1
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident memory");
    let kib: usize = line.trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}

/// What a check costs: a figure, not a bar.
fn cost() {
    const CHECKS: u32 = 5_000_000;
    let rate: Rate = "1000000/s".parse().expect("a rate");
    let one = RateConfig { client: rate, ..RateConfig::default() };
    let three = RateConfig { global: rate, group: rate, ..one.clone() };
    let group = ggcache::limit::GroupBucket::new("scores");
    for (name, limiter) in [("a client's limit", limiter(one)), ("three limits", limiter(three))] {
        for threads in [1, 2] {
            let run = || {
                let begun = Instant::now();
                for _ in 0..CHECKS {
                    black_box(limiter.check(ClientKey::token(1), Some(&group), BootClock.now()));
                }
                begun.elapsed() / CHECKS
            };
            let took: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            println!("{name}, one client, {threads} threads, the clock included: {took:?} a check");
        }
    }
}
