//! Reads the heads of plain requests.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::{
    codec::same_bytes,
    head::{RequestHead, names_one_host},
};

/// The most fields of a plain head.
const FIELDS_MAX: usize = 32;

/// Reads the heads of one connection, one after the other.
///
/// A client mostly sends the same fields with each request. They are read once, and then only compared.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// What the last head had after its first line, up to its end. Empty if there was none that was plain.
    last: Bytes,
    /// The same fields, read. Their values lie in `last`.
    headers: HeaderMap,
}

impl Heads {
    /// The head that `bytes` begin with, and its length; `None` if it is not plain, or not all of it is there.
    pub(super) fn read<'a>(&'a mut self, bytes: &'a [u8]) -> Option<(RequestHead<'a>, usize)> {
        let (target, fields) = first_line(bytes)?;
        // It ended with an empty line, and so do these.
        let length = if self.is_as_last(fields) { self.last.len() } else { self.read_fields(fields)? };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let head = RequestHead { method: &Method::GET, authority: None, path, query, headers: &self.headers };
        Some((head, bytes.len() - fields.len() + length))
    }

    /// Whether the fields are the last ones again. A connection of a proxy carries the requests of many, and their tokens
    /// are among the fields: how long it takes does not tell where they differ.
    fn is_as_last(&self, fields: &[u8]) -> bool {
        let begin = fields.get(..self.last.len());
        !self.last.is_empty() && begin.is_some_and(|begin| same_bytes(begin, &self.last))
    }

    /// Reads fields up to the empty line. Their length.
    fn read_fields(&mut self, bytes: &[u8]) -> Option<usize> {
        self.last = Bytes::new();
        self.headers.clear();
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let httparse::Status::Complete((length, _)) = httparse::parse_headers(bytes, &mut fields).ok()?
        else {
            return None;
        };
        // They are kept for longer than what was read.
        let kept = Bytes::copy_from_slice(&bytes[..length]);
        let httparse::Status::Complete((_, fields)) = httparse::parse_headers(&kept, &mut fields).ok()?
        else {
            return None;
        };
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            if !is_plain(&name, field.value) {
                return None;
            }
            // An empty value need not lie within the head.
            let value = if field.value.is_empty() { Bytes::new() } else { kept.slice_ref(field.value) };
            self.headers.try_append(name, HeaderValue::from_maybe_shared(value).ok()?).ok()?;
        }
        // What is wrong about it, others say.
        if !names_one_host(&self.headers) {
            return None;
        }
        self.last = kept;
        Some(length)
    }
}

/// The target of a request, and what follows the first line; `None` if that is anything but a GET of a path that is
/// written in the characters which RFC 3986 gives to paths and queries.
fn first_line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"GET ")?;
    let end = rest.iter().position(|byte| !IS_OF_TARGET[usize::from(*byte)])?;
    let (target, rest) = rest.split_at(end);
    let fields = rest.strip_prefix(b" HTTP/1.1\r\n")?;
    let target = std::str::from_utf8(target).ok()?;
    target.starts_with('/').then_some((target, fields))
}

static IS_OF_TARGET: [bool; 256] = {
    let (mut table, mut at) = ([false; 256], 0);
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let (marks, mut at) = (b"-._~%!$&'()*+,;=:@/?", 0);
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether a field says nothing of the connection, nor of a body.
fn is_plain(name: &HeaderName, value: &[u8]) -> bool {
    match *name {
        // What HTTP/1.1 does anyway.
        header::CONNECTION => value.eq_ignore_ascii_case(b"keep-alive"),
        header::CONTENT_LENGTH
        | header::TRANSFER_ENCODING
        | header::TRAILER
        | header::TE
        | header::UPGRADE
        | header::EXPECT => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use proptest::prelude::*;

    use super::*;

    const LINE: &[u8] = b"GET /a?b=c HTTP/1.1\r\n";

    /// Path, query and fields of a head, and what it leaves.
    fn read(heads: &mut Heads, bytes: &[u8]) -> Option<(String, Option<String>, HeaderMap, usize)> {
        let (head, length) = heads.read(bytes)?;
        Some((head.path.into(), head.query.map(Into::into), head.headers.clone(), bytes.len() - length))
    }

    #[test]
    fn what_was_sent_before_is_not_read_again_and_is_the_same() {
        let mut heads = Heads::default();
        let fields: &[u8] = b"Host: x\r\nx-a: 1\r\n\r\n";
        for (line, path) in [(LINE, "/a"), (b"GET /b HTTP/1.1\r\n", "/b")] {
            let bytes = [line, fields, b"GET"].concat();
            let found = read(&mut heads, &bytes).expect("plain");
            assert_eq!((found.0.as_str(), found.2.len(), found.3), (path, 2, 3));
            assert_eq!(
                (&found.2["host"], &found.2["x-a"]),
                (&"x".parse().expect("text"), &"1".parse().expect("text"))
            );
        }
        let kept = heads.last.as_ptr();
        assert!(read(&mut heads, &[LINE, fields].concat()).is_some());
        assert_eq!(heads.last.as_ptr(), kept);
        // What is cut is not what was sent, nor is what goes on.
        assert_eq!(read(&mut heads, &[LINE, &fields[..fields.len() - 2]].concat()), None);
        let more: &[u8] = b"Host: x\r\nx-a: 1\r\nx-b: 2\r\n\r\n";
        assert_eq!(read(&mut heads, &[LINE, more].concat()).expect("plain").2.len(), 3);
        let least: &[u8] = b"host:\r\n\r\n";
        assert_eq!(read(&mut heads, &[LINE, least].concat()).expect("plain").2.len(), 1);
        assert_eq!(read(&mut heads, &[LINE, least, LINE].concat()).expect("plain").3, LINE.len());
        for odd in ["\r\n", "host: x\r\nhost: x\r\n\r\n", "host: a b\r\n\r\n"] {
            assert_eq!(read(&mut heads, &[LINE, odd.as_bytes()].concat()), None, "{odd:?}");
        }
    }

    #[test]
    fn nothing_is_left_of_what_was_not_plain() {
        let mut heads = Heads::default();
        let odd = [LINE, b"host: x\r\nx-a: 1\r\ncontent-length: 0\r\n\r\n"].concat();
        assert_eq!(read(&mut heads, &odd), None);
        assert_eq!(read(&mut heads, &odd), None);
        assert_eq!(read(&mut heads, &[LINE, b"host: x\r\n\r\n"].concat()).expect("plain").2.len(), 1);
    }

    #[test]
    fn other_first_lines_are_not_plain() {
        for line in [
            "HEAD / HTTP/1.1\r\n",
            "get / HTTP/1.1\r\n",
            "GET / HTTP/1.0\r\n",
            "GET / HTTP/1.1\n",
            "GET  / HTTP/1.1\r\n",
            "GET /  HTTP/1.1\r\n",
            "GET /\tHTTP/1.1\r\n",
            "GET * HTTP/1.1\r\n",
            "GET x HTTP/1.1\r\n",
            "GET http://x/ HTTP/1.1\r\n",
            "GET /# HTTP/1.1\r\n",
            "GET /\" HTTP/1.1\r\n",
            "GET /\0 HTTP/1.1\r\n",
            "GET /é HTTP/1.1\r\n",
            "GET",
            "GET /",
            "GET /\r\n",
            "\r\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(read(&mut Heads::default(), format!("{line}\r\n").as_bytes()), None, "{line:?}");
        }
    }

    proptest! {
        /// Whatever is taken for plain, hyper's parsers read the same.
        #[test]
        fn what_is_plain_is_read_as_by_others(target in "/[ -~]{0,40}", value in "[ -~]{0,20}") {
            let bytes = format!("GET {target} HTTP/1.1\r\nhost: x\r\nx-a: {value}\r\n\r\n");
            let mut heads = Heads::default();
            for _ in 0..2 {
                let Some(found) = read(&mut heads, bytes.as_bytes()) else { continue };
                let uri: Uri = target.parse().expect("a target");
                prop_assert_eq!((found.0.as_str(), found.1.as_deref()), (uri.path(), uri.query()));
                let mut fields = [httparse::EMPTY_HEADER; 4];
                let mut head = httparse::Request::new(&mut fields);
                prop_assert!(head.parse(bytes.as_bytes()).expect("a head").is_complete());
                prop_assert_eq!(found.2["x-a"].as_bytes(), head.headers[1].value);
                prop_assert_eq!(found.3, 0);
            }
        }
    }
}
