//! A device tree: what is read is written and read again as the same, and idle states come in
//! whole or not at all.
#![no_main]

use avocado_fdt::{DeviceTree, idle_states};
use avocado_fuzz::told;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let tree = match DeviceTree::parse(bytes) {
        Ok(tree) => tree,
        Err(error) => return drop(told(&error)),
    };
    let written = tree.to_bytes().expect("what we read, we write");
    assert_eq!(
        DeviceTree::parse(&written).expect("what we write, we read"),
        tree
    );

    let mut changed = tree.clone();
    match idle_states::add(&mut changed) {
        Ok(true) => {
            let written = changed.to_bytes().expect("a larger tree");
            let mut again = DeviceTree::parse(&written).expect("what we write, we read");
            assert_eq!(again, changed);
            assert_eq!(idle_states::add(&mut again), Ok(false), "once is enough");
        }
        Ok(false) => assert_eq!(changed, tree),
        Err(error) => {
            told(&error);
            assert_eq!(changed, tree, "a failure changes nothing");
        }
    }
});
