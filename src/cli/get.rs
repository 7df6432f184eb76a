//! `ggcache get`: reads one key from a running cluster, and writes its value as it is.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;

use super::{
    EXIT_WRONG,
    args::GetArguments,
    complain,
    reach::{self, key},
    tell,
};
use crate::{client::Fetched, config::Config};

/// The exit code for a key that is not there.
const EXIT_ABSENT: u8 = 3;

/// Reads the key that `arguments` name. Exit code 0 with its value on standard output, 3 if there is no such key, 2 if
/// the command line is wrong.
///
/// # Errors
/// If the cluster gave no answer, or the value could not be written.
pub(super) fn run(arguments: &GetArguments, config: &Config) -> anyhow::Result<ExitCode> {
    let (key, group) =
        match (key(&arguments.key, arguments.key_b64), reach::group(arguments.group.as_ref(), config)) {
            (Ok(key), Ok(group)) => (key, group),
            (key, group) => {
                complain(key.err().into_iter().chain(group.err()));
                return Ok(ExitCode::from(EXIT_WRONG));
            }
        };
    let builder = reach::builder(&arguments.reach)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("can't start the runtime")?;
    let begun = Instant::now();
    let found = runtime.block_on(async {
        let builder = reach::all(builder, &arguments.reach, config)?;
        anyhow::Ok(builder.build()?.get(&group, &key).await?)
    })?;
    let took = begun.elapsed();
    if arguments.verbose {
        tell(&describe(found.as_ref(), took));
    }
    match found {
        Some(fetched) => write_value(&fetched.bytes).map(|()| ExitCode::SUCCESS),
        None => {
            tell(&format!("group {group} has no such key\n"));
            Ok(ExitCode::from(EXIT_ABSENT))
        }
    }
}

fn describe(found: Option<&Fetched>, took: std::time::Duration) -> String {
    let mut text = format!("took: {took:.1?}\n");
    if let Some(fetched) = found {
        text += &format!("node: {}\nattempts: {}\n", fetched.node, fetched.attempts);
        for (name, value) in [
            ("content-type", &fetched.content_type),
            ("etag", &fetched.etag),
            ("cache-status", &fetched.cache_status),
        ] {
            if let Some(value) = value {
                text += &format!("{name}: {value}\n");
            }
        }
    }
    text
}

/// The bytes and nothing else, so that they can be piped; a person's prompt begins a new line.
fn write_value(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut written = stdout.write_all(bytes);
    if stdout.is_terminal() {
        written = written.and_then(|()| stdout.write_all(b"\n"));
    }
    match written.and_then(|()| stdout.flush()) {
        // `ggcache get … | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the value can't be written")
        }
        _ => Ok(()),
    }
}
