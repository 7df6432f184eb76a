//! What must hold of tokens, whatever a client shows. The fuzz targets call it, through `crate::fuzz`.

use std::sync::LazyLock;

use super::{Access, AuthConfig, Memo, Scope, Scopes, Token, TokenConfig, TokenHash};

/// An `Authorization` header, and a token's hash.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_token(data: &[u8]) {
    static KNOWN: LazyLock<(Access, Token)> = LazyLock::new(|| {
        let token = Token::generate().expect("random bytes");
        let mut config = AuthConfig { anonymous: Scopes::NONE, ..AuthConfig::default() };
        let scopes = [Scope::Read].into_iter().collect();
        config.tokens.insert("fuzz".to_owned(), TokenConfig { hash: token.hash(), scopes, groups: None });
        (Access::new(&config), token)
    });
    let (access, token) = &*KNOWN;
    let memo = Memo::default();
    assert!(access.recognize(Some(data), &memo).is_err(), "nobody guesses a token");
    let right = format!("Bearer {}", token.expose());
    assert!(access.recognize(Some(right.as_bytes()), &memo).is_ok());
    assert!(access.recognize(Some(data), &memo).is_err(), "nor is one remembered for another");
    if let Ok(hash) = std::str::from_utf8(data).unwrap_or_default().parse::<TokenHash>() {
        assert_eq!(hash.expose().parse(), Ok(hash));
    }
}
