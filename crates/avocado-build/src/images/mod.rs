//! Image writers. Whatever the format, the same tree gives the same bytes: no owner but root, no
//! times but those that the tree was given, no extended attributes, a fixed identifier.

pub(crate) mod btrfs;
mod cpio;
mod erofs;
mod newc;
mod squashfs;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_backend::ToolQuery;
use avocado_project::Filesystem;

use crate::error::{At as _, Error};
use crate::step_context::StepContext;

/// The tool that writes the format; `None` where it is our own code.
pub(crate) fn writer(filesystem: Filesystem) -> Option<&'static ToolQuery> {
    match filesystem {
        Filesystem::Squashfs => Some(&squashfs::MKSQUASHFS),
        Filesystem::Erofs | Filesystem::ErofsLz4 | Filesystem::ErofsZst => Some(&erofs::MKFS),
        Filesystem::Cpio | Filesystem::CpioZst | Filesystem::CpioLz4 | Filesystem::CpioGz => None,
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
    context: &StepContext<'_>,
    filesystem: Filesystem,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), Error> {
    if let Some(parent) = image.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    crate::trees::clear(image)?;
    match filesystem {
        Filesystem::Squashfs => squashfs::write(context, root, image, left_out)?,
        Filesystem::Erofs => erofs::write(context, None, root, image, left_out)?,
        Filesystem::ErofsLz4 => erofs::write(context, Some("lz4hc"), root, image, left_out)?,
        Filesystem::ErofsZst => erofs::write(context, Some("zstd"), root, image, left_out)?,
        Filesystem::Cpio | Filesystem::CpioZst | Filesystem::CpioLz4 | Filesystem::CpioGz => {
            cpio::write(context, filesystem, root, image, left_out)?;
        }
    }
    let file = fs::File::open(image).at("open", image)?;
    file.sync_all().at("write", image)
}
