//! `ggcache check`: what a configuration promises, tried out.

use std::{io::Write as _, process::ExitCode};

use super::{
    origins::{self, Origins},
    tls::{self, Checked},
};
#[cfg(feature = "etcd")]
use crate::discovery::DiscoveryKind;
use crate::{config::Config, telemetry::NodeMetrics};

/// Opens every group's table and sends one query, and tries out the files for TLS. One line for each on standard output;
/// faults on standard error.
pub(super) async fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let metrics = NodeMetrics::new();
    let mut origins = Origins::default();
    let mut sound = true;
    for (name, section) in &config.groups {
        let opened = match origins.open(name, section, config, &metrics).await {
            Ok(origin) => origins::probe(&origin).await.map(|()| origin.report),
            Err(error) => Err(error),
        };
        match opened {
            Ok(report) => {
                writeln!(
                    std::io::stdout(),
                    "group {name}: table {:?}, key column {:?} ({}), values from {:?}: ok",
                    report.table,
                    report.key_column,
                    report.key_type.as_str(),
                    section.table.value_columns
                )?;
                for warning in report.warnings() {
                    writeln!(std::io::stderr(), "warning: group {name}: {warning}")?;
                }
            }
            Err(error) => {
                sound = false;
                writeln!(std::io::stderr(), "error: {error:#}")?;
            }
        }
    }
    for Checked { files, ends } in tls::check(config) {
        let (section, cert) = (files.plane.section(), files.cert.display());
        match ends {
            Ok((ends, soon)) => {
                writeln!(std::io::stdout(), "{section}: the certificate in {cert} ends at {ends}: ok")?;
                if let Some(days) = soon {
                    let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
                    writeln!(
                        std::io::stderr(),
                        "warning: {section}: the certificate in {cert} ends in {days}"
                    )?;
                }
            }
            Err(error) => {
                sound = false;
                writeln!(std::io::stderr(), "error: {:#}", anyhow::Error::from(error))?;
            }
        }
    }
    #[cfg(feature = "etcd")]
    if config.cluster.discovery == DiscoveryKind::Etcd
        && let Err(error) = config.etcd.check_files()
    {
        sound = false;
        writeln!(std::io::stderr(), "error: {:#}", anyhow::Error::from(error))?;
    }
    if config.groups.is_empty() {
        writeln!(std::io::stderr(), "warning: no group is configured; the node would answer no key")?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
