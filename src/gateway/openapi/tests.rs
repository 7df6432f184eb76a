//! The document, the table of routes, and what is answered are the same; and the committed document is this one.

use std::{collections::BTreeSet, fs, path::Path};

use proptest::prelude::*;
use serde_json::Value as Json;

use super::{complete, document};
use crate::{
    gateway::{
        PlaneKind, batch, invalidate, methods_of,
        routes::{self, routes_at},
        tests::{Site, ask},
    },
    group::KEY_BYTES_MAX,
};

const PLANES: [PlaneKind; 2] = [PlaneKind::Api, PlaneKind::Admin];

fn parsed(plane: PlaneKind) -> Json {
    serde_json::from_str(&document(plane)).expect("JSON")
}

/// Each operation, with its path and method.
fn operations(document: &Json) -> Vec<(&str, String, &Json)> {
    let paths = document["paths"].as_object().expect("an object");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().expect("an object");
            item.iter()
                .filter(|(name, _)| *name != "parameters")
                .map(move |(method, operation)| (path.as_str(), method.to_uppercase(), operation))
        })
        .collect()
}

#[test]
fn the_committed_document_is_this_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let document = document(PlaneKind::Api);
    if committed == document {
        return;
    }
    let line = committed.lines().zip(document.lines()).take_while(|(old, new)| old == new).count();
    panic!(
        "openapi/openapi.json is not what the code says, from line {} on: it has {:?}, and should have {:?}. Run \
         scripts/fix, look at the difference, and commit it.",
        line + 1,
        committed.lines().nth(line).unwrap_or_default(),
        document.lines().nth(line).unwrap_or_default(),
    );
}

#[test]
fn the_document_has_every_route_and_no_other() {
    for plane in PLANES {
        let document = parsed(plane);
        let documented: BTreeSet<_> =
            operations(&document).into_iter().map(|(path, method, _)| (path.to_owned(), method)).collect();
        let routes: BTreeSet<_> = routes_at(plane)
            .flat_map(|route| {
                methods_of(route.path, plane)
                    .into_iter()
                    .map(|method| (route.path.to_owned(), method.to_string()))
            })
            .collect();
        assert_eq!(documented, routes, "{plane:?}");
    }
}

/// A path of the route, and a body for it.
fn example(path: &str) -> (String, &'static str) {
    let filled = path.replace("{group}", "scores").replace("{key}", "anna").replace("{file}", "index.css");
    match path {
        routes::KEY_IN_QUERY | routes::OWNER => (format!("{filled}?key=anna"), ""),
        routes::INVALIDATE | routes::BATCH_GET => (filled, r#"{"keys": ["anna"]}"#),
        _ => (filled, ""),
    }
}

#[tokio::test]
async fn every_route_is_answered_and_no_other_method() {
    let site = Site::starting();
    site.hear([]);
    site.find_list();
    site.parts.readiness.ready();
    for plane in PLANES {
        let address = site.serve_as(plane).await;
        for path in routes_at(plane).flat_map(|route| [Some(route.path), route.alias]).flatten() {
            let known = methods_of(path, plane);
            let (target, body) = example(if path == "/api/" { "/api" } else { path });
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                let (status, answer) = ask(address, method, &target, body).await;
                if known.iter().any(|known| known.as_str() == method) {
                    let expected = match (path, method) {
                        (_, "OPTIONS") => 204,
                        // The group is read only.
                        (_, "PUT" | "DELETE") => 405,
                        (routes::DOCS, _) => 308,
                        _ => 200,
                    };
                    assert_eq!(status, expected, "{plane:?}: {method} {target}: {answer}");
                } else {
                    assert_eq!(status, 405, "{plane:?}: {method} {target}: {answer}");
                }
            }
        }
    }
    let api = site.serve_as(PlaneKind::Api).await;
    for route in routes::ROUTES.iter().filter(|route| !route.planes.contains(&PlaneKind::Api)) {
        assert_eq!(ask(api, "GET", route.path, "").await.0, 404, "{}", route.path);
    }
}

#[tokio::test]
async fn each_plane_serves_its_own_document() {
    let site = Site::starting();
    for plane in PLANES {
        let address = site.serve_as(plane).await;
        assert_eq!(ask(address, "GET", "/openapi.json", "").await, (200, document(plane)));
        assert_eq!(ask(address, "HEAD", "/openapi.json", "").await, (200, String::new()));
    }
}

#[test]
fn operations_say_what_they_are_and_examples_fit() {
    for plane in PLANES {
        let document = parsed(plane);
        let at = |reference: &Json| {
            let pointer =
                reference["$ref"].as_str().and_then(|text| text.strip_prefix('#')).unwrap_or_default();
            document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
        };
        let resolve =
            |json: &'_ Json| if json.get("$ref").is_some() { at(json).clone() } else { json.clone() };
        let mut names = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(!id.is_empty() && names.insert(id), "{method} {path}: {id:?}");
            assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{id}");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                for header in response["headers"].as_object().expect("headers").values() {
                    assert!(at(header)["example"] != Json::Null, "{id} {status}: {header}");
                }
                assert!(response["headers"].get("X-Request-Id").is_some(), "{id} {status}");
                for (kind, content) in response.get("content").and_then(Json::as_object).into_iter().flatten()
                {
                    let is_problem = kind == "application/problem+json";
                    assert_eq!(is_problem, status.parse::<u16>().expect("a number") >= 400, "{id} {status}");
                    let many = content.get("examples").and_then(Json::as_object).into_iter().flatten();
                    let examples: Vec<_> = many
                        .map(|(_, example)| resolve(example)["value"].clone())
                        .chain(content.get("example").cloned())
                        .collect();
                    assert!(!is_problem || !examples.is_empty(), "{id} {status}");
                    let schema = resolve(&content["schema"]);
                    for example in examples {
                        fits(&example, &schema, &format!("{id} {status} {kind}"));
                    }
                }
            }
        }
    }
}

#[test]
fn limits_are_those_in_force() {
    let document = parsed(PlaneKind::Api);
    let limit =
        |schema: &str| document["components"]["schemas"][schema]["properties"]["keys"]["maxItems"].clone();
    assert_eq!(
        (limit("BatchRequest"), limit("Invalidation")),
        (batch::KEYS_MAX.into(), invalidate::KEYS_MAX.into())
    );
    let key = &document["components"]["schemas"]["Key"]["oneOf"][0];
    assert_eq!((&key["minLength"], &key["maxLength"]), (&1.into(), &KEY_BYTES_MAX.into()));
    let value =
        &document["paths"][routes::KEY]["get"]["responses"]["200"]["content"]["application/octet-stream"];
    assert_eq!((&value["schema"]["type"], &value["schema"]["format"]), (&"string".into(), &"binary".into()));
}

#[test]
fn a_key_in_base64url_is_described_wherever_it_is_taken() {
    for plane in [PlaneKind::Api, PlaneKind::Admin] {
        let document = parsed(plane);
        let operations = document["paths"].as_object().expect("paths").values();
        let operations = operations.flat_map(|item| item.as_object().expect("operations").values());
        let parameters =
            operations.flat_map(|operation| operation["parameters"].as_array().into_iter().flatten());
        let mut count = 0;
        for parameter in parameters.filter(|parameter| parameter["name"] == "key_b64") {
            assert_eq!(parameter["schema"]["pattern"], complete::KEY_B64);
            count += 1;
        }
        // Reads, with HEAD, writes, and who owns it.
        assert!(count >= 5, "{count} at {plane:?}");
    }
}

/// That an object has what its schema asks for, and nothing else.
fn fits(example: &Json, schema: &Json, place: &str) {
    let (Some(example), Some(properties)) = (example.as_object(), schema["properties"].as_object()) else {
        return;
    };
    for name in example.keys() {
        assert!(properties.contains_key(name), "{place}: {name} is not in the schema");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(example.contains_key(name.as_str().expect("a name")), "{place}: {name} is missing");
    }
}

proptest! {
    /// The document's word for base64url is the decoder's.
    #[test]
    fn what_the_document_takes_for_a_key_is_one(
        text in prop::string::string_regex(complete::KEY_B64.trim_matches(['^', '$'])).expect("a pattern"),
    ) {
        let key = crate::codec::base64url_decode(text.as_bytes());
        prop_assert!(key.is_ok_and(|key| (1..=KEY_BYTES_MAX).contains(&key.len())), "{}", text);
    }
}
