//! Variables of UEFI firmware, as efivarfs has them.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::load_option::LoadOption;
use crate::error::FailureReason;
use crate::paths::DevicePaths;

/// The vendor of the variables that the UEFI specification defines.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The vendor of those that systemd-boot sets (Boot Loader Interface).
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The UUID of the partition that systemd-boot was started from, in lower case.
pub(super) fn loader_partition(paths: &DevicePaths) -> Result<Option<String>, FailureReason> {
    let value = read(paths, "LoaderDevicePartUUID", LOADER)?;
    Ok(value.map(|value| text(&value).to_lowercase()))
}

/// The file that systemd-boot was started as.
pub(super) fn loader_file(paths: &DevicePaths) -> Result<Option<String>, FailureReason> {
    let value = read(paths, "LoaderImageIdentifier", LOADER)?;
    Ok(value.map(|value| text(&value)))
}

/// The entries of the boot menu in the order in which they are tried.
pub(super) fn boot_order(paths: &DevicePaths) -> Result<Vec<u16>, FailureReason> {
    let value = read(paths, "BootOrder", GLOBAL)?.unwrap_or_default();
    Ok(numbers(&value))
}

/// The entry that is tried next, once.
pub(super) fn boot_next(paths: &DevicePaths) -> Result<Option<u16>, FailureReason> {
    first(paths, "BootNext")
}

/// The entry that was started.
pub(super) fn boot_current(paths: &DevicePaths) -> Result<Option<u16>, FailureReason> {
    first(paths, "BootCurrent")
}

/// The entry of a number.
pub(super) fn entry(paths: &DevicePaths, number: u16) -> Result<Option<LoadOption>, FailureReason> {
    let value = read(paths, &format!("Boot{number:04X}"), GLOBAL)?;
    Ok(value.map(|value| LoadOption::parse(&value)))
}

/// All entries that can be read, by their numbers: one that is broken is in nobody's way.
pub(super) fn entries(paths: &DevicePaths) -> Result<Vec<(u16, LoadOption)>, FailureReason> {
    let numbers = entry_numbers(paths)?.into_iter();
    let read = |number| Some((number, entry(paths, number).ok()??));
    Ok(numbers.filter_map(read).collect())
}

/// The numbers of all entries.
pub(super) fn entry_numbers(paths: &DevicePaths) -> Result<Vec<u16>, FailureReason> {
    let names = avocado_fs::file_names(&paths.os.efi_variables)?;
    let number = |name: &String| {
        let digits = name
            .strip_prefix("Boot")?
            .strip_suffix(&format!("-{GLOBAL}"))?;
        let number = u16::from_str_radix(digits, 16).ok()?;
        (digits.len() == 4).then_some(number)
    };
    Ok(names.iter().filter_map(number).collect())
}

fn first(paths: &DevicePaths, name: &str) -> Result<Option<u16>, FailureReason> {
    let value = read(paths, name, GLOBAL)?.unwrap_or_default();
    Ok(numbers(&value).first().copied())
}

/// The value of a variable, without the attributes before it.
fn read(paths: &DevicePaths, name: &str, vendor: &str) -> Result<Option<Vec<u8>>, FailureReason> {
    let path: PathBuf = paths.os.efi_variables.join(format!("{name}-{vendor}"));
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes.get(4..).unwrap_or_default().to_vec())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FailureReason::file("read", &path)(e)),
    }
}

/// Numbers of two bytes each.
pub(super) fn numbers(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

/// A text in UTF-16, up to its NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let units = numbers(bytes).into_iter().take_while(|unit| *unit != 0);
    String::from_utf16_lossy(&units.collect::<Vec<_>>())
}
