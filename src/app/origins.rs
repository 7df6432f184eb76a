//! Opens databases and stacks up what stands around a table's loader.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use metrics::Label;
use xxhash_rust::xxh3::Xxh3;

use super::changes::DatabaseLog;
use crate::{
    changes::{Source, Tracked},
    config::{Config, GroupSection},
    database::Database,
    group::{GroupMetrics, GroupName, LoadError, Loader, Writer},
    limit::Limiter,
    origin::{
        Batched, Breaker, Budget, FailFast, Guarded, Limited, LoadObserver, LoadResult, Observed, Places,
        Retry, TableError, TableLoader, TableReport, TableWriter, Timeout,
    },
    telemetry::{NodeMetrics, field},
    time::BootClock,
};

/// A table's loader with everything around it; `origin`'s page says why in this order.
type Stack = FailFast<Limited<Timeout<Batched<Retry<Guarded<Observed<TableLoader, LoadMetrics>>>>>>>;

/// What a group reads.
pub(super) struct Origin {
    /// Reads keys.
    pub(super) loader: Arc<Stack>,
    /// Lists keys; the same stack, so that a preload stays inside the budget too.
    pub(super) scan: Arc<Stack>,
    /// By which the budget is changed.
    pub(super) places: Places,
    /// The digest of the definition.
    pub(super) digest: u64,
    /// What is known of the table.
    pub(super) report: TableReport,
    /// Writes rows, if the group is writable.
    pub(super) writer: Option<Arc<dyn Writer>>,
    /// The database.
    pub(super) database: Database,
    /// Which changes are the table's.
    pub(super) tracked: Tracked,
}

/// The databases that are open, so that groups of one database share its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    databases: HashMap<String, Open>,
    logs: HashMap<String, Arc<DatabaseLog>>,
}

/// A database that is open.
#[derive(Clone, Debug)]
struct Open {
    database: Database,
    breaker: Breaker,
}

impl Origins {
    /// Opens what `section` names, and looks its table over.
    pub(super) async fn open(
        &mut self,
        name: &GroupName,
        section: &GroupSection,
        config: &Config,
        metrics: &NodeMetrics,
        limiter: &Arc<Limiter>,
    ) -> anyhow::Result<Origin> {
        let (table, group) = (section.table.clone(), &section.group);
        let Open { database, breaker } = self.database(&table.database, config, metrics).await?;
        let shared = database.clone();
        let value_bytes_max = match config.limits.value_bytes {
            0 => usize::MAX,
            limit => limit,
        };
        let statement_timeout = database.statement_timeout();
        let (loader, writer) = {
            let table = table.clone();
            let open = move || {
                let loader = TableLoader::new(&database, &table, value_bytes_max)?;
                let writer = if table.writable { Some(TableWriter::new(&loader, &table)?) } else { None };
                Ok::<_, TableError>((loader, writer))
            };
            tokio::task::spawn_blocking(open).await?.with_context(|| format!("group {name}"))?
        };
        let writer = writer.map(|writer| Arc::new(writer) as Arc<dyn Writer>);
        let report = loader.report().clone();
        let metrics = LoadMetrics(GroupMetrics::new(metrics, name));
        // Who waits for a place in the budget must still have time for the query itself.
        let wait = config.limits.request_timeout.saturating_sub(statement_timeout).max(WAIT_MIN);
        // A query may wait for a connection as long as it may take itself. One that needs longer hangs.
        let patience = statement_timeout * 2 + HANGING;
        let guarded = Guarded::new(Observed::new(loader, metrics), breaker.clone(), patience);
        let budget = Budget::new(Retry::new(guarded, statement_timeout), group.load_budget, wait);
        let places = budget.places().clone();
        let timeout = Timeout::new(Batched::new(budget, group.load_batch), wait + statement_timeout);
        let loader = Arc::new(FailFast::new(Limited::new(timeout, Arc::clone(limiter)), breaker));
        let digest = digest(section, &report);
        let source = Source { table: report.table.clone(), key_column: report.key_column.clone() };
        let tracked = Tracked { source, key_type: report.key_type };
        Ok(Origin {
            scan: Arc::clone(&loader),
            loader,
            places,
            digest,
            report,
            writer,
            database: shared,
            tracked,
        })
    }

    /// The log of changes of a database, which may have one.
    pub(super) async fn log(&mut self, name: &str, config: &Config) -> anyhow::Result<Arc<DatabaseLog>> {
        if let Some(log) = self.logs.get(name) {
            return Ok(Arc::clone(log));
        }
        let log = DatabaseLog::open(name, config).await?;
        self.logs.insert(name.to_owned(), Arc::clone(&log));
        Ok(log)
    }

    async fn database(&mut self, name: &str, config: &Config, metrics: &NodeMetrics) -> anyhow::Result<Open> {
        if let Some(open) = self.databases.get(name) {
            return Ok(open.clone());
        }
        let section =
            config.databases.get(name).with_context(|| format!("there is no [database.{name}]"))?.clone();
        let breaker = breaker(name, section.breaker_failures, metrics);
        let database = tokio::task::spawn_blocking(move || Database::open(&section))
            .await?
            .with_context(|| format!("database {name}"))?;
        let open = Open { database, breaker };
        self.databases.insert(name.to_owned(), open.clone());
        Ok(open)
    }
}

const WAIT_MIN: Duration = Duration::from_millis(100);
const HANGING: Duration = Duration::from_millis(100);

/// A database's breaker, which tells the log and the metrics what it does.
fn breaker(name: &str, failures_max: u32, metrics: &NodeMetrics) -> Breaker {
    let label = || vec![Label::new("database", name.to_owned())];
    let is_open = metrics.gauge("ggcache_breaker_open", label());
    let opened = metrics.counter("ggcache_breaker_opened_total", label());
    let name = name.to_owned();
    let on_change = move |open: bool, error: Option<&LoadError>| {
        is_open.set(f64::from(u8::from(open)));
        if open {
            opened.increment(1);
            tracing::warn!(
                { field::DATABASE } = %name,
                error = error.map(|error| error as &dyn std::error::Error),
                "the database keeps failing; single queries try it until it answers"
            );
        } else {
            tracing::warn!({ field::DATABASE } = %name, "the database answers again");
        }
    };
    Breaker::new(failures_max, Arc::new(BootClock), on_change)
}

/// Equal at nodes that would make the same value of the same row. Where a database is may differ from
/// node to node, so that its URL is no part of it.
fn digest(section: &GroupSection, report: &TableReport) -> u64 {
    let mut hash = Xxh3::new();
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    // The kind of the database, and how it and the node render what its columns hold.
    part(report.rendering());
    part(&section.table.table);
    part(&section.table.key_column);
    for column in &section.table.value_columns {
        part(column);
    }
    part(section.group.content_type.as_deref().unwrap_or_default());
    hash.digest()
}

/// Counts loads in the group's metrics.
#[derive(Debug)]
pub(super) struct LoadMetrics(GroupMetrics);

impl LoadObserver for LoadMetrics {
    fn on_load(&self, result: LoadResult, _: usize, duration: Duration) {
        let found = match result {
            LoadResult::Found => Some(true),
            LoadResult::Absent => Some(false),
            LoadResult::Error => None,
        };
        self.0.load(found, duration);
    }
}

/// Reads one key that hardly exists, to see whether the database answers.
pub(super) async fn probe(origin: &Origin) -> anyhow::Result<()> {
    let key = crate::group::Key::new("1")?;
    origin.loader.load(&[key]).await?;
    Ok(())
}
