//! The boot menu of UEFI firmware: read from efivarfs, changed by `efibootmgr`.
//!
//! `BootNext` is one variable and is used once; `BootOrder` is changed only when a slot has proven itself,
//! or when the one before has to come back.

mod entry;
mod load_option;
mod variables;

use super::{LoaderOrder, failed};
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::tool;

pub(super) use entry::SlotEntry;
use variables::{boot_next, boot_order};

/// The UUID of the partition that systemd-boot was started from, in lower case.
pub(super) fn boot_partition(paths: &DevicePaths) -> Result<String, FailureReason> {
    let uuid = variables::loader_partition(paths)?;
    uuid.ok_or_else(|| failed("systemd-boot does not say where it is"))
}

/// Tells the firmware something about an entry, which is made again if it is gone.
pub(super) fn tell(order: LoaderOrder, entry_of_slot: SlotEntry<'_>) -> Result<(), FailureReason> {
    let paths = entry_of_slot.paths;
    let entry = entry_of_slot.ensure()?;
    let order_before = boot_order(paths)?;
    let next = boot_next(paths)?;
    match order {
        LoaderOrder::Try => {
            // Some firmware drops a BootNext that is not in BootOrder.
            if !order_before.contains(&entry) {
                let with = order_before.into_iter().chain([entry]).collect();
                set_order(paths, with)?;
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
            let rest = order_before.iter().copied().filter(|other| *other != entry);
            let wanted: Vec<_> = [entry].into_iter().chain(rest).collect();
            if wanted != order_before {
                set_order(paths, wanted)?;
            }
        }
    }
    Ok(())
}

/// Takes a slot out of the order of the menu. Its entry stays one, and is put in again when it is to be
/// tried.
pub(super) fn leave_out(entry_of_slot: SlotEntry<'_>) -> Result<(), FailureReason> {
    let paths = entry_of_slot.paths;
    let entries = entry_of_slot.numbers()?;
    let mut order = boot_order(paths)?;
    let before = order.len();
    order.retain(|other| !entries.contains(other));
    if order.len() == before {
        return Ok(());
    }
    set_order(paths, order)
}

/// Sets the order. `efibootmgr` takes no number that the firmware dropped the entry of.
fn set_order(paths: &DevicePaths, mut order: Vec<u16>) -> Result<(), FailureReason> {
    let there = variables::entry_numbers(paths)?;
    order.retain(|number| there.contains(number));
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
