//! The certificates of a node's planes: read when it starts, and looked at again while it runs.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use rustls_pki_types::UnixTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    net::{Tls, TlsConfig, TlsError},
};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate that ends within this time is to be warned of.
const SOON: Duration = Duration::from_secs(14 * DAY.as_secs());

/// The TLS of all planes that have it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// Of the peer plane.
    pub(super) peer: Option<Tls>,
    /// Of the public plane.
    pub(super) api: Option<Tls>,
    /// Of the operators' plane.
    pub(super) admin: Option<Tls>,
    /// What was last wrong with the files of each section, so that it is told once.
    complaints: Arc<Mutex<BTreeMap<&'static str, String>>>,
    /// Of which ends was warned.
    warned: Arc<Mutex<Warned>>,
}

/// For each section the end of which was warned last, and when.
#[derive(Debug, Default)]
struct Warned(BTreeMap<&'static str, (SystemTime, Instant)>);

impl Warned {
    /// In how many days a section's certificate `ends`, if that is soon, and was not told within the last day.
    fn due(&mut self, section: &'static str, ends: SystemTime, today: UnixTime, now: Instant) -> Option<u64> {
        let left = ends_soon(ends, today)?;
        let is_told = self.0.get(section).is_some_and(|(told, at)| *told == ends && now < *at + DAY);
        if is_told {
            return None;
        }
        self.0.insert(section, (ends, now));
        Some(left)
    }
}

impl Certificates {
    /// Reads the files that the configuration names.
    pub(super) async fn load(config: &Config) -> anyhow::Result<Self> {
        let (peer, host) = (config.node.tls.clone(), config.node.advertise.host().to_owned());
        let (api, admin) = (config.api.tls.clone().filter(|_| config.api.enabled), config.admin.tls.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            anyhow::Ok(Self {
                peer: peer.as_ref().map(|tls| Tls::for_peers(tls, &host)).transpose()?,
                api: api.as_ref().map(Tls::for_clients).transpose()?,
                admin: admin.as_ref().map(Tls::for_clients).transpose()?,
                complaints: Arc::default(),
                warned: Arc::default(),
            })
        });
        let loaded = loaded.await.context("the files for TLS could not be read")??;
        loaded.all().for_each(|tls| loaded.warn(tls));
        Ok(loaded)
    }

    /// Tells of a certificate that ends soon, once a day: who has to replace it may see the log only.
    fn warn(&self, tls: &Tls) {
        let (section, ends) = (tls.plane().section(), tls.ends());
        if let Some(left) = self.warned.lock().due(section, ends, UnixTime::now(), Instant::now()) {
            let ends = date(ends);
            tracing::warn!(section, days_left = left, ends, "a certificate ends soon, or has ended");
        }
    }

    fn all(&self) -> impl Iterator<Item = &Tls> {
        [&self.peer, &self.api, &self.admin].into_iter().flatten()
    }

    /// Reads all files again. New handshakes go by those that have changed and can be used; where they can't, all stays
    /// as it was. What came of each section, `true` for a change; it is logged too, the same fault only once.
    pub async fn reload(&self) -> Vec<(&'static str, Result<bool, TlsError>)> {
        let mut outcomes = Vec::new();
        for tls in self.all() {
            let section = tls.plane().section();
            let reading = tls.clone();
            // The runtime that is gone has no use for it.
            let Ok(outcome) = tokio::task::spawn_blocking(move || reading.reload()).await else { continue };
            self.tell(tls, &outcome);
            self.warn(tls);
            outcomes.push((section, outcome));
        }
        outcomes
    }

    /// Whether all files could be used as they are now.
    ///
    /// # Errors
    /// What is wrong with those of each section that could not.
    pub(super) async fn check(&self) -> Result<(), Vec<TlsError>> {
        let all: Vec<Tls> = self.all().cloned().collect();
        let check = move || all.iter().filter_map(|tls| tls.check().err()).collect::<Vec<_>>();
        // The runtime that is gone has no use for it.
        match tokio::task::spawn_blocking(check).await {
            Ok(errors) if !errors.is_empty() => Err(errors),
            _ => Ok(()),
        }
    }

    fn tell(&self, tls: &Tls, outcome: &Result<bool, TlsError>) {
        let section = tls.plane().section();
        let mut complaints = self.complaints.lock();
        match outcome {
            Ok(true) => tracing::info!(section, ends = %date(tls.ends()), "took over new files for TLS"),
            Ok(false) => {}
            Err(error) => {
                let text = whole(error);
                if complaints.get(section) != Some(&text) {
                    let error = error as &dyn Error;
                    tracing::warn!(
                        section,
                        error,
                        "the files for TLS can't be used; the old ones stay in force"
                    );
                    complaints.insert(section, text);
                }
                return;
            }
        }
        complaints.remove(section);
    }

    /// Looks at the files every 10 s until the node stops.
    pub(super) async fn watch(self, stopping: CancellationToken) {
        if self.all().next().is_none() {
            return;
        }
        while tokio::time::timeout(PERIOD, stopping.cancelled()).await.is_err() {
            self.reload().await;
        }
    }
}

/// What is known of the files of one section.
pub(super) struct Checked<'a> {
    /// Which they are.
    pub(super) files: &'a TlsConfig,
    /// When the first certificate ends, and in how many days if that is soon.
    pub(super) ends: Result<(String, Option<u64>), TlsError>,
}

/// Tries out the files of each section, for `ggcache check`.
pub(super) fn check(config: &Config) -> Vec<Checked<'_>> {
    let Config { node, api, admin, .. } = config;
    let peer = node.tls.as_ref().map(|tls| (tls, Tls::for_peers(tls, node.advertise.host())));
    let others = [&api.tls, &admin.tls].into_iter().flatten().map(|tls| (tls, Tls::for_clients(tls)));
    let judged = |tls: Tls| (date(tls.ends()), ends_soon(tls.ends(), UnixTime::now()));
    let all = peer.into_iter().chain(others);
    all.map(|(files, tls)| Checked { files, ends: tls.map(judged) }).collect()
}

/// In how many days that is, if they are few.
fn ends_soon(ends: SystemTime, today: UnixTime) -> Option<u64> {
    let left = ends.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let left = left.saturating_sub(today.as_secs());
    (left <= SOON.as_secs()).then_some(left / DAY.as_secs())
}

/// An error with all its causes.
pub(super) fn whole(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", whole(source)))
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_near_is_told_once_a_day() {
        let (mut warned, start) = (Warned::default(), Instant::now());
        let since_epoch = DAY * 20_000;
        let today = UnixTime::since_unix_epoch(since_epoch);
        let in_days = |days: u32| SystemTime::UNIX_EPOCH + since_epoch + DAY * days;
        let mut due = |section, days, now| warned.due(section, in_days(days), today, now);
        assert_eq!(due("node.tls", 15, start), None, "far away");
        // The files are looked at while it comes nearer.
        assert_eq!(due("node.tls", 3, start), Some(3));
        assert_eq!(due("node.tls", 3, start + PERIOD), None);
        assert_eq!(due("api.tls", 3, start + PERIOD), Some(3), "each section is told of");
        assert_eq!(due("node.tls", 3, start + DAY), Some(3));
        assert_eq!(due("node.tls", 2, start + DAY + PERIOD), Some(2), "another certificate");
        assert_eq!(due("node.tls", 0, start + DAY * 2), Some(0), "it ends now");
    }
}
