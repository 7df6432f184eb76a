//! `[database.NAME]`: reads and checks what `database` takes.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::{
    database::{DatabaseConfig, DatabaseUrl},
    settings::{Checks, Faults, Section, Settings},
};

/// The databases that this build can open, by the scheme of their URLs.
const SCHEMES: [&str; 1] = ["sqlite"];
/// Those that other builds will.
const SCHEMES_TO_COME: [&str; 4] = ["postgres", "postgresql", "mysql", "mariadb"];
const URL_EXAMPLE: &str = "sqlite:school.db";
const NAME_BYTES_MAX: usize = 63;
const MAX_CONNECTIONS: RangeInclusive<u32> = 1..=1000;
const STATEMENT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);

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
    let url = section.secret("url", URL_EXAMPLE, DatabaseUrl::new);
    let default = DatabaseConfig::new(url.unwrap_or_else(|| DatabaseUrl::new("")));
    let config = DatabaseConfig {
        max_connections: section.integer("max_connections", default.max_connections, MAX_CONNECTIONS),
        statement_timeout: section.duration("statement_timeout", default.statement_timeout),
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
    checks.finish()
}

/// The message shows nothing of the URL but a scheme that is known: the rest, or a text that is no URL at
/// all, may be a password.
fn check_url(url: &DatabaseUrl) -> Result<(), String> {
    let scheme = url.scheme();
    let built_in = SCHEMES.join(", ");
    if let Some(scheme) = SCHEMES_TO_COME.iter().find(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(format!("{scheme}: is not built in yet; this build has: {built_in}"));
    }
    if !SCHEMES.contains(&scheme) {
        return Err(format!(
            "the url has no known scheme; this build has: {built_in}; write \"{URL_EXAMPLE}\""
        ));
    }
    let rest = url.expose().split_once(':').map_or("", |(_, rest)| rest);
    if rest.trim_start_matches('/').is_empty() {
        return Err(format!("the url names no file; write for example \"{URL_EXAMPLE}\""));
    }
    if rest.contains('\0') {
        return Err("the url holds a NUL byte, which no file's name has".to_owned());
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(valid)
}
