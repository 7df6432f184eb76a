//! Logs of changes: one for each database, with the task that follows it; and the commands that make and remove them.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;

use super::origins::Origins;
use crate::{
    changes::{Appender, Applies, Follower, Installation, Pace, Source, Sources, SqlStore, Tracked},
    cluster::ViewCell,
    config::Config,
    database::{Database, DatabaseConfig, DatabaseKind},
    group::{Group, GroupLog, LogCell},
    limit::Limiter,
    task::Tasks,
    telemetry::NodeMetrics,
    time::BootClock,
};

/// One question is under way at a time; a second connection is for when the first one hangs.
const CONNECTIONS: u32 = 2;
/// SQLite tells by a number in shared memory whether anything was committed.
const SQLITE_POLL: Duration = Duration::from_millis(5);

/// The log of one database, which nobody follows before a group is in it.
#[derive(Debug)]
pub(super) struct DatabaseLog {
    name: String,
    store: Arc<SqlStore>,
    sources: Arc<Sources>,
    cell: Arc<LogCell>,
    poll: Duration,
    staleness: Duration,
    is_followed: AtomicBool,
}

impl DatabaseLog {
    /// Opens what the follower needs of the database called `name`.
    pub(super) async fn open(name: &str, config: &Config) -> anyhow::Result<Arc<Self>> {
        let section = config.databases.get(name).with_context(|| format!("there is no [database.{name}]"))?;
        let changes = section.changes.clone();
        let section = DatabaseConfig { max_connections: CONNECTIONS, ..section.clone() };
        let database = tokio::task::spawn_blocking(move || Database::open(&section))
            .await?
            .with_context(|| format!("database {name}"))?;
        let groups = config.groups.values().filter(|group| group.table.database == name);
        let staleness = groups.map(|group| group.group.max_staleness).min();
        let poll = match database.kind() {
            DatabaseKind::Sqlite => changes.poll.min(SQLITE_POLL),
            DatabaseKind::Postgres | DatabaseKind::Mysql => changes.poll,
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            store: Arc::new(SqlStore::new(database, changes)),
            sources: Sources::new(),
            cell: LogCell::new(),
            poll,
            staleness: staleness.unwrap_or(Duration::from_secs(1)),
            is_followed: AtomicBool::new(false),
        }))
    }

    /// What a group of `source` knows of the log; `database` is the one that it writes by.
    pub(super) fn of(&self, database: Database, source: Source) -> GroupLog {
        GroupLog { cell: Arc::clone(&self.cell), append: Some(Arc::new(Appender::new(database, source))) }
    }

    /// Tells `group` of changes from now on. To be called before it loads anything.
    pub(super) fn follow(&self, tracked: Tracked, group: &Arc<Group>, views: &Arc<ViewCell>, tasks: &Tasks) {
        self.sources.add(tracked, Arc::clone(group) as Arc<dyn Applies>);
        if self.is_followed.swap(true, Ordering::AcqRel) {
            return;
        }
        let views = Arc::clone(views);
        let pace = Pace::new(self.poll, self.staleness, move || views.load().nodes().len());
        let follower = Follower::new(
            self.name.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.sources),
            Arc::clone(&self.cell),
            Arc::new(BootClock),
            pace,
        );
        tasks.spawn_critical("log of changes", follower.run(tasks.stopping().clone()));
    }
}

/// What `ggcache changes` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangesCommand {
    /// Makes what is missing.
    Install,
    /// Tells what is there.
    Status,
    /// Removes the triggers; with `all` the tables too.
    Remove {
        /// The tables too.
        all: bool,
    },
}

/// Runs `command` for the databases of the configuration, or for the one called `only`. With `dry_run` the statements are
/// printed, and nothing is changed.
///
/// # Errors
/// The first database or table where it can't be done.
pub(super) async fn command(
    config: &Config,
    command: ChangesCommand,
    only: Option<&str>,
    dry_run: bool,
) -> anyhow::Result<()> {
    if let Some(name) = only {
        anyhow::ensure!(
            config.databases.contains_key(name),
            "there is no [database.{name}] in the configuration"
        );
    }
    let tracked = tracked(config, only).await?;
    anyhow::ensure!(
        !tracked.is_empty(),
        "no group is configured for such a database; there is no table to follow"
    );
    for (name, (database, tracked)) in tracked {
        let run = move || {
            run(&name, &Installation::new(&database, &tracked), command, dry_run)
                .with_context(|| format!("database {name}"))
        };
        tokio::task::spawn_blocking(run).await??;
    }
    Ok(())
}

/// Each database with its tables.
pub(super) async fn tracked(
    config: &Config,
    only: Option<&str>,
) -> anyhow::Result<BTreeMap<String, (Database, Vec<Tracked>)>> {
    let metrics = NodeMetrics::new();
    let limiter = Arc::new(Limiter::new(config.rate.clone(), &metrics));
    let mut origins = Origins::default();
    let mut all = BTreeMap::<String, (Database, Vec<Tracked>)>::new();
    for (name, section) in &config.groups {
        let database = &section.table.database;
        if only.is_some_and(|only| only != database) {
            continue;
        }
        let origin = origins.open(name, section, config, &metrics, &limiter).await?;
        let (_, tracked) =
            all.entry(database.clone()).or_insert_with(|| (origin.database.clone(), Vec::new()));
        if !tracked.contains(&origin.tracked) {
            tracked.push(origin.tracked);
        }
    }
    Ok(all)
}

/// What is to be known of the logs that there are. Databases that can't be asked are told of elsewhere.
pub(super) async fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, (database, tracked)) in tracked(config, None).await.unwrap_or_default() {
        let look = move || warnings_of(&name, &Installation::new(&database, &tracked));
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(more)) => warnings.extend(more),
            Ok(Err(error)) => warnings.push(format!("{error:#}")),
            Err(_) => {}
        }
    }
    warnings
}

fn warnings_of(name: &str, installation: &Installation<'_>) -> anyhow::Result<Vec<String>> {
    let status = installation.status().with_context(|| format!("database {name}"))?;
    let mut warnings = Vec::new();
    if !status.installed {
        return Ok(warnings);
    }
    warnings.extend(status.not_here.map(|why| format!("database {name}: {why}")));
    for (source, missing) in status.sources {
        if !missing.is_empty() {
            warnings.push(format!(
                "table {:?}: it goes by ttl only, without these triggers: {}; `ggcache changes install` makes them",
                source.table,
                missing.join(", ")
            ));
        }
    }
    warnings.extend(installation.unseen()?);
    Ok(warnings)
}

fn run(
    name: &str,
    installation: &Installation<'_>,
    command: ChangesCommand,
    dry_run: bool,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let script = match command {
        ChangesCommand::Status => return status(name, installation, &mut out),
        ChangesCommand::Install => installation.installation(!dry_run)?,
        ChangesCommand::Remove { all } => installation.removal(all)?,
    };
    if dry_run {
        write!(out, "{script}")?;
        return Ok(());
    }
    if script.is_empty() {
        writeln!(out, "database {name}: nothing to do")?;
    } else {
        installation.execute(&script)?;
        writeln!(out, "database {name}: {} statements run", script.statements().len())?;
    }
    if command == ChangesCommand::Install {
        for line in installation.unseen()? {
            writeln!(std::io::stderr(), "warning: {line}")?;
        }
    }
    Ok(())
}

fn status(name: &str, installation: &Installation<'_>, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let status = installation.status()?;
    match status.log {
        Some([id, head, floor, waiting]) => writeln!(
            out,
            "database {name}: log {id:016x}, rows {} to {head}, {waiting} wait to be relayed",
            floor.saturating_add(1)
        )?,
        None => writeln!(out, "database {name}: no log; `ggcache changes install` makes one")?,
    }
    if let Some(why) = status.not_here {
        writeln!(out, "database {name}: {why}")?;
    }
    for line in status.views {
        writeln!(out, "{line}")?;
    }
    for (source, missing) in status.sources {
        let (table, column) = (&source.table, &source.key_column);
        if missing.is_empty() && status.log.is_some() {
            writeln!(out, "table {table:?}, key column {column:?}: its changes get into the log")?;
        } else {
            writeln!(
                out,
                "table {table:?}, key column {column:?}: by ttl only; missing: {}",
                if missing.is_empty() { "the log".to_owned() } else { missing.join(", ") }
            )?;
        }
    }
    Ok(())
}
