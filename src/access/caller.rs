//! Who asks, and what it may.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::{Scope, Scopes};
use crate::{error::ErrorCode, problem::Problem};

/// The name of who shows no token. No token may have it.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Who asks. Cheap to clone.
#[derive(Clone)]
pub struct Caller(Arc<Known>);

/// What is known of a caller.
#[derive(Clone)]
struct Known {
    /// `None` for who shows no token.
    token: Option<Arc<str>>,
    key: u64,
    scopes: Scopes,
    /// In order; `None` for every group.
    groups: Option<Arc<[Box<str>]>>,
}

/// Why a caller is refused. No message names a group or repeats what was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// There is an `Authorization` header of another kind.
    #[error("the authorization header is not understood; send Authorization: Bearer TOKEN")]
    NotBearer,
    /// A token was shown that is none, or that this node does not know.
    #[error(
        "the token is not one that this node knows; `ggcache token NAME` makes one for its configuration"
    )]
    UnknownToken,
    /// No token was shown, and without one this is not allowed.
    #[error("this needs a token with the scope {0}; send Authorization: Bearer TOKEN")]
    TokenNeeded(Scope),
    /// The token has not the scope.
    #[error("the token has not the scope {0}")]
    ScopeMissing(Scope),
    /// The token is for some groups, and this is none of them. Whether there is such a group is not said.
    #[error("the token is for other groups")]
    OtherGroups(Scope),
    /// The token is for some groups, and what operators see and do is about all of them.
    #[error("the token is for some groups, and this is about all of them")]
    SomeGroups(Scope),
}

impl Caller {
    /// Who shows no token.
    pub(super) fn anonymous(scopes: Scopes) -> Self {
        Self(Arc::new(Known { token: None, key: 0, scopes, groups: None }))
    }

    /// Who shows the token of this name. `groups` are in order.
    pub(super) fn with_token(name: &str, scopes: Scopes, groups: Option<Arc<[Box<str>]>>) -> Self {
        let key = xxh3_64(name.as_bytes());
        Self(Arc::new(Known { token: Some(Arc::from(name)), key, scopes, groups }))
    }

    /// The same caller with a count of its own, so that connections with one token write to different lines of memory.
    pub(super) fn apart(&self) -> Self {
        Self(Arc::new(Known::clone(&self.0)))
    }

    /// Whether no token was shown.
    pub fn is_anonymous(&self) -> bool {
        self.0.token.is_none()
    }

    /// The token's name in the configuration, for logs; `anonymous` for none. Nothing secret.
    pub fn name(&self) -> &str {
        self.0.token.as_deref().unwrap_or(ANONYMOUS)
    }

    /// A number that stands for the token's name: the same in every process and after each reload, and when the token
    /// behind the name is changed. 0 for all who show none.
    pub fn key(&self) -> u64 {
        self.0.key
    }

    /// Whether this caller may do what `scope` means; for a `group`, if it is about one. To be asked before anything is
    /// said of the group, also whether there is one of the name. What operators see and do is not cut by group, so that
    /// a token for some groups may have none of it.
    ///
    /// # Errors
    /// Why not: 401 where a token is missing, 403 where it is not enough.
    pub fn may(&self, scope: Scope, group: Option<&str>) -> Result<(), AccessError> {
        let known = &*self.0;
        if !known.scopes.contains(scope) {
            return Err(match known.token {
                None => AccessError::TokenNeeded(scope),
                Some(_) => AccessError::ScopeMissing(scope),
            });
        }
        match (&known.groups, group) {
            (Some(groups), Some(group)) if groups.binary_search_by(|g| (**g).cmp(group)).is_err() => {
                Err(AccessError::OtherGroups(scope))
            }
            (Some(_), None) if scope == Scope::Admin => Err(AccessError::SomeGroups(scope)),
            _ => Ok(()),
        }
    }

    /// Whether the caller may see that there is this group: whether its token, if it has one, is for it.
    pub fn sees(&self, group: &str) -> bool {
        self.0.groups.as_ref().is_none_or(|groups| groups.binary_search_by(|g| (**g).cmp(group)).is_ok())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known { scopes, groups, .. } = &*self.0;
        f.debug_struct("Caller")
            .field("name", &self.name())
            .field("scopes", scopes)
            .field("groups", groups)
            .finish()
    }
}

impl AccessError {
    /// 401 if it is not known who asks, 403 if it is.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotBearer | Self::UnknownToken | Self::TokenNeeded(_) => ErrorCode::Unauthenticated,
            Self::ScopeMissing(_) | Self::OtherGroups(_) | Self::SomeGroups(_) => ErrorCode::Forbidden,
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750, section 3).
    pub const fn challenge(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::NotBearer | Self::TokenNeeded(_) => r#"Bearer realm="ggcache""#,
            Self::UnknownToken => r#"Bearer realm="ggcache", error="invalid_token""#,
            Self::ScopeMissing(_) | Self::OtherGroups(_) | Self::SomeGroups(_) => {
                r#"Bearer realm="ggcache", error="insufficient_scope""#
            }
        })
    }

    /// The answer over HTTP.
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Problem::new(self.code(), self.to_string()).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, self.challenge());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(scopes: &[Scope], groups: Option<&[&str]>) -> Caller {
        let groups = groups.map(|groups| groups.iter().map(|group| Box::from(*group)).collect());
        Caller::with_token("app", scopes.iter().copied().collect(), groups)
    }

    #[test]
    fn who_shows_nothing_is_asked_for_a_token_and_who_shows_too_little_is_forbidden() {
        let anonymous = Caller::anonymous([Scope::Read].into_iter().collect());
        assert_eq!(anonymous.may(Scope::Read, Some("scores")), Ok(()));
        let refused = anonymous.may(Scope::Write, None).expect_err("it may read");
        assert_eq!(
            (refused, refused.code()),
            (AccessError::TokenNeeded(Scope::Write), ErrorCode::Unauthenticated)
        );
        let app = some(&[Scope::Admin], None);
        for scope in [Scope::Read, Scope::Write, Scope::Invalidate] {
            let refused = app.may(scope, None).expect_err("admin includes none of the others");
            assert_eq!((refused, refused.code()), (AccessError::ScopeMissing(scope), ErrorCode::Forbidden));
        }
        assert_eq!(app.may(Scope::Admin, Some("any")), Ok(()));
    }

    #[test]
    fn a_group_that_is_not_there_is_refused_like_one_that_is() {
        let app = some(&[Scope::Read], Some(&["prices", "scores"]));
        assert_eq!(app.may(Scope::Read, Some("scores")), Ok(()));
        assert_eq!(app.may(Scope::Read, None), Ok(()));
        let refused = app.may(Scope::Read, Some("salaries")).expect_err("not for it");
        assert_eq!(app.may(Scope::Read, Some("nonsense")), Err(refused));
        assert_eq!(refused.to_string(), "the token is for other groups");
        assert_eq!((app.sees("scores"), app.sees("salaries")), (true, false));
    }

    #[test]
    fn what_is_about_all_groups_is_not_for_a_token_for_some() {
        let some_groups = some(&[Scope::Admin, Scope::Read], Some(&["scores"]));
        let refused = some_groups.may(Scope::Admin, None).expect_err("all groups are more than one");
        assert_eq!((refused, refused.code()), (AccessError::SomeGroups(Scope::Admin), ErrorCode::Forbidden));
        // What of the rest is about groups is cut by group.
        assert_eq!(some_groups.may(Scope::Read, None), Ok(()));
        assert_eq!(some(&[Scope::Admin], None).may(Scope::Admin, None), Ok(()));
    }

    #[test]
    fn names_and_keys() {
        let (app, other) = (some(&[], None), some(&[Scope::Read], Some(&[])));
        assert_eq!((app.name(), app.key()), (other.name(), other.key()), "the name is what counts");
        let anonymous = Caller::anonymous(Scopes::NONE);
        assert_eq!((anonymous.name(), anonymous.key(), anonymous.is_anonymous()), ("anonymous", 0, true));
        assert_ne!(app.key(), 0);
    }

    #[test]
    fn answers_say_what_to_send() {
        let response = AccessError::UnknownToken.into_response();
        assert_eq!(response.status(), 401);
        let challenge = &response.headers()[header::WWW_AUTHENTICATE];
        assert_eq!(challenge, r#"Bearer realm="ggcache", error="invalid_token""#);
        let response = AccessError::TokenNeeded(Scope::Read).into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], r#"Bearer realm="ggcache""#);
        assert_eq!(AccessError::OtherGroups(Scope::Read).into_response().status(), 403);
    }
}
