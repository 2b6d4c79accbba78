//! Device trees of real machines: read and written as dtc understands them, and idle states that a
//! real kernel takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_fdt::{DeviceTree, idle_states};
use avocado_qemu::device_tree::{IdleStatesChoice, prepare};
use avocado_qemu::{Accelerator, Architecture, MachineSockets, MachineSpec};
use avocado_test_support::skip;
use avocado_testbed::arm64;
use avocado_testbed::tools::{TestNeed, ToolCall, ToolOutput, find, skip_without};

/// QEMU's device tree of a machine.
fn dump(program: &str, machine: &str, arguments: &[&str], to: &Path) -> ToolOutput {
    ToolCall::new(program)
        .arg("-machine")
        .arg(format!("{machine},dumpdtb={}", to.display()))
        .args(arguments)
        .args(["-nodefaults", "-display", "none"])
        .run()
        .unwrap()
}

/// What dtc reads in a device tree, and what it warns of.
fn dtc(tree: &Path) -> (String, Vec<String>) {
    let output = ToolCall::new("dtc")
        .args(["-I", "dtb", "-O", "dts"])
        .arg(tree);
    let output = output.ok().unwrap();
    // Where a warning is about is in it as a path in the tree; the file's name comes first.
    let warning = |line: &str| line.split_once(": ").map(|(_, rest)| rest.to_owned());
    let warnings = output.stderr.lines().filter_map(warning).collect();
    (output.stdout, warnings)
}

#[test]
fn trees_of_many_machines() {
    let name = "trees_of_many_machines";
    if skip_without(
        name,
        &[TestNeed::Tool("qemu-system-aarch64"), TestNeed::Tool("dtc")],
    ) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (original, ours) = (place.path().join("qemu.dtb"), place.path().join("ours.dtb"));
    let arm64 = "qemu-system-aarch64";
    let max = "-cpu max";
    let mut read = 0;
    for (program, machine, arguments) in [
        (arm64, "virt", format!("{max} -smp 1 -m 128")),
        (arm64, "virt", format!("{max} -smp 2 -m 4096")),
        (arm64, "virt", format!("{max} -smp 8 -m 512")),
        (arm64, "virt,gic-version=2", format!("{max} -smp 8 -m 1G")),
        (arm64, "virt,gic-version=3", format!("{max} -smp 16 -m 1G")),
        (
            arm64,
            "virt,virtualization=on",
            format!("{max} -smp 4 -m 8G"),
        ),
        (
            arm64,
            "virt,mte=on,iommu=smmuv3",
            format!("{max} -smp 3,sockets=3"),
        ),
        (
            arm64,
            "virt-8.2",
            "-cpu cortex-a72 -smp 4,clusters=2".into(),
        ),
        (arm64, "virt,secure=on", format!("{max} -smp 2")),
        (arm64, "sbsa-ref", "-smp 4 -m 1G".into()),
        (arm64, "xlnx-versal-virt", "-smp 4 -m 1G".into()),
        ("qemu-system-arm", "virt", "-cpu cortex-a15 -smp 2".into()),
        ("qemu-system-riscv64", "virt", "-smp 4".into()),
        ("qemu-system-riscv64", "sifive_u", "-smp 5".into()),
        ("qemu-system-ppc", "ppce500", String::new()),
    ] {
        let case = format!("{program} -machine {machine} {arguments}");
        if find(program).is_none() {
            continue;
        }
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let output = dump(program, machine, &arguments, &original);
        assert!(output.status.success(), "{case}: {output}");
        let bytes = fs::read(&original).unwrap();
        let tree = DeviceTree::parse(&bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
        let written = tree.to_bytes().unwrap();
        assert_eq!(DeviceTree::parse(&written), Ok(tree.clone()), "{case}");
        fs::write(&ours, &written).unwrap();
        assert!(
            dtc(&original) == dtc(&ours),
            "{case}: dtc sees a difference"
        );
        read += 1;

        let mut patched = tree.clone();
        let added = idle_states::add(&mut patched);
        if program.contains("system-a")
            && machine.starts_with("virt")
            && !machine.contains("secure=on")
        {
            assert_eq!(added, Ok(true), "{case}");
            fs::write(&ours, patched.to_bytes().unwrap()).unwrap();
            only_idle_states_are_new(&dtc(&original), &dtc(&ours), &case);
        } else {
            // Other firmware, other architectures.
            assert!(added.is_err(), "{case}: {added:?}");
            assert_eq!(patched, tree, "{case}");
        }
    }
    assert!(read >= 12, "{read} machines");
}

fn only_idle_states_are_new(
    (before, old_warnings): &(String, Vec<String>),
    (after, new_warnings): &(String, Vec<String>),
    case: &str,
) {
    assert_eq!(old_warnings, new_warnings, "{case}");
    let mut before = before.lines().peekable();
    let new: Vec<_> = after
        .lines()
        .filter(|line| before.next_if_eq(line).is_none())
        .map(str::trim)
        .collect();
    assert_eq!(before.next(), None, "{case}: something is gone");
    let phandle = new.iter().find_map(|line| line.strip_prefix("phandle = "));
    let phandle = phandle.unwrap_or_else(|| panic!("{case}: no phandle in {new:?}"));
    let of_cpu = format!("cpu-idle-states = {phandle}");
    let (of_cpus, states): (Vec<_>, Vec<_>) = new.into_iter().partition(|line| *line == of_cpu);
    let cpus = after.lines().filter(|line| line.trim().starts_with("cpu@"));
    assert_eq!(of_cpus.len(), cpus.count(), "{case}");
    let lone = (of_cpus.len() == 1).then_some("enable-method = \"psci\";");
    let phandle = format!("phandle = {phandle}");
    let expected = [
        "idle-states {",
        "entry-method = \"psci\";",
        "cpu-sleep-0 {",
        "compatible = \"arm,idle-state\";",
        "idle-state-name = \"cpu-sleep\";",
        "arm,psci-suspend-param = <0x10000>;",
        "entry-latency-us = <0x64>;",
        "exit-latency-us = <0xfa>;",
        "min-residency-us = <0x3e8>;",
        "local-timer-stop;",
        &phandle,
        "};",
        "};",
    ];
    let expected: Vec<_> = lone.into_iter().chain(expected).collect();
    let mut states: Vec<_> = states.into_iter().filter(|line| !line.is_empty()).collect();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    states.sort_unstable();
    assert_eq!(states, sorted, "{case}");
}

fn machine(binary: PathBuf, cpus: u32) -> MachineSpec {
    let unused = PathBuf::from("/nonexistent");
    MachineSpec {
        binary,
        architecture: Architecture::Aarch64,
        accelerator: Accelerator::Tcg,
        cpus,
        memory_mib: 512,
        kernel: None,
        initrd: None,
        cmdline: String::new(),
        drives: Vec::new(),
        workspace: None,
        sockets: MachineSockets {
            supervisor: unused.clone(),
            public: unused.clone(),
            agent: unused.clone(),
            control: unused.clone(),
        },
        serial_log: unused.clone(),
        error_log: unused.clone(),
        pid_file: unused,
        tpm: None,
        panic_device: false,
        gives_back: false,
        device_tree: None,
    }
}

#[test]
fn a_guest_sleeps_deeper() {
    let name = "a_guest_sleeps_deeper";
    let needs = ["qemu-system-aarch64", "apt-get", "ar", "cpio"].map(TestNeed::Tool);
    if skip_without(name, &needs) {
        return;
    }
    let parts = match arm64::parts() {
        Ok(parts) => parts,
        Err(error) => return skip(name, format!("no kernel for arm64: {error}")),
    };
    let place = tempfile::tempdir().unwrap();
    let programs = ["sh", "[", "mkdir", "mount", "cat", "sleep", "poweroff"];
    let init = include_str!("device_tree/init");
    let initramfs = parts.initramfs(place.path(), init, &programs).unwrap();
    let qemu = find("qemu-system-aarch64").unwrap();
    let boot = |cpus: u32, tree: Option<&Path>| {
        let call = ToolCall::new(&qemu)
            .args([
                "-machine",
                "virt",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
            ])
            .args([
                "-smp",
                &cpus.to_string(),
                "-m",
                "512",
                "-nographic",
                "-no-reboot",
            ])
            .args(["-append", "console=ttyAMA0 panic=-1"])
            .arg("-kernel")
            .arg(&parts.kernel)
            .arg("-initrd")
            .arg(&initramfs);
        let call = match tree {
            Some(tree) => call.arg("-dtb").arg(tree),
            None => call,
        };
        let output = call.limit(Duration::from_secs(300)).ok().unwrap();
        // The kernel's messages come in between.
        let said = output.stdout.replace('\r', "");
        assert!(said.contains("the guest is done"), "{output}");
        assert!(said.contains("reboot: Power down"), "{output}");
        said
    };

    let without = boot(2, None);
    assert!(!without.contains("cpu-sleep"), "{without}");

    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    for cpus in [1, 2] {
        let spec = machine(qemu.clone(), cpus);
        let tree = runtime.block_on(prepare(&spec, IdleStatesChoice::Always, place.path()));
        let said = boot(cpus, Some(&tree.unwrap().unwrap()));
        assert!(said.contains("driver: psci_idle"), "{said}");
        for cpu in 0..cpus {
            let state = format!("cpu{cpu}/cpuidle/state1: cpu-sleep-0, cpu-sleep");
            assert!(said.contains(&state), "{state}: {said}");
        }
        let tried = said.lines().find_map(|line| {
            let tried = line.split_once("cpu0/cpuidle/state1 was tried ")?.1;
            tried.strip_suffix(" times")?.parse::<u32>().ok()
        });
        assert!(tried.is_some_and(|times| times > 0), "{said}");
    }
}
