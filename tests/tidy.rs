//! The house rules that a compiler does not know, held by reading the sources: which layer may name which, which
//! crates a layer must not name, and what every file looks like.
//!
//! A fault says where it is and what would be right. To change a rule, change the tables below, and say why.

use std::{collections::BTreeSet, fs, path::Path};

use tidy::rules::{Fault, Source, check};

mod tidy {
    mod breaches;
    mod lexer;
    pub(super) mod rules;
}

/// The bottom rows. Adapters and what is above them may use all of it.
const GROUND: &[&str] = &[
    "access",
    "codec",
    "error",
    "head",
    "limit",
    "net",
    "problem",
    "rpc",
    "settings",
    "task",
    "telemetry",
    "time",
];
const GROUP: &[&str] = &["cache", "cluster", "error", "settings", "task", "telemetry", "time"];
const ADAPTERS: &[&str] = &["changes", "discovery", "gateway", "origin", "transport"];
/// Below the adapters, and so open to each of them.
const BELOW_ADAPTERS: &[&[&str]] = &[GROUND, &["cache", "cluster", "database", "group"]];

/// Each top-level module, and which others it may name. Dependencies point inward: whatever is not listed is a
/// higher layer, or a neighbour that must not be known.
const LAYERS: &[(&str, &[&[&str]])] = &[
    ("time", &[]),
    ("error", &[]),
    ("codec", &[]),
    ("head", &[]),
    ("settings", &[]),
    ("task", &[]),
    ("problem", &[&["error", "head"]]),
    ("rpc", &[&["error", "problem"]]),
    ("telemetry", &[&["settings"]]),
    ("limit", &[&["error", "head", "problem", "settings", "telemetry", "time"]]),
    ("net", &[&["codec", "head", "settings", "task"]]),
    ("access", &[&["codec", "error", "problem", "settings"]]),
    ("cache", &[&["time"]]),
    ("cluster", &[&["time"]]),
    ("database", &[&["codec", "settings", "telemetry"]]),
    ("group", &[GROUP]),
    ("changes", BELOW_ADAPTERS),
    ("discovery", BELOW_ADAPTERS),
    ("gateway", BELOW_ADAPTERS),
    ("origin", BELOW_ADAPTERS),
    ("transport", BELOW_ADAPTERS),
    ("client", &[&["cluster", "codec", "discovery", "error", "group", "net", "rpc", "telemetry"]]),
    ("config", &[GROUND, &["cache", "cluster", "database", "group"], ADAPTERS]),
    ("app", &[GROUND, &["cache", "cluster", "database", "group"], ADAPTERS, &["config"]]),
    // For tests only.
    ("simulation", &[GROUND, &["cache", "changes", "cluster", "database", "group"], ADAPTERS]),
    // A door for the fuzz targets, in builds for them only.
    ("fuzz", &[&["access", "config"], ADAPTERS]),
    ("cli", &[&["access", "app", "client", "cluster", "codec", "config", "discovery", "group", "settings"]]),
];

/// Crates that are one module's business.
const CRATE_OWNERS: &[(&str, &[&str])] = &[
    ("anyhow", &["app", "cli"]),
    ("clap", &["cli"]),
    ("diesel", &["changes", "database", "origin"]),
    ("diesel_migrations", &["database"]),
    ("libsqlite3_sys", &["database"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("etcd_client", &["discovery"]),
    // Certificates are made for a trial only, by a command.
    ("rcgen", &["cli"]),
    ("reqwest", &["client", "transport"]),
    ("httparse", &["net"]),
    ("httpdate", &["net"]),
    ("rustls", &["net"]),
    ("rustls_native_certs", &["net"]),
    ("socket2", &["net"]),
    ("tokio_rustls", &["net"]),
    ("tracing_appender", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("webpki", &["net"]),
];

const PURE: &[&str] = &[
    "tokio",
    "tracing",
    "serde",
    "serde_json",
    "metrics",
    "futures_util",
    "Instant",
    "SystemTime",
    "BootClock",
];
const WIRE: &[&str] = &["axum", "http", "http_body", "http_body_util", "hyper", "hyper_util", "tower"];

/// Crates, and other names, that a module must not name.
const NOT_HERE: &[(&str, &[&str], &str)] = &[
    ("cache", PURE, "the layer is pure; whoever calls it passes in what it needs, `now` too"),
    ("cluster", PURE, "the layer is pure; whoever calls it passes in what it needs, `now` too"),
    ("group", WIRE, "the layer knows its neighbours by their traits only; this belongs into an adapter"),
];

/// Public modules below the crate's root. Others are private, and their parent re-exports by name.
const PUBLIC_MODULES: &[(&str, &str)] = &[
    // Names of log fields, which read well only with their module: `field::GROUP`.
    ("src/telemetry.rs", "field"),
    // What is done with spans, which reads well only with its module: `trace::spanned`.
    ("src/telemetry.rs", "trace"),
    // What is generated from a proto file; the names of its types say little without its own.
    ("src/rpc.rs", "ggroupcachepb"),
    ("src/rpc.rs", "peer_v1"),
];

/// Lines of code in a file: no comments, blank lines or tests.
const CODE_LINES_MAX: usize = 400;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

const PRINTING: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];
const UNFINISHED: &[&str] = &["todo", "unimplemented"];

/// The crate's sources, by path.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect(root, &root.join(folder), &mut files);
    }
    files.sort();
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    // Not each folder has to be there.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_str().expect("a plain name");
            files.push((name.replace('\\', "/"), fs::read_to_string(&path).expect("a source can be read")));
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let files = sources();
    assert!(files.iter().any(|(path, _)| path == "src/group/flight.rs"), "the sources are found");
    let faults = check(&files);
    let list: Vec<_> = faults.iter().map(Fault::to_string).collect();
    assert!(list.is_empty(), "{} faults:\n{}", list.len(), list.join("\n"));
}

#[test]
fn the_tables_name_what_exists() {
    let files = sources();
    let modules: BTreeSet<_> = files
        .iter()
        .filter(|(path, _)| path.starts_with("src/"))
        .map(|(path, text)| Source::new(path, text))
        .filter(|source| !source.is_root())
        .map(|source| source.module().to_owned())
        .collect();
    let listed: BTreeSet<_> = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(modules, listed, "each module has a place among the layers");
    for path in PUBLIC_MODULES.iter().chain(LONG_FILES).map(|(path, _)| path) {
        assert!(files.iter().any(|(file, _)| file == path), "{path} is not there; take it out of the table");
    }
}
