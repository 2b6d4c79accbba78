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

use avocado_fs::{Durability, WriteOptions};
use avocado_manifest::Digest;

use crate::known_trees::KnownTrees;

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
    /// The seconds since 1970.
    clock: fn() -> i64,
    known: Mutex<Known>,
    /// What is known of whole directories of them.
    pub(crate) trees: KnownTrees,
}

impl KnownFiles {
    /// Remembered in the file `place`, and of directories in `trees`; both may be removed at any time.
    pub(crate) fn new(place: PathBuf, trees: PathBuf) -> Self {
        KnownFiles {
            place,
            trees: KnownTrees::new(trees),
            clock: || {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0))
            },
            known: Mutex::default(),
        }
    }

    /// The digest of a regular file; `None` where it would have to be read and nothing is left of
    /// `budget`, the bytes that may be read.
    ///
    /// A file that is longer than what is left is read all the same, and known from then on: else
    /// no run would ever know it.
    pub(crate) fn digest(
        &self,
        path: &Path,
        metadata: &Metadata,
        budget: &mut u64,
    ) -> io::Result<Option<Digest>> {
        let state = FileState::of(metadata);
        if let Some(digest) = self.find(state) {
            return Ok(Some(digest));
        }
        if *budget == 0 {
            return Ok(None);
        }
        // Before it is opened: whoever writes to it from here on gives it a later change time
        // than one that is settled by now.
        let settled = self.settled();
        let file = File::open(path)?;
        // It may grow for as long as it is read.
        let mut limited = io::Read::take(&file, metadata.len().saturating_add(1));
        let (digest, length) = Digest::of_reader(&mut limited)?;
        *budget = budget.saturating_sub(length);
        // What was read has to be what was looked at.
        let is_settled = state.changed.0 < settled;
        if is_settled && FileState::of(&file.metadata()?) == state {
            let mut known = self.lock();
            known.seen.insert(state, digest);
            known.is_new = true;
        }
        Ok(Some(digest))
    }

    /// What changed before that, in seconds since 1970, changes no more without another change time.
    pub(crate) fn settled(&self) -> i64 {
        (self.clock)().saturating_sub(SETTLED)
    }

    /// Keeps what is known for the next run. That it cannot be kept costs time and nothing else.
    pub(crate) fn save(&self) {
        self.trees.save();
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
        // It is not brought to the disk, as stamps are not: what a power cut takes is read again.
        let options = WriteOptions::new().durability(Durability::None);
        let _ = options.write(&self.place, text.as_bytes());
    }

    /// One that remembers what changed just now.
    #[cfg(test)]
    pub(crate) fn settling_at_once(place: &Path) -> Self {
        KnownFiles {
            clock: || i64::MAX,
            ..KnownFiles::new(place.to_owned(), place.with_extension("trees"))
        }
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
    use std::cell::RefCell;

    use super::*;

    fn known(place: &Path) -> KnownFiles {
        KnownFiles::settling_at_once(place)
    }

    fn read_bytes(known: &KnownFiles, path: &Path) -> u64 {
        let metadata = fs::metadata(path).unwrap();
        let mut budget = 100;
        let digest = known.digest(path, &metadata, &mut budget).unwrap();
        assert_eq!(digest, Some(Digest::of(&fs::read(path).unwrap())));
        100 - budget
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
        let known = KnownFiles::new(
            directory.path().join("known"),
            directory.path().join("trees"),
        );
        assert_eq!(
            (read_bytes(&known, &file), read_bytes(&known, &file)),
            (5, 5)
        );
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_remembered() {
        thread_local! {
            static FILE: RefCell<PathBuf> = RefCell::default();
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, "12345").unwrap();
        FILE.set(file.clone());
        let known = KnownFiles {
            // The time is asked for before the file is opened: what is written then is read.
            clock: || {
                FILE.with_borrow(|file| fs::write(file, "longer").unwrap());
                i64::MAX
            },
            ..KnownFiles::new(
                directory.path().join("known"),
                directory.path().join("trees"),
            )
        };
        let metadata = fs::metadata(&file).unwrap();
        let digest = known.digest(&file, &metadata, &mut 9).unwrap();
        assert_eq!(digest, Some(Digest::of(b"longer")));
        assert!(known.lock().seen.is_empty());
    }

    #[test]
    fn a_file_of_any_length_is_known_once_it_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let known = known(&directory.path().join("known"));
        let mut budget = 6;
        for (name, left) in [("a", Some(1)), ("b", Some(0)), ("c", None), ("a", Some(0))] {
            let file = directory.path().join(name);
            if !file.exists() {
                fs::write(&file, format!("1234{name}")).unwrap();
            }
            let metadata = fs::metadata(&file).unwrap();
            let digest = known.digest(&file, &metadata, &mut budget).unwrap();
            assert_eq!(digest.map(|_| budget), left, "{name}");
        }
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
