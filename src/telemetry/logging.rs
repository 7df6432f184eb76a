//! Sets up the process's log: text or JSON, to standard error or to a file a day.

use std::{io, path::Path};

use thiserror::Error;
use tracing_appender::{non_blocking::WorkerGuard, rolling};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use super::{LogConfig, LogFormat};

/// Keeps the log's writer alive. What was logged last is written when it is dropped.
#[must_use = "the log ends when the guard is dropped"]
#[derive(Debug)]
pub struct LogGuard {
    #[expect(dead_code, reason = "held for its drop")]
    worker: Option<WorkerGuard>,
    level: LogLevel,
}

impl LogGuard {
    /// By which the log's level is changed.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }
}

/// How much the process logs. Clones are the same log's.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Logs by this level from now on, which is one as in the configuration.
    ///
    /// # Errors
    /// If it is not a level or a filter, or the log has ended.
    pub fn set(&self, level: &str) -> Result<(), LoggingError> {
        self.0.reload(filter(level)?).map_err(LoggingError::Ended)
    }
}

/// Why the log can't be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    #[error("log.level {level:?} is not a level or a filter")]
    Level {
        level: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("log.file {file:?} can't be written")]
    File {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("the log is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
    #[error("the log has ended")]
    Ended(#[source] reload::Error),
}

/// Sets up the log of this process. To be called once.
///
/// # Errors
/// See [`LoggingError`].
pub fn init_logging(config: &LogConfig) -> Result<LogGuard, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let (writer, guard) = if config.file.is_empty() {
        // Unbuffered: a line is there when the process dies.
        (fmt::writer::BoxMakeWriter::new(io::stderr), None)
    } else {
        let appender = daily(Path::new(&config.file))
            .map_err(|source| LoggingError::File { file: config.file.clone(), source })?;
        let (writer, guard) = tracing_appender::non_blocking(appender);
        (fmt::writer::BoxMakeWriter::new(writer), Some(guard))
    };
    let registry = tracing_subscriber::registry().with(filter);
    let ansi = config.file.is_empty() && io::IsTerminal::is_terminal(&io::stderr());
    let installed = match config.format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()
        }
    };
    installed.map_err(LoggingError::Twice)?;
    Ok(LogGuard { worker: guard, level: LogLevel(handle) })
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(directives(level))
        .map_err(|source| LoggingError::Level { level: level.to_owned(), source })
}

/// A bare level is for this crate: below `info`, libraries would drown it in lines about sockets.
fn directives(level: &str) -> String {
    match level {
        "debug" | "trace" => format!("info,ggcache={level}"),
        _ => level.to_owned(),
    }
}

/// A file that is begun anew each day: `ggcache.log` becomes `ggcache.log.2026-01-31`.
fn daily(file: &Path) -> io::Result<rolling::RollingFileAppender> {
    let name = file.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rolling::Builder::new()
        .rotation(rolling::Rotation::DAILY)
        .filename_prefix(name.to_string_lossy())
        .build(folder)
        .map_err(io::Error::other)
}
