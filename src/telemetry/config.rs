//! `[log]`: where the log goes, in which form, and how much of it.

use std::{fmt, str::FromStr};

use tracing_subscriber::EnvFilter;

use crate::settings::{Checks, Faults, Section, nearest};

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const NAMES: [&'static str; 2] = ["text", "json"];
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// The name is not that of a log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log format, which is text or json")]
pub struct UnknownLogFormat;

/// How a node logs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, or directives such as `info,ggcache::group=debug`.
    pub level: String,
    /// The file, which is begun anew each day; empty for standard error.
    pub file: String,
    /// The share, 0 to 1, of requests without a `traceparent` that begin a trace.
    pub trace_sample: f64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
            file: String::new(),
            trace_sample: 0.0,
        }
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
const TRACE_SAMPLE: std::ops::RangeInclusive<f64> = 0.0..=1.0;
/// Filters are compiled, so that their length is bounded.
const LEVEL_BYTES_MAX: usize = 1024;

impl LogConfig {
    /// Reads the keys of `[log]`, and checks them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            format: section.choice("format", default.format, &LogFormat::NAMES),
            level: section.string("level", &default.level),
            file: section.string("file", &default.file),
            trace_sample: section.float("trace_sample", default.trace_sample, TRACE_SAMPLE),
        };
        section.check(config.validate());
        config
    }

    /// Whether the level is a level or a filter, and the file could be the name of one.
    ///
    /// # Errors
    /// Every value that is wrong, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        if let Some(wrong) = wrong_directive(&self.level) {
            let shown: String = wrong.chars().take(60).collect();
            let guess = match nearest(wrong, LEVELS) {
                Some(near) => format!("did you mean {near}?"),
                None => "write for example \"info,ggcache::group=debug\"".to_owned(),
            };
            checks.fault(
                "level",
                format!("{shown:?} is neither one of {} nor a filter; {guess}", LEVELS.join(", ")),
            );
        }
        checks.number("trace_sample", self.trace_sample, &TRACE_SAMPLE);
        if self.file.contains('\0') || self.file.ends_with('/') {
            checks.fault(
                "file",
                format!("{:?} is not the name of a file; write for example \"ggcache.log\"", self.file),
            );
        }
        checks.finish()
    }
}

/// The part of `level` that is wrong, if any.
fn wrong_directive(level: &str) -> Option<&str> {
    if level.len() > LEVEL_BYTES_MAX {
        return Some(level);
    }
    // Names of crates, modules and fields are ASCII; and the filter's parser counts other characters as bytes, and panics.
    if !level.is_ascii() {
        return level.split(',').find(|directive| !directive.is_ascii());
    }
    // The filter would take a bare word that is no level for the name of a module, and show all of it.
    let is_target = |directive: &&str| directive.contains(['=', '[', ']', '{', '}']);
    let is_level = |directive: &&str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(directive));
    let wrong = level.split(',').find(|directive| !is_target(directive) && !is_level(directive));
    wrong.or_else(|| EnvFilter::builder().parse(level).is_err().then_some(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(level: &str) -> String {
        let config = LogConfig { level: level.to_owned(), ..LogConfig::default() };
        config.validate().err().map_or_else(String::new, |faults| faults.to_string())
    }

    #[test]
    fn levels_and_filters() {
        for good in
            ["info", "WARN", "off", "info,ggcache::group=debug", "warn,hyper=off", "[span{key=1}]=debug"]
        {
            assert_eq!(messages(good), "", "{good}");
        }
        let known = "error, warn, info, debug, trace, off";
        for (bad, message) in [
            ("inof", format!(r#"level: "inof" is neither one of {known} nor a filter; did you mean info?"#)),
            (
                "info,wran",
                format!(r#"level: "wran" is neither one of {known} nor a filter; did you mean warn?"#),
            ),
            (
                "ggcache=loud",
                format!(
                    r#"level: "ggcache=loud" is neither one of {known} nor a filter; write for example "info,ggcache::group=debug""#
                ),
            ),
        ] {
            assert_eq!(messages(bad), message);
        }
        for wide in ["`Ι[.s", "info,é=debug", "[é]=info", "ggcache[{é}]=trace"] {
            assert!(messages(wide).contains("is neither one of"), "{wide}");
        }
        assert!(!messages("").is_empty());
        assert!(!messages(&"info,".repeat(1000)).is_empty());
    }

    #[test]
    fn formats_are_read_back() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("yaml".parse::<LogFormat>(), Err(UnknownLogFormat));
    }
}
