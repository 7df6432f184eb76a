//! The keys themselves: defaults, bounds, sources, and what must agree.

mod example;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;

use super::{ApiAddress, Config, FlagSetting, Loaded, Sources};
use crate::{
    database::DatabaseKind,
    group::GroupConfig,
    net::{TlsConfig, TlsPlane},
    settings::{Faults, Source},
};

/// A configuration that is right and says no more than it must.
const SMALL: &str = r#"
[database.school]
url = "sqlite:school.db"
[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
"#;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join("ggcache.toml");
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

fn env(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn set(key: &str, value: &str) -> FlagSetting {
    FlagSetting { key: key.to_owned(), value: value.to_owned(), flag: "--set".to_owned() }
}

fn load_with(text: &str, sources: Sources) -> Result<Loaded, Faults> {
    let files = Files::new();
    Config::load(Sources { file: Some(files.write(text)), ..sources })
}

fn load(text: &str) -> Result<Loaded, Faults> {
    load_with(text, Sources::default())
}

/// The faults of `text`, without the folder that the file lies in.
fn faults(text: &str) -> String {
    faults_with(text, Sources::default())
}

fn faults_with(text: &str, sources: Sources) -> String {
    let faults = match load_with(text, sources) {
        Ok(_) => panic!("there should be faults in\n{text}"),
        Err(faults) => faults.to_string(),
    };
    let short = |line: &str| match (line.find(" (from /"), line.find("ggcache.toml")) {
        (Some(start), Some(end)) => format!("{} (from {}", &line[..start], &line[end..]),
        _ => line.to_owned(),
    };
    faults.lines().map(short).collect::<Vec<_>>().join("\n")
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/ggcache.toml");
    std::fs::read_to_string(path).expect("the example is shipped")
}

#[test]
fn nothing_is_the_default() {
    let loaded = Config::load(Sources::default()).expect("the defaults are right");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.config.validate(), Ok(()));
    assert_eq!(loaded.file, None);
    assert!(loaded.effective.entries().iter().all(|entry| entry.source == Source::Default));
}

#[test]
fn a_small_file_is_enough() {
    let config = load(SMALL).expect("it is right").config;
    assert_eq!(config.validate(), Ok(()));
    let section = &config.groups["scores"];
    assert_eq!(section.group, GroupConfig::default());
    assert_eq!(section.table.database, "school");
    assert_eq!(section.table.value_columns, ["score"]);
    assert_eq!(config.databases["school"].url.expose(), "sqlite:school.db");
    assert_eq!(config.databases["school"].max_connections, 8);
    assert_eq!(config.databases["school"].statement_timeout, Duration::from_secs(1));
}

#[test]
fn a_configuration_without_a_file() {
    let env = env(&[
        ("GGCACHE__DATABASE__SCHOOL__URL", "sqlite:school.db"),
        ("GGCACHE__GROUP__SCORES__TABLE", "students"),
        ("GGCACHE__GROUP__SCORES__KEY_COLUMN", "name"),
        ("GGCACHE__GROUP__SCORES__VALUE_COLUMNS", "score"),
        ("GGCACHE__CLUSTER__PEERS", "localhost:10001,localhost:10002"),
        ("GGCACHE_CONFIG", "not ours"),
    ]);
    let flags = vec![set("group.scores.ttl", "5s")];
    let config = Config::load(Sources { env, flags, ..Sources::default() }).expect("it is right").config;
    assert_eq!(config.groups["scores"].group.ttl, Duration::from_secs(5));
    assert_eq!(config.cluster.peers.len(), 2);
}

#[test]
fn every_value_has_its_source() {
    let env = env(&[("GGCACHE__GROUP__SCORES__TTL", "20s"), ("GGCACHE__GROUP__SCORES__POLICY", "lfu")]);
    let flags = vec![set("group.scores.policy", "fifo")];
    let loaded = load_with(SMALL, Sources { env, flags, ..Sources::default() }).expect("it is right");
    let text = loaded.effective.to_string();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert_eq!(line("ttl ="), "ttl = \"20s\"  # environment GGCACHE__GROUP__SCORES__TTL");
    assert_eq!(line("policy ="), "policy = \"fifo\"  # flag --set");
    assert_eq!(line("memory ="), "memory = \"256MiB\"  # default");
    assert!(line("table =").ends_with("ggcache.toml line 5"), "{text}");
    assert_eq!(line("# content_type"), "# content_type is not set");
    assert_eq!(loaded.file.as_deref().and_then(Path::file_name), Some("ggcache.toml".as_ref()));
}

#[test]
fn the_effective_settings_load_as_the_same_configuration() {
    let text = format!(
        "default_group = \"scores\"\nnode.memory = \"1GiB\"\nlog.file = \"a \\\"b\\\"\\\\c\"\n{SMALL}\
         content_type = \"text/plain; x=\\\"y\\\"\"\nttl = \"90s\"\n[cluster]\nallowed_peers = [\"10.1.2.3/8\"]\n"
    );
    let sources = Sources { port: Some(12_000), api: Some(ApiAddress::Port(0)), ..Sources::default() };
    let first = load_with(&text, sources).expect("it is right");
    let again = load(&first.effective.to_string()).expect("the effective settings are right");
    assert_eq!(again.config, first.config);
}

#[test]
fn each_bound_is_reported_with_what_is_right() {
    let socket = "an ip address with a port; write for example \"127.0.0.1:10001\"";
    let address = "an address that peers can dial; write for example \"localhost:10001\"";
    let cases = [
        ("node.listen", "\"localhost:1\"", format!("\"localhost:1\" is not {socket}")),
        (
            "node.listen",
            "\"127.0.0.1:0\"",
            "port 0 means any port, and peers need a known one; write for example \"127.0.0.1:10001\"".to_owned(),
        ),
        ("node.advertise", "\"localhost\"", format!("\"localhost\" is not {address}")),
        ("node.advertise", "\"0.0.0.0:1\"", format!("\"0.0.0.0:1\" is not {address}")),
        ("node.weight", "0", "0 is out of range; write 1 to 100".to_owned()),
        ("node.weight", "101", "101 is out of range; write 1 to 100".to_owned()),
        (
            "node.weight",
            "2",
            "2 can't be told to the other nodes: a static list of peers has no weights; write 1".to_owned(),
        ),
        ("node.memory", "\"1KiB\"", "\"1KiB\" is out of range; write \"64KiB\" to \"1PiB\"".to_owned()),
        ("api.listen", "\":8000\"", format!("\":8000\" is not {socket}")),
        ("cluster.discovery", "\"dns\"", "\"dns\" is not one of static, etcd".to_owned()),
        ("cluster.service", "\"a/\"", "it is not 1 to 128 of a-z, A-Z, 0-9, _, -, . and single slashes inside; write for example \"GGroupCache\"".to_owned()),
        ("etcd.lease_ttl", "\"1s\"", "\"1s\" is out of range; write \"2s\" to \"1h\"".to_owned()),
        ("etcd.endpoints", "[]", "the list is empty; write for example [\"http://127.0.0.1:2379\"]".to_owned()),
        (
            "limits.rate.client",
            "\"100\"",
            "\"100\" is not a rate of at most 1000000/s whose bucket fills within a day; write for example \"100/s\", \
             \"100/s burst 200\", or \"0\" for no limit"
                .to_owned(),
        ),
        ("limits.rate.clients_max", "1", "1 is out of range; write 16 to 10000000".to_owned()),
        ("limits.rate.share", "\"all\"", "\"all\" is not one of node, cluster".to_owned()),
        (
            "limits.rate.trusted_proxies",
            "[\"0.0.0.0/0\"]",
            "\"0.0.0.0/0\" is not an address or a network of proxies, which can't be everybody; write for example \
             \"10.0.0.0/8\""
                .to_owned(),
        ),
        ("cluster.peers", "[\"localhost\"]", "\"localhost\" is not an address; write for example \"localhost:10001\"".to_owned()),
        (
            "cluster.peers",
            "[\"10.0.0.1:1\"]",
            "\"10.0.0.1:1\" is not in cluster.allowed_peers; add \"10.0.0.1\" there".to_owned(),
        ),
        (
            "cluster.allowed_peers",
            "[\"169.254.169.254\"]",
            "\"169.254.169.254\" is not an address, a network or a host name outside link-local; \
             write for example \"10.0.0.0/8\""
                .to_owned(),
        ),
        ("cluster.peer_timeout", "0", "\"0s\" is out of range; write \"1ms\" to \"1m\"".to_owned()),
        ("cluster.failover_ttl", "\"2h\"", "\"2h\" is out of range; write \"0s\" to \"1h\"".to_owned()),
        ("log.format", "\"jsn\"", "\"jsn\" is not one of text, json; did you mean json?".to_owned()),
        (
            "log.level",
            "\"inof\"",
            "\"inof\" is neither one of error, warn, info, debug, trace, off nor a filter; did you mean info?".to_owned(),
        ),
        ("log.file", "\"logs/\"", "\"logs/\" is not the name of a file; write for example \"ggcache.log\"".to_owned()),
        ("limits.connections", "0", "0 is out of range; write 1 to 10000000".to_owned()),
        ("limits.header_bytes", "\"4KiB\"", "\"4KiB\" is out of range; write \"8KiB\" to \"1MiB\"".to_owned()),
        ("limits.value_bytes", "\"2GiB\"", "\"2GiB\" is out of range; write \"1B\" to \"1GiB\"".to_owned()),
        ("limits.request_timeout", "0", "\"0s\" is out of range; write \"1ms\" to \"1h\"".to_owned()),
        ("database.school.max_connections", "0", "0 is out of range; write 1 to 1000".to_owned()),
        ("database.school.statement_timeout", "\"1d\"", "\"1d\" is out of range; write \"1ms\" to \"1h\"".to_owned()),
        (
            "group.scores.content_type",
            "\"json\"",
            "\"json\" is not a media type; write for example \"application/json\"".to_owned(),
        ),
        ("group.scores.capacity", "\"63KiB\"", "\"63KiB\" is out of range; write \"64KiB\" to \"1PiB\"".to_owned()),
        ("group.scores.policy", "\"lfo\"", "\"lfo\" is not one of fifo, lru, lfu; did you mean lfu?".to_owned()),
        ("group.scores.ttl", "\"0s\"", "\"0s\" is out of range; write \"1ms\" to \"365d\"".to_owned()),
        ("group.scores.ttl", "\"366d\"", "\"366d\" is out of range; write \"1ms\" to \"365d\"".to_owned()),
        ("group.scores.ttl_jitter", "1.1", "1.1 is out of range; write 0 to 1".to_owned()),
        ("group.scores.negative_share", "0.95", "0.95 is out of range; write 0 to 0.9".to_owned()),
        ("group.scores.load_budget", "0", "0 is out of range; write 1 to 100000".to_owned()),
        ("group.scores.refresh_ahead", "0.95", "0.95 is out of range; write 0 to 0.9".to_owned()),
        ("group.scores.load_batch", "1001", "1001 is out of range; write 1 to 1000".to_owned()),
        ("database.school.breaker_failures", "-1", "-1 is out of range; write 0 to 1000000".to_owned()),
        ("group.scores.preload", "-1", "-1 is out of range; write 0 to 1000000000000".to_owned()),
        ("group.scores.database", "\"scool\"", "there is no database \"scool\"; did you mean \"school\"?".to_owned()),
        ("default_group", "\"score\"", "there is no group \"score\"; did you mean \"scores\"?".to_owned()),
        ("default_group", "\"x\"", "there is no group \"x\"; write the name of a [group.NAME]".to_owned()),
    ];
    for (key, value, message) in cases {
        // In front, so that the line is known; a table may be begun only once, hence the dotted key.
        let mut table: toml::Table = SMALL.parse().expect("TOML");
        let mut inner = &mut table;
        let path: Vec<&str> = key.split('.').collect();
        let (last, outer) = path.split_last().expect("a key has a segment");
        for segment in outer {
            let next = inner.entry(*segment).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            inner = next.as_table_mut().expect("a section");
        }
        inner.insert((*last).to_owned(), value.parse().expect("a value"));
        let found = faults(&table.to_string());
        let (found, from) = found.rsplit_once(" (from ").expect("it has a source");
        assert_eq!(found, format!("{key}: {message}"));
        assert!(from.starts_with("ggcache.toml line "), "{from}");
    }
}

#[test]
fn a_table_s_names() {
    let with = |table: &str, key: &str, values: &str| {
        faults(&format!(
            "[database.d]\nurl = \"sqlite:d\"\n[group.g]\ntable = {table}\nkey_column = {key}\nvalue_columns = {values}\n"
        ))
    };
    assert_eq!(
        with("\"\"", "\"a\\u0000b\"", "[]"),
        "group.g.table: the name is empty; write it as the database shows it (from ggcache.toml line 4)\n\
         group.g.key_column: \"a\\0b\" holds a control character; write it without (from ggcache.toml line 5)\n\
         group.g.value_columns: the list is empty; write at least one column, such as [\"score\"] \
         (from ggcache.toml line 6)"
    );
    assert_eq!(
        with(&format!("\"{}\"", "é".repeat(64)), "5", "[\"a\", \"b\", \"a\"]"),
        "group.g.key_column: 5 is not a string; write \"5\" (from ggcache.toml line 5)\n\
         group.g.table: the name has 64 characters; write at most 63 (from ggcache.toml line 4)\n\
         group.g.value_columns: \"a\" is there twice; write it once (from ggcache.toml line 6)"
    );
    let odd = "[database.d]\nurl = \"sqlite:d\"\n[group.g]\ntable = \"a\\\"; drop table b\"\nkey_column = \"k\"\nvalue_columns = [\"k\"]\n";
    load(odd).expect("quoting makes any name safe, and the key may be the value");
}

#[test]
fn the_database_may_be_left_out_only_if_there_is_one() {
    let group = "[group.g]\ntable = \"t\"\nkey_column = \"k\"\nvalue_columns = [\"v\"]\n";
    assert_eq!(
        faults(group),
        "group.g.database: there is no database; add one as [database.NAME] with its url (from ggcache.toml line 1)"
    );
    assert_eq!(
        faults(&format!("{group}[database.a]\nurl = \"sqlite:a\"\n[database.b]\nurl = \"sqlite:b\"\n")),
        "group.g.database: it is missing: there are several databases; write one of a, b (from ggcache.toml line 1)"
    );
    // A database that is wrong is one all the same: its own fault is enough.
    assert_eq!(
        faults(&format!("{group}[database.a]\nurl = \"\"\n")),
        format!(
            "database.a.url: the url has no known scheme; this build has: {}; write \"sqlite:school.db\" \
             (from ggcache.toml line 6)",
            built_in()
        )
    );
}

#[test]
fn everything_required_is_asked_for_at_once() {
    assert_eq!(
        faults("[database.d]\n[group.g]\n"),
        "database.d.url: it is missing; write for example url = \"sqlite:school.db\" (from ggcache.toml line 1)\n\
         group.g.table: it is missing; write for example table = \"students\" (from ggcache.toml line 2)\n\
         group.g.key_column: it is missing; write for example key_column = \"name\" (from ggcache.toml line 2)\n\
         group.g.value_columns: it is missing; write for example value_columns = [\"score\"] (from ggcache.toml line 2)"
    );
}

#[test]
fn names_of_sections() {
    let text = "default_group = \"Scores\"\n[database.\"a b\"]\nurl = \"sqlite:d\"\n[group.Scores]\ntable = \"t\"\n\
                key_column = \"k\"\nvalue_columns = [\"v\"]\nttl = 1\n";
    assert_eq!(
        faults(text),
        "database.\"a b\": a database's name is 1 to 63 of a-z, A-Z, 0-9, _ and - (from ggcache.toml line 2)\n\
         group.Scores.ttl: \"1\" has no unit; write \"1s\" (from ggcache.toml line 8)\n\
         group.Scores: \"Scores\" is not a group name: a lower-case letter, then at most 62 of a-z, 0-9 and _ \
         (from ggcache.toml line 4)"
    );
}

#[test]
fn unknown_keys_have_suggestions() {
    let text = format!(
        "{SMALL}tttl = \"30s\"\n[limit]\nconnections = 5\n[zookeeper]\nservers = []\n[node]\nttl = \"1s\"\n"
    );
    let env = env(&[("GGCACHE__GROUP__SCORES__TLL", "1s"), ("GGCACHE__LOG__LEVLE", "info")]);
    assert_eq!(
        faults_with(&text, Sources { env, ..Sources::default() }),
        "unknown key group.scores.tttl; did you mean group.scores.ttl? (from ggcache.toml line 8)\n\
         unknown section limit; did you mean limits? (from ggcache.toml line 9)\n\
         unknown section zookeeper (from ggcache.toml line 11)\n\
         unknown key node.ttl; did you mean group.scores.ttl? (from ggcache.toml line 14)\n\
         unknown key group.scores.tll; did you mean group.scores.ttl? (from environment GGCACHE__GROUP__SCORES__TLL)\n\
         unknown key log.levle; did you mean log.level? (from environment GGCACHE__LOG__LEVLE)"
    );
}

fn built_in() -> String {
    let kinds = DatabaseKind::ALL.into_iter().filter(|kind| kind.is_built_in());
    kinds.map(DatabaseKind::as_str).collect::<Vec<_>>().join(", ")
}

#[test]
fn urls_are_checked_and_never_shown() {
    let unknown =
        format!("the url has no known scheme; this build has: {}; write \"sqlite:school.db\"", built_in());
    let unusable = |reason: &str| format!("the url is not usable: {reason}");
    for (url, message) in [
        ("hunter2", unknown.clone()),
        ("hunter2:x", unknown),
        ("sqlite:", unusable("it names no file: write sqlite:FILE")),
        ("sqlite://", unusable("it names no file: write sqlite:FILE")),
        ("sqlite:hunter2\\u0000", unusable("the file name has a zero byte")),
        #[cfg(feature = "postgres")]
        ("postgres://me:hunter@2@db/shop", unusable("an @ in user or password is written %40")),
        #[cfg(not(feature = "mysql"))]
        (
            "MySQL://me:hunter2@db/shop",
            format!("mysql: is not built in; this build has: {}; build with the feature mysql", built_in()),
        ),
    ] {
        let text = SMALL.replace("sqlite:school.db", url);
        assert_eq!(faults(&text), format!("database.school.url: {message} (from ggcache.toml line 3)"));
    }
    let env = env(&[("GGCACHE__DATABASE__SCHOOL__URL", "sqlite://u:hunter2@/db")]);
    let loaded = load_with(SMALL, Sources { env, ..Sources::default() }).expect("sqlite is built in");
    let shown = format!("{}{:?}{:?}", loaded.effective, loaded.effective, loaded.config);
    assert!(!shown.contains("hunter2") && shown.contains("sqlite://***@/db"), "{shown}");
}

#[test]
fn capacities_must_fit_the_memory() {
    let two = format!(
        "{SMALL}capacity = \"200MiB\"\n[group.b]\ntable = \"t\"\nkey_column = \"k\"\nvalue_columns = [\"v\"]\n"
    );
    let fault = "node.memory: the capacities of all groups are 264MiB together, and node.memory is 256MiB; raise it, \
                 or lower a capacity";
    assert_eq!(faults(&two), fault);
    load(&format!("node.memory = \"264MiB\"\n{two}")).expect("now they fit");
    // What can't be read is not added up.
    assert_eq!(
        faults(&format!("{two}capacity = \"lots\"\n")),
        "group.b.capacity: \"lots\" is not a size; write for example \"64MiB\" or \"32KiB\" (from ggcache.toml line 13)"
    );
}

#[test]
fn planes_listen_apart() {
    for (text, expected) in [
        (
            "[admin]\nlisten = \"127.0.0.1:10001\"",
            "admin.listen: 127.0.0.1:10001 is taken by node.listen, which is 127.0.0.1:10001; write another port \
             (from ggcache.toml line 2)",
        ),
        (
            "[api]\nenabled = true\nlisten = \"0.0.0.0:11001\"",
            "api.listen: 0.0.0.0:11001 is taken by admin.listen, which is 127.0.0.1:11001; write another port \
             (from ggcache.toml line 3)",
        ),
        (
            "[node]\nlisten = \"127.0.0.1:65000\"",
            "admin.listen: it is missing: its default, the peer port 65000 + 1000, is not a port; write for example \
             listen = \"127.0.0.1:9000\"",
        ),
    ] {
        assert_eq!(faults(text), expected);
    }
    for text in [
        "[api]\nlisten = \"127.0.0.1:10001\"",
        "[api]\nenabled = true\nlisten = \"127.0.0.2:10001\"",
        "[api]\nenabled = true\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"",
        "[node]\nlisten = \"127.0.0.1:65000\"\n[admin]\nlisten = \"127.0.0.1:9000\"",
    ] {
        load(text).unwrap_or_else(|faults| panic!("{text}: {faults}"));
    }
}

#[test]
fn advertise_follows_listen() {
    for (listen, advertise) in [
        ("127.0.0.1:7000", "localhost:7000"),
        ("[::1]:7000", "localhost:7000"),
        ("10.0.0.7:7000", "10.0.0.7:7000"),
        ("[2001:db8::7]:7000", "[2001:db8::7]:7000"),
    ] {
        let config =
            load(&format!("node.allow_anyone = true\nnode.listen = \"{listen}\"")).expect(listen).config;
        assert_eq!(config.node.advertise.as_str(), advertise);
        assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8000");
    }
    assert_eq!(
        faults("node.listen = \"0.0.0.0:7000\"\nnode.allow_anyone = true"),
        "node.advertise: it is missing: 0.0.0.0:7000 listens on every interface, and peers need one address; \
         write for example advertise = \"10.0.0.7:7000\" (from ggcache.toml line 1)"
    );
    load("node.listen = \"0.0.0.0:7000\"\nnode.advertise = \"n1.example:7000\"\nnode.allow_anyone = true")
        .expect("it says its address");
}

/// `node.secret`, long enough.
const SECRET: &str = "secret = \"0123456789012345678901234567890123456789\"";

#[test]
fn planes_beyond_loopback_are_guarded_or_open_in_plain_words() {
    let hash = |digit: &str| format!("hash = \"sha256:{}\"", digit.repeat(64));
    let token = |scope: &str| format!("[auth.token.ops]\n{}\nscopes = [\"{scope}\"]", hash("a"));
    let peer = "node.listen: 10.0.0.7:1 is not loopback, and whoever reached it could read and drop every key; give all \
                nodes one secret (node.secret_file) or certificates ([node.tls]), or write node.allow_anyone = true \
                (from ggcache.toml line 2)";
    let admin = "admin.listen: 0.0.0.0:2 is not loopback, and the operators' plane would be open to whoever reached it; \
                 make a token with the scope admin (`ggcache token NAME --scopes admin`) and leave that scope out of \
                 auth.anonymous, ask for certificates (admin.tls.client_ca), or write admin.allow_anyone = true \
                 (from ggcache.toml line 2)";
    let node = |rest: &str| format!("[node]\nlisten = \"10.0.0.7:1\"\n{rest}");
    let operators = |rest: &str| format!("[admin]\nlisten = \"0.0.0.0:2\"\n{rest}");
    let open = format!("{}\n[auth]\nanonymous = [\"admin\"]", token("admin"));
    for (text, expected) in [
        (node(""), peer),
        (node("allow_anyone = false"), peer),
        (operators(""), admin),
        (operators(&token("read")), admin),
        (operators(&open), admin),
    ] {
        assert_eq!(faults(&text), expected, "{text}");
    }
    for text in [
        node("allow_anyone = true"),
        node(SECRET),
        node("secret_file = \"not-there-yet\""),
        operators("allow_anyone = true"),
        operators(&token("admin")),
        "[node]\nlisten = \"[::1]:1\"".to_owned(),
        "[node]\nlisten = \"[::ffff:127.0.0.1]:1\"".to_owned(),
        "[admin]\nlisten = \"127.5.0.1:2\"".to_owned(),
    ] {
        let loaded = load(&text).unwrap_or_else(|faults| panic!("{text}: {faults}"));
        assert_eq!(loaded.config.validate(), Ok(()), "{text}");
    }
    // What could not be read is reported, and not what would follow from its default.
    assert_eq!(
        faults(&node("secret = \"hunter2\"")),
        "node.secret: it has less than 32 characters; write more, such as what `openssl rand -base64 32` prints (from \
         ggcache.toml line 3)"
    );
    assert!(!faults(&operators("[auth.token.ops]\nhash = \"x\"\nscopes = [\"admin\"]")).contains("loopback"));
}

#[test]
fn secrets_and_hashes_are_not_shown() {
    let hash = "b".repeat(64);
    let text = format!(
        "[node]\n{SECRET}\n[auth.token.ops]\nhash = \"sha256:{hash}\"\nscopes = [\"admin\"]\n{SMALL}"
    );
    let loaded = load(&text).expect("it is right");
    for shown in [loaded.effective.to_string(), format!("{:?}", loaded.config)] {
        assert!(!shown.contains("0123456789") && !shown.contains(&hash), "{shown}");
    }
    let effective = loaded.effective.to_string();
    assert!(
        effective.contains("secret = \"***\"  # ") && effective.contains("shown without secrets"),
        "{effective}"
    );
}

#[test]
fn tokens_are_for_groups_that_are_there() {
    let token = |groups: &str| {
        let hash = "c".repeat(64);
        format!("{SMALL}[auth.token.app]\nhash = \"sha256:{hash}\"\nscopes = [\"read\"]\ngroups = [{groups}]")
    };
    assert_eq!(
        faults(&token("\"score\"")),
        "auth.token.app.groups: there is no group \"score\"; did you mean \"scores\"? (from ggcache.toml line 11)"
    );
    let config = load(&token("\"scores\"")).expect("it is right").config;
    assert_eq!(config.validate(), Ok(()));
    assert!(config.auth.anonymous.is_empty());
}

#[test]
fn the_port_flag_keeps_hosts_and_moves_what_follows() {
    for (text, listen, advertise, admin) in [
        ("", "127.0.0.1:10002", "localhost:10002", "127.0.0.1:11002"),
        (
            "node.listen = \"10.0.0.7:1\"\nnode.allow_anyone = true",
            "10.0.0.7:10002",
            "10.0.0.7:10002",
            "127.0.0.1:11002",
        ),
        ("node.advertise = \"n1.example:1\"", "127.0.0.1:10002", "n1.example:10002", "127.0.0.1:11002"),
        ("node.advertise = \"[::1]:1\"", "127.0.0.1:10002", "[::1]:10002", "127.0.0.1:11002"),
        ("admin.listen = \"127.0.0.1:9000\"", "127.0.0.1:10002", "localhost:10002", "127.0.0.1:9000"),
    ] {
        let sources = Sources { port: Some(10_002), ..Sources::default() };
        let Loaded { config, effective, .. } = load_with(text, sources).expect(text);
        assert_eq!(config.node.listen.to_string(), listen);
        assert_eq!(config.node.advertise.as_str(), advertise);
        assert_eq!(config.admin.listen.to_string(), admin);
        assert!(
            effective.to_string().contains(&format!("listen = \"{listen}\"  # flag --port")),
            "{effective}"
        );
    }
}

#[test]
fn the_api_flag_switches_the_plane_on() {
    for (flag, listen) in [("", "127.0.0.1:7000"), ("8001", "127.0.0.1:8001"), ("0.0.0.0:80", "0.0.0.0:80")] {
        let api = Some(flag.parse().expect("an address"));
        let loaded = load_with("api.listen = \"127.0.0.1:7000\"", Sources { api, ..Sources::default() });
        let loaded = loaded.expect("it is right");
        assert!(loaded.config.api.enabled);
        assert_eq!(loaded.config.api.listen.to_string(), listen);
        assert!(loaded.effective.to_string().contains("enabled = true  # flag --api"));
    }
}

#[test]
fn a_configuration_built_in_code_is_checked_alike() {
    let mut config = load(SMALL).expect("it is right").config;
    let mut section = config.groups["scores"].clone();
    section.group.ttl = Duration::ZERO;
    section.table.database = "nowhere".to_owned();
    section.table.value_columns.clear();
    let name = crate::group::GroupName::new("scores").expect("a name");
    config.groups.insert(name, section);
    config.default_group = Some(crate::group::GroupName::new("gone").expect("a name"));
    config.limits.waiters = 0;
    config.node.weight = 3;
    let faults = config.validate().expect_err("six are wrong");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key()).collect();
    assert_eq!(
        keys,
        [
            "limits.waiters",
            "group.scores.value_columns",
            "group.scores.ttl",
            "default_group",
            "group.scores.database",
            "node.weight"
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let files = Files::new();
        let _ = Config::load(Sources { file: Some(files.write(bytes)), ..Sources::default() });
    }

    #[test]
    fn no_damage_to_the_example_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\"=.,#a-z0-9 \\n]{0,3}"), 1..6),
    ) {
        let mut text: Vec<char> = example().chars().collect();
        for (at, piece) in edits {
            let at = at.index(text.len());
            text.splice(at..=at, piece.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = load(&text) {
            prop_assert!(faults.iter().count() > 0);
        }
    }

    #[test]
    fn no_variable_panics(
        key in prop::sample::select(vec![
            "NODE__LISTEN", "NODE__ADVERTISE", "NODE__MEMORY", "API__LISTEN", "CLUSTER__PEERS", "CLUSTER__ALLOWED_PEERS",
            "LOG__LEVEL", "LIMITS__VALUE_BYTES", "DATABASE__SCHOOL__URL", "GROUP__SCORES__TTL", "GROUP__SCORES__CONTENT_TYPE",
            "GROUP__SCORES__TABLE", "GROUP__SCORES__VALUE_COLUMNS", "DEFAULT_GROUP",
        ]),
        value in "\\PC{0,40}",
    ) {
        let env = env(&[(&format!("GGCACHE__{key}"), &value)]);
        if let Ok(loaded) = load_with(SMALL, Sources { env, ..Sources::default() }) {
            prop_assert_eq!(loaded.config.validate(), Ok(()));
        }
    }
}

#[test]
fn tls_is_whole_or_not_there() {
    let loaded = load("[node.tls]\n[api.tls]\n").expect("nothing is said");
    assert_eq!((loaded.config.node.tls, loaded.config.api.tls), (None, None));
    let text = "[node.tls]\ncert = \"n.pem\"\nkey = \"n.key\"\nca = \"ca.pem\"\n\
                [admin.tls]\ncert = \"a.pem\"\nkey = \"a.key\"\n";
    let config = load(text).expect("all is said").config;
    let files = |plane, cert: &str, key: &str, ca: Option<&str>| {
        Some(TlsConfig { plane, cert: cert.into(), key: key.into(), ca: ca.map(PathBuf::from) })
    };
    assert_eq!(config.node.tls, files(TlsPlane::Peer, "n.pem", "n.key", Some("ca.pem")));
    assert_eq!(config.admin.tls, files(TlsPlane::Admin, "a.pem", "a.key", None));
    assert_eq!(config.validate(), Ok(()));

    let text = "[node.tls]\ncert = \"n.pem\"\n[api.tls]\nclient_ca = \"ca.pem\"\nkey = 1\n\
                [admin.tls]\ncert = \"\"\nkey = \"a.key\"\nca = \"ca.pem\"\n";
    assert_eq!(
        faults(text),
        "node.tls.key: it is missing, and TLS needs cert, key and ca; write for example key = \"node.key\" (from ggcache.toml line 1)\n\
         node.tls.ca: it is missing, and TLS needs cert, key and ca; write for example ca = \"ca.pem\" (from ggcache.toml line 1)\n\
         api.tls.key: 1 is not a string; write \"1\" (from ggcache.toml line 5)\n\
         api.tls.cert: it is missing, and TLS needs cert and key; write for example cert = \"node.pem\" (from ggcache.toml line 3)\n\
         admin.tls.cert: it is empty; write the path of a file in PEM (from ggcache.toml line 7)\n\
         unknown key admin.tls.ca; did you mean admin.tls.cert? (from ggcache.toml line 9)"
    );
}
