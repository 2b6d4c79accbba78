//! What the operating system of this device says about itself.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::release_file;

use crate::paths::DevicePaths;

/// `AVOCADO_OS_BUILD_ID` of the operating system.
pub(crate) fn build_id(paths: &DevicePaths) -> Option<String> {
    value(&files(paths), "AVOCADO_OS_BUILD_ID")
}

/// `AVOCADO_OS_BUILD_ID` of the initial RAM file system that started the operating system, or that
/// runs. Not every one says it.
pub(crate) fn initramfs_build_id(paths: &DevicePaths) -> Option<String> {
    if paths.initrd_release.exists() {
        return value(
            std::slice::from_ref(&paths.initrd_release),
            "AVOCADO_OS_BUILD_ID",
        );
    }
    let text = fs::read_to_string(&paths.os.initramfs_build_id).ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// Keeps what the initial RAM file system says for the operating system, which cannot ask it any more.
pub(crate) fn keep_initramfs_build_id(paths: &DevicePaths) {
    let place = &paths.os.initramfs_build_id;
    if let (Some(id), false) = (initramfs_build_id(paths), place.exists()) {
        // Without it, it is not compared, and that is told.
        let _ = place.parent().map(fs::create_dir_all);
        let _ = fs::write(place, id);
    }
}

/// Another text at each boot.
pub(crate) fn boot_id(paths: &DevicePaths) -> Option<String> {
    let text = fs::read_to_string(&paths.os.boot_id).ok()?;
    Some(text.trim().to_owned())
}

/// `VERSION_ID` of the operating system.
pub(crate) fn version_id(paths: &DevicePaths) -> Option<String> {
    value(&files(paths), "VERSION_ID")
}

/// All that the operating system says about itself.
pub(crate) fn text(paths: &DevicePaths) -> Option<String> {
    first(&files(paths))
}

fn value(files: &[PathBuf], key: &str) -> Option<String> {
    release_file::value(&first(files)?, key).map(ToOwned::to_owned)
}

/// The first of `files` that exists.
fn first(files: &[PathBuf]) -> Option<String> {
    files.iter().find_map(|f| fs::read_to_string(f).ok())
}

/// The files of the operating system that runs, or that an initial RAM file system is about to
/// start.
fn files(paths: &DevicePaths) -> Vec<PathBuf> {
    let files = paths.os_release.iter();
    if !paths.initrd_release.exists() {
        return files.cloned().collect();
    }
    let below = |path: &PathBuf| Some(Path::new("/sysroot").join(path.strip_prefix("/").ok()?));
    files.filter_map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_exists_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("none"), dir.path().join("os-release")];
        assert_eq!(value(&files, "ID"), None);
        fs::write(&files[1], "ID=\"avocado\"\nAVOCADO_OS_BUILD_ID=x1\n").unwrap();
        assert_eq!(value(&files, "ID").unwrap(), "avocado");
        assert_eq!(value(&files, "AVOCADO_OS_BUILD_ID").unwrap(), "x1");
        fs::write(&files[0], "VERSION_ID=7\n").unwrap();
        assert_eq!(value(&files, "ID"), None);
        assert_eq!(value(&files, "VERSION_ID").unwrap(), "7");
    }

    #[test]
    fn an_initial_ram_file_system_speaks_of_what_it_starts() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path());
        paths.initrd_release = dir.path().join("initrd-release");
        paths.os_release = vec!["/etc/os-release".into()];
        assert_eq!(files(&paths), paths.os_release);
        fs::write(&paths.initrd_release, "").unwrap();
        assert_eq!(files(&paths), [Path::new("/sysroot/etc/os-release")]);
    }
}
