//! The ring against golden vectors, a naive model, and what is promised of shares and moves.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    POINTS_MAX, Point, Ring, VIRTUAL_NODES_MAX, build,
    points::{Builder, Points},
};
use crate::cluster::{
    node::{Address, WEIGHT_MAX},
    place::{Place, place, positions},
};

fn address(text: &str) -> Address {
    Address::new(text).unwrap_or_else(|error| panic!("{error}"))
}

fn members(list: &[(&str, u32)]) -> Vec<(Address, u32)> {
    list.iter().map(|(text, weight)| (address(text), *weight)).collect()
}

fn ring(list: &[(&str, u32)], virtual_nodes: u32) -> Ring {
    Ring::new(&members(list), virtual_nodes).expect("there are members")
}

const THREE: [(&str, u32); 3] = [("localhost:10001", 1), ("localhost:10002", 1), ("localhost:10003", 1)];

// The golden vectors were computed by a program of its own in Python, with the package xxhash 4.1.0, which
// binds the reference implementation (xxHash 0.8.4). A change here means that nodes of two versions disagree.

#[test]
fn golden_places() {
    let group_63 = "g".repeat(63);
    let all_bytes: Vec<u8> = (0..1024_u32).map(|i| i as u8).collect();
    let cases: [(&str, &[u8], u64); 12] = [
        ("scores", b"Tom", 0x8ef0_8469_5709_99c6),
        ("scores", b"Jack", 0x6ee4_c1ba_9ace_75d4),
        ("scores", b"Sam", 0xd54e_ea85_9b68_4064),
        ("a", b"\0", 0x2c93_f543_7209_540f),
        ("a", b"k", 0x8e41_0906_f7e8_d62c),
        ("scores", "Zoë".as_bytes(), 0xd98d_d135_0f67_3beb),
        ("orders", b"user:000001", 0x8c27_aece_386a_a56b),
        // 240, 256 and 257 bytes in all: the end of the hash's short forms, and of the copy on the stack.
        (&group_63, &[b'x'; 176], 0xa7ac_fc34_06f2_82ea),
        (&group_63, &[b'x'; 192], 0x0c9c_1da5_408f_5deb),
        (&group_63, &[b'x'; 193], 0xa302_19db_d0b6_1189),
        (&group_63, &[0xff; 1024], 0xcb11_7883_45dc_59e7),
        ("scores", &all_bytes, 0xf70a_f699_af6d_9840),
    ];
    for (group, key, expected) in cases {
        assert_eq!(place(group, key), Place(expected), "{group} {}", key.escape_ascii());
    }
}

#[test]
fn golden_positions() {
    for (text, index, expected) in [
        ("localhost:10001", 0, 0x3661_7543_c787_3955),
        ("localhost:10001", 1, 0x68b2_b9d1_6b72_2309),
        ("localhost:10001", 2047, 0x79d9_77d2_e2eb_c181),
        ("10.0.0.7:10001", 256, 0x42d1_afc0_9195_ca60),
        ("[2001:db8::7]:10001", 65_536, 0xd4b6_5474_3279_8682),
    ] {
        assert_eq!(positions(&address(text), u32::MAX).nth(index), Some(expected), "{text} {index}");
    }
}

#[test]
fn golden_owners() {
    let ring = ring(&THREE, 2048);
    assert_eq!(ring.points(), 6144);
    let cases: [(&str, &[u8], Point, [usize; 3]); 7] = [
        ("scores", b"Tom", Point { node: 2, index: 556, position: 0x8efb_ff5f_90e6_544f }, [2, 0, 1]),
        ("scores", b"Jack", Point { node: 1, index: 1299, position: 0x6ee7_d240_4bd7_8a68 }, [1, 2, 0]),
        ("scores", b"Sam", Point { node: 1, index: 1560, position: 0xd553_7357_603d_ac75 }, [1, 2, 0]),
        ("a", b"\0", Point { node: 1, index: 497, position: 0x2c94_7b6a_d349_be96 }, [1, 0, 2]),
        ("a", b"k", Point { node: 0, index: 1730, position: 0x8e41_1349_4b4e_25d0 }, [0, 2, 1]),
        (
            "scores",
            "Zoë".as_bytes(),
            Point { node: 2, index: 1569, position: 0xd994_34a2_ae8a_d0f5 },
            [2, 0, 1],
        ),
        (
            "orders",
            b"user:000001",
            Point { node: 1, index: 1702, position: 0x8c34_501c_bc41_37e1 },
            [1, 0, 2],
        ),
    ];
    for (group, key, point, order) in cases {
        let at = place(group, key);
        assert_eq!(ring.owner(at), point.node, "{group} {}", key.escape_ascii());
        assert_eq!(ring.point(at), point);
        assert_eq!(ring.successors(at).collect::<Vec<_>>(), order);
        assert_eq!(ring.successor(at), Some(order[1]));
    }
}

#[test]
fn golden_points_and_shares_of_a_weighted_ring() {
    let ring = ring(&[("localhost:10001", 1), ("localhost:10002", 2), ("localhost:10003", 1)], 3);
    let expected: [(u64, usize, u32); 12] = [
        (0x1554_9a82_aaf5_d374, 2, 2),
        (0x1571_3fd5_1213_2501, 1, 5),
        (0x2b86_ca4c_eb24_5c90, 0, 2),
        (0x33f7_0518_05c0_8261, 1, 4),
        (0x3661_7543_c787_3955, 0, 0),
        (0x3911_fc6e_8036_22cb, 2, 0),
        (0x68b2_b9d1_6b72_2309, 0, 1),
        (0x7843_978b_1119_136a, 1, 2),
        (0x94c9_c3d9_903f_f5d1, 2, 1),
        (0xa0b9_a220_bda2_63d9, 1, 0),
        (0xcdd9_1faa_b874_1f5a, 1, 3),
        (0xe396_4ff0_7d46_7c0e, 1, 1),
    ];
    assert_eq!(ring.points(), expected.len());
    for (position, node, index) in expected {
        // A point owns its own position and not the next one.
        assert_eq!(ring.point(Place(position)), Point { node, index, position });
        assert_ne!(ring.point(Place(position + 1)).position, position);
    }
    let around = ring.point(Place(u64::MAX));
    assert_eq!(around.position, expected[0].0, "past the last point the first one follows");
    let arcs = [0x4820_b806_8613_eec1_u64, 0x66ea_49ee_1466_edfc, 0x50f4_fe0b_6585_2343];
    assert_eq!(ring.shares(), arcs.map(|arc| arc as f64 / 2_f64.powi(64)));
}

#[test]
fn a_ring_of_none_does_not_exist() {
    assert_eq!(Ring::new(&[], 2048), None);
    let one = ring(&[("localhost:10001", 1)], 8);
    assert_eq!(one.without(&address("localhost:10001")), None);
    assert_eq!(one.without(&address("localhost:10002")), Some(one.clone()));
}

#[test]
fn a_ring_of_one_point_is_all_its_owner_s() {
    let one = ring(&[("localhost:10001", 1)], 1);
    assert_eq!((one.points(), one.shares()), (1, vec![1.0]));
    for at in [0, 1, 0x3661_7543_c787_3955, u64::MAX] {
        assert_eq!(one.owner(Place(at)), 0);
        assert_eq!(one.successor(Place(at)), None);
        assert_eq!(one.successors(Place(at)).collect::<Vec<_>>(), [0]);
    }
}

#[test]
fn what_is_out_of_range_is_clamped() {
    let odd = ring(&[("a:1", 0), ("b:1", u32::MAX)], 0);
    assert_eq!(odd, ring(&[("a:1", 1), ("b:1", WEIGHT_MAX)], 1));
    assert_eq!(odd.with(&address("b:1"), 0), ring(&[("a:1", 1), ("b:1", 1)], 1));
    assert_eq!(ring(&[("a:1", 1)], u32::MAX).points(), 16_384);
}

#[test]
fn who_comes_when_the_ring_is_full_has_one_point() {
    let list = members(&[("a:1", 2), ("b:1", 3), ("c:1", 1), ("d:1", 2)]);
    assert_eq!(build::counts(80, &list, 10), [20, 30, 10, 20]);
    // The second does not fit, and those after it do.
    assert_eq!(build::counts(50, &list, 10), [20, 30, 1, 1]);
    assert_eq!(build::counts(49, &list, 10), [20, 1, 10, 1]);
    assert_eq!(build::counts(0, &list, 10), [1, 1, 1, 1]);
    // As many as are let in, with the weights that are believed: nothing overflows, and there is an end to it.
    let many: Vec<_> = (0..10_000).map(|port| (address(&format!("a:{}", port + 1)), WEIGHT_MAX)).collect();
    let points: u64 = build::counts(POINTS_MAX, &many, VIRTUAL_NODES_MAX).into_iter().map(u64::from).sum();
    assert!(points <= u64::from(POINTS_MAX) + 10_000);
    assert_eq!(ring(&[("a:1", 1), ("b:1", 100)], 2048).crowded_out().count(), 0);
}

#[test]
fn the_greater_weight_of_an_address_counts() {
    let once = ring(&[("a:1", 3), ("b:1", 1)], 16);
    assert_eq!(ring(&[("a:1", 1), ("b:1", 1), ("a:1", 3), ("a:1", 2)], 16), once);
}

/// Twenty clusters as people name them: hosts, ports, pods, addresses of both kinds.
fn address_of(set: usize, node: usize) -> Address {
    let text = match set % 5 {
        0 => format!("10.{set}.0.{}:10001", node + 1),
        1 => format!("localhost:{}", 10_000 + 1_000 * set + node),
        2 => format!("cache-{node}.cache.prod-{set}.svc.cluster.local:10001"),
        3 => format!("[2001:db8:{set}::{node:x}]:10001"),
        _ => format!("node{node:02}.rack{set}.example.com:8443"),
    };
    address(&text)
}

/// Every number of nodes up to 16, then every fourth to 64; the benchmark prints all of them.
#[test]
fn shares_are_even_and_a_join_takes_its_part() {
    for set in 0..20 {
        let members: Vec<_> = (0..64).map(|node| (address_of(set, node), 1)).collect();
        let mut ring = Ring::new(&members[..2], 2048).expect("there are members");
        for nodes in (3..=16).chain((20..=64).step_by(4)) {
            ring = ring.changed(&members[..nodes]).expect("there are members");
            let shares = ring.shares();
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let largest = shares.iter().fold(0.0_f64, |a, b| a.max(*b)) * nodes as f64;
            assert!(largest <= 1.10, "set {set}: of {nodes} nodes one has {largest:.3} of the mean");
            let (joined, _) = &members[nodes - 1];
            let at = ring.members().iter().position(|(other, _)| other == joined).expect("it joined");
            let moved = shares[at] * nodes as f64;
            assert!((moved - 1.0).abs() <= 0.10, "set {set}: node {nodes} took {moved:.3} of its part");
        }
    }
}

#[test]
fn a_join_moves_its_part_of_the_keys_and_to_itself_only() {
    const KEYS: usize = 100_000;
    for nodes in [3, 10, 30] {
        let list: Vec<_> = (0..nodes).map(|node| (address_of(0, node), 1)).collect();
        let before = Ring::new(&list, 2048).expect("there are members");
        let joined = address_of(0, nodes);
        let after = before.with(&joined, 1);
        let mut moved = 0;
        for i in 0..KEYS {
            let at = place("scores", format!("user:{i:06}").as_bytes());
            let (from, to) = (&before.members()[before.owner(at)].0, &after.members()[after.owner(at)].0);
            if from != to {
                assert_eq!(*to, joined);
                moved += 1;
            }
        }
        let expected = KEYS as f64 / (nodes + 1) as f64;
        assert!((moved as f64 / expected - 1.0).abs() <= 0.10, "{moved} of {expected} moved to node {nodes}");
    }
}

#[test]
fn a_weight_is_a_multiple_of_the_share() {
    let shares = ring(&[("a:1", 1), ("b:1", 2), ("c:1", 5)], 2048).shares();
    for (share, part) in shares.iter().zip([1.0 / 8.0, 2.0 / 8.0, 5.0 / 8.0]) {
        assert!((share / part - 1.0).abs() < 0.1, "{share} of {part}");
    }
}

#[test]
fn sequential_keys_are_spread() {
    const KEYS: usize = 100_000;
    let ring = ring(&THREE, 2048);
    let owners: Vec<usize> =
        (0..KEYS).map(|i| ring.owner(place("scores", format!("user:{i:06}").as_bytes()))).collect();
    let runs: Vec<usize> = owners.chunk_by(|a, b| a == b).map(<[usize]>::len).collect();
    // Independent draws from three have runs of 1.5 on average, and of 11 at most, give or take a few.
    let mean = KEYS as f64 / runs.len() as f64;
    assert!((1.45..1.55).contains(&mean), "runs of {mean} on average");
    let longest = runs.iter().max().expect("there are runs");
    assert!(*longest <= 20, "a run of {longest}");
}

/// The ring's rules, written down as plainly as possible.
struct Model {
    points: Vec<(u64, Address, u32)>,
}

impl Model {
    fn new(members: &BTreeSet<(Address, u32)>, virtual_nodes: u32) -> Self {
        let mut points = Vec::new();
        for (address, weight) in members {
            for (index, position) in (0..).zip(positions(address, virtual_nodes * weight)) {
                points.push((position, address.clone(), index));
            }
        }
        points.sort();
        Self { points }
    }

    fn walk(&self, at: Place) -> impl Iterator<Item = &(u64, Address, u32)> {
        let first = self.points.iter().position(|(position, ..)| *position >= at.0).unwrap_or(0);
        self.points[first..].iter().chain(&self.points[..first])
    }

    fn order(&self, at: Place) -> Vec<Address> {
        let mut order = Vec::new();
        for (_, address, _) in self.walk(at) {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        order
    }
}

/// Members by distinct number, each with a weight.
fn any_members(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(Address, u32)>> {
    proptest::collection::btree_map(0_usize..1000, 1_u32..4, count).prop_map(|map| {
        map.into_iter().map(|(node, weight)| (address(&format!("node-{node}:10001")), weight)).collect()
    })
}

/// Places anywhere, and at the very points of `ring` and beside them.
fn places(ring: &Ring, random: &[u64]) -> Vec<Place> {
    let points = listed(&ring.points).into_iter();
    let beside = points.flat_map(|(at, _)| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
    beside.chain(random.iter().copied()).chain([0, u64::MAX]).map(Place).collect()
}

proptest! {
    #[test]
    fn like_the_model(
        list in any_members(1..12).prop_shuffle(),
        virtual_nodes in 1_u32..12,
        random in vec(any::<u64>(), 20),
    ) {
        let ring = Ring::new(&list, virtual_nodes).expect("there are members");
        let model = Model::new(&list.iter().cloned().collect(), virtual_nodes);
        let name = |node: usize| ring.members()[node].0.clone();
        for at in places(&ring, &random) {
            let order = model.order(at);
            prop_assert_eq!(&name(ring.owner(at)), &order[0]);
            prop_assert_eq!(ring.successor(at).map(name), order.get(1).cloned());
            let successors = ring.successors(at);
            prop_assert_eq!(successors.len(), order.len());
            prop_assert_eq!(successors.map(name).collect::<Vec<_>>(), order);
            let point = ring.point(at);
            let (position, address, index) = model.walk(at).next().expect("there are points");
            prop_assert_eq!((point.position, &name(point.node), point.index), (*position, address, *index));
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter(list in any_members(1..12), shuffled in any::<u64>()) {
        let mut other = list.clone();
        other.rotate_left(shuffled as usize % list.len());
        other.reverse();
        prop_assert_eq!(Ring::new(&list, 16), Ring::new(&other, 16));
    }

    #[test]
    fn only_the_keys_of_the_node_move(
        list in any_members(2..12), which in any::<Index>(), random in vec(any::<u64>(), 200),
    ) {
        let with = Ring::new(&list, 32).expect("there are members");
        let moving = which.get(&list).0.clone();
        let without = with.without(&moving).expect("another member is left");
        for at in places(&with, &random) {
            let before = &with.members()[with.owner(at)].0;
            let after = &without.members()[without.owner(at)].0;
            prop_assert_ne!(after, &moving);
            if *before == moving {
                let heir = with.successor(at).map(|node| &with.members()[node].0);
                prop_assert_eq!(heir, Some(after), "what a node leaves goes to its successor");
            } else {
                prop_assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn a_derived_ring_is_the_same_as_a_new_one(
        before in any_members(1..12), after in any_members(0..12), mixed in any::<bool>(),
    ) {
        let old = Ring::new(&before, 16).expect("there are members");
        // Half of the time most members stay.
        let after = if mixed { after.into_iter().chain(before.iter().skip(1).cloned()).collect() } else { after };
        prop_assert_eq!(old.changed(&after), Ring::new(&after, 16));
        let mut stepwise = Some(old);
        for (address, weight) in &after {
            stepwise = stepwise.map(|ring| ring.with(address, *weight));
        }
        for (address, _) in &before {
            if after.iter().all(|(other, _)| other != address) {
                stepwise = stepwise.and_then(|ring| ring.without(address));
            }
        }
        let last: std::collections::BTreeMap<_, _> = after.into_iter().collect();
        prop_assert_eq!(stepwise, Ring::new(&last.into_iter().collect::<Vec<_>>(), 16));
    }

    /// Real points never coincide in practice; here they do all the time.
    #[test]
    fn a_ring_that_is_full_is_derived_as_a_new_one(
        before in any_members(1..12),
        after in any_members(1..12),
        virtual_nodes in 1..20_u32,
        max in 1..400_u32,
    ) {
        let none = Ring { members: Vec::new(), virtual_nodes, points: Points::none() };
        let full = |members: Vec<_>| build::changed_within(max, &none, members).expect("there are members");
        let derived = build::changed_within(max, &full(before), after.clone()).expect("there are members");
        prop_assert!(derived.points() <= max as usize + derived.members().len());
        let owns: BTreeSet<_> = (0..derived.points()).map(|at| derived.points.owner(at)).collect();
        prop_assert_eq!(owns.len(), derived.members().len(), "each member has a point");
        prop_assert!(derived == full(after));
    }

    #[test]
    fn ties_are_merged_as_if_all_were_sorted(
        mut old in vec((0_u64..12, 0_u32..4), 0..40), mut added in vec((0_u64..12, 4_u32..6), 0..40),
        // The members' new indices in the order of their addresses; 0 to 3 are old, 4 and 5 are added.
        ranks in Just([0_u32, 1, 2, 3, 4, 5]).prop_shuffle(), dropped in 0_usize..5,
    ) {
        let mut old_ranks: Vec<u32> = ranks[..4].to_vec();
        old_ranks.sort_unstable();
        let mut new_index = old_ranks;
        if let Some(index) = new_index.get_mut(dropped) {
            *index = u32::MAX;
        }
        old.sort_unstable();
        for (_, node) in &mut added {
            *node = ranks[*node as usize];
        }
        added.sort_unstable();
        let kept = old.iter().map(|(position, node)| (*position, new_index[*node as usize]));
        let mut expected: Vec<_> = kept.filter(|(_, node)| *node != u32::MAX).chain(added.clone()).collect();
        expected.sort_unstable();
        let builder = Builder::new(expected.len(), 6);
        prop_assert_eq!(listed(&build::merged(&packed(&old), &new_index, &added, builder)), expected);
    }

    /// Positions that crowd where real ones never would: at both ends, in one bucket.
    #[test]
    fn a_lookup_finds_the_first_point_at_or_after_a_place(
        mut points in vec((position(), 0_u32..4), 1..100), random in vec(position(), 50),
    ) {
        points.sort_unstable();
        let packed = packed(&points);
        prop_assert_eq!(&listed(&packed), &points, "nothing is lost by packing");
        let beside = points.iter().flat_map(|(at, _)| [at.wrapping_sub(1), *at, at.wrapping_add(1)]);
        for place in beside.chain(random).chain([0, u64::MAX]) {
            let expected = points.iter().position(|(position, _)| *position >= place).unwrap_or(0);
            let at = packed.first_at(place);
            prop_assert_eq!(at, expected);
            prop_assert_eq!((packed.position(at), packed.owner(at) as u32), points[expected]);
        }
    }
}

fn position() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0_u64..50,
        (0_u64..50).prop_map(|i| u64::MAX - i),
        (0_u64..50).prop_map(|i| (1 << 63) + i)
    ]
}

/// Points of four members.
fn packed(points: &[(u64, u32)]) -> Points {
    let mut builder = Builder::new(points.len(), 4);
    points.iter().for_each(|(position, owner)| builder.push(*position, *owner));
    builder.finish()
}

fn listed(points: &Points) -> Vec<(u64, u32)> {
    let mut list = Vec::with_capacity(points.len());
    points.for_each(|position, owner| list.push((position, owner)));
    list
}
