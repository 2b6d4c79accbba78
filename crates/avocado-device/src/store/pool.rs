use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, Extension, Hasher, ImageId, Manifest};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::files;
use crate::{Cancel, Reason};

/// An image that a manifest names, with what it says about the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What it is, for people.
    pub(crate) label: String,
    /// Its name in the pool and in a repository.
    pub(crate) file: String,
    /// The id, which follows from the bytes.
    pub(crate) image_id: Option<ImageId>,
    /// The digest of the bytes.
    pub(crate) sha256: Option<Digest>,
}

impl Wanted {
    pub(crate) fn extension(extension: &Extension) -> Self {
        Wanted {
            label: format!("{} {}", extension.name, extension.version),
            file: match &extension.image_id {
                Some(id) => id.file_name(),
                None => format!("{}-{}.raw", extension.name, extension.version),
            },
            image_id: extension.image_id.clone(),
            sha256: extension.sha256,
        }
    }

    /// Everything that a runtime needs in the pool.
    pub(crate) fn of(manifest: &Manifest) -> Vec<Self> {
        let mut all: Vec<_> = manifest.extensions.iter().map(Wanted::extension).collect();
        all.extend(manifest.os_bundle.iter().map(|bundle| Wanted {
            label: "OS bundle".to_owned(),
            file: bundle.image_id.file_name(),
            image_id: Some(bundle.image_id.clone()),
            sha256: bundle.sha256,
        }));
        all
    }

    /// Whether bytes with this digest are the ones that are meant.
    pub(crate) fn is(&self, digest: Digest) -> bool {
        self.sha256.is_none_or(|wanted| wanted == digest)
            && self
                .image_id
                .as_ref()
                .is_none_or(|wanted| *wanted == ImageId::from_digest(digest))
    }
}

/// What the pool has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Missing,
    /// Not a regular file, or not the bytes that are meant.
    Wrong,
    Right(Digest),
}

/// The images of all runtimes. An image is what its bytes say, not what its name says: they are
/// hashed once, and the digest is remembered as long as the file stays the same one.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
    record: PathBuf,
    known: Record,
    changed: bool,
    cancel: Cancel,
}

/// `<base>/.verified.json`
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    files: BTreeMap<String, Seen>,
}

impl Record {
    fn load(path: &Path) -> Self {
        let bytes = files::read(path, RECORD_LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// A digest, and what the file was like when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    sha256: Digest,
}

impl Seen {
    fn new(file: &File, sha256: Digest) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Seen {
            inode: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            sha256,
        })
    }
}

/// Larger than the record of any pool.
const RECORD_LIMIT: u64 = 16 << 20;

impl Pool {
    /// The pool of the store at `base`. A record of digests that cannot be read is as good as
    /// none: everything is hashed again.
    pub(crate) fn open(base: &Path) -> Self {
        Pool::cancellable(base, &Cancel::new())
    }

    /// The same; hashing stops when it is asked to.
    pub(crate) fn cancellable(base: &Path, cancel: &Cancel) -> Self {
        let record = base.join(".verified.json");
        Pool {
            dir: base.join("images"),
            known: Record::load(&record),
            record,
            changed: false,
            cancel: cancel.clone(),
        }
    }

    /// The names of everything in the pool, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, Reason> {
        files::names(&self.dir)
    }

    /// Where a file of this name is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Forgets what is remembered of all files, so that they are hashed again.
    pub(crate) fn forget(&mut self) {
        self.known.files.clear();
        self.changed = true;
    }

    /// Removes files, lastingly. They are forgotten with them.
    pub(crate) fn remove(&mut self, names: &[String]) -> Result<(), Reason> {
        for name in names {
            files::remove_all(&self.dir.join(name))?;
            self.changed |= self.known.files.remove(name).is_some();
        }
        if !names.is_empty() {
            self.sync()?;
        }
        self.remember();
        Ok(())
    }

    pub(crate) fn path(&self, wanted: &Wanted) -> PathBuf {
        self.dir.join(&wanted.file)
    }

    /// Looks at an image, and hashes it unless that was done before.
    pub(crate) fn find(&mut self, wanted: &Wanted) -> Result<Found, Reason> {
        Ok(match self.digest(&wanted.file)? {
            None => Found::Missing,
            Some(Some(digest)) if wanted.is(digest) => Found::Right(digest),
            Some(_) => Found::Wrong,
        })
    }

    /// As [`Pool::find`], where nothing but the right bytes will do.
    pub(crate) fn need(&mut self, wanted: &Wanted) -> Result<Digest, Reason> {
        let (image, path) = (wanted.label.clone(), self.path(wanted));
        match self.find(wanted)? {
            Found::Right(digest) => Ok(digest),
            Found::Missing => Err(Reason::ImageMissing { image, path }),
            Found::Wrong => Err(Reason::ImageWrong { image, path }),
        }
    }

    /// Takes a complete file, whose digest its writer knows, into the pool. It lasts only after
    /// [`Pool::sync`].
    pub(crate) fn take(
        &mut self,
        from: &Path,
        wanted: &Wanted,
        sha256: Digest,
    ) -> Result<(), Reason> {
        let to = self.path(wanted);
        files::create_dir(&self.dir)?;
        files::promote(from, &to)?;
        let file = File::open(&to).map_err(Reason::file("open", &to))?;
        let seen = Seen::new(&file, sha256).map_err(Reason::file("read", &to))?;
        self.known.files.insert(wanted.file.clone(), seen);
        self.changed = true;
        Ok(())
    }

    /// Makes everything taken last.
    pub(crate) fn sync(&self) -> Result<(), Reason> {
        if self.dir.is_dir() {
            files::sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Writes down what was hashed; whoever calls it holds the lock of the store. That this fails
    /// (a read-only store) costs time, not safety.
    pub(crate) fn remember(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        // Others may have written since we read. What they knew is as good as what we know: it
        // counts only for the very file that it was taken from.
        let mut known = Record::load(&self.record);
        known.files.append(&mut self.known.files.clone());
        known.files.retain(|name, _| self.dir.join(name).exists());
        if let Ok(bytes) = serde_json::to_vec_pretty(&known) {
            let _ = files::write(&self.record, &bytes);
        }
        self.known = known;
    }

    /// The digest of a file: none if there is no file, and none inside if it is no regular file.
    pub(crate) fn digest(&mut self, name: &str) -> Result<Option<Option<Digest>>, Reason> {
        let path = self.dir.join(name);
        let failed = |e: io::Error| Reason::file("read", &path)(e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(Some(None)),
            Err(e) => return Err(failed(e.into())),
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(Some(None));
        }
        if let Some(known) = self.known.files.get(name)
            && Seen::new(&file, known.sha256).map_err(failed)? == *known
        {
            return Ok(Some(Some(known.sha256)));
        }
        let before = Seen::new(&file, Digest::of(b"")).map_err(failed)?;
        let sha256 = hash(&file, &path, &self.cancel)?;
        let seen = Seen::new(&file, sha256).map_err(failed)?;
        // Only what held still while it was read is worth remembering.
        if (Seen { sha256, ..before }) == seen {
            self.known.files.insert(name.to_owned(), seen);
            self.changed = true;
        }
        Ok(Some(Some(sha256)))
    }
}

fn hash(mut file: &File, path: &Path, cancel: &Cancel) -> Result<Digest, Reason> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        crate::cancel::check(cancel)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Reason::file("read", path)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn wanted(bytes: &[u8]) -> Wanted {
        let digest = Digest::of(bytes);
        let id = ImageId::from_digest(digest);
        Wanted {
            label: "x".into(),
            file: id.file_name(),
            image_id: Some(id),
            sha256: Some(digest),
        }
    }

    fn put(base: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        fs::create_dir_all(base.join("images")).unwrap();
        let path = base.join("images").join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn only_the_right_bytes_are_right() {
        let dir = tempfile::tempdir().unwrap();
        let image = wanted(b"image");
        let mut pool = Pool::open(dir.path());
        assert_eq!(pool.find(&image).unwrap(), Found::Missing);
        put(dir.path(), &image.file, b"imagE");
        assert_eq!(pool.find(&image).unwrap(), Found::Wrong);
        put(dir.path(), &image.file, b"image");
        assert_eq!(
            pool.find(&image).unwrap(),
            Found::Right(Digest::of(b"image"))
        );
        // The id alone commits to the bytes, too, and so does the digest alone.
        put(dir.path(), &image.file, b"imagE");
        for (image_id, sha256) in [(image.image_id.clone(), None), (None, image.sha256)] {
            let image = Wanted {
                image_id,
                sha256,
                ..image.clone()
            };
            assert_eq!(pool.find(&image).unwrap(), Found::Wrong);
        }
    }

    #[test]
    fn what_was_hashed_is_remembered_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let image = wanted(b"image");
        let path = put(dir.path(), &image.file, b"image");
        let mut pool = Pool::open(dir.path());
        pool.need(&image).unwrap();
        pool.remember();
        let record = fs::read_to_string(dir.path().join(".verified.json")).unwrap();

        // A record that lies about this very file is believed: that is what it is for.
        let lie = record.replace(
            &Digest::of(b"image").to_string(),
            &Digest::of(b"").to_string(),
        );
        fs::write(dir.path().join(".verified.json"), lie).unwrap();
        assert_eq!(Pool::open(dir.path()).find(&image).unwrap(), Found::Wrong);

        // Another inode, of the same length, is another file.
        fs::write(dir.path().join(".verified.json"), record).unwrap();
        put(dir.path(), "other", b"imagE");
        fs::rename(dir.path().join("images/other"), path).unwrap();
        assert_eq!(Pool::open(dir.path()).find(&image).unwrap(), Found::Wrong);

        // And a broken record is no record.
        fs::write(dir.path().join(".verified.json"), "{\"files\":{\"x\":").unwrap();
        assert_eq!(Pool::open(dir.path()).find(&image).unwrap(), Found::Wrong);
    }

    #[test]
    fn what_is_no_regular_file_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let image = wanted(b"image");
        let real = put(dir.path(), "real", b"image");
        let path = dir.path().join("images").join(&image.file);
        std::os::unix::fs::symlink(real, &path).unwrap();
        assert_eq!(Pool::open(dir.path()).find(&image).unwrap(), Found::Wrong);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(Pool::open(dir.path()).find(&image).unwrap(), Found::Wrong);
    }
}
