//! A group in one's own process, with a loader of one's own: no server, no SQL, no peers.
//!
//! Run it by `cargo run --example embed`. Every line that it prints is checked first.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ggcache::{
    group::{
        Answer, BoxFuture, GetError, Group, GroupConfig, GroupName, GroupParts, GroupSettings, Key,
        LoadError, Loader, Outcome, Selection, Value,
    },
    origin::{Budget, Timeout},
};
use tokio::time::Instant;

/// Where the values come from: here a stand-in for a slow service that knows the length of every word but
/// "nobody".
#[derive(Default)]
struct Words {
    calls: AtomicU64,
}

impl Words {
    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Loader for Words {
    /// One answer for each key, in order. `None` says that there is no such key, and is remembered; an
    /// origin that failed is an `Err`, and is not.
    fn load<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Value>>, LoadError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let value = |key: &Key| match key.as_bytes() {
                b"nobody" => None,
                word => Some(Value::text(word.len().to_string())),
            };
            Ok(keys.iter().map(value).collect())
        })
    }
}

async fn get(group: &Arc<Group>, key: &str) -> Result<Answer, GetError> {
    group.get(key.as_bytes(), Instant::now() + Duration::from_secs(1)).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    let words = Arc::new(Words::default());
    // From the outside in: an answer within a second, and at most four calls at once.
    let budget = Budget::new(Arc::clone(&words), 4, Duration::from_millis(500));
    let loader = Timeout::new(budget, Duration::from_secs(1));
    let config = GroupConfig { capacity: 8 << 20, ttl: Duration::from_secs(10), ..GroupConfig::default() };
    let group =
        Group::new(GroupName::new("words")?, config, GroupSettings::default(), GroupParts::alone(loader));

    // What nobody reads any more is reclaimed by whoever asks for it: a few times a second will do.
    let sweeper = tokio::spawn({
        let group = Arc::clone(&group);
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                group.reclaim_expired(1_000);
            }
        }
    });

    let readers: Vec<_> = (0..1_000)
        .map(|_| {
            let group = Arc::clone(&group);
            tokio::spawn(async move { get(&group, "bumblebee").await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await??.value, Some(Value::text("9")));
    }
    assert_eq!(words.calls(), 1);
    writeln!(out, "1,000 readers of a key that was not there: {} call", words.calls())?;

    let again = get(&group, "bumblebee").await?;
    assert_eq!((again.outcome, words.calls()), (Outcome::Hit, 1));
    writeln!(out, "the next one: a {}", again.outcome)?;

    for outcome in [Outcome::Load, Outcome::Negative] {
        let absent = get(&group, "nobody").await?;
        assert_eq!((absent.value, absent.outcome), (None, outcome));
    }
    assert_eq!(words.calls(), 2);
    writeln!(out, "an absent key, asked for twice: one call more")?;

    assert_eq!(group.invalidate(&Selection::Keys(vec![Key::new("bumblebee")?])), 1);
    assert_eq!(get(&group, "bumblebee").await?.outcome, Outcome::Load);
    writeln!(out, "after an invalidation: a load, {} calls in all", words.calls())?;

    sweeper.abort();
    Ok(())
}
