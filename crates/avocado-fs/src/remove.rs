use std::fs;
use std::io;
use std::path::Path;

use crate::error::{AtPath, PathError, or_missing};
use crate::recorded;

/// Removes whatever is at `path`, with everything in it; nothing there is fine. A symbolic link is
/// removed, never what it points to. Directories that their owner may not write to, as packages bring
/// them, are opened up first.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), PathError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => remove_directory(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    or_missing(removed).at("remove", path)
}

#[cfg(unix)]
fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

#[cfg(not(unix))]
fn remove_directory(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

#[cfg(unix)]
fn open_up(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // The type of the entry itself: a link is none to walk into.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a symbolic link; nothing there is fine. Its name may come back after a crash
/// until the directory was synced.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_file_if_there(path: &Path) -> Result<(), PathError> {
    or_missing(recorded::unlink(path)).at("remove", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_goes_and_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        remove_tree(&path).unwrap();
        fs::write(&path, "").unwrap();
        remove_tree(&path).unwrap();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/c"), "").unwrap();
        remove_tree(&path).unwrap();
        assert!(!path.exists());
        remove_file_if_there(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_goes_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, link) = (dir.path().join("kept"), dir.path().join("link"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(fs::symlink_metadata(&link).is_err());
        assert!(kept.join("file").exists());
    }
}
