//! Entity tags of values and documents (RFC 9110, section 8.8.3).

use http::{HeaderMap, HeaderValue, header};

use crate::head::hex;

/// A strong entity tag: 16 hex digits, and what tells a compressed value from the same one as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag {
    text: [u8; 21],
    length: usize,
}

impl EntityTag {
    pub(super) fn new(tag: u64, is_gzip: bool) -> Self {
        let mut text = *b"\"................-gz\"";
        text[1..17].copy_from_slice(&hex(tag));
        if !is_gzip {
            text[17] = b'"';
        }
        Self { text, length: if is_gzip { 21 } else { 18 } }
    }

    /// As a field has it.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// The same as text.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The same as a field's value.
    pub(super) fn to_header(self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).unwrap_or(HeaderValue::from_static("\"\""))
    }

    /// Whether an `If-None-Match` names it, by the weak comparison that RFC 9110 (13.1.2) asks for.
    pub(super) fn is_in(&self, seen: &[u8]) -> bool {
        is_any(seen) || tags(seen).any(|tag| tag.strip_prefix(b"W/").unwrap_or(tag) == self.as_bytes())
    }
}

/// Whether an `If-Match` of a reader, if there is one, names what has this tag.
pub(super) fn is_meant(tag: u64, request: &HeaderMap) -> bool {
    let mut lines = request.get_all(header::IF_MATCH).iter().peekable();
    lines.peek().is_none() || lines.any(|line| is_matched(tag, line.as_bytes()))
}

/// Whether an `If-Match` names the value with this tag, in one of its encodings, by the strong comparison that RFC 9110
/// (13.1.1) asks for.
pub(super) fn is_matched(tag: u64, wanted: &[u8]) -> bool {
    let own = [false, true].map(|is_gzip| EntityTag::new(tag, is_gzip));
    is_any(wanted) || tags(wanted).any(|tag| own.iter().any(|own| tag == own.as_bytes()))
}

/// Whether an `If-None-Match` names the value with this tag, in one of its encodings.
pub(super) fn is_seen(tag: u64, seen: &[u8]) -> bool {
    [false, true].into_iter().any(|is_gzip| EntityTag::new(tag, is_gzip).is_in(seen))
}

/// `*` means any value, as the whole of a field and not as one of a list.
fn is_any(line: &[u8]) -> bool {
    line.trim_ascii() == b"*"
}

/// The entity tags of a list, with their quotes. A comma within quotes is a part of a tag.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    line.split(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    })
    .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_matched_weakly_and_in_lists() {
        let etag = EntityTag::new(0xab, false);
        assert_eq!((etag.as_str(), etag.to_header().as_bytes()), ("\"00000000000000ab\"", etag.as_bytes()));
        for seen in ["\"00000000000000ab\"", "W/\"00000000000000ab\"", "\"x\", \"00000000000000ab\"", "*"] {
            assert!(etag.is_in(seen.as_bytes()), "{seen}");
        }
        for seen in [
            "",
            "\"00000000000000ac\"",
            "00000000000000ab",
            "\"x\", *",
            "\"a,*,b\"",
            "\"a,\"00000000000000ab\"\"",
            "\"a,*",
        ] {
            assert!(!etag.is_in(seen.as_bytes()), "{seen}");
        }
    }

    #[test]
    fn a_value_has_a_tag_for_each_encoding() {
        for wanted in ["*", "\"x\",\"00000000000000ab\"", "\"00000000000000ab-gz\""] {
            assert!(is_matched(0xab, wanted.as_bytes()) && is_seen(0xab, wanted.as_bytes()), "{wanted}");
        }
        for other in ["\"a,*,b\"", "\"x\", *", "\"a,\"00000000000000ab\",b\"", ""] {
            assert!(!is_matched(0xab, other.as_bytes()) && !is_seen(0xab, other.as_bytes()), "{other}");
        }
        let weak = b"W/\"00000000000000ab\"";
        assert!(!is_matched(0xab, weak) && is_seen(0xab, weak));
    }

    #[test]
    fn each_encoding_has_a_tag_of_its_own() {
        let (plain, gzip) = (EntityTag::new(0xab, false), EntityTag::new(0xab, true));
        assert_eq!(gzip.as_str(), "\"00000000000000ab-gz\"");
        assert!(!gzip.is_in(plain.as_bytes()) && !plain.is_in(gzip.as_bytes()));
    }
}
