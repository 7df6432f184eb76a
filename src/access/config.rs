//! `[auth]`: the tokens that a node knows, and what is allowed without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Scope, Scopes, TokenHash, caller::ANONYMOUS};
use crate::settings::{Checks, Faults, Section, Settings};

/// Each request that shows a token is compared with all of them.
const TOKENS_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 63;
const SCOPE: &str = "a scope; write read, write, invalidate or admin";
const HASH: &str =
    "it is not sha256: and 64 hex digits; `ggcache token NAME` makes a token and prints its hash";
const NAME: &str = "a token's name is 1 to 63 of a-z, A-Z, 0-9, _ and -";

/// Who may ask for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The scopes of a request without a token. Where the key is left out: all if there is no token, else none.
    pub anonymous: Scopes,
    /// The tokens, by their names.
    pub tokens: BTreeMap<String, TokenConfig>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// Its hash.
    pub hash: TokenHash,
    /// What its holder may do: this, and not what is allowed without a token.
    pub scopes: Scopes,
    /// In which groups; `None` for all.
    pub groups: Option<BTreeSet<String>>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { anonymous: Scopes::all(), tokens: BTreeMap::new() }
    }
}

impl AuthConfig {
    /// Reads `[auth]` and every `[auth.token.NAME]`, and checks them.
    pub fn read(settings: &mut Settings) -> Self {
        let mut tokens = BTreeMap::new();
        let names = settings.names(&["auth", "token"]);
        let any = !names.is_empty();
        for name in names {
            let mut section = settings.section(&["auth", "token", &name]);
            if let Some(token) = TokenConfig::read(&mut section) {
                tokens.insert(name, token);
            }
        }
        let mut section = settings.section(&["auth"]);
        let default = if any { Vec::new() } else { Scope::ALL.to_vec() };
        let anonymous = section.parsed_list("anonymous", default, SCOPE);
        let config = Self { anonymous: anonymous.into_iter().collect(), tokens };
        let mut checks = Checks::new();
        config.check_names(&mut checks);
        section.check(checks.finish());
        config
    }

    /// Whether a token with the scope `admin` opens the operators' plane, and nothing else does.
    pub fn guards_admin(&self) -> bool {
        !self.anonymous.contains(Scope::Admin)
            && self.tokens.values().any(|token| token.scopes.contains(Scope::Admin))
    }

    /// Whether every value lies within its bounds. Whether groups are there is the caller's to check.
    ///
    /// # Errors
    /// Every value that is wrong, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        self.check_names(&mut checks);
        for (name, token) in &self.tokens {
            checks.nest(&format!("token.{name}"), validate(token.scopes, token.groups.as_ref()));
        }
        checks.finish()
    }

    /// What is about several tokens, or their names.
    fn check_names(&self, checks: &mut Checks) {
        if self.tokens.len() > TOKENS_MAX {
            checks.fault("token", format!("there are {}; write {TOKENS_MAX} at most", self.tokens.len()));
        }
        let mut seen = BTreeMap::new();
        for (name, token) in &self.tokens {
            if let Err(message) = token_name(name) {
                checks.fault(&format!("token.{name}"), message);
            }
            if let Some(other) = seen.insert(token.hash, name) {
                let message = format!("it is that of the token {other} too; a token has one name");
                checks.fault(&format!("token.{name}.hash"), message);
            }
        }
    }
}

fn validate(scopes: Scopes, groups: Option<&BTreeSet<String>>) -> Result<(), Faults> {
    let mut checks = Checks::new();
    if scopes.is_empty() {
        checks.fault("scopes", "there is none; write for example scopes = [\"read\"]");
    }
    if groups.is_some_and(BTreeSet::is_empty) {
        checks.fault("groups", "the list is empty; leave it out for every group");
    }
    checks.finish()
}

impl TokenConfig {
    /// Reads one section; `None` if it holds no hash.
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let hash = section.secret("hash", "sha256:…", |text| Hidden(text.parse().ok()));
        if hash.as_ref().is_some_and(|hash| hash.0.is_none()) {
            section.fault("hash", HASH);
        }
        let scopes: Scopes = section.parsed_list("scopes", Vec::new(), SCOPE).into_iter().collect();
        let groups = section.optional_strings("groups");
        let groups: Option<BTreeSet<String>> = groups.map(|groups| groups.into_iter().collect());
        section.check_sound(validate(scopes, groups.as_ref()));
        let hash = hash.and_then(|hash| hash.0);
        Some(Self { hash: hash?, scopes, groups })
    }
}

/// What was written as a hash, which might be a token by mistake.
struct Hidden(Option<TokenHash>);

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:***")
    }
}

/// A name that a token may have.
///
/// # Errors
/// What is wrong with it.
pub fn token_name(name: &str) -> Result<String, &'static str> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(valid) {
        return Err(NAME);
    }
    if name == ANONYMOUS {
        return Err("the name stands for who shows no token; choose another");
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(AuthConfig, String), String> {
        let mut settings = Settings::new();
        settings.add_text("t.toml", text).map_err(|faults| faults.to_string())?;
        let config = AuthConfig::read(&mut settings);
        settings
            .finish()
            .map(|effective| (config, effective.to_string()))
            .map_err(|faults| faults.to_string())
    }

    const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn nothing_is_the_default_and_the_first_token_closes_the_door() {
        let (config, _) = read("").expect("right");
        assert_eq!(config, AuthConfig::default());
        assert_eq!(config.anonymous, Scopes::all());
        let token = format!("[auth.token.app]\nhash = \"{ZEROS}\"\nscopes = [\"read\", \"admin\"]\n");
        let (config, effective) = read(&token).expect("right");
        assert_eq!(config.anonymous, Scopes::NONE);
        assert!(config.guards_admin());
        assert!(effective.contains("anonymous = []  # default"), "{effective}");
        assert!(!effective.contains("0000") && effective.contains("hash = \"sha256:***\""), "{effective}");
        assert!(effective.contains("# groups is not set"), "{effective}");
        let open = format!("[auth]\nanonymous = [\"read\", \"admin\"]\n{token}groups = [\"a\"]\n");
        let (config, _) = read(&open).expect("right");
        assert!(config.anonymous.contains(Scope::Read) && !config.guards_admin());
        assert_eq!(config.tokens["app"].groups, Some(BTreeSet::from(["a".to_owned()])));
    }

    #[test]
    fn faults_say_what_would_be_right_and_show_no_token() {
        let token = "ggc_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let faults = read(&format!(
            "[auth]\nanonymous = [\"raed\"]\n\
             [auth.token.a]\nhash = \"{token}\"\nscopes = [\"read\"]\n\
             [auth.token.b]\nscopes = [\"read\"]\n\
             [auth.token.c]\nhash = \"{ZEROS}\"\n\
             [auth.token.d]\nhash = \"{ZEROS}\"\nscopes = [\"read\", \"root\"]\ngroups = []\n\
             [auth.token.\"e e\"]\nhash = \"{}1\"\nscopes = [\"read\"]\n\
             [auth.token.anonymous]\nhash = \"{}2\"\nscopes = [\"read\"]\n",
            &ZEROS[..70],
            &ZEROS[..70]
        ))
        .expect_err("nine are wrong");
        assert!(!faults.contains(token), "{faults}");
        for expected in [
            "auth.token.a.hash: it is not sha256: and 64 hex digits; `ggcache token NAME`",
            "auth.token.b.hash: it is missing",
            "auth.token.c.scopes: there is none; write for example scopes = [\"read\"]",
            "auth.token.d.hash: it is that of the token c too; a token has one name",
            "auth.token.d.scopes: \"root\" is not a scope; write read, write, invalidate or admin",
            "auth.token.d.groups: the list is empty; leave it out for every group",
            "auth.token.\"e e\"",
            "auth.token.anonymous: the name stands for who shows no token; choose another",
            "auth.anonymous: \"raed\" is not a scope; write read, write, invalidate or admin",
        ] {
            assert!(faults.contains(expected), "{expected} is not in\n{faults}");
        }
    }
}
