//! The digests of files that are looked at in every run and seldom change: those of the project.
//! A file that the file system says is the same as before is not read again.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use avocado_manifest::Digest;

/// A file that changed this short a time before it was read may change once more without another
/// change time: clocks of file systems are that coarse. In seconds.
const SETTLED: i64 = 2;
/// How many files are remembered of earlier runs that this one did not look at.
const MOST_OTHERS: usize = 100_000;
/// The first line of the file.
const FORMAT: &str = "avocado known files 1";

/// What the file system says of a file. Nothing changes its content and leaves this as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        FileState {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    /// Of earlier runs. `None`: not read yet.
    earlier: Option<HashMap<FileState, Digest>>,
    /// What this run asked for.
    seen: HashMap<FileState, Digest>,
    /// This run found out something.
    is_new: bool,
}

/// The digests of files, remembered over runs.
#[derive(Debug)]
pub(crate) struct KnownFiles {
    place: PathBuf,
    settled: i64,
    known: Mutex<Known>,
}

impl KnownFiles {
    /// Remembered in the file `place`, which may be removed at any time.
    pub(crate) fn new(place: PathBuf) -> Self {
        KnownFiles {
            place,
            settled: SETTLED,
            known: Mutex::default(),
        }
    }

    /// The digest of a regular file, and how many bytes were read to know it; `None` where that
    /// would have been more than `most`.
    pub(crate) fn digest(
        &self,
        path: &Path,
        metadata: &Metadata,
        most: u64,
    ) -> io::Result<Option<(Digest, u64)>> {
        let state = FileState::of(metadata);
        if let Some(digest) = self.find(state) {
            return Ok(Some((digest, 0)));
        }
        let file = File::open(path)?;
        // It may grow while it is read.
        let mut limited = io::Read::take(&file, most.saturating_add(1));
        let (digest, length) = Digest::of_reader(&mut limited)?;
        if length > most {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
        // What was read has to be what was looked at.
        let is_settled = state.changed.0 < now.saturating_sub(self.settled);
        if is_settled && FileState::of(&file.metadata()?) == state {
            let mut known = self.lock();
            known.seen.insert(state, digest);
            known.is_new = true;
        }
        Ok(Some((digest, length)))
    }

    /// Keeps what is known for the next run. That it cannot be kept costs time and nothing else.
    pub(crate) fn save(&self) {
        let known = self.lock();
        if !known.is_new {
            return;
        }
        let earlier = known.earlier.iter().flatten();
        let others = earlier.filter(|(state, _)| !known.seen.contains_key(state));
        let mut text = format!("{FORMAT}\n");
        for (state, digest) in known.seen.iter().chain(others.take(MOST_OTHERS)) {
            let FileState {
                device,
                inode,
                size,
                modified,
                changed,
            } = state;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{device} {inode} {size} {} {} {} {} {digest}",
                modified.0, modified.1, changed.0, changed.1
            );
        }
        let _ = avocado_fs::write(&self.place, text.as_bytes());
    }

    fn find(&self, state: FileState) -> Option<Digest> {
        let mut known = self.lock();
        let Known { earlier, seen, .. } = &mut *known;
        let earlier = earlier.get_or_insert_with(|| read(&self.place));
        let digest = seen.get(&state).or_else(|| earlier.get(&state)).copied()?;
        seen.insert(state, digest);
        Some(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a file that is damaged in any way nothing is known.
fn read(place: &Path) -> HashMap<FileState, Digest> {
    let text = fs::read_to_string(place).unwrap_or_default();
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return HashMap::new();
    }
    lines.map(parse).collect::<Option<_>>().unwrap_or_default()
}

fn parse(line: &str) -> Option<(FileState, Digest)> {
    fn next<T: std::str::FromStr>(words: &mut std::str::Split<'_, char>) -> Option<T> {
        words.next()?.parse().ok()
    }
    let mut words = line.split(' ');
    let state = FileState {
        device: next(&mut words)?,
        inode: next(&mut words)?,
        size: next(&mut words)?,
        modified: (next(&mut words)?, next(&mut words)?),
        changed: (next(&mut words)?, next(&mut words)?),
    };
    let digest = next(&mut words)?;
    words.next().is_none().then_some((state, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that remembers what changed just now.
    fn known(place: &Path) -> KnownFiles {
        KnownFiles {
            settled: -60,
            ..KnownFiles::new(place.to_owned())
        }
    }

    fn read_bytes(known: &KnownFiles, path: &Path) -> u64 {
        let metadata = fs::metadata(path).unwrap();
        let found = known.digest(path, &metadata, 100).unwrap();
        let (digest, read) = found.unwrap();
        assert_eq!(digest, Digest::of(&fs::read(path).unwrap()));
        read
    }

    #[test]
    fn a_file_that_did_not_change_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let (place, file) = (directory.path().join("known"), directory.path().join("f"));
        fs::write(&file, "12345").unwrap();
        let first = known(&place);
        assert_eq!(
            (read_bytes(&first, &file), read_bytes(&first, &file)),
            (5, 0)
        );
        first.save();
        let second = known(&place);
        assert_eq!(read_bytes(&second, &file), 0);
        // It has nothing new to keep.
        fs::remove_file(&place).unwrap();
        second.save();
        assert!(!place.exists());
        first.save();

        // The same size and time, and another content.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        for text in ["54321", "54322"] {
            fs::write(&file, text).unwrap();
            let open = File::options().write(true).open(&file).unwrap();
            open.set_modified(modified).unwrap();
            assert_eq!(read_bytes(&second, &file), 5, "{text}");
        }
        let other = directory.path().join("other");
        fs::write(&other, "54321").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(read_bytes(&second, &file), 5);
    }

    #[test]
    fn what_may_change_within_one_tick_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, "12345").unwrap();
        let known = KnownFiles::new(directory.path().join("known"));
        assert_eq!(
            (read_bytes(&known, &file), read_bytes(&known, &file)),
            (5, 5)
        );
    }

    #[test]
    fn a_file_that_is_too_long_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, "12345").unwrap();
        let metadata = fs::metadata(&file).unwrap();
        let known = known(&directory.path().join("known"));
        assert!(known.digest(&file, &metadata, 4).unwrap().is_none());
        assert!(known.digest(&file, &metadata, 5).unwrap().is_some());
    }

    #[test]
    fn of_what_is_damaged_nothing_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let (place, file) = (directory.path().join("known"), directory.path().join("f"));
        fs::write(&file, "12345").unwrap();
        let first = known(&place);
        read_bytes(&first, &file);
        first.save();
        let text = fs::read_to_string(&place).unwrap();
        assert_eq!(read(&place).len(), 1);
        for damaged in [
            text.replace(FORMAT, "avocado known files 2"),
            text.replacen(' ', "  ", 5),
            text.clone() + "1 2 3\n",
            text[..text.len() - 3].to_owned(),
            String::new(),
        ] {
            fs::write(&place, &damaged).unwrap();
            assert!(read(&place).is_empty(), "{damaged}");
            assert_eq!(read_bytes(&known(&place), &file), 5);
        }
    }
}
