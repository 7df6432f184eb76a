//! Asks a node through a client that is generated from the OpenAPI document.

use ggcache_client::{
    apis::{
        Error,
        cluster_api::{GetClusterParams, get_cluster},
        configuration::Configuration,
        keys_api::{
            BatchGetKeysParams, GetKeyByQueryParams, GetKeyError, GetKeyParams, HeadKeyParams, InvalidateKeysParams,
            batch_get_keys, get_key, get_key_by_query, head_key, invalidate_keys,
        },
    },
    models::{BatchRequest, Invalidation, Key, KeyBytes},
};

fn read(key: &str, if_none_match: Option<String>) -> GetKeyParams {
    GetKeyParams {
        group: "scores".to_owned(),
        key: key.to_owned(),
        if_match: None,
        if_none_match,
        cache_control: None,
        gg_cache_min_position: None,
        traceparent: None,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = std::env::args().nth(1).ok_or("the first argument is a node's URL")?;
    let node = &Configuration { base_path: node, ..Configuration::default() };

    let found = get_key(node, read("张三", None)).await?;
    let etag = found.headers().get("etag").ok_or("a value has an entity tag")?.to_str()?.to_owned();
    assert_eq!(found.bytes().await?.as_ref(), b"333");

    match get_key(node, read("no/body", None)).await {
        Err(Error::ResponseError(response)) => match response.entity {
            // The enum is untagged: the first variant that fits is taken, whatever the status.
            Some(GetKeyError::Status400(problem) | GetKeyError::Status404(problem)) => {
                assert_eq!((response.status.as_u16(), &*problem.code), (404, "key_not_found"));
            }
            entity => return Err(format!("no problem: {entity:?}").into()),
        },
        other => return Err(format!("not absent: {other:?}").into()),
    }

    let blob = GetKeyByQueryParams {
        key: None,
        key_b64: Some("_wA".to_owned()),
        group: Some("blobs".to_owned()),
        if_match: None,
        if_none_match: None,
        cache_control: None,
        gg_cache_min_position: None,
        traceparent: None,
    };
    assert_eq!(get_key_by_query(node, blob).await?.bytes().await?.as_ref(), b"\0\xff\n");

    let head = read("张三", None);
    let head = HeadKeyParams {
        group: head.group,
        key: head.key,
        if_match: None,
        if_none_match: None,
        cache_control: None,
        gg_cache_min_position: None,
        traceparent: None,
    };
    head_key(node, head).await?;
    assert_eq!(get_key(node, read("张三", Some(etag))).await?.status(), 304);

    let cluster = get_cluster(node, GetClusterParams { traceparent: None }).await?;
    assert!(cluster.nodes.len() == 1 && cluster.nodes[0].me);

    let bytes = Key::KeyBytes(Box::new(KeyBytes::new("_wA".to_owned())));
    let keys = Some(vec![Key::KeyText("张三".to_owned()), bytes]);
    let invalidation = Invalidation { keys, ..Invalidation::new() };
    let params = InvalidateKeysParams { group: "scores".to_owned(), invalidation, traceparent: None };
    let report = invalidate_keys(node, params).await?;
    assert!(report.complete && report.acknowledged[0].dropped == 1, "{report:?}");

    let keys = ["李四", "nobody"].map(|key| Key::KeyText(key.to_owned())).to_vec();
    let batch_request = BatchRequest::new(keys);
    let params = BatchGetKeysParams {
        group: "pupils".to_owned(),
        batch_request,
        gg_cache_min_position: None,
        traceparent: None,
    };
    let batch = batch_get_keys(node, params).await?;
    let [found, missing] = &*batch.results else { return Err(format!("not two results: {batch:?}").into()) };
    assert_eq!(*found.key, Key::KeyText("李四".to_owned()));
    assert_eq!(found.value, Some(Some(serde_json::json!({"id": 2, "score": 444}))));
    assert_eq!(missing.error.as_ref().map(|error| &*error.code), Some("key_not_found"));

    println!("Rust: values, problems, bytes, 304, cluster, invalidation and batch are right");
    Ok(())
}
