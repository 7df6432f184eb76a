//! Which key a request means: `/api/v1/groups/{group}/keys/{key}` or `/api?key=…&group=…`.
//!
//! The raw path is read here, since a key is any bytes: a router would decode it as text, or not at all.

use std::{borrow::Cow, sync::Arc};

use thiserror::Error;

use crate::{
    codec::{Base64UrlError, PercentError, base64url_decode, percent_decode, query_decode},
    error::ErrorCode,
    group::{Group, Groups, KeyError, check_key},
    problem::Problem,
};

/// A key of a group that exists.
#[derive(Debug)]
pub(super) struct KeyTarget<'a> {
    pub(super) group: Arc<Group>,
    pub(super) key: Cow<'a, [u8]>,
}

/// Why a path that should name a key doesn't.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum TargetError {
    #[error("{0}")]
    Percent(#[from] PercentError),
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("key_b64 is {0}")]
    Base64(#[from] Base64UrlError),
    #[error("the query names no key; write ?key=… or ?key_b64=…")]
    NoKey,
    #[error("the query gives {0} more than once")]
    Twice(&'static str),
    #[error("the query gives both key and key_b64; one of them is enough")]
    BothKeys,
    #[error("the group is not named, and there is no default group; add &group=…, one of: {0}")]
    NoGroup(String),
    #[error("there is no group of that name; there are: {0}")]
    UnknownGroup(String),
}

impl TargetError {
    /// Whether the message names groups, which not everybody may know of.
    pub(super) const fn names_groups(&self) -> bool {
        matches!(self, Self::NoGroup(_) | Self::UnknownGroup(_))
    }

    pub(super) fn into_problem(self) -> Problem {
        let code = match self {
            Self::UnknownGroup(_) => ErrorCode::GroupNotFound,
            _ => ErrorCode::BadRequest,
        };
        Problem::new(code, self.to_string())
    }
}

/// Whether a path is one that [`parse`] takes for a key's.
pub(super) fn is_of_key(path: &str) -> bool {
    key_in_path(path).is_some() || is_for_query(path)
}

/// The group and the key of a path, as they are written.
fn key_in_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/api/v1/groups/")?;
    // No name is no group's, as the table of routes has it.
    let (group, rest) = rest.split_once('/').filter(|(group, _)| !group.is_empty())?;
    Some((group, rest.strip_prefix("keys/")?))
}

fn is_for_query(path: &str) -> bool {
    matches!(path, "/api" | "/api/")
}

/// What the path and query mean; `None` if they are not about a key.
pub(super) fn parse<'a>(
    path: &'a str,
    query: Option<&'a str>,
    groups: &Groups,
) -> Option<Result<KeyTarget<'a>, TargetError>> {
    if let Some((group, key)) = key_in_path(path) {
        return Some(resource(group, key, groups));
    }
    is_for_query(path).then(|| in_query(query.unwrap_or_default(), groups))
}

fn resource<'a>(group: &str, key: &'a str, groups: &Groups) -> Result<KeyTarget<'a>, TargetError> {
    let name = group_name(group);
    let group = groups.get(&name).ok_or_else(|| unknown_group(groups))?;
    let key = percent_decode(key.as_bytes())?;
    check_key(&key)?;
    Ok(KeyTarget { group, key })
}

/// The group that a path names, by the templates of the routes; `None` if it names none.
pub(super) fn group_in_path(path: &str) -> Option<Cow<'_, str>> {
    let name = path.strip_prefix("/api/v1/groups/")?.split('/').next()?;
    (!name.is_empty()).then(|| group_name(name))
}

/// The name that a segment of a path means. It is decoded as the routes decode it: whatever is decided by a name goes for
/// every way of writing it. What is no text names no group, and stays as it is.
fn group_name(segment: &str) -> Cow<'_, str> {
    match percent_decode(segment.as_bytes()) {
        Ok(Cow::Owned(bytes)) => String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned),
        _ => Cow::Borrowed(segment),
    }
}

fn in_query<'a>(query: &'a str, groups: &Groups) -> Result<KeyTarget<'a>, TargetError> {
    let (mut key, mut key_b64, mut group) = (None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A parameter of another name is somebody else's: a cache-buster, for example.
        let slot = match &*query_decode(name.as_bytes())? {
            b"key" => (&mut key, "key"),
            b"key_b64" => (&mut key_b64, "key_b64"),
            b"group" => (&mut group, "group"),
            _ => continue,
        };
        if slot.0.replace(query_decode(value.as_bytes())?).is_some() {
            return Err(TargetError::Twice(slot.1));
        }
    }
    // What is wrong with the key is said before there is a look at the group: the answer tells nobody whether there is one.
    let key = match (key, key_b64) {
        (Some(key), None) => key,
        (None, Some(text)) => Cow::Owned(base64url_decode(&text)?),
        (Some(_), Some(_)) => return Err(TargetError::BothKeys),
        (None, None) => return Err(TargetError::NoKey),
    };
    // Before the group: what is said of a key must not tell whether there is a group.
    check_key(&key)?;
    let group = match group {
        Some(name) => {
            let name = std::str::from_utf8(&name).map_err(|_| unknown_group(groups))?;
            groups.get(name).ok_or_else(|| unknown_group(groups))?
        }
        None => groups.default_group().ok_or_else(|| TargetError::NoGroup(names(groups)))?,
    };
    Ok(KeyTarget { group, key })
}

fn unknown_group(groups: &Groups) -> TargetError {
    TargetError::UnknownGroup(names(groups))
}

/// The first groups' names, for a hint; a node may have many.
fn names(groups: &Groups) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = groups.iter().map(|group| group.name().to_string()).take(SHOWN + 1).collect();
    if names.len() > SHOWN {
        "…".clone_into(&mut names[SHOWN]);
    }
    names.join(", ")
}

/// The key of a query on its own (`/api/v1/cluster/owner`), by the same rules.
pub(super) fn key_in_query<'a>(query: &'a str, groups: &Groups) -> Result<KeyTarget<'a>, TargetError> {
    in_query(query, groups)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::group::{GroupConfig, GroupName, GroupParts, GroupSettings};
    use crate::origin::MapLoader;

    fn groups(names: &[&str]) -> Groups {
        let group = |name: &&str| {
            let name = GroupName::new(name).expect("valid");
            let parts = GroupParts::alone(MapLoader::default());
            Group::new(name, GroupConfig::default(), GroupSettings::default(), parts)
        };
        Groups::new(names.iter().map(group), None).expect("distinct")
    }

    fn key(target: &str, groups: &Groups) -> Result<(String, Vec<u8>), String> {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        match parse(path, query, groups) {
            None => Err("no key".to_owned()),
            Some(Ok(target)) => Ok((target.group.name().to_string(), target.key.into_owned())),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn keys_in_paths_are_everything_after_keys_decoded_once() {
        let groups = groups(&["scores"]);
        for (path, bytes) in [
            ("a", b"a".as_slice()),
            ("a/b//c", b"a/b//c"),
            ("a%2Fb", b"a/b"),
            ("a+b", b"a+b"),
            ("a%20b", b"a b"),
            ("%2520", b"%20"),
            ("%2e%2e", b".."),
            ("keys/keys/", b"keys/keys/"),
            ("%ff%00", b"\xff\0"),
            ("%E5%BC%A0%E4%B8%89", "张三".as_bytes()),
        ] {
            let found = key(&format!("/api/v1/groups/scores/keys/{path}"), &groups);
            assert_eq!(found, Ok(("scores".to_owned(), bytes.to_vec())), "{path}");
        }
    }

    #[test]
    fn keys_in_queries() {
        let groups = groups(&["scores"]);
        for (query, bytes) in [
            ("key=a+b", b"a b".as_slice()),
            ("key=..", b".."),
            ("key_b64=Li4", b".."),
            ("key_b64=Li4%3D", b".."),
            ("group=scores&key=x&_=1", b"x"),
        ] {
            assert_eq!(
                key(&format!("/api?{query}"), &groups),
                Ok(("scores".to_owned(), bytes.to_vec())),
                "{query}"
            );
            assert_eq!(key(&format!("/api/?{query}"), &groups).expect("valid").1, bytes);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let one = groups(&["scores"]);
        for (target, message) in [
            ("/api", "names no key"),
            ("/api?group=scores", "names no key"),
            ("/api?key=", "the key is empty"),
            ("/api/v1/groups/scores/keys/", "the key is empty"),
            ("/api?key=a&key=b", "gives key more than once"),
            ("/api?key=a&key_b64=YQ", "both key and key_b64"),
            ("/api?key_b64=!", "not base64url"),
            ("/api?key=%zz", "byte 0"),
            ("/api?key=a&group=nobody", "there are: scores"),
            ("/api?key=a&group=%ff", "there are: scores"),
            ("/api/v1/groups/nobody/keys/a", "there are: scores"),
            (&format!("/api?key={}", "a".repeat(1025)), "1025 bytes"),
        ] {
            let error = key(target, &one).expect_err(target);
            assert!(error.contains(message), "{target}: {error}");
        }
        let two = groups(&["a", "b"]);
        assert!(key("/api?key=x", &two).expect_err("ambiguous").contains("one of: a, b"));
    }

    #[test]
    fn other_paths_are_not_about_keys() {
        let groups = groups(&["scores"]);
        for path in [
            "/",
            "/apis",
            "/api/v1/groups",
            "/api/v1/groups//keys/a",
            "/api/v1/groups/scores",
            "/api/v1/groups/scores/keys",
        ] {
            assert_eq!(key(path, &groups), Err("no key".to_owned()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(path in "\\PC*", query in "\\PC*") {
            let groups = groups(&["scores"]);
            let _ = parse(&path, Some(&query), &groups);
            let _ = parse(&format!("/api/v1/groups/{path}"), None, &groups);
            let _ = parse("/api", Some(&query), &groups);
        }
    }
}
