//! What a thread does to one store, call by call, and the end of its life.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A change. Paths are absolute when they are told, and relative to the store in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// With the number that the file system gave the file.
    Create(PathBuf, u64),
    Append(PathBuf, Vec<u8>),
    Sync(PathBuf),
    SyncDir(PathBuf),
    MakeDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Op {
    /// A file that was just created.
    pub(crate) fn create(path: &Path) -> Self {
        Op::Create(path.into(), number(path))
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Op::Rename(from, to) => vec![from, to],
            // What a link says is no path of ours.
            Op::Create(path, _)
            | Op::Append(path, _)
            | Op::Sync(path)
            | Op::SyncDir(path)
            | Op::MakeDir(path)
            | Op::Link(path, _)
            | Op::Remove(path) => vec![path],
        }
    }
}

struct Recorder {
    base: PathBuf,
    ops: Vec<Op>,
    /// How many changes the thread may still make.
    left: Option<usize>,
    /// What those who are not recorded had written, by path.
    foreign: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Records what this thread does to the store at `base` while `work` runs, which may make no more
/// than `limit` changes.
pub(crate) fn of<T>(base: &Path, limit: Option<usize>, work: impl FnOnce() -> T) -> (T, Vec<Op>) {
    RECORDER.set(Some(Recorder {
        base: base.into(),
        ops: Vec::new(),
        left: limit,
        foreign: foreign_state(&base.join("metadata"))
            .into_iter()
            .chain(foreign_state(&base.join(".update-staging")))
            .collect(),
    }));
    let result = work();
    let recorder = RECORDER.take().unwrap();
    (result, recorder.ops)
}

pub(crate) fn alive() -> io::Result<()> {
    RECORDER.with_borrow_mut(|recorder| match recorder {
        Some(Recorder { left: Some(0), .. }) => Err(io::Error::other("killed")),
        _ => Ok(()),
    })
}

pub(crate) fn push(mut op: Op) {
    RECORDER.with_borrow_mut(|recorder| {
        let Some(recorder) = recorder else { return };
        for path in op.paths() {
            match path.strip_prefix(&recorder.base) {
                Ok(inside) => *path = inside.into(),
                // The directory above the store, or another place altogether.
                Err(_) => return,
            }
        }
        recorder.ops.push(op);
        recorder.left = recorder.left.map(|left| left.saturating_sub(1));
    });
}

/// Every path below `dir`, with the bytes of files.
fn foreign_state(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let Ok(meta) = fs::symlink_metadata(dir) else {
        return all;
    };
    if meta.is_dir() {
        all.insert(dir.into(), None);
        for entry in fs::read_dir(dir).unwrap() {
            all.append(&mut foreign_state(&entry.unwrap().path()));
        }
    } else {
        all.insert(dir.into(), Some(fs::read(dir).unwrap()));
    }
    all
}

/// Adds what the repository's client has written below `dir` since the last time. It keeps its
/// metadata by temporary file, sync, rename and sync of the directory, and it syncs a download
/// when that is complete, beside which there is a note while it is not.
pub(crate) fn foreign(dir: &Path) {
    let Some(before) = RECORDER.with_borrow(|r| r.as_ref().map(|r| r.foreign.clone())) else {
        return;
    };
    let now = foreign_state(dir);
    for (path, content) in &now {
        if before.get(path) == Some(content) {
            continue;
        }
        let parent = path.parent().unwrap();
        let Some(bytes) = content else {
            if !before.contains_key(path) && !path.ends_with(".update-staging") {
                push(Op::MakeDir(path.clone()));
            }
            continue;
        };
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        let append = |path: &Path, bytes: &[u8]| push(Op::Append(path.into(), bytes.into()));
        if parent.ends_with(".update-staging") {
            let mut note = path.as_os_str().to_owned();
            note.push(".resume");
            let note = PathBuf::from(note);
            if before.contains_key(path) {
                push(Op::Remove(path.clone()));
            }
            push(Op::create(path));
            push(Op::Create(note.clone(), 0));
            append(&note, b"{}");
            append(path, half);
            append(path, rest);
            push(Op::Sync(path.clone()));
            push(Op::Remove(note));
        } else {
            let temporary = parent.join(".new");
            push(Op::Create(temporary.clone(), number(path)));
            append(&temporary, half);
            append(&temporary, rest);
            push(Op::Sync(temporary.clone()));
            push(Op::Rename(temporary, path.clone()));
            push(Op::SyncDir(parent.into()));
        }
    }
    RECORDER.with_borrow_mut(|recorder| {
        let foreign = &mut recorder.as_mut().unwrap().foreign;
        foreign.retain(|path, _| !path.starts_with(dir));
        foreign.extend(now);
    });
}

fn number(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.ino())
}
