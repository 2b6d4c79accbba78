//! The environment of U-Boot, by `fw_printenv` and `fw_setenv`: those of U-Boot itself or of
//! libubootenv.
//!
//! All variables are set in one call, which writes the copy of the environment that is not in use and
//! makes it the one that counts: a cut leaves all of them or none. The two programs differ in how the
//! file with the variables is written (`name value`, `name=value`) and each takes the other form for
//! something else, so it is tried first, on an environment that nothing is started with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use avocado_manifest::Name;
use avocado_manifest::os_bundle::{BySlot, OsSlot};

use super::{LoaderOrder, failed};
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::store::files;
use crate::tool;

/// How often RAUC's script tries a slot.
const RAUC_ATTEMPTS: &str = "3";

/// The size of each copy of the environment that the form is tried on, in bytes.
const TRIAL_SIZE: usize = 4096;

/// How the file with the variables is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScriptForm {
    /// `name value`, of U-Boot.
    Space,
    /// `name=value`, of libubootenv.
    Equals,
}

impl ScriptForm {
    fn line(self, name: &str, value: &str) -> String {
        match self {
            ScriptForm::Space => format!("{name} {value}\n"),
            ScriptForm::Equals => format!("{name}={value}\n"),
        }
    }
}

/// The value of a variable; empty where it has none.
pub(super) fn value(paths: &DevicePaths, name: &str) -> Result<String, FailureReason> {
    let value = tool::answer(&paths.tools.fw_printenv, &["-n", name])?;
    Ok(value.trim_end_matches('\n').to_owned())
}

/// Sets variables, all of them or none, and compares.
pub(super) fn set(
    paths: &DevicePaths,
    variables: &BTreeMap<String, String>,
) -> Result<(), FailureReason> {
    // Each write wears the memory that the environment is in.
    let is_set = |(name, wanted): (&String, &String)| Ok(value(paths, name)? == *wanted);
    let all: Result<Vec<bool>, FailureReason> = variables.iter().map(is_set).collect();
    if all?.into_iter().all(|is_set| is_set) {
        return Ok(());
    }
    let form = script_form(paths)?;
    let directory = paths.run.join("os-update");
    files::create_private_dir(&directory)?;
    let lines = variables.iter().map(|(name, value)| form.line(name, value));
    let script = directory.join("variables");
    write(&script, lines.collect::<String>().as_bytes())?;
    tool::must(&paths.tools.fw_setenv, &[Path::new("-s"), script.as_path()])?;
    for (name, wanted) in variables {
        let found = value(paths, name)?;
        if found != *wanted {
            return Err(failed(format!(
                "`{name}` was set to `{wanted}` in the U-Boot environment, and is `{}`; is \
                 /etc/fw_env.config right?",
                found.escape_debug()
            )));
        }
    }
    Ok(())
}

/// Why an environment could be lost when it is written: it has one copy, or none is configured. The file
/// has a line for each copy; or it is YAML, as libubootenv reads as well, with a `path` for each.
pub(super) fn config_problem(paths: &DevicePaths) -> Option<String> {
    let path = &paths.os.uboot_environment;
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => {
            let why = FailureReason::file("read", path)(e);
            return Some(avocado_events::chain(&why));
        }
    };
    let copies = copies(&text);
    (copies < 2).then(|| {
        format!(
            "{} names {copies} of the two copies of the U-Boot environment: a cut of the power while it \
             is written would lose it; give the environment a second copy",
            path.display()
        )
    })
}

/// How many copies a configuration names.
fn copies(config: &str) -> usize {
    let lines = config.lines().map(str::trim);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let is_path = |line: &&&str| line.trim_start_matches(['-', ' ']).starts_with("path");
    match lines.iter().filter(is_path).count() {
        0 => lines.len(),
        paths => paths,
    }
}

/// Finds out how `fw_setenv` reads a file. Nothing that the device uses is changed.
pub(super) fn script_form(paths: &DevicePaths) -> Result<ScriptForm, FailureReason> {
    let directory = paths.run.join("os-update-trial");
    files::create_private_dir(&directory)?;
    let form = form_in(paths, &directory);
    // It is on a disk of memory; what is left of it is in no way.
    let _ = fs::remove_dir_all(&directory);
    form
}

fn form_in(paths: &DevicePaths, directory: &Path) -> Result<ScriptForm, FailureReason> {
    let environment = directory.join("trial");
    let config = directory.join("trial.config");
    let script = directory.join("trial.variables");
    let place = environment.display();
    let both = format!("{place} 0x0 {TRIAL_SIZE:#x}\n{place} {TRIAL_SIZE:#x} {TRIAL_SIZE:#x}\n");
    write(&config, both.as_bytes())?;
    for form in [ScriptForm::Space, ScriptForm::Equals] {
        write(&environment, &trial_environment())?;
        write(&script, form.line("trial", "new value").as_bytes())?;
        let of_trial = [Path::new("-c"), config.as_path()];
        let set = [of_trial.as_slice(), &[Path::new("-s"), &script]].concat();
        let get = [of_trial.as_slice(), &["-n", "trial"].map(Path::new)].concat();
        // A form that it does not know may be an error, or nothing.
        let _ = tool::run(&paths.tools.fw_setenv, &set, tool::LIMIT)?;
        let found = tool::answer(&paths.tools.fw_printenv, &get);
        if found.is_ok_and(|found| found.trim_end_matches('\n') == "new value") {
            return Ok(form);
        }
    }
    Err(failed(format!(
        "{} sets no variables from a file (`-s`)",
        paths.tools.fw_setenv.display()
    )))
}

/// Two copies of an environment: a CRC-32 (little endian), a byte that tells which copy counts, and the
/// variables (`include/env_internal.h` of U-Boot).
fn trial_environment() -> Vec<u8> {
    let mut variables = b"trial=old\0\0".to_vec();
    variables.resize(TRIAL_SIZE - 5, 0);
    let copy = |counts: u8| {
        let mut copy = crc32(&variables).to_le_bytes().to_vec();
        copy.push(counts);
        copy.extend(&variables);
        copy
    };
    [copy(1), copy(0)].concat()
}

/// The CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let of_byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(u32::MAX, of_byte)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FailureReason> {
    fs::write(path, bytes).map_err(FailureReason::file("write", path))
}

/// What the kernel was started with.
pub(super) fn kernel_command_line(paths: &DevicePaths) -> Result<String, FailureReason> {
    let path = &paths.os.kernel_command_line;
    fs::read_to_string(path).map_err(FailureReason::file("read", path))
}

/// RAUC's variables (its manual, "U-Boot"): an order of slots, and how often each is tried. A slot
/// that is not in the order is never started, not even when no slot has attempts left.
pub(super) fn rauc(
    bootnames: &BySlot<Name>,
    order: LoaderOrder,
    slot: OsSlot,
) -> Vec<(String, String)> {
    let name = |slot: OsSlot| bootnames.get(slot);
    let other = slot.other();
    let left = |slot: OsSlot, left: &str| (format!("BOOT_{}_LEFT", name(slot)), left.to_owned());
    let start = |slots: String| ("BOOT_ORDER".to_owned(), slots);
    match order {
        LoaderOrder::Try => vec![
            start(format!("{} {}", name(slot), name(other))),
            left(slot, RAUC_ATTEMPTS),
            left(other, RAUC_ATTEMPTS),
        ],
        // Alone: with the other one in the order, some fast cuts of the power would start that.
        LoaderOrder::Keep => vec![start(name(slot).to_string()), left(slot, RAUC_ATTEMPTS)],
        LoaderOrder::GoBack => vec![
            start(name(slot).to_string()),
            left(slot, RAUC_ATTEMPTS),
            left(other, "0"),
        ],
    }
}

/// Mender's variables (its manual, "U-Boot integration"): the partition, and whether it is on trial.
pub(super) fn mender(
    partitions: &BySlot<u32>,
    order: LoaderOrder,
    slot: OsSlot,
) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let partition = |slot: OsSlot| {
        let number = partitions.get(slot);
        [
            pair("mender_boot_part", number.to_string()),
            pair("mender_boot_part_hex", format!("{number:x}")),
        ]
    };
    let trial = |on: &str| pair("upgrade_available", on.to_owned());
    let count = pair("bootcount", "0".to_owned());
    let mut all = match order {
        LoaderOrder::Keep => vec![trial("0"), count],
        LoaderOrder::Try => vec![trial("1"), count],
        LoaderOrder::GoBack => vec![trial("0"), count],
    };
    match order {
        LoaderOrder::Try | LoaderOrder::GoBack => all.extend(partition(slot)),
        LoaderOrder::Keep => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_copies_of_an_environment_are_counted() {
        for (config, count) in [
            ("", 0),
            ("# /dev/mtd0 0 0x4000\n", 0),
            ("/dev/mmcblk0 0x1000 0x4000\n", 1),
            (
                "# both\n/dev/mmcblk0 0x1000 0x4000\n\n  /dev/mmcblk0 0x5000 0x4000\n",
                2,
            ),
            (
                "uboot:\n  size: 0x4000\n  devices:\n    - path: /dev/mtd0\n      offset: 0\n",
                1,
            ),
            (
                "uboot:\n  devices:\n    - path: /dev/mtd0\n    - path: /dev/mtd1\n",
                2,
            ),
        ] {
            assert_eq!(copies(config), count, "{config}");
        }
    }

    #[test]
    fn boards_with_other_scripts_get_their_variables() {
        let names = BySlot {
            first: "A".parse().unwrap(),
            second: "system1".parse().unwrap(),
        };
        let numbers = BySlot {
            first: 2,
            second: 10,
        };
        let words = |all: Vec<(String, String)>| {
            let all: Vec<_> = all.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
            all.join(" ; ")
        };
        let b = OsSlot::Second;
        for (order, of_rauc, of_mender) in [
            (
                LoaderOrder::Try,
                "BOOT_ORDER=system1 A ; BOOT_system1_LEFT=3 ; BOOT_A_LEFT=3",
                "upgrade_available=1 ; bootcount=0 ; mender_boot_part=10 ; mender_boot_part_hex=a",
            ),
            (
                LoaderOrder::Keep,
                "BOOT_ORDER=system1 ; BOOT_system1_LEFT=3",
                "upgrade_available=0 ; bootcount=0",
            ),
            (
                LoaderOrder::GoBack,
                "BOOT_ORDER=system1 ; BOOT_system1_LEFT=3 ; BOOT_A_LEFT=0",
                "upgrade_available=0 ; bootcount=0 ; mender_boot_part=10 ; mender_boot_part_hex=a",
            ),
        ] {
            assert_eq!(words(rauc(&names, order, b)), of_rauc, "{order:?}");
            assert_eq!(words(mender(&numbers, order, b)), of_mender, "{order:?}");
        }
    }
}
