//! The commands, their flags and their help.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    access::{Scope, token_name},
    client::Endpoint,
    config::ApiAddress,
    discovery::EtcdEndpoint,
    group::GroupName,
};

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
      single keys, from the environment and from a flag
  kill -HUP PID
      SIGHUP: the node reads the same file, environment and flags again, and goes by what
      can change while it runs (rates, tokens, certificates, the log's level, most of what
      a group says, new groups); its log names what needs a restart
SIGTERM and Ctrl-C stop it, after the requests under way are answered.";

const CHECK_EXAMPLE: &str = "\
Example:
  ggcache check --config /etc/ggcache.toml
      exit code 0 if all is well, 1 if a database or table is not as configured, 2 if the configuration is wrong";

const CHANGES_EXAMPLE: &str = "\
Examples:
  ggcache changes install
      triggers on the tables of all groups, in all databases of ./ggcache.toml
  ggcache changes install --database shop --dry-run | psql \"$DSN\"
      the same for one database, by another user than the nodes'; mariadb and sqlite3 read it alike
  ggcache changes status
      which tables have their triggers, and how long the log is
  ggcache changes remove --all
      removes all that install has made";

const MIGRATE_EXAMPLE: &str = "\
Example:
  ggcache migrate --config ggcache.toml
      creates the table `students` with three rows, for a first try";

const CONFIG_EXAMPLE: &str = "\
Example:
  ggcache config --config ggcache.toml --port 10002
      what `serve` would run with, as TOML: every key, its value and where that came from; no secrets";

const OPENAPI_EXAMPLE: &str = "\
Example:
  ggcache openapi > openapi.json
      what a node serves at /openapi.json, to generate a client from";

const CERTS_EXAMPLE: &str = "\
Examples:
  ggcache certs --out certs --node localhost,127.0.0.1
      an authority, and one certificate for all nodes of a trial on this machine
  ggcache certs --out certs --node n1.example,10.0.0.7 --node n2.example,10.0.0.8
      an authority, and a certificate for each of two nodes
Each certificate lasts a year, and is for both ends of a connection. Nothing is overwritten.";

const GET_EXAMPLE: &str = "\
Examples:
  ggcache get 张三 --group scores
      the value, from the node that ./ggcache.toml tells of
  ggcache get anna --group scores --addresses http://10.0.0.7:8000,http://10.0.0.8:8000 --verbose
      from whichever of two nodes answers; which one, and from which cache, on standard error
  ggcache get anna --group scores --etcd http://10.0.0.1:2379 --service GGroupCache
      from whichever node is registered in etcd
  ggcache get anna --group scores --addresses https://10.0.0.7:8000 --ca certs/ca.pem --token-file token
      by TLS, with a token where the nodes ask for one
  ggcache get --key-b64 _wA --group blobs > value.bin
      a key that is not text
Exit code 0 with the value on standard output, 1 if there was no answer, 3 if there is no such key.";

const TOKEN_EXAMPLE: &str = "\
Examples:
  ggcache token app
      a token that may read every group, and the section that each node's configuration needs
  ggcache token cron --scopes invalidate --groups scores 2>>ggcache.toml >cron.token
      one that may drop keys of one group; the section goes to the end of the file, the token into one of its own
  ggcache token ops --scopes admin
      one for the operators' plane";

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
    /// Makes a log of changes in the databases, by which no answer is older than max_staleness.
    #[command(after_help = CHANGES_EXAMPLE)]
    Changes(ChangesArguments),
    /// Reads a key from a running cluster.
    #[command(after_help = GET_EXAMPLE)]
    Get(GetArguments),
    /// Makes an authority and certificates for nodes, to try TLS with.
    #[command(after_help = CERTS_EXAMPLE)]
    Certs(CertsArguments),
    /// Prints the configuration in force, with the source of each value.
    #[command(after_help = CONFIG_EXAMPLE)]
    Config(SourceArguments),
    /// Prints the OpenAPI document of the public API.
    #[command(after_help = OPENAPI_EXAMPLE)]
    Openapi(OpenapiArguments),
    /// Makes a token for a client or an operator.
    #[command(after_help = TOKEN_EXAMPLE)]
    Token(TokenArguments),
}

impl Command {
    /// Where the configuration comes from; `None` for a command that needs none.
    pub(super) const fn sources(&self) -> Option<&SourceArguments> {
        match self {
            Self::Serve(sources) | Self::Check(sources) | Self::Migrate(sources) | Self::Config(sources) => {
                Some(sources)
            }
            Self::Get(get) => Some(&get.sources),
            Self::Changes(changes) => Some(&changes.sources),
            Self::Certs(_) | Self::Openapi(_) | Self::Token(_) => None,
        }
    }
}

/// What becomes of the log of changes.
#[derive(Debug, Args)]
pub(super) struct ChangesArguments {
    #[arg(value_enum)]
    pub(super) action: ChangesAction,
    /// Prints the statements, for the database's own client, and changes nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only this [database.NAME]; without it all that groups read
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,
    /// With remove: the outbox and the log too, and triggers of tables that are configured no more
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) sources: SourceArguments,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ChangesAction {
    /// Makes tables and triggers that are missing; running nodes find them within seconds
    Install,
    /// Tells what is there and what is missing
    Status,
    /// Removes the triggers; the tables then go by ttl only
    Remove,
}

/// Which document is printed.
#[derive(Debug, Args)]
pub(super) struct OpenapiArguments {
    /// Prints that of the admin plane, which has the operators' routes too
    #[arg(long)]
    pub(super) admin: bool,
}

/// What is read, and from whom.
#[derive(Debug, Args)]
pub(super) struct GetArguments {
    /// The key, its bytes as they are
    pub(super) key: OsString,
    /// The group; without it default_group, or the only one that is configured
    #[arg(long, value_name = "NAME", value_parser = GroupName::new)]
    pub(super) group: Option<GroupName>,
    /// The nodes to ask, as http://HOST:PORT or grpc://HOST:PORT, with TLS as https:// or grpcs://; without it those
    /// that the configuration tells of
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) addresses: Vec<Endpoint>,
    /// The members of etcd in which the nodes are registered; without it etcd.endpoints, where cluster.discovery is
    /// etcd
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "addresses")]
    pub(super) etcd: Vec<EtcdEndpoint>,
    /// The name under which they are registered; without it cluster.service
    #[arg(long, value_name = "NAME", conflicts_with = "addresses")]
    pub(super) service: Option<String>,
    /// Asks by gRPC, whatever the scheme of the addresses
    #[arg(long)]
    pub(super) grpc: bool,
    /// A file with the certificates, in PEM, of the authorities that vouch for the nodes; without it the system's
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// A file with the token to show; without it $GGCACHE_TOKEN, if there is one
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// How long the read may take with all its attempts
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(super) deadline: Duration,
    /// KEY is base64url, with or without padding
    #[arg(long)]
    pub(super) key_b64: bool,
    /// Tells on standard error who answered, and from which cache
    #[arg(long, short)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) sources: SourceArguments,
}

/// What a token is for.
#[derive(Debug, Args)]
pub(super) struct TokenArguments {
    /// Its name in the configuration and in logs: 1 to 63 of a-z, A-Z, 0-9, _ and -
    #[arg(value_parser = token_name)]
    pub(super) name: String,
    /// What its holder may do: read, write, invalidate, admin; none includes another
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "read")]
    pub(super) scopes: Vec<Scope>,
    /// In which groups; without it in all
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = GroupName::new)]
    pub(super) groups: Vec<GroupName>,
}

/// Which certificates are made.
#[derive(Debug, Args)]
pub(super) struct CertsArguments {
    /// The directory in which the files are made; it is created if it is missing
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// One node, by all the names and addresses at which it is dialled; may be repeated
    #[arg(long, value_name = "HOST[,HOST…]", required = true)]
    pub(super) node: Vec<String>,
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
