//! Idle states: where they go, and where they do not.

use avocado_fdt::{DeviceTree, DeviceTreeError, DeviceTreeNode, idle_states};

/// A machine with these processors, each with its `enable-method`.
fn machine(cpus: &[Option<&str>]) -> DeviceTree {
    let mut tree = DeviceTree::default();
    let mut psci = DeviceTreeNode::new("psci");
    psci.set("compatible", *b"arm,psci-1.0\0arm,psci-0.2\0arm,psci\0");
    let mut all = DeviceTreeNode::new("cpus");
    let mut map = DeviceTreeNode::new("cpu-map");
    map.set_cell("phandle", 3);
    all.children.push(map);
    for (number, method) in cpus.iter().enumerate() {
        let mut cpu = DeviceTreeNode::new(format!("cpu@{number:x}"));
        cpu.set_cell("phandle", 0x8000 + u32::try_from(number).unwrap());
        if let Some(method) = method {
            cpu.set_text("enable-method", method);
        }
        all.children.push(cpu);
    }
    tree.root.children = vec![psci, all, DeviceTreeNode::new("chosen")];
    tree
}

fn cpus(tree: &DeviceTree) -> &DeviceTreeNode {
    tree.root.child("cpus").unwrap()
}

#[test]
fn as_the_bindings_say() {
    let mut tree = machine(&[Some("psci"), Some("psci")]);
    let before = tree.clone();
    assert_eq!(idle_states::add(&mut tree), Ok(true));

    let states = cpus(&tree).child("idle-states").unwrap();
    assert_eq!(states.texts("entry-method").collect::<Vec<_>>(), ["psci"]);
    assert_eq!(states.children.len(), 1);
    let sleep = states.child("cpu-sleep-0").unwrap();
    for (name, text) in [
        ("compatible", "arm,idle-state"),
        ("idle-state-name", "cpu-sleep"),
    ] {
        assert_eq!(sleep.texts(name).collect::<Vec<_>>(), [text]);
    }
    for (name, value) in [
        ("arm,psci-suspend-param", 0x0001_0000),
        ("entry-latency-us", 100),
        ("exit-latency-us", 250),
        ("min-residency-us", 1000),
        ("phandle", 0x8002),
    ] {
        assert_eq!(sleep.cell(name), Some(value), "{name}");
    }
    assert_eq!(sleep.property("local-timer-stop"), Some(&[][..]));
    for name in ["cpu@0", "cpu@1"] {
        let cpu = cpus(&tree).child(name).unwrap();
        assert_eq!(cpu.cell("cpu-idle-states"), Some(0x8002));
    }

    // Nothing else has changed.
    let all = tree.root.child_mut("cpus").unwrap();
    all.children.pop();
    for cpu in &mut all.children {
        cpu.properties.retain(|one| one.name != "cpu-idle-states");
    }
    assert_eq!(tree, before);
}

#[test]
fn a_second_time_changes_nothing() {
    let mut tree = machine(&[Some("psci")]);
    assert_eq!(idle_states::add(&mut tree), Ok(true));
    let once = tree.clone();
    assert_eq!(idle_states::add(&mut tree), Ok(false));
    assert_eq!(tree, once);
}

#[test]
fn a_lone_processor_says_how_it_is_started() {
    let mut tree = machine(&[None]);
    assert_eq!(idle_states::add(&mut tree), Ok(true));
    let cpu = cpus(&tree).child("cpu@0").unwrap();
    assert_eq!(cpu.texts("enable-method").collect::<Vec<_>>(), ["psci"]);
}

#[test]
fn other_processors_are_left_alone() {
    let mut tree = machine(&[Some("psci"), Some("spin-table")]);
    assert_eq!(idle_states::add(&mut tree), Ok(true));
    let has_states = |name| {
        cpus(&tree)
            .child(name)
            .unwrap()
            .property("cpu-idle-states")
            .is_some()
    };
    assert!(has_states("cpu@0"));
    assert!(!has_states("cpu@1"));
    assert!(
        cpus(&tree)
            .child("cpu-map")
            .unwrap()
            .property("cpu-idle-states")
            .is_none()
    );
}

#[test]
fn machines_that_it_is_not_for() {
    let mut headless = machine(&[Some("psci")]);
    headless.root.children.retain(|node| node.name != "cpus");
    let mut without_firmware = machine(&[Some("psci")]);
    without_firmware
        .root
        .children
        .retain(|node| node.name != "psci");
    let mut old_firmware = machine(&[Some("psci")]);
    old_firmware
        .root
        .child_mut("psci")
        .unwrap()
        .set_text("compatible", "arm,psci");
    let mut full = machine(&[Some("psci")]);
    full.root.set_cell("phandle", u32::MAX - 1);
    for (mut tree, reason) in [
        (DeviceTree::default(), "it has no /cpus"),
        (headless, "it has no /cpus"),
        (without_firmware, "no PSCI firmware"),
        (old_firmware, "no PSCI firmware"),
        (machine(&[]), "PSCI starts none of its processors"),
        (
            machine(&[Some("spin-table")]),
            "PSCI starts none of its processors",
        ),
        (full, "no phandle is left"),
    ] {
        let before = tree.clone();
        let error = idle_states::add(&mut tree).unwrap_err();
        assert!(
            matches!(error, DeviceTreeError::NoIdleStates { .. }),
            "{error}"
        );
        assert!(error.to_string().ends_with(reason), "{error}: {reason}");
        assert_eq!(tree, before);
    }
}

#[test]
fn firmware_in_other_places() {
    let mut tree = machine(&[Some("psci")]);
    let mut psci = tree.root.children.remove(0);
    psci.set_text("compatible", "arm,psci");
    psci.set_cell("cpu_suspend", 0x8400_0001);
    let mut firmware = DeviceTreeNode::new("firmware");
    firmware.children.push(psci);
    tree.root.children.push(firmware);
    assert_eq!(idle_states::add(&mut tree), Ok(true));
}
