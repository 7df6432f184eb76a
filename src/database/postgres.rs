//! PostgreSQL: servers, their connections, and what their fields hold.

use std::{fmt, time::Duration};

use diesel::{
    Connection as _, PgConnection, QueryResult,
    connection::SimpleConnection as _,
    deserialize::{self, FromSql, QueryableByName},
    pg::{Pg, PgValue},
    row::{self, Field as _, NamedRow},
    sql_types,
};

use super::{
    Connection, DatabaseKind, DatabaseUrl, Field, OpenError, Row,
    server::ServerUrl,
    session::{Session, SessionError},
    value::single,
};

/// The options of a URL that are libpq's own and mean something here.
const OPTIONS: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "options",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslpassword",
    "sslrootcert",
    "target_session_attrs",
];
/// The modes of TLS that must not end in a plain connection.
const TLS_REQUIRED: &[&str] = &["require", "verify-ca", "verify-full"];

/// A server, or several of one database, of which one is taken.
#[derive(Clone, Debug)]
pub(super) struct PostgresServer {
    url: ServerUrl,
}

impl PostgresServer {
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, OpenError> {
        let server = Self { url: ServerUrl::parse(DatabaseKind::Postgres, url, OPTIONS)? };
        let refuse = |reason: &str| Err(OpenError::Url { url: url.to_string(), reason: reason.to_owned() });
        match server.url.option("sslmode") {
            None | Some("disable" | "allow" | "prefer") => {}
            Some(mode) if !TLS_REQUIRED.contains(&mode) => {
                return refuse(
                    "sslmode is one of disable, allow, prefer, require, verify-ca and verify-full",
                );
            }
            Some(_) if cfg!(feature = "postgres-tls") => {}
            Some(_) => {
                return refuse(
                    "its sslmode asks for TLS, which this build can't do for PostgreSQL: build with the feature postgres-tls",
                );
            }
        }
        Ok(server)
    }

    /// In libpq's spelling of keywords and values: <https://www.postgresql.org/docs/current/libpq-connect.html>.
    fn conninfo(&self, timeout: Duration) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        let list = |part: &dyn Fn(&super::server::Host) -> String| {
            self.url.hosts.iter().map(part).collect::<Vec<_>>().join(",")
        };
        if !self.url.hosts.is_empty() {
            pairs.push(("host", list(&|host| host.name.clone())));
            pairs.push(("port", list(&|host| host.port.map_or(String::new(), |port| port.to_string()))));
        }
        let named =
            [("user", &self.url.user), ("password", &self.url.password), ("dbname", &self.url.database)];
        pairs.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        // What libpq takes the last of: the URL's own options win.
        pairs.push(("application_name", "ggcache".to_owned()));
        pairs.push(("connect_timeout", "2".to_owned()));
        // A server that has vanished from the network is found out, also while an answer is waited for.
        let unanswered = timeout.saturating_add(Duration::from_secs(2)).as_millis().min(i32::MAX as u128);
        pairs.push(("tcp_user_timeout", unanswered.to_string()));
        pairs.push(("keepalives_idle", "5".to_owned()));
        pairs.push(("keepalives_interval", "2".to_owned()));
        pairs.push(("keepalives_count", "3".to_owned()));
        // Of several servers the one that is written to: changes come late to the others.
        if self.url.hosts.len() > 1 {
            pairs.push(("target_session_attrs", "read-write".to_owned()));
        }
        pairs.extend(self.url.options.iter().cloned());
        let pair = |(name, value): (&str, String)| {
            format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
        };
        pairs.into_iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn connect(&self, timeout: Duration) -> Result<Session, SessionError> {
        let mut connection = PgConnection::establish(&self.conninfo(timeout))
            .map_err(|error| SessionError::open(&error, &self.url.secrets()))?;
        // Whatever the server, the database or the user has for defaults: values are written one way only.
        connection
            .batch_execute(
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                 SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD'; \
                 SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex'; SET extra_float_digits = 1",
            )
            .and_then(|()| set_timeouts(&mut connection, timeout))
            .map_err(SessionError::SetUp)?;
        Ok(Session::new(Connection::Postgres(connection), timeout))
    }
}

impl fmt::Display for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// How long a statement may take, wait for a lock, and leave a transaction open in between.
pub(super) fn set_timeouts(connection: &mut PgConnection, timeout: Duration) -> QueryResult<()> {
    let millis = timeout.as_millis().clamp(1, i32::MAX as u128);
    connection.batch_execute(&format!(
        "SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
         SET idle_in_transaction_session_timeout = {millis}"
    ))
}

/// Reads what has come in meanwhile, without asking: of a closed connection that is its end. Twice, as a server that
/// stops says so before it closes, and each look reads once.
pub(super) fn look_at(session: &mut Session) -> Result<(), SessionError> {
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "mysql")),
        expect(irrefutable_let_patterns, reason = "other builds have other kinds")
    )]
    let Connection::Postgres(connection) = &mut session.connection else { return Ok(()) };
    for _ in 0..2 {
        for notification in connection.notifications_iter() {
            notification.map_err(SessionError::Broken)?;
        }
    }
    Ok(())
}

impl QueryableByName<Pg> for Row {
    fn build<'a>(fields: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let field = |at: usize| match row::Row::get(fields, at) {
            Some(field) => field.value().map_or(Ok(Field::Null), read_field),
            None => Err("the row has fewer fields than it says".into()),
        };
        (0..row::Row::field_count(fields)).map(field).collect::<deserialize::Result<_>>().map(Self::new)
    }
}

/// Reads a field by its type: PostgreSQL sends each in its own binary format. The numbers are those of
/// `pg_type.dat`, which never change.
fn read_field(value: PgValue<'_>) -> deserialize::Result<Field> {
    Ok(match value.get_oid().get() {
        16 => Field::Bool(<bool as FromSql<sql_types::Bool, Pg>>::from_sql(value)?),
        20 => Field::Integer(<i64 as FromSql<sql_types::BigInt, Pg>>::from_sql(value)?),
        21 => Field::Integer(<i16 as FromSql<sql_types::SmallInt, Pg>>::from_sql(value)?.into()),
        23 => Field::Integer(<i32 as FromSql<sql_types::Integer, Pg>>::from_sql(value)?.into()),
        26 => Field::Integer(<u32 as FromSql<sql_types::Oid, Pg>>::from_sql(value)?.into()),
        700 => single(<f32 as FromSql<sql_types::Float, Pg>>::from_sql(value)?),
        701 => Field::Real(<f64 as FromSql<sql_types::Double, Pg>>::from_sql(value)?),
        17 => Field::Bytes(value.as_bytes().to_vec()),
        // "char", name, text, json, unknown, char(n), varchar: as they are.
        18 | 19 | 25 | 114 | 705 | 1042 | 1043 => text(value.as_bytes()),
        // jsonb: a version, then text.
        3802 => text(value.as_bytes().get(1..).unwrap_or_default()),
        oid => return Err(format!("a field has the type {oid}, which is not read: cast it to text").into()),
    })
}

fn text(bytes: &[u8]) -> Field {
    std::str::from_utf8(bytes).map_or(Field::InvalidText, |text| Field::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_can_not_leave_their_quotes() {
        let url = DatabaseUrl::new("postgres://m%27e:p%5C%27w@a,b:2/d%20b?connect_timeout=5");
        let conninfo = PostgresServer::new(&url).expect("valid").conninfo(Duration::from_secs(1));
        let start =
            r"host='a,b' port=',2' user='m\'e' password='p\\\'w' dbname='d b' application_name='ggcache' ";
        assert!(conninfo.starts_with(start), "{conninfo}");
        assert!(conninfo.ends_with("connect_timeout='5'"), "{conninfo}");
    }

    #[test]
    fn tls_is_never_left_out_silently() {
        for mode in TLS_REQUIRED {
            let url = DatabaseUrl::new(format!("postgres://me:secret@db/shop?sslmode={mode}"));
            let result = PostgresServer::new(&url);
            if cfg!(feature = "postgres-tls") {
                assert!(result.is_ok());
            } else {
                let error = result.expect_err("no TLS").to_string();
                assert!(error.contains("postgres-tls") && !error.contains("secret"), "{error}");
            }
        }
        assert!(PostgresServer::new(&DatabaseUrl::new("postgres://db/shop?sslmode=required")).is_err());
    }
}
