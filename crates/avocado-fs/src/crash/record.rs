//! What a thread does to one directory, call by call, and the end of its life.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One change of a disk. Paths are relative to the directory that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file, with the number that the file system gave it.
    Create(PathBuf, u64),
    /// Bytes at the end of a file.
    Append(PathBuf, Vec<u8>),
    /// Bytes at an offset, over what was there.
    WriteAt(PathBuf, u64, Vec<u8>),
    /// A file was cut off, or extended with zeros.
    SetLength(PathBuf, u64),
    /// The bytes of a file last.
    Sync(PathBuf),
    /// The names in a directory last.
    SyncDirectory(PathBuf),
    /// A directory.
    MakeDirectory(PathBuf),
    /// A name, and the one that it became.
    Rename(PathBuf, PathBuf),
    /// A symbolic link, and what it says.
    Symlink(PathBuf, PathBuf),
    /// A name, and the other one of the same file.
    HardLink(PathBuf, PathBuf),
    /// The name of a file, a symbolic link or an empty directory is gone.
    Remove(PathBuf),
}

impl Op {
    /// A file that was just created.
    pub(crate) fn create(path: &Path) -> Self {
        let number = fs::symlink_metadata(path).map_or(0, |meta| meta.ino());
        Op::Create(path.into(), number)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Op::Rename(a, b) | Op::HardLink(a, b) => vec![a, b],
            // What a symbolic link says is no path of ours.
            Op::Create(path, _)
            | Op::Append(path, _)
            | Op::WriteAt(path, _, _)
            | Op::SetLength(path, _)
            | Op::Sync(path)
            | Op::SyncDirectory(path)
            | Op::MakeDirectory(path)
            | Op::Symlink(path, _)
            | Op::Remove(path) => vec![path],
        }
    }
}

/// Records what the current thread does to one directory.
#[derive(Debug)]
pub struct Recorder {
    base: PathBuf,
    /// Files and devices elsewhere, and the names that they have in the record.
    aliases: Vec<(PathBuf, PathBuf)>,
    ops: Vec<Op>,
    /// How many changes the thread may still make.
    left: Option<usize>,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

impl Recorder {
    /// Records what is done below `base`, and nothing else.
    pub fn new(base: &Path) -> Self {
        Recorder {
            base: base.into(),
            aliases: Vec::new(),
            ops: Vec::new(),
            left: None,
        }
    }

    /// Records what is done to the file or device at `path` as well, as if it were `name` in the
    /// directory.
    #[must_use]
    pub fn alias(mut self, path: &Path, name: &str) -> Self {
        self.aliases.push((path.into(), name.into()));
        self
    }

    /// Lets the work make so many changes. Every call after them fails, and changes nothing.
    #[must_use]
    pub fn limit(mut self, changes: usize) -> Self {
        self.left = Some(changes);
        self
    }

    /// Does the work; what it answered, and what it did.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> (T, Vec<Op>) {
        assert!(
            RECORDER.replace(Some(self)).is_none(),
            "one recorder at a time"
        );
        let result = work();
        let recorder = RECORDER.take();
        (result, recorder.map(|r| r.ops).unwrap_or_default())
    }

    fn add(&mut self, mut op: Op) {
        for path in op.paths() {
            match self.inside(path) {
                Some(inside) => *path = inside,
                // The directory above, or another place altogether.
                None => return,
            }
        }
        self.ops.push(op);
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// The path in the record; none for a place that is not recorded.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == path);
        match alias {
            Some((_, name)) => Some(name.clone()),
            None => path.strip_prefix(&self.base).ok().map(Into::into),
        }
    }
}

/// Whether the work goes on.
pub(crate) fn may_act() -> io::Result<()> {
    RECORDER.with_borrow(|recorder| match recorder {
        Some(Recorder { left: Some(0), .. }) => Err(io::Error::other("killed")),
        _ => Ok(()),
    })
}

/// Adds a change to the record of this thread, if there is one.
pub(crate) fn push(op: Op) {
    RECORDER.with_borrow_mut(|recorder| {
        let Some(recorder) = recorder else { return };
        match &op {
            // The name of a file from elsewhere: in here it is a new file, whole at once.
            Op::HardLink(path, original) if recorder.inside(original).is_none() => {
                let bytes = fs::read(path).unwrap();
                recorder.add(Op::create(path));
                recorder.add(Op::Append(path.clone(), bytes));
                recorder.add(Op::Sync(path.clone()));
            }
            _ => recorder.add(op),
        }
    });
}
