use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{AtPath, PathError};
use crate::recorded::{self, RecordedFile};
use crate::remove::remove_file_if_there;

/// How much of a write has reached the disk when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The bytes and the name: a power cut leaves the new file.
    Full,
    /// The bytes: a power cut leaves the old file or the new one. Of several writes in one
    /// directory, all but the last can do with that, or all of them before one
    /// [`sync_directory`].
    Content,
    /// Nothing: a process that is killed leaves the old file or the new one, but after a power cut
    /// the file may be empty. For what can be made again.
    None,
}

/// Under which name, in the same directory, the new file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporaryName {
    /// One that no other process uses or foresees. A killed process leaves it behind.
    Random,
    /// `.NAME.tmp`. What a killed process left there is removed, so the caller holds a lock that
    /// keeps other writers of the same file out.
    Beside,
    /// This one, for every file in the directory: as [`TemporaryName::Beside`], but a killed
    /// process leaves one file at most, whatever the names of the files that come later.
    Shared(&'static str),
}

/// How a file is replaced.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    mode: Option<u32>,
    temporary: TemporaryName,
    durability: Durability,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions::new()
    }
}

impl WriteOptions {
    /// A mode that follows from the umask, a random temporary name, and everything brought to disk.
    pub const fn new() -> Self {
        WriteOptions {
            mode: None,
            temporary: TemporaryName::Random,
            durability: Durability::Full,
        }
    }

    /// The file gets exactly this mode, whatever the umask and whatever the old one had. (Where
    /// there are no modes, who may read it follows from its directory.)
    #[must_use]
    pub const fn mode(self, mode: u32) -> Self {
        WriteOptions {
            mode: Some(mode),
            ..self
        }
    }

    /// The name under which the new file is made.
    #[must_use]
    pub const fn temporary(self, temporary: TemporaryName) -> Self {
        WriteOptions { temporary, ..self }
    }

    /// How much has to reach the disk.
    #[must_use]
    pub const fn durability(self, durability: Durability) -> Self {
        WriteOptions { durability, ..self }
    }

    /// Replaces the file at `path`: its readers see the old bytes or the new ones. A symbolic link
    /// there is replaced, not followed.
    ///
    /// # Errors
    /// When that is not possible; the old file is still there.
    pub fn write(self, path: &Path, bytes: &[u8]) -> Result<(), PathError> {
        let mut pending = self.create(path)?;
        pending.write_all(bytes).at("write", &pending.path)?;
        pending.commit()
    }

    /// A new file that takes its place at `path` with [`PendingFile::commit`].
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(self, path: &Path) -> Result<PendingFile, PathError> {
        let temporary = self.temporary_path(path);
        if self.temporary != TemporaryName::Random {
            remove_file_if_there(&temporary)?;
        }
        let file = RecordedFile::create_new(&temporary, self.mode).at("create", &temporary)?;
        Ok(PendingFile {
            file,
            path: path.to_owned(),
            durability: self.durability,
            committed: false,
        })
    }

    fn temporary_path(self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        let mut temporary = OsString::from(".");
        match self.temporary {
            TemporaryName::Shared(name) => temporary = name.into(),
            TemporaryName::Beside => {
                temporary.push(name);
                temporary.push(".tmp");
            }
            TemporaryName::Random => {
                temporary.push(name);
                // The keys of a hash map are the randomness that the standard library has.
                let random = RandomState::new().build_hasher().finish();
                temporary.push(format!(".{random:016x}.tmp"));
            }
        }
        path.with_file_name(temporary)
    }
}

/// Replaces the file at `path` and brings it to disk; see [`WriteOptions`].
///
/// # Errors
/// When that is not possible; the old file is still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    WriteOptions::new().write(path, bytes)
}

/// A new file under a temporary name. It is removed when it is dropped before it has its place.
#[derive(Debug)]
pub struct PendingFile {
    file: RecordedFile,
    path: PathBuf,
    durability: Durability,
    committed: bool,
}

impl PendingFile {
    /// The file, to read what was written, or to hand it to other code.
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// Where it is for now.
    pub fn temporary_path(&self) -> &Path {
        self.file.path()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// When it cannot be brought to disk or moved; what was in its place is still there.
    pub fn commit(mut self) -> Result<(), PathError> {
        if self.durability != Durability::None {
            self.file.sync().at("write", &self.path)?;
        }
        recorded::rename(self.file.path(), &self.path).at("write", &self.path)?;
        self.committed = true;
        if self.durability == Durability::Full {
            sync_directory(parent(&self.path))?;
        }
        Ok(())
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led here is the one to tell.
            let _ = recorded::unlink(self.file.path());
        }
    }
}

/// Makes `path` another name of `source`, or a copy where a link is not possible. The bytes are on
/// disk before the name is, which itself is only after [`sync_directory`]. The temporary file in
/// the directory is called `temporary`; the caller holds a lock.
///
/// # Errors
/// When that is not possible; what was at `path` is still there.
pub fn link_or_copy(source: &Path, path: &Path, temporary: &'static str) -> Result<(), PathError> {
    let options = WriteOptions::new()
        .mode(0o644)
        .temporary(TemporaryName::Shared(temporary))
        .durability(Durability::Content);
    let linked = options.temporary_path(path);
    remove_file_if_there(&linked)?;
    let mut original = File::open(source).at("open", source)?;
    if recorded::hard_link(source, &linked).is_err() {
        let mut copy = options.create(path)?;
        io::copy(&mut original, &mut copy).at("copy", source)?;
        return copy.commit();
    }
    original.sync_all().at("write", source)?;
    recorded::rename(&linked, path).at("write", path)?;
    // Renaming over another name of the same file does nothing, and leaves the temporary one.
    remove_file_if_there(&linked)
}

/// Creates `directory` and what is missing above it, with `mode` less the umask.
///
/// # Errors
/// When that is not possible.
pub fn create_directories(directory: &Path, mode: u32) -> Result<(), PathError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    #[cfg(not(unix))]
    let _ = mode;
    builder.create(directory).at("create", directory)
}

/// Makes the names in `directory` last. Nothing happens where a directory cannot be opened.
///
/// # Errors
/// When the disk fails.
pub fn sync_directory(directory: &Path) -> Result<(), PathError> {
    recorded::sync_directory(directory).at("sync", directory)
}

/// The directory of `path`, which has a name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file_names, same_file};

    const SHARED: TemporaryName = TemporaryName::Shared(".new");

    #[test]
    fn a_file_is_replaced_and_no_other_is_left() {
        for temporary in [TemporaryName::Random, TemporaryName::Beside, SHARED] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            for durability in [Durability::Full, Durability::Content, Durability::None] {
                let options = WriteOptions::new()
                    .temporary(temporary)
                    .durability(durability);
                let bytes = format!("{durability:?}");
                options.write(&path, bytes.as_bytes()).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
            }
            assert_eq!(file_names(dir.path()).unwrap(), ["a"]);
        }
    }

    #[test]
    fn a_leftover_temporary_is_no_obstacle_and_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for (temporary, left) in [(TemporaryName::Beside, ".a.tmp"), (SHARED, ".new")] {
            fs::write(dir.path().join(left), "half").unwrap();
            let options = WriteOptions::new().temporary(temporary);
            options.write(&a, b"whole").unwrap();
        }
        fs::write(dir.path().join(".new"), "half").unwrap();
        link_or_copy(&a, &b, ".new").unwrap();
        // Once more, now that both are one file.
        link_or_copy(&a, &b, ".new").unwrap();
        assert!(same_file(&a, &b));
        assert_eq!(file_names(dir.path()).unwrap(), ["a", "b"]);
        assert_eq!(fs::read(&b).unwrap(), b"whole");
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_is_the_one_given_or_follows_from_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for given in [0o600, 0o666, 0o755] {
            WriteOptions::new().mode(given).write(&path, b"").unwrap();
            assert_eq!(mode(&path), given);
        }
        let usual = dir.path().join("usual");
        fs::write(&usual, "").unwrap();
        write(&path, b"").unwrap();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kept) = (dir.path().join("a"), dir.path().join("kept"));
        fs::write(&kept, "kept").unwrap();
        let link = |name: &str| std::os::unix::fs::symlink(&kept, dir.path().join(name)).unwrap();
        link("a");
        link(".new");
        WriteOptions::new()
            .temporary(SHARED)
            .write(&path, b"new")
            .unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"kept");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory-in-the-way");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        let error = write(&path, b"new").unwrap_err();
        assert_eq!(error.path, path);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_given_up_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut pending = WriteOptions::new().create(&path).unwrap();
        pending.write_all(b"half").unwrap();
        assert_eq!(fs::read(pending.temporary_path()).unwrap(), b"half");
        drop(pending);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_without_a_directory_is_in_the_current_one() {
        assert_eq!(parent(Path::new("a")), Path::new("."));
        assert_eq!(parent(Path::new("/a")), Path::new("/"));
        assert_eq!(parent(Path::new("b/a")), Path::new("b"));
    }
}
