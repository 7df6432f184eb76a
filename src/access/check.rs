//! From a request's header to a caller.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::{AccessError, AuthConfig, Caller, Memo, Token, TokenHash};

/// The longest `Authorization` header that is looked at, in bytes: a scheme and a token have 54.
const HEADER_BYTES_MAX: usize = 256;

/// The tokens in force, and what is allowed without one. Swapped whole while requests go on.
#[derive(Debug)]
pub struct Access {
    table: ArcSwap<Table>,
}

/// What one configuration says. Never changed.
#[derive(Debug)]
struct Table {
    generation: u64,
    anonymous: Caller,
    tokens: Vec<(TokenHash, Caller)>,
}

impl Table {
    fn new(config: &AuthConfig) -> Self {
        /// One count for all tables of the process: what was remembered by one is never taken for another's.
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let caller = |name: &str, token: &super::TokenConfig| {
            let groups = token.groups.as_ref().map(|groups| groups.iter().map(|g| Box::from(&**g)).collect());
            (token.hash, Caller::with_token(name, token.scopes, groups))
        };
        Self {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            anonymous: Caller::anonymous(config.anonymous),
            tokens: config.tokens.iter().map(|(name, token)| caller(name, token)).collect(),
        }
    }

    fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Caller, AccessError> {
        let Some(header) = authorization else { return Ok(self.anonymous.clone()) };
        let token = bearer(header)?;
        if !Token::is_one(token) {
            return Err(AccessError::UnknownToken);
        }
        // What was shown is hashed before it is compared, so that nothing of a token could be learned from the time that a
        // comparison takes: who guesses does not choose the hash. And then every hash is compared whole, and the
        // place of the one that is equal picked without a branch: not even whether there was one shows before the end.
        let shown = TokenHash::of(token);
        let mut found = u32::MAX;
        for (index, (hash, _)) in (0_u32..).zip(&self.tokens) {
            found.conditional_assign(&index, hash.bytes()[..].ct_eq(&shown.bytes()[..]));
        }
        let found = usize::try_from(found).ok().and_then(|index| self.tokens.get(index));
        found.map(|(_, caller)| caller.clone()).ok_or(AccessError::UnknownToken)
    }
}

impl Access {
    /// What `config` says.
    pub fn new(config: &AuthConfig) -> Self {
        Self { table: ArcSwap::from_pointee(Table::new(config)) }
    }

    /// Puts another configuration into force, for all requests from now on: what connections remember is void.
    pub fn replace(&self, config: &AuthConfig) {
        self.table.store(Arc::new(Table::new(config)));
    }

    /// The number of the configuration in force. Another one has a greater number.
    pub fn generation(&self) -> u64 {
        self.table.load().generation
    }

    /// Who sent this `Authorization` header, or none.
    ///
    /// # Errors
    /// If it is not a token that is known.
    pub fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Caller, AccessError> {
        self.table.load().authenticate(authorization)
    }

    /// As [`authenticate`](Self::authenticate), without hashing a header that the connection has sent before.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub fn recognize(&self, authorization: Option<&[u8]>, memo: &Memo) -> Result<Caller, AccessError> {
        let table = self.table.load();
        if let Some(caller) = memo.caller(authorization, table.generation) {
            return Ok(caller);
        }
        let caller = table.authenticate(authorization)?;
        memo.remember(authorization, table.generation, &caller);
        Ok(caller)
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, section 2.1; the scheme's case does not matter, RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Result<&[u8], AccessError> {
    const SCHEME: &[u8] = b"bearer ";
    if header.len() > HEADER_BYTES_MAX {
        return Err(AccessError::UnknownToken);
    }
    match header.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(token.trim_ascii()),
        _ => Err(AccessError::NotBearer),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Scope, Scopes, TokenConfig},
        *,
    };

    /// Tokens named by `names`, with the scope to read.
    fn tokens(names: &[&str]) -> (AuthConfig, Vec<Token>) {
        let mut config = AuthConfig { anonymous: Scopes::NONE, ..AuthConfig::default() };
        let mut all = Vec::new();
        for name in names {
            let token = Token::generate().expect("random");
            let scopes = [Scope::Read].into_iter().collect();
            let entry = TokenConfig { hash: token.hash(), scopes, groups: None };
            config.tokens.insert((*name).to_owned(), entry);
            all.push(token);
        }
        (config, all)
    }

    fn header(token: &Token) -> Vec<u8> {
        format!("Bearer {}", token.expose()).into_bytes()
    }

    #[test]
    fn each_token_is_its_own_caller() {
        let names = ["a", "b", "c", "d", "e"];
        let (config, tokens) = tokens(&names);
        let access = Access::new(&config);
        for (name, token) in names.iter().zip(&tokens) {
            assert_eq!(access.authenticate(Some(&header(token))).expect("known").name(), *name);
            let lower = format!("bEARER   {}", token.expose());
            assert_eq!(access.authenticate(Some(lower.as_bytes())).expect("known").name(), *name);
        }
        let anonymous = access.authenticate(None).expect("nobody in particular");
        assert_eq!(anonymous.may(Scope::Read, None), Err(AccessError::TokenNeeded(Scope::Read)));
    }

    #[test]
    fn without_tokens_all_is_allowed() {
        let access = Access::new(&AuthConfig::default());
        let caller = access.authenticate(None).expect("nobody in particular");
        assert!(Scope::ALL.into_iter().all(|scope| caller.may(scope, Some("scores")).is_ok()));
        let token = Token::generate().expect("random");
        assert_eq!(access.authenticate(Some(&header(&token))).err(), Some(AccessError::UnknownToken));
    }

    #[test]
    fn what_is_no_known_token_is_refused() {
        let (config, all) = tokens(&["app"]);
        let access = Access::new(&config);
        let right = String::from_utf8(header(&all[0])).expect("text");
        let unknown = Token::generate().expect("random");
        let long = format!("Bearer {}", "a".repeat(HEADER_BYTES_MAX));
        let cases = [
            (String::new(), AccessError::NotBearer),
            ("Bearer".to_owned(), AccessError::NotBearer),
            ("Basic YTpi".to_owned(), AccessError::NotBearer),
            (all[0].expose().to_owned(), AccessError::NotBearer),
            ("Bearer ".to_owned(), AccessError::UnknownToken),
            (format!("{right}x"), AccessError::UnknownToken),
            (format!("{right},{right}"), AccessError::UnknownToken),
            (right[..right.len() - 1].to_owned(), AccessError::UnknownToken),
            (String::from_utf8(header(&unknown)).expect("text"), AccessError::UnknownToken),
            (format!("Bearer {}", config.tokens["app"].hash.expose()), AccessError::UnknownToken),
            (long, AccessError::UnknownToken),
        ];
        for (header, expected) in cases {
            assert_eq!(access.authenticate(Some(header.as_bytes())).err(), Some(expected), "{header}");
            assert!(!header.is_empty() || !expected.to_string().contains("ggc_"));
        }
    }

    #[test]
    fn a_reload_makes_what_was_remembered_void() {
        let (mut config, all) = tokens(&["app", "other"]);
        let access = Access::new(&config);
        let (memo, header) = (Memo::default(), header(&all[0]));
        for _ in 0..2 {
            assert_eq!(access.recognize(Some(&header), &memo).expect("known").name(), "app");
        }
        let before = access.generation();
        config.tokens.get_mut("app").expect("it is there").scopes = Scopes::all();
        access.replace(&config);
        assert!(access.generation() > before);
        assert_eq!(access.recognize(Some(&header), &memo).expect("known").may(Scope::Admin, None), Ok(()));
        config.tokens.remove("app");
        access.replace(&config);
        assert_eq!(access.recognize(Some(&header), &memo).err(), Some(AccessError::UnknownToken));
        let none = access.recognize(None, &memo).expect("nobody in particular");
        assert!(none.is_anonymous());
    }

    #[test]
    fn a_memo_is_no_other_access_s() {
        let (config, all) = tokens(&["app"]);
        let (memo, header) = (Memo::default(), header(&all[0]));
        Access::new(&config).recognize(Some(&header), &memo).expect("known");
        let other = Access::new(&AuthConfig::default());
        assert_eq!(other.recognize(Some(&header), &memo).err(), Some(AccessError::UnknownToken));
    }

    proptest! {
        #[test]
        fn any_header_is_refused_or_none(header: Vec<u8>, rest in "[A-Za-z0-9_-]{43}") {
            let (config, _) = tokens(&["app"]);
            let access = Access::new(&config);
            prop_assert!(access.authenticate(Some(&header)).is_err());
            let invented = format!("Bearer ggc_{rest}");
            prop_assert!(access.authenticate(Some(invented.as_bytes())).is_err());
        }
    }
}
