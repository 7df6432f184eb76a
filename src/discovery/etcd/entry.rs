//! What a node writes about itself in etcd, and how the entries of others are read.
//!
//! The form is that of Go's `naming/endpoints` (etcd's client/v3): the key is the service, a slash and the address, the
//! value is `{"Op":0,"Addr":…,"Metadata":…}`. So a Go program that dials `etcd:///GGroupCache` finds our nodes. What we
//! know beyond the address stands in the metadata, as an object with the member `ggcache`; entries without it are
//! somebody else's. The object is written as text, and read as text or as itself: grpc-go compares and hashes metadata, and
//! a Go map, which an object would become, makes it panic.
//!
//! Nothing here trusts its input: whatever an entry holds, the outcome is an [`Entry`] or an [`EntryError`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::cluster::{Address, AddressError, HexError, Node};

use super::super::AllowedPeers;

/// The largest value that is read, in bytes. Ours have about 150.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// The longest API address that is believed, in bytes.
const API_BYTES_MAX: usize = 255;
/// How much of a key or an address a log line repeats, in characters.
const ECHO_CHARS_MAX: usize = 120;

/// An entry, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// One of ours.
    Node(Node),
    /// Somebody else's, with the address it names: listed, never on the ring.
    Foreign(String),
}

/// Why an entry is skipped.
#[derive(Debug, Error)]
pub(super) enum EntryError {
    #[error("its value has {0} bytes, and {VALUE_BYTES_MAX} are read at most")]
    TooLong(usize),
    #[error("its value is not an endpoint in json")]
    Json(#[source] serde_json::Error),
    #[error("its metadata is not a node's")]
    Metadata(#[source] serde_json::Error),
    #[error("its id is malformed")]
    Id(#[source] HexError),
    #[error("its api address is not up to {API_BYTES_MAX} printable characters")]
    Api,
    #[error("its address is malformed")]
    Address(#[source] AddressError),
    #[error("its address is {0:?}, and not the one in its key")]
    OtherKey(String),
    #[error("its host {0:?} is not in cluster.allowed_peers, or is link-local")]
    NotAllowed(String),
}

/// The order of the fields is Go's, so that the bytes are too.
#[derive(Serialize, Deserialize)]
struct Endpoint<M> {
    /// 0 is "add"; nothing else is ever stored.
    #[serde(rename = "Op", default)]
    op: u8,
    #[serde(rename = "Addr")]
    address: String,
    #[serde(rename = "Metadata", default = "Option::default")]
    metadata: Option<M>,
}

#[derive(Serialize)]
struct OurMetadata<'a> {
    ggcache: Ours<'a>,
}

#[derive(Serialize)]
struct Ours<'a> {
    id: String,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<&'a str>,
    protocol: u32,
}

/// As [`Ours`], but of any version: unknown fields are ignored, and what may be left out has a default.
#[derive(Deserialize)]
struct Theirs {
    id: String,
    #[serde(default = "one")]
    weight: u32,
    api: Option<String>,
    #[serde(default = "one")]
    protocol: u32,
}

const fn one() -> u32 {
    1
}

/// The value that registers `node`.
pub(super) fn encode(node: &Node) -> Vec<u8> {
    let ours = Ours {
        id: node.id.map_or_else(String::new, |id| id.to_string()),
        weight: node.weight,
        api: node.api.as_deref(),
        protocol: node.protocol,
    };
    let metadata =
        serde_json::to_string(&OurMetadata { ggcache: ours }).expect("strings and numbers become json");
    let endpoint = Endpoint { op: 0, address: node.address.to_string(), metadata: Some(metadata) };
    serde_json::to_vec(&endpoint).expect("strings and numbers become json")
}

/// Reads the entry under `key`, which begins with `prefix`. A node must be one that may become a peer.
pub(super) fn decode(
    prefix: &[u8],
    key: &[u8],
    value: &[u8],
    allowed: &AllowedPeers,
) -> Result<Entry, EntryError> {
    let entry = parse(prefix, key, value)?;
    match &entry {
        Entry::Node(node) if !allowed.allows_host(node.address.host()) => {
            Err(EntryError::NotAllowed(node.address.host().to_owned()))
        }
        Entry::Node(_) | Entry::Foreign(_) => Ok(entry),
    }
}

/// Reads the entry under `key`, which begins with `prefix`, whoever it is.
pub(super) fn parse(prefix: &[u8], key: &[u8], value: &[u8]) -> Result<Entry, EntryError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(EntryError::TooLong(value.len()));
    }
    let endpoint: Endpoint<Value> = serde_json::from_slice(value).map_err(EntryError::Json)?;
    let metadata = match endpoint.metadata {
        // Text that is no JSON is not ours.
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        metadata => metadata,
    };
    let ours = match metadata {
        Some(Value::Object(mut object)) => object.remove("ggcache"),
        _ => None,
    };
    let Some(ours) = ours else { return Ok(Entry::Foreign(echo(endpoint.address.as_bytes()))) };
    let theirs: Theirs = serde_json::from_value(ours).map_err(EntryError::Metadata)?;
    let id = theirs.id.parse().map_err(EntryError::Id)?;
    let printable = |api: &String| api.len() <= API_BYTES_MAX && api.bytes().all(|b| b.is_ascii_graphic());
    if !theirs.api.as_ref().is_none_or(printable) {
        return Err(EntryError::Api);
    }
    if key.strip_prefix(prefix) != Some(endpoint.address.as_bytes()) {
        return Err(EntryError::OtherKey(echo(endpoint.address.as_bytes())));
    }
    let address = Address::new(&endpoint.address).map_err(EntryError::Address)?;
    Ok(Entry::Node(Node {
        address,
        id: Some(id),
        weight: theirs.weight,
        api: theirs.api,
        protocol: theirs.protocol,
    }))
}

/// Bytes from elsewhere as a log line may show them: text, escaped, cut if long.
pub(super) fn echo(bytes: &[u8]) -> String {
    // A character has at most four bytes; the rest need not be looked at.
    let bytes = bytes.get(..4 * (ECHO_CHARS_MAX + 1)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(ECHO_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(ECHO_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::NodeId;

    const PREFIX: &[u8] = b"GGroupCache/";

    fn read(address: &str, value: &str) -> Result<Entry, EntryError> {
        let key = [PREFIX, address.as_bytes()].concat();
        decode(PREFIX, &key, value.as_bytes(), &AllowedPeers::default())
    }

    fn node() -> Node {
        Node {
            id: Some(NodeId::new(0xab)),
            weight: 3,
            api: Some("localhost:8000".to_owned()),
            ..Node::new(Address::new("localhost:10001").expect("right"))
        }
    }

    #[test]
    fn our_bytes_are_what_go_writes() {
        let golden = r#"{"Op":0,"Addr":"localhost:10001","Metadata":"{\"ggcache\":{\"id\":\"00000000000000ab\",\"weight\":3,\"api\":\"localhost:8000\",\"protocol\":1}}"}"#;
        assert_eq!(String::from_utf8(encode(&node())).expect("text"), golden);
        assert_eq!(read("localhost:10001", golden).expect("right"), Entry::Node(node()));
        let object = r#"{"Op":0,"Addr":"localhost:10001","Metadata":{"ggcache":{"id":"00000000000000ab","weight":3,"api":"localhost:8000","protocol":1}}}"#;
        assert_eq!(read("localhost:10001", object).expect("right"), Entry::Node(node()));
        let mut quiet = node();
        quiet.api = None;
        let text = String::from_utf8(encode(&quiet)).expect("text");
        assert!(!text.contains("api"), "{text}");
        assert_eq!(read("localhost:10001", &text).expect("right"), Entry::Node(quiet));
    }

    #[test]
    fn entries_of_others_and_of_later_versions() {
        // As `manager.AddEndpoint(ctx, "GGroupCache/10.0.0.7:80", endpoints.Endpoint{Addr: "10.0.0.7:80"})` writes it.
        let foreign = |value| match read("10.0.0.7:80", value) {
            Ok(Entry::Foreign(address)) => address,
            other => panic!("{other:?}"),
        };
        assert_eq!(foreign(r#"{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}"#), "10.0.0.7:80");
        assert_eq!(foreign(r#"{"Addr":"10.0.0.7:80"}"#), "10.0.0.7:80");
        assert_eq!(foreign(r#"{"Op":0,"Addr":"a\nb","Metadata":"v1"}"#), "a\\nb");
        assert_eq!(foreign(r#"{"Op":0,"Addr":"x","Metadata":"{\"zone\":\"a\"}"}"#), "x");
        assert_eq!(foreign(r#"{"Op":0,"Addr":"x","Metadata":{"zone":"a"}}"#), "x");
        let later = r#"{"Op":0,"Addr":"localhost:1","More":1,"Metadata":{"x":1,"ggcache":{"id":"0000000000000001","zone":"a","protocol":2}}}"#;
        let Entry::Node(node) = read("localhost:1", later).expect("right") else { panic!("it is ours") };
        assert_eq!((node.weight, node.protocol, node.api), (1, 2, None));
    }

    #[test]
    fn malformed_entries() {
        let ours = |address: &str, id: &str, more: &str| {
            format!(r#"{{"Op":0,"Addr":"{address}","Metadata":{{"ggcache":{{"id":"{id}"{more}}}}}}}"#)
        };
        let id = "0000000000000001";
        let long = format!("\"{}\"", "a".repeat(VALUE_BYTES_MAX));
        for (address, value, error) in [
            ("localhost:1", long.as_str(), "its value has 65538 bytes, and 65536 are read at most"),
            ("localhost:1", "", "its value is not an endpoint in json"),
            ("localhost:1", "localhost:1", "its value is not an endpoint in json"),
            ("localhost:1", "[]", "its value is not an endpoint in json"),
            ("localhost:1", r#"{"Op":0}"#, "its value is not an endpoint in json"),
            (
                "localhost:1",
                r#"{"Addr":"localhost:1","Metadata":{"ggcache":{}}}"#,
                "its metadata is not a node's",
            ),
            ("localhost:1", &ours("localhost:1", "7", ""), "its id is malformed"),
            (
                "localhost:1",
                &ours("localhost:1", id, r#","api":"a b""#),
                "its api address is not up to 255 printable characters",
            ),
            ("localhost:1", &ours("localhost:1", id, r#","weight":-1"#), "its metadata is not a node's"),
            (
                "localhost:2",
                &ours("localhost:1", id, ""),
                "its address is \"localhost:1\", and not the one in its key",
            ),
            ("localhost", &ours("localhost", id, ""), "its address is malformed"),
            (
                "10.0.0.1:1",
                &ours("10.0.0.1:1", id, ""),
                "its host \"10.0.0.1\" is not in cluster.allowed_peers, or is link-local",
            ),
        ] {
            let found = read(address, value).expect_err("it is wrong").to_string();
            assert_eq!(found, error, "{address} {value:.80}");
        }
        let text = r#"{"Addr":"localhost:1","Metadata":"{\"ggcache\":{}}"}"#;
        assert!(matches!(read("localhost:1", text), Err(EntryError::Metadata(_))));
        let nested = format!(r#"{{"Addr":"a","Metadata":{}}}"#, "[".repeat(60_000));
        assert!(matches!(read("a", &nested), Err(EntryError::Json(_))));
    }

    #[test]
    fn echoes_are_short_and_on_one_line() {
        assert_eq!(echo(b"a\n\xff\""), "a\\n\u{fffd}\\\"");
        assert_eq!(echo("é".repeat(500).as_bytes()).chars().count(), ECHO_CHARS_MAX + 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = decode(PREFIX, &key, &value, &AllowedPeers::default());
        }
    }
}
