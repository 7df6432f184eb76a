//! `ggcache check`: what a configuration promises, tried out.

use std::{io::Write as _, net::SocketAddr, process::ExitCode, sync::Arc};

use super::{
    changes,
    origins::{self, Origins},
    tls::{self, Checked},
};
#[cfg(feature = "etcd")]
use crate::discovery::DiscoveryKind;
use crate::{
    access::{Scope, Scopes},
    config::Config,
    limit::Limiter,
    telemetry::NodeMetrics,
};

/// Opens every group's table and sends one query, and tries out the files for TLS. One line for each on standard output;
/// faults on standard error.
pub(super) async fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let metrics = NodeMetrics::new();
    let limiter = Arc::new(Limiter::new(config.rate.clone(), &metrics));
    let mut origins = Origins::default();
    let mut sound = true;
    for (name, section) in &config.groups {
        let opened = match origins.open(name, section, config, &metrics, &limiter).await {
            Ok(origin) => origins::probe(&origin).await.map(|()| origin.report),
            Err(error) => Err(error),
        };
        match opened {
            Ok(report) => {
                writeln!(
                    std::io::stdout(),
                    "group {name}: table {:?}, key column {:?} ({}), values from {}: ok",
                    report.table,
                    report.key_column,
                    report.key_type.as_str(),
                    columns(&report.values)
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
    match config.node.seal.load() {
        Ok(None) => {}
        Ok(Some(secrets)) => {
            let accepted =
                if secrets.has_previous() { "; what is sealed by the previous one is accepted" } else { "" };
            writeln!(
                std::io::stdout(),
                "node: what nodes ask each other is sealed by a secret{accepted}: ok"
            )?;
        }
        Err(error) => {
            sound = false;
            writeln!(std::io::stderr(), "error: {:#}", anyhow::Error::from(error))?;
        }
    }
    for (name, token) in &config.auth.tokens {
        let groups = token.groups.as_ref().map_or_else(
            || "every group".to_owned(),
            |groups| groups.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        );
        writeln!(std::io::stdout(), "token {name}: {} in {groups}: ok", words(token.scopes))?;
    }
    for warning in changes::warnings(config).await {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    for warning in open_doors(config) {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    if config.groups.is_empty() {
        writeln!(std::io::stderr(), "warning: no group is configured; the node would answer no key")?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `"score" (bigint), "note" (text)`.
fn columns(columns: &[(String, String)]) -> String {
    let column = |(name, declared): &(String, String)| match declared.as_str() {
        "" => format!("{name:?}"),
        declared => format!("{name:?} ({declared})"),
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn words(scopes: Scopes) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(", ")
}

/// What strangers may do, where they may be able to reach a plane.
fn open_doors(config: &Config) -> Vec<String> {
    let beyond = |listen: SocketAddr| !listen.ip().to_canonical().is_loopback();
    let (node, admin, api, anonymous) = (&config.node, &config.admin, &config.api, config.auth.anonymous);
    let mut doors = Vec::new();
    if beyond(node.listen) && node.allow_anyone && !node.seal.is_on() {
        doors.push(format!("node.allow_anyone: whoever reaches {} may read and drop every key", node.listen));
    }
    if beyond(admin.listen) && admin.allow_anyone && !config.auth.guards_admin() {
        doors.push(format!("admin.allow_anyone: whoever reaches {} may do what operators may", admin.listen));
    }
    if api.enabled && beyond(api.listen) && !anonymous.is_empty() {
        doors.push(format!(
            "auth.anonymous: whoever reaches {} (api.listen) has these scopes without a token: {}",
            api.listen,
            words(anonymous)
        ));
    }
    doors
}
