//! The token by which a client shows who it is.

use std::fmt;

use http::HeaderValue;

use super::BuildError;

/// The value of the header `authorization` for a token. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Authorization(HeaderValue);

impl Authorization {
    /// For a bearer token (RFC 6750, section 2.1), of visible ASCII characters.
    pub(super) fn bearer(token: &str) -> Result<Self, BuildError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BuildError::Token);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| BuildError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) const fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use http::{Request, Response, header};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use parking_lot::Mutex;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        client::{Client, Endpoint},
        group::{GroupName, Key},
        net::{Connection, Handler, LimitsConfig, Plane, serve},
        task::Tasks,
    };

    /// Remembers what it was shown, and answers nothing of use.
    #[derive(Clone, Default)]
    struct Doorman(Arc<Mutex<Vec<Option<String>>>>);

    impl Handler for Doorman {
        type Session = ();
        type Body = Full<Bytes>;

        async fn call(&self, request: Request<Incoming>, _: &Connection<()>) -> Response<Full<Bytes>> {
            let shown = request.headers().get(header::AUTHORIZATION);
            self.0.lock().push(shown.map(|shown| shown.to_str().expect("text").to_owned()));
            Response::builder().status(403).body(Full::default()).expect("an answer")
        }
    }

    #[tokio::test]
    async fn a_token_is_shown_over_every_protocol() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (doorman, tasks) = (Doorman::default(), Tasks::new());
        let plane = Plane { name: "api", listener, tls: None, connections: metrics::Gauge::noop() };
        tasks.spawn(serve(plane, doorman.clone(), LimitsConfig::default(), tasks.clone()));
        let (group, key) = (GroupName::new("g").expect("valid"), Key::new("k").expect("valid"));
        let schemes = if cfg!(feature = "grpc") { &["http", "grpc"][..] } else { &["http"] };
        for scheme in schemes {
            for token in [Some("secret-1"), None] {
                let node: Endpoint = format!("{scheme}://{address}").parse().expect("valid");
                let builder = Client::builder().addresses([node]).deadline(Duration::from_secs(20));
                let builder = match token {
                    Some(token) => builder.bearer_token(token),
                    None => builder,
                };
                assert!(!format!("{builder:?}").contains("secret"));
                let client = builder.build().expect("valid");
                assert!(!format!("{client:?}").contains("secret"));
                let error = client.get(&group, &key).await.expect_err("the doorman lets nobody in");
                assert!(!format!("{error:?}").contains("secret"));
                let expected = token.map(|token| format!("Bearer {token}"));
                assert_eq!(doorman.0.lock().last(), Some(&expected), "{scheme}");
            }
        }
        tasks.stop();
    }

    #[test]
    fn tokens_are_visible_ascii() {
        for wrong in ["", "a b", "a\n", "\u{fc}", "a\0"] {
            assert!(matches!(Authorization::bearer(wrong), Err(BuildError::Token)), "{wrong:?}");
        }
        let token = Authorization::bearer("abc~.=").expect("visible");
        assert!(token.value().is_sensitive() && format!("{token:?}") == "***");
    }
}
