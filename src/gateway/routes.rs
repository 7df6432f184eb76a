//! Every route of the api and admin planes, in one table.
//!
//! The routers are put together from it ([`mount`]), the OpenAPI document is completed by it, and tests walk it: a route
//! that is not in the table is not answered, and one that is in it can't be forgotten by what looks after all of them.

use axum::{Router, routing::MethodRouter};
use http::Method;

use crate::access::Scope;

/// A value, with its key as the last part of the path.
pub(super) const KEY: &str = "/api/v1/groups/{group}/keys/{key}";
/// A value, with its key in the query.
pub(super) const KEY_IN_QUERY: &str = "/api";
pub(super) const BATCH_GET: &str = "/api/v1/groups/{group}/keys:batchGet";
pub(super) const INVALIDATE: &str = "/api/v1/groups/{group}/keys:invalidate";
pub(super) const GROUPS: &str = "/api/v1/groups";
pub(super) const GROUP: &str = "/api/v1/groups/{group}";
pub(super) const CLUSTER: &str = "/api/v1/cluster";
pub(super) const OWNER: &str = "/api/v1/cluster/owner";
pub(super) const LIVEZ: &str = "/livez";
pub(super) const READYZ: &str = "/readyz";
pub(super) const OPENAPI: &str = "/openapi.json";
pub(super) const DOCS: &str = "/docs";
pub(super) const DOCS_PAGE: &str = "/docs/";
pub(super) const DOCS_FILE: &str = "/docs/{file}";
pub(super) const METRICS: &str = "/metrics";
pub(super) const CONFIG: &str = "/api/v1/config";
pub(super) const RELOAD: &str = "/api/v1/config:reload";

const READ: &[Method] = &[Method::GET, Method::HEAD];
const WRITE: &[Method] = &[Method::PUT, Method::DELETE];
const POST: &[Method] = &[Method::POST];
const BOTH: &[PlaneKind] = &[PlaneKind::Api, PlaneKind::Admin];
const ADMIN: &[PlaneKind] = &[PlaneKind::Admin];

/// Every route. Where a path answers methods of different scopes, it is there once for each scope.
pub const ROUTES: &[Route] = &[
    Route::new(KEY, READ, BOTH, Some(Scope::Read)),
    Route { alias: Some("/api/"), ..Route::new(KEY_IN_QUERY, READ, BOTH, Some(Scope::Read)) },
    Route::new(KEY, WRITE, BOTH, Some(Scope::Write)),
    Route { alias: Some("/api/"), ..Route::new(KEY_IN_QUERY, WRITE, BOTH, Some(Scope::Write)) },
    Route::new(BATCH_GET, POST, BOTH, Some(Scope::Read)),
    Route::new(INVALIDATE, POST, BOTH, Some(Scope::Invalidate)),
    Route::new(GROUPS, READ, BOTH, Some(Scope::Read)),
    Route::new(GROUP, READ, BOTH, Some(Scope::Read)),
    Route::new(CLUSTER, READ, BOTH, Some(Scope::Read)),
    Route::new(OWNER, READ, BOTH, Some(Scope::Read)),
    Route::new(LIVEZ, READ, BOTH, None),
    Route::new(READYZ, READ, BOTH, None),
    Route::new(OPENAPI, READ, BOTH, None),
    Route::new(DOCS, READ, BOTH, None),
    Route::new(DOCS_PAGE, READ, BOTH, None),
    Route::new(DOCS_FILE, READ, BOTH, None),
    Route::new(METRICS, READ, ADMIN, Some(Scope::Admin)),
    Route::new(CONFIG, READ, ADMIN, Some(Scope::Admin)),
    Route::new(RELOAD, POST, ADMIN, Some(Scope::Admin)),
];

/// Whether a path is one at which is asked how the node is.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, LIVEZ | READYZ)
}

/// A path, and what it answers.
#[derive(Debug)]
pub struct Route {
    /// The path's template: `{name}` stands for one segment, and `{key}` for all that follows.
    pub path: &'static str,
    /// Another path for the same.
    pub alias: Option<&'static str>,
    /// The methods, without OPTIONS, which every path answers.
    pub methods: &'static [Method],
    /// Where it is answered.
    pub planes: &'static [PlaneKind],
    /// What a client must be allowed to do; `None` where anybody may ask.
    pub scope: Option<Scope>,
}

/// A plane that speaks to people and programs other than nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneKind {
    /// The clients' plane.
    Api,
    /// The operators' plane.
    Admin,
}

impl Route {
    const fn new(
        path: &'static str,
        methods: &'static [Method],
        planes: &'static [PlaneKind],
        scope: Option<Scope>,
    ) -> Self {
        Self { path, alias: None, methods, planes, scope }
    }

    /// Whether it asks how the node is: always answered, and not counted.
    pub(super) fn is_probe(&self) -> bool {
        is_probe(self.path)
    }

    /// Whether this is the route of a request's `path`.
    pub fn is_of(&self, path: &str) -> bool {
        if self.alias == Some(path) {
            return true;
        }
        let (mut template, mut path) = (self.path, path);
        while let Some((before, rest)) = template.split_once('{') {
            let (Some((name, after)), Some(found)) = (rest.split_once('}'), path.strip_prefix(before)) else {
                return false;
            };
            let end = if name == "key" { found.len() } else { found.find('/').unwrap_or(found.len()) };
            // An empty key is a key's business, which says so; another empty name is no name.
            if end == 0 && name != "key" {
                return false;
            }
            (template, path) = (after, &found[end..]);
        }
        template == path
    }
}

/// The routes of a plane.
pub fn routes_at(plane: PlaneKind) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.planes.contains(&plane))
}

/// The methods that a path answers at a plane; none if there is nothing.
pub fn methods_of(path: &str, plane: PlaneKind) -> Vec<Method> {
    let found = routes_at(plane).filter(|route| route.is_of(path));
    let mut methods: Vec<Method> = found.flat_map(|route| route.methods.iter().cloned()).collect();
    if !methods.is_empty() {
        methods.push(Method::OPTIONS);
    }
    methods
}

/// The text of an `Allow`.
pub fn allow(methods: &[Method]) -> String {
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    names.join(", ")
}

/// Adds a route of the table to a router, and nothing that is not in it.
pub(super) fn mount<S>(router: Router<S>, path: &'static str, answers: MethodRouter<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    assert!(ROUTES.iter().any(|route| route.path == path), "{path} is missing in the table of routes");
    #[expect(clippy::disallowed_methods, reason = "this is the place for it")]
    router.route(path, answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_route() {
        for (path, template) in [
            ("/api/v1/groups/scores/keys/a", KEY),
            ("/api/v1/groups/scores/keys/a/b//c", KEY),
            ("/api/v1/groups/scores/keys/", KEY),
            ("/api", KEY_IN_QUERY),
            ("/api/", KEY_IN_QUERY),
            ("/api/v1/groups/scores/keys:batchGet", BATCH_GET),
            ("/api/v1/groups/scores/keys:invalidate", INVALIDATE),
            ("/api/v1/groups", GROUPS),
            ("/api/v1/groups/scores", GROUP),
            ("/docs", DOCS),
            ("/docs/", DOCS_PAGE),
            ("/docs/index.css", DOCS_FILE),
        ] {
            let found: Vec<_> =
                ROUTES.iter().filter(|route| route.is_of(path)).map(|route| route.path).collect();
            assert!(!found.is_empty() && found.iter().all(|found| *found == template), "{path}");
        }
        for path in ["/", "", "/apis", "/api/v1", "/api/v1/groups/scores/keys", "/docs/a/b", "/livez/"] {
            assert!(methods_of(path, PlaneKind::Admin).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_path_says_what_it_answers() {
        let allowed = |path, plane| allow(&methods_of(path, plane));
        assert_eq!(allowed("/livez", PlaneKind::Api), "GET, HEAD, OPTIONS");
        assert_eq!(allowed("/api/v1/groups/scores/keys:invalidate", PlaneKind::Api), "POST, OPTIONS");
        assert_eq!(allowed("/metrics", PlaneKind::Api), "");
        assert_eq!(allowed("/metrics", PlaneKind::Admin), "GET, HEAD, OPTIONS");
    }
}
