//! Image writers. Whatever the format, the same tree gives the same bytes: no owner but root, no
//! time but `source_date_epoch`, no extended attributes, a fixed identifier.

pub(crate) mod btrfs;
mod cpio;
mod erofs;
mod squashfs;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_project::Filesystem;

use crate::Error;
use crate::error::At as _;
use crate::steps::Bench;

/// The tool that writes the format; empty where it is our own code.
pub(crate) fn writer(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Squashfs => "mksquashfs",
        Filesystem::Erofs | Filesystem::ErofsLz4 | Filesystem::ErofsZst => "mkfs.erofs",
        _ => "",
    }
}

/// The file name extension of an OS image in this format: its name in avocado.yaml.
pub(crate) fn extension(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Squashfs => "squashfs",
        Filesystem::Erofs => "erofs",
        Filesystem::ErofsLz4 => "erofs-lz4",
        Filesystem::ErofsZst => "erofs-zst",
        Filesystem::Cpio => "cpio",
        Filesystem::CpioZst => "cpio.zst",
        Filesystem::CpioLz4 => "cpio.lz4",
        Filesystem::CpioGz => "cpio.gz",
    }
}

/// Writes the tree `root` without the relative paths `left_out` to `image`, which is on disk
/// when this returns.
pub(crate) fn write(
    bench: &Bench<'_>,
    filesystem: Filesystem,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), Error> {
    if let Some(parent) = image.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    crate::tree::clear(image)?;
    match filesystem {
        Filesystem::Squashfs => squashfs::write(bench, root, image, left_out)?,
        Filesystem::Erofs => erofs::write(bench, None, root, image, left_out)?,
        Filesystem::ErofsLz4 => erofs::write(bench, Some("lz4hc"), root, image, left_out)?,
        Filesystem::ErofsZst => erofs::write(bench, Some("zstd"), root, image, left_out)?,
        Filesystem::Cpio | Filesystem::CpioZst | Filesystem::CpioLz4 | Filesystem::CpioGz => {
            cpio::write(bench, filesystem, root, image, left_out)?;
        }
    }
    let file = fs::File::open(image).at("open", image)?;
    file.sync_all().at("write", image)
}
