//! What the file system says of a tree. Where that is what it was, the contents are too, and need not
//! be read again.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avocado_manifest::{Digest, DigestHasher};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, openat, statat};
use rustix::path::Arg;

use super::{CopyModes, is};
use crate::error::{At as _, BuildError};

/// The change times of files have steps of at most 10 ms on Linux: what is written to a file this
/// long after its change time gives it another one.
const STEP: Duration = Duration::from_millis(20);
/// Where a file system has whole seconds only.
const COARSE_STEP: Duration = Duration::from_secs(2);

/// The digest of what the file system says of everything in a tree, read before its contents are.
/// None where a file changed so shortly before that it may change again without another change time.
pub(crate) fn state_before_reading(root: &Path) -> Result<Option<Digest>, BuildError> {
    let found = Walk::of_result(root)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let is_settled = now.is_ok_and(|now| is_settled(found.newest_file, now));
    Ok(is_settled.then(|| found.state()))
}

/// The same of a directory of the project, to be known in later runs; none where it is no directory,
/// or where something changed at `settled` (in seconds since 1970) or later. How it is digested is part
/// of its state.
pub(super) fn state_of_project(
    directory: &Path,
    modes: CopyModes,
    settled: i64,
) -> Result<Option<Digest>, BuildError> {
    let mut found = Walk::of_project(directory)?;
    found.text.push(b'm');
    if let CopyModes::Checkout(mode) = modes {
        found.text.extend_from_slice(&mode.to_le_bytes());
    }
    let is_settled = i64::try_from(found.newest.as_secs()).is_ok_and(|newest| newest < settled);
    Ok((found.is_directory && is_settled).then(|| found.state()))
}

/// Whether the tree is what it was when that was its state.
pub(crate) fn has_state(root: &Path, state: Option<Digest>) -> Result<bool, BuildError> {
    match state {
        Some(state) => Ok(Walk::of_result(root)?.state() == state),
        None => Ok(false),
    }
}

fn is_settled(newest: Duration, now: Duration) -> bool {
    let step = if newest.subsec_nanos() == 0 {
        COARSE_STEP
    } else {
        STEP
    };
    newest + step < now
}

/// How much of a directory the system tells at once.
const DIRECTORY_BUFFER: usize = 64 * 1024;
/// How much is hashed at once.
const HASHED: usize = 16 * 1024;

/// What the file system says of a tree: a walk that asks of each file one thing, for it stands for
/// reading the file.
struct Walk {
    hasher: DigestHasher,
    /// What is to be hashed next.
    text: Vec<u8>,
    /// The newest change time of anything in it.
    newest: Duration,
    /// That of anything but directories.
    newest_file: Duration,
    is_directory: bool,
}

impl Walk {
    /// A tree that is put at its place by a rename, which gives it, and nothing in it, another change
    /// time.
    fn of_result(root: &Path) -> Result<Self, BuildError> {
        Walk::new(root, false)
    }

    fn of_project(root: &Path) -> Result<Self, BuildError> {
        Walk::new(root, true)
    }

    fn new(root: &Path, counts_change_of_root: bool) -> Result<Self, BuildError> {
        let mut walk = Walk {
            hasher: DigestHasher::default(),
            text: Vec::with_capacity(2 * HASHED),
            newest: Duration::ZERO,
            newest_file: Duration::ZERO,
            is_directory: false,
        };
        let mut found = look(CWD, root).at("look at", root)?;
        if !counts_change_of_root {
            (found.st_ctime, found.st_ctime_nsec) = (0, 0);
        }
        walk.is_directory = is(&found, FileType::Directory);
        walk.add(b"", &found);
        if walk.is_directory {
            let root_directory = open_directory(CWD, root).at("read", root)?;
            walk.add_below(root, &root_directory)?;
        }
        Ok(walk)
    }

    /// One directory after the other, of which one is open at a time, however deep they are.
    fn add_below(&mut self, root: &Path, root_directory: &OwnedFd) -> Result<(), BuildError> {
        let mut names = Names::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let opened;
            let directory = if path.as_os_str().is_empty() {
                root_directory
            } else {
                opened = open_directory(root_directory, &path).at("read", &root.join(&path))?;
                &opened
            };
            names.read(directory).at("read", &root.join(&path))?;
            self.text.push(b'd');
            self.text.extend_from_slice(path.as_os_str().as_bytes());
            self.text.push(0);
            for name in names.sorted() {
                let own = || path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
                let found = look(directory, name);
                let found = found.map_err(|source| BuildError::Io {
                    action: "look at",
                    path: root.join(own()),
                    source,
                })?;
                self.add(name.to_bytes(), &found);
                if is(&found, FileType::Directory) {
                    pending.push(own());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], found: &Stat) {
        self.text.push(b'e');
        self.text.extend_from_slice(name);
        self.text.push(0);
        for number in [
            found.st_dev,
            found.st_ino,
            wide(found.st_mode),
            wide(found.st_nlink),
            found.st_size as u64,
            found.st_mtime as u64,
            wide(found.st_mtime_nsec),
            found.st_ctime as u64,
            wide(found.st_ctime_nsec),
        ] {
            self.text.extend_from_slice(&number.to_le_bytes());
        }
        if self.text.len() >= HASHED {
            self.hasher.update(&self.text);
            self.text.clear();
        }
        let changed = Duration::new(
            u64::try_from(found.st_ctime).unwrap_or(0),
            u32::try_from(found.st_ctime_nsec).unwrap_or(0),
        );
        self.newest = self.newest.max(changed);
        if !is(found, FileType::Directory) {
            self.newest_file = self.newest_file.max(changed);
        }
    }

    fn state(mut self) -> Digest {
        self.hasher.update(&self.text);
        self.hasher.finish()
    }
}

/// Whatever it is on this architecture.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

fn look(at: impl AsFd, path: impl Arg) -> io::Result<Stat> {
    Ok(statat(at, path, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn open_directory(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// The names in a directory, in the memory of those before.
struct Names {
    buffer: Vec<MaybeUninit<u8>>,
    /// One after the other, each with a zero at its end.
    text: Vec<u8>,
    /// Where each is.
    places: Vec<(usize, usize)>,
}

impl Names {
    fn new() -> Self {
        Names {
            buffer: vec![MaybeUninit::uninit(); DIRECTORY_BUFFER],
            text: Vec::new(),
            places: Vec::new(),
        }
    }

    fn read(&mut self, directory: &OwnedFd) -> io::Result<()> {
        self.text.clear();
        self.places.clear();
        let mut entries = RawDir::new(directory, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let start = self.text.len();
            self.text.extend_from_slice(name.to_bytes_with_nul());
            self.places.push((start, self.text.len()));
        }
        let text = &self.text;
        self.places
            .sort_unstable_by(|a, b| text[a.0..a.1].cmp(&text[b.0..b.1]));
        Ok(())
    }

    fn sorted(&self) -> impl Iterator<Item = &CStr> {
        let names = self
            .places
            .iter()
            .map(|(start, end)| &self.text[*start..*end]);
        names.filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::trees::Tree;

    #[test]
    fn a_state_is_that_of_this_tree_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
        tree.write("d/f", "1", 0o644).unwrap();
        tree.write("d/g", "2", 0o644).unwrap();
        symlink("f", tree.shown("d/l")).unwrap();
        let mut seen = vec![Walk::of_result(tree.path()).unwrap().state()];
        let file = tree.shown("d/f");
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(&file, "22").unwrap(),
            &|| tree.set_time("d/f", 1).unwrap(),
            // The same content in another file.
            &|| tree.write("d/g", "2", 0o644).unwrap(),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap(),
            &|| fs::hard_link(&file, tree.shown("d/h")).unwrap(),
            &|| fs::rename(tree.shown("d/h"), tree.shown("d/i")).unwrap(),
        ];
        for (nth, change) in changes.iter().enumerate() {
            change();
            let now = Walk::of_result(tree.path()).unwrap().state();
            assert!(!seen.contains(&now), "{nth}");
            assert!(!has_state(tree.path(), seen.last().copied()).unwrap());
            assert!(has_state(tree.path(), Some(now)).unwrap());
            seen.push(now);
        }
        assert!(!has_state(tree.path(), None).unwrap());
        // As a result is put in its place.
        let place = dir.path().join("place");
        fs::rename(tree.path(), &place).unwrap();
        assert!(has_state(&place, seen.last().copied()).unwrap());
    }

    #[test]
    fn a_file_that_changed_just_now_may_change_again() {
        for (changed, now, settled) in [
            (1500, 1510, false),
            (1500, 1530, true),
            (1500, 1400, false),
            // Of a file system that has whole seconds only, or by chance.
            (1000, 1530, false),
            (1000, 3001, true),
        ] {
            let [changed, now] = [changed, now].map(Duration::from_millis);
            assert_eq!(is_settled(changed, now), settled, "{changed:?} {now:?}");
        }
    }
}
