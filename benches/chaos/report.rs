//! The table at the end.

use std::time::Duration;

use crate::{ejection::Ejected, rig::load::Summary, scenario::Scenario};

/// What one scenario came to.
#[derive(Debug)]
pub struct Row {
    pub scenario: Scenario,
    pub before: Summary,
    /// From the fault to the end of the run.
    pub during: Summary,
    /// From the fault to its repair.
    pub fault: Duration,
    /// A second.
    pub queries_before: f64,
    pub queries_during: f64,
    pub ejected: Option<Ejected>,
}

/// A run with fewer answers a second before the fault does not count.
const RATE_MIN: f64 = 500.0;
/// The share of requests that may fail in a fault that nobody planned, in percent.
const FAILED_PERCENT_MAX: f64 = 0.1;

/// After which time a node that was killed is in no view: the lease's default, and a second. With a static list it stays.
const GONE_MAX: Duration = Duration::from_secs(6);

const HEAD: [&str; 15] = [
    "scenario",
    "fault s",
    "before/s",
    "requests",
    "answered/s",
    "wrong",
    "late",
    "errors",
    "errors %",
    "p99 before",
    "p99 during",
    "queries/s",
    "ejected",
    "gone",
    "verdict",
];

impl Row {
    /// What the run missed; nothing if it passed.
    fn missed(&self) -> Vec<&'static str> {
        let failed_max = if self.scenario.is_planned() { 0.0 } else { FAILED_PERCENT_MAX };
        let wrong = self.before.wrong + self.during.wrong;
        let late = self.before.late + self.during.late;
        let gone = self.ejected.and_then(|seen| seen.gone);
        [
            (self.before.rate() < RATE_MIN, "fewer than 500/s before the fault"),
            (wrong > 0, "wrong values"),
            (late > 0, "past the deadline"),
            (self.during.failed_percent() > failed_max, "errors"),
            (self.ejected.is_some_and(|seen| seen.after.is_none()), "never ejected"),
            (self.scenario == Scenario::Kill && gone.is_some_and(|gone| gone > GONE_MAX), "gone too late"),
        ]
        .into_iter()
        .filter_map(|(is_missed, name)| is_missed.then_some(name))
        .collect()
    }

    /// Whether every bar was met.
    pub fn passed(&self) -> bool {
        self.missed().is_empty()
    }

    fn cells(&self) -> [String; 15] {
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let errors: Vec<_> =
            self.during.errors.iter().map(|(code, count)| format!("{count} {code}")).collect();
        let missed = self.missed();
        let moment = |seen: Option<Option<Duration>>| match seen {
            None => "-".to_owned(),
            Some(None) => "never".to_owned(),
            Some(Some(after)) => milliseconds(after),
        };
        [
            self.scenario.name().to_owned(),
            format!("{:.1}", self.fault.as_secs_f64()),
            format!("{:.0}", self.before.rate()),
            self.during.requests.to_string(),
            format!("{:.0}", self.during.rate()),
            (self.before.wrong + self.during.wrong).to_string(),
            (self.before.late + self.during.late).to_string(),
            if errors.is_empty() { "0".to_owned() } else { errors.join(", ") },
            format!("{:.3}", self.during.failed_percent()),
            milliseconds(self.before.p99),
            milliseconds(self.during.p99),
            format!("{:.0} -> {:.0}", self.queries_before, self.queries_during),
            moment(self.ejected.map(|seen| seen.after)),
            moment(self.ejected.map(|seen| seen.gone)),
            if missed.is_empty() { "PASS".to_owned() } else { format!("MISS: {}", missed.join(", ")) },
        ]
    }

    /// In one line, for those who wait.
    pub fn line(&self) -> String {
        let cells = self.cells();
        HEAD.iter()
            .zip(&cells)
            .skip(1)
            .map(|(name, cell)| format!("{name} {cell}"))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// All rows, in columns.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<_> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect();
    let line = |cells: &[String; 15]| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |", padded.join(" | "))
    };
    let rule =
        format!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    let mut written: Vec<_> = lines.iter().map(line).collect();
    written.insert(1, rule);
    written.join("\n")
}
