//! Image writers. Whatever the format, the same tree gives the same bytes: no owner but root, no
//! times and extended attributes but those that the tree was given, a fixed identifier.

pub(crate) mod btrfs;
mod cpio;
mod erofs;
pub(crate) mod fat;
pub(crate) mod gpt;
mod newc;
mod squashfs;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_backend::ToolQuery;
use avocado_events::Event;
use avocado_project::Filesystem;

use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees::TreeFeatures;

/// The tool that writes the format; `None` where it is our own code.
pub(crate) fn writer(filesystem: Filesystem) -> Option<&'static ToolQuery> {
    match filesystem {
        Filesystem::Squashfs => Some(&squashfs::MKSQUASHFS),
        Filesystem::Erofs | Filesystem::ErofsLz4 | Filesystem::ErofsZst => Some(&erofs::MKFS),
        Filesystem::Cpio | Filesystem::CpioZst | Filesystem::CpioLz4 | Filesystem::CpioGz => None,
    }
}

/// Refuses a writer that is known to write wrong bytes, by what it says of itself. For the parent of a
/// step, which asked it already.
pub(crate) fn check_writer(
    filesystem: Filesystem,
    identity: Option<&str>,
) -> Result<(), BuildError> {
    match (filesystem, identity) {
        (Filesystem::Squashfs, Some(identity)) => squashfs::refuse_corrupting_version(identity),
        _ => Ok(()),
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

/// Whether a file with this extension is meant to be in this format: how it is compressed can differ, of
/// which whoever mounts or unpacks it takes note.
pub(crate) fn is_family(filesystem: Filesystem, extension: &str) -> bool {
    match filesystem {
        Filesystem::Squashfs => extension == "squashfs",
        Filesystem::Erofs | Filesystem::ErofsLz4 | Filesystem::ErofsZst => {
            matches!(extension, "erofs" | "erofs-lz4" | "erofs-zst")
        }
        Filesystem::Cpio | Filesystem::CpioZst | Filesystem::CpioLz4 | Filesystem::CpioGz => {
            matches!(extension, "cpio" | "cpio.zst" | "cpio.lz4" | "cpio.gz")
        }
    }
}

/// Writes the tree `root`, which has these features, without the relative paths `left_out` to
/// `image`, which is on disk when this returns.
pub(crate) fn write(
    context: &StepContext<'_>,
    filesystem: Filesystem,
    root: &Path,
    features: &TreeFeatures,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), BuildError> {
    if let Some(parent) = image.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    crate::trees::clear(image)?;
    let erofs = |compression| {
        has_held_attributes_only(features)?;
        erofs::write(context, features, compression, root, image, left_out)
    };
    match filesystem {
        Filesystem::Squashfs => {
            has_held_attributes_only(features)?;
            squashfs::write(context, features, root, image, left_out)?;
        }
        Filesystem::Erofs => erofs(None)?,
        Filesystem::ErofsLz4 => erofs(Some("lz4hc"))?,
        Filesystem::ErofsZst => erofs(Some("zstd"))?,
        Filesystem::Cpio | Filesystem::CpioZst | Filesystem::CpioLz4 | Filesystem::CpioGz => {
            if let Some(paths) = &features.attributes {
                context.sink.emit(Event::warning(format!(
                    "a {} image holds no extended attributes and file capabilities, which are lost: {paths}",
                    extension(filesystem)
                )));
            }
            cpio::write(context, filesystem, root, image, left_out)?;
        }
    }
    let file = fs::File::open(image).at("open", image)?;
    file.sync_all().at("write", image)
}

/// The tools write all attributes or none.
fn has_held_attributes_only(features: &TreeFeatures) -> Result<(), BuildError> {
    let (Some(with), Some((path, name))) = (&features.attributes, &features.other_attribute) else {
        return Ok(());
    };
    Err(BuildError::Invalid(format!(
        "{with} has extended attributes or file capabilities for its image, and this machine gives \
         /{path} the attribute `{name}`, which the image would hold as well: have the state in a file \
         system without such attributes"
    )))
}
