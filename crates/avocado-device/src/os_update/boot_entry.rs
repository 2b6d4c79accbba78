//! The boot entry of systemd-boot in a boot partition that was just written.
//!
//! A board has one image for the boot partitions of both slots, whose entry names the root partition of
//! one of them (`root=PARTLABEL=`). As published agents do, the entry is made to name that of the
//! slot. The loader does not start the slot yet, so a cut leaves nothing that could be started.

use std::collections::BTreeMap;
use std::path::Path;

use avocado_fs::AtPath;
use avocado_fs::recorded::RecordedFile;
use avocado_manifest::Name;
use avocado_manifest::os_bundle::{OsArtifact, OsBundleDescription, OsSlot, UpdateStrategy};

use super::error::OsUpdateError;
use super::partition::{self, PartitionPlace};
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::store::files;

/// The artifact whose partition has the entry.
const BOOT_ARTIFACT: &str = "boot";

/// The artifact whose partition the entry names.
const ROOT_ARTIFACT: &str = "rootfs";

/// The entry (published).
const ENTRY: &str = "loader/entries/avocado.conf";

/// The largest entry that is read, in bytes.
const LIMIT: u64 = 64 << 10;

/// Whether something of an artifact is changed when it has been written.
pub(super) fn is_changed(bundle: &OsBundleDescription, artifact: &OsArtifact) -> bool {
    let update = bundle.update.as_ref();
    update.is_some_and(|update| update.strategy == UpdateStrategy::SdbootAb)
        && artifact.name.as_str() == BOOT_ARTIFACT
}

/// Lets the boot entry of a slot that was written name its root partition, where that is done.
pub(super) fn name_root_of(
    context: &DeviceContext,
    bundle: &OsBundleDescription,
    places: &BTreeMap<Name, PartitionPlace>,
    slot: OsSlot,
) -> Result<(), FailureReason> {
    let update = bundle.update.as_ref();
    let artifacts = update.map_or(&[][..], |update| &update.artifacts);
    let boot = artifacts.iter().find(|a| is_changed(bundle, a));
    let root = artifacts.iter().find(|a| a.name.as_str() == ROOT_ARTIFACT);
    let (Some(boot), Some(root)) = (boot, root) else {
        return Ok(());
    };
    // What is no partition of its own cannot be mounted.
    match places.get(&boot.name) {
        Some(place) if place.offset == 0 => name_root(
            &context.paths,
            &place.device,
            root.partitions.get(slot),
            root.partitions.get(slot.other()),
        ),
        _ => Ok(()),
    }
}

/// Makes the entry in the boot partition `device` name the root partition `wanted`. An image without the
/// entry, or whose entry names neither partition, finds its root by itself.
fn name_root(
    paths: &DevicePaths,
    device: &Path,
    wanted: &Name,
    other: &Name,
) -> Result<(), FailureReason> {
    partition::with_boot_files(paths, device, |directory| {
        let path = directory.join(ENTRY);
        if !path.exists() {
            return Ok(());
        }
        let bytes = files::read(&path, LIMIT)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            OsUpdateError::Content(format!("{ENTRY} of the boot partition is no text"))
        })?;
        let named = with_root(&text, wanted, other);
        if named == text {
            return Ok(());
        }
        let file = RecordedFile::open(&path).at("open", &path)?;
        file.set_length(named.len() as u64).at("write", &path)?;
        file.write_at(0, named.as_bytes()).at("write", &path)?;
        file.sync().at("write", &path)?;
        Ok(())
    })
}

/// The text with the other partition in the place of this one, where a whole word names it.
fn with_root(text: &str, wanted: &Name, other: &Name) -> String {
    let (from, to) = [other, wanted]
        .map(|name| format!("root=PARTLABEL={name}"))
        .into();
    let word = |word: &str| {
        let trimmed = word.trim_end();
        if trimmed == from {
            word.replacen(&from, &to, 1)
        } else {
            word.to_owned()
        }
    };
    text.split_inclusive(char::is_whitespace)
        .map(word)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_is_another() {
        let (a, b): (Name, Name) = ("rootfs-a".parse().unwrap(), "rootfs-b".parse().unwrap());
        let text = "title Avocado\noptions root=PARTLABEL=rootfs-a ro x=root=PARTLABEL=rootfs-a \
                    root=PARTLABEL=rootfs-a2 quiet\r\ninitrd /i root=PARTLABEL=rootfs-a";
        let there = with_root(text, &b, &a);
        assert_eq!(
            there,
            "title Avocado\noptions root=PARTLABEL=rootfs-b ro x=root=PARTLABEL=rootfs-a \
             root=PARTLABEL=rootfs-a2 quiet\r\ninitrd /i root=PARTLABEL=rootfs-b"
        );
        assert_eq!(with_root(&there, &a, &b), text);
        assert_eq!(with_root(text, &a, &b), text);
    }
}
