use std::fs::{self, File, FileTimes};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use avocado_fs::{AtPath as _, Durability, PathError, WriteOptions, open_file};

use super::{CacheStore, CacheStoreError, CopyFailure, blob_name, copy_blob, entry_name};
use crate::{ActionKey, BlobId, LONGEST_ENTRY};

/// A directory with the files `ac/<key>` and `cas/<SHA-256>`: a server of files can give them to others
/// as they are. What was used last stays; the rest leaves when it grows too large.
#[derive(Debug)]
pub struct DirectoryStore {
    directory: PathBuf,
    max_size: Option<u64>,
}

impl DirectoryStore {
    /// The store in `directory`, which is made when something is to be kept. It has no more than
    /// `max_size` bytes after something was put there.
    pub fn new(directory: PathBuf, max_size: Option<u64>) -> Self {
        DirectoryStore {
            directory,
            max_size,
        }
    }

    /// `None` where there is nothing by that name.
    fn open(&self, name: &str) -> Result<Option<File>, CacheStoreError> {
        let path = self.directory.join(name);
        match open_file(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) if path.symlink_metadata().is_ok_and(|found| !found.is_file()) => {
                Err(CacheStoreError::WrongFile {
                    name: name.to_owned(),
                    why: "it is no file",
                })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Notes that a file was used. In a directory of another user that cannot be, and does not matter.
    fn used(file: &File) {
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = file.set_times(now);
    }

    fn has(&self, name: &str) -> bool {
        let Ok(Some(file)) = self.open(name) else {
            return false;
        };
        DirectoryStore::used(&file);
        true
    }

    fn place(&self, name: &str) -> Result<PathBuf, PathError> {
        let path = self.directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        Ok(path)
    }

    /// Removes what was not used for longest, until the rest is no more than it may be. Who does so at
    /// the same time chooses the same files: a lock would be one that users keep from each other.
    fn shrink(&self) -> Result<(), PathError> {
        let Some(max_size) = self.max_size else {
            return Ok(());
        };
        let directories = ["ac", "cas"].map(|name| self.directory.join(name));
        avocado_fs::remove_oldest(&directories, max_size)
    }
}

/// What a power cut spoils is seen by its digest.
const OPTIONS: WriteOptions = WriteOptions::new().durability(Durability::None);

impl CacheStore for DirectoryStore {
    fn entry(&self, action: ActionKey) -> Result<Option<Vec<u8>>, CacheStoreError> {
        use std::io::Read as _;
        let name = entry_name(action);
        let Some(file) = self.open(&name)? else {
            return Ok(None);
        };
        DirectoryStore::used(&file);
        let mut entry = Vec::new();
        let read = file.take(LONGEST_ENTRY + 1).read_to_end(&mut entry);
        read.at("read", &self.directory.join(&name))?;
        Ok(Some(entry))
    }

    fn put_entry(&self, action: ActionKey, entry: &[u8]) -> Result<(), CacheStoreError> {
        let path = self.place(&entry_name(action))?;
        let mut pending = OPTIONS.create(&path)?;
        pending.write_all(entry).at("write", &path)?;
        pending.commit()?;
        Ok(self.shrink()?)
    }

    fn blob(&self, blob: BlobId, file: &mut File) -> Result<bool, CacheStoreError> {
        let name = blob_name(blob);
        let Some(mut stored) = self.open(&name)? else {
            return Ok(false);
        };
        DirectoryStore::used(&stored);
        match copy_blob(blob, &mut stored, file) {
            Ok(()) => Ok(true),
            Err(CopyFailure::Wrong(why)) => Err(CacheStoreError::WrongFile { name, why }),
            Err(CopyFailure::Read(source) | CopyFailure::Write(source)) => {
                Err(CacheStoreError::Copy { name, source })
            }
        }
    }

    fn has_blob(&self, blob: BlobId) -> Result<bool, CacheStoreError> {
        let path = self.directory.join(blob_name(blob));
        // What a power cut left of one is put again.
        let is_whole = fs::metadata(path).is_ok_and(|found| found.len() == blob.size);
        Ok(is_whole && self.has(&blob_name(blob)))
    }

    fn put_blob(&self, blob: BlobId, file: &mut File) -> Result<(), CacheStoreError> {
        let name = blob_name(blob);
        let path = self.place(&name)?;
        let copy = |source| CacheStoreError::Copy {
            name: name.clone(),
            source,
        };
        file.rewind().map_err(copy)?;
        let pending = OPTIONS.create(&path)?;
        let copied = std::io::copy(file, &mut pending.file()).map_err(copy)?;
        if copied != blob.size {
            let why = "it changed while it was copied";
            return Err(CacheStoreError::WrongFile { name, why });
        }
        pending.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use avocado_manifest::Digest;
    use serde_json::json;

    use super::*;

    fn blob(bytes: &[u8]) -> BlobId {
        BlobId {
            sha256: Digest::of(bytes),
            size: bytes.len() as u64,
        }
    }

    fn put(store: &DirectoryStore, bytes: &[u8]) -> BlobId {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        store.put_blob(blob(bytes), &mut file).unwrap();
        blob(bytes)
    }

    fn get(store: &DirectoryStore, blob: BlobId) -> Result<Option<Vec<u8>>, CacheStoreError> {
        use std::io::Read as _;
        let mut file = tempfile::tempfile().unwrap();
        let found = store.blob(blob, &mut file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        Ok(found.then_some(bytes))
    }

    #[test]
    fn it_gives_back_what_it_was_given() {
        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().join("cache"), None);
        let action = ActionKey::of(&json!("a")).unwrap();
        assert_eq!(store.entry(action).unwrap(), None);
        assert!(!store.has_blob(blob(b"x")).unwrap());
        assert_eq!(get(&store, blob(b"x")).unwrap(), None);
        store.put_entry(action, b"first").unwrap();
        store.put_entry(action, b"second").unwrap();
        assert_eq!(store.entry(action).unwrap().unwrap(), b"second");
        let x = put(&store, b"x");
        assert!(store.has_blob(x).unwrap());
        assert_eq!(get(&store, x).unwrap().unwrap(), b"x");
    }

    #[test]
    fn a_blob_that_is_not_what_its_name_says_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().to_owned(), None);
        let whole = put(&store, b"whole");
        let path = place.path().join(blob_name(whole));
        for (bytes, why) in [
            (&b"whol"[..], "shorter"),
            (b"whole and more", "longer"),
            (b"wh0le", "digest"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = get(&store, whole).unwrap_err();
            assert!(
                error.is_of_one_file() && error.to_string().contains(why),
                "{error}"
            );
        }
        // It is put again where it is seen to be another one.
        fs::write(&path, b"whol").unwrap();
        assert!(!store.has_blob(whole).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_keeps_nobody_and_gives_way() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().to_owned(), None);
        let action = ActionKey::of(&json!("a")).unwrap();
        let (entry, x) = (entry_name(action), blob_name(blob(b"x")));
        for name in [&entry, &x] {
            let path = store.place(name).unwrap();
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        for error in [
            store.entry(action).unwrap_err(),
            get(&store, blob(b"x")).unwrap_err(),
        ] {
            assert!(error.is_of_one_file(), "{error}");
        }
        assert!(!store.has_blob(blob(b"x")).unwrap());
        put(&store, b"x");
        store.put_entry(action, b"entry").unwrap();
        assert_eq!(store.entry(action).unwrap().unwrap(), b"entry");
        assert_eq!(get(&store, blob(b"x")).unwrap().unwrap(), b"x");
    }

    /// Whoever may write to the directory may use it: nothing in it is one user's.
    #[cfg(unix)]
    #[test]
    fn a_bounded_directory_keeps_no_file_for_one_user() {
        use std::os::unix::fs::PermissionsExt as _;

        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().to_owned(), Some(100));
        put(&store, b"x");
        let action = ActionKey::of(&json!("a")).unwrap();
        store.put_entry(action, b"entry").unwrap();
        let mut names = avocado_fs::file_names(place.path()).unwrap();
        names.retain(|name| {
            let metadata = fs::metadata(place.path().join(name)).unwrap();
            metadata.permissions().mode() & 0o044 != 0o044
        });
        assert_eq!(names, [""; 0]);
    }

    #[test]
    fn an_entry_leaves_before_what_it_names() {
        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().to_owned(), Some(25));
        let old = put(&store, b"aaaaaaaaaa");
        let action = ActionKey::of(&json!("a")).unwrap();
        store.put_entry(action, b"0123456789").unwrap();
        // As who gave the entry does.
        assert!(store.has_blob(old).unwrap());
        put(&store, b"bbbbbbbbbb");
        let other = ActionKey::of(&json!("b")).unwrap();
        store.put_entry(other, b"01234").unwrap();
        assert!(store.entry(action).unwrap().is_none());
        assert!(store.has_blob(old).unwrap());
    }

    #[test]
    fn what_was_not_used_for_longest_leaves() {
        let place = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(place.path().to_owned(), Some(25));
        let blobs = [b"aaaaaaaaaa", b"bbbbbbbbbb"].map(|bytes| put(&store, bytes));
        for (age, blob) in [20, 10].into_iter().zip(blobs) {
            let file = File::open(place.path().join(blob_name(blob))).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
        }
        // It is the oldest no more.
        get(&store, blobs[0]).unwrap().unwrap();
        let action = ActionKey::of(&json!("a")).unwrap();
        store.put_entry(action, b"0123456789").unwrap();
        assert!(store.entry(action).unwrap().is_some());
        assert!(store.has_blob(blobs[0]).unwrap());
        assert!(!store.has_blob(blobs[1]).unwrap());
    }
}
