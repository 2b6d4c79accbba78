//! What is written is read as the same, and no input is too strange to be refused.

use avocado_fdt::{
    DeviceTree, DeviceTreeError, DeviceTreeNode, DeviceTreeProperty, MAX_DEPTH, MemoryReservation,
    idle_states,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// What QEMU 10.0.2 says about `virt` with one processor, without its padding.
const VIRT: &[u8] = include_bytes!("../../../fuzz/seeds/device_tree/virt.dtb");
/// Version 16, with reservations and padding.
const SMALL: &[u8] = include_bytes!("../../../fuzz/seeds/device_tree/small-16.dtb");

fn property() -> impl Strategy<Value = DeviceTreeProperty> {
    let name = prop_oneof!["[a-z#][a-z0-9,#-]{0,20}", "[^\0]{1,60}"];
    (name, vec(any::<u8>(), 0..20)).prop_map(|(name, value)| DeviceTreeProperty { name, value })
}

fn leaf() -> impl Strategy<Value = DeviceTreeNode> {
    let name = prop_oneof!["[a-z][a-z-]{0,10}(@[0-9a-f]{1,8})?", "[^\0/]{1,60}"];
    (name, vec(property(), 0..6)).prop_map(|(name, properties)| DeviceTreeNode {
        name,
        properties,
        children: Vec::new(),
    })
}

fn node() -> impl Strategy<Value = DeviceTreeNode> {
    leaf().prop_recursive(6, 40, 5, |inner| {
        (leaf(), vec(inner, 0..5)).prop_map(|(node, children)| DeviceTreeNode { children, ..node })
    })
}

fn tree() -> impl Strategy<Value = DeviceTree> {
    let reservation = (any::<u64>(), 1..=u64::MAX);
    let reservation = reservation.prop_map(|(address, size)| MemoryReservation { address, size });
    (any::<u32>(), vec(reservation, 0..4), node()).prop_map(|(boot_cpu, reservations, root)| {
        DeviceTree {
            boot_cpu,
            reservations,
            root: DeviceTreeNode {
                name: String::new(),
                ..root
            },
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(tree in tree()) {
        let bytes = tree.to_bytes().unwrap();
        prop_assert_eq!(DeviceTree::parse(&bytes).unwrap(), tree.clone());
        // And nothing behind it matters.
        prop_assert_eq!(DeviceTree::parse(&[&bytes[..], b"more"].concat()).unwrap(), tree);
    }

    #[test]
    fn damage_is_refused_or_read(
        small in any::<bool>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = if small { SMALL } else { VIRT }.to_vec();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut tree) = DeviceTree::parse(&bytes) {
            let again = tree.to_bytes().unwrap();
            prop_assert_eq!(DeviceTree::parse(&again).unwrap(), tree.clone());
            let _ = idle_states::add(&mut tree);
        }
    }
}

#[test]
fn a_real_tree_keeps_its_size() {
    let tree = DeviceTree::parse(VIRT).unwrap();
    assert_eq!(tree.to_bytes().unwrap().len(), VIRT.len());
    assert_eq!(
        tree.root.texts("compatible").next(),
        Some("linux,dummy-virt")
    );
}

#[test]
fn every_part_of_a_small_tree() {
    let tree = DeviceTree::parse(SMALL).unwrap();
    assert_eq!(tree.boot_cpu, 1);
    let reservation = |address, size| MemoryReservation { address, size };
    assert_eq!(
        tree.reservations,
        [reservation(0x4800_0000, 0x1000), reservation(0, 0x10)]
    );
    let cpus = tree.root.child("cpus").unwrap();
    assert_eq!(cpus.child("cpu@0").unwrap().cell("phandle"), Some(7));
    let psci = tree.root.child("firmware").unwrap().child("psci").unwrap();
    assert_eq!(psci.property("odd"), Some(&[1, 2, 3][..]));
}

/// A tree with this structure, without a name in its strings but `a`.
fn with(structure: &[u32]) -> Vec<u8> {
    let size = 56 + structure.len() * 4;
    let header = [0xd00d_feed, size + 4, 56, size, 40, 17, 16, 0, 2, size - 56];
    let header = header.map(|field| u32::try_from(field).unwrap());
    let cells = header.iter().chain(&[0; 4]).chain(structure);
    let mut bytes: Vec<u8> = cells.flat_map(|cell| cell.to_be_bytes()).collect();
    bytes.extend(b"a\0\0\0");
    bytes
}

#[test]
fn the_structure_makes_sense() {
    const BEGIN: u32 = 1;
    const END_NODE: u32 = 2;
    const PROPERTY: u32 = 3;
    const NOP: u32 = 4;
    const END: u32 = 9;
    let b = u32::from_be_bytes(*b"b\0\0\0");
    let good: [&[u32]; 4] = [
        &[BEGIN, 0, END_NODE, END],
        &[NOP, BEGIN, 0, NOP, PROPERTY, 0, 0, NOP, END_NODE, NOP, END],
        &[
            BEGIN, 0, PROPERTY, 3, 0, 0, BEGIN, b, END_NODE, END_NODE, END,
        ],
        &[BEGIN, 0, END_NODE, END, 77],
    ];
    for structure in good {
        let read = DeviceTree::parse(&with(structure));
        assert!(read.is_ok(), "{structure:?}: {read:?}");
    }
    let bad: [(&[u32], &str); 15] = [
        (&[], "the structure ends here"),
        (&[END], "no node at all"),
        (&[NOP, END], "no node at all"),
        (&[END_NODE, END], "an end without a node"),
        (&[BEGIN, 0, END], "an end within a node"),
        (&[BEGIN, 0, END_NODE], "the structure ends here"),
        (&[BEGIN, 0, END_NODE, BEGIN, 0], "a second root"),
        (&[BEGIN, b, END_NODE, END], "not a name for this node"),
        (&[BEGIN, 0, BEGIN, 0, END_NODE], "not a name for this node"),
        (&[PROPERTY, 0, 0, END], "a property outside of a node"),
        (
            &[BEGIN, 0, BEGIN, b, END_NODE, PROPERTY, 0, 0, END_NODE, END],
            "a property after a node",
        ),
        (
            &[BEGIN, 0, PROPERTY, u32::MAX, 0, END_NODE, END],
            "the structure ends here",
        ),
        (
            &[BEGIN, 0, PROPERTY, 0, 2, END_NODE, END],
            "a property without a name",
        ),
        (
            &[BEGIN, 0, PROPERTY, 0, 1, END_NODE, END],
            "not a name for a property",
        ),
        (&[BEGIN, 0, 5, END_NODE, END], "an unknown token"),
    ];
    for (structure, problem) in bad {
        let error = DeviceTree::parse(&with(structure)).unwrap_err();
        assert!(
            error.to_string().ends_with(problem),
            "{structure:?}: {error}"
        );
    }
}

#[test]
fn the_header_makes_sense() {
    let mut good = with(&[1, 0, 2, 9]);
    let field = |bytes: &mut [u8], index: usize, value: u32| {
        bytes[index * 4..][..4].copy_from_slice(&value.to_be_bytes());
    };
    let size = u32::try_from(good.len()).unwrap();
    for (index, value, problem) in [
        (0, 0xd00d_feef, "not a flattened device tree"),
        (1, size + 1, "end is outside"),
        (1, 3 << 20, "more than 2 MiB"),
        (1, 60, "structure is outside"),
        (2, size + 4, "structure is outside"),
        (2, 58, "structure is outside"),
        (3, size, "strings is outside"),
        (3, u32::MAX, "strings is outside"),
        (4, size + 8, "reservations is outside"),
        (4, 44, "reservations is outside"),
        (5, 15, "version 15"),
        (6, 18, "version 18"),
        (8, 100, "strings is outside"),
        (9, u32::MAX, "structure is outside"),
    ] {
        let mut bytes = good.clone();
        field(&mut bytes, index, value);
        let error = DeviceTree::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(problem), "{index}: {value}: {error}");
    }
    for length in 0..good.len() {
        assert!(DeviceTree::parse(&good[..length]).is_err(), "{length}");
    }
    // Without an entry of zeros the reservations have no end.
    good[40..].fill(1);
    let error = DeviceTree::parse(&good).unwrap_err().to_string();
    assert!(
        error.ends_with("the list of reserved memory has no end"),
        "{error}"
    );
}

#[test]
fn depth_has_a_bound() {
    let nested = |depth: usize| {
        let innermost = DeviceTreeNode::new(if depth == 1 { "" } else { "n" });
        (1..depth)
            .rev()
            .fold(innermost, |inner, level| DeviceTreeNode {
                name: if level == 1 { "" } else { "n" }.to_owned(),
                properties: Vec::new(),
                children: vec![inner],
            })
    };
    let tree = |depth| DeviceTree {
        root: nested(depth),
        ..DeviceTree::default()
    };
    let deepest = tree(MAX_DEPTH);
    assert_eq!(DeviceTree::parse(&deepest.to_bytes().unwrap()), Ok(deepest));
    let too_deep = Err(DeviceTreeError::TooMuch {
        what: "nodes nested deeper than 64",
    });
    assert_eq!(tree(MAX_DEPTH + 1).to_bytes(), too_deep);
    let begin = [1, u32::from_be_bytes(*b"n\0\0\0")].repeat(MAX_DEPTH);
    let bytes = with(&[&[1, 0], &begin[..]].concat());
    assert_eq!(DeviceTree::parse(&bytes).map(|_| Vec::new()), too_deep);
}

#[test]
fn what_no_file_can_hold_is_refused() {
    let long = "x".repeat(256);
    for name in ["", "a/b", "a\0b", &long] {
        let mut tree = DeviceTree::default();
        tree.root.children.push(DeviceTreeNode::new(name));
        let error = tree.to_bytes().unwrap_err();
        assert_eq!(error, DeviceTreeError::Name { name: name.into() });
    }
    for name in ["", "a\0b", &long] {
        let mut tree = DeviceTree::default();
        tree.root.set(name, []);
        let error = tree.to_bytes().unwrap_err();
        assert_eq!(error, DeviceTreeError::Name { name: name.into() });
    }
    let mut tree = DeviceTree::default();
    tree.root.name = "root".into();
    assert!(tree.to_bytes().is_err());

    let mut tree = DeviceTree::default();
    tree.root.set("large", vec![0; avocado_fdt::MAX_SIZE]);
    assert!(matches!(
        tree.to_bytes(),
        Err(DeviceTreeError::TooMuch { .. })
    ));

    let mut tree = DeviceTree::default();
    tree.reservations.push(MemoryReservation {
        address: 0,
        size: 0,
    });
    assert_eq!(tree.to_bytes(), Err(DeviceTreeError::EmptyReservation));
}
