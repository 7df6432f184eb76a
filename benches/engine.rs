//! The engine's own figures: exact miss ratios on traces, speed, and memory.
//!
//! ```text
//! cargo bench --bench engine -- replay --reference reference.tsv scarab-recs.gct.zst web12.gct.zst
//! cargo bench --bench engine -- speed scarab-recs.gct.zst
//! cargo bench --bench engine -- memory
//! ```
//!
//! `replay` reads traces in the GCT1 format (zstd; little endian inside): `"GCT1"`, u32 flags, u64 n, u64
//! unique, u32 ids[n], and more that is not read here. With `--reference`, a table of known miss ratios
//! (trace, mode, fraction, capacity, policy, object miss ratio, …), it replays the cells of that table and
//! fails if any differs in six digits.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    borrow::Borrow,
    fs,
    hash::{BuildHasher, Hash},
    hint::black_box,
    path::{Path, PathBuf},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, CommandFactory, Parser, Subcommand};
use foldhash::quality::FixedState;
use ggcache::{
    cache::{Cache, CacheConfig, Content, EvictionCause, Lookup, PolicyKind, Weigh},
    time::Moment,
};

/// Figures of the cache engine.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Object miss ratios with one shard, every object counting the same.
    Replay(ReplayArgs),
    /// Nanoseconds an operation, for each policy, with one thread and with two.
    Speed {
        /// The trace whose keys are asked for.
        trace: PathBuf,
    },
    /// Resident memory of a full cache of 64 MiB after ten million distinct keys.
    Memory {
        /// Only this policy, in a process of its own: what one policy freed and the allocator kept is not
        /// the next one's.
        #[arg(long)]
        policy: Option<PolicyKind>,
    },
}

#[derive(Args)]
struct ReplayArgs {
    /// Only this policy.
    #[arg(long)]
    policy: Option<PolicyKind>,
    /// Capacities, as fractions of a trace's distinct objects. Ignored with `--reference`.
    #[arg(long, value_delimiter = ',', default_values_t = [0.01, 0.05, 0.1, 0.25])]
    fraction: Vec<f64>,
    /// A table of known miss ratios to agree with.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Traces (`*.gct.zst`).
    #[arg(required = true)]
    traces: Vec<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Some(Command::Replay(args)) => replay(&args),
        Some(Command::Speed { trace }) => speed(&Trace::read(&trace)?),
        Some(Command::Memory { policy }) => memory(policy),
        None => Ok(Cli::command().print_help()?),
    }
}

const NOW: Moment = Moment::from_nanos(1_000_000_000);
const NEVER: Moment = Moment::from_nanos(u64::MAX);

/// The same at every run, so that figures can be compared; a server seeds per process.
static HASHER: FixedState = FixedState::with_seed(1);

fn hash_of(key: &(impl Hash + ?Sized)) -> u64 {
    HASHER.hash_one(key)
}

/// The requests of a trace.
struct Trace {
    name: String,
    unique: u64,
    ids: Vec<u32>,
}

impl Trace {
    fn read(path: &Path) -> Result<Self> {
        let load = || -> Result<Self> {
            let bytes = zstd::decode_all(fs::File::open(path)?)?;
            let (magic, rest) = bytes.split_first_chunk::<4>().context("the file is empty")?;
            ensure!(magic == b"GCT1", "the file does not begin with GCT1");
            let (_flags, rest) = rest.split_first_chunk::<4>().context("the header is cut off")?;
            let (requests, rest) = rest.split_first_chunk::<8>().context("the header is cut off")?;
            let (unique, rest) = rest.split_first_chunk::<8>().context("the header is cut off")?;
            let requests = usize::try_from(u64::from_le_bytes(*requests))?;
            let (ids, _) = rest.as_chunks::<4>();
            let ids = ids.get(..requests).context("the requests are cut off")?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            Ok(Self {
                name: name.trim_end_matches(".gct.zst").to_owned(),
                unique: u64::from_le_bytes(*unique),
                ids: ids.iter().map(|&id| u32::from_le_bytes(id)).collect(),
            })
        };
        load().with_context(|| format!("can't read the trace {}", path.display()))
    }
}

/// A cell of the table: what to replay, and the miss ratio to expect, as text.
struct Cell {
    fraction: String,
    capacity: u64,
    policy: PolicyKind,
    expected: Option<String>,
}

fn replay(args: &ReplayArgs) -> Result<()> {
    let reference = args.reference.as_deref().map(fs::read_to_string).transpose()?;
    let (mut compared, mut different) = (0, 0);
    println!("trace\tfraction\tcapacity\tpolicy\tobject_miss_ratio\texpected");
    for path in &args.traces {
        let trace = Trace::read(path)?;
        let mut cells = match &reference {
            Some(table) => known_cells(table, &trace.name)?,
            None => cells_of(&trace, &args.fraction),
        };
        cells.retain(|cell| args.policy.is_none_or(|policy| cell.policy == policy));
        for Cell { fraction, capacity, policy, expected } in cells {
            let ratio = format!("{:.6}", miss_ratio(&trace, capacity, policy));
            let verdict = expected.as_deref().unwrap_or("-");
            println!("{}\t{fraction}\t{capacity}\t{policy}\t{ratio}\t{verdict}", trace.name);
            if let Some(expected) = expected {
                compared += 1;
                different += u32::from(expected != ratio);
            }
        }
    }
    if reference.is_some() {
        ensure!(compared > 0, "the reference has no cell of these traces and policies");
        println!("{compared} cells compared, {different} different");
    }
    if different > 0 {
        bail!("{different} of {compared} cells differ from the reference");
    }
    Ok(())
}

fn cells_of(trace: &Trace, fractions: &[f64]) -> Vec<Cell> {
    let cell = |fraction: f64, policy| {
        let capacity = (trace.unique as f64 * fraction) as u64;
        Cell { fraction: fraction.to_string(), capacity, policy, expected: None }
    };
    fractions.iter().flat_map(|&fraction| PolicyKind::ALL.map(|policy| cell(fraction, policy))).collect()
}

/// The table's cells of this trace in which every object counts 1, for the policies that the engine has.
fn known_cells(table: &str, trace: &str) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for line in table.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [name, "unit", fraction, capacity, policy, ratio, ..] = columns[..] else {
            continue;
        };
        let Ok(policy) = policy.parse() else { continue };
        if name == trace {
            let capacity = capacity.parse().with_context(|| format!("not a capacity: {capacity:?}"))?;
            cells.push(Cell {
                fraction: fraction.to_owned(),
                capacity,
                policy,
                expected: Some(ratio.to_owned()),
            });
        }
    }
    Ok(cells)
}

/// Replays the trace with room for exactly `capacity` objects: key and value have nothing on the heap, so
/// that every entry weighs the overhead.
fn miss_ratio(trace: &Trace, capacity: u64, policy: PolicyKind) -> f64 {
    let entry_bytes = Cache::<u64, ()>::ENTRY_OVERHEAD_BYTES as u64;
    let cache: Cache<u64, ()> = Cache::new(CacheConfig {
        capacity: capacity * entry_bytes,
        negative_capacity: 0,
        policy,
        shards: Some(1),
    });
    for &id in &trace.ids {
        let key = u64::from(id);
        let hash = hash_of(&key);
        if cache.get(hash, &key, NOW) == Lookup::Miss {
            cache.insert(hash, key, Content::Value(()), NEVER, NOW);
        }
    }
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, trace.ids.len() as u64);
    stats.misses as f64 / trace.ids.len() as f64
}

type SpeedCache = Cache<u64, Arc<[u8]>>;

/// Room for one in this many of a trace's objects.
const SPEED_OBJECTS_PER_ENTRY: u64 = 20;
const SPEED_ROUNDS: usize = 7;
const VALUE_BYTES: usize = 100;

/// Aggregate ns an operation: the wall time of all threads over the number of all operations, the least of
/// some rounds.
fn speed(trace: &Trace) -> Result<()> {
    let value: Arc<[u8]> = [7; VALUE_BYTES].into();
    let requests: Vec<u64> = trace.ids.iter().map(|&id| u64::from(id)).collect();
    let entries = trace.unique / SPEED_OBJECTS_PER_ENTRY;
    let entry_bytes = (SpeedCache::ENTRY_OVERHEAD_BYTES + value.heap_bytes()) as u64;
    ensure!(entries >= 1_000, "the trace {} has only {} distinct objects", trace.name, trace.unique);
    println!("{}: room for {entries} entries of {entry_bytes} bytes; aggregate ns an operation", trace.name);
    println!("policy\tshards\tthreads\tget-resident\tinsert-with-eviction\tread-through");
    for policy in PolicyKind::ALL {
        for (shards, threads) in [(1, 1), (16, 1), (16, 2)] {
            let new_cache = || {
                let capacity = entries * entry_bytes;
                SpeedCache::new(CacheConfig { capacity, negative_capacity: 0, policy, shards: Some(shards) })
            };
            let insert = |cache: &SpeedCache, key: u64| {
                let content = Content::Value(Arc::clone(&value));
                cache.insert(hash_of(&key), key, content, NEVER, NOW);
            };
            let get = |cache: &SpeedCache, key: u64| match cache.get(hash_of(&key), &key, NOW) {
                Lookup::Hit { value, .. } => {
                    black_box(&value);
                    true
                }
                Lookup::Absent { .. } | Lookup::Miss => false,
            };
            let fill = |cache: &SpeedCache| (0..entries).for_each(|key| insert(cache, key));
            let resident = least(|| {
                let cache = new_cache();
                fill(&cache);
                // A stride that is prime to the count visits all, in an order that no prefetcher guesses.
                let keys: Vec<u64> = (0..entries).map(|n| n * 7_919 % entries).collect();
                let keys: Vec<u64> = keys.into_iter().filter(|&key| get(&cache, key)).collect();
                run_on(threads, 40, &keys, |_, key| assert!(get(&cache, key)))
            });
            let new_keys: Vec<u64> = (0..1_000_000).collect();
            let inserted = least(|| {
                let cache = new_cache();
                fill(&cache);
                run_on(threads, 1, &new_keys, |thread, key| insert(&cache, (1 + thread as u64) << 32 | key))
            });
            let read_through = least(|| {
                let cache = new_cache();
                run_on(threads, 1, &requests, |_, key| {
                    if !get(&cache, key) {
                        insert(&cache, key);
                    }
                })
            });
            println!("{policy}\t{shards}\t{threads}\t{resident:.1}\t{inserted:.1}\t{read_through:.1}");
        }
    }
    Ok(())
}

/// Runs an operation for every key, `rounds` times, on each of `threads` threads; aggregate nanoseconds an
/// operation. Each thread begins at another place among the keys.
fn run_on(threads: usize, rounds: usize, keys: &[u64], operation: impl Fn(usize, u64) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let elapsed = thread::scope(|scope| {
        let run = |thread: usize| {
            let (barrier, operation) = (&barrier, &operation);
            let (after, before) = keys.split_at(thread * keys.len() / threads);
            scope.spawn(move || {
                barrier.wait();
                let start = Instant::now();
                for _ in 0..rounds {
                    before.iter().chain(after).for_each(|&key| operation(thread, key));
                }
                start.elapsed()
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        let elapsed = running.into_iter().map(|thread| thread.join().expect("an operation panicked"));
        elapsed.max().unwrap_or(Duration::ZERO)
    });
    elapsed.as_nanos() as f64 / (threads * rounds * keys.len()) as f64
}

/// The least of some rounds: what else runs on the machine can only add.
fn least(mut measure: impl FnMut() -> f64) -> f64 {
    (0..SPEED_ROUNDS).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

const MEMORY_CAPACITY: u64 = 64 << 20;
const MEMORY_KEYS: u64 = 10_000_000;
const MIB: f64 = (1 << 20) as f64;

/// A short key on the heap, as real ones are.
#[derive(PartialEq, Eq)]
struct TextKey(Box<[u8]>);

impl Borrow<[u8]> for TextKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Weigh for TextKey {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

fn memory(only: Option<PolicyKind>) -> Result<()> {
    println!("64 MiB, {MEMORY_KEYS} distinct keys, every fourth absent, values of 8 to 64 bytes, ttl 60 s");
    println!("policy\tentries\tweight_mib\trss_before_mib\trss_mib\trss_peak_mib\trss_over_capacity");
    PolicyKind::ALL
        .into_iter()
        .filter(|&policy| only.is_none_or(|only| only == policy))
        .try_for_each(memory_of)
}

fn memory_of(policy: PolicyKind) -> Result<()> {
    let (before, _) = resident_mib()?;
    let cache: Cache<TextKey, Arc<[u8]>> = Cache::new(CacheConfig {
        capacity: MEMORY_CAPACITY,
        negative_capacity: MEMORY_CAPACITY / 10,
        policy,
        shards: None,
    });
    // Time goes on at 100,000 keys a second, so that entries expire as well as make room.
    let moment = |n: u64| NOW.saturating_add(Duration::from_micros(10 * n));
    let key_of = |n: u64| format!("user:{n}").into_bytes();
    for n in 0..MEMORY_KEYS {
        let key = TextKey(key_of(n).into());
        let hash = hash_of(&*key.0);
        let length = 8 + (hash >> 7) as usize % 57;
        let content = if n % 4 == 0 { Content::Absent } else { Content::Value(vec![n as u8; length].into()) };
        let ttl = Duration::from_millis(54_000 + hash % 12_000);
        cache.insert(hash, key, content, moment(n).saturating_add(ttl), moment(n));
        if n % 3 == 0 {
            let earlier = key_of(n - n.min(hash % 200_000));
            black_box(cache.get(hash_of(&*earlier), &*earlier, moment(n)));
        }
        if n % 1_000 == 0 {
            cache.reclaim_expired(moment(n), 10_000);
        }
    }
    let (after, peak) = resident_mib()?;
    let stats = cache.stats();
    ensure!(stats.bytes <= MEMORY_CAPACITY, "{} bytes are resident", stats.bytes);
    ensure!(stats.evictions(EvictionCause::Capacity) > 0, "the cache was never full");
    let over = (after * MIB / MEMORY_CAPACITY as f64 - 1.0) * 100.0;
    let weight = stats.bytes as f64 / MIB;
    println!("{policy}\t{}\t{weight:.1}\t{before:.1}\t{after:.1}\t{peak:.1}\t{over:+.1} %", stats.entries);
    Ok(())
}

/// What of the process is in memory now, and at most so far, in MiB.
fn resident_mib() -> Result<(f64, f64)> {
    let status = fs::read_to_string("/proc/self/status").context("the memory figures need Linux")?;
    let field = |name: &str| -> Result<f64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("the kernel tells no such figure")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}
