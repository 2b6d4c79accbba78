//! What the scripts of a project may have read: all of its files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use avocado_manifest::{Digest, DigestHasher};
use serde::Serialize;
use walkdir::{DirEntry, WalkDir};

use crate::known_files::KnownFiles;
use crate::trees::{self, CopyModes};

/// How many files are looked at, and how many bytes are read of those that are not known yet, to
/// tell whether a script has to run. Beyond that, running the script costs less than finding out.
const MOST_FILES: u64 = 50_000;
const MOST_BYTES: u64 = 1 << 30;

/// The state of the files that a script can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourcesDigest {
    /// Of their names, kinds, modes and contents.
    Content(Digest),
    /// There are too many of them, or one cannot be read: the script runs each time.
    NotKnown {
        /// In the inputs of a run that is over. What is compared with it says false.
        ran: bool,
    },
}

impl SourcesDigest {
    /// What to record once the script ran.
    pub(crate) fn recorded(self) -> Self {
        match self {
            SourcesDigest::NotKnown { .. } => SourcesDigest::NotKnown { ran: true },
            content @ SourcesDigest::Content(_) => content,
        }
    }

    /// For those who consume what a script made: one that is not known is like no other.
    pub(crate) fn or_unique(self) -> Digest {
        match self {
            SourcesDigest::Content(digest) => digest,
            SourcesDigest::NotKnown { .. } => {
                let now = std::time::SystemTime::now();
                let since = now
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                Digest::of(format!("not known at {since:?}").as_bytes())
            }
        }
    }
}

/// Looks at the files that a script can read.
pub(crate) struct SourceReader<'k> {
    /// How their modes count.
    pub(crate) modes: CopyModes,
    /// What is known of them from earlier runs.
    pub(crate) known: &'k KnownFiles,
    /// What no script sees, wherever it is.
    pub(crate) hidden: Vec<PathBuf>,
    /// The project, which may be anywhere below what is looked at: what its builds write there does
    /// not count.
    pub(crate) project: Option<&'k Path>,
}

impl SourceReader<'_> {
    /// Looks at everything below `directory`, but what builds themselves write there.
    pub(crate) fn read(&self, directory: &Path) -> SourcesDigest {
        let unknown = SourcesDigest::NotKnown { ran: false };
        let content = self.content(directory, MOST_FILES, MOST_BYTES);
        content.map_or(unknown, SourcesDigest::Content)
    }

    fn content(&self, directory: &Path, mut files: u64, mut bytes: u64) -> Option<Digest> {
        let mut hasher = DigestHasher::default();
        let directory = fs::canonicalize(directory).ok()?;
        let hidden = self
            .hidden
            .iter()
            .filter_map(|path| fs::canonicalize(path).ok());
        let hidden: Vec<PathBuf> = hidden.collect();
        let project = self.project.and_then(|path| fs::canonicalize(path).ok());
        let is_seen = |entry: &DirEntry| {
            let parent = entry.path().parent();
            let is_in_project =
                entry.depth() == 1 || parent.is_some() && parent == project.as_deref();
            !(is_in_project && is_of_builds(entry.file_name()))
                && is_source(entry)
                && !hidden.iter().any(|hidden| entry.path() == hidden)
        };
        let walk = WalkDir::new(&directory).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(is_seen) {
            let entry = entry.ok()?;
            files = files.checked_sub(1)?;
            let relative = entry.path().strip_prefix(&directory).ok()?;
            let metadata = entry.metadata().ok()?;
            let mut content = if metadata.is_file() {
                let known = self.known.digest(entry.path(), &metadata, &mut bytes);
                let digest = known.ok()??;
                trees::content_of_file(digest, metadata.len())
            } else {
                trees::content_of_other(entry.path(), &metadata).ok()?
            };
            let attributes = trees::attributes(entry.path(), &metadata).ok()?;
            content.extend(trees::content_of_attributes(&attributes));
            trees::add_entry(&mut hasher, relative, self.modes, &metadata, &content);
        }
        Some(hasher.finish())
    }
}

/// The state of the project's own files, looked at once until a script may have changed it.
///
/// One that was looked at earlier in this run is as good: what changed since then differs from it
/// in the next run.
#[derive(Debug, Default)]
pub(crate) struct ProjectSources(Mutex<Arc<OnceLock<SourcesDigest>>>);

impl ProjectSources {
    /// Steps that want to know it at the same time wait for the first of them to find out, and for
    /// nothing else.
    pub(crate) fn get(&self, directory: &Path, reader: &SourceReader<'_>) -> SourcesDigest {
        let known = Arc::clone(&self.lock());
        *known.get_or_init(|| reader.read(directory))
    }

    /// A script ran.
    pub(crate) fn forget(&self) {
        *self.lock() = Arc::default();
    }

    fn lock(&self) -> MutexGuard<'_, Arc<OnceLock<SourcesDigest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What builds write into the directory of a project: their state, and the lock file, which has
/// another name for a moment.
fn is_of_builds(name: &OsStr) -> bool {
    let is_lock = |name: &str| {
        name == "avocado.lock" || name.starts_with(".avocado.lock.") && name.ends_with(".tmp")
    };
    name == ".avocado" || name.to_str().is_some_and(is_lock)
}

/// Of git only what says which commit and which tags there are, for scripts ask it for a version;
/// its index changes whenever it is looked at.
fn is_source(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let parent = entry.path().parent().and_then(Path::file_name);
    match entry.depth() {
        2 if parent.is_some_and(|parent| parent == ".git") => {
            ["HEAD", "packed-refs", "refs", "shallow"]
                .iter()
                .any(|part| name == *part)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn reader<R>(
        modes: CopyModes,
        hidden: &[PathBuf],
        read: impl FnOnce(&SourceReader<'_>) -> R,
    ) -> R {
        read(&SourceReader {
            modes,
            known: &KnownFiles::new("".into(), "".into()),
            hidden: hidden.to_vec(),
            project: None,
        })
    }

    fn digest(directory: &Path) -> SourcesDigest {
        reader(CopyModes::Checkout(0o644), &[], |reader| {
            reader.read(directory)
        })
    }

    #[test]
    fn every_file_counts_but_what_builds_write() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        fs::write(at("src/main.c"), "1").unwrap();
        fs::write(at(".git/HEAD"), "ref").unwrap();
        let mut seen = vec![digest(directory.path())];
        for name in [
            "src/main.c",
            "src/.avocado",
            "other",
            ".git/refs/tags/v1",
            ".git/HEAD",
        ] {
            fs::write(at(name), "2").unwrap();
            let now = digest(directory.path());
            assert!(!seen.contains(&now), "{name}");
            seen.push(now);
        }
        symlink("main.c", at("src/link")).unwrap();
        let linked = digest(directory.path());
        assert!(!seen.contains(&linked));
        for name in [
            ".avocado/state/x",
            "avocado.lock",
            ".avocado.lock.0123.tmp",
            ".git/index",
            ".git/objects/aa/bb",
        ] {
            fs::write(at(name), "3").unwrap();
        }
        assert_eq!(digest(directory.path()), linked);
        // Written again with what it had.
        fs::write(at("other"), "2").unwrap();
        assert_eq!(digest(directory.path()), linked);
    }

    #[test]
    fn what_no_script_sees_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("team/keys");
        fs::create_dir_all(&keys).unwrap();
        let read = |hidden: &[PathBuf]| {
            reader(CopyModes::Keep, hidden, |reader| {
                reader.read(directory.path())
            })
        };
        let hidden = [keys.clone(), directory.path().join("none")];
        let (before, seen) = (read(&hidden), read(&[]));
        fs::write(keys.join("new.key"), "secret").unwrap();
        assert_eq!(read(&hidden), before);
        assert_ne!(read(&[]), seen);
    }

    #[test]
    fn what_is_too_much_to_read_is_never_the_same() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "12345").unwrap();
        fs::write(directory.path().join("b"), "12345").unwrap();
        let content = |files, bytes| {
            reader(CopyModes::Keep, &[], |reader| {
                reader.content(directory.path(), files, bytes)
            })
        };
        assert!(content(3, 6).is_some());
        assert_eq!((content(2, 6), content(3, 5)), (None, None));
        let missing = digest(&directory.path().join("none"));
        assert_eq!(missing, SourcesDigest::NotKnown { ran: false });
        assert_ne!(missing, missing.recorded());
        assert_ne!(missing.or_unique(), missing.or_unique());
    }
}
