//! Images are mounted by us, read-only, and stay mounted as long as they are merged.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::release::{ExtensionClass, open_in};
use crate::error::FailureReason;
use crate::tool;

/// The type of the file system in an image, from its superblock.
fn filesystem(image: &Path) -> Result<&'static str, FailureReason> {
    let file = File::open(image).map_err(FailureReason::file("open", image))?;
    let has = |magic: &[u8; 4], offset| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset).is_ok() && bytes == *magic
    };
    if has(b"hsqs", 0) {
        Ok("squashfs")
    } else if has(&[0xe2, 0xe1, 0xf5, 0xe0], 1024) {
        Ok("erofs")
    } else {
        Err(FailureReason::ImageKind {
            path: image.to_owned(),
        })
    }
}

/// Mounts an image, or a directory in the place of one, at `at`. The loop device of an image goes
/// away with the mount.
pub(crate) fn mount(program: &Path, image: &Path, at: &Path) -> Result<(), FailureReason> {
    if image.is_dir() {
        fs::create_dir_all(at).map_err(FailureReason::file("create", at))?;
        return bind(image, at).map_err(|e| FailureReason::file("mount", image)(e.into()));
    }
    let kind = filesystem(image)?;
    fs::create_dir_all(at).map_err(FailureReason::file("create", at))?;
    let options = ["-t", kind, "-o", "loop,ro,nodev", "--"].map(AsRef::as_ref);
    let args = [&options[..], &[image.as_os_str(), at.as_os_str()]].concat();
    tool::must(program, &args)?;
    Ok(())
}

/// Mounts a directory at `at`, read-only.
fn bind(directory: &Path, at: &Path) -> Result<(), Errno> {
    rustix::mount::mount_bind(directory, at)?;
    // What will cover a part of it must not appear in the directory itself.
    rustix::mount::mount_change(at, MountPropagationFlags::PRIVATE)?;
    let how = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV;
    rustix::mount::mount_remount(at, how, "")
}

/// Whether `at` is a mount of the very file or directory that is now at `image`.
pub(crate) fn is_mounted(image: &Path, at: &Path) -> bool {
    let Ok(meta) = fs::metadata(at) else {
        return false;
    };
    if image.is_dir() {
        let same = |other: fs::Metadata| (other.dev(), other.ino()) == (meta.dev(), meta.ino());
        return fs::metadata(image).is_ok_and(same);
    }
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let backing = format!("/sys/dev/block/{major}:{minor}/loop/backing_file");
    let Ok(backing) = fs::read_to_string(backing) else {
        return false;
    };
    // The kernel appends ` (deleted)` when the file was replaced by another one of that name.
    let Ok(image) = fs::canonicalize(image) else {
        return false;
    };
    Path::new(backing.trim_end_matches('\n')) == image
}

/// Puts the directory `releases` in the place of an image's own for `class`, where it can hold
/// the name that systemd asks for. Does nothing when it is there already.
pub(crate) fn cover(
    root: &Path,
    class: ExtensionClass,
    releases: &Path,
) -> Result<(), FailureReason> {
    let path = root.join(class.release_dir());
    let failed = |e: io::Error| FailureReason::file("mount over", &path)(e);
    let how = OFlags::PATH | OFlags::DIRECTORY;
    let Some(dir) = open_in(root, Path::new(class.release_dir()), how).map_err(failed)? else {
        return Err(failed(io::ErrorKind::NotFound.into()));
    };
    let place = rustix::fs::fstat(&dir).map_err(|e| failed(e.into()))?;
    let ours = fs::metadata(releases).map_err(FailureReason::file("read", releases))?;
    if (place.st_dev, place.st_ino) == (ours.dev(), ours.ino()) {
        return Ok(());
    }
    // Through the descriptor, so that no symlink in the image leads the mount elsewhere.
    let target = format!("/proc/self/fd/{}", dir.as_raw_fd());
    rustix::mount::mount_bind(releases, target).map_err(|e| failed(e.into()))
}

/// Unmounts whatever is mounted at `at` and below.
pub(crate) fn unmount(at: &Path) -> Result<(), FailureReason> {
    let mut mounts = below(at)?;
    mounts.reverse();
    for mount in mounts {
        // Detached at once; an overlay that still uses it keeps it alive until it is gone itself.
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(&mount, flags)
            .map_err(|e| FailureReason::file("unmount", &mount)(e.into()))?;
    }
    Ok(())
}

/// As [`unmount`], for what may not answer any more: nothing below `at` is looked up.
pub(crate) fn detach(at: &Path) -> Result<(), FailureReason> {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    while below(at)?.iter().any(|mount| mount == at) {
        rustix::mount::unmount(at, flags)
            .map_err(|e| FailureReason::file("unmount", at)(e.into()))?;
    }
    Ok(())
}

/// The mount points at `dir` and below, in the order in which they were mounted.
pub(crate) fn below(dir: &Path) -> Result<Vec<PathBuf>, FailureReason> {
    let mut points = Vec::new();
    each(|point, _| {
        if point.starts_with(dir) {
            points.push(point);
        }
    })?;
    Ok(points)
}

/// How many overlays with this name are mounted at `at`, one over the other.
pub(crate) fn overlays(at: &Path, name: &str) -> Result<usize, FailureReason> {
    let wanted = format!(" - overlay {name} ");
    let mut count = 0;
    each(|point, line| count += usize::from(point == at && line.contains(&wanted)))?;
    Ok(count)
}

/// The lower directories of the topmost overlay with this name at `at`, the highest first; none
/// where there is no such overlay, or the kernel does not say.
pub(crate) fn lower_directories(at: &Path, name: &str) -> Result<Vec<PathBuf>, FailureReason> {
    let wanted = format!(" - overlay {name} ");
    let mut lower = Vec::new();
    each(|point, line| {
        if point == at
            && let Some((_, options)) = line.split_once(&wanted)
        {
            lower = lower_of(options);
        }
    })?;
    Ok(lower)
}

/// Reads `ro,lowerdir=/a:/b,upperdir=/c`, or `lowerdir+=/a,lowerdir+=/b`.
fn lower_of(options: &str) -> Vec<PathBuf> {
    let values = options
        .split(',')
        .filter_map(|option| {
            let option = option.strip_prefix("lowerdir")?;
            option.strip_prefix("+=").or(option.strip_prefix('='))
        })
        .flat_map(|value| value.split(':'));
    values.map(PathBuf::from).collect()
}

/// Calls `found` with each mount point and its line of the mount table.
fn each(mut found: impl FnMut(PathBuf, &str)) -> Result<(), FailureReason> {
    let path = Path::new("/proc/thread-self/mountinfo");
    let table = fs::read(path).map_err(FailureReason::file("read", path))?;
    for line in table.split(|b| *b == b'\n') {
        if let Some(field) = line.split(|b| *b == b' ').nth(4) {
            let point = PathBuf::from(std::ffi::OsString::from_vec(unescaped(field)));
            found(point, &String::from_utf8_lossy(line));
        }
    }
    Ok(())
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_by_their_superblock() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let mut erofs = vec![0; 2048];
        erofs[1024..1028].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
        for (bytes, kind) in [
            (&b"hsqs...."[..], Some("squashfs")),
            (&erofs, Some("erofs")),
            (b"", None),
            (b"hsq", None),
            (&[0; 4096], None),
        ] {
            fs::write(&image, bytes).unwrap();
            assert_eq!(filesystem(&image).ok(), kind);
        }
    }

    #[test]
    fn lower_directories_are_told_in_both_ways() {
        for (options, lower) in [
            ("ro,lowerdir=/a:/b,upperdir=/c", &["/a", "/b"][..]),
            ("rw,lowerdir+=/a,lowerdir+=/b", &["/a", "/b"]),
            ("rw,lowerdirs=/a", &[]),
            ("rw", &[]),
        ] {
            let lower: Vec<_> = lower.iter().map(PathBuf::from).collect();
            assert_eq!(lower_of(options), lower, "{options}");
        }
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescaped(br"/a\040b\134c\11"), br"/a b\c\11");
        assert_eq!(unescaped(br"\777"), br"\777");
    }

    #[test]
    fn the_mount_table_is_read() {
        assert!(
            below(Path::new("/"))
                .unwrap()
                .contains(&PathBuf::from("/proc"))
        );
        assert!(below(Path::new("/pro")).unwrap().is_empty());
        assert_eq!(overlays(Path::new("/proc"), "proc").unwrap(), 0);
    }
}
