//! Opens databases and stacks up what stands around a table's loader.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    config::{Config, GroupSection},
    database::{Database, DatabaseConfig},
    group::{GroupMetrics, GroupName, Loader},
    limit::Limiter,
    origin::{
        Budget, Limited, LoadObserver, LoadResult, Observed, Places, TableLoader, TableReport, Timeout,
    },
    telemetry::NodeMetrics,
};

/// A table's loader with everything around it.
type Stack = Limited<Timeout<Budget<Observed<TableLoader, LoadMetrics>>>>;

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
}

/// The databases that are open, so that groups of one database share its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    databases: HashMap<String, Database>,
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
        let database = self.database(&table.database, config).await?;
        let value_bytes_max = match config.limits.value_bytes {
            0 => usize::MAX,
            limit => limit,
        };
        let statement_timeout = database.statement_timeout();
        let loader = {
            let table = table.clone();
            tokio::task::spawn_blocking(move || TableLoader::new(&database, &table, value_bytes_max))
                .await?
                .with_context(|| format!("group {name}"))?
        };
        let report = loader.report().clone();
        let metrics = LoadMetrics(GroupMetrics::new(metrics, name));
        // Who waits for a place in the budget must still have time for the query itself.
        let wait = config.limits.request_timeout.saturating_sub(statement_timeout).max(WAIT_MIN);
        let budget = Budget::new(Observed::new(loader, metrics), group.load_budget, wait);
        let places = budget.places().clone();
        let timeout = Timeout::new(budget, wait + statement_timeout);
        let loader = Arc::new(Limited::new(timeout, Arc::clone(limiter)));
        let digest = digest(section, config.databases.get(&table.database));
        Ok(Origin { scan: Arc::clone(&loader), loader, places, digest, report })
    }

    async fn database(&mut self, name: &str, config: &Config) -> anyhow::Result<Database> {
        if let Some(database) = self.databases.get(name) {
            return Ok(database.clone());
        }
        let section =
            config.databases.get(name).with_context(|| format!("there is no [database.{name}]"))?.clone();
        let database = tokio::task::spawn_blocking(move || Database::open(&section))
            .await?
            .with_context(|| format!("database {name}"))?;
        self.databases.insert(name.to_owned(), database.clone());
        Ok(database)
    }
}

const WAIT_MIN: Duration = Duration::from_millis(100);

/// Equal at nodes that would make the same value of the same row. Where a database is may differ from
/// node to node, so that its URL is no part of it.
fn digest(section: &GroupSection, database: Option<&DatabaseConfig>) -> u64 {
    let mut hash = Xxh3::new();
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(database.map_or("", |database| database.url.scheme()));
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
