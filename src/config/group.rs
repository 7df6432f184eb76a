//! `[group.NAME]`: a group's table and how its values are kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    database::DatabaseConfig,
    group::{GroupConfig, GroupName},
    limit::Rate,
    origin::TableConfig,
    settings::{Checks, Faults, Section, Settings, nearest},
};

/// The longest name of a table or column, in characters: the least that the databases agree on.
const IDENTIFIER_CHARS_MAX: usize = 63;
/// The most value columns of a group.
const VALUE_COLUMNS_MAX: usize = 256;

/// All that one `[group.NAME]` says.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSection {
    /// Where the values come from.
    pub table: TableConfig,
    /// How they are kept.
    pub group: GroupConfig,
    /// What may be asked of the group; `None` if that is what may be asked of each.
    pub rate: Option<Rate>,
}

impl GroupSection {
    pub(super) fn validate(&self) -> Result<(), Faults> {
        let table = validate_table(&self.table).err();
        let group = self.group.validate().err();
        Faults::or_ok(table.into_iter().chain(group).flatten().collect())
    }
}

/// Reads every `[group.NAME]`.
pub(super) fn read_all(
    settings: &mut Settings,
    databases: &BTreeMap<String, DatabaseConfig>,
) -> BTreeMap<GroupName, GroupSection> {
    let mut groups = BTreeMap::new();
    for name in settings.names(&["group"]) {
        let mut section = settings.section(&["group", &name]);
        // A section with a wrong name is read all the same, for the faults in it.
        let table = read_table(&mut section, databases);
        let group = GroupConfig::read(&mut section);
        let rate = section.optional_parsed("rate", Rate::EXPECTED);
        match GroupName::new(&name) {
            Ok(name) => {
                groups.insert(name, GroupSection { table, group, rate });
            }
            Err(error) => section.fault_here(error.to_string()),
        }
    }
    groups
}

fn read_table(section: &mut Section<'_>, databases: &BTreeMap<String, DatabaseConfig>) -> TableConfig {
    let table = TableConfig {
        database: read_database(section, databases),
        table: section.required_string("table", "students"),
        key_column: section.required_string("key_column", "name"),
        value_columns: section.required_strings("value_columns", "score"),
        writable: section.bool("writable", false),
    };
    section.check_sound(validate_table(&table));
    table
}

/// The name of the group's database, which may be left out where there is only one.
fn read_database(section: &mut Section<'_>, databases: &BTreeMap<String, DatabaseConfig>) -> String {
    let mut names = databases.keys();
    if let (Some(only), None) = (names.next(), names.next()) {
        return section.string("database", only);
    }
    let given = section.optional_string("database");
    if given.is_none() && !section.is_given("database") {
        let names: Vec<&str> = databases.keys().map(String::as_str).collect();
        section.fault(
            "database",
            if names.is_empty() {
                "there is no database; add one as [database.NAME] with its url".to_owned()
            } else {
                format!("it is missing: there are several databases; write one of {}", names.join(", "))
            },
        );
    }
    given.unwrap_or_default()
}

fn validate_table(table: &TableConfig) -> Result<(), Faults> {
    let mut checks = Checks::new();
    check_identifier(&mut checks, "table", &table.table);
    check_identifier(&mut checks, "key_column", &table.key_column);
    match table.value_columns.len() {
        0 => {
            checks.fault("value_columns", "the list is empty; write at least one column, such as [\"score\"]")
        }
        1..=VALUE_COLUMNS_MAX => {}
        count => {
            checks.fault(
                "value_columns",
                format!("there are {count} columns; write at most {VALUE_COLUMNS_MAX}"),
            );
        }
    }
    let mut seen = BTreeSet::new();
    for column in &table.value_columns {
        check_identifier(&mut checks, "value_columns", column);
        if !seen.insert(column) {
            checks.fault(
                "value_columns",
                format!("\"{}\" is there twice; write it once", column.escape_debug()),
            );
        }
    }
    checks.finish()
}

/// Quoting makes any name safe; this refuses what no database takes, or what was surely not meant.
fn check_identifier(checks: &mut Checks, key: &str, name: &str) {
    let count = name.chars().count();
    if name.trim().is_empty() {
        checks.fault(key, "the name is empty; write it as the database shows it");
    } else if count > IDENTIFIER_CHARS_MAX {
        checks.fault(key, format!("the name has {count} characters; write at most {IDENTIFIER_CHARS_MAX}"));
    } else if name.chars().any(char::is_control) {
        checks.fault(key, format!("\"{}\" holds a control character; write it without", name.escape_debug()));
    }
}

/// Says that `name` is none of `groups`.
pub(super) fn no_such_group(name: &str, groups: &BTreeMap<GroupName, GroupSection>) -> String {
    no_such("group", name, groups.keys().map(GroupName::as_str))
}

/// Says that there is no section `[kind.name]`, and which one may be meant.
pub(super) fn no_such<'a>(kind: &str, name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let shown: String = name.chars().take(IDENTIFIER_CHARS_MAX).collect();
    match nearest(name, names) {
        Some(near) => format!("there is no {kind} {shown:?}; did you mean \"{near}\"?"),
        None => format!("there is no {kind} {shown:?}; write the name of a [{kind}.NAME]"),
    }
}
