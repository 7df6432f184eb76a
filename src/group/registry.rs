//! The groups of one node, by name. More may come while the node runs; none goes.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use thiserror::Error;

use super::{Group, GroupName};

/// All groups of a node, and which one is meant where none is named.
#[derive(Debug, Default)]
pub struct Groups(ArcSwap<Registered>);

/// Exchanged whole. A group that was there stays the same one.
#[derive(Clone, Debug, Default)]
struct Registered {
    by_name: BTreeMap<GroupName, Arc<Group>>,
    default: Option<Arc<Group>>,
}

/// Why groups don't make a registry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupsError {
    #[error("two groups are named {0}")]
    Duplicate(GroupName),
    #[error("the default group {0} is not among the groups")]
    NoSuchDefault(GroupName),
}

impl Groups {
    /// A registry of `groups`. A request that names no group means `default`, or the only group there is.
    ///
    /// # Errors
    /// If two groups share a name, or `default` is none of them.
    pub fn new(
        groups: impl IntoIterator<Item = Arc<Group>>,
        default: Option<&GroupName>,
    ) -> Result<Self, GroupsError> {
        Ok(Self(ArcSwap::from_pointee(Registered::default().with(groups, default)?)))
    }

    /// Adds groups. Where there was a default group it stays; else `default` is it, or the only group that there is now.
    ///
    /// # Errors
    /// As [`new`](Self::new). Then nothing has changed.
    pub fn add(
        &self,
        groups: impl IntoIterator<Item = Arc<Group>>,
        default: Option<&GroupName>,
    ) -> Result<(), GroupsError> {
        let registered = Registered::clone(&self.0.load()).with(groups, default)?;
        self.0.store(Arc::new(registered));
        Ok(())
    }

    /// The group of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Group>> {
        self.0.load().by_name.get(name).cloned()
    }

    /// The group that is meant where none is named.
    pub fn default_group(&self) -> Option<Arc<Group>> {
        self.0.load().default.clone()
    }

    /// All groups of this moment, by name.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Group>> + use<> {
        self.0.load().by_name.values().cloned().collect::<Vec<_>>().into_iter()
    }
}

impl Registered {
    fn with(
        mut self,
        groups: impl IntoIterator<Item = Arc<Group>>,
        default: Option<&GroupName>,
    ) -> Result<Self, GroupsError> {
        for group in groups {
            let name = group.name().clone();
            if self.by_name.insert(name.clone(), group).is_some() {
                return Err(GroupsError::Duplicate(name));
            }
        }
        if self.default.is_none() {
            self.default = match default {
                Some(name) => {
                    let found = self.by_name.get(name).cloned();
                    Some(found.ok_or_else(|| GroupsError::NoSuchDefault(name.clone()))?)
                }
                None if self.by_name.len() == 1 => self.by_name.values().next().cloned(),
                None => None,
            };
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        group::{GroupConfig, GroupParts, GroupSettings},
        origin::MapLoader,
    };

    fn group(name: &str) -> Arc<Group> {
        let name = GroupName::new(name).expect("a name");
        let parts = GroupParts::alone(MapLoader::default());
        Group::new(name, GroupConfig::default(), GroupSettings::default(), parts)
    }

    #[tokio::test]
    async fn groups_come_and_the_others_stay_the_same() {
        let groups = Groups::new([group("b")], None).expect("one group");
        let before = groups.get("b").expect("it is there");
        groups.add([group("a"), group("c")], None).expect("new names");
        assert!(Arc::ptr_eq(&before, &groups.get("b").expect("it is still there")));
        assert!(Arc::ptr_eq(&before, &groups.default_group().expect("as before")));
        let names: Vec<_> = groups.iter().map(|group| group.name().to_string()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let twice = groups.add([group("d"), group("a")], None).expect_err("there is one already");
        assert!(matches!(twice, GroupsError::Duplicate(name) if name.as_str() == "a"));
        assert!(groups.get("d").is_none(), "all or nothing");
    }

    #[tokio::test]
    async fn a_default_group_comes_where_there_was_none() {
        let groups = Groups::default();
        groups.add([group("a")], None).expect("new");
        assert_eq!(groups.default_group().expect("the only one").name().as_str(), "a");
        let groups = Groups::new([group("a"), group("b")], None).expect("two groups");
        let missing = GroupName::new("x").expect("a name");
        assert_eq!(groups.add([], Some(&missing)).err(), Some(GroupsError::NoSuchDefault(missing)));
        assert!(groups.default_group().is_none());
        groups.add([], Some(&GroupName::new("b").expect("a name"))).expect("it is there");
        assert_eq!(groups.default_group().expect("named").name().as_str(), "b");
    }
}
