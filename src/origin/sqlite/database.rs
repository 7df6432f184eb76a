//! A SQLite database: its pool, and the bound on the threads that use it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diesel::{SqliteConnection, r2d2::Pool};
use tokio::sync::Semaphore;

use super::{
    OpenError, QueryError,
    connect::{LogErrors, Session, SessionManager, open_alone},
    file::{DatabaseFile, OpenMode},
    query::{StatementClock, StatementDeadline},
    threads::Threads,
};
use crate::{group::LoadError, origin::DatabaseConfig};

/// A SQLite file that is read through a pool of connections. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct SqliteDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: Pool<SessionManager>,
    /// As many as there are connections: whoever holds one finds a connection free, so that no thread ever
    /// waits for one.
    places: Arc<Semaphore>,
    max_connections: usize,
    threads: Threads,
    statement_timeout: Duration,
    file: DatabaseFile,
    clock: StatementClock,
    statements: AtomicU64,
}

/// What a blocking piece of work gets: a connection, and when to be done.
pub(super) struct Turn<'a> {
    session: &'a mut Session,
    deadline: StatementDeadline,
    shared: &'a Shared,
}

impl SqliteDatabase {
    /// Opens the file of `config.url`, turns its write-ahead log on, and opens the first connection.
    /// Blocks: for starting up, not for a request.
    ///
    /// # Errors
    /// A URL or setting that can't be used, a file that is missing (it is never created here), no database,
    /// or locked for longer than the statement timeout.
    pub fn open(config: &DatabaseConfig) -> Result<Self, OpenError> {
        let file = DatabaseFile::from_url(&config.url)?;
        let zero = |setting, least| OpenError::Setting { url: config.url.to_string(), setting, least };
        if config.max_connections == 0 {
            return Err(zero("max_connections", "1"));
        }
        if config.statement_timeout.is_zero() {
            return Err(zero("statement_timeout", "1ms"));
        }
        drop(open_alone(&file, OpenMode::Existing, config.statement_timeout)?);
        let clock = StatementClock::new();
        let manager = SessionManager { file: file.clone(), busy_timeout: config.statement_timeout, clock };
        let pool = Pool::builder()
            .max_size(config.max_connections)
            .min_idle(Some(1))
            // A file does not wear its connections out.
            .max_lifetime(None)
            .connection_timeout(config.statement_timeout)
            .error_handler(Box::new(LogErrors { file: file.path().to_owned() }))
            .build(manager)
            .map_err(|error| OpenError::Open { file: file.path().to_owned(), source: Arc::new(error) })?;
        let max_connections = config.max_connections as usize;
        let threads = Threads::new(max_connections)
            .map_err(|error| OpenError::Open { file: file.path().to_owned(), source: Arc::new(error) })?;
        let shared = Shared {
            pool,
            places: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            threads,
            statement_timeout: config.statement_timeout,
            file,
            clock,
            statements: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The statements sent by loads and scans so far, those that failed included. Looking a table over at
    /// the start does not count.
    pub fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::Relaxed)
    }

    /// The pieces of work that hold a connection now, those that nobody waits for any longer included.
    pub fn running(&self) -> usize {
        self.shared.max_connections.saturating_sub(self.shared.places.available_permits())
    }

    /// How long a statement may take.
    pub fn statement_timeout(&self) -> Duration {
        self.shared.statement_timeout
    }

    /// The file's path, as configured.
    pub(super) fn path(&self) -> &str {
        self.shared.file.path()
    }

    /// Runs `work` with a connection on this thread, at the start.
    pub(super) fn look<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, diesel::result::Error>,
    ) -> Result<T, OpenError> {
        let failed = |source: Arc<dyn std::error::Error + Send + Sync>| OpenError::Open {
            file: self.path().to_owned(),
            source,
        };
        let mut session = self.shared.pool.get().map_err(|error| failed(Arc::new(error)))?;
        work(&mut session.connection).map_err(|error| failed(Arc::new(error)))
    }

    /// Runs `work` with a connection on a thread of its own, as soon as one of `max_connections` places is
    /// free. The place belongs to the thread: it is free again when the thread is done, however long its
    /// caller stays. Ends no sooner than the thread, unless it is dropped.
    ///
    /// # Errors
    /// [`LoadError::Busy`] when no place came free within the statement timeout.
    pub(super) async fn run<T, W>(&self, work: W) -> Result<T, LoadError>
    where
        T: Send + 'static,
        W: FnOnce(Turn<'_>) -> Result<T, LoadError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let wait = tokio::time::timeout(shared.statement_timeout, Arc::clone(&shared.places).acquire_owned());
        // The semaphore is never closed, so that only time can deny a place.
        let Ok(Ok(place)) = wait.await else { return Err(LoadError::Busy(shared.max_connections)) };
        // From here, so that a wait for a thread counts as well.
        let deadline = shared.clock.after(shared.statement_timeout);
        let span = tracing::Span::current();
        let database = Arc::clone(&shared);
        let thread = shared.threads.spawn(move || {
            let _place = place;
            span.in_scope(|| database.turn(deadline, work))
        });
        match thread.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => Err(LoadError::Broken("the query panicked")),
            Err(_) => Err(LoadError::Broken("the runtime is shutting down")),
        }
    }
}

impl Shared {
    fn turn<T>(
        &self,
        deadline: StatementDeadline,
        work: impl FnOnce(Turn<'_>) -> Result<T, LoadError>,
    ) -> Result<T, LoadError> {
        if self.clock.is_past(deadline) {
            return Err(LoadError::Timeout(self.statement_timeout));
        }
        // The pool would try to connect for its whole timeout before it says the same.
        if let Err(source) = self.file.identity() {
            return Err(LoadError::unavailable(QueryError::Gone {
                file: self.file.path().to_owned(),
                source,
            }));
        }
        let mut session = self.pool.get().map_err(|source| {
            let file = self.file.path().to_owned();
            LoadError::unavailable(QueryError::Connection { file, timeout: self.statement_timeout, source })
        })?;
        work(Turn { session: &mut session, deadline, shared: self })
    }
}

impl Turn<'_> {
    /// When the work has to be done.
    pub(super) fn deadline(&self) -> StatementDeadline {
        self.deadline
    }

    /// Sends a statement on `table`: `send` runs it and reads its rows.
    ///
    /// # Errors
    /// [`LoadError::Timeout`] when it failed after the deadline, whatever it says then.
    pub(super) fn send<T>(
        &mut self,
        table: &str,
        send: impl FnOnce(&mut SqliteConnection) -> Result<T, diesel::result::Error>,
    ) -> Result<T, LoadError> {
        let timeout = LoadError::Timeout(self.shared.statement_timeout);
        if self.shared.clock.is_past(self.deadline) {
            return Err(timeout);
        }
        self.shared.statements.fetch_add(1, Ordering::Relaxed);
        send(&mut self.session.connection).map_err(|source| {
            // By the clock and not by the message: SQLite has no code of its own for our function.
            if self.shared.clock.is_past(self.deadline) {
                return timeout;
            }
            self.session.failed = true;
            LoadError::unavailable(QueryError::Statement { table: table.to_owned(), source })
        })
    }
}
