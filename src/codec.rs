//! How keys are written in URLs: percent-encoding, strictly (RFC 3986, section 2.1), and base64url. And how secrets are
//! compared.
//!
//! A key is any bytes, so that a lenient decoder, which leaves a stray `%` as it is, would give two spellings to
//! one key. Here a `%` without two hex digits is an error.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// URL-safe base64 (RFC 4648, section 5): written without padding, read with or without.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where an encoded text breaks the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the % at byte {at} is not followed by two hex digits; a literal % is written %25")]
pub struct PercentError {
    /// The offset of the `%`.
    pub at: usize,
}

/// Decodes a part of a path: `+` is itself. Borrows if there is nothing to decode.
///
/// # Errors
/// The first `%` that two hex digits do not follow.
pub fn percent_decode(text: &[u8]) -> Result<Cow<'_, [u8]>, PercentError> {
    if text.contains(&b'%') { decode_escapes(text, false).map(Cow::Owned) } else { Ok(Cow::Borrowed(text)) }
}

/// Decodes a value of a query: `+` is a space (as HTML forms write it).
///
/// # Errors
/// The first `%` that two hex digits do not follow.
pub fn query_decode(text: &[u8]) -> Result<Cow<'_, [u8]>, PercentError> {
    if text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        decode_escapes(text, true).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(text))
    }
}

fn decode_escapes(text: &[u8], plus_is_space: bool) -> Result<Vec<u8>, PercentError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'%' => {
                let digit = |offset| text.get(at + offset).and_then(|&byte| (byte as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(1), digit(2)) else { return Err(PercentError { at }) };
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            b'+' if plus_is_space => {
                decoded.push(b' ');
                at += 1;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Ok(decoded)
}

/// Encodes `bytes` so that they are one segment of a path or one value of a query. Only the unreserved characters
/// stay as they are. The segments `.` and `..` stay too, and URL libraries fold them away: whoever writes a path takes
/// care of those.
pub fn percent_encode(bytes: &[u8], into: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(byte as char);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            into.push('%');
            into.push(HEX[usize::from(byte >> 4)] as char);
            into.push(HEX[usize::from(byte & 15)] as char);
        }
    }
}

/// A text that is not base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not base64url (RFC 4648, section 5)")]
pub struct Base64UrlError;

/// Reads base64url, with or without padding.
///
/// # Errors
/// If it is not base64url.
pub fn base64url_decode(text: &[u8]) -> Result<Vec<u8>, Base64UrlError> {
    BASE64_URL.decode(text).map_err(|_| Base64UrlError)
}

/// Writes base64url without padding.
pub fn base64url_encode(bytes: &[u8]) -> String {
    BASE64_URL.encode(bytes)
}

/// Writes base64 as most programs read it (RFC 4648, section 4), with padding.
pub fn base64_encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Whether two texts are equal, in a time that does not tell where they differ. All that differs is gathered before it is looked at, once: `subtle` byte by byte takes
/// longer than the rest of a request's check.
pub fn same_bytes(known: &[u8], shown: &[u8]) -> bool {
    if known.len() != shown.len() {
        return false;
    }
    let ((known, known_rest), (shown, shown_rest)) = (known.as_chunks::<8>(), shown.as_chunks::<8>());
    let words = known.iter().zip(shown).map(|(a, b)| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b));
    let rest = known_rest.iter().zip(shown_rest).map(|(a, b)| u64::from(a ^ b));
    words.chain(rest).fold(0, |differences, next| differences | next).ct_eq(&0).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_and_queries_differ_in_plus() {
        assert_eq!(percent_decode(b"a+b%20c").expect("valid").as_ref(), b"a+b c");
        assert_eq!(query_decode(b"a+b%2Bc").expect("valid").as_ref(), b"a b+c");
    }

    #[test]
    fn decoded_once() {
        assert_eq!(percent_decode(b"%2520").expect("valid").as_ref(), b"%20");
        assert_eq!(percent_decode("张三".as_bytes()).expect("valid").as_ref(), "张三".as_bytes());
    }

    #[test]
    fn stray_percents_are_errors() {
        for (text, at) in [("%", 0), ("a%2", 1), ("%zz", 0), ("ab%g0", 2), ("%2%", 0)] {
            assert_eq!(percent_decode(text.as_bytes()), Err(PercentError { at }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>) {
            let mut text = String::new();
            percent_encode(&bytes, &mut text);
            prop_assert_eq!(percent_decode(text.as_bytes()).expect("valid").into_owned(), bytes.clone());
            prop_assert_eq!(query_decode(text.as_bytes()).expect("valid").into_owned(), bytes);
        }

        #[test]
        fn base64url_round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(base64url_decode(base64url_encode(&bytes).as_bytes()), Ok(bytes));
        }

        #[test]
        fn equal_is_equality(a in proptest::collection::vec(0_u8..4, 0..40), at in 0_usize..40, b: Vec<u8>) {
            prop_assert!(same_bytes(&a, &a.clone()));
            prop_assert_eq!(same_bytes(&a, &b), a == b);
            if let Some(byte) = a.get(at) {
                let mut changed = a.clone();
                changed[at] = byte ^ 0x80;
                prop_assert!(!same_bytes(&a, &changed));
            }
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = percent_decode(&bytes);
            let _ = query_decode(&bytes);
        }
    }
}
