//! The shipped example, `config/ggcache.toml`, lists every key with its default.

use std::collections::{BTreeMap, BTreeSet};

use super::{SMALL, Sources, example, load, load_with};
use crate::settings::{Effective, Entry, KeyPath, Source};

/// Whether the line shows a key that is left out: `# key = value`.
fn is_shown_key(line: &str) -> bool {
    let Some((key, _)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) else {
        return false;
    };
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Whether the line shows the last part of this key in a comment.
fn shows(line: &str, key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    line.strip_prefix("# ")
        .and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.starts_with(" = "))
}

/// The value of every key, as the effective settings write it.
fn literals(effective: &Effective) -> BTreeMap<KeyPath, Option<String>> {
    effective.entries().iter().map(|entry| (entry.path.clone(), entry.literal.clone())).collect()
}

/// Keys that can't be given beside others: they are shown, and stay comments.
const INSTEAD: [&str; 2] = ["node.secret_file", "node.secret_previous_file"];

/// What the example sets for the demo, and what has no default.
const DEMO: [&str; 6] = [
    "default_group",
    "cluster.peers",
    "database.school.url",
    "group.scores.table",
    "group.scores.key_column",
    "group.scores.value_columns",
];

#[test]
fn the_example_is_right_as_it_is() {
    let loaded = load(&example()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.config.default_group.as_ref().map(|name| name.as_str()), Some("scores"));
    let peers: Vec<&str> = loaded.config.cluster.peers.iter().map(|peer| peer.as_str()).collect();
    assert_eq!(peers, ["localhost:10001", "localhost:10002", "localhost:10003"]);
    // One file serves three nodes on one machine.
    for port in 10_001..=10_003 {
        let config =
            load_with(&example(), Sources { port: Some(port), ..Sources::default() }).expect("right").config;
        assert!(config.cluster.peers.contains(&config.node.advertise));
    }
}

#[test]
fn the_example_lists_every_key_with_its_default() {
    // Keys that follow from others, or have no default, are shown in comments.
    let text: String = example()
        .lines()
        .map(|line| match is_shown_key(line) && !INSTEAD.iter().any(|key| shows(line, key)) {
            true => format!("{}\n", &line[2..]),
            false => format!("{line}\n"),
        })
        .collect();
    let shown = load(&text).unwrap_or_else(|faults| panic!("{faults}"));
    let defaults = load(SMALL).expect("it is right");
    let (values, expected) = (literals(&shown.effective), literals(&defaults.effective));

    let from_file = |entry: &&Entry| matches!(entry.source, Source::File { .. });
    let listed: BTreeSet<&KeyPath> =
        shown.effective.entries().iter().filter(from_file).map(|entry| &entry.path).collect();
    for (key, default) in &expected {
        let key_text = key.to_string();
        let is_shown =
            INSTEAD.contains(&key_text.as_str()) && text.lines().any(|line| shows(line, &key_text));
        assert!(is_shown || listed.contains(key), "the example does not list {key}");
        // An optional key is listed with some value, since it has no default that could be written.
        if !DEMO.contains(&key.to_string().as_str()) && default.is_some() {
            assert_eq!(&values[key], default, "the example's {key} is not the default");
        }
    }
    assert_eq!(values.len(), expected.len());
}

#[test]
fn the_example_says_something_on_every_key() {
    let text = example();
    let mut is_explained = false;
    for (number, line) in text.lines().enumerate() {
        assert!(line.len() <= 120, "line {} is long", number + 1);
        let is_key = is_shown_key(line) || (!line.starts_with('#') && line.contains(" = "));
        // The columns of a table are explained together, in one comment.
        let is_column = ["key_column", "value_columns"].iter().any(|column| line.starts_with(column));
        assert!(
            !is_key || is_explained || is_column,
            "line {}: {line:?} has no comment above it",
            number + 1
        );
        is_explained = line.starts_with("# ") && !is_shown_key(line);
    }
}
