//! The command line, up to the call of `app`.

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory, Parser};

use super::{
    args::{Arguments, Command},
    sources,
};
use crate::access::Scope;
use crate::config::{ApiAddress, Sources};

fn parse(line: &str) -> Arguments {
    Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn sources_of(line: &str, env: &[(&str, &str)], default_exists: bool) -> Sources {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    sources(parse(line).command.sources().expect("it has them"), env, default_exists)
        .unwrap_or_else(|faults| panic!("{line}: {faults}"))
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_s_help_has_an_example() {
    let command = Arguments::command();
    let all: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert_eq!(all, ["serve", "check", "migrate", "changes", "get", "certs", "config", "openapi", "token"]);
    for name in &all {
        let error =
            Arguments::try_parse_from(["ggcache", name, "--help"]).expect_err("help ends the parsing");
        let help = error.to_string();
        assert!(
            !error.use_stderr() && help.contains("Example") && help.contains(&format!("ggcache {name}")),
            "{help}"
        );
    }
    let version = Arguments::try_parse_from(["ggcache", "--version"]).expect_err("so does the version");
    assert_eq!(version.to_string(), concat!("ggcache ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_file_is_named_by_flag_then_variable_then_default() {
    let variable = [("GGCACHE_CONFIG", "env.toml")];
    let empty = [("GGCACHE_CONFIG", "")];
    for (line, env, exists, expected) in [
        ("ggcache serve --config flag.toml", &variable[..], true, Some("flag.toml")),
        ("ggcache serve", &variable, true, Some("env.toml")),
        ("ggcache serve", &empty, true, Some("ggcache.toml")),
        ("ggcache serve", &[], true, Some("ggcache.toml")),
        ("ggcache serve", &[], false, None),
    ] {
        assert_eq!(sources_of(line, env, exists).file, expected.map(PathBuf::from), "{line} {env:?}");
    }
}

#[test]
fn ports_and_api_addresses() {
    let full = ApiAddress::Full("127.0.0.1:8000".parse().expect("an address"));
    for (line, port, api) in [
        ("ggcache serve", None, None),
        ("ggcache serve --port 10002", Some(10_002), None),
        ("ggcache serve --api", None, Some(ApiAddress::Configured)),
        ("ggcache serve --api --port 10002", Some(10_002), Some(ApiAddress::Configured)),
        ("ggcache serve --api 8000", None, Some(ApiAddress::Port(8000))),
        ("ggcache serve --api=:8000", None, Some(ApiAddress::Port(8000))),
        ("ggcache config --api 127.0.0.1:8000", None, Some(full)),
    ] {
        let sources = sources_of(line, &[], false);
        assert_eq!((sources.port, sources.api), (port, api), "{line}");
    }
    for line in
        ["serve --port 0", "serve --port 65536", "serve --api localhost:1", "serve --nope", "", "swerve"]
    {
        let error = Arguments::try_parse_from(format!("ggcache {line}").split(' ')).expect_err(line);
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn single_keys() {
    let sources = sources_of("ggcache serve --set a.b=c=d --set x=", &[], false);
    let flags: Vec<_> = sources.flags.iter().map(|set| (set.key.as_str(), set.value.as_str())).collect();
    assert_eq!(flags, [("a.b", "c=d"), ("x", "")]);

    let arguments = parse("ggcache serve --set hunter2");
    let faults = super::sources(arguments.command.sources().expect("it has them"), std::iter::empty(), false)
        .err()
        .expect("it has no value");
    assert_eq!(faults.to_string(), "--set: it has no \"=\"; write for example --set log.level=debug");
}

#[test]
fn tokens_have_names_scopes_and_groups() {
    let Command::Token(plain) = parse("ggcache token app").command else { panic!("it is named") };
    assert_eq!((plain.name.as_str(), plain.scopes, plain.groups), ("app", vec![Scope::Read], vec![]));
    let Command::Token(more) = parse("ggcache token a_1 --scopes write,admin --groups a,b").command else {
        panic!("it is named")
    };
    assert_eq!((more.scopes, more.groups.len()), (vec![Scope::Write, Scope::Admin], 2));
    for line in [
        "ggcache token",
        "ggcache token a.b",
        "ggcache token anonymous",
        "ggcache token a --scopes root",
        "ggcache token a --groups A",
    ] {
        assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
