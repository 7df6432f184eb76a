//! The node's metrics, in Prometheus' text format.
//!
//! Each node owns its recorder, so that several nodes can live in one process. Handles are made once and kept; the
//! hit path touches atomics only. Labels are bounded: groups of the configuration, nodes of the view, and fixed words;
//! never a key.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

use super::durations::AllDurations;

static METADATA: Metadata<'static> = Metadata::new("ggcache", metrics::Level::INFO, None);

/// Name, unit and help of every metric.
const DESCRIPTIONS: [(&str, Kind, Option<Unit>, &str); 23] = [
    ("ggcache_requests_total", Kind::Counter, None, "clients' requests by where the answer came from"),
    (
        "ggcache_request_duration_seconds",
        Kind::Histogram,
        Some(Unit::Seconds),
        "time to answer clients' requests",
    ),
    ("ggcache_loads_total", Kind::Counter, None, "queries sent to the origin by result"),
    ("ggcache_load_duration_seconds", Kind::Histogram, Some(Unit::Seconds), "time that queries took"),
    (
        "ggcache_breaker_open",
        Kind::Gauge,
        None,
        "whether a database keeps failing, and is asked by single queries only",
    ),
    ("ggcache_breaker_opened_total", Kind::Counter, None, "times that a database's breaker has opened"),
    ("ggcache_coalesced_total", Kind::Counter, None, "requests that shared another's flight"),
    ("ggcache_entries", Kind::Gauge, None, "entries in memory"),
    (
        "ggcache_bytes",
        Kind::Gauge,
        Some(Unit::Bytes),
        "memory that the entries take, their overhead included",
    ),
    ("ggcache_capacity_bytes", Kind::Gauge, Some(Unit::Bytes), "memory that the entries may take"),
    ("ggcache_evictions_total", Kind::Counter, None, "entries that left the cache by cause"),
    (
        "ggcache_peer_served_total",
        Kind::Counter,
        None,
        "requests of other nodes that were answered by result",
    ),
    ("ggcache_members", Kind::Gauge, None, "nodes in the view, this one included"),
    ("ggcache_view_changes_total", Kind::Counter, None, "views that replaced another"),
    ("ggcache_etcd_up", Kind::Gauge, None, "whether etcd could be read when it was last tried"),
    ("ggcache_etcd_registered", Kind::Gauge, None, "whether the node's entry is in etcd, as far as it knows"),
    (
        "ggcache_staleness_seconds",
        Kind::Gauge,
        Some(Unit::Seconds),
        "time since the log of changes was last known to be applied to its end; memory answers up to max_staleness",
    ),
    (
        "ggcache_inconsistent_reads_total",
        Kind::Counter,
        None,
        "keys that the auditor found in memory with another value than in the database, and no change in the log",
    ),
    ("ggcache_invalidations_total", Kind::Counter, None, "invalidations applied by source"),
    ("ggcache_rate_limited_total", Kind::Counter, None, "requests refused for a rate by limit"),
    ("ggcache_reloads_total", Kind::Counter, None, "times that the configuration was read again by result"),
    ("ggcache_connections", Kind::Gauge, None, "open connections by plane"),
    ("ggcache_build_info", Kind::Gauge, None, "always 1; the version is in the label"),
];

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The metrics of one node. Clones share the same recorder.
#[derive(Clone)]
pub struct NodeMetrics(Arc<Shared>);

struct Shared {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    durations: AllDurations,
    /// Requests by peer and result. Not the recorder's: it forgets nothing, and nodes come and go.
    peers: Mutex<BTreeMap<String, Vec<(&'static str, u64)>>>,
    served: HashMap<&'static str, Counter>,
    members: Gauge,
    view_changes: Counter,
}

impl NodeMetrics {
    /// A recorder with every metric described.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, kind, unit, help) in DESCRIPTIONS {
            let (name, help) = (name.into(), SharedString::const_str(help));
            match kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                // Not the recorder's.
                Kind::Histogram => {}
            }
        }
        let gauge = |name, labels| recorder.register_gauge(&Key::from_parts(name, labels), &METADATA);
        let counter = |name, labels| recorder.register_counter(&Key::from_parts(name, labels), &METADATA);
        gauge("ggcache_build_info", vec![Label::new("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        let shared = Shared {
            peers: Mutex::default(),
            served: ["ok", "error"]
                .into_iter()
                .map(|result| {
                    (result, counter("ggcache_peer_served_total", vec![Label::new("result", result)]))
                })
                .collect(),
            members: gauge("ggcache_members", vec![]),
            view_changes: counter("ggcache_view_changes_total", vec![]),
            handle: recorder.handle(),
            durations: AllDurations::default(),
            recorder,
        };
        Self(Arc::new(shared))
    }

    /// The open connections of a plane.
    pub fn connections(&self, plane: &'static str) -> Gauge {
        self.gauge("ggcache_connections", vec![Label::new("plane", plane)])
    }

    /// Counts a request to `peer`, which must be one of the view's.
    pub fn peer_request(&self, peer: &str, result: &'static str) {
        let mut peers = self.0.peers.lock();
        if !peers.contains_key(peer) {
            peers.insert(peer.to_owned(), Vec::new());
        }
        let Some(counts) = peers.get_mut(peer) else { return };
        match counts.iter_mut().find(|(name, _)| *name == result) {
            Some((_, count)) => *count += 1,
            None => counts.push((result, 1)),
        }
    }

    /// Forgets the requests to peers that `is_there` does not know, since nodes come and go for as long as this one
    /// lives.
    pub fn keep_peers(&self, is_there: impl Fn(&str) -> bool) {
        self.0.peers.lock().retain(|peer, _| is_there(peer));
    }

    /// Counts a request of another node that was answered.
    pub fn peer_served(&self, ok: bool) {
        self.0.served[if ok { "ok" } else { "error" }].increment(1);
    }

    /// Notes that a view of `members` nodes is in force.
    pub fn view(&self, members: usize, changed: bool) {
        self.0.members.set(members as f64);
        if changed {
            self.0.view_changes.increment(1);
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.0.handle.render();
        for (name, kind, _, help) in &DESCRIPTIONS {
            if matches!(kind, Kind::Histogram) {
                self.0.durations.render(name, help, &mut text);
            }
        }
        let peers = self.0.peers.lock();
        if !peers.is_empty() {
            text.push_str(
                "# HELP ggcache_peer_requests_total requests sent to other nodes by result\n\
                 # TYPE ggcache_peer_requests_total counter\n",
            );
        }
        for (peer, counts) in peers.iter() {
            for (result, count) in counts {
                // An address holds nothing that would have to be escaped. Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "ggcache_peer_requests_total{{peer=\"{peer}\",result=\"{result}\"}} {count}"
                );
            }
        }
        text
    }

    /// The counter of that name and labels, made when it is first asked for.
    pub fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.0.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    /// The gauge of that name and labels.
    pub fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.0.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    /// The histogram of that name, whose unit is seconds, and labels.
    pub fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.0.durations.get(name, labels)
    }
}

impl Default for NodeMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_left_is_forgotten() {
        let metrics = NodeMetrics::new();
        let lines = || {
            let text = metrics.render();
            let lines = text.lines().filter(|line| line.contains("ggcache_peer_requests_total"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(), [""; 0]);
        for (peer, result) in [("b:1", "ok"), ("a:1", "ok"), ("a:1", "silent"), ("a:1", "ok")] {
            metrics.peer_request(peer, result);
        }
        let all = [
            "# HELP ggcache_peer_requests_total requests sent to other nodes by result",
            "# TYPE ggcache_peer_requests_total counter",
            "ggcache_peer_requests_total{peer=\"a:1\",result=\"ok\"} 2",
            "ggcache_peer_requests_total{peer=\"a:1\",result=\"silent\"} 1",
            "ggcache_peer_requests_total{peer=\"b:1\",result=\"ok\"} 1",
        ];
        assert_eq!(lines(), all);
        metrics.keep_peers(|peer| peer == "b:1");
        assert_eq!(lines(), [all[0], all[1], all[4]]);
    }
}
