//! Histograms of durations, whose buckets are counted at once.
//!
//! The recorder's own keep every single duration until somebody gathers them: of a hundred thousand hits a second that
//! is megabytes, and takes longer than all other figures of a hit.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Histogram, HistogramFn, Label};
use parking_lot::Mutex;

/// Upper bounds of the buckets, in seconds: a hit takes microseconds, a load milliseconds.
const SECONDS: [f64; 14] =
    [0.000_01, 0.000_05, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The histograms of a node, in the order in which they were made. None is forgotten.
#[derive(Debug, Default)]
pub(super) struct AllDurations(Mutex<Vec<Named>>);

#[derive(Debug)]
struct Named {
    name: &'static str,
    labels: Vec<Label>,
    durations: Arc<Durations>,
}

/// One histogram. The last count is of what is longer than all bounds.
#[derive(Debug, Default)]
struct Durations {
    counts: [AtomicU64; SECONDS.len() + 1],
    nanos: AtomicU64,
}

impl HistogramFn for Durations {
    fn record(&self, seconds: f64) {
        let at = SECONDS.iter().position(|most| seconds <= *most).unwrap_or(SECONDS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }
}

impl AllDurations {
    /// The histogram of that name and labels, made when it is first asked for. A name's unit is seconds.
    pub(super) fn get(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        let mut all = self.0.lock();
        let known = all.iter().find(|known| known.name == name && known.labels == labels);
        Histogram::from_arc(match known {
            Some(known) => Arc::clone(&known.durations),
            None => {
                let durations = Arc::<Durations>::default();
                all.push(Named { name, labels, durations: Arc::clone(&durations) });
                durations
            }
        })
    }

    /// Writes all of one name in Prometheus' text format; nothing if there are none. Labels hold nothing that would have
    /// to be escaped.
    pub(super) fn render(&self, name: &str, help: &str, text: &mut String) {
        let all = self.0.lock();
        let mut ours = all.iter().filter(|one| one.name == name).peekable();
        // Writing to a string does not fail.
        if ours.peek().is_some() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        }
        for Named { labels, durations, .. } in ours {
            let labels: Vec<_> =
                labels.iter().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
            let labels = labels.join(",");
            let comma = if labels.is_empty() { "" } else { "," };
            let mut count = 0;
            let bounds = SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, counted) in bounds.zip(&durations.counts) {
                count += counted.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
            }
            let seconds = durations.nanos.load(Ordering::Relaxed) as f64 / 1e9;
            let _ = writeln!(text, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_within_it() {
        let all = AllDurations::default();
        let label = || vec![Label::new("group", "a")];
        let (one, same) = (all.get("x_seconds", label()), all.get("x_seconds", label()));
        for seconds in [0.0, 0.000_01, 0.001, 0.25, 3.0] {
            one.record(seconds);
        }
        same.record(0.2);
        let mut text = String::new();
        all.render("y_seconds", "other", &mut text);
        assert_eq!(text, "");
        all.render("x_seconds", "time", &mut text);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["# HELP x_seconds time", "# TYPE x_seconds histogram"]);
        for line in [
            "x_seconds_bucket{group=\"a\",le=\"0.00001\"} 2",
            "x_seconds_bucket{group=\"a\",le=\"0.001\"} 3",
            "x_seconds_bucket{group=\"a\",le=\"0.25\"} 5",
            "x_seconds_bucket{group=\"a\",le=\"2.5\"} 5",
            "x_seconds_bucket{group=\"a\",le=\"+Inf\"} 6",
            "x_seconds_sum{group=\"a\"} 3.45101",
            "x_seconds_count{group=\"a\"} 6",
        ] {
            assert!(lines.contains(&line), "{line} is not in {text}");
        }
        assert_eq!(lines.len(), 2 + SECONDS.len() + 3);
    }
}
