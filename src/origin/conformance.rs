//! What every loader has to do, whatever it reads: each adapter's tests run this suite.

use crate::group::{Key, KeyScan, Loader, Value};

/// A loader, and what its origin holds.
pub(crate) struct Subject<'a> {
    /// The loader on trial.
    pub(crate) loader: &'a dyn Loader,
    /// Everything that the origin holds: more keys than fit one statement.
    pub(crate) present: Vec<(Key, Value)>,
    /// Keys that it does not hold: look-alikes of the others (another case, leading zeros, a space more).
    pub(crate) absent: Vec<Key>,
    /// Makes the origin unable to answer.
    pub(crate) break_origin: Box<dyn FnOnce() + 'a>,
}

/// Runs every check of [`Loader`]'s contract. Panics at the first that fails.
pub(crate) async fn check_loader(subject: Subject<'_>) {
    let Subject { loader, present, absent, break_origin } = subject;
    assert!(present.len() > 1000 && !absent.is_empty(), "the suite needs more keys");

    assert!(loader.load(&[]).await.expect("no keys").is_empty(), "no keys, no answers");
    for (key, value) in present.iter().take(20).chain(present.last()) {
        let answer = loader.load(std::slice::from_ref(key)).await.expect("the origin works");
        assert_eq!(answer, [Some(value.clone())], "{key:?} alone");
    }
    for key in &absent {
        let answer = loader.load(std::slice::from_ref(key)).await.expect("absent is not an error");
        assert_eq!(answer, [None], "{key:?} is not there");
    }

    // Many at once, out of order, with absent ones and duplicates (near and far apart) among them.
    let mut keys = Vec::new();
    let mut expected = Vec::new();
    for (at, (key, value)) in present.iter().enumerate().rev() {
        let repeats = if at % 7 == 0 { 2 } else { 1 };
        for _ in 0..repeats {
            keys.push(key.clone());
            expected.push(Some(value.clone()));
        }
        if at % 5 == 0 {
            keys.push(absent[at % absent.len()].clone());
            expected.push(None);
        }
    }
    keys.push(present[present.len() - 1].0.clone());
    expected.push(Some(present[present.len() - 1].1.clone()));
    let answer = loader.load(&keys).await.expect("the origin works");
    assert_eq!(answer.len(), keys.len(), "one answer for each key");
    for ((key, answer), expected) in keys.iter().zip(answer).zip(expected) {
        assert_eq!(answer, expected, "{key:?} among many");
    }

    break_origin();
    let found = loader.load(&[present[0].0.clone()]).await;
    assert!(found.is_err(), "a broken origin is an error, for a key that it held: {found:?}");
    let keys: Vec<_> = present.iter().map(|(key, _)| key.clone()).collect();
    assert!(loader.load(&keys).await.is_err(), "a broken origin is an error, for many keys");
}

/// Walks all keys in pages of several sizes. `expected` is in the origin's key order.
pub(crate) async fn check_scan(scan: &dyn KeyScan, expected: &[Key]) {
    for page in [1_usize, 7, 10_000] {
        let mut seen: Vec<Key> = Vec::new();
        loop {
            let keys = scan.keys_after(seen.last(), page).await.expect("the origin works");
            assert!(keys.len() <= page, "at most {page} keys");
            if keys.is_empty() {
                break;
            }
            seen.extend(keys);
            assert!(seen.len() <= expected.len(), "the scan goes round in circles");
        }
        assert_eq!(seen, expected, "in pages of {page}");
    }
}
