//! `ggcache token`: makes a token, shows it once, and prints what the configuration has of it.
//!
//! The token alone goes to standard output, and what else there is to standard error, all of it TOML: so that a script
//! takes the one, and appends the other to a configuration.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use super::args::TokenArguments;
use crate::access::Token;

/// Makes a token and prints it.
///
/// # Errors
/// If the system gives no random bytes, or nothing can be printed.
pub(super) fn run(arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    let token = Token::generate()?;
    // The section first: a token without it would be lost.
    write!(io::stderr(), "{}", section(arguments, &token))?;
    writeln!(io::stdout(), "{}", token.expose())?;
    Ok(ExitCode::SUCCESS)
}

/// What the configuration has of the token.
fn section(arguments: &TokenArguments, token: &Token) -> String {
    let TokenArguments { name, scopes, groups } = arguments;
    let mut scopes: Vec<_> = scopes.clone();
    scopes.sort_unstable();
    scopes.dedup();
    let mut text = format!(
        "# The token is shown once. This goes into the configuration of every node, which then knows it by its hash:\n\
         [auth.token.{name}]\n\
         hash = \"{}\"\n\
         scopes = {}\n",
        token.hash().expose(),
        list(&scopes)
    );
    if !groups.is_empty() {
        let _ = writeln!(text, "groups = {}", list(groups));
    }
    text
}

fn list(items: &[impl ToString]) -> String {
    toml::Value::Array(items.iter().map(|item| toml::Value::String(item.to_string())).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{AuthConfig, Scope},
        group::GroupName,
        settings::Settings,
    };

    #[test]
    fn what_is_printed_is_a_configuration_and_holds_no_token() {
        let arguments = TokenArguments {
            name: "app-1".to_owned(),
            scopes: vec![Scope::Invalidate, Scope::Read, Scope::Read],
            groups: vec![GroupName::new("scores").expect("a name")],
        };
        let token = Token::generate().expect("random");
        let text = section(&arguments, &token);
        assert!(!text.contains(token.expose()), "{text}");
        let mut settings = Settings::new();
        settings.add_text("printed", &text).expect("it is TOML");
        let config = AuthConfig::read(&mut settings);
        settings.finish().unwrap_or_else(|faults| panic!("{faults}"));
        let entry = &config.tokens["app-1"];
        assert_eq!(entry.hash, token.hash());
        assert_eq!(entry.scopes.iter().collect::<Vec<_>>(), [Scope::Read, Scope::Invalidate]);
        assert_eq!(
            entry.groups.as_ref().map(|groups| groups.iter().cloned().collect()),
            Some(vec!["scores".to_owned()])
        );
    }
}
