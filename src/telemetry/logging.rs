//! Sets up the process's log: text or JSON, to standard error or to a file a day.

use std::{io, path::Path, time::Duration};

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
        let (writer, guard) = tracing_appender::non_blocking(Gathered::new(appender, PAUSE));
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

/// How long lines are gathered for a file before they are written. They wait for it in the order in which they came, and
/// those of a process that is killed are lost for so long.
const PAUSE: Duration = Duration::from_millis(10);
/// So many bytes are written earlier.
const GATHERED_BYTES: usize = 64 << 10;

/// Writes lines in whole, many at a time. The thread that calls it would otherwise be woken for each line, and write each
/// by itself: at a thousand a second that takes a fiftieth of a core from whoever answers.
struct Gathered<W> {
    inner: W,
    lines: Vec<u8>,
    pause: Duration,
}

impl<W: io::Write> Gathered<W> {
    const fn new(inner: W, pause: Duration) -> Self {
        Self { inner, lines: Vec::new(), pause }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let written = self.inner.write_all(&self.lines);
        // What can't be written now can't be later either.
        self.lines.clear();
        written
    }
}

impl<W: io::Write> io::Write for Gathered<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        if self.lines.len() >= GATHERED_BYTES {
            self.write_out()?;
        }
        Ok(line.len())
    }

    /// Called when no line is left, by a thread that does nothing else: it rests, and more lines come.
    #[expect(clippy::disallowed_methods, reason = "the thread is the log's own")]
    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.inner.flush()?;
        std::thread::sleep(self.pause);
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    /// Notes each write.
    #[derive(Clone, Default)]
    struct Noted(Arc<Mutex<Vec<Vec<u8>>>>);

    impl io::Write for Noted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together_and_none_is_lost() {
        let noted = Noted::default();
        let (mut writer, guard) = tracing_appender::non_blocking(Gathered::new(noted.clone(), PAUSE));
        let lines: Vec<String> = (0..2000).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            writer.write_all(line.as_bytes()).expect("there is room");
        }
        drop(guard);
        let written = noted.0.lock().clone();
        assert_eq!(String::from_utf8(written.concat()).expect("text"), lines.concat());
        assert!(written.len() < lines.len() / 2, "{} writes", written.len());
        assert!(written.iter().all(|part| part.is_empty() || part.ends_with(b"\n")), "lines stay whole");
    }
}
