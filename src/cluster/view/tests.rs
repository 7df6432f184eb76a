//! Views: who is in them, who owns what, and that a derived view is like a new one.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::{Epoch, View, ViewCell};
use crate::cluster::{Address, Node, NodeId, place};

fn node(port: u16) -> Node {
    Node::new(Address::new(&format!("localhost:{port}")).expect("a right address"))
}

fn ports(view: &View) -> Vec<u16> {
    view.nodes().iter().map(|node| node.address.port()).collect()
}

#[test]
fn a_view_is_never_empty_and_contains_its_own_node() {
    let view = View::new(node(10_001), [], 2048);
    assert_eq!((view.nodes(), view.me()), (&[node(10_001)][..], &node(10_001)));
    let at = place("scores", b"Tom");
    assert!(view.is_mine(at));
    assert_eq!((view.owner(at), view.successor(at)), (&node(10_001), None));
    assert_eq!(view.route(at).count(), 1);
    assert_eq!(view.shares(), [1.0]);
    let view = view.change([node(10_002)]);
    assert_eq!((ports(&view), view.me()), (vec![10_001, 10_002], &node(10_001)));
    assert_eq!(view.change([]).nodes(), [node(10_001)]);
}

#[test]
fn i_know_best_who_i_am() {
    let me = Node { id: Some(NodeId::new(1)), weight: 2, ..node(10_001) };
    let other_me = Node { id: Some(NodeId::new(9)), weight: 50, protocol: 7, ..node(10_001) };
    let view = View::new(me.clone(), [other_me, node(10_002)], 16);
    assert_eq!((view.me(), view.nodes().len()), (&me, 2));
    assert_eq!(view.node(&me.address), Some(&me));
    assert_eq!(view.node(&node(10_003).address), None);
    assert_eq!(view.peers().collect::<Vec<_>>(), [&node(10_002)]);
}

#[test]
fn of_one_address_the_node_that_announced_itself_wins() {
    let listed = Node { weight: 100, protocol: 9, ..node(10_002) };
    let announced = Node { id: Some(NodeId::new(5)), ..node(10_002) };
    for others in [[listed.clone(), announced.clone()], [announced.clone(), listed]] {
        assert_eq!(View::new(node(10_001), others, 16).nodes()[1], announced);
    }
}

// Computed by a program of its own in Python, with the package xxhash 4.1.0 (xxHash 0.8.4).
#[test]
fn golden_epochs() {
    let view = View::new(node(10_002), [node(10_003), node(10_001)], 2048);
    assert_eq!(view.epoch(), Epoch(0x47d6_abc7_b4fe_a27e));
    assert_eq!(view.epoch().to_string(), "47d6abc7b4fea27e");
    assert_eq!("47d6abc7b4fea27e".parse(), Ok(view.epoch()));
    assert!("47d6abc7b4fea27".parse::<Epoch>().is_err());
    let weighted = View::new(Node { weight: 2, ..node(10_002) }, [node(10_003), node(10_001)], 3);
    assert_eq!(weighted.epoch(), Epoch(0x2b30_84c4_e6a7_3537));
}

#[test]
fn an_epoch_tells_who_owns_what_and_nothing_else() {
    let view = View::new(node(10_001), [node(10_002), node(10_003)], 16);
    let elsewhere = View::new(
        Node { id: Some(NodeId::new(3)), ..node(10_003) },
        [Node { api: Some("localhost:8000".to_owned()), protocol: 2, ..node(10_002) }, node(10_001)],
        16,
    );
    assert_eq!(view.epoch(), elsewhere.epoch());
    for other in [
        View::new(node(10_001), [node(10_002), node(10_003)], 17),
        View::new(node(10_001), [node(10_002), Node { weight: 2, ..node(10_003) }], 16),
        View::new(node(10_001), [node(10_002), node(10_004)], 16),
        View::new(node(10_001), [node(10_002)], 16),
    ] {
        assert_ne!(view.epoch(), other.epoch());
    }
}

#[test]
fn all_nodes_agree_on_owners_and_each_key_is_one_node_s() {
    let nodes = [node(10_001), node(10_002), node(10_003)];
    let views: Vec<View> = nodes.iter().map(|me| View::new(me.clone(), nodes.clone(), 64)).collect();
    for i in 0..1000 {
        let at = place("scores", format!("user:{i}").as_bytes());
        assert_eq!(views.iter().filter(|view| view.is_mine(at)).count(), 1);
        for view in &views {
            assert_eq!(view.owner(at), views[0].owner(at));
            assert_eq!(view.is_mine(at), view.owner(at) == view.me());
            let route: Vec<&Node> = view.route(at).collect();
            assert_eq!((route.len(), route[0], Some(route[1])), (3, view.owner(at), view.successor(at)));
        }
    }
}

#[test]
fn a_change_that_moves_no_key_shares_the_ring() {
    let view = View::new(node(10_001), [node(10_002)], 16);
    let restarted = view.change([Node { id: Some(NodeId::new(8)), ..node(10_002) }]);
    assert!(Arc::ptr_eq(&view.ring, &restarted.ring));
    assert_eq!(restarted.nodes()[1].id, Some(NodeId::new(8)));
}

#[test]
fn a_cell_keeps_the_last_view_with_other_owners() {
    let cell = ViewCell::new(View::new(node(10_001), [], 16));
    assert!(cell.previous().is_none());
    let alone = cell.load_full();
    cell.store(alone.change([node(10_002)]));
    assert_eq!(ports(&cell.load()), [10_001, 10_002]);
    assert_eq!(cell.previous(), Some(Arc::clone(&alone)));
    // The peer restarted under another id: no key moved, the view before tells as much as ever.
    cell.store(cell.load().change([Node { id: Some(NodeId::new(8)), ..node(10_002) }]));
    assert_eq!(cell.load().nodes()[1].id, Some(NodeId::new(8)));
    assert_eq!(cell.previous(), Some(alone));
    cell.store(cell.load().change([node(10_003)]));
    assert_eq!(cell.previous().map(|view| ports(&view)), Some(vec![10_001, 10_002]));
}

fn any_node() -> impl Strategy<Value = Node> {
    let id = prop_oneof![Just(None), (0_u64..3).prop_map(|id| Some(NodeId::new(id)))];
    let api = prop_oneof![Just(None), Just(Some("a".to_owned())), Just(Some("b".to_owned()))];
    (1_u16..12, id, 0_u32..4, api, 1_u32..3).prop_map(|(port, id, weight, api, protocol)| Node {
        id,
        weight,
        api,
        protocol,
        ..node(port)
    })
}

proptest! {
    #[test]
    fn a_derived_view_is_the_same_as_a_new_one(
        me in any_node(), before in vec(any_node(), 0..12), after in vec(any_node(), 0..12),
        keep in any::<bool>(), virtual_nodes in 1_u32..20,
    ) {
        // Half of the time the change is a small one.
        let after = if keep { before.iter().skip(2).cloned().chain(after.into_iter().take(2)).collect() } else { after };
        let derived = View::new(me.clone(), before, virtual_nodes).change(after.clone());
        let new = View::new(me.clone(), after.clone(), virtual_nodes);
        prop_assert_eq!(&derived, &new);
        prop_assert_eq!(&new.me().address, &me.address);
        let reversed = View::new(me, after.into_iter().rev(), virtual_nodes);
        prop_assert_eq!(reversed, new, "the order of arrival does not matter");
    }

    #[test]
    fn nodes_are_the_ring_s_members(me in any_node(), others in vec(any_node(), 0..12)) {
        let view = View::new(me, others, 4);
        let members: Vec<_> = view.nodes().iter().map(|node| (node.address.clone(), node.weight)).collect();
        prop_assert_eq!(view.ring().members(), members);
        for node in view.nodes() {
            prop_assert_eq!(view.node(&node.address), Some(node));
        }
        prop_assert_eq!(view.peers().count() + 1, view.nodes().len());
    }
}
