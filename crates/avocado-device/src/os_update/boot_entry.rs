//! The boot entry of systemd-boot in a boot partition that was just written.
//!
//! A board has one image for the boot partitions of both slots, whose entry names the root partition of
//! one of them (`root=PARTLABEL=`). As published agents do, the entry is made to name that of the
//! slot. The loader does not start the slot yet, so a cut leaves nothing that could be started.

use std::path::Path;

use avocado_fs::AtPath;
use avocado_fs::recorded::RecordedFile;
use avocado_manifest::Name;

use super::error::OsUpdateError;
use super::partition;
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::store::files;

/// The artifact whose partition has the entry.
pub(super) const BOOT_ARTIFACT: &str = "boot";

/// The artifact whose partition the entry names.
pub(super) const ROOT_ARTIFACT: &str = "rootfs";

/// The entry (published).
const ENTRY: &str = "loader/entries/avocado.conf";

/// The largest entry that is read, in bytes.
const LIMIT: u64 = 64 << 10;

/// Makes the entry in the boot partition `device` name the root partition `wanted`. An image without the
/// entry, or whose entry names neither partition, finds its root by itself.
pub(super) fn name_root(
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
