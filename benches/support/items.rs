//! The table that is asked: keys whose value follows from the key, and how often each is asked for.

/// The group's name in [`configuration`].
pub const GROUP: &str = "items";

/// The nodes' configuration, with single keys of the group.
pub fn configuration(group: &str) -> String {
    format!(
        "[database.shop]\nurl = \"sqlite:school.db\"\n\
         [group.{GROUP}]\ntable = \"items\"\nkey_column = \"key\"\nvalue_columns = [\"value\"]\n{group}\n"
    )
}

/// SQL that makes the table with `count` rows, in version 0.
pub fn table(count: usize) -> String {
    format!(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE items (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
         WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {count})
         INSERT INTO items SELECT printf('key-%06d', i), printf('%d:0:', i) || ((i * 2654435761) % 4294967291)
         FROM numbers;"
    )
}

/// The `index`th key of the table.
pub fn key(index: usize) -> String {
    format!("key-{index:06}")
}

/// A key that is not in the table.
pub fn absent_key(index: usize) -> String {
    format!("absent-{index:06}")
}

/// The value of the `index`th key in a `version`.
pub fn value(index: usize, version: u64) -> String {
    format!("{index}:{version}:{}", (index as u64 * 2_654_435_761) % 4_294_967_291)
}

/// The version that a value is of; `None` if it is none of the `index`th key's.
pub fn version(index: usize, bytes: &[u8]) -> Option<u64> {
    let version = std::str::from_utf8(bytes).ok()?.split(':').nth(1)?.parse().ok()?;
    (value(index, version).as_bytes() == bytes).then_some(version)
}

/// Draws ranks by Zipf's law: the `r`th is asked for in proportion to `1 / r^exponent`.
#[derive(Clone, Debug)]
pub struct Zipf(std::sync::Arc<[f64]>);

impl Zipf {
    /// A law over `count` ranks.
    pub fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    /// A rank, from 0.
    pub fn draw(&self) -> usize {
        let total = self.0.last().copied().unwrap_or_default();
        let at = fastrand::f64() * total;
        self.0.partition_point(|sum| *sum < at).min(self.0.len() - 1)
    }
}
