//! The commands, their flags and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::ApiAddress;

/// A distributed read-through cache that stands in front of a SQL database.
#[derive(Debug, Parser)]
#[command(name = "ggcache", version, about, after_help = ABOUT_EXAMPLE)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const ABOUT_EXAMPLE: &str = "\
Example, a demo on one machine:
  cp config/ggcache.toml ggcache.toml
  ggcache migrate
  ggcache serve --api
  curl 'http://127.0.0.1:8000/api?key=张三'";

const SERVE_EXAMPLE: &str = "\
Examples:
  ggcache serve
      a node with ./ggcache.toml
  ggcache serve --config /etc/ggcache.toml --port 10002 --api 8001
      a second node on the same machine, from the same file
  GGCACHE__GROUP__SCORES__TTL=5s ggcache serve --set log.level=debug
      single keys, from the environment and from a flag";

const CHECK_EXAMPLE: &str = "\
Example:
  ggcache check --config /etc/ggcache.toml
      exit code 0 if all is well, 1 if a database or table is not as configured, 2 if the configuration is wrong";

const MIGRATE_EXAMPLE: &str = "\
Example:
  ggcache migrate --config ggcache.toml
      creates the table `students` with three rows, for a first try";

const CONFIG_EXAMPLE: &str = "\
Example:
  ggcache config --config ggcache.toml --port 10002
      what `serve` would run with, as TOML: every key, its value and where that came from; no secrets";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs a node until it is told to stop.
    #[command(after_help = SERVE_EXAMPLE)]
    Serve(SourceArguments),
    /// Validates the configuration, connects to the databases, and says what is wrong.
    #[command(after_help = CHECK_EXAMPLE)]
    Check(SourceArguments),
    /// Creates the demo's table, with its three rows, in each database that lacks it.
    #[command(after_help = MIGRATE_EXAMPLE)]
    Migrate(SourceArguments),
    /// Prints the configuration in force, with the source of each value.
    #[command(after_help = CONFIG_EXAMPLE)]
    Config(SourceArguments),
}

impl Command {
    pub(super) const fn sources(&self) -> &SourceArguments {
        match self {
            Self::Serve(sources) | Self::Check(sources) | Self::Migrate(sources) | Self::Config(sources) => {
                sources
            }
        }
    }
}

/// Where the configuration comes from. All commands take the same, so that `config` and `check` can tell
/// what `serve` would do.
#[derive(Debug, Default, Args)]
pub(super) struct SourceArguments {
    /// The configuration file; without it $GGCACHE_CONFIG, or ./ggcache.toml if there is one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Sets one key, over the file and the environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    pub(super) plane: PlaneArguments,
}

#[derive(Debug, Default, Args)]
pub(super) struct PlaneArguments {
    /// The port of the peer plane, in node.listen and node.advertise; the admin plane follows, unless
    /// admin.listen is set
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
    /// Serves the public API, at api.listen or here: 8000, :8000 or 127.0.0.1:8000
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "")]
    pub(super) api: Option<ApiAddress>,
}
