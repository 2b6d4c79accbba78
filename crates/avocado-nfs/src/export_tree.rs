use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use avocado_fs::{AtPath as _, PathError, remove_tree};
use rustix::fs::OFlags;

use crate::error::NfsError;

/// At the root of an export, what tells one state of it from the next. `avocadoctl` looks at it.
pub const REVISION_FILE: &str = ".avocado-hitl-revision";

/// What of a tree extensions extend, and is exported.
const PARTS: [&str; 3] = ["usr", "opt", "etc"];

/// A copy of a tree that clients can stay with while the tree itself is built anew.
///
/// What is the same stays the same file. So does a file of data whose bytes change: a client sees
/// them as soon as it asks for its attributes again. A program or a library gets a new file under the
/// old name, so that what runs from the old one goes on with it; who looks up the name meanwhile may
/// be told that its file is stale, until the client has merged again.
#[derive(Debug)]
pub struct ExportTree {
    source: PathBuf,
    place: PathBuf,
    /// For what is being written, on the same file system.
    scratch: PathBuf,
    /// What the source was when it was copied.
    copied: Option<SourceState>,
}

/// By this one built tree is told from the next: each is a new directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SourceState {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl SourceState {
    fn of(path: &Path) -> Result<Self, NfsError> {
        let found = fs::symlink_metadata(path).at("read", path)?;
        Ok(SourceState {
            device: found.dev(),
            inode: found.ino(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl ExportTree {
    /// An export of `source` at `place`. `scratch` is a directory on the same file system that nobody
    /// else uses.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn new(source: PathBuf, place: PathBuf, scratch: PathBuf) -> Result<Self, NfsError> {
        for directory in [&place, &scratch] {
            fs::create_dir_all(directory).at("make", directory)?;
        }
        set_mode(&place, 0o755)?;
        Ok(ExportTree {
            source,
            place,
            scratch,
            copied: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Makes the copy be what the source is now. Returns whether anything of it is new.
    ///
    /// # Errors
    /// Something cannot be read or written, or is of a kind that cannot be exported. The copy may be
    /// of both states then; the next call goes on.
    pub fn update(&mut self) -> Result<bool, NfsError> {
        let state = SourceState::of(&self.source)?;
        if self.copied == Some(state) {
            return Ok(false);
        }
        self.copied = None;
        let mut changed = false;
        for part in PARTS {
            let (from, to) = (self.source.join(part), self.place.join(part));
            changed |= match fs::symlink_metadata(&from) {
                Ok(found) => self.entry(&from, &to, &found)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => remove(&to)?,
                Err(source) => {
                    return Err(PathError {
                        action: "read",
                        path: from,
                        source,
                    }
                    .into());
                }
            };
        }
        if changed {
            self.count()?;
        }
        self.copied = Some(state);
        Ok(changed)
    }

    /// Writes down that this state is another one. The time makes it another one too where the
    /// server was started anew.
    fn count(&self) -> Result<(), NfsError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let (new, path) = (self.new_file(), self.place.join(REVISION_FILE));
        fs::write(&new, format!("{now}\n")).at("write", &new)?;
        fs::rename(&new, &path).at("write", &path)?;
        Ok(())
    }

    fn new_file(&self) -> PathBuf {
        self.scratch.join("new")
    }

    fn entry(&self, from: &Path, to: &Path, found: &Metadata) -> Result<bool, NfsError> {
        let kind = found.file_type();
        if kind.is_dir() {
            self.directory(from, to, found)
        } else if kind.is_symlink() {
            self.link(from, to)
        } else if kind.is_file() {
            self.file(from, to, found)
        } else {
            Err(NfsError::Kind {
                path: from.to_owned(),
            })
        }
    }

    fn directory(&self, from: &Path, to: &Path, found: &Metadata) -> Result<bool, NfsError> {
        let mut changed = false;
        if !fs::symlink_metadata(to).is_ok_and(|there| there.is_dir()) {
            remove(to)?;
            fs::create_dir(to).at("make", to)?;
            changed = true;
        }
        let names = names(from)?;
        for old in self::names(to)?.difference(&names) {
            changed |= remove(&to.join(old))?;
        }
        for name in names {
            let (from, to) = (from.join(&name), to.join(&name));
            let found = fs::symlink_metadata(&from).at("read", &from)?;
            changed |= self.entry(&from, &to, &found)?;
        }
        changed |= set_mode(to, found.mode())?;
        Ok(changed)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool, NfsError> {
        let target = fs::read_link(from).at("read", from)?;
        if fs::read_link(to).is_ok_and(|there| there == target) {
            return Ok(false);
        }
        let new = self.new_file();
        remove(&new)?;
        symlink(&target, &new).at("write", &new)?;
        self.put(&new, to)
    }

    fn file(&self, from: &Path, to: &Path, found: &Metadata) -> Result<bool, NfsError> {
        let source = open(from)?;
        let there = fs::symlink_metadata(to).ok();
        let there = there.filter(|there| there.is_file() && there.len() == found.len());
        if there.is_some() && same_bytes(&source, &open(to)?).at("compare", to)? {
            return set_mode(to, found.mode());
        }
        // Read from the beginning, whatever the comparison has read.
        let mut source = open(from)?;
        let is_data = found.mode() & EXECUTABLE == 0 && !is_elf(&mut open(from)?);
        let stays = fs::symlink_metadata(to).is_ok_and(|there| there.is_file()) && is_data;
        let new = self.new_file();
        let place = if stays { to } else { new.as_path() };
        let mut target = if stays {
            OpenOptions::new().write(true).open(to).at("write", to)?
        } else {
            remove(&new)?;
            File::create_new(&new).at("write", &new)?
        };
        let length = io::copy(&mut source, &mut target).at("copy", from)?;
        target.set_len(length).at("write", place)?;
        set_mode(place, found.mode())?;
        if let Ok(time) = found.modified() {
            target.set_modified(time).at("write", place)?;
        }
        if stays { Ok(true) } else { self.put(&new, to) }
    }

    fn put(&self, new: &Path, to: &Path) -> Result<bool, NfsError> {
        if fs::symlink_metadata(to).is_ok_and(|there| there.is_dir()) {
            remove(to)?;
        }
        fs::rename(new, to).at("write", to)?;
        Ok(true)
    }
}

fn open(path: &Path) -> Result<File, NfsError> {
    let mut how = OpenOptions::new();
    // What became a link meanwhile is not followed.
    let how = how
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    Ok(how.open(path).at("read", path)?)
}

/// The permissions of which one makes a program.
const EXECUTABLE: u32 = 0o111;

/// Whether a file may be mapped by what runs: its first bytes are those of a program or library.
fn is_elf(file: &mut File) -> bool {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF"
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>, NfsError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).at("read", directory)? {
        names.insert(entry.at("read", directory)?.file_name());
    }
    Ok(names)
}

/// Removes whatever is at `path`. Returns whether anything was.
fn remove(path: &Path) -> Result<bool, NfsError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(false);
    }
    remove_tree(path)?;
    Ok(true)
}

/// Gives a file or directory the permissions of `mode`. Returns whether it had others.
fn set_mode(path: &Path, mode: u32) -> Result<bool, NfsError> {
    const PERMISSIONS: u32 = 0o7777;
    let there = fs::symlink_metadata(path).at("read", path)?.mode();
    if there & PERMISSIONS == mode & PERMISSIONS {
        return Ok(false);
    }
    let mode = fs::Permissions::from_mode(mode & PERMISSIONS);
    fs::set_permissions(path, mode).at("change", path)?;
    Ok(true)
}

fn same_bytes(mut one: &File, mut other: &File) -> io::Result<bool> {
    const STEP: usize = 64 << 10;
    let (mut a, mut b) = (vec![0; STEP], vec![0; STEP]);
    loop {
        let read = one.read(&mut a)?;
        let (Some(a), Some(b)) = (a.get(..read), b.get_mut(..read)) else {
            return Ok(false);
        };
        match other.read_exact(b) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if a != b {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        dir: tempfile::TempDir,
        tree: ExportTree,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            fs::create_dir_all(at("source/usr/bin")).unwrap();
            let tree = ExportTree::new(at("source"), at("place"), at("scratch")).unwrap();
            Case { dir, tree }
        }

        fn source(&self, name: &str) -> PathBuf {
            self.dir.path().join("source").join(name)
        }

        fn place(&self, name: &str) -> PathBuf {
            self.tree.place().join(name)
        }

        fn revision(&self) -> Option<String> {
            fs::read_to_string(self.place(REVISION_FILE)).ok()
        }

        /// As a build does it: another directory takes the place.
        fn rebuild(&mut self, change: impl FnOnce(&Path)) -> bool {
            let (old, new) = (self.source(""), self.dir.path().join("next"));
            let copy = std::process::Command::new("cp")
                .args(["-a", "--"])
                .args([&old, &new])
                .status();
            assert!(copy.unwrap().success());
            change(&new);
            fs::remove_dir_all(&old).unwrap();
            fs::rename(&new, &old).unwrap();
            self.tree.update().unwrap()
        }
    }

    #[test]
    fn what_is_the_same_stays_and_what_is_not_is_new() {
        let mut case = Case::new();
        fs::write(case.source("usr/bin/same"), "same").unwrap();
        fs::write(case.source("usr/bin/edited"), "before").unwrap();
        fs::write(case.source("usr/bin/data"), "longer before").unwrap();
        fs::write(case.source("usr/bin/library"), b"\x7fELF1").unwrap();
        let program = fs::Permissions::from_mode(0o755);
        fs::set_permissions(case.source("usr/bin/edited"), program).unwrap();
        fs::write(case.source("usr/bin/gone"), "x").unwrap();
        symlink("same", case.source("usr/bin/link")).unwrap();
        fs::create_dir(case.source("var")).unwrap();
        assert!(case.tree.update().unwrap());
        assert!(!case.tree.update().unwrap());
        assert!(!case.place("var").exists());
        let inode = |case: &Case, name: &str| fs::symlink_metadata(case.place(name)).unwrap().ino();
        let old = ["usr", "usr/bin", "usr/bin/same", "usr/bin/link"].map(|n| inode(&case, n));
        let programs = ["usr/bin/edited", "usr/bin/library"].map(|n| inode(&case, n));
        let (data, revision) = (inode(&case, "usr/bin/data"), case.revision().unwrap());
        let mut running = File::open(case.place("usr/bin/edited")).unwrap();

        assert!(!case.rebuild(|_| ()), "nothing has changed");
        assert_eq!(case.revision().unwrap(), revision);

        assert!(case.rebuild(|new| {
            // Of the same length and time, as builds settle it.
            fs::write(new.join("usr/bin/edited"), "after!").unwrap();
            fs::write(new.join("usr/bin/library"), b"\x7fELF2").unwrap();
            fs::write(new.join("usr/bin/data"), "after").unwrap();
            fs::remove_file(new.join("usr/bin/gone")).unwrap();
            fs::create_dir(new.join("etc")).unwrap();
        }));
        let now = ["usr", "usr/bin", "usr/bin/same", "usr/bin/link"].map(|n| inode(&case, n));
        assert_eq!(old, now);
        let news = ["usr/bin/edited", "usr/bin/library"].map(|n| inode(&case, n));
        assert!(programs.iter().zip(news).all(|(old, new)| *old != new));
        assert_eq!(data, inode(&case, "usr/bin/data"));
        assert_eq!(
            fs::read_to_string(case.place("usr/bin/data")).unwrap(),
            "after"
        );
        assert_eq!(
            fs::read_to_string(case.place("usr/bin/edited")).unwrap(),
            "after!"
        );
        let mut text = String::new();
        running.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before");
        assert!(!case.place("usr/bin/gone").exists() && case.place("etc").is_dir());
        assert_ne!(case.revision().unwrap(), revision);
    }

    #[test]
    fn kinds_and_modes_change_too() {
        let mut case = Case::new();
        fs::write(case.source("usr/a"), "file").unwrap();
        fs::create_dir(case.source("usr/b")).unwrap();
        fs::write(case.source("usr/b/c"), "").unwrap();
        case.tree.update().unwrap();
        assert!(case.rebuild(|new| {
            fs::remove_file(new.join("usr/a")).unwrap();
            fs::create_dir(new.join("usr/a")).unwrap();
            fs::remove_dir_all(new.join("usr/b")).unwrap();
            symlink("/etc", new.join("usr/b")).unwrap();
        }));
        assert!(case.place("usr/a").is_dir());
        assert_eq!(
            fs::read_link(case.place("usr/b")).unwrap(),
            Path::new("/etc")
        );
        assert!(case.rebuild(|new| {
            fs::set_permissions(new.join("usr/a"), fs::Permissions::from_mode(0o2750)).unwrap();
            fs::remove_file(new.join("usr/b")).unwrap();
        }));
        assert_eq!(
            fs::metadata(case.place("usr/a")).unwrap().mode() & 0o7777,
            0o2750
        );
        assert!(case.rebuild(|new| fs::remove_dir_all(new.join("usr")).unwrap()));
        assert!(!case.place("usr").exists());
    }

    #[test]
    fn what_cannot_be_exported_is_named() {
        let mut case = Case::new();
        let socket = case.source("usr/socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = case.tree.update().unwrap_err();
        assert!(error.to_string().contains("usr/socket"), "{error}");
    }
}
