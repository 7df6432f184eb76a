//! The composition root: the only place that names concrete adapters, and the order in which a node starts and stops.

mod changes;
mod check;
mod groups;
mod membership;
mod node;
mod origins;
mod planes;
mod reload;
mod seals;
mod tls;

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use changes::ChangesCommand;
pub use node::Node;
pub use planes::Listeners;
pub use reload::{ReadAgain, Reloader};

use crate::{
    config::{Config, Loaded, Sources},
    gateway::{self, Reload as _},
    telemetry,
};

/// Runs a node until it is told to stop (SIGTERM, Ctrl-C). SIGHUP has it read `sources` again, of which `loaded` is what
/// they said at first.
///
/// # Errors
/// If the node can't start, or a part of it that it can't do without has failed.
pub fn serve(loaded: Loaded, sources: Sources) -> anyhow::Result<()> {
    let log = telemetry::init_logging(&loaded.config.log)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // Before there is a node: who sees that it is ready may tell it to stop.
        let mut signals = Signals::listen()?;
        // It is no reason to end, even before there is anything to reload.
        let hangup = signal(SignalKind::hangup()).context("can't listen for SIGHUP")?;
        match &loaded.file {
            Some(file) => tracing::info!(file = %file.display(), "read the configuration"),
            None => tracing::info!("no configuration file; defaults and environment are in force"),
        }
        raise_descriptor_limit(&loaded.config);
        let listeners = Listeners::bind(&loaded.config).await?;
        let again = ReadAgain { sources: Some(sources), log: Some(log.level()) };
        let node = Node::start(loaded, listeners, again).await?;
        tokio::spawn(reload_on(hangup, Arc::clone(node.reloader())));
        let stopped_by = tokio::select! {
            signal = signals.next() => signal,
            () = node.failed() => "a failed task",
        };
        tracing::info!(by = stopped_by, "stopping; requests under way are answered");
        let failed = stopped_by == "a failed task";
        tokio::select! {
            () = node.stop() => {}
            signal = signals.next() => tracing::warn!(by = signal, "stopping at once"),
        }
        anyhow::ensure!(!failed, "a part that the node can't do without has ended; see the log");
        Ok(())
    });
    // A query that is still running has a thread, which a runtime that is merely dropped would wait for.
    runtime.shutdown_background();
    served
}

/// The OpenAPI document of the api plane, or of the admin plane.
pub fn openapi(admin: bool) -> String {
    gateway::document(if admin { gateway::PlaneKind::Admin } else { gateway::PlaneKind::Api })
}

/// Checks what can only be checked by connecting: databases, tables, columns. Prints what it finds.
///
/// # Errors
/// If the check itself can't be made.
pub fn check(config: &Config) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(check::check(config))
}

/// Makes or removes logs of changes, or tells of them: for the database called `only`, or all. With `dry_run` the
/// statements are printed instead.
///
/// # Errors
/// The first database or table where it can't be done.
pub fn changes(
    config: &Config,
    command: ChangesCommand,
    only: Option<&str>,
    dry_run: bool,
) -> anyhow::Result<()> {
    runtime()?.block_on(changes::command(config, command, only, dry_run))
}

/// Brings each configured database to the newest version of the demo's tables.
///
/// # Errors
/// The first database that could not be migrated.
pub fn migrate(config: &Config) -> anyhow::Result<()> {
    use std::io::Write as _;
    anyhow::ensure!(
        !config.databases.is_empty(),
        "no database is configured; add a [database.NAME] with a url"
    );
    let mut out = std::io::stdout().lock();
    for (name, database) in &config.databases {
        let applied = crate::database::migrate(database).with_context(|| format!("database {name}"))?;
        if applied.is_empty() {
            writeln!(out, "database {name} ({}): nothing to do", database.url)?;
        }
        for migration in applied {
            writeln!(out, "database {name} ({}): applied {migration}", database.url)?;
        }
    }
    Ok(())
}

/// Lets the process have as many descriptors as the system allows. The usual soft limit of 1,024 is less than one
/// plane's connections, and a flood on one plane would take the others' too.
fn raise_descriptor_limit(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What can't be raised is told of below.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let planes = 2 + u64::from(config.api.enabled);
    let wanted = planes * config.limits.connections as u64 + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < wanted) {
        tracing::warn!(
            limit,
            wanted,
            "the process may have fewer descriptors than limits.connections needs; raise ulimit -n or lower it"
        );
    }
}

/// Descriptors that are no client's: databases, peers, logs.
const DESCRIPTORS_BESIDE: u64 = 256;

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start the runtime")
}

/// Reloads at each signal; several that come meanwhile are one.
async fn reload_on(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        tracing::info!(by = "SIGHUP", "reading the configuration again");
        // What came of it is in the log.
        let _ = reloader.reload().await;
    }
}

/// The signals that stop a node. None is lost between two looks at them.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("can't listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("can't listen for SIGINT")?,
        })
    }

    /// Waits for the next one; which it was.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
