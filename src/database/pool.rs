//! A database: its pool, and the bound on the threads that use it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diesel::r2d2::Pool;
use tokio::sync::Semaphore;

use super::{
    Access, DatabaseConfig, DatabaseError, DatabaseKind, Deadline, OpenError, Turn,
    deadline::StatementClock,
    place::Place,
    session::{LogErrors, SessionManager},
    threads::Threads,
};

/// How long a connection that is not there yet is waited for. While a server is away the pool tries again after half of
/// that at most, so that its return is soon noticed; and a node and the one it asks instead can both say that there is
/// none before a request's time is up.
const CONNECTION_WAIT: Duration = Duration::from_millis(750);

/// A database that is used through a pool of connections. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct Database {
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
    place: Place,
    clock: StatementClock,
    statements: AtomicU64,
}

impl Database {
    /// Opens the database of `config.url`: the first connection, and of a SQLite file also its write-ahead log.
    /// Blocks: for starting up, not for a request.
    ///
    /// # Errors
    /// A URL or setting that can't be used, a kind that is not built in, a file that is missing (it is never created
    /// here), a server that does not answer or refuses, no database, or locked for longer than the statement timeout.
    pub fn open(config: &DatabaseConfig) -> Result<Self, OpenError> {
        let clock = StatementClock::new();
        let place = Place::new(
            &config.url,
            #[cfg(feature = "sqlite")]
            clock,
        )?;
        let zero = |setting, least| OpenError::Setting { url: config.url.to_string(), setting, least };
        if config.max_connections == 0 {
            return Err(zero("max_connections", "1"));
        }
        if config.statement_timeout.is_zero() {
            return Err(zero("statement_timeout", "1ms"));
        }
        place.open_first(config.statement_timeout)?;
        let open = |source: Arc<dyn std::error::Error + Send + Sync>| OpenError::Open {
            place: place.to_string(),
            source,
        };
        let manager = SessionManager { place: place.clone(), timeout: config.statement_timeout };
        let pool = Pool::builder()
            .max_size(config.max_connections)
            .min_idle(Some(1))
            // A connection does not wear out, and one that breaks is found out when it is taken.
            .max_lifetime(None)
            .connection_timeout(config.statement_timeout.min(CONNECTION_WAIT))
            .error_handler(Box::new(LogErrors { place: place.to_string() }))
            .build(manager)
            .map_err(|error| open(Arc::new(error)))?;
        let max_connections = config.max_connections as usize;
        let threads = Threads::new(max_connections).map_err(|error| open(Arc::new(error)))?;
        let shared = Shared {
            pool,
            places: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            threads,
            statement_timeout: config.statement_timeout,
            place,
            clock,
            statements: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What kind of database it is.
    pub fn kind(&self) -> DatabaseKind {
        self.shared.place.kind()
    }

    /// Which database it is, for people: `file "school.db"`, `postgres://db:5432/school`. Without secrets.
    pub fn place(&self) -> String {
        self.shared.place.to_string()
    }

    /// The statements sent so far by turns on threads of their own, those that failed included. What
    /// [`run_here`](Self::run_here) sends does not count.
    pub fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::Relaxed)
    }

    /// The pieces of work that hold a connection now, those that nobody waits for any longer included.
    pub fn running(&self) -> usize {
        self.shared.max_connections.saturating_sub(self.shared.places.available_permits())
    }

    /// How long a statement may take, unless a turn says otherwise.
    pub fn statement_timeout(&self) -> Duration {
        self.shared.statement_timeout
    }

    /// Reads, within the statement timeout: [`run_as`](Self::run_as) otherwise.
    ///
    /// # Errors
    /// As [`run_as`](Self::run_as).
    pub async fn run<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        W: FnOnce(&mut Turn<'_>) -> Result<T, E> + Send + 'static,
    {
        self.run_as(Access::Read, self.shared.statement_timeout, work).await
    }

    /// Runs `work` with a connection on a thread of its own, as soon as one of `max_connections` places is
    /// free. The place belongs to the thread: it is free again when the thread is done, however long its
    /// caller stays. Ends no sooner than the thread, unless it is dropped; dropping it does not stop the work.
    ///
    /// `timeout` is for the wait, and again for the work; each of its statements may take as long.
    ///
    /// # Errors
    /// [`DatabaseError::Busy`] when no place came free in time, no connection, or the work's own error.
    pub async fn run_as<T, E, W>(&self, access: Access, timeout: Duration, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        W: FnOnce(&mut Turn<'_>) -> Result<T, E> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let wait = tokio::time::timeout(timeout, Arc::clone(&shared.places).acquire_owned());
        // The semaphore is never closed, so that only time can deny a place.
        let Ok(Ok(place)) = wait.await else {
            return Err(DatabaseError::Busy(shared.max_connections).into());
        };
        // From here, so that a wait for a thread counts as well.
        let deadline = shared.clock.after(timeout);
        let span = tracing::Span::current();
        let database = Arc::clone(&shared);
        let thread = shared.threads.spawn(move || {
            let _place = place;
            span.in_scope(|| database.turn(access, timeout, deadline, &database.statements, work))
        });
        match thread.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => Err(DatabaseError::Panicked.into()),
            Err(_) => Err(DatabaseError::Stopped.into()),
        }
    }

    /// Runs `work` with a connection on this thread, beside the places: at the start, and in commands. Blocks.
    ///
    /// # Errors
    /// No connection, or the work's own error.
    pub fn run_here<T, E: From<DatabaseError>>(
        &self,
        access: Access,
        timeout: Duration,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = self.shared.clock.after(timeout);
        self.shared.turn(access, timeout, deadline, &AtomicU64::new(0), work)
    }
}

impl Shared {
    fn turn<T, E: From<DatabaseError>>(
        &self,
        access: Access,
        timeout: Duration,
        deadline: Deadline,
        statements: &AtomicU64,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.clock.is_past(deadline) {
            return Err(DatabaseError::Timeout(timeout).into());
        }
        if let Err(source) = self.place.is_there() {
            return Err(DatabaseError::Gone { place: self.place.to_string(), source }.into());
        }
        let mut session = self.pool.get().map_err(|source| {
            let (place, timeout) = (self.place.to_string(), self.pool.connection_timeout());
            DatabaseError::Connection { place, timeout, source }
        })?;
        if let Err(error) = session.prepare(access, timeout) {
            session.failed = true;
            return Err(DatabaseError::Statement(error).into());
        }
        work(&mut Turn { session: &mut session, deadline, timeout, clock: self.clock, statements })
    }
}
