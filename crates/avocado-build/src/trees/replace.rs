//! Making a result beside its place, and putting it there when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_fs::{Durability, WriteOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{At as _, BuildError};

/// Removes whatever is at `path`; nothing there is fine.
pub(crate) fn clear(path: &Path) -> Result<(), BuildError> {
    Ok(avocado_fs::remove_tree(path)?)
}

/// Makes an empty directory at `path`, whatever was there.
pub(crate) fn fresh(path: &Path) -> Result<(), BuildError> {
    clear(path)?;
    fs::create_dir_all(path).at("create", path)
}

/// The name under which a result is made before it takes its place.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    hidden(path, ".new")
}

/// A name beside `path` that nothing of a project can have: those never start with a dot.
pub(crate) fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// Puts the finished directory or file `new` in the place of `path`. An interruption leaves the old or
/// the new there, never a part; where the file system cannot exchange two names in one go (NFS cannot),
/// it may leave nothing there, and the old beside it, for [`recover`].
pub(crate) fn replace(new: &Path, path: &Path) -> Result<(), BuildError> {
    let old = hidden(path, ".old");
    match exchange(new, path) {
        Ok(()) => clear(new)?,
        // Nothing is there yet, or nothing new, which the error will tell.
        Err(Errno::NOENT) => fs::rename(new, path).at("move", new)?,
        Err(_) => replace_in_two(new, path, &old)?,
    }
    clear(&old)
}

fn exchange(new: &Path, path: &Path) -> Result<(), Errno> {
    renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE)
}

fn replace_in_two(new: &Path, path: &Path, old: &Path) -> Result<(), BuildError> {
    clear(old)?;
    fs::rename(path, old).at("move", path)?;
    fs::rename(new, path).at("move", new).inspect_err(|_| {
        // The error is the one to tell; what cannot go back is recovered by the next run.
        let _ = fs::rename(old, path);
    })
}

/// Puts each directory in `parent` back in its place that a killed [`replace`] moved away, where nothing
/// has the place yet.
pub(crate) fn recover(parent: &Path) -> Result<(), BuildError> {
    for (old, path) in put_away(parent)? {
        match fs::rename(&old, &path) {
            Ok(()) => {}
            // The new one is there. (An empty directory is none: waiting for the lock makes one.)
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => clear(&old)?,
            Err(e) => return Err(e).at("move", &old),
        }
    }
    Ok(())
}

/// What killed [`replace`]s have put away in `parent`, each with the place that it was in.
pub(crate) fn put_away(parent: &Path) -> Result<Vec<(PathBuf, PathBuf)>, BuildError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.at("read", parent)?,
    };
    for entry in entries {
        let old = entry.at("read", parent)?.path();
        if let Some(path) = place_of(&old) {
            found.push((old, path));
        }
    }
    Ok(found)
}

/// The place of what [`replace`] has put away under this name.
fn place_of(old: &Path) -> Option<PathBuf> {
    let name = old.file_name()?.to_str()?;
    let name = name.strip_prefix('.')?.strip_suffix(".old")?;
    (!name.is_empty()).then(|| old.with_file_name(name))
}

/// Writes a file in one step: a reader sees the old content or the new. Nothing is brought to the
/// disk, for what is written so is made again when a power cut has spoiled it.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), BuildError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    let options = WriteOptions::new().durability(Durability::None);
    Ok(options.write(path, bytes.as_ref())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = entries
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_result_is_made_under_a_name_that_no_project_has() {
        let path = Path::new("/s/rootfs");
        assert_eq!(unfinished(path), Path::new("/s/.rootfs.new"));
        assert_eq!(hidden(path, ".old"), Path::new("/s/.rootfs.old"));
    }

    #[test]
    fn a_result_replaces_whatever_was_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (place, new) = (dir.path().join("r"), dir.path().join(".r.new"));
        let finish = |content: &str| {
            fresh(&new).unwrap();
            fs::write(new.join(content), "").unwrap();
            // What a killed process left behind on its way.
            fs::create_dir_all(dir.path().join(".r.old/x")).unwrap();
            replace(&new, &place).unwrap();
            assert_eq!(names(dir.path()), ["r"]);
        };
        finish("first");
        assert_eq!(names(&place), ["first"]);
        finish("second");
        assert_eq!(names(&place), ["second"]);
        clear(&place).unwrap();
        fs::write(&place, "a file").unwrap();
        finish("third");
        assert_eq!(names(&place), ["third"]);
        // Nothing was made: what is there stays findable.
        let error = replace(&new, &place).unwrap_err().to_string();
        assert!(error.contains(".r.new"), "{error}");
    }

    #[test]
    fn there_is_always_one_of_the_two() {
        let dir = tempfile::tempdir().unwrap();
        let (place, new) = (dir.path().join("r"), dir.path().join(".r.new"));
        fresh(&place).unwrap();
        fresh(&new).unwrap();
        fs::write(new.join("second"), "").unwrap();
        // Whoever looks all the time never finds nothing.
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(place.exists());
                }
            });
            for _ in 0..2000 {
                fs::create_dir_all(&new).unwrap();
                replace(&new, &place).unwrap();
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
            looks.join().unwrap();
        });
        assert_eq!(names(dir.path()), ["r"]);
    }

    #[test]
    fn what_was_moved_away_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (place, new) = (dir.path().join("r"), dir.path().join(".r.new"));
        let old = dir.path().join(".r.old");
        fresh(&place).unwrap();
        fs::write(place.join("first"), "").unwrap();
        // In two renames, of which the second fails.
        replace_in_two(&new, &place, &old).unwrap_err();
        assert_eq!(names(&place), ["first"]);
        assert_eq!(names(dir.path()), ["r"]);
        // Killed between them; the next run may have made an empty directory.
        for is_made in [false, true] {
            fs::rename(&place, &old).unwrap();
            if is_made {
                fs::create_dir(&place).unwrap();
            }
            recover(dir.path()).unwrap();
            assert_eq!(names(&place), ["first"]);
            assert_eq!(names(dir.path()), ["r"]);
        }
        // Killed behind them.
        fs::create_dir(&old).unwrap();
        fs::write(old.join("old"), "").unwrap();
        recover(dir.path()).unwrap();
        assert_eq!(names(&place), ["first"]);
        assert_eq!(names(dir.path()), ["r"]);
        recover(&dir.path().join("none")).unwrap();
    }

    #[test]
    fn a_fresh_directory_is_empty_and_behind_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, path) = (dir.path().join("outside"), dir.path().join("a/b"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        fresh(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        fresh(&path).unwrap();
        assert!(names(&path).is_empty());
        clear(&path).unwrap();
        symlink(&outside, &path).unwrap();
        fresh(&path).unwrap();
        assert!(!path.is_symlink() && path.is_dir());
        assert_eq!(names(&outside), ["kept"]);
    }

    #[test]
    fn a_file_is_written_in_place_of_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, path) = (dir.path().join("outside"), dir.path().join("etc/f"));
        fs::write(&outside, "of the host").unwrap();
        write(&path, "1").unwrap();
        clear(&path).unwrap();
        symlink(&outside, &path).unwrap();
        // Such a link a package may hold as well, where a temporary file could be expected.
        symlink(&outside, unfinished(&path)).unwrap();
        write(&path, "2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert!(!path.is_symlink());
        assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host");
    }
}
