//! What the example reads in a message: the forms that docs/queue.md names, and what it gives up.

use serde_json::{Value, json};

use crate::message::{Change, Poison, Table, What, read};

fn tables() -> Vec<Table> {
    ["students=scores:name", "students=ranks:name", "shop.items=items:id", "blobs=blobs:name:base64"]
        .map(|text| text.parse().expect(text))
        .into()
}

fn seen(message: &Value) -> Result<Vec<String>, String> {
    let name = |change: &Change| match &change.what {
        What::Key(key) => format!("{} {}", change.group, key.escape_ascii()),
        What::All => format!("{} *", change.group),
    };
    let changes = read(message.to_string().as_bytes(), &tables());
    changes.map(|changes| changes.iter().map(name).collect()).map_err(|poison| poison.to_string())
}

/// A change of the table `table`, as Debezium tells it.
fn event(op: &str, table: &str, before: Value, after: Value) -> Value {
    json!({"op": op, "before": before, "after": after, "source": {"schema": "shop", "table": table}, "ts_ms": 1})
}

#[test]
fn plain_messages_name_a_group() {
    let all = |expected: &[&str]| Ok(expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    assert_eq!(seen(&json!({"group": "scores", "key": "张三"})), all(&[r"scores \xe5\xbc\xa0\xe4\xb8\x89"]));
    assert_eq!(seen(&json!({"group": "scores", "key": -7})), all(&["scores -7"]));
    assert_eq!(seen(&json!({"group": "scores", "key": {"b64": "_w=="}})), all(&[r"scores \xff"]));
    assert_eq!(seen(&json!({"group": "scores", "all": true})), all(&["scores *"]));
}

#[test]
fn change_events_name_the_old_and_the_new_key() {
    let all = |expected: &[&str]| Ok(expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let row = |id: u64| json!({"id": id, "name": "tea"});
    assert_eq!(seen(&event("c", "items", Value::Null, row(1))), all(&["items 1"]));
    assert_eq!(seen(&event("u", "items", row(1), row(1))), all(&["items 1"]));
    assert_eq!(seen(&event("u", "items", Value::Null, row(u64::MAX))), all(&["items 18446744073709551615"]));
    assert_eq!(seen(&event("u", "items", row(1), row(2))), all(&["items 1", "items 2"]));
    assert_eq!(seen(&event("d", "items", row(1), Value::Null)), all(&["items 1"]));
    assert_eq!(seen(&event("t", "items", Value::Null, Value::Null)), all(&["items *"]));
    assert_eq!(
        seen(&json!({"schema": {}, "payload": event("r", "items", Value::Null, row(3))})),
        all(&["items 3"])
    );
    // Each group that reads the table.
    let student = json!({"name": "anna"});
    assert_eq!(seen(&event("c", "students", Value::Null, student)), all(&["scores anna", "ranks anna"]));
    assert_eq!(seen(&event("c", "students", Value::Null, json!({"name": null}))), all(&[]));
    assert_eq!(seen(&event("c", "blobs", Value::Null, json!({"name": "/wA="}))), all(&[r"blobs \xff\x00"]));
    // What follows a deletion.
    assert_eq!(seen(&json!({"schema": null, "payload": null})), all(&[]));
    assert!(matches!(read(b"", &tables()).as_deref(), Ok([])));
}

#[test]
fn what_is_not_understood_is_named() {
    assert!(matches!(read(b"anna", &tables()), Err(Poison::Json(_))));
    let long = "a".repeat(1025);
    let unknown = event("d", "students", json!({"id": 1, "name": null}), Value::Null);
    for (message, says) in [
        (json!([]), "neither"),
        (json!({"key": "anna"}), "neither"),
        (json!({"group": "scores"}), "neither"),
        (json!({"group": "scores", "all": false}), "neither"),
        (json!({"group": "scores", "key": "a", "all": true}), "neither"),
        (json!({"op": "c", "after": {"id": 1}}), "neither"),
        (event("m", "items", Value::Null, Value::Null), "neither"),
        (json!({"group": "../x", "key": "a"}), "can be no group"),
        (json!({"group": "scores", "key": 1.5}), "text, an integer"),
        (json!({"group": "scores", "key": {"b64": "!"}}), "text, an integer"),
        (json!({"group": "scores", "key": ""}), "0 bytes"),
        (json!({"group": "scores", "key": long}), "1025 bytes"),
        (event("c", "others", Value::Null, json!({"id": 1})), "\"shop.others\""),
        (event("c", "items", Value::Null, json!({"nr": 1})), "no column \"id\""),
        (unknown, "REPLICA IDENTITY"),
    ] {
        let error = seen(&message).expect_err(says);
        assert!(error.contains(says), "{message}: {error}");
    }
    for wrong in ["students", "students=scores", "=scores:name", "students=scores:", "students=Scores:name"] {
        assert!(wrong.parse::<Table>().is_err(), "{wrong}");
    }
}
