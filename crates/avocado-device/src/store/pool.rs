use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use avocado_events::Cancel;
use avocado_fs::recorded;
use avocado_manifest::os_bundle::OsBundleChunks;
use avocado_manifest::{Digest, DigestHasher, ImageId, Manifest, OsBundle, RuntimeExtension};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{files, staging};
use crate::cancel;
use crate::error::FailureReason;

/// An image that a manifest names, with what it says about the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequiredImage {
    /// What it is, for people.
    pub(crate) label: String,
    /// Its name in the pool and in a repository.
    pub(crate) file: String,
    /// The id, which follows from the bytes.
    pub(crate) image_id: Option<ImageId>,
    /// The digest of the bytes.
    pub(crate) sha256: Option<Digest>,
}

impl RequiredImage {
    pub(crate) fn extension(extension: &RuntimeExtension) -> Self {
        RequiredImage {
            label: format!("{} {}", extension.name, extension.version),
            file: extension.file_name(),
            image_id: extension.image_id.clone(),
            sha256: extension.sha256,
        }
    }

    /// Everything that a runtime needs in the pool.
    pub(crate) fn of(manifest: &Manifest) -> Vec<Self> {
        let mut all: Vec<_> = manifest
            .extensions
            .iter()
            .map(RequiredImage::extension)
            .collect();
        all.extend(manifest.os_bundle.iter().map(RequiredImage::os_bundle));
        all
    }

    /// The index of the chunks of an OS bundle, where there is one.
    pub(crate) fn chunks(bundle: &OsBundle) -> Option<Self> {
        Some(RequiredImage {
            label: "chunks of the OS bundle".to_owned(),
            file: OsBundleChunks::file_name(&bundle.image_id),
            image_id: None,
            sha256: Some(bundle.chunks_sha256?),
        })
    }

    pub(crate) fn os_bundle(bundle: &OsBundle) -> Self {
        RequiredImage {
            label: "OS bundle".to_owned(),
            file: bundle.image_id.file_name(),
            image_id: Some(bundle.image_id.clone()),
            sha256: bundle.sha256,
        }
    }

    /// The same image, as what was signed says which bytes it has.
    pub(crate) fn signed(self, sha256: Digest) -> Self {
        let id = self
            .image_id
            .unwrap_or_else(|| ImageId::from_digest(sha256));
        RequiredImage {
            label: self.label,
            file: id.file_name(),
            image_id: Some(id),
            sha256: Some(sha256),
        }
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

/// What the pool has of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageCheck {
    Missing,
    /// Not a regular file, or not the bytes that the manifest means.
    Corrupt,
    Intact(Digest),
}

/// What is under a name in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolFile {
    Missing,
    /// A directory, a link, a device: an image is none of these.
    Irregular,
    /// A file, with the digest of its bytes.
    Regular(Digest),
}

/// The images of all runtimes. An image is what its bytes say, not what its name says: they are
/// hashed once, and the digest is remembered as long as the file stays the same one.
#[derive(Debug)]
pub(crate) struct ImagePool {
    dir: PathBuf,
    record: PathBuf,
    known: VerifiedFiles,
    changed: bool,
    cancel: Cancel,
}

/// `<base>/.verified.json`
#[derive(Debug, Default, Serialize, Deserialize)]
struct VerifiedFiles {
    #[serde(default)]
    files: BTreeMap<String, VerifiedFile>,
}

impl VerifiedFiles {
    fn load(path: &Path) -> Self {
        let bytes = files::read(path, RECORD_LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// A digest, and what the file was like when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct VerifiedFile {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    sha256: Digest,
}

impl VerifiedFile {
    fn new(file: &File, sha256: Digest) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(VerifiedFile {
            inode: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            sha256,
        })
    }
}

/// Larger than the record of any pool.
const RECORD_LIMIT: u64 = 16 << 20;

impl ImagePool {
    /// The pool of the store at `base`. A record of digests that cannot be read is as good as
    /// none: everything is hashed again.
    pub(crate) fn open(base: &Path) -> Self {
        ImagePool::cancellable(base, &Cancel::new())
    }

    /// The same; hashing stops when it is asked to.
    pub(crate) fn cancellable(base: &Path, cancel: &Cancel) -> Self {
        let record = base.join(".verified.json");
        ImagePool {
            dir: base.join("images"),
            known: VerifiedFiles::load(&record),
            record,
            changed: false,
            cancel: cancel.clone(),
        }
    }

    /// The names of everything in the pool, sorted, but for what belongs to its file system, where
    /// it has one of its own.
    pub(crate) fn names(&self) -> Result<Vec<String>, FailureReason> {
        let mut names = files::names(&self.dir)?;
        names.retain(|name| ![staging::NAME, files::LOST_AND_FOUND].contains(&name.as_str()));
        Ok(names)
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
    pub(crate) fn remove(&mut self, names: &[String]) -> Result<(), FailureReason> {
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

    pub(crate) fn path(&self, wanted: &RequiredImage) -> PathBuf {
        self.dir.join(&wanted.file)
    }

    /// Looks at an image, and hashes it unless that was done before.
    pub(crate) fn find(&mut self, wanted: &RequiredImage) -> Result<ImageCheck, FailureReason> {
        Ok(match self.digest(&wanted.file)? {
            PoolFile::Missing => ImageCheck::Missing,
            PoolFile::Regular(digest) if wanted.is(digest) => ImageCheck::Intact(digest),
            PoolFile::Regular(_) | PoolFile::Irregular => ImageCheck::Corrupt,
        })
    }

    /// As [`ImagePool::find`], where nothing but the right bytes will do.
    pub(crate) fn need(&mut self, wanted: &RequiredImage) -> Result<Digest, FailureReason> {
        let (image, path) = (wanted.label.clone(), self.path(wanted));
        match self.find(wanted)? {
            ImageCheck::Intact(digest) => Ok(digest),
            ImageCheck::Missing => Err(FailureReason::ImageMissing { image, path }),
            ImageCheck::Corrupt => Err(FailureReason::ImageWrong { image, path }),
        }
    }

    /// Takes a complete file, whose digest its writer knows, into the pool. It lasts only after
    /// [`ImagePool::sync`].
    pub(crate) fn take(
        &mut self,
        from: &Path,
        wanted: &RequiredImage,
        sha256: Digest,
    ) -> Result<(), FailureReason> {
        let to = self.path(wanted);
        files::create_private_dir(&self.dir)?;
        files::promote(from, &to)?;
        let file = File::open(&to).map_err(FailureReason::file("open", &to))?;
        let seen = VerifiedFile::new(&file, sha256).map_err(FailureReason::file("read", &to))?;
        self.known.files.insert(wanted.file.clone(), seen);
        self.changed = true;
        Ok(())
    }

    /// Gives the file `old`, which has the right bytes, the name of an image. It keeps the old one,
    /// which runtimes may know it by. Whether that was possible: not every file system can.
    pub(crate) fn adopt(&mut self, old: &str, wanted: &RequiredImage, sha256: Digest) -> bool {
        let to = self.path(wanted);
        let linked = files::remove_all(&to)
            .is_ok_and(|()| recorded::hard_link(&self.dir.join(old), &to).is_ok());
        // The new name changed what is remembered of the file under the old one.
        for name in [old, &wanted.file].into_iter().filter(|_| linked) {
            let seen = File::open(self.dir.join(name)).and_then(|f| VerifiedFile::new(&f, sha256));
            if let Ok(seen) = seen {
                self.known.files.insert(name.to_owned(), seen);
                self.changed = true;
            }
        }
        linked
    }

    /// Takes the images from everybody but root: a file in one may be for root alone, and who reads
    /// the image reads that. Older agents and builds left them open. What was hashed stays known.
    pub(crate) fn protect(&mut self) -> Result<(), FailureReason> {
        files::make_private(&self.dir);
        for name in self.names()? {
            let path = self.dir.join(&name);
            let open = |meta: fs::Metadata| meta.is_file() && meta.mode() & 0o077 != 0;
            if !fs::symlink_metadata(&path).is_ok_and(open) {
                continue;
            }
            let file = File::open(&path).map_err(FailureReason::file("open", &path))?;
            let seen = |sha256| VerifiedFile::new(&file, sha256).ok();
            let known = self.known.files.get(&name).map(|known| known.sha256);
            let known =
                known.filter(|sha256| seen(*sha256).as_ref() == self.known.files.get(&name));
            let closed = file.set_permissions(Permissions::from_mode(0o600)).is_ok();
            if let Some(seen) = known.filter(|_| closed).and_then(seen) {
                self.known.files.insert(name, seen);
                self.changed = true;
            }
        }
        self.remember();
        Ok(())
    }

    /// Makes everything taken last.
    pub(crate) fn sync(&self) -> Result<(), FailureReason> {
        if self.dir.is_dir() {
            files::sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Writes down what was hashed; the caller holds the lock of the store. That this fails
    /// (a read-only store) costs time, not safety.
    pub(crate) fn remember(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        // Another process may have written since we read. What it knew is as good as what we know: it
        // counts only for the very file that it was taken from.
        let mut known = VerifiedFiles::load(&self.record);
        known.files.append(&mut self.known.files.clone());
        known.files.retain(|name, _| self.dir.join(name).exists());
        let _ = files::write_json(&self.record, &known);
        self.known = known;
    }

    /// What is under a name, hashed unless that was done before.
    pub(crate) fn digest(&mut self, name: &str) -> Result<PoolFile, FailureReason> {
        let path = self.dir.join(name);
        let failed = |e: io::Error| FailureReason::file("read", &path)(e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(PoolFile::Missing),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
                return Ok(PoolFile::Irregular);
            }
            Err(e) => return Err(failed(e.into())),
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(PoolFile::Irregular);
        }
        if let Some(known) = self.known.files.get(name)
            && VerifiedFile::new(&file, known.sha256).map_err(failed)? == *known
        {
            return Ok(PoolFile::Regular(known.sha256));
        }
        let before = VerifiedFile::new(&file, Digest::of(b"")).map_err(failed)?;
        let sha256 = hash(&file, &path, &self.cancel)?;
        let seen = VerifiedFile::new(&file, sha256).map_err(failed)?;
        // Only what held still while it was read is worth remembering.
        if (VerifiedFile { sha256, ..before }) == seen {
            self.known.files.insert(name.to_owned(), seen);
            self.changed = true;
        }
        Ok(PoolFile::Regular(sha256))
    }
}

fn hash(mut file: &File, path: &Path, cancel: &Cancel) -> Result<Digest, FailureReason> {
    let mut hasher = DigestHasher::default();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        cancel::check(cancel)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(FailureReason::file("read", path)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(bytes: &[u8]) -> RequiredImage {
        let digest = Digest::of(bytes);
        let id = ImageId::from_digest(digest);
        RequiredImage {
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
        let mut pool = ImagePool::open(dir.path());
        assert_eq!(pool.find(&image).unwrap(), ImageCheck::Missing);
        put(dir.path(), &image.file, b"imagE");
        assert_eq!(pool.find(&image).unwrap(), ImageCheck::Corrupt);
        put(dir.path(), &image.file, b"image");
        assert_eq!(
            pool.find(&image).unwrap(),
            ImageCheck::Intact(Digest::of(b"image"))
        );
        // The id alone commits to the bytes, too, and so does the digest alone.
        put(dir.path(), &image.file, b"imagE");
        for (image_id, sha256) in [(image.image_id.clone(), None), (None, image.sha256)] {
            let image = RequiredImage {
                image_id,
                sha256,
                ..image.clone()
            };
            assert_eq!(pool.find(&image).unwrap(), ImageCheck::Corrupt);
        }
    }

    #[test]
    fn what_was_hashed_is_remembered_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let image = wanted(b"image");
        let path = put(dir.path(), &image.file, b"image");
        let mut pool = ImagePool::open(dir.path());
        pool.need(&image).unwrap();
        pool.remember();
        let record = fs::read_to_string(dir.path().join(".verified.json")).unwrap();

        // A record that lies about this very file is believed: that is what it is for.
        let lie = record.replace(
            &Digest::of(b"image").to_string(),
            &Digest::of(b"").to_string(),
        );
        fs::write(dir.path().join(".verified.json"), lie).unwrap();
        assert_eq!(
            ImagePool::open(dir.path()).find(&image).unwrap(),
            ImageCheck::Corrupt
        );

        // Another inode, of the same length, is another file.
        fs::write(dir.path().join(".verified.json"), record).unwrap();
        put(dir.path(), "other", b"imagE");
        fs::rename(dir.path().join("images/other"), path).unwrap();
        assert_eq!(
            ImagePool::open(dir.path()).find(&image).unwrap(),
            ImageCheck::Corrupt
        );

        // And a broken record is no record.
        fs::write(dir.path().join(".verified.json"), "{\"files\":{\"x\":").unwrap();
        assert_eq!(
            ImagePool::open(dir.path()).find(&image).unwrap(),
            ImageCheck::Corrupt
        );
    }

    #[test]
    fn what_is_no_regular_file_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let image = wanted(b"image");
        let real = put(dir.path(), "real", b"image");
        let path = dir.path().join("images").join(&image.file);
        std::os::unix::fs::symlink(real, &path).unwrap();
        assert_eq!(
            ImagePool::open(dir.path()).find(&image).unwrap(),
            ImageCheck::Corrupt
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(
            ImagePool::open(dir.path()).find(&image).unwrap(),
            ImageCheck::Corrupt
        );
    }
}
