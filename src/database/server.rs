//! URLs of database servers: `scheme://user:password@host:port/database?option=value`.
//!
//! Read by ourselves before a client library sees it, since libraries repeat what they do not understand of a URL in
//! their messages, and that may be half a password. No message of this file shows any part of a URL but the names of
//! known options.

use std::fmt;

use super::{DatabaseKind, DatabaseUrl, OpenError};
use crate::codec::percent_decode;

/// A server's URL, in parts. `Debug` and `Display` show neither user, password nor options.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    kind: DatabaseKind,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// Names, addresses or directories of sockets; several only where the kind allows it, none for the library's default.
    pub(super) hosts: Vec<Host>,
    pub(super) database: Option<String>,
    /// By name, which is one of the known ones.
    pub(super) options: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

impl ServerUrl {
    /// Reads `url`, which may have the options `known`.
    pub(super) fn parse(
        kind: DatabaseKind,
        url: &DatabaseUrl,
        known: &[&'static str],
    ) -> Result<Self, OpenError> {
        Self::read(kind, url.expose(), known)
            .map_err(|reason| OpenError::Url { url: url.to_string(), reason })
    }

    fn read(kind: DatabaseKind, url: &str, known: &[&'static str]) -> Result<Self, String> {
        let form = || format!("write it as {}", kind.url_example());
        let (_, rest) = url.split_once("://").ok_or_else(form)?;
        if rest.contains('#') {
            return Err("a # is written %23".to_owned());
        }
        let (before, options) =
            rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        if options.is_some_and(|options| options.contains('@')) {
            return Err(
                "in user and password a ? is written %3F, and in options an @ is written %40".to_owned()
            );
        }
        let (authority, database) =
            before.split_once('/').map_or((before, None), |(authority, path)| (authority, Some(path)));
        if database.is_some_and(|database| database.contains(['/', '@'])) {
            return Err("a / in user, password, host or database is written %2F, and an @ %40".to_owned());
        }
        let (login, hosts) = authority.split_once('@').map_or((None, authority), |(l, h)| (Some(l), h));
        if hosts.contains('@') {
            return Err("an @ in user or password is written %40".to_owned());
        }
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (text(user, "user")?, text(password, "password")?),
            None => (None, None),
        };
        let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(host).collect::<Result<_, _>>()?;
        Ok(Self {
            kind,
            user,
            password,
            hosts,
            database: text(database.unwrap_or_default(), "database")?,
            options: read_options(options.unwrap_or_default(), known)?,
        })
    }

    /// The value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// What no message may hold.
    pub(super) fn secrets(&self) -> Vec<String> {
        let of_options = self
            .options
            .iter()
            .filter(|(name, _)| name.ends_with("password"))
            .map(|(_, value)| value.clone());
        self.password.iter().cloned().chain(of_options).collect()
    }
}

/// Decodes a part; `None` if it is empty.
fn text(part: &str, what: &str) -> Result<Option<String>, String> {
    let decoded = percent_decode(part.as_bytes()).map_err(|_| {
        format!("in its {what} a % is not followed by two hexadecimal digits: a % is written %25")
    })?;
    let text = String::from_utf8(decoded.into_owned()).map_err(|_| format!("its {what} is not UTF-8"))?;
    if text.contains('\0') {
        return Err(format!("its {what} has a zero byte"));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn host(part: &str) -> Result<Host, String> {
    let (name, port) = match part.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("its host begins with [ and has no ]")?;
            (address, after.strip_prefix(':').or((!after.is_empty()).then_some("x")))
        }
        None => part.split_once(':').map_or((part, None), |(name, port)| (name, Some(port))),
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err("its port is no number from 1 to 65535".to_owned()),
            Ok(port) => Some(port),
        },
    };
    Ok(Host { name: text(name, "host")?.unwrap_or_default(), port })
}

fn read_options(query: &str, known: &[&'static str]) -> Result<Vec<(&'static str, String)>, String> {
    let mut options = Vec::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let Some(name) = known.iter().find(|known| **known == name) else {
            return Err(format!("it has an option that is not known; there are: {}", known.join(", ")));
        };
        if options.iter().any(|(given, _)| given == name) {
            return Err(format!("it has the option {name} twice"));
        }
        options.push((*name, text(value, name)?.unwrap_or_default()));
    }
    Ok(options)
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.kind.as_str())?;
        for (at, Host { name, port }) in self.hosts.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if name.contains(':') {
                write!(f, "{comma}[{name}]")?
            } else {
                write!(f, "{comma}{name}")?
            }
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.database.as_deref().unwrap_or_default())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<ServerUrl, String> {
        ServerUrl::read(DatabaseKind::Postgres, url, &["sslmode", "sslpassword"])
    }

    #[test]
    fn parts() {
        let url = read("postgres://me:p%40s%20s@db.example:5433/my%2Fshop?sslmode=require").expect("valid");
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("me"), Some("p@s s")));
        assert_eq!(url.hosts, [Host { name: "db.example".into(), port: Some(5433) }]);
        assert_eq!(url.database.as_deref(), Some("my/shop"));
        assert_eq!(url.option("sslmode"), Some("require"));
        assert_eq!(url.to_string(), "postgres://db.example:5433/my/shop");
        let url = read("postgresql://[::1]:1,%2Frun%2Fpg").expect("valid");
        let hosts = [("::1", Some(1)), ("/run/pg", None)];
        assert_eq!(url.hosts, hosts.map(|(name, port)| Host { name: name.into(), port }));
        assert_eq!((url.user.clone(), url.password.clone(), url.database.clone()), (None, None, None));
        assert_eq!(format!("{url:?}"), "ServerUrl(postgres://[::1]:1,/run/pg/)");
        assert_eq!(read("postgres://").expect("all by the library's defaults").hosts, []);
    }

    #[test]
    fn a_password_that_is_not_encoded_is_not_repeated() {
        for url in [
            "postgres://me:s/cret@db/shop",
            "postgres://me:s?cret@db/shop",
            "postgres://me:s#cret@db/shop",
            "postgres://me:s@cret@db/shop",
            "postgres://me:s%cret@db/shop",
            "postgres://me:x@db:s-cret/shop",
            "postgres://me@db/shop?s-cret=1",
            "postgres:me:s-cret@db",
        ] {
            let error = read(url).expect_err(url);
            assert!(!error.contains("cret"), "{error}");
        }
        let url = read("postgres://me:secret@db/shop?sslpassword=other").expect("valid");
        assert_eq!(url.secrets(), ["secret", "other"]);
        assert!(!format!("{url:?} {url}").contains("secret"));
        assert!(read("postgres://db/x?sslmode=a&sslmode=b").expect_err("twice").contains("sslmode twice"));
    }
}
