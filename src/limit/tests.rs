//! The limits together, at times that are passed in.

use std::sync::atomic::AtomicUsize;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: f64) -> Moment {
    Moment::from_nanos((seconds * SECOND as f64) as u64)
}

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

fn limiter(config: RateConfig) -> Limiter {
    Limiter::new(config, &NodeMetrics::new())
}

fn client(id: u64) -> ClientKey {
    ClientKey::token(id)
}

/// How many of `count` requests of the client are let through at once.
fn admitted(limiter: &Limiter, caller: ClientKey, count: usize, now: Moment) -> usize {
    (0..count).filter(|_| limiter.check(caller, None, now).is_allowed()).count()
}

#[test]
fn nothing_is_limited_by_default() {
    let limiter = limiter(RateConfig::default());
    assert!(!limiter.is_on());
    assert_eq!(limiter.check(client(1), Some(&GroupBucket::new("scores")), at(1.0)), Decision::UNLIMITED);
    assert_eq!(limiter.origin_permit(at(1.0)), Ok(()));
}

#[test]
fn five_times_the_rate_is_let_through_at_the_rate() {
    let limiter = limiter(RateConfig { client: rate("100/s burst 200"), ..RateConfig::default() });
    // 500 requests a second for a minute.
    let sum = (0..30_000_u32)
        .filter(|step| limiter.check(client(1), None, at(1.0 + f64::from(*step) / 500.0)).is_allowed())
        .count();
    assert!((6199..=6200).contains(&sum), "{sum}");
}

#[test]
fn who_is_refused_uses_nothing_of_the_others() {
    let config = RateConfig {
        client: rate("10/s"),
        group: rate("15/s"),
        global: rate("20/s"),
        ..RateConfig::default()
    };
    let (limiter, group, other) = (limiter(config), GroupBucket::new("scores"), GroupBucket::new("scores"));
    let ask = |id, group| limiter.check(client(id), Some(group), at(1.0));
    for _ in 0..10 {
        assert!(ask(1, &group).is_allowed());
    }
    for _ in 0..1000 {
        assert_eq!(ask(1, &group).limit(), Some(Limit::Client));
    }
    for _ in 0..5 {
        assert!(ask(2, &group).is_allowed());
    }
    for _ in 0..1000 {
        assert_eq!(ask(2, &group).limit(), Some(Limit::Group));
    }
    // What the group refused is still in the client's bucket, and the node's.
    for _ in 0..5 {
        assert!(ask(2, &other).is_allowed());
    }
    let refused = ask(3, &other);
    assert_eq!((refused.limit(), refused.is_allowed()), (Some(Limit::Global), false));
    assert_eq!(admitted(&limiter, client(3), 100, at(2.0)), 10);
}

#[test]
fn a_refusal_tells_the_longest_wait_and_an_answer_the_least_that_is_left() {
    let config = RateConfig { client: rate("1/m"), global: rate("1/s"), ..RateConfig::default() };
    let limiter = limiter(config);
    assert_eq!(limiter.check(client(1), None, at(1.0)).retry_after(), None);
    let refused = limiter.check(client(1), None, at(1.0));
    assert_eq!((refused.limit(), refused.retry_after()), (Some(Limit::Client), Some(60)));
    let refused = limiter.check(client(2), None, at(1.5));
    assert_eq!((refused.limit(), refused.retry_after()), (Some(Limit::Global), Some(1)));

    let config = RateConfig { client: rate("5/s"), global: rate("100/s"), ..RateConfig::default() };
    limiter.replace(config);
    let allowed = limiter.check(client(3), None, at(10.0));
    assert_eq!((allowed.limit(), allowed.remaining()), (Some(Limit::Client), Some(4)));
}

#[test]
fn strangers_beyond_the_table_share_one_bucket() {
    let metrics = NodeMetrics::new();
    let config = RateConfig { client: rate("2/m burst 2"), clients_max: 1000, ..RateConfig::default() };
    let limiter = Limiter::new(config, &metrics);
    let mut sum = 0;
    for id in 0..100_000 {
        sum += admitted(&limiter, client(id), 3, at(1.0));
    }
    assert!((2 * 500..=2 * 1000 + 2).contains(&sum), "{sum}");
    let decision = limiter.check(client(99_999), None, at(1.0));
    assert_eq!((decision.limit(), decision.is_allowed()), (Some(Limit::Shared), false));
    let text = metrics.render();
    assert!(text.contains("ggcache_rate_limited_total{limit=\"shared\"}"), "{text}");
    assert!(text.contains("ggcache_rate_limited_total{limit=\"origin\"} 0"), "{text}");
}

#[test]
fn the_database_has_a_limit_of_its_own() {
    let limiter = limiter(RateConfig { origin: rate("3/s"), ..RateConfig::default() });
    assert!(!limiter.is_on(), "hits are not limited");
    assert_eq!((0..9).filter(|_| limiter.origin_permit(at(1.0)).is_ok()).count(), 3);
    let refused = limiter.origin_permit(at(1.0)).expect_err("it is used up");
    assert_eq!((refused.limit(), refused.retry_after()), (Some(Limit::Origin), Some(1)));
    assert_eq!(limiter.origin_permit(at(2.0)), Ok(()));
}

#[test]
fn a_reload_keeps_what_was_used() {
    let config = RateConfig { client: rate("10/m burst 10"), global: rate("100/s"), ..RateConfig::default() };
    let limiter = limiter(config.clone());
    assert_eq!(admitted(&limiter, client(1), 20, at(1.0)), 10);
    limiter.replace(RateConfig { global: rate("50/s"), origin: rate("1/s"), ..config.clone() });
    assert_eq!(admitted(&limiter, client(1), 20, at(1.0)), 0);
    limiter.replace(RateConfig { client: Rate::OFF, global: Rate::OFF, ..config.clone() });
    assert!(!limiter.is_on());
    limiter.replace(RateConfig { client: rate("10/s"), ..config });
    assert_eq!(admitted(&limiter, client(1), 20, at(10.0)), 10);
}

#[test]
fn a_group_may_have_a_rate_of_its_own() {
    let own = |text: &str| [("scores".to_owned(), rate(text))].into();
    let config = RateConfig { groups: own("2/s"), ..RateConfig::default() };
    let limiter = limiter(config.clone());
    let (scores, pages) = (GroupBucket::new("scores"), GroupBucket::new("pages"));
    let count = |group: &GroupBucket, seconds| {
        (0..9).filter(|_| limiter.check(client(1), Some(group), at(seconds)).is_allowed()).count()
    };
    assert!(limiter.is_on() && limiter.has_group());
    assert_eq!((count(&scores, 1.0), count(&pages, 1.0)), (2, 9));
    limiter.replace(RateConfig { group: rate("5/s"), ..config.clone() });
    assert_eq!((count(&scores, 5.0), count(&pages, 5.0)), (2, 5));
    limiter.replace(RateConfig { group: rate("5/s"), groups: own("0"), ..config.clone() });
    assert_eq!((count(&scores, 9.0), count(&pages, 9.0)), (9, 5));
    limiter.replace(RateConfig { groups: own("0"), ..config });
    assert!(!limiter.is_on() && !limiter.has_group());
}

#[test]
fn nodes_share_a_rate_of_the_cluster_s() {
    let config = RateConfig { client: rate("90/s"), share: Share::Cluster, ..RateConfig::default() };
    let limiter = limiter(config.clone());
    limiter.set_nodes(3);
    assert_eq!(admitted(&limiter, client(1), 100, at(1.0)), 30);
    limiter.set_nodes(1);
    assert_eq!(admitted(&limiter, client(2), 100, at(1.0)), 90);
    limiter.replace(RateConfig { share: Share::Node, ..config });
    limiter.set_nodes(3);
    assert_eq!(admitted(&limiter, client(3), 100, at(1.0)), 90);
}

#[test]
fn no_thread_gets_more_than_there_is() {
    let config = RateConfig {
        client: rate("60/m burst 900"),
        group: rate("60/m burst 1500"),
        global: rate("60/m burst 2000"),
        ..RateConfig::default()
    };
    let (limiter, group) = (limiter(config), GroupBucket::new("scores"));
    let by_client = [const { AtomicUsize::new(0) }; 4];
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (limiter, group, by_client) = (&limiter, &group, &by_client);
            scope.spawn(move || {
                for step in 0..4000_u64 {
                    let id = (thread + step) % 4;
                    // Two of the clients ask for keys of the group.
                    let group = (id < 2).then_some(group);
                    let is_allowed = limiter.check(client(id), group, at(1.0)).is_allowed();
                    by_client[id as usize].fetch_add(usize::from(is_allowed), Ordering::Relaxed);
                }
            });
        }
    });
    let counts = by_client.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(counts.iter().all(|count| *count <= 900), "{counts:?}");
    assert!(counts[0] + counts[1] <= 1500, "{counts:?}");
    // Who was refused for others' tokens that were given back at once may have left some; one pass takes the rest.
    let rest: usize = (0..4).map(|id| admitted(&limiter, client(id), 2000, at(1.0))).sum();
    assert_eq!(counts.iter().sum::<usize>() + rest, 2000, "{counts:?}");
}

#[test]
fn a_million_forged_headers_gain_nothing() {
    let config = RateConfig {
        client: rate("5/m burst 5"),
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
        ..RateConfig::default()
    };
    let limiter = limiter(config);
    let ask = |socket: &str, header: String| {
        let headers = [(http::HeaderName::from_static("x-forwarded-for"), header.parse().expect("a value"))];
        let address =
            limiter.client_address(socket.parse().expect("an address"), &headers.into_iter().collect());
        limiter.check(ClientKey::address(address), None, at(1.0)).is_allowed()
    };
    let forged = |index: u32| std::net::Ipv4Addr::from_bits(index.wrapping_mul(2_654_435_761)).to_string();
    // At the node itself, and through a proxy that appends who asked it.
    assert_eq!((0..10_000).filter(|index| ask("198.51.100.1", forged(*index))).count(), 5);
    let through = |index: u32| ask("10.0.0.1", format!("{}, 198.51.100.2", forged(index)));
    assert_eq!((0..10_000).filter(|index| through(*index)).count(), 5);
}
