//! How commands reach the nodes of a running cluster: where they are, what is shown to them, and which group is meant.

use std::{
    borrow::Cow,
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
};

use anyhow::Context as _;

use super::args::ReachArguments;
use crate::{
    client::{Client, ClientBuilder, Endpoint, Endpoints as _, Protocol},
    cluster::Address,
    codec::base64url_decode,
    config::Config,
    discovery::DiscoveryKind,
    group::{GroupName, Key},
};

/// Holds the token in place of `--token-file`.
const TOKEN_VARIABLE: &str = "GGCACHE_TOKEN";
/// As much of a token's file is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 8 << 10;

/// A client with all that `arguments` say but for the nodes.
///
/// # Errors
/// If there is a token that can't be read.
pub(super) fn builder(arguments: &ReachArguments) -> anyhow::Result<ClientBuilder> {
    let mut builder = Client::builder().deadline(arguments.deadline);
    if let Some(file) = &arguments.ca {
        builder = builder.ca(file);
    }
    if let Some(token) = token(arguments, env::var_os(TOKEN_VARIABLE))? {
        builder = builder.bearer_token(token);
    }
    Ok(builder)
}

/// Has the client ask whichever node answers. Called within a runtime.
///
/// # Errors
/// If the nodes are to be looked up in etcd, and can't be.
pub(super) fn all(
    builder: ClientBuilder,
    arguments: &ReachArguments,
    config: &Config,
) -> anyhow::Result<ClientBuilder> {
    Ok(if is_by_etcd(arguments, config) {
        builder.endpoints(registered(arguments, config)?)
    } else {
        builder.addresses(endpoints(arguments, config))
    })
}

/// Every node that is known, within the arguments' deadline. Called within a runtime.
///
/// # Errors
/// If the nodes are to be looked up in etcd, and none are found.
pub(super) async fn each(arguments: &ReachArguments, config: &Config) -> anyhow::Result<Vec<Endpoint>> {
    if !is_by_etcd(arguments, config) {
        return Ok(endpoints(arguments, config));
    }
    let registered = registered(arguments, config)?;
    let mut known = registered.watch();
    let found = tokio::time::timeout(arguments.deadline, known.wait_for(|known| !known.is_empty())).await;
    let found = found.ok().and_then(Result::ok).map(|known| known.clone());
    found.context("etcd names no node for the service, or does not answer; see --etcd and --service")
}

/// The key that a person has written.
pub(super) fn key(given: &OsStr, is_b64: bool) -> Result<Key, String> {
    let given = given.as_bytes();
    let bytes = if is_b64 {
        Cow::Owned(base64url_decode(given).map_err(|error| format!("KEY is {error}"))?)
    } else {
        Cow::Borrowed(given)
    };
    Key::new(bytes).map_err(|error| error.to_string())
}

/// The token to show, from a file or the environment. Neither of them is told in an error.
fn token(arguments: &ReachArguments, variable: Option<OsString>) -> anyhow::Result<Option<String>> {
    let token = match (&arguments.token_file, variable) {
        (Some(file), _) => {
            let mut token = String::new();
            let read =
                File::open(file).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut token));
            read.with_context(|| format!("can't read the token from {}", file.display()))?;
            token
        }
        (None, Some(token)) if !token.is_empty() => {
            token.into_string().map_err(|_| anyhow::anyhow!("{TOKEN_VARIABLE} is not text"))?
        }
        (None, _) => return Ok(None),
    };
    Ok(Some(token.trim().to_owned()))
}

/// The group that is named, or else the one that a request without a name means.
pub(super) fn group(named: Option<&GroupName>, config: &Config) -> Result<GroupName, String> {
    let mut groups = config.groups.keys();
    let only = || groups.next().filter(|_| groups.next().is_none());
    let found = named.or(config.default_group.as_ref()).or_else(only);
    found.cloned().ok_or_else(|| {
        "no group is named, and the configuration has no default_group; write --group NAME".to_owned()
    })
}

/// Whether the nodes are looked up in etcd: if the command line says so, or the configuration and nothing else.
fn is_by_etcd(arguments: &ReachArguments, config: &Config) -> bool {
    let is_asked = !arguments.etcd.is_empty() || arguments.service.is_some();
    is_asked || (arguments.addresses.is_empty() && config.cluster.discovery == DiscoveryKind::Etcd)
}

/// The nodes that are registered. Called within a runtime.
#[cfg(feature = "etcd")]
fn registered(arguments: &ReachArguments, config: &Config) -> anyhow::Result<crate::client::EtcdEndpoints> {
    let mut etcd = config.etcd.clone();
    if !arguments.etcd.is_empty() {
        etcd.endpoints.clone_from(&arguments.etcd);
        // What was given on the command line is held to the same rules as the file.
        etcd.validate().context("--etcd")?;
    }
    let service = arguments.service.as_deref().unwrap_or(&config.cluster.service);
    // Over HTTP nodes say themselves whether they speak TLS.
    let grpc = Protocol::Grpc.with_tls(config.node.tls.is_some());
    let protocol = if arguments.grpc { grpc } else { Protocol::Http };
    Ok(crate::client::EtcdEndpoints::new(&etcd, service, protocol)?)
}

#[cfg(not(feature = "etcd"))]
fn registered(_: &ReachArguments, _: &Config) -> anyhow::Result<crate::client::StaticEndpoints> {
    anyhow::bail!("this build does not know etcd; name the nodes with --addresses")
}

/// The nodes that are named, or else those that the configuration tells of.
fn endpoints(arguments: &ReachArguments, config: &Config) -> Vec<Endpoint> {
    if !arguments.addresses.is_empty() {
        let mut endpoints = arguments.addresses.clone();
        if arguments.grpc {
            for endpoint in &mut endpoints {
                endpoint.protocol = Protocol::Grpc.with_tls(endpoint.protocol.has_tls());
            }
        }
        return endpoints;
    }
    if !arguments.grpc {
        let protocol = Protocol::Http.with_tls(config.api.tls.is_some());
        let address = Address::new(&dialled(config.api.listen).to_string());
        return address.map(|address| Endpoint { protocol, address }).into_iter().collect();
    }
    // The service stands on the peer plane too, which is never switched off.
    let protocol = Protocol::Grpc.with_tls(config.node.tls.is_some());
    let endpoint = |address: &Address| Endpoint { protocol, address: address.clone() };
    match config.cluster.peers.as_slice() {
        [] => vec![endpoint(&config.node.advertise)],
        peers => peers.iter().map(endpoint).collect(),
    }
}

/// Where a plane that listens at `listen` is reached from this machine.
fn dialled(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::args::{Arguments, Command, GetArguments},
        net::{TlsConfig, TlsPlane},
    };

    fn arguments(line: &str) -> GetArguments {
        match Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")) {
            Arguments { command: Command::Get(arguments) } => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_are_bytes() {
        let given = |arguments: &GetArguments| key(&arguments.key, arguments.key_b64);
        let parse = |line| given(&arguments(line)).map(|key| key.as_bytes().to_vec());
        assert_eq!(parse("ggcache get a/b+%20"), Ok(b"a/b+%20".to_vec()));
        assert_eq!(parse("ggcache get 张三"), Ok("张三".as_bytes().to_vec()));
        assert_eq!(parse("ggcache get --key-b64 _wA"), Ok(vec![0xff, 0]));
        assert_eq!(parse("ggcache get -- -x"), Ok(b"-x".to_vec()));
        assert!(parse("ggcache get --key-b64 !").is_err_and(|error| error.contains("base64url")));
        assert!(key(OsStr::new(""), false).is_err_and(|error| error.contains("empty")));
    }

    #[test]
    fn the_group_is_named_or_the_only_one() {
        let name = |name: &str| GroupName::new(name).expect("valid");
        let mut config = Config::default();
        let meant = |line, config: &Config| group(arguments(line).group.as_ref(), config);
        assert!(meant("ggcache get k", &config).is_err_and(|error| error.contains("--group")));
        assert_eq!(meant("ggcache get k --group other", &config), Ok(name("other")));
        config.default_group = Some(name("usual"));
        assert_eq!(meant("ggcache get k", &config), Ok(name("usual")));
        assert!(Arguments::try_parse_from(["ggcache", "get", "k", "--group", "Bad"]).is_err());
    }

    #[test]
    fn etcd_is_asked_if_it_is_named_or_configured() {
        let mut config = Config::default();
        let asked = |line: &str, config: &Config| is_by_etcd(&arguments(line).reach, config);
        assert!(!asked("ggcache get k", &config));
        assert!(asked("ggcache get k --etcd http://a:2379,http://b:2379", &config));
        assert!(asked("ggcache get k --service other", &config));
        config.cluster.discovery = DiscoveryKind::Etcd;
        assert!(asked("ggcache get k", &config));
        assert!(!asked("ggcache get k --addresses http://a:1", &config));
        let both = ["ggcache", "get", "k", "--addresses", "http://a:1", "--service", "s"];
        assert!(Arguments::try_parse_from(both).is_err());
    }

    #[test]
    fn nodes_are_named_or_configured() {
        let text = |line: &str, config: &Config| {
            let list: Vec<_> =
                endpoints(&arguments(line).reach, config).iter().map(ToString::to_string).collect();
            list.join(" ")
        };
        let mut config = Config::default();
        assert_eq!(text("ggcache get k", &config), "http://127.0.0.1:8000");
        assert_eq!(text("ggcache get k --grpc", &config), "grpc://localhost:10001");
        config.api.listen = "0.0.0.0:8001".parse().expect("valid");
        assert_eq!(text("ggcache get k", &config), "http://127.0.0.1:8001");
        config.cluster.peers = ["a:1", "b:1"].map(|peer| peer.parse().expect("valid")).to_vec();
        assert_eq!(text("ggcache get k --grpc", &config), "grpc://a:1 grpc://b:1");
        let named = "ggcache get k --addresses http://a:1,grpc://b:2";
        assert_eq!(text(named, &config), "http://a:1 grpc://b:2");
        assert_eq!(text(&format!("{named} --grpc"), &config), "grpc://a:1 grpc://b:2");
        let named = "ggcache get k --addresses https://a:1,http://b:2";
        assert_eq!(text(&format!("{named} --grpc"), &config), "grpcs://a:1 grpc://b:2");
        let tls = |plane| TlsConfig { plane, cert: "c".into(), key: "k".into(), ca: Some("ca".into()) };
        config.api.tls = Some(tls(TlsPlane::Api));
        assert_eq!(text("ggcache get k", &config), "https://127.0.0.1:8001");
        assert_eq!(text("ggcache get k --grpc", &config), "grpc://a:1 grpc://b:1");
        config.node.tls = Some(tls(TlsPlane::Peer));
        assert_eq!(text("ggcache get k --grpc", &config), "grpcs://a:1 grpcs://b:1");
    }

    #[test]
    fn a_token_is_in_a_file_or_in_the_environment() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("token");
        std::fs::write(&path, "of-the-file\n").expect("a file");
        let file = format!("ggcache get k --token-file {}", path.display());
        let found = |line: &str, variable: Option<&str>| {
            token(&arguments(line).reach, variable.map(OsString::from)).expect("readable")
        };
        assert_eq!(found(&file, Some("of-the-variable")).as_deref(), Some("of-the-file"));
        assert_eq!(found("ggcache get k", Some("of-the-variable")).as_deref(), Some("of-the-variable"));
        assert_eq!(found("ggcache get k", Some("")), None);
        assert_eq!(found("ggcache get k", None), None);
        let missing = token(&arguments("ggcache get k --token-file /nowhere/token").reach, None);
        assert!(missing.is_err_and(|error| error.to_string() == "can't read the token from /nowhere/token"));
    }
}
