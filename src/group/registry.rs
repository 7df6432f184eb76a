//! The groups of one node, by name.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{Group, GroupName};

/// All groups of a node, and which one is meant where none is named.
#[derive(Debug, Default)]
pub struct Groups {
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
        let mut by_name = BTreeMap::new();
        for group in groups {
            let name = group.name().clone();
            if by_name.insert(name.clone(), group).is_some() {
                return Err(GroupsError::Duplicate(name));
            }
        }
        let default = match default {
            Some(name) => {
                Some(by_name.get(name).ok_or_else(|| GroupsError::NoSuchDefault(name.clone()))?.clone())
            }
            None if by_name.len() == 1 => by_name.values().next().cloned(),
            None => None,
        };
        Ok(Self { by_name, default })
    }

    /// The group of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Group>> {
        self.by_name.get(name)
    }

    /// The group that is meant where none is named.
    pub const fn default_group(&self) -> Option<&Arc<Group>> {
        self.default.as_ref()
    }

    /// All groups, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.by_name.values()
    }
}
