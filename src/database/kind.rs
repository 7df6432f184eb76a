//! The kinds of databases, and how they differ in what SQL looks like.

use std::fmt;

/// A kind of database, whether it is built in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatabaseKind {
    /// A SQLite file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

impl DatabaseKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Mysql];

    /// The kind that a URL's scheme names, in any case.
    pub fn from_scheme(scheme: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.schemes().iter().any(|known| scheme.eq_ignore_ascii_case(known)))
    }

    /// The schemes of its URLs, the usual one first.
    pub const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["sqlite"],
            Self::Postgres => &["postgres", "postgresql"],
            Self::Mysql => &["mysql", "mariadb"],
        }
    }

    /// Its name, which is also the feature that builds it in.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }

    /// Whether this build can open it.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Sqlite => cfg!(feature = "sqlite"),
            Self::Postgres => cfg!(feature = "postgres"),
            Self::Mysql => cfg!(feature = "mysql"),
        }
    }

    /// A kind that this build can open.
    pub fn example() -> Self {
        Self::ALL.into_iter().find(|kind| kind.is_built_in()).unwrap_or(Self::Sqlite)
    }

    /// A URL of this kind, to be shown as an example.
    pub const fn url_example(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite:school.db",
            Self::Postgres => "postgres://user:password@localhost/school",
            Self::Mysql => "mysql://user:password@localhost/school",
        }
    }

    /// A table's or column's name as SQL, whatever it contains.
    pub fn quoted(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
            Self::Mysql => format!("`{}`", name.replace('`', "``")),
        }
    }
}

impl fmt::Display for DatabaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_not_leave_their_quotes() {
        let name = "a\"b`c'; DROP TABLE t; --";
        assert_eq!(DatabaseKind::Sqlite.quoted(name), "\"a\"\"b`c'; DROP TABLE t; --\"");
        assert_eq!(DatabaseKind::Postgres.quoted(name), "\"a\"\"b`c'; DROP TABLE t; --\"");
        assert_eq!(DatabaseKind::Mysql.quoted(name), "`a\"b``c'; DROP TABLE t; --`");
    }

    #[test]
    fn schemes_in_any_case() {
        assert_eq!(DatabaseKind::from_scheme("PostgreSQL"), Some(DatabaseKind::Postgres));
        assert_eq!(DatabaseKind::from_scheme("mariadb"), Some(DatabaseKind::Mysql));
        assert_eq!(DatabaseKind::from_scheme("oracle"), None);
    }
}
