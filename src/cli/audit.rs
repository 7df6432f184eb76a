//! `ggcache audit`: compares what nodes answer with what the database says, and names the keys at which they are wrong.

mod compare;

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead as _},
    os::unix::ffi::OsStrExt as _,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use self::compare::{Compared, Said, Sides, Wrong, compare};
use super::{EXIT_WRONG, args::AuditArguments, complain, print, reach, tell};
use crate::{
    app::AuditTable,
    client::{Client, Endpoint},
    cluster::place,
    codec::base64url_encode,
    config::Config,
    group::{GroupName, Key},
};

/// Failures of a group that are told one by one.
const FAILURES_TOLD: usize = 3;

/// Audits what `arguments` name. Exit code 0 if nothing is inconsistent, 1 if something is, 2 if it could not be told.
pub(super) fn run(arguments: &AuditArguments, config: &Config) -> ExitCode {
    let done = audit_all(arguments, config).and_then(|audited| {
        print(&report(&audited))?;
        Ok(audited)
    });
    let audited = match done {
        Ok(audited) => audited,
        Err(error) => {
            complain([format!("{error:#}")]);
            return ExitCode::from(EXIT_WRONG);
        }
    };
    for Audited { group, compared, .. } in &audited {
        let told = compared.failed.iter().take(FAILURES_TOLD);
        complain(told.map(|failure| format!("group {group}: {failure}")));
    }
    if audited.iter().any(|audited| !audited.compared.inconsistent.is_empty()) {
        tell(ADVICE);
        return ExitCode::FAILURE;
    }
    if audited.iter().any(|audited| !audited.compared.failed.is_empty()) {
        return ExitCode::from(EXIT_WRONG);
    }
    ExitCode::SUCCESS
}

const ADVICE: &str = "\
a change did not come to these nodes: `ggcache check` tells of changes that triggers don't see, `ggcache changes status`\n\
of triggers that are missing; POST /api/v1/groups/GROUP/keys:invalidate has every node drop the keys\n";

/// What the audit of one group came to.
struct Audited {
    group: GroupName,
    nodes: Vec<Endpoint>,
    keys: usize,
    compared: Compared,
}

fn audit_all(arguments: &AuditArguments, config: &Config) -> anyhow::Result<Vec<Audited>> {
    let groups = groups(arguments, config)?;
    let given = given(&arguments.given, arguments.key_b64)?;
    let builder = || reach::builder(&arguments.reach);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("can't start the runtime")?;
    let audited = runtime.block_on(async {
        let nodes = reach::each(&arguments.reach, config).await?;
        let clients = nodes.iter().map(|node| Ok(builder()?.addresses([node.clone()]).build()?));
        let clients = clients.collect::<anyhow::Result<Vec<Client>>>()?;
        let mut all = Vec::new();
        for group in groups {
            let table = AuditTable::open(config, &group).await?;
            let keys = if arguments.given.is_empty() {
                table.sample(arguments.keys as usize).await.with_context(|| format!("group {group}"))?
            } else {
                given.clone()
            };
            let bound = arguments.patience.unwrap_or_else(|| table.bound());
            let sides = Cluster { group: &group, clients: &clients, table: &table };
            let compared = compare(&sides, nodes.len(), &keys, bound).await;
            all.push(Audited { group, nodes: nodes.clone(), keys: keys.len(), compared });
        }
        anyhow::Ok(all)
    });
    // A query that is still running has a thread, which a runtime that is merely dropped would wait for.
    runtime.shutdown_background();
    audited
}

/// The groups that are meant.
fn groups(arguments: &AuditArguments, config: &Config) -> anyhow::Result<Vec<GroupName>> {
    if arguments.given.is_empty() && arguments.group.is_none() {
        anyhow::ensure!(!config.groups.is_empty(), "no group is configured");
        return Ok(config.groups.keys().cloned().collect());
    }
    let group = reach::group(arguments.group.as_ref(), config).map_err(anyhow::Error::msg)?;
    Ok(vec![group])
}

/// The keys that the command line and standard input name, each once.
fn given(words: &[OsString], is_b64: bool) -> anyhow::Result<Vec<Key>> {
    let key = |given: &OsStr| reach::key(given, is_b64).map_err(anyhow::Error::msg);
    let mut keys = Vec::new();
    for word in words {
        if word != "-" {
            keys.push(key(word)?);
            continue;
        }
        for line in io::stdin().lock().split(b'\n') {
            let line = line.context("standard input can't be read")?;
            if !line.is_empty() {
                keys.push(key(OsStr::from_bytes(&line))?);
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// One group, at its nodes and in its database.
struct Cluster<'a> {
    group: &'a GroupName,
    clients: &'a [Client],
    table: &'a AuditTable,
}

impl Sides for Cluster<'_> {
    async fn ask(&self, node: usize, key: &Key) -> Said {
        let fetched = self.clients[node].get(self.group, key).await;
        let fetched = fetched.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        Ok(fetched.map(|fetched| fetched.bytes))
    }

    async fn load(&self, keys: &[Key]) -> Vec<Said> {
        let said = self.table.load(keys).await.into_iter().map(|loaded| {
            let value = loaded.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
            Ok(value.map(|value| value.bytes().clone()))
        });
        said.collect()
    }

    fn waits(&self, differing: usize, bound: Duration) {
        let Self { group, table, .. } = self;
        let by = if table.is_logged() { "" } else { ", since no log of changes has its table" };
        tell(&format!(
            "group {group}: {differing} reads differ, which may be so for {bound:?}{by}; they are looked at again then\n"
        ));
    }
}

/// The table, and below it what is inconsistent.
fn report(audited: &[Audited]) -> String {
    const HEAD: [&str; 8] = ["group", "keys", "nodes", "reads", "equal", "changed", "inconsistent", "failed"];
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(audited.iter().map(|Audited { group, nodes, keys, compared }| {
        let Compared { equal, changed, inconsistent, failed } = compared;
        let (reads, wrong) = (keys * nodes.len(), inconsistent.len());
        let numbers = [*keys as u64, nodes.len() as u64, reads as u64, *equal, *changed, wrong as u64];
        let [keys, nodes, reads, equal, changed, wrong] = numbers.map(|number| number.to_string());
        [group.to_string(), keys, nodes, reads, equal, changed, wrong, failed.len().to_string()]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        text += &format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        text += "\n";
    }
    for Audited { group, nodes, compared, .. } in audited {
        for wrong in &compared.inconsistent {
            text += &describe(group, &nodes[wrong.node], wrong);
        }
    }
    text
}

/// What is wrong at one key. The values may be anybody's secrets, and are left out.
fn describe(group: &GroupName, node: &Endpoint, wrong: &Wrong) -> String {
    let Wrong { key, answer, row, .. } = wrong;
    let said = |said: Option<usize>| match said {
        Some(1) => "a value of 1 byte".to_owned(),
        Some(length) => format!("a value of {length} bytes"),
        None => "no such key".to_owned(),
    };
    let (answer, row) = (answer.as_ref().map(|bytes| bytes.len()), row.as_ref().map(|bytes| bytes.len()));
    let name = match std::str::from_utf8(key.as_bytes()) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("{} (base64url)", base64url_encode(key.as_bytes())),
    };
    let other =
        if answer.is_some() && answer == row { "another value of as many".to_owned() } else { said(row) };
    format!(
        "inconsistent: group {group}, key {name}, key.hash {}, {node}: it answers {}; the database has {other}\n",
        place(group.as_str(), key.as_bytes()),
        said(answer)
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_report_names_what_is_wrong_and_shows_no_value() {
        let wrong = |node, key: &[u8], answer: Option<&'static str>, row: Option<&'static str>| Wrong {
            node,
            key: Key::new(key).expect("a key"),
            answer: answer.map(Bytes::from),
            row: row.map(Bytes::from),
        };
        let audited = |group, keys, inconsistent: Vec<Wrong>| Audited {
            group: GroupName::new(group).expect("a name"),
            nodes: ["http://a:1", "http://b:1"].map(|node| node.parse().expect("an endpoint")).to_vec(),
            keys,
            compared: Compared { equal: 1_000, changed: 2, inconsistent, failed: vec![] },
        };
        let scores = vec![
            wrong(0, "张三".as_bytes(), Some("secret"), Some("hidden")),
            wrong(1, b"\xff\n", None, Some("secret")),
            wrong(1, b"a\n", Some("secret"), None),
        ];
        let text = report(&[audited("scores", 503, scores), audited("a_long_name", 1, vec![])]);
        let expected = "\
group        keys  nodes  reads  equal  changed  inconsistent  failed
scores        503      2   1006   1000        2             3       0
a_long_name     1      2      2   1000        2             0       0
inconsistent: group scores, key \"张三\", key.hash ";
        assert!(text.starts_with(expected), "{text}");
        for part in [
            ", http://a:1: it answers a value of 6 bytes; the database has another value of as many\n",
            "key _wo (base64url), key.hash ",
            ", http://b:1: it answers no such key; the database has a value of 6 bytes\n",
            "key \"a\\n\", key.hash ",
            ", http://b:1: it answers a value of 6 bytes; the database has no such key\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }
}
