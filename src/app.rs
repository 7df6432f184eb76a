//! The composition root: the only place that names concrete adapters, and the order in which a node starts and stops.

mod check;
mod node;
mod origins;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;

pub use node::{Listeners, Node};

use crate::{config::Config, telemetry};

/// Runs a node until it is told to stop (SIGTERM, Ctrl-C).
///
/// # Errors
/// If the node can't start, or a part of it that it can't do without has failed.
pub fn serve(config: Config, file: Option<PathBuf>, effective: String) -> anyhow::Result<()> {
    let _log = telemetry::init_logging(&config.log)?;
    runtime()?.block_on(async {
        match &file {
            Some(file) => tracing::info!(file = %file.display(), "read the configuration"),
            None => tracing::info!("no configuration file; defaults and environment are in force"),
        }
        let listeners = Listeners::bind(&config).await?;
        let node = Node::start(config, listeners, Arc::from(effective)).await?;
        let stopped_by = tokio::select! {
            signal = signal() => signal?,
            () = node.failed() => "a failed task",
        };
        tracing::info!(by = stopped_by, "stopping; requests under way are answered");
        let failed = stopped_by == "a failed task";
        tokio::select! {
            () = node.stop() => {}
            signal = signal() => tracing::warn!(by = signal?, "stopping at once"),
        }
        anyhow::ensure!(!failed, "a part that the node can't do without has ended; see the log");
        Ok(())
    })
}

/// Checks what can only be checked by connecting: databases, tables, columns. Prints what it finds.
///
/// # Errors
/// If the check itself can't be made.
pub fn check(config: &Config) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(check::check(config))
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
        let applied = crate::origin::migrate(database).with_context(|| format!("database {name}"))?;
        if applied.is_empty() {
            writeln!(out, "database {name} ({}): nothing to do", database.url)?;
        }
        for migration in applied {
            writeln!(out, "database {name} ({}): applied {migration}", database.url)?;
        }
    }
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start the runtime")
}

/// Waits for a signal to stop; which one it was.
async fn signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
