//! Where downloads are until they are whole: on the file system of the pool, so that an image gets
//! its name there by one rename.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// The directory's name, beside the pool or, where that is mounted from elsewhere, in it.
pub(crate) const NAME: &str = ".update-staging";

/// The directory for the store at `base`.
pub(crate) fn directory(base: &Path) -> PathBuf {
    let images = base.join("images");
    match (mount_of(base), mount_of(&images)) {
        (Some(of_base), Some(of_images)) if of_base != of_images => images.join(NAME),
        _ => base.join(NAME),
    }
}

/// Every place where the directory may be: the pool may have been mounted since.
pub(crate) fn directories(base: &Path) -> [PathBuf; 2] {
    [base.join(NAME), base.join("images").join(NAME)]
}

/// What tells whether a rename leads from one place to another: the mount and the file system. (A
/// subvolume is in one mount with what is above it, and a file system may be mounted twice.)
fn mount_of(path: &Path) -> Option<(u64, u32, u32)> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    // Kernels before 5.8 do not say which mount it is.
    let has = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let mount = if has { found.stx_mnt_id } else { 0 };
    Some((mount, found.stx_dev_major, found.stx_dev_minor))
}
