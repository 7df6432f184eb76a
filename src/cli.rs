//! The command line: parses it, loads the configuration, calls `app`, and turns the outcome into an exit code.
//!
//! The only place that looks at the process's arguments and environment, and the only one that prints.
//! 0 is success; 1 a failure at run time; 2 a wrong command line or configuration; 3 a key that is not there.

mod args;
mod certs;
mod get;
#[cfg(test)]
mod tests;
mod token;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use self::args::{Arguments, ChangesAction, ChangesArguments, Command, SourceArguments};
use crate::{
    app::{self, ChangesCommand},
    config::{Config, FlagSetting, Loaded, Sources},
    settings::{Fault, Faults},
};

/// The exit code of a wrong command line or configuration.
const EXIT_WRONG: u8 = 2;
/// Read without `--config` and `GGCACHE_CONFIG`, if it is there.
const FILE_DEFAULT: &str = "ggcache.toml";
/// Names the file in place of `--config`.
const FILE_VARIABLE: &str = "GGCACHE_CONFIG";

/// Runs the command that the process's arguments name.
pub fn run() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => dispatch(arguments.command),
        Err(error) => {
            // Help and version go to standard output and are no error. If nobody reads them, nothing is lost.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS }
        }
    }
}

fn dispatch(command: Command) -> ExitCode {
    let done = match command.sources() {
        None => execute_alone(&command),
        Some(arguments) => {
            let sources = sources(arguments, env::vars_os(), Path::new(FILE_DEFAULT).exists());
            let loaded = sources.and_then(|sources| Ok((Config::load(sources.clone())?, sources)));
            match loaded {
                Ok((loaded, sources)) => execute(&command, loaded, sources),
                Err(faults) => {
                    complain(faults.iter());
                    return ExitCode::from(EXIT_WRONG);
                }
            }
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain([format!("{error:#}")]);
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that needs no configuration.
fn execute_alone(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Openapi(arguments) => print(&app::openapi(arguments.admin)),
        Command::Certs(arguments) => certs::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        _ => anyhow::bail!("the command needs a configuration"),
    }
}

fn execute(command: &Command, loaded: Loaded, sources: Sources) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(_) => app::serve(loaded, sources).map(|()| ExitCode::SUCCESS),
        Command::Check(_) => app::check(&loaded.config),
        Command::Migrate(_) => app::migrate(&loaded.config).map(|()| ExitCode::SUCCESS),
        Command::Changes(arguments) => changes(arguments, &loaded.config),
        Command::Get(arguments) => get::run(arguments, &loaded.config),
        Command::Config(_) => print(&loaded.effective.to_string()),
        Command::Certs(_) | Command::Openapi(_) | Command::Token(_) => execute_alone(command),
    }
}

fn changes(arguments: &ChangesArguments, config: &Config) -> anyhow::Result<ExitCode> {
    let all = arguments.all;
    anyhow::ensure!(!all || arguments.action == ChangesAction::Remove, "--all goes with remove only");
    let command = match arguments.action {
        ChangesAction::Install => ChangesCommand::Install,
        ChangesAction::Status => ChangesCommand::Status,
        ChangesAction::Remove => ChangesCommand::Remove { all },
    };
    app::changes(config, command, arguments.database.as_deref(), arguments.dry_run)?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        // `ggcache config | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What the configuration is read from, by the command line and the environment.
fn sources(
    arguments: &SourceArguments,
    env: impl Iterator<Item = (OsString, OsString)>,
    default_exists: bool,
) -> Result<Sources, Faults> {
    let env: Vec<_> = env.collect();
    let variable = || env.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
    let file = arguments.config.clone().or_else(|| variable().map(|(_, value)| PathBuf::from(value)));
    let file = file.or_else(|| default_exists.then(|| PathBuf::from(FILE_DEFAULT)));
    let mut faults = Vec::new();
    let mut flags = Vec::new();
    for setting in &arguments.set {
        match setting.split_once('=') {
            Some((key, value)) => flags.push(FlagSetting {
                key: key.trim().to_owned(),
                value: value.to_owned(),
                flag: "--set".to_owned(),
            }),
            // The text is not shown: it may be a value, and a secret.
            None => {
                faults.push(Fault::value("--set", "it has no \"=\"; write for example --set log.level=debug"))
            }
        }
    }
    Faults::or_ok(faults)?;
    Ok(Sources { file, env, flags, port: arguments.plane.port, api: arguments.plane.api })
}

/// Prints one line for each error. There is nowhere left to report that this fails.
fn complain<T: std::fmt::Display>(errors: impl IntoIterator<Item = T>) {
    let mut stderr = io::stderr().lock();
    for error in errors {
        let _ = writeln!(stderr, "error: {error}");
    }
}
