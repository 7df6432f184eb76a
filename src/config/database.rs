//! `[database.NAME]`: reads and checks what `database` takes.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::{
    database::{ChangesConfig, DatabaseConfig, DatabaseKind, DatabaseUrl, OpenError},
    settings::{Checks, Faults, Section, Settings},
};

const NAME_BYTES_MAX: usize = 63;
const MAX_CONNECTIONS: RangeInclusive<u32> = 1..=1000;
const BREAKER_FAILURES: RangeInclusive<u32> = 0..=1_000_000;
const STATEMENT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
const CHANGES_POLL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
const CHANGES_RETENTION: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 60 * 60);
const CHANGES_ROWS: RangeInclusive<u64> = 1_000..=1_000_000_000;

/// Reads every `[database.NAME]`.
pub(super) fn read_all(settings: &mut Settings) -> BTreeMap<String, DatabaseConfig> {
    let names = settings.names(&["database"]);
    let read = |name: String| {
        let mut section = settings.section(&["database", &name]);
        if !is_name(&name) {
            section.fault_here("a database's name is 1 to 63 of a-z, A-Z, 0-9, _ and -");
        }
        let config = read(&mut section);
        (name, config)
    };
    names.into_iter().map(read).collect()
}

fn read(section: &mut Section<'_>) -> DatabaseConfig {
    let url = section.secret("url", DatabaseKind::example().url_example(), DatabaseUrl::new);
    let default = DatabaseConfig::new(url.unwrap_or_else(|| DatabaseUrl::new("")));
    let config = DatabaseConfig {
        max_connections: section.integer("max_connections", default.max_connections, MAX_CONNECTIONS),
        statement_timeout: section.duration("statement_timeout", default.statement_timeout),
        breaker_failures: section.integer("breaker_failures", default.breaker_failures, BREAKER_FAILURES),
        changes: ChangesConfig {
            poll: section.duration("changes_poll", default.changes.poll),
            retention: section.duration("changes_retention", default.changes.retention),
            rows_max: section.integer("changes_rows", default.changes.rows_max, CHANGES_ROWS),
        },
        url: default.url,
    };
    section.check_sound(validate(&config));
    config
}

/// Whether every value lies within its bounds, and this build can open such a database.
pub(super) fn validate(config: &DatabaseConfig) -> Result<(), Faults> {
    let mut checks = Checks::new();
    if let Err(message) = check_url(&config.url) {
        checks.fault("url", message);
    }
    checks.number("max_connections", config.max_connections, &MAX_CONNECTIONS);
    checks.duration("statement_timeout", config.statement_timeout, &STATEMENT_TIMEOUT);
    checks.number("breaker_failures", config.breaker_failures, &BREAKER_FAILURES);
    checks.duration("changes_poll", config.changes.poll, &CHANGES_POLL);
    checks.duration("changes_retention", config.changes.retention, &CHANGES_RETENTION);
    checks.number("changes_rows", config.changes.rows_max, &CHANGES_ROWS);
    checks.finish()
}

/// The message shows nothing of the URL but a scheme that is known: the rest, or a text that is no URL at
/// all, may be a password.
fn check_url(url: &DatabaseUrl) -> Result<(), String> {
    let built_in = DatabaseKind::ALL.into_iter().filter(|kind| kind.is_built_in());
    let built_in = built_in.map(DatabaseKind::as_str).collect::<Vec<_>>().join(", ");
    let example = DatabaseKind::example().url_example();
    let Some(kind) = url.kind() else {
        return Err(format!("the url has no known scheme; this build has: {built_in}; write \"{example}\""));
    };
    match url.check() {
        Ok(()) => Ok(()),
        Err(OpenError::NotBuiltIn(_)) => {
            Err(format!("{kind}: is not built in; this build has: {built_in}; build with the feature {kind}"))
        }
        Err(OpenError::Url { reason, .. }) => Err(format!("the url is not usable: {reason}")),
        Err(error) => Err(error.to_string()),
    }
}

fn is_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(valid)
}
