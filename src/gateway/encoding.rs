//! Values in gzip, for clients that take it (RFC 9110, section 12.5.3).
//!
//! Text and JSON of a kibibyte or more is compressed once for each value, and kept: in a cache of its own beside the
//! groups', by the value's content. What lies there is never wrong, since it is compared with the value before it is
//! used; so no invalidation has to reach it, and a value that was dropped only takes up room until others need it.
//!
//! Small values are compressed when they are first asked for. Larger ones would hold up the requests behind them: the
//! first answers go out as they are, while another thread compresses.

use std::{collections::HashSet, io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, header};
use parking_lot::Mutex;

use crate::{
    cache::{Cache, CacheConfig, Content, Lookup, PolicyKind, Weigh, allocation_bytes},
    group::{ContentKind, Value},
    task::Tasks,
    time::{BootClock, Clock as _},
};

/// Smaller values gain less than the header costs.
const VALUE_BYTES_MIN: usize = 1 << 10;
/// Up to here a value is compressed at once, in some 100 µs.
const AT_ONCE_BYTES_MAX: usize = 16 << 10;
/// Values that other threads compress at once.
const UNDER_WAY_MAX: usize = 8;
/// What is not used for so long goes.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The compressed values of a node. Clones share them.
#[derive(Clone)]
pub struct Encodings(Option<Arc<Shared>>);

struct Shared {
    cache: Cache<u64, Encoded>,
    under_way: Mutex<HashSet<u64>>,
    tasks: Tasks,
}

#[derive(Clone, Debug)]
struct Encoded {
    /// What was compressed. Shared with the group's cache as long as it is there.
    value: Bytes,
    /// `None` if it does not get smaller.
    gzip: Option<Bytes>,
}

impl Weigh for Encoded {
    fn heap_bytes(&self) -> usize {
        let gzip = self.gzip.as_ref().map_or(0, |gzip| allocation_bytes(gzip.len()));
        allocation_bytes(self.value.len()) + gzip
    }
}

impl Encodings {
    /// Room for `capacity` bytes of values, compressed and not; none is compressed if that is 0.
    pub fn new(capacity: u64, tasks: Tasks) -> Self {
        let config = CacheConfig { capacity, negative_capacity: 0, policy: PolicyKind::Lru, shards: None };
        let shared = || Shared { cache: Cache::new(config), under_way: Mutex::default(), tasks };
        Self((capacity > 0).then(|| Arc::new(shared())))
    }

    /// Whether an answer with `value` depends on what the client accepts.
    pub(super) fn may_vary(&self, value: &Value) -> bool {
        self.0.is_some()
            && matches!(value.kind(), ContentKind::Text | ContentKind::Json)
            && value.bytes().len() >= VALUE_BYTES_MIN
    }

    /// `value` in gzip, if it is there or can be had at once.
    pub(super) fn gzip(&self, value: &Value) -> Option<Bytes> {
        let shared = self.0.as_ref().filter(|_| self.may_vary(value))?;
        let (tag, now) = (value.tag(), BootClock.now());
        if let Lookup::Hit { value: found, .. } = shared.cache.get(tag, &tag, now)
            && found.value == *value.bytes()
        {
            return found.gzip;
        }
        if value.bytes().len() as u64 > shared.cache.entry_bytes_max() / 2 {
            // It would be compressed for each request anew.
            return None;
        }
        if value.bytes().len() <= AT_ONCE_BYTES_MAX {
            return shared.encode(value);
        }
        shared.encode_later(value);
        None
    }
}

impl Shared {
    fn encode(&self, value: &Value) -> Option<Bytes> {
        let gzip = gzip(value.bytes());
        let (tag, now) = (value.tag(), BootClock.now());
        let encoded = Encoded { value: value.bytes().clone(), gzip: gzip.clone() };
        self.cache.insert(tag, tag, Content::Value(encoded), now.saturating_add(LIFETIME), now);
        gzip
    }

    fn encode_later(self: &Arc<Self>, value: &Value) {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= UNDER_WAY_MAX || !under_way.insert(value.tag()) {
            return;
        }
        drop(under_way);
        let (shared, value) = (Arc::clone(self), value.clone());
        self.tasks.spawn(async move {
            let tag = value.tag();
            let work = Arc::clone(&shared);
            // A panic would be the compressor's, and costs this value its compression only.
            let _ = tokio::task::spawn_blocking(move || work.encode(&value)).await;
            shared.under_way.lock().remove(&tag);
        });
    }
}

impl std::fmt::Debug for Encodings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encodings").finish_non_exhaustive()
    }
}

/// `bytes` in gzip, if that is a tenth smaller at least.
pub(super) fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    // Writing to memory does not fail.
    encoder.write_all(bytes).ok()?;
    let mut gzip = encoder.finish().ok()?;
    gzip.shrink_to_fit();
    (gzip.len() < bytes.len() / 10 * 9).then(|| gzip.into())
}

/// Whether the client takes gzip, and prefers nothing else to it that there is.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for line in headers.get_all(header::ACCEPT_ENCODING) {
        let Ok(line) = line.to_str() else { continue };
        for item in line.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            let quality = quality.map_or(Some(1.0), |quality| quality.parse::<f32>().ok());
            let Some(quality) = quality.filter(|quality| (0.0..=1.0).contains(quality)) else { continue };
            let slot = match name {
                name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => &mut gzip,
                name if name.eq_ignore_ascii_case("identity") => &mut identity,
                "*" => &mut any,
                _ => continue,
            };
            *slot = Some(quality);
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::HeaderValue;

    use super::*;

    fn accepts(lines: &[&'static str]) -> bool {
        let line = |line: &&'static str| (header::ACCEPT_ENCODING, HeaderValue::from_static(line));
        accepts_gzip(&lines.iter().map(line).collect())
    }

    #[test]
    fn what_a_client_accepts() {
        for yes in [
            "gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0, GZIP;q=0.5",
            "*",
            "identity;q=0, *;q=0.1",
            "x-gzip",
        ] {
            assert!(accepts(&[yes]), "{yes}");
        }
        for no in [
            "",
            "br",
            "gzip;q=0",
            "identity",
            "gzip;q=0, *",
            "gzip;q=0.5, identity;q=0.6",
            "gzip;q=x",
            "gzip;q=2",
        ] {
            assert!(!accepts(&[no]), "{no}");
        }
        assert!(!accepts(&[]) && accepts(&["br", "gzip"]));
    }

    fn text(length: usize) -> Value {
        Value::text("abcdefghij".repeat(length.div_ceil(10)))
    }

    fn unzipped(gzip: &Bytes) -> Vec<u8> {
        let mut out = Vec::new();
        GzDecoder::new(&**gzip).read_to_end(&mut out).expect("gzip");
        out
    }

    #[tokio::test]
    async fn values_are_compressed_once_and_kept() {
        let encodings = Encodings::new(1 << 20, Tasks::new());
        let value = text(2_000);
        let first = encodings.gzip(&value).expect("text of some size");
        assert_eq!(unzipped(&first), **value.bytes());
        let again = encodings.gzip(&value).expect("it is kept");
        assert_eq!(first.as_ptr(), again.as_ptr(), "the same bytes");
    }

    #[tokio::test]
    async fn large_values_are_compressed_behind_the_first_answers() {
        let tasks = Tasks::new();
        let encodings = Encodings::new(8 << 20, tasks.clone());
        let value = text(AT_ONCE_BYTES_MAX + 1);
        assert_eq!(encodings.gzip(&value), None);
        assert!(tasks.join(Duration::from_secs(20)).await);
        assert_eq!(unzipped(&encodings.gzip(&value).expect("it is there")), **value.bytes());
    }

    #[tokio::test]
    async fn what_is_small_or_no_text_or_does_not_shrink_is_left_alone() {
        let encodings = Encodings::new(1 << 20, Tasks::new());
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(4_000).collect();
        for value in [text(100), Value::new(text(5_000).bytes().clone(), ContentKind::Binary)] {
            assert!(!encodings.may_vary(&value) && encodings.gzip(&value).is_none());
        }
        assert_eq!(encodings.gzip(&Value::new(noise, ContentKind::Text)), None);
        assert!(!Encodings::new(0, Tasks::new()).may_vary(&text(5_000)));
    }

    #[tokio::test]
    async fn another_value_of_the_same_tag_is_not_taken_for_it() {
        let encodings = Encodings::new(1 << 20, Tasks::new());
        let (value, other) = (text(2_000), text(3_000));
        let shared = encodings.0.as_ref().expect("it is on");
        let wrong = Encoded { value: other.bytes().clone(), gzip: gzip(other.bytes()) };
        let now = BootClock.now();
        let tag = value.tag();
        shared.cache.insert(tag, tag, Content::Value(wrong), now.saturating_add(LIFETIME), now);
        assert_eq!(unzipped(&encodings.gzip(&value).expect("text")), **value.bytes());
    }
}
