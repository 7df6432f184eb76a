//! What must hold of seals, whatever is shown as one. The fuzz targets call it, through `crate::fuzz`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Head, PeerSecret, SEAL, SealError, Sealer, Secrets, Stamp, Verifier};

const ME: &str = "localhost:10001";
const NOW_MS: u64 = 1_760_000_000_000;

/// A seal's text up to the end of the line; then the method, the target and another header's value, a line each, and the
/// body.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_seal(data: &[u8]) {
    let mut parts = data.splitn(5, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (shown, method, target, value, body) = (part(), part(), part(), part(), part());
    if let Some((stamp, code)) = Stamp::read(shown) {
        assert_eq!(Stamp::read(stamp.write(&code).as_bytes()), Some((stamp, code)));
    }
    let secrets = Secrets::new(PeerSecret::new("a secret that only the fuzzer's nodes share"), None);
    let verifier = Verifier::new(&secrets, ME, NOW_MS - 1_000);
    let (method, target) = (String::from_utf8_lossy(method), String::from_utf8_lossy(target));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(HeaderName::from_static("ggcache-epoch"), value);
    }
    let mut guessed = headers.clone();
    if let Ok(shown) = HeaderValue::from_bytes(shown) {
        guessed.insert(SEAL, shown);
    }
    let head = Head { method: &method, target: &target, headers: &guessed };
    let refused = verifier.verify(&head, NOW_MS).expect_err("nobody guesses a code");
    assert!(matches!(refused, SealError::Missing | SealError::Malformed | SealError::Wrong(_)), "{refused}");

    // What is sealed is let in once, as it was.
    let plain = Head { method: &method, target: &target, headers: &headers };
    let sealer = Sealer::with_sender(&secrets, 7);
    let seal = sealer.seal(&plain, Some(body), ME, NOW_MS);
    let mut sealed = headers.clone();
    sealed.insert(SEAL, seal);
    let other = format!("{target}x");
    let changed = Head { method: &method, target: &other, headers: &sealed };
    assert_eq!(verifier.verify(&changed, NOW_MS), Err(SealError::Wrong(ME.to_owned())));
    let head = Head { headers: &sealed, ..plain };
    let digest = verifier.verify(&head, NOW_MS).expect("what is sealed is let in");
    assert_eq!(digest.check(body), Ok(()));
    assert_eq!(digest.check(&[body, b"x"].concat()), Err(SealError::Body));
    assert_eq!(verifier.verify(&head, NOW_MS), Err(SealError::Replayed));
}
