//! What the configuration says of a database.

use std::{fmt, time::Duration};

use super::{DatabaseKind, OpenError, place::Place};

/// `[database.NAME]`: where a database is and how hard it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// `sqlite:FILE`, `postgres://…` or `mysql://…`.
    pub url: DatabaseUrl,
    /// Connections of this node to the database, and so the queries under way at once.
    pub max_connections: u32,
    /// How long a query may take, the wait for a lock included.
    pub statement_timeout: Duration,
    /// After so many failures in a row the database is left alone, but for single queries that try it; zero if it never is.
    pub breaker_failures: u32,
    /// How its log of changes is followed, if it has one.
    pub changes: ChangesConfig,
}

/// `changes_*` in `[database.NAME]`: how the log of changes is followed and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesConfig {
    /// How often a node looks for changes. SQLite is looked at more often, since it tells for less whether there are any.
    pub poll: Duration,
    /// How long a row of the log is kept. A node that was away for longer drops what it has in memory.
    pub retention: Duration,
    /// How many rows are kept at most.
    pub rows_max: u64,
}

impl Default for ChangesConfig {
    fn default() -> Self {
        Self { poll: Duration::from_millis(20), retention: Duration::from_secs(60 * 60), rows_max: 1_000_000 }
    }
}

impl DatabaseConfig {
    /// The defaults, for a database at `url`.
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            max_connections: 8,
            statement_timeout: Duration::from_secs(1),
            breaker_failures: 5,
            changes: ChangesConfig::default(),
        }
    }
}

/// A database's URL. It may hold a password: `Debug` and `Display` leave user and password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Takes `url` as it is; the loader that opens it checks it.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its secrets. Never to be logged or answered.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The part before the first colon: `sqlite`, for example.
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// Whether this build can open such a database, and the URL has what it takes. Connects to nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), OpenError> {
        Place::new(
            self,
            #[cfg(feature = "sqlite")]
            super::deadline::StatementClock::new(),
        )
        .map(drop)
    }

    /// The kind of database that the scheme names, built in or not.
    pub fn kind(&self) -> Option<DatabaseKind> {
        DatabaseKind::from_scheme(self.scheme())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password may hold any character, `?` and `#` too: first everything up to the last `@` goes, and then
        // the query, which may name a password as well.
        let (prefix, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), self.0.as_str()),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((_, host)) if !prefix.is_empty() => ("***@", host),
            _ => ("", rest),
        };
        write!(f, "{prefix}{user}{}", rest.split(['?', '#']).next().unwrap_or_default())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let url = DatabaseUrl::new("postgres://me:p@ss@db:5432/shop?password=x");
        assert_eq!(url.to_string(), "postgres://***@db:5432/shop");
        assert_eq!(DatabaseUrl::new("postgres://u:pa?ss#w@h/d").to_string(), "postgres://***@h/d");
        assert_eq!(DatabaseUrl::new("postgres://h/d?password=a@b").to_string(), "postgres://***@b");
        assert_eq!(DatabaseUrl::new("sqlite:x.db?key=1").to_string(), "sqlite:x.db");
        assert_eq!(DatabaseUrl::new("sqlite:school.db").to_string(), "sqlite:school.db");
        assert_eq!(url.scheme(), "postgres");
    }
}
