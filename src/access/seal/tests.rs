//! What is sealed, what is let in, and what is not.

use http::HeaderName;
use proptest::prelude::*;

use super::{
    verifier::{SENDERS_MAX, SKEW_MS_MAX},
    window::WINDOW,
    *,
};

const ME: &str = "node-1.example.com:10001";
/// Headers that carry meaning.
const NAMES: [&str; 4] = ["ggcache-budget-ms", "ggcache-epoch", "ggcache-digest", "ggcache-of-tomorrow"];
const STARTED: u64 = 1_760_000_000_000;
const NOW: u64 = STARTED + 60_000;

fn secrets(letter: &str, previous: Option<&str>) -> Secrets {
    let secret = |letter: &str| PeerSecret::new(letter.repeat(40));
    Secrets::new(secret(letter), previous.map(secret))
}

fn verifier() -> Verifier {
    Verifier::new(&secrets("a", None), ME, STARTED)
}

fn sealer(sender: u64) -> Sealer {
    Sealer::with_sender(&secrets("a", None), sender)
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn new(body: &[u8]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(NAMES[0], HeaderValue::from_static("250"));
        headers.insert(NAMES[1], HeaderValue::from_static("00112233445566aa"));
        let target = "/_ggcache/scores/a%2Fb?x=1".to_owned();
        Self { method: "POST".to_owned(), target, headers, body: body.to_vec() }
    }

    fn head(&self) -> Head<'_> {
        Head { method: &self.method, target: &self.target, headers: &self.headers }
    }

    fn seal(mut self, sealer: &Sealer, callee: &str, now_ms: u64) -> Self {
        let seal = sealer.seal(&self.head(), Some(&self.body), callee, now_ms);
        self.headers.insert(SEAL, seal);
        self
    }

    fn sealed(sealer: &Sealer, now_ms: u64) -> Self {
        Self::new(b"{}").seal(sealer, ME, now_ms)
    }

    fn arrive(&self, verifier: &Verifier, now_ms: u64) -> Result<(), SealError> {
        verifier.verify(&self.head(), now_ms)?.check(&self.body)
    }

    fn seal_text(&self) -> &str {
        self.headers[SEAL].to_str().expect("text")
    }

    fn with_seal(&self, text: &str) -> Self {
        let mut other = self.clone();
        other.headers.insert(SEAL, HeaderValue::try_from(text).expect("text"));
        other
    }
}

#[test]
fn what_is_sealed_is_let_in_once() {
    let (verifier, sealer) = (verifier(), sealer(7));
    let sent = Sent::sealed(&sealer, NOW);
    assert!(sent.seal_text().len() <= SEAL_BYTES_MAX);
    assert_eq!(sent.arrive(&verifier, NOW), Ok(()));
    assert_eq!(sent.arrive(&verifier, NOW + 1), Err(SealError::Replayed));
    assert_eq!(Sent::sealed(&sealer, NOW).arrive(&verifier, NOW), Ok(()), "the same once more, sealed anew");
    assert_eq!(verifier.senders(), 1);
}

#[test]
fn the_header_is_as_it_is_told() {
    let mut sent = Sent::new(b"");
    let seal = sealer(0xaa).seal(&sent.head(), None, ME, NOW);
    let text = seal.to_str().expect("text");
    let start = format!("v1 t={NOW},s=00000000000000aa,n=1,m=");
    assert!(text.starts_with(&start) && text.len() == start.len() + 43, "{text}");
    sent.headers.insert(SEAL, seal);
    assert_eq!(sent.arrive(&verifier(), NOW), Ok(()));
    sent.body = b"x".to_vec();
    assert_eq!(sent.arrive(&verifier(), NOW), Err(SealError::Body), "there was none");
}

#[test]
fn a_golden_code() {
    // Made by another program; nodes of two versions must agree on it.
    let mut sent = Sent::new(b"{}");
    sent.headers.insert(NAMES[3], HeaderValue::from_static("9"));
    let sent = sent.seal(&sealer(7), ME, NOW);
    let expected = "v1 t=1760000060000,s=0000000000000007,n=1,\
                    b=RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o,m=FBVPtE6aCMAYFlwHEsx3ZGErj1RukNJwS72TaE1Y3sM";
    assert_eq!(sent.seal_text(), expected);
}

#[test]
fn each_field_counts() {
    let sealer = sealer(7);
    let sent = Sent::sealed(&sealer, NOW);
    let wrong = |sent: &Sent| {
        let verifier = verifier();
        let error = sent.arrive(&verifier, NOW).expect_err("it was changed");
        assert_eq!(error, SealError::Wrong(ME.to_owned()), "{sent:?}");
        assert_eq!(verifier.senders(), 0, "a stranger takes no memory");
    };
    for method in ["GET", "POST2", ""] {
        wrong(&Sent { method: method.to_owned(), ..sent.clone() });
    }
    for target in ["/_ggcache/scores/a/b?x=1", "/_ggcache/scores/a%2Fb?x=2", "/_ggcache/scores/a%2Fb", ""] {
        wrong(&Sent { target: target.to_owned(), ..sent.clone() });
    }
    // What ends one field and begins the next can't be moved.
    wrong(&Sent { method: "POST/".to_owned(), target: sent.target[1..].to_owned(), ..sent.clone() });
    for name in NAMES {
        let mut more = sent.clone();
        more.headers.append(name, HeaderValue::from_static("1"));
        wrong(&more);
        let mut less = sent.clone();
        if less.headers.remove(name).is_some() {
            wrong(&less);
        }
    }
    let mut moved = sent.clone();
    let value = moved.headers.remove(NAMES[0]).expect("it is there");
    moved.headers.insert(NAMES[3], value);
    wrong(&moved);
    let text = sent.seal_text();
    for (from, to) in [("n=1,", "n=2,"), ("s=0000000000000007", "s=0000000000000008"), ("t=17", "t=18")] {
        assert!(text.contains(from), "{text}");
        wrong(&sent.with_seal(&text.replace(from, to)));
    }
    let (before, after) = (text.find(",b=").expect("a body"), text.find(",m=").expect("a code"));
    wrong(&sent.with_seal(&format!("{}{}", &text[..before], &text[after..])));
    let other_body = Sent { body: b"{ }".to_vec(), ..sent.clone() };
    assert_eq!(other_body.arrive(&verifier(), NOW), Err(SealError::Body));
    // For another node, and under another secret.
    wrong(&Sent::new(b"{}").seal(&sealer, "node-2.example.com:10001", NOW));
    wrong(&Sent::new(b"{}").seal(&Sealer::with_sender(&secrets("b", Some("a")), 7), ME, NOW));
    // What does not count may be changed on its way.
    let mut other = sent;
    other.headers.insert("traceparent", HeaderValue::from_static("00-1-2-00"));
    assert_eq!(other.arrive(&verifier(), NOW), Ok(()));
}

#[test]
fn seals_of_another_form_are_refused() {
    let sent = Sent::sealed(&sealer(7), NOW);
    let mut without = sent.clone();
    without.headers.remove(SEAL);
    assert_eq!(without.arrive(&verifier(), NOW), Err(SealError::Missing));
    let mut twice = sent.clone();
    twice.headers.append(HeaderName::from_static(SEAL), sent.headers[SEAL].clone());
    assert_eq!(twice.arrive(&verifier(), NOW), Err(SealError::Malformed));
    let text = sent.seal_text();
    for other in [
        String::new(),
        "v1 ".to_owned(),
        text.replacen("v1", "v2", 1),
        format!("{text},x=1"),
        format!("{text}A"),
        text[..text.len() - 1].to_owned(),
        text.replacen("t=", "t=-", 1),
        text.replacen("n=1", "n=18446744073709551616", 1),
        text.replacen(",s=", ",q=", 1),
        text.replace(',', ";"),
        format!("{text}{}", " ".repeat(SEAL_BYTES_MAX)),
    ] {
        assert_eq!(sent.with_seal(&other).arrive(&verifier(), NOW), Err(SealError::Malformed), "{other}");
    }
}

#[test]
fn clocks_may_differ_a_little() {
    for (sealed, error) in [
        (NOW - SKEW_MS_MAX, None),
        (NOW + SKEW_MS_MAX, None),
        (
            NOW - SKEW_MS_MAX - 1,
            Some("the nodes' clocks differ: the request was sealed 30001 ms ago, and 30000 ms are allowed"),
        ),
        (
            NOW + 86_400_000,
            Some(
                "the nodes' clocks differ: the request was sealed 86400000 ms ahead of this node's time, and 30000 ms are allowed",
            ),
        ),
        (
            u64::MAX,
            Some(
                "the nodes' clocks differ: the request was sealed 9223372036854775807 ms ahead of this node's time, and 30000 ms are allowed",
            ),
        ),
    ] {
        let arrived = Sent::sealed(&sealer(7), sealed).arrive(&verifier(), NOW);
        assert_eq!(arrived.err().map(|error| error.to_string()).as_deref(), error, "{sealed}");
    }
}

#[test]
fn requests_may_overtake_each_other() {
    let (verifier, sealer) = (verifier(), sealer(7));
    let mut sent: Vec<_> = (0..100).map(|_| Sent::sealed(&sealer, NOW)).collect();
    sent.reverse();
    for sent in &sent {
        assert_eq!(sent.arrive(&verifier, NOW), Ok(()));
    }
    for sent in &sent {
        assert_eq!(sent.arrive(&verifier, NOW), Err(SealError::Replayed));
    }
    let first = Sent::sealed(&sealer, NOW);
    sealer.counts.iter().for_each(|count| count.store(101 + WINDOW, Ordering::Relaxed));
    assert_eq!(Sent::sealed(&sealer, NOW).arrive(&verifier, NOW), Ok(()));
    assert_eq!(first.arrive(&verifier, NOW), Err(SealError::Overtaken), "it might be an old one");
}

#[test]
fn numbers_are_counted_for_each_callee() {
    let sealer = sealer(7);
    let mine = Sent::sealed(&sealer, NOW);
    for _ in 0..3 {
        drop(Sent::new(b"{}").seal(&sealer, "node-2.example.com:10001", NOW));
    }
    let next = Sent::sealed(&sealer, NOW);
    assert!(mine.seal_text().contains(",n=1,") && next.seal_text().contains(",n=2,"), "{}", next.seal_text());
}

#[test]
fn a_sender_that_starts_anew_is_another_one() {
    let verifier = verifier();
    let before = Sent::sealed(&sealer(7), NOW);
    assert_eq!(before.arrive(&verifier, NOW), Ok(()));
    let after = Sent::sealed(&sealer(8), NOW);
    assert_eq!(after.arrive(&verifier, NOW), Ok(()), "its numbers begin anew");
    assert_eq!(before.arrive(&verifier, NOW), Err(SealError::Replayed));
}

#[test]
fn a_callee_that_starts_anew_takes_nothing_from_before() {
    let sealer = sealer(7);
    let (before, unsent) = (Sent::sealed(&sealer, NOW), Sent::sealed(&sealer, NOW));
    assert_eq!(before.arrive(&verifier(), NOW), Ok(()));
    let restarted = Verifier::new(&secrets("a", None), ME, NOW + 1);
    assert_eq!(before.arrive(&restarted, NOW + 2), Err(SealError::Forgotten));
    assert_eq!(Sent::sealed(&sealer, NOW + 2).arrive(&restarted, NOW + 2), Ok(()));
    assert_eq!(
        before.arrive(&restarted, NOW + 3),
        Err(SealError::Forgotten),
        "also of one that it knows now"
    );
    assert_eq!(
        unsent.arrive(&restarted, NOW + 3),
        Err(SealError::Forgotten),
        "nobody knows whether it was there"
    );
}

#[test]
fn two_secrets_are_accepted_and_one_is_used() {
    let (old, new) = (secrets("a", None), secrets("b", Some("a")));
    let both = Verifier::new(&new, ME, STARTED);
    assert_eq!(Sent::sealed(&Sealer::with_sender(&old, 1), NOW).arrive(&both, NOW), Ok(()));
    let by_new = Sent::sealed(&Sealer::with_sender(&new, 2), NOW);
    assert_eq!(by_new.arrive(&both, NOW), Ok(()));
    let only_old = Verifier::new(&old, ME, STARTED);
    assert!(
        matches!(by_new.arrive(&only_old, NOW), Err(SealError::Wrong(_))),
        "the previous one seals nothing"
    );
}

#[test]
fn senders_are_bounded_and_none_makes_room_whose_messages_might_come_again() {
    let verifier = verifier();
    let first = Sent::sealed(&sealer(0), NOW);
    assert_eq!(first.arrive(&verifier, NOW), Ok(()));
    for sender in 1..SENDERS_MAX as u64 {
        assert_eq!(Sent::sealed(&sealer(sender), NOW + 1_000).arrive(&verifier, NOW), Ok(()));
    }
    let late = NOW + SKEW_MS_MAX;
    let newcomer = |at| Sent::sealed(&sealer(u64::MAX), at).arrive(&verifier, at);
    assert_eq!(newcomer(late), Err(SealError::Senders));
    assert_eq!(verifier.senders(), SENDERS_MAX);
    assert_eq!(newcomer(late + 1), Ok(()), "the first one's message is too old by now");
    assert_eq!(verifier.senders(), SENDERS_MAX);
    assert!(matches!(first.arrive(&verifier, late + 1), Err(SealError::Clock(_))));
    // The clock is set back; what was forgotten stays refused.
    assert_eq!(first.arrive(&verifier, NOW), Err(SealError::Senders));
    assert!(Sent::sealed(&sealer(SENDERS_MAX as u64), late + 2_000).arrive(&verifier, late + 2_000).is_ok());
    assert_eq!(verifier.senders(), 2, "all that are old go at once");
    assert_eq!(first.arrive(&verifier, NOW), Err(SealError::Forgotten));
}

#[test]
fn nothing_of_the_secret_is_shown() {
    let secrets = secrets("hunter2", None);
    let shown =
        format!("{secrets:?} {:?} {:?}", Sealer::with_sender(&secrets, 1), Verifier::new(&secrets, ME, 0));
    assert!(!shown.contains("hunter2"), "{shown}");
}

fn text() -> impl Strategy<Value = String> {
    "[ -~]{0,40}"
}

proptest! {
    /// Whatever is sealed is let in; and with one byte changed anywhere, it is not.
    #[test]
    fn one_changed_byte_is_enough(
        method in text(), target in text(), values in proptest::collection::vec((0_usize..4, text()), 0..6),
        body: Vec<u8>, sender: u64, at: prop::sample::Index, bit in 0_u8..7,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &values {
            headers.append(NAMES[*name], HeaderValue::try_from(value.as_str()).expect("text"));
        }
        let sent = Sent { method, target, headers, body }.seal(&sealer(sender), ME, NOW);
        prop_assert_eq!(sent.arrive(&verifier(), NOW), Ok(()));
        let seal = sent.seal_text().as_bytes().to_vec();
        let mut changed = seal.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        if let Ok(value) = HeaderValue::from_bytes(&changed) {
            let other = Sent { headers: { let mut h = sent.headers.clone(); h.insert(SEAL, value); h }, ..sent.clone() };
            // The case of a hex digit says nothing.
            prop_assert!(other.arrive(&verifier(), NOW).is_err() || changed.eq_ignore_ascii_case(&seal));
        }
        for (index, _) in sent.body.iter().enumerate().take(3) {
            let mut other = sent.clone();
            other.body[index] ^= 1 << bit;
            prop_assert_eq!(other.arrive(&verifier(), NOW), Err(SealError::Body));
        }
    }

    /// No header makes it panic, or is let in.
    #[test]
    fn any_header(bytes: Vec<u8>, tail in "[a-z0-9=,_-]{0,120}") {
        for bytes in [bytes, format!("v1 t={NOW},s={tail}").into_bytes()] {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { continue };
            let mut sent = Sent::new(b"");
            sent.headers.insert(SEAL, value);
            prop_assert!(sent.arrive(&verifier(), NOW).is_err());
        }
    }

    /// Two requests that differ have two codes, also where their parts put together are one text.
    #[test]
    fn parts_do_not_run_into_each_other(whole in text(), a in 0_usize..40, b in 0_usize..40) {
        let split = |at: usize| {
            let (method, target) = whole.split_at(at.min(whole.len()));
            let sent = Sent { method: method.to_owned(), target: target.to_owned(), ..Sent::new(b"") };
            (at.min(whole.len()), sent.seal(&sealer(7), ME, NOW).seal_text().to_owned())
        };
        let ((at, one), (other_at, other)) = (split(a), split(b));
        prop_assert_eq!(at == other_at, one == other);
    }
}
