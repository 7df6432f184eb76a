//! Keys that wait together, on paused time; and a crowd of them on real threads.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::*;
use crate::origin::{MapLoader, Timeout};

const MS: Duration = Duration::from_millis(1);
const WAIT: Duration = Duration::from_secs(1);

fn key(n: usize) -> Key {
    Key::new(format!("k{n}")).expect("a key")
}

fn value(n: usize) -> Value {
    Value::text(n.to_string())
}

/// An origin of the keys 0 to 999, whose queries take `delay`.
fn origin(delay: Duration) -> Arc<MapLoader> {
    let origin = Arc::new(MapLoader::new((0..1000).map(|n| (key(n), value(n)))));
    origin.set_delay(delay);
    origin
}

fn batched<L: Loader>(inner: L, places: usize, keys_max: usize) -> Arc<Batched<L>> {
    Arc::new(Batched::new(Budget::new(inner, places, WAIT), keys_max))
}

/// Begins to load one key.
fn begin<L: Loader>(
    loader: &Arc<Batched<L>>,
    n: usize,
) -> tokio::task::JoinHandle<Result<Vec<Option<Value>>, LoadError>> {
    let loader = Arc::clone(loader);
    tokio::spawn(async move { loader.load(&[key(n)]).await })
}

/// Begins to load one key, and lets what it sets off run.
async fn begun<L: Loader>(
    loader: &Arc<Batched<L>>,
    n: usize,
) -> tokio::task::JoinHandle<Result<Vec<Option<Value>>, LoadError>> {
    let load = begin(loader, n);
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    load
}

/// Loads so many keys at the same time, and expects their values.
async fn load_all<L: Loader>(loader: &Arc<Batched<L>>, count: usize) {
    let loads: Vec<_> = (0..count).map(|n| begin(loader, n)).collect();
    for (n, load) in loads.into_iter().enumerate() {
        assert_eq!(load.await.expect("no panic").expect("it works"), [Some(value(n))], "key {n}");
    }
}

fn is_idle<L>(loader: &Batched<L>) -> bool {
    let queue = loader.0.queue.lock();
    queue.waiting.is_empty() && (queue.asking, queue.under_way) == (0, 0) && loader.0.budget.running() == 0
}

/// Nothing is under way any longer. Time is paused: it only goes on when nobody has anything left to do.
async fn settled<L>(loader: &Batched<L>) {
    tokio::time::sleep(MS).await;
    assert!(is_idle(loader), "{:?}", loader.0.queue.lock());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_alone_is_sent_at_once() {
    let origin = origin(Duration::ZERO);
    let loader = batched(Arc::clone(&origin), 4, 256);
    let begun = Instant::now();
    for n in 0..10 {
        assert_eq!(loader.load(&[key(n)]).await.expect("it works"), [Some(value(n))]);
    }
    assert_eq!((begun.elapsed(), origin.loads()), (Duration::ZERO, 10));
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_once_is_one_query() {
    let origin = origin(MS);
    let loader = batched(Arc::clone(&origin), 16, 256);
    let begun = Instant::now();
    load_all(&loader, 64).await;
    assert_eq!((origin.loads(), origin.keys_loaded()), (1, 64));
    assert!(begun.elapsed() <= MS * 2, "{:?}", begun.elapsed());
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_queries_are_under_way_goes_together() {
    let origin = origin(MS);
    let loader = batched(Arc::clone(&origin), 16, 256);
    let first = [begun(&loader, 998).await, begun(&loader, 999).await];
    assert_eq!(origin.loads(), 2, "each at once");
    let at = Instant::now();
    for n in 0..62 {
        drop(begun(&loader, n).await);
    }
    assert_eq!((origin.loads(), loader.0.queue.lock().waiting.len()), (2, 62));
    for load in first {
        assert!(load.await.expect("no panic").is_ok());
    }
    tokio::time::sleep(MS * 2).await;
    assert_eq!((origin.loads(), origin.keys_loaded()), (3, 64));
    assert!(at.elapsed() <= MS * 5, "{:?}", at.elapsed());
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn a_query_has_so_many_keys_at_most_and_full_ones_do_not_wait() {
    let origin = origin(MS);
    let loader = batched(Arc::clone(&origin), 100, 10);
    let begun = Instant::now();
    load_all(&loader, 202).await;
    assert_eq!((origin.loads(), origin.keys_loaded()), (21, 202));
    assert!(begun.elapsed() <= MS * 2, "{:?}", begun.elapsed());
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_query_holds_nobody_up_while_there_is_room() {
    let origin = origin(Duration::from_secs(60));
    let loader = batched(Arc::clone(&origin), 4, 256);
    let first = [begun(&loader, 998).await, begun(&loader, 999).await];
    origin.set_delay(Duration::ZERO);
    let at = Instant::now();
    load_all(&loader, 100).await;
    assert!((MS..=SLOW + MS).contains(&at.elapsed()), "{:?}", at.elapsed());
    assert_eq!(origin.loads(), 3);
    assert!(first.iter().all(|load| !load.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn when_the_budget_is_used_up_the_next_place_takes_all_who_wait() {
    let origin = origin(MS * 100);
    let loader = batched(Arc::clone(&origin), 2, 256);
    let loads = [begun(&loader, 0).await, begun(&loader, 1).await];
    // One after another, so that each finds the earlier ones waiting already.
    for n in 2..50 {
        tokio::time::sleep(MS).await;
        drop(begin(&loader, n));
    }
    assert_eq!((origin.loads(), loader.0.budget.running()), (2, 2));
    for load in loads {
        assert!(load.await.expect("no panic").is_ok());
    }
    tokio::time::sleep(MS * 250).await;
    assert_eq!((origin.loads(), origin.keys_loaded()), (3, 50));
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_place_is_told_so() {
    let origin = origin(WAIT * 10);
    let loader = batched(Arc::clone(&origin), 1, 256);
    let first = begun(&loader, 0).await;
    let at = Instant::now();
    let others: Vec<_> = (1..5).map(|n| begin(&loader, n)).collect();
    for other in others {
        let error = other.await.expect("no panic").expect_err("the only place is taken");
        assert!(matches!(error, LoadError::Busy(1)), "{error}");
    }
    assert!(at.elapsed() <= WAIT + MS * 10, "{:?}", at.elapsed());
    assert!(first.await.expect("no panic").is_ok());
    assert_eq!(origin.loads(), 1);
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_harms_nobody_and_is_not_loaded_for() {
    let origin = origin(MS);
    let loader = batched(Arc::clone(&origin), 1, 256);
    let first = begun(&loader, 999).await;
    let mut loads = Vec::new();
    for n in 0..40 {
        loads.push(begun(&loader, n).await);
    }
    for (n, load) in loads.iter().enumerate() {
        if n % 2 == 0 {
            load.abort();
        }
    }
    for (n, load) in loads.into_iter().enumerate() {
        match load.await {
            Ok(answer) => assert_eq!(answer.expect("it works"), [Some(value(n))]),
            Err(_) => assert_eq!(n % 2, 0),
        }
    }
    assert!(first.await.expect("no panic").is_ok());
    assert_eq!((origin.loads(), origin.keys_loaded()), (2, 21));
    // Nobody is left: nothing is sent.
    let before = origin.loads();
    let first = begun(&loader, 0).await;
    for n in 1..9 {
        begun(&loader, n).await.abort();
    }
    assert!(first.await.expect("no panic").is_ok());
    settled(&loader).await;
    assert_eq!(origin.loads(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_given_up_keeps_its_place_until_it_ends() {
    let origin = origin(WAIT * 10);
    let loader = Timeout::new(Batched::new(Budget::new(Arc::clone(&origin), 2, WAIT * 3), 256), WAIT);
    for n in 0..6 {
        let error = loader.load(&[key(n)]).await.expect_err("it takes longer");
        assert!(matches!(error, LoadError::Timeout(_)), "{error}");
    }
    assert_eq!(origin.loads(), 2);
}

/// Answers as `MapLoader` does, but for keys that spoil it.
struct Spoilt {
    map: Arc<MapLoader>,
    /// Fails each query that it is in.
    row: Key,
    /// Makes the loader panic.
    panics: Key,
    /// More keys than these are too large together.
    keys_max: usize,
    too_much: AtomicU64,
}

impl Spoilt {
    fn new(map: &Arc<MapLoader>, keys_max: usize) -> Self {
        Self { map: Arc::clone(map), row: key(13), panics: key(999), keys_max, too_much: AtomicU64::new(0) }
    }
}

impl Loader for Arc<Spoilt> {
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            let answer = self.map.load(keys).await;
            assert!(!keys.contains(&self.panics), "on purpose");
            if keys.len() > self.keys_max {
                self.too_much.fetch_add(1, Ordering::SeqCst);
                return Err(LoadError::TooMuch(1));
            }
            if keys.contains(&self.row) { Err(LoadError::row("on purpose")) } else { answer }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_spoils_the_query_fails_alone() {
    let map = origin(MS);
    let loader = batched(Arc::new(Spoilt::new(&map, 1000)), 4, 256);
    let loads: Vec<_> = (0..100).map(|n| begin(&loader, n)).collect();
    for (n, load) in loads.into_iter().enumerate() {
        let answer = load.await.expect("no panic");
        assert_eq!(answer.is_ok(), n != 13, "key {n}: {answer:?}");
    }
    assert!(map.loads() < 20, "{}", map.loads());
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_fails_fails_all_that_went_together() {
    let origin = origin(MS);
    origin.set_failure(Some(LoadError::unavailable("on purpose")));
    let loader = batched(Arc::clone(&origin), 4, 256);
    let loads: Vec<_> = (0..50).map(|n| begin(&loader, n)).collect();
    for load in loads {
        assert!(matches!(load.await.expect("no panic"), Err(LoadError::Unavailable(_))));
    }
    assert_eq!(origin.loads(), 1);
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_together_is_soon_sent_apart() {
    let map = origin(MS);
    let spoilt = Arc::new(Spoilt::new(&map, 8));
    let loader = batched(Arc::clone(&spoilt), 4, 64);
    // But for the key that can't be loaded at all.
    for round in 0..20 {
        let loads: Vec<_> = (100..200).map(|n| begin(&loader, n)).collect();
        for load in loads {
            assert!(load.await.expect("no panic").is_ok());
        }
        if round == 0 {
            assert!(spoilt.too_much.swap(0, Ordering::SeqCst) >= 1);
        }
    }
    let queries = map.loads();
    let too_much = spoilt.too_much.load(Ordering::SeqCst);
    assert!(too_much * 4 < queries, "{too_much} of {queries} queries were too large");
    settled(&loader).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_below_is_an_error_and_frees_the_place() {
    let map = origin(MS);
    let loader = batched(Arc::new(Spoilt::new(&map, 1000)), 1, 256);
    for _ in 0..3 {
        let error = loader.load(&[key(999)]).await.expect_err("it panics");
        assert!(matches!(error, LoadError::Broken(_)), "{error}");
        settled(&loader).await;
    }
    load_all(&loader, 13).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_of_several_keys_is_a_query_of_its_own() {
    let origin = origin(MS);
    let loader = batched(Arc::clone(&origin), 4, 256);
    let many: Vec<_> = (0..300).map(key).collect();
    let found = loader.load(&many).await.expect("it works");
    assert_eq!((found.len(), origin.loads()), (300, 1));
    let single = batched(Arc::clone(&origin), 64, 1);
    load_all(&single, 50).await;
    assert_eq!(origin.loads(), 51, "with one key a query there is nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_key_goes_to_its_query() {
    #[derive(Default)]
    struct Seen(Mutex<BTreeSet<String>>);
    impl Loader for Arc<Seen> {
        fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
            Box::pin(async move {
                tokio::time::sleep(MS).await;
                self.0.lock().extend(trace::current().map(|trace| trace.to_string()));
                Ok(vec![None; keys.len()])
            })
        }
    }
    let seen = Arc::new(Seen::default());
    let loader = batched(Arc::clone(&seen), 4, 256);
    let context = TraceContext::new();
    let loads: Vec<_> = (0..20)
        .map(|n| {
            let loader = Arc::clone(&loader);
            let work = async move { loader.load(&[key(n)]).await };
            tokio::spawn(trace::within((n == 17).then_some(context), work))
        })
        .collect();
    for load in loads {
        assert!(load.await.expect("no panic").is_ok());
    }
    assert_eq!(*seen.0.lock(), BTreeSet::from([context.to_string()]));
}

/// Threads, cancellation, spoilt keys and changing places, in no order: every key is answered, and nothing is left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_in_a_crowd() {
    let map = origin(Duration::ZERO);
    let loader = batched(Arc::new(Spoilt::new(&map, 6)), 3, 16);
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..32)
        .map(|client| {
            let (loader, answered) = (Arc::clone(&loader), Arc::clone(&answered));
            tokio::spawn(async move {
                for _ in 0..300 {
                    let n = fastrand::usize(..40);
                    let keys = [key(n)];
                    let load = loader.load(&keys);
                    if client % 4 == 0 {
                        let _ = tokio::time::timeout(Duration::from_micros(fastrand::u64(..200)), load).await;
                        continue;
                    }
                    let answer = load.await;
                    assert_eq!(answer.is_ok(), n != 13, "key {n}: {answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no panic");
    }
    assert_eq!(answered.load(Ordering::Relaxed), 24 * 300);
    let begun = Instant::now();
    while !is_idle(&loader) {
        assert!(begun.elapsed() < WAIT * 10, "{:?}", loader.0.queue.lock());
        tokio::time::sleep(MS).await;
    }
}
