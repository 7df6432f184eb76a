//! Reads of many keys at once.

use super::*;

const TARGET: &str = "/api/v1/groups/scores/keys:batchGet";

/// The results for a body, with these headers.
async fn results(address: SocketAddr, headers: &str, body: &str) -> Vec<Json> {
    let length = body.len();
    let head = format!(
        "POST {TARGET} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}"
    );
    let told = exchange(address, &head, body).await;
    let text = String::from_utf8(told.body).expect("text");
    assert_eq!(told.status, 200, "{text}");
    json(&text)["results"].as_array().expect("results").clone()
}

#[tokio::test]
async fn a_batch_says_how_its_keys_are_to_be_answered() {
    let site = Site::starting();
    let address = site.serve().await;
    known(&site);
    let body = r#"{"keys": ["anna", "nobody", "anna"]}"#;
    let only = "cache-control: only-if-cached\r\n";
    for result in results(address, only, body).await {
        assert_eq!(result["error"]["code"], "not_cached", "{result}");
    }
    assert_eq!(site.origin.loads(), 0);
    with(address, "GET", ANNA, "").await;
    let found = results(address, only, body).await;
    assert_eq!((&found[0]["status"], &found[2]["value"]), (&json!("hit"), &json!("333")));
    assert_eq!(found[1]["error"]["code"], "not_cached");
    assert_eq!(site.origin.loads(), 1);
    let loads = async |headers: &str| {
        let before = site.origin.loads();
        let found = results(address, headers, r#"{"keys": ["anna", "anna"]}"#).await;
        assert_eq!((&found[0]["value"], &found[1]["value"]), (&json!("333"), &json!("333")));
        site.origin.loads() - before
    };
    assert_eq!(loads("cache-control: max-age=60\r\n").await, 0);
    assert_eq!(loads("cache-control: no-cache\r\n").await, 1, "twice the same key is one");
    assert_eq!(loads("cache-control: min-fresh=100000\r\n").await, 1);
    assert_eq!(loads("").await, 0);
}

#[tokio::test]
async fn many_keys_are_read_at_once() {
    let site = Site::starting();
    let address = site.serve().await;
    let target = TARGET;
    let body = r#"{"keys": ["anna", {"b64": "_w"}, "nobody", "anna", "doc"]}"#;
    assert_eq!(ask(address, "POST", target, body).await.0, 503, "it knows nobody yet");
    known(&site);
    site.origin.insert(Key::new("doc").expect("a key"), Value::new(r#"{"a": 1.10}"#, ContentKind::Json));
    let (status, answer) = ask(address, "POST", target, body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""value":{"a": 1.10}"#), "as it is: {answer}");
    let results = json(&answer)["results"].clone();
    let part = |at: usize, name: &str| results[at][name].clone();
    assert_eq!(
        (part(0, "key"), part(0, "value"), part(0, "status")),
        (json!("anna"), json!("333"), json!("load"))
    );
    assert_eq!(
        (part(1, "key"), part(1, "error")["code"].clone()),
        (json!({"b64": "_w"}), json!("key_not_found"))
    );
    assert_eq!(part(2, "error")["code"], "key_not_found");
    assert_eq!((part(3, "value"), part(4, "encoding")), (json!("333"), json!("json")));
    assert_eq!(site.origin.loads(), 1, "one query for all");
    let etag = with(address, "GET", ANNA, "").await.header("etag").map(str::to_owned);
    assert_eq!(part(0, "etag").as_str(), etag.as_deref());
    for (body, status, code) in [
        (r#"{"keys": []}"#, 400, "bad_request"),
        (r#"{"keys": [""]}"#, 400, "bad_request"),
        (r#"{"keys": [1]}"#, 400, "bad_request"),
        ("[]", 400, "bad_request"),
        (&format!("{{\"keys\": [{}]}}", vec!["\"a\""; 1001].join(",")), 413, "too_large"),
        (&" ".repeat(3 << 20), 413, "too_large"),
    ] {
        let (told, problem) = ask(address, "POST", target, body).await;
        assert_eq!((told, &json(&problem)["code"]), (status, &json!(code)), "{problem}");
    }
    assert_eq!(ask(address, "POST", "/api/v1/groups/nobody/keys:batchGet", body).await.0, 404);
    let wrong = with(address, "GET", target, "").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("post, options")));
}
