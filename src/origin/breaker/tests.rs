//! When a breaker opens, who tries the database then, and what it takes for a failure.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::{
    origin::MapLoader,
    time::{ManualClock, Moment, TokioClock},
};

const SECOND: Duration = Duration::from_secs(1);

fn key() -> [Key; 1] {
    [Key::new("a").expect("a key")]
}

/// A breaker, and how often it opened and closed.
fn breaker(failures_max: u32, clock: Arc<dyn Clock>) -> (Breaker, Arc<[AtomicUsize; 2]>) {
    let changes = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = Arc::clone(&changes);
    let count = move |is_open: bool, _: Option<&LoadError>| {
        counted[usize::from(!is_open)].fetch_add(1, Ordering::SeqCst);
    };
    (Breaker::new(failures_max, clock, count), changes)
}

fn manual() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Moment::from_nanos(1)))
}

struct Stack {
    origin: Arc<MapLoader>,
    clock: Arc<ManualClock>,
    loader: FailFast<Guarded<Arc<MapLoader>>>,
    changes: Arc<[AtomicUsize; 2]>,
}

impl Stack {
    fn new(failures_max: u32) -> Self {
        let (origin, clock) = (Arc::new(MapLoader::default()), manual());
        let (breaker, changes) = breaker(failures_max, clock.clone());
        let guarded = Guarded::new(Arc::clone(&origin), breaker.clone(), SECOND);
        Self { origin, clock, loader: FailFast::new(guarded, breaker), changes }
    }

    async fn load(&self) -> Result<(), LoadError> {
        self.loader.load(&key()).await.map(drop)
    }

    async fn is_refused(&self) -> bool {
        let before = self.origin.loads();
        let refused = matches!(self.load().await, Err(LoadError::Open));
        assert_eq!(refused, self.origin.loads() == before, "what is refused is not sent, and nothing else");
        refused
    }

    fn changes(&self) -> [usize; 2] {
        [&self.changes[0], &self.changes[1]].map(|count| count.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn failures_in_a_row_open_it_and_one_success_closes_it() {
    let stack = Stack::new(3);
    for _ in 0..5 {
        stack.origin.set_failure(Some(LoadError::unavailable("on purpose")));
        assert!(!stack.is_refused().await && !stack.is_refused().await);
        stack.origin.set_failure(None);
        assert!(stack.load().await.is_ok(), "two in a row are no reason");
    }
    stack.origin.set_failure(Some(LoadError::Timeout(SECOND)));
    for _ in 0..3 {
        assert!(!stack.is_refused().await);
    }
    assert_eq!(stack.changes(), [1, 0]);
    for _ in 0..100 {
        assert!(stack.is_refused().await);
    }
    // A pause, one query, a longer pause.
    stack.clock.advance(PAUSE_MIN * 2);
    assert!(!stack.is_refused().await);
    assert!(stack.is_refused().await);
    stack.clock.advance(PAUSE_MAX);
    stack.origin.set_failure(None);
    assert!(!stack.is_refused().await);
    assert!(stack.load().await.is_ok());
    assert_eq!(stack.changes(), [1, 1]);
}

#[tokio::test]
async fn recovery_is_noticed_within_the_longest_pause() {
    let stack = Stack::new(1);
    stack.origin.set_failure(Some(LoadError::unavailable("on purpose")));
    let step = Duration::from_millis(10);
    let mut queries = 0;
    for _ in 0..3_000 {
        queries += u64::from(!stack.is_refused().await);
        stack.clock.advance(step);
    }
    assert!((30..=70).contains(&queries), "{queries} queries in 30 s");
    stack.origin.set_failure(None);
    let mut waited = Duration::ZERO;
    while stack.load().await.is_err() {
        stack.clock.advance(step);
        waited += step;
    }
    assert!(waited <= PAUSE_MAX, "{waited:?}");
}

#[tokio::test]
async fn an_answer_is_an_answer_and_what_was_not_asked_is_nothing() {
    let stack = Stack::new(1);
    for error in [
        LoadError::row("on purpose"),
        LoadError::refused("on purpose"),
        LoadError::TooMuch(1),
        LoadError::TooLarge { bytes: 2, limit: 1 },
        LoadError::Busy(1),
        LoadError::Limited(Duration::from_secs(1)),
        LoadError::Broken("on purpose"),
        LoadError::disconnected("on purpose"),
    ] {
        stack.origin.set_failure(Some(error));
        assert!(!stack.is_refused().await && !stack.is_refused().await);
    }
    assert_eq!(stack.changes(), [0, 0]);
}

#[tokio::test]
async fn a_query_that_tried_it_and_learned_nothing_is_followed_by_the_next() {
    let stack = Stack::new(1);
    stack.origin.set_failure(Some(LoadError::unavailable("on purpose")));
    assert!(!stack.is_refused().await && stack.is_refused().await);
    stack.clock.advance(PAUSE_MAX);
    stack.origin.set_failure(Some(LoadError::disconnected("on purpose")));
    assert!(!stack.is_refused().await && !stack.is_refused().await, "it is tried again at once");
    stack.origin.set_failure(None);
    assert!(stack.load().await.is_ok());
    assert_eq!(stack.changes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_hangs_is_a_failure_before_it_ends() {
    let origin = Arc::new(MapLoader::default());
    let (breaker, changes) = breaker(1, Arc::new(TokioClock::new()));
    let guarded = Arc::new(Guarded::new(Arc::clone(&origin), breaker.clone(), SECOND));
    origin.set_delay(SECOND * 30);
    let hanging = tokio::spawn({
        let guarded = Arc::clone(&guarded);
        async move { guarded.load(&key()).await }
    });
    tokio::time::sleep(SECOND + Duration::from_millis(1)).await;
    assert_eq!(changes[0].load(Ordering::SeqCst), 1);
    assert!(matches!(guarded.load(&key()).await, Err(LoadError::Open)));
    // It is a sign of life when it ends well at last.
    assert!(hanging.await.expect("no panic").is_ok());
    assert_eq!(changes[1].load(Ordering::SeqCst), 1);
    assert!(!breaker.refuses());
}

#[tokio::test]
async fn one_query_at_a_time_tries_a_database_that_fails() {
    let (clock, sent) = (manual(), AtomicU64::new(0));
    let (breaker, _) = breaker(1, clock.clone());
    breaker.tell(breaker.allows(), Some(&LoadError::Timeout(SECOND)));
    clock.advance(PAUSE_MAX);
    for _ in 0..100 {
        sent.fetch_add(u64::from(breaker.allows() != Allow::No), Ordering::SeqCst);
    }
    assert_eq!(sent.into_inner(), 1);
}

#[tokio::test]
async fn a_breaker_that_is_switched_off_never_opens() {
    let stack = Stack::new(0);
    stack.origin.set_failure(Some(LoadError::unavailable("on purpose")));
    for _ in 0..100 {
        assert!(!stack.is_refused().await);
    }
    assert_eq!((stack.changes(), stack.clock.now()), ([0, 0], Moment::from_nanos(1)));
}
