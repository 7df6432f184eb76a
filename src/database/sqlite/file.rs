//! Which file a SQLite URL means, and whether it is still the same one.

use std::{fmt::Write as _, fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::database::{DatabaseUrl, OpenError};

/// A database file, as it stands in the configuration: relative paths start at the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::database) struct DatabaseFile {
    path: String,
}

/// How a file may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::database) enum OpenMode {
    /// It must be there.
    Existing,
    /// It is created where it is missing.
    Create,
}

/// What tells a file from another of the same name. A file that is open keeps its number to itself, so
/// that a connection can see that its file was deleted or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::database) struct FileIdentity {
    device: u64,
    number: u64,
}

impl DatabaseFile {
    /// Reads `sqlite:FILE` and `sqlite://FILE`: `sqlite:school.db` and `sqlite://school.db` are relative,
    /// `sqlite:/var/school.db` and `sqlite:///var/school.db` are absolute. The path is taken literally,
    /// without percent-decoding.
    pub(in crate::database) fn from_url(url: &DatabaseUrl) -> Result<Self, OpenError> {
        let refuse = |reason: &str| Err(OpenError::Url { url: url.to_string(), reason: reason.to_owned() });
        if !url.scheme().eq_ignore_ascii_case("sqlite") {
            return refuse("it does not begin with sqlite:");
        }
        let rest = url.expose().split_once(':').map_or("", |(_, rest)| rest);
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match path {
            "" => refuse("it names no file: write sqlite:FILE"),
            ":memory:" => refuse("each connection would have an empty database of its own: name a file"),
            _ if path.contains('?') => refuse("it takes no options after a question mark"),
            _ if path.contains('\0') => refuse("the file name has a zero byte"),
            _ => Ok(Self { path: path.to_owned() }),
        }
    }

    /// The path as it was configured.
    pub(in crate::database) fn path(&self) -> &str {
        &self.path
    }

    /// The file's identity now.
    pub(in crate::database) fn identity(&self) -> io::Result<FileIdentity> {
        let metadata = fs::metadata(Path::new(&self.path))?;
        Ok(FileIdentity { device: metadata.dev(), number: metadata.ino() })
    }

    /// The file as a URI in SQLite's spelling (<https://sqlite.org/uri.html>), the only way to open a file
    /// through diesel without creating it.
    pub(in crate::database) fn uri(&self, mode: OpenMode) -> String {
        let mut uri = String::from("file:");
        if self.path.starts_with('/') {
            // An empty authority, so that a path which begins with two slashes is not taken for one.
            uri.push_str("//");
        }
        for byte in self.path.bytes() {
            if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                write!(uri, "%{byte:02X}").expect("a String takes any text");
            }
        }
        uri.push_str(match mode {
            OpenMode::Existing => "?mode=rw",
            OpenMode::Create => "?mode=rwc",
        });
        uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<String, String> {
        let file = DatabaseFile::from_url(&DatabaseUrl::new(url));
        file.map(|file| file.path).map_err(|error| error.to_string())
    }

    #[test]
    fn urls() {
        assert_eq!(read("sqlite:school.db").as_deref(), Ok("school.db"));
        assert_eq!(read("sqlite://school.db").as_deref(), Ok("school.db"));
        assert_eq!(read("sqlite:a/b c.db").as_deref(), Ok("a/b c.db"));
        assert_eq!(read("sqlite:/var/school.db").as_deref(), Ok("/var/school.db"));
        assert_eq!(read("sqlite:///var/school.db").as_deref(), Ok("/var/school.db"));
        for bad in ["", "school.db", "postgres://db/x", "sqlite:", "sqlite://", "sqlite::memory:"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("sqlite:a.db?mode=ro").expect_err("options").contains("question mark"));
        assert!(read("mysql://me:secret@db/x").is_err_and(|text| !text.contains("secret")));
    }

    #[test]
    fn uris_escape_what_means_something() {
        let uri = |path: &str| DatabaseFile { path: path.to_owned() }.uri(OpenMode::Existing);
        assert_eq!(uri("school.db"), "file:school.db?mode=rw");
        assert_eq!(uri("/a b/%41#?.db"), "file:///a%20b/%2541%23%3F.db?mode=rw");
        assert_eq!(uri("//x/y.db"), "file:////x/y.db?mode=rw");
        assert_eq!(uri("数.db"), "file:%E6%95%B0.db?mode=rw");
    }
}
