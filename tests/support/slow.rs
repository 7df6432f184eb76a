//! Views that are slow to read, so that a test can do something while the database is being asked.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

/// SQL that makes `name` a view of `table` each read of which takes about `time` on a quiet machine, whether it finds
/// a row or not.
///
/// SQLite can't sleep, so that the view counts; how far depends on how fast it does. Nothing may hang on the time:
/// on a busy machine it is longer.
pub fn slow_view(name: &str, table: &str, time: Duration) -> String {
    let rounds = (*ROUNDS_PER_SECOND * time.as_secs_f64()) as u64;
    format!(
        "CREATE VIEW {name} AS SELECT t.* FROM ({}) AS work CROSS JOIN {table} AS t WHERE work.rounds > 0;",
        counting(rounds.max(1))
    )
}

fn counting(rounds: u64) -> String {
    format!(
        "WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter LIMIT {rounds}) \
         SELECT count(*) AS rounds FROM counter"
    )
}

static ROUNDS_PER_SECOND: LazyLock<f64> = LazyLock::new(|| {
    const ROUNDS: u64 = 100_000;
    let mut connection = SqliteConnection::establish(":memory:").expect("a database in memory");
    // The best of some: the others were disturbed.
    let best = (0..5).map(|_| {
        let begun = Instant::now();
        connection.batch_execute(&counting(ROUNDS)).expect("it counts");
        begun.elapsed()
    });
    let best = best.min().expect("there are some").max(Duration::from_micros(1));
    ROUNDS as f64 / best.as_secs_f64()
});
