//! PSCI idle states for an arm64 machine that describes none, as the kernel's bindings
//! `arm/psci.yaml` and `cpu/idle-states.yaml` say.

use crate::error::DeviceTreeError;
use crate::tree::{DeviceTree, DeviceTreeNode};

/// Name of the node below `/cpus`.
const STATES: &str = "idle-states";
/// Property of a processor with the states that it can enter.
const OF_CPU: &str = "cpu-idle-states";
/// What the firmware is told: power down (bit 16). QEMU refuses any bit above this one and does no
/// more than wait for an interrupt. Linux expected more, so it counts these sleeps as rejected; it
/// has slept all the same.
const SUSPEND: u32 = 0x0001_0000;

/// Gives every processor that PSCI starts the state `cpu-sleep`. Says whether anything changed:
/// a tree that has idle states already is left as it is.
///
/// # Errors
/// [`DeviceTreeError::NoIdleStates`]: the machine has no `/cpus`, no PSCI firmware, or no processor for it.
/// The tree is then as it was.
pub fn add(tree: &mut DeviceTree) -> Result<bool, DeviceTreeError> {
    let no = |why| DeviceTreeError::NoIdleStates { why };
    let has_psci = has_psci(&tree.root);
    let phandle = highest_phandle(&tree.root).checked_add(1);
    let cpus = tree.root.child_mut("cpus").ok_or(no("it has no /cpus"))?;
    let described = cpus
        .children
        .iter()
        .any(|cpu| cpu.property(OF_CPU).is_some());
    if described || cpus.child(STATES).is_some() {
        return Ok(false);
    }
    if !has_psci {
        return Err(no("the machine has no PSCI firmware"));
    }
    // The highest number of all stands for "none".
    let phandle = match phandle {
        Some(phandle) if phandle != u32::MAX => phandle,
        _ => return Err(no("no phandle is left")),
    };
    let mut added = false;
    for cpu in cpus.children.iter_mut().filter(|node| is_cpu(node)) {
        // A machine with one processor has nothing to start, so QEMU does not say how to. Linux
        // takes idle states only from a processor that says so, and the binding demands it.
        if cpu.property("enable-method").is_none() {
            cpu.set_text("enable-method", "psci");
        }
        cpu.set_cell(OF_CPU, phandle);
        added = true;
    }
    if !added {
        return Err(no("PSCI starts none of its processors"));
    }
    cpus.children.push(states(phandle));
    Ok(true)
}

fn states(phandle: u32) -> DeviceTreeNode {
    let mut sleep = DeviceTreeNode::new("cpu-sleep-0");
    sleep.set_text("compatible", "arm,idle-state");
    sleep.set_text("idle-state-name", "cpu-sleep");
    sleep.set_cell("arm,psci-suspend-param", SUSPEND);
    // Shorter times were measured to cost more than they save.
    sleep.set_cell("entry-latency-us", 100);
    sleep.set_cell("exit-latency-us", 250);
    sleep.set_cell("min-residency-us", 1000);
    sleep.set("local-timer-stop", []);
    sleep.set_cell("phandle", phandle);
    let mut states = DeviceTreeNode::new(STATES);
    states.set_text("entry-method", "psci");
    states.children.push(sleep);
    states
}

/// A processor that PSCI starts, or that runs from the start.
fn is_cpu(node: &DeviceTreeNode) -> bool {
    let method = node.property("enable-method");
    node.name.starts_with("cpu@") && method.is_none_or(|method| method == b"psci\0")
}

/// PSCI with a function to suspend a processor: version 0.2, or with that function's number.
fn has_psci(root: &DeviceTreeNode) -> bool {
    let firmware = root.child("firmware");
    let places = firmware.into_iter().chain([root]);
    places.flat_map(|place| &place.children).any(|node| {
        let mut compatible = node.texts("compatible");
        compatible.any(|name| match name {
            "arm,psci" => node.property("cpu_suspend").is_some(),
            _ => name.starts_with("arm,psci-"),
        })
    })
}

fn highest_phandle(node: &DeviceTreeNode) -> u32 {
    let own = ["phandle", "linux,phandle"].map(|name| node.cell(name).unwrap_or(0));
    let below = node.children.iter().map(highest_phandle);
    below.chain(own).max().unwrap_or(0)
}
