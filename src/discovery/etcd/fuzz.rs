//! What must hold of entries in etcd, whatever is in them. The fuzz targets call it, through `crate::fuzz`.

use super::{
    super::AllowedPeers,
    entry::{Entry, decode, echo, encode, parse},
};

const PREFIX: &[u8] = b"GGroupCache/";
/// The most that a log line repeats of an entry, in bytes: 120 characters, of which each may be escaped.
const ECHO_BYTES_MAX: usize = 121 * 12;

/// An entry: the address in its key, up to the end of the line, and its value.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_etcd_entry(data: &[u8]) {
    let (address, value) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (&b"localhost:10001"[..], data),
    };
    let key = [PREFIX, address].concat();
    assert!(echo(data).len() <= ECHO_BYTES_MAX && !echo(data).contains('\n'));
    match parse(PREFIX, &key, value) {
        Ok(Entry::Node(node)) => {
            assert_eq!(node.address.as_str().as_bytes(), address, "a node is where its key says");
            let again = parse(PREFIX, &key, &encode(&node)).expect("what is written is read");
            assert_eq!(again, Entry::Node(node.clone()));
            if let Ok(Entry::Node(allowed)) = decode(PREFIX, &key, value, &AllowedPeers::default()) {
                assert!(AllowedPeers::default().allows_host(allowed.address.host()));
            }
        }
        Ok(Entry::Foreign(told)) => assert!(told.len() <= ECHO_BYTES_MAX),
        Err(error) => assert!(error.to_string().len() <= 2 * ECHO_BYTES_MAX, "{error}"),
    }
}
