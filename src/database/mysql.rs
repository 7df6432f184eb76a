//! MySQL and MariaDB: servers, their connections, and what their fields hold.

use std::{
    fmt,
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, MysqlConnection, QueryResult,
    connection::SimpleConnection as _,
    deserialize::{self, FromSql, QueryableByName},
    mysql::{Mysql, MysqlType, MysqlValue},
    row::{self, Field as _, NamedRow},
    sql_types,
};

use super::{
    Connection, DatabaseKind, DatabaseUrl, Field, OpenError, Row, Statement,
    server::ServerUrl,
    session::{Session, SessionError},
    value::single,
};
use crate::codec::percent_encode;

/// The options of a URL: those that diesel hands to the client library.
const OPTIONS: &[&str] = &["ssl_ca", "ssl_cert", "ssl_key", "ssl_mode", "unix_socket"];
const SSL_MODES: &[&str] = &["disabled", "preferred", "required", "verify_ca", "verify_identity"];
const PORT: u16 = 3306;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked whether it still works: one short statement.
const IDLE_MAX: Duration = Duration::from_millis(100);

/// A server.
#[derive(Clone, Debug)]
pub(super) struct MysqlServer {
    url: ServerUrl,
}

impl MysqlServer {
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, OpenError> {
        let server = Self { url: ServerUrl::parse(DatabaseKind::Mysql, url, OPTIONS)? };
        let refuse = |reason: &str| Err(OpenError::Url { url: url.to_string(), reason: reason.to_owned() });
        if server.url.hosts.len() > 1 {
            return refuse("it names several hosts, and only one can be used");
        }
        // Tables are looked up in it.
        if server.url.database.is_none() {
            return refuse("it names no database: write it after the host, as in mysql://db/school");
        }
        // What is not encoded in a URL of diesel's.
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.$".contains(&b));
        if !server.url.database.as_deref().is_none_or(plain) {
            return refuse(
                "the name of its database may have letters, digits and the characters _ - . $ only",
            );
        }
        server
            .check_tls(library_checks_names())
            .map_err(|reason| OpenError::Url { url: url.to_string(), reason: reason.to_owned() })?;
        Ok(server)
    }

    /// The mode of TLS, in lower case.
    fn ssl_mode(&self) -> Option<String> {
        self.url.option("ssl_mode").map(str::to_lowercase)
    }

    /// Whether the client library does what the URL asks of TLS. MariaDB's knows no modes: it begins TLS where it is given
    /// an authority, and looks at what the server's certificate is signed with, but not at the name in it.
    fn check_tls(&self, checks_names: bool) -> Result<(), &'static str> {
        let Some(mode) = self.ssl_mode() else { return Ok(()) };
        if !SSL_MODES.contains(&&*mode) {
            return Err("ssl_mode is one of disabled, preferred, required, verify_ca and verify_identity");
        }
        let needs_ca = mode.starts_with("verify_") || (mode == "required" && !checks_names);
        if needs_ca && self.url.option("ssl_ca").is_none() {
            return Err("its ssl_mode needs an authority: add ssl_ca=FILE");
        }
        if mode == "verify_identity" && !checks_names {
            return Err(
                "this build's client library does not look at the name in a certificate: use ssl_mode=verify_ca with an \
                 authority that signs for this server only, or build against MySQL's own library",
            );
        }
        Ok(())
    }

    /// The host and port of a server that is not reached by a socket in the file system. `localhost` would be the
    /// socket to the client library, whatever the port.
    fn address(&self) -> Option<(&str, u16)> {
        if self.url.option("unix_socket").is_some() {
            return None;
        }
        let host = self.url.hosts.first();
        let name = host.map_or("localhost", |host| host.name.as_str());
        let name = if name.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { name };
        Some((name, host.and_then(|host| host.port).unwrap_or(PORT)))
    }

    /// A URL as diesel reads it.
    fn diesel_url(&self) -> String {
        let mut url = "mysql://".to_owned();
        percent_encode(self.url.user.as_deref().unwrap_or_default().as_bytes(), &mut url);
        if let Some(password) = &self.url.password {
            url.push(':');
            percent_encode(password.as_bytes(), &mut url);
        }
        url.push('@');
        match self.address() {
            Some((name, port)) if name.contains(':') => url.push_str(&format!("[{name}]:{port}")),
            Some((name, port)) => url.push_str(&format!("{name}:{port}")),
            None => url.push_str("localhost"),
        }
        url.push('/');
        url.push_str(self.url.database.as_deref().unwrap_or_default());
        for (at, (name, value)) in self.url.options.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            percent_encode(value.as_bytes(), &mut url);
        }
        url
    }

    pub(super) fn connect(&self, timeout: Duration) -> Result<Session, SessionError> {
        if let Some(address) = self.address() {
            reach(address).map_err(|error| SessionError::Open(error.to_string()))?;
        }
        let mut connection = MysqlConnection::establish(&self.diesel_url())
            .map_err(|error| SessionError::open(&error, &self.url.secrets()))?;
        connection
            .batch_execute("SET SESSION autocommit = 1")
            .and_then(|()| connection.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"))
            .and_then(|()| {
                connection.batch_execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")
            })
            .and_then(|()| set_timeouts(&mut connection, timeout))
            .map_err(SessionError::SetUp)?;
        let mut connection = Connection::Mysql(connection);
        let must_be_encrypted = self
            .ssl_mode()
            .is_some_and(|mode| matches!(&*mode, "required" | "verify_ca" | "verify_identity"));
        // Client libraries differ in which of the modes they know, and an unknown one is not refused.
        if must_be_encrypted && !is_encrypted(&mut connection).map_err(SessionError::SetUp)? {
            return Err(SessionError::NotEncrypted);
        }
        Ok(Session::new(connection, timeout))
    }
}

/// Whether the client library is known to be MySQL's own, which does what the modes of TLS say. The file is Linux's; what
/// is not known is taken for the other one.
fn library_checks_names() -> bool {
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("/libmysqlclient.so"))
}

/// Opens a connection and closes it: the client library would wait for a silent host for minutes.
fn reach((name, port): (&str, u16)) -> std::io::Result<()> {
    let mut last = None;
    for address in (name, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address")))
}

fn is_encrypted(connection: &mut Connection) -> QueryResult<bool> {
    let rows = connection.query(&Statement::new("SHOW SESSION STATUS LIKE 'Ssl_cipher'"))?;
    Ok(rows.first().and_then(|row| row.text(1).ok()).is_some_and(|cipher| !cipher.is_empty()))
}

impl fmt::Display for MysqlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// How long a statement may take, wait for a lock, and leave a transaction open in between. The last two are in whole
/// seconds. A comment that begins with `/*M!` is for MariaDB only, one with `/*!50708` for MySQL only.
pub(super) fn set_timeouts(connection: &mut MysqlConnection, timeout: Duration) -> QueryResult<()> {
    let millis = timeout.as_millis().clamp(1, u128::from(u32::MAX));
    let seconds = millis.div_ceil(1000).min(31_536_000);
    connection.batch_execute(&format!(
        "SET SESSION lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds} \
         /*M!100300 , max_statement_time = {}.{:03}, idle_transaction_timeout = {seconds} */ \
         /*!50708 , max_execution_time = {millis} */",
        millis / 1000,
        millis % 1000
    ))
}

/// Asks a connection that was idle whether it still works.
pub(super) fn look_at(session: &mut Session) -> Result<(), SessionError> {
    if session.used.elapsed() < IDLE_MAX {
        return Ok(());
    }
    session.connection.batch("DO 1").map_err(SessionError::Broken)?;
    session.used = Instant::now();
    Ok(())
}

/// Whether the connection does not answer any longer.
pub(super) fn is_cut(connection: &mut MysqlConnection) -> bool {
    connection.batch_execute("DO 1").is_err()
}

impl QueryableByName<Mysql> for Row {
    fn build<'a>(fields: &impl NamedRow<'a, Mysql>) -> deserialize::Result<Self> {
        let field = |at: usize| match row::Row::get(fields, at) {
            Some(field) => field.value().map_or(Ok(Field::Null), read_field),
            None => Err("the row has fewer fields than it says".into()),
        };
        (0..row::Row::field_count(fields)).map(field).collect::<deserialize::Result<_>>().map(Self::new)
    }
}

/// Reads a field by its type.
fn read_field(value: MysqlValue<'_>) -> deserialize::Result<Field> {
    use MysqlType as T;
    Ok(match value.value_type() {
        T::Tiny | T::UnsignedTiny | T::Short | T::UnsignedShort | T::Long | T::UnsignedLong | T::LongLong => {
            Field::Integer(<i64 as FromSql<sql_types::BigInt, Mysql>>::from_sql(value)?)
        }
        T::UnsignedLongLong => {
            let number = <u64 as FromSql<sql_types::Unsigned<sql_types::BigInt>, Mysql>>::from_sql(value)?;
            i64::try_from(number).map_or(Field::Unsigned(number), Field::Integer)
        }
        T::Float => single(<f32 as FromSql<sql_types::Float, Mysql>>::from_sql(value)?),
        T::Double => Field::Real(<f64 as FromSql<sql_types::Double, Mysql>>::from_sql(value)?),
        // Also text, where its collation is binary.
        T::Blob | T::Bit => Field::Bytes(value.as_bytes().to_vec()),
        T::String | T::Enum | T::Set | T::Numeric => std::str::from_utf8(value.as_bytes())
            .map_or(Field::InvalidText, |text| Field::Text(text.to_owned())),
        kind => {
            return Err(format!("a field has the type {kind:?}, which is not read: cast it to text").into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_written_anew() {
        let url = |url: &str| MysqlServer::new(&DatabaseUrl::new(url)).map(|server| server.diesel_url());
        let written = url("mariadb://m%40e:p%2Fw%C3%A9@localhost/shop?ssl_mode=preferred").expect("valid");
        assert_eq!(written, "mysql://m%40e:p%2Fw%C3%A9@127.0.0.1:3306/shop?ssl_mode=preferred");
        let written = url("mysql://me@[::1]:3307/shop").expect("valid");
        assert_eq!(written, "mysql://me@[::1]:3307/shop");
        let written = url("mysql://me@/shop?unix_socket=%2Frun%2Fmysqld.sock").expect("valid");
        assert_eq!(written, "mysql://me@localhost/shop?unix_socket=%2Frun%2Fmysqld.sock");
        for bad in [
            "mysql://a",
            "mysql://a,b/x",
            "mysql://a/x%2Fy",
            "mysql://a/x?ssl_mode=yes",
            "mysql://a/x?database=y",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_library_does_not_do_is_refused() {
        let is_taken = |options: &str, checks_names| {
            let url = DatabaseUrl::new(format!("mysql://db/shop?{options}"));
            let url = ServerUrl::parse(DatabaseKind::Mysql, &url, OPTIONS).expect("a URL");
            MysqlServer { url }.check_tls(checks_names).is_ok()
        };
        for (options, by_mysql, by_mariadb) in [
            ("ssl_mode=disabled", true, true),
            ("ssl_mode=Required", true, false),
            ("ssl_mode=required&ssl_ca=a", true, true),
            ("ssl_mode=verify_ca&ssl_cert=a", false, false),
            ("ssl_mode=VERIFY_CA&ssl_ca=a", true, true),
            ("ssl_mode=verify_identity&ssl_ca=a", true, false),
            ("ssl_mode=yes", false, false),
        ] {
            assert_eq!(
                (is_taken(options, true), is_taken(options, false)),
                (by_mysql, by_mariadb),
                "{options}"
            );
        }
    }
}
