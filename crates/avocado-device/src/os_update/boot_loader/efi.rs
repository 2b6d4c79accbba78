//! The boot menu of UEFI firmware: read from efivarfs, changed by `efibootmgr`.
//!
//! `BootNext` is one variable and is used once; `BootOrder` is changed only when a slot has proven itself,
//! or when the one before has to come back.

use std::fs;
use std::path::PathBuf;

use avocado_manifest::os_bundle::BootEntry;

use super::{LoaderOrder, failed};
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::tool;

/// The vendor of the variables that the UEFI specification defines.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The vendor of those that systemd-boot sets (Boot Loader Interface).
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The UUID of the partition that systemd-boot was started from, in lower case.
pub(super) fn boot_partition(paths: &DevicePaths) -> Result<String, FailureReason> {
    let path = variable(paths, "LoaderDevicePartUUID", LOADER);
    let bytes = read(&path)?.ok_or_else(|| failed("systemd-boot does not say where it is"))?;
    let text = utf16(&bytes);
    Ok(text.to_lowercase())
}

/// Tells the firmware something about an entry.
pub(super) fn tell(
    paths: &DevicePaths,
    order: LoaderOrder,
    entry_of_slot: &BootEntry,
) -> Result<(), FailureReason> {
    let entry = entry(paths, entry_of_slot)?;
    let menu = boot_order(paths)?;
    let next = boot_next(paths)?;
    match order {
        LoaderOrder::Try => {
            // Some firmware drops a BootNext that is not in BootOrder.
            if !menu.contains(&entry) {
                let with = menu.iter().copied().chain([entry]).collect::<Vec<_>>();
                set_order(paths, &with)?;
            }
            let number = format!("{entry:04X}");
            tool::must(&paths.tools.efibootmgr, &["--bootnext", &number])?;
            if boot_next(paths)? != Some(entry) {
                return Err(failed(format!("BootNext is not {number} after it was set")));
            }
        }
        LoaderOrder::Keep | LoaderOrder::GoBack => {
            if next.is_some_and(|next| next != entry) {
                forget_next(paths)?;
            }
            let rest = menu.iter().copied().filter(|other| *other != entry);
            let wanted: Vec<_> = [entry].into_iter().chain(rest).collect();
            if wanted != menu {
                set_order(paths, &wanted)?;
            }
        }
    }
    Ok(())
}

/// Takes an entry out of the order of the menu. It stays an entry, and is put in again when it is to be
/// tried.
pub(super) fn leave_out(
    paths: &DevicePaths,
    entry_of_slot: &BootEntry,
) -> Result<(), FailureReason> {
    let entry = entry(paths, entry_of_slot)?;
    let mut menu = boot_order(paths)?;
    let before = menu.len();
    menu.retain(|other| *other != entry);
    if menu.len() == before {
        return Ok(());
    }
    set_order(paths, &menu)
}

fn set_order(paths: &DevicePaths, order: &[u16]) -> Result<(), FailureReason> {
    let numbers: Vec<_> = order.iter().map(|entry| format!("{entry:04X}")).collect();
    let numbers = numbers.join(",");
    tool::must(&paths.tools.efibootmgr, &["--bootorder", &numbers])?;
    if boot_order(paths)? != order {
        return Err(failed(format!(
            "BootOrder is not {numbers} after it was set"
        )));
    }
    Ok(())
}

fn forget_next(paths: &DevicePaths) -> Result<(), FailureReason> {
    tool::must(&paths.tools.efibootmgr, &["--delete-bootnext"]).map(drop)
}

/// The number of an entry.
pub(super) fn entry(paths: &DevicePaths, entry: &BootEntry) -> Result<u16, FailureReason> {
    match entry {
        BootEntry::Number(number) => {
            let path = variable(paths, &format!("Boot{number:04X}"), GLOBAL);
            let found = read(&path)?.map(|_| *number);
            found.ok_or_else(|| {
                failed(format!(
                    "the firmware's boot menu has no entry Boot{number:04X}"
                ))
            })
        }
        BootEntry::Label(label) => {
            let mut found = entries(paths)?.into_iter().filter(|(_, of)| of == label);
            match (found.next(), found.next()) {
                (Some((number, _)), None) => Ok(number),
                (None, _) => Err(failed(format!(
                    "the firmware's boot menu has no entry `{label}`; make it with efibootmgr"
                ))),
                (Some(_), Some(_)) => Err(failed(format!(
                    "the firmware's boot menu has more than one entry `{label}`"
                ))),
            }
        }
    }
}

/// The numbers and labels of all entries.
fn entries(paths: &DevicePaths) -> Result<Vec<(u16, String)>, FailureReason> {
    let directory = &paths.os.efi_variables;
    let names = avocado_fs::file_names(directory)?;
    let number = |name: &String| {
        let digits = name
            .strip_prefix("Boot")?
            .strip_suffix(&format!("-{GLOBAL}"))?;
        let number = u16::from_str_radix(digits, 16).ok()?;
        (digits.len() == 4).then_some(number)
    };
    let mut all = Vec::new();
    for number in names.iter().filter_map(number) {
        let path = variable(paths, &format!("Boot{number:04X}"), GLOBAL);
        // EFI_LOAD_OPTION: four bytes of attributes and two of a length, and then the label.
        if let Some(option) = read(&path)? {
            all.push((number, utf16(option.get(6..).unwrap_or_default())));
        }
    }
    Ok(all)
}

fn boot_order(paths: &DevicePaths) -> Result<Vec<u16>, FailureReason> {
    let bytes = read(&variable(paths, "BootOrder", GLOBAL))?.unwrap_or_default();
    Ok(numbers(&bytes))
}

fn boot_next(paths: &DevicePaths) -> Result<Option<u16>, FailureReason> {
    let bytes = read(&variable(paths, "BootNext", GLOBAL))?.unwrap_or_default();
    Ok(numbers(&bytes).first().copied())
}

fn variable(paths: &DevicePaths, name: &str, vendor: &str) -> PathBuf {
    paths.os.efi_variables.join(format!("{name}-{vendor}"))
}

/// The value of a variable, without the attributes before it.
fn read(path: &std::path::Path) -> Result<Option<Vec<u8>>, FailureReason> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.get(4..).unwrap_or_default().to_vec())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FailureReason::file("read", path)(e)),
    }
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

/// A text in UTF-16, up to its NUL.
fn utf16(bytes: &[u8]) -> String {
    let units = numbers(bytes).into_iter().take_while(|unit| *unit != 0);
    String::from_utf16_lossy(&units.collect::<Vec<_>>())
}
