//! The state machine step by step, and its invariants under any order of events.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::{Allow, Health, HealthBoard, HealthConfig, HealthState, Transition};
use crate::{
    cluster::{Address, Node, NodeId, View},
    time::Moment,
};

fn at_ms(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn until(health: &Health) -> Moment {
    match health.state() {
        HealthState::Ejected { until, .. } | HealthState::Probing { until, .. } => until,
        HealthState::Healthy { .. } => panic!("the peer is healthy"),
    }
}

fn ejected(config: HealthConfig, now: Moment) -> Health {
    let mut health = Health::new(config, 7);
    for _ in 1..config.failures_max {
        assert_eq!(health.on_failure(now), None);
    }
    assert_eq!(health.on_failure(now), Some(Transition::Ejected));
    health
}

#[test]
fn only_failures_in_a_row_eject() {
    let mut health = Health::new(HealthConfig::default(), 7);
    for _ in 0..10 {
        assert_eq!(health.on_failure(at_ms(1)), None);
        assert_eq!(health.on_failure(at_ms(1)), None);
        assert_eq!(health.on_success(at_ms(1)), None);
    }
    assert_eq!((health.allows(at_ms(1)), health.since()), (Allow::Yes, None));
    health = ejected(HealthConfig::default(), at_ms(5));
    assert_eq!((health.allows(at_ms(5)), health.since()), (Allow::No, Some(at_ms(5))));
}

#[test]
fn one_probe_at_a_time_decides() {
    let mut health = ejected(HealthConfig::default(), at_ms(0));
    let due = until(&health);
    assert_eq!(health.allows(Moment::from_nanos(due.as_nanos() - 1)), Allow::No);
    assert_eq!(health.allows(due), Allow::Probe);
    assert_eq!(health.allows(due), Allow::No);
    assert_eq!(health.on_failure(due), None, "it was ejected before");
    assert!(matches!(health.state(), HealthState::Ejected { attempt: 1, .. }));
    let due = until(&health);
    assert_eq!(health.allows(due), Allow::Probe);
    assert_eq!(health.on_success(due), Some(Transition::Readmitted));
    assert_eq!((health.allows(due), health.since()), (Allow::Yes, Some(due)));
    assert_eq!(health.state(), HealthState::Healthy { failures: 0 });
}

#[test]
fn a_probe_that_never_reports_is_given_up() {
    let config = HealthConfig::default();
    let mut health = ejected(config, at_ms(0));
    let due = until(&health);
    assert_eq!(health.allows(due), Allow::Probe);
    let given_up = due.saturating_add(config.probe_after_max);
    assert_eq!(health.allows(Moment::from_nanos(given_up.as_nanos() - 1)), Allow::No);
    assert_eq!(health.allows(given_up), Allow::Probe);
    assert_eq!(health.allows(given_up), Allow::No);
}

#[test]
fn late_reports() {
    let mut health = ejected(HealthConfig::default(), at_ms(0));
    let before = health.clone();
    assert_eq!(health.on_failure(at_ms(50)), None);
    assert_eq!(health, before, "a failure from before the ejection does not put the probe off");
    assert_eq!(health.on_success(at_ms(60)), Some(Transition::Readmitted));
    assert_eq!(health.allows(at_ms(60)), Allow::Yes);
}

#[test]
fn waits_double_up_to_the_longest() {
    let config = HealthConfig::default();
    let mut health = ejected(config, at_ms(0));
    let mut now = at_ms(0);
    for longest_ms in [200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
        let wait = until(&health).saturating_since(now);
        let longest = Duration::from_millis(longest_ms);
        assert!(wait >= longest / 2 && wait <= longest, "{wait:?} of {longest:?}");
        now = until(&health);
        assert_eq!(health.allows(now), Allow::Probe);
        health.on_failure(now);
    }
}

#[test]
fn waits_differ_by_seed_and_not_by_chance() {
    let wait = |seed| {
        let mut health = Health::new(HealthConfig { failures_max: 1, ..HealthConfig::default() }, seed);
        health.on_failure(at_ms(0));
        until(&health)
    };
    assert_eq!(wait(1), wait(1));
    let mut waits: Vec<Moment> = (0..100).map(wait).collect();
    waits.sort_unstable();
    waits.dedup();
    assert_eq!(waits.len(), 100);
}

#[test]
fn odd_configurations_do_no_harm() {
    for (failures_max, probe_after_min, probe_after_max) in [
        (0, Duration::ZERO, Duration::ZERO),
        (1, Duration::from_secs(9), Duration::from_secs(1)),
        (1, Duration::MAX, Duration::MAX),
    ] {
        let mut health = Health::new(HealthConfig { failures_max, probe_after_min, probe_after_max }, 7);
        assert_eq!(health.on_failure(at_ms(1)), Some(Transition::Ejected));
        for _ in 0..100 {
            let due = until(&health);
            assert!(due <= at_ms(1).saturating_add(probe_after_max.saturating_mul(100)));
            assert_eq!(health.allows(due), Allow::Probe);
            health.on_failure(due);
        }
    }
}

fn node(number: u16) -> Node {
    Node::new(address(number))
}

fn address(number: u16) -> Address {
    Address::new(&format!("node:{}", number + 1)).expect("a right address")
}

/// The view of node 0 in a cluster of nodes `0..nodes`.
fn view(nodes: u16) -> View {
    View::new(node(0), (1..nodes).map(node), 1)
}

fn board(nodes: u16) -> HealthBoard {
    HealthBoard::new(HealthConfig::default(), 7, &view(nodes))
}

fn fail(board: &mut HealthBoard, number: u16) -> Option<Transition> {
    (0..3).filter_map(|_| board.on_failure(&address(number), at_ms(0))).next()
}

#[test]
fn at_least_half_of_the_nodes_remain() {
    for (nodes, ejected_max) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let mut board = board(nodes);
        let ejected = (1..nodes).filter(|number| fail(&mut board, *number).is_some()).count();
        assert_eq!(ejected, ejected_max, "of {nodes} nodes");
    }
}

#[test]
fn a_spared_peer_is_ejected_as_soon_as_there_is_room() {
    let mut board = board(3);
    assert_eq!(fail(&mut board, 1), Some(Transition::Ejected));
    assert_eq!(fail(&mut board, 2), None);
    assert_eq!(board.allows(&address(2), at_ms(0)), Allow::Yes);
    assert_eq!(board.on_success(&address(1), at_ms(0)), Some(Transition::Readmitted));
    assert_eq!(board.on_failure(&address(2), at_ms(0)), Some(Transition::Ejected));
    assert_eq!(board.allows(&address(2), at_ms(0)), Allow::No);
}

#[test]
fn a_peer_that_left_is_forgotten() {
    let mut board = board(4);
    assert_eq!(fail(&mut board, 3), Some(Transition::Ejected));
    board.retain(&view(3));
    assert!(board.peer(&address(3)).is_none());
    assert_eq!(board.peers().count(), 2);
    assert_eq!(fail(&mut board, 3), None);
    assert_eq!(board.on_success(&address(3), at_ms(0)), None);
    assert_eq!(board.allows(&address(3), at_ms(0)), Allow::Yes);
    board.retain(&view(4));
    assert!(board.peer(&address(3)).is_some_and(Health::is_healthy), "it came back as a new peer");
    assert!(board.peer(&address(0)).is_none(), "a node is not its own peer");
}

#[test]
fn another_process_at_an_address_starts_healthy() {
    let with_id = |id| View::new(node(0), [Node { id, ..node(1) }], 1);
    let mut board = board(2);
    assert_eq!(fail(&mut board, 1), Some(Transition::Ejected));
    board.retain(&with_id(None));
    assert_eq!(board.allows(&address(1), at_ms(0)), Allow::No);
    board.retain(&with_id(Some(NodeId::new(1))));
    assert_eq!(board.allows(&address(1), at_ms(0)), Allow::Yes);
    assert_eq!(fail(&mut board, 1), Some(Transition::Ejected));
    board.retain(&with_id(Some(NodeId::new(1))));
    assert_eq!(board.allows(&address(1), at_ms(0)), Allow::No);
    board.retain(&with_id(Some(NodeId::new(2))));
    assert_eq!(board.allows(&address(1), at_ms(0)), Allow::Yes);
}

#[test]
fn the_half_holds_when_healthy_nodes_leave() {
    let mut board = board(8);
    for number in 1..=4 {
        assert_eq!(board.on_failure(&address(number), at_ms(0)), None);
        assert_eq!(board.on_failure(&address(number), at_ms(0)), None);
        assert_eq!(
            board.on_failure(&address(number), at_ms(u64::from(10 - number) * 1000)),
            Some(Transition::Ejected)
        );
    }
    // 5, 6 and 7 leave: of five nodes two may stay ejected. The probes of 3 and 4 are due first.
    board.retain(&view(5));
    let ejected: Vec<_> =
        board.peers().filter(|(_, health)| !health.is_healthy()).map(|(a, _)| a.clone()).collect();
    assert_eq!(ejected, [address(1), address(2)]);
    assert_eq!(board.on_failure(&address(3), at_ms(0)), None, "there is no room");
}

#[derive(Clone, Debug)]
enum Event {
    Success(u16),
    Failure(u16),
    Ask(u16),
    Wait(u64),
    Resize(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (1_u16..8).prop_map(Event::Success),
        6 => (1_u16..8).prop_map(Event::Failure),
        4 => (1_u16..8).prop_map(Event::Ask),
        3 => (1_u64..3000).prop_map(Event::Wait),
        1 => (1_u16..9).prop_map(Event::Resize),
    ]
}

proptest! {
    #[test]
    fn invariants_hold_in_any_order_of_events(events in vec(event(), 1..300), seed in any::<u64>()) {
        let config = HealthConfig::default();
        let mut now = at_ms(0);
        let mut nodes = 6;
        let mut board = HealthBoard::new(config, seed, &view(nodes));
        // When each peer's outstanding probe was given out.
        let mut probes: Vec<Option<Moment>> = vec![None; 9];
        for event in events {
            match event {
                Event::Success(number) => {
                    let was = board.peer(&address(number)).map(Health::is_healthy);
                    let transition = board.on_success(&address(number), now);
                    prop_assert_eq!(transition.is_some(), was == Some(false));
                    prop_assert_eq!(board.allows(&address(number), now), Allow::Yes);
                    probes[number as usize] = None;
                }
                Event::Failure(number) => {
                    let was = board.peer(&address(number)).cloned();
                    let transition = board.on_failure(&address(number), now);
                    let is = board.peer(&address(number));
                    let fell = was.is_some_and(|was| was.is_healthy()) && is.is_some_and(|is| !is.is_healthy());
                    prop_assert_eq!(transition, fell.then_some(Transition::Ejected));
                    probes[number as usize] = None;
                }
                Event::Ask(number) => {
                    let before = board.peer(&address(number)).map(Health::state);
                    let allow = board.allows(&address(number), now);
                    match before {
                        None | Some(HealthState::Healthy { .. }) => prop_assert_eq!(allow, Allow::Yes),
                        Some(HealthState::Ejected { until, .. } | HealthState::Probing { until, .. }) => {
                            prop_assert_eq!(allow, if now >= until { Allow::Probe } else { Allow::No });
                        }
                    }
                    if allow == Allow::Probe {
                        if let Some(since) = probes[number as usize] {
                            prop_assert!(now.saturating_since(since) >= config.probe_after_max, "two probes at once");
                        }
                        probes[number as usize] = Some(now);
                    }
                }
                Event::Wait(ms) => now = now.saturating_add(Duration::from_millis(ms)),
                Event::Resize(to) => {
                    nodes = to;
                    board.retain(&view(nodes));
                    for (number, probe) in probes.iter_mut().enumerate() {
                        let health = board.peer(&address(number as u16));
                        if health.is_none_or(Health::is_healthy) {
                            *probe = None;
                        }
                    }
                }
            }
            let ejected = board.peers().filter(|(_, health)| !health.is_healthy()).count();
            prop_assert_eq!(board.peers().count() + 1, usize::from(nodes));
            prop_assert!(2 * (usize::from(nodes) - ejected) >= usize::from(nodes), "{} of {} ejected", ejected, nodes);
            for (_, health) in board.peers().filter(|(_, health)| !health.is_healthy()) {
                let wait = until(health).saturating_since(now);
                prop_assert!(wait <= config.probe_after_max, "a probe in {:?}", wait);
            }
        }
    }
}
