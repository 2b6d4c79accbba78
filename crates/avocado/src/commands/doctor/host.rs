//! What is looked at, in the order in which it is told.

use std::ffi::OsStr;

use super::FindingState::{Limited, Missing};
use super::program::{NeededProgram, answers, find};
use super::{Area, Finding, FindingState};
use crate::failure::Result;
use crate::session::Session;

/// What builds call on this machine.
#[rustfmt::skip]
const BUILD: [NeededProgram; 13] = [
    program(Area::Host, "dnf", &["--version"], "installs packages", Missing, ["dnf", "dnf"]),
    program(Area::Host, "rpm", &["--version"], "reads what is installed", Missing, ["rpm", "rpm"]),
    program(Area::Host, "mksquashfs", &["-version"], "writes images of squashfs, which extensions are by default", Limited, ["squashfs-tools", "squashfs-tools"]),
    program(Area::Host, "mkfs.erofs", &["-V"], "writes images of erofs", Limited, ["erofs-utils", "erofs-utils"]),
    program(Area::Host, MKFS_BTRFS, &["--version"], "writes the var partition; `build --no-var` does without", Limited, ["btrfs-progs", "btrfs-progs"]),
    program(Area::Host, "ldconfig", &["--version"], "writes the cache of libraries of a rootfs", Limited, ["libc-bin", "glibc"]),
    program(Area::Host, "systemctl", &["--version"], "enables the units of a rootfs", Limited, ["systemd", "systemd"]),
    program(Area::Host, "git", &["--version"], "fetches sources from repositories of git", Limited, ["git", "git"]),
    program(Area::Host, "skopeo", &["--version"], "fetches images of containers: `docker_images`", Limited, ["skopeo", "skopeo"]),
    program(Area::Host, "dockerd", &["--version"], "makes docker's store in the var partition: `docker_images`", Limited, ["docker.io", "moby-engine"]),
    program(Area::Host, "sfdisk", &["--version"], "writes the table of a disk: `avocado provision`", Limited, ["fdisk", "util-linux"]),
    // Without arguments it says its version, and that a device is missing.
    program(Area::Host, "mkfs.fat", &[], "writes boot partitions: `avocado provision`", Limited, ["dosfstools", "dosfstools"]),
    program(Area::Host, "mcopy", &["--version"], "fills boot partitions: `avocado provision`", Limited, ["mtools", "mtools"]),
];

#[rustfmt::skip]
const ENGINES: [NeededProgram; 2] = [
    program(Area::Container, "podman", &["--version"], "makes containers", Missing, ["podman", "podman"]),
    program(Area::Container, "docker", &["--version"], "makes containers", Missing, ["docker.io", "moby-engine"]),
];

#[rustfmt::skip]
const SWTPM: NeededProgram =
    program(Area::Vm, "swtpm", &["--version"], "gives the guest a TPM", Limited, ["swtpm", "swtpm"]);

#[rustfmt::skip]
const SSH: NeededProgram =
    program(Area::Deploy, "ssh", &["-V"], "reaches devices", Missing, ["openssh-client", "openssh-clients"]);

#[rustfmt::skip]
const GANESHA: NeededProgram =
    program(Area::Deploy, "ganesha.nfsd", &["-v"], "exports extensions to devices: `avocado hitl server`", Limited, ["nfs-ganesha-vfs", "nfs-ganesha-vfs"]);

/// QEMU for guests that run fast here.
#[rustfmt::skip]
const QEMU: NeededProgram = if cfg!(target_arch = "aarch64") {
    program(Area::Vm, "qemu-system-aarch64", &["--version"], "runs the guest", Missing, ["qemu-system-arm", "qemu-system-aarch64"])
} else {
    program(Area::Vm, "qemu-system-x86_64", &["--version"], "runs the guest", Missing, ["qemu-system-x86", "qemu-system-x86"])
};

const MKFS_BTRFS: &str = "mkfs.btrfs";

/// A row of the tables here: how it says its version, what it is for, what there is without it, and the
/// package of Debian and of Fedora that has it.
const fn program(
    area: Area,
    name: &'static str,
    version: &'static [&'static str],
    purpose: &'static str,
    without: FindingState,
    packages: [&'static str; 2],
) -> NeededProgram {
    NeededProgram {
        area,
        name,
        version,
        purpose,
        without,
        packages,
    }
}

pub(super) fn findings(session: &Session) -> Result<Vec<Finding>> {
    let search_path = session.environment.search_path();
    let mut findings = Vec::new();
    if cfg!(target_os = "linux") {
        findings.extend(steps(session)?);
        findings.extend(BUILD.iter().map(|program| {
            let finding = program.look(&search_path);
            with_var_partition(finding)
        }));
        findings.extend(emulation_of_steps(session)?);
        findings.push(engine(&search_path));
        findings.extend(emulation_of_containers(&search_path));
    } else {
        findings.extend([Area::Host, Area::Deploy].map(|area| Finding {
            area,
            state: FindingState::Missing,
            subject: "Linux".to_owned(),
            found: std::env::consts::OS.to_owned(),
            advice: Some("use a machine with Linux, or the development VM".to_owned()),
        }));
    }
    findings.push(QEMU.look(&search_path));
    findings.extend(acceleration(session));
    findings.push(SWTPM.look(&search_path));
    findings.push(SSH.look(&search_path));
    if cfg!(target_os = "linux") {
        findings.push(GANESHA.look(&search_path));
    }
    Ok(findings)
}

/// Whether steps can have a view of this machine of their own, by one that does nothing.
#[cfg(target_os = "linux")]
fn steps(session: &Session) -> Result<Option<Finding>> {
    let environment = &session.environment;
    let exe = environment.exe()?;
    let made = avocado_build::check_host_steps(&exe, &environment.search_path());
    let (state, found, advice) = match made {
        Ok(()) => {
            let found = "in namespaces of their own".to_owned();
            (FindingState::Good, found, None)
        }
        Err(error) => {
            let failure = super::super::build_run::failure(&error);
            (FindingState::Missing, failure.message, failure.hint)
        }
    };
    Ok(Some(Finding {
        area: Area::Host,
        state,
        subject: "steps".to_owned(),
        found,
        advice,
    }))
}

/// With what the `mkfs.btrfs` that is there cannot do for this user.
#[cfg(target_os = "linux")]
fn with_var_partition(finding: Finding) -> Finding {
    if finding.subject == MKFS_BTRFS && !avocado_build::may_mount() {
        return without_mount(finding);
    }
    finding
}

#[cfg(not(target_os = "linux"))]
fn with_var_partition(finding: Finding) -> Finding {
    finding
}

/// The same for one who may not mount what an older one makes.
#[cfg(target_os = "linux")]
fn without_mount(finding: Finding) -> Finding {
    let needed = match finding.state {
        FindingState::Good => avocado_build::MkfsVersion::missing(&finding.found),
        _ => None,
    };
    match needed {
        None => finding,
        Some(needed) => Finding {
            state: Limited,
            found: format!(
                "{}: before {needed} it makes a var partition for root alone, who may mount it to fill it",
                finding.found
            ),
            advice: Some(format!(
                "install btrfs-progs {needed} or newer, build as root or with `--no-var`"
            )),
            ..finding
        },
    }
}

#[cfg(not(target_os = "linux"))]
fn steps(_session: &Session) -> Result<Option<Finding>> {
    Ok(None)
}

/// Whether steps on this host can start programs of the other processor, a device's and those of an SDK
/// for it.
#[cfg(target_os = "linux")]
fn emulation_of_steps(session: &Session) -> Result<Option<Finding>> {
    use avocado_build::Emulation;
    let Some(processor) = other_processor() else {
        return Ok(None);
    };
    let environment = &session.environment;
    let exe = environment.exe()?;
    let search_path = environment.search_path();
    let limited = |found: String, advice: &str| {
        let advice = Some(advice.to_owned());
        (FindingState::Limited, found, advice)
    };
    let (state, found, advice) = match avocado_build::emulation_of_host_steps(
        &exe,
        &search_path,
        processor,
    ) {
        Emulation::OfMachine(_) => of_machine(),
        Emulation::OfJobs(program) => {
            let found = format!("emulated in steps by {}", program.display());
            (FindingState::Good, found, None)
        }
        Emulation::None => match Emulation::of(processor, &search_path) {
            Emulation::OfJobs(program) => limited(
                format!(
                    "not emulated: the kernel takes {} for no step, for which it has to be Linux 6.7 \
                         or newer and to allow user namespaces",
                    program.display()
                ),
                REGISTERED,
            ),
            _ => limited(
                "not emulated: scripts cannot start those of a device".to_owned(),
                "install the package qemu-user-static",
            ),
        },
    };
    Ok(Some(Finding {
        area: Area::Host,
        state,
        subject: format!("{processor} programs"),
        found,
        advice,
    }))
}

/// The same of containers.
#[cfg(target_os = "linux")]
fn emulation_of_containers(search_path: &OsStr) -> Option<Finding> {
    use avocado_build::Emulation;
    let processor = other_processor()?;
    let (state, found, advice) = match Emulation::of(processor, search_path) {
        Emulation::OfMachine(_) => of_machine(),
        _ => (
            FindingState::Limited,
            "not emulated by this machine: for `--sdk-arch` and programs of a device".to_owned(),
            Some(REGISTERED.to_owned()),
        ),
    };
    Some(Finding {
        area: Area::Container,
        state,
        subject: format!("{processor} programs"),
        found,
        advice,
    })
}

/// How a machine comes to emulate programs for whoever starts them.
#[cfg(target_os = "linux")]
const REGISTERED: &str = "install the package qemu-user-static, with binfmt-support on Debian, which \
                          registers it with binfmt_misc";

#[cfg(target_os = "linux")]
fn of_machine() -> (FindingState, String, Option<String>) {
    (
        FindingState::Good,
        "emulated by this machine".to_owned(),
        None,
    )
}

#[cfg(target_os = "linux")]
fn other_processor() -> Option<avocado_build::Processor> {
    use avocado_build::Processor;
    let mut others = Processor::ALL.into_iter();
    others.find(|processor| *processor != Processor::HOST)
}

#[cfg(not(target_os = "linux"))]
fn emulation_of_steps(_session: &Session) -> Result<Option<Finding>> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn emulation_of_containers(_search_path: &OsStr) -> Option<Finding> {
    None
}

/// The engine that a build would take: the first that is there.
fn engine(search_path: &OsStr) -> Finding {
    let [first, ..] = &ENGINES;
    let there = ENGINES
        .iter()
        .find(|engine| find(search_path, engine.name).is_some());
    let mut finding = there.unwrap_or(first).look(search_path);
    if let Some(path) = there.and_then(|engine| find(search_path, engine.name))
        && let Err(why) = answers(&path, &["info"])
    {
        finding.state = FindingState::Missing;
        finding.found = why;
        finding.advice = Some("see that its service runs and that you may use it".to_owned());
    }
    finding
}

/// Whether guests run on this machine's processors.
#[cfg(target_os = "linux")]
fn acceleration(session: &Session) -> Option<Finding> {
    use avocado_vm::acceleration::{Acceleration, probe_acceleration};
    let qemu = find(&session.environment.search_path(), QEMU.name)?;
    let probed = match tempfile::tempdir() {
        Ok(scratch) => probe_acceleration(&qemu, scratch.path()),
        Err(error) => Acceleration::None(format!("a guest cannot be tried: {error}")),
    };
    let (state, found, advice) = match probed {
        Acceleration::Hardware(name) => {
            let found = format!("a guest runs at full speed with {name}");
            (FindingState::Good, found, None)
        }
        Acceleration::None(why) => {
            let advice = "switch on virtualisation in the firmware, or nested virtualisation where this \
                          machine is a guest itself, and join the group that owns /dev/kvm";
            (FindingState::Limited, why, Some(advice.to_owned()))
        }
    };
    Some(Finding {
        area: Area::Vm,
        state,
        subject: "acceleration".to_owned(),
        found,
        advice,
    })
}

#[cfg(not(target_os = "linux"))]
fn acceleration(_session: &Session) -> Option<Finding> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_older_mkfs_btrfs_is_limited_for_who_may_not_mount() {
        for (found, state, is_limited) in [
            (
                "mkfs.btrfs, part of btrfs-progs v6.2",
                FindingState::Good,
                true,
            ),
            (
                "mkfs.btrfs, part of btrfs-progs v6.12",
                FindingState::Good,
                false,
            ),
            ("/usr/sbin/mkfs.btrfs", FindingState::Good, true),
            ("writes the var partition", Limited, false),
        ] {
            let finding = without_mount(Finding {
                area: Area::Host,
                state,
                subject: MKFS_BTRFS.to_owned(),
                found: found.to_owned(),
                advice: None,
            });
            assert_eq!(finding.advice.is_some(), is_limited, "{found}");
            if is_limited {
                assert_eq!(finding.state, Limited);
                assert!(finding.found.contains("before 6.12"), "{}", finding.found);
            }
        }
    }
}
