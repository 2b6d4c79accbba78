//! Where a download goes.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use avocado_fs::recorded::RecordedFile;
use avocado_fs::{AtPath, PathError, read_if_there, remove_file_if_there};
use serde::{Deserialize, Serialize};

use super::TargetInfo;

/// A place that takes the bytes of one target, and that a download which was cut off goes on with:
/// a file ([`FileDestination`]), a partition.
///
/// The client writes from the beginning to the end and never beyond the target's length. It takes
/// no bytes on trust: those of an earlier call are read back and hashed with the others, so a
/// place may remember less than it was given, or something wrong, and the target is still right
/// when it is committed. No caller reads the place before that.
pub trait Destination {
    /// Where an earlier download stopped; nothing where there was none.
    ///
    /// # Errors
    /// When the place cannot be opened, or not be read.
    fn resume_point(&mut self) -> Result<ResumePoint, PathError>;

    /// Begins anew: what is there is forgotten.
    ///
    /// # Errors
    /// When the place cannot be changed.
    fn restart(&mut self) -> Result<(), PathError>;

    /// Remembers what the bytes that follow are part of.
    ///
    /// # Errors
    /// When that cannot be written down.
    fn remember(&mut self, origin: &DownloadOrigin) -> Result<(), PathError>;

    /// Reads back what is at `offset`; 0 at the end of what is there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, PathError>;

    /// Takes the next bytes, which begin at `offset`.
    ///
    /// # Errors
    /// When not all of them can be written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PathError>;

    /// Makes everything last: it is the target, whole and verified.
    ///
    /// # Errors
    /// When the disk fails.
    fn commit(&mut self) -> Result<(), PathError>;

    /// Gives up what is there, because it is not the target.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn discard(&mut self) -> Result<(), PathError>;
}

/// How much of a target is in a [`Destination`], and what it is part of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumePoint {
    /// What the bytes are part of; none where that is not known, and they are of no use.
    pub origin: Option<DownloadOrigin>,
    /// How many bytes there are from the beginning on.
    pub length: u64,
}

impl ResumePoint {
    /// How many of the bytes count for `target`. A download that was committed left no note; whether
    /// the bytes are right is seen when they are read back, there as everywhere.
    pub(super) fn usable(&self, target: &TargetInfo) -> u64 {
        match &self.origin {
            Some(origin) if origin.is_of(target) && self.length <= target.length => self.length,
            None if self.length == target.length => self.length,
            _ => 0,
        }
    }
}

/// What the first part of a download is part of: a target, and its state on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadOrigin {
    /// The digests of the target, as text.
    digests: String,
    /// The length of the target, in bytes.
    length: u64,
    /// What the server named the state of the file that the bytes are from.
    validator: Option<String>,
}

impl DownloadOrigin {
    pub(super) fn new(target: &TargetInfo, validator: Option<String>) -> Self {
        DownloadOrigin {
            digests: format!("{:?}", target.digests),
            length: target.length,
            validator,
        }
    }

    /// Whether the bytes are part of `target`.
    pub(super) fn is_of(&self, target: &TargetInfo) -> bool {
        DownloadOrigin::new(target, self.validator.clone()) == *self
    }

    /// What the server named the state of the file that the bytes are from.
    pub(super) fn into_validator(self) -> Option<String> {
        self.validator
    }
}

/// Keeps nothing: for who only wants to know that a repository has the target as it should be.
#[derive(Debug, Default)]
pub struct NoDestination;

impl Destination for NoDestination {
    fn resume_point(&mut self) -> Result<ResumePoint, PathError> {
        Ok(ResumePoint::default())
    }

    fn restart(&mut self) -> Result<(), PathError> {
        Ok(())
    }

    fn remember(&mut self, _origin: &DownloadOrigin) -> Result<(), PathError> {
        Ok(())
    }

    fn read_at(&mut self, _offset: u64, _buffer: &mut [u8]) -> Result<usize, PathError> {
        Ok(0)
    }

    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), PathError> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), PathError> {
        Ok(())
    }

    fn discard(&mut self) -> Result<(), PathError> {
        Ok(())
    }
}

/// The longest origin that is read back, in bytes.
const ORIGIN_LIMIT: u64 = 64 << 10;

/// A file. While it is not whole, a file `<name>.resume` beside it says what it is part of. When it
/// is, it is synced; giving it its final name (rename, and sync of the directory) is the caller's.
#[derive(Debug)]
pub struct FileDestination {
    path: PathBuf,
    origin_path: PathBuf,
    file: Option<RecordedFile>,
}

impl FileDestination {
    /// The file at `path`, which is created when a download begins. A symbolic link there is
    /// refused.
    pub fn new(path: &Path) -> Self {
        let mut origin_path = path.as_os_str().to_owned();
        origin_path.push(".resume");
        FileDestination {
            path: path.to_owned(),
            origin_path: origin_path.into(),
            file: None,
        }
    }

    /// How many bytes of `target` an earlier download has left here, so that they need not come
    /// again. Nothing is changed.
    pub fn kept(&self, target: &TargetInfo) -> u64 {
        let Ok(found) = std::fs::symlink_metadata(&self.path) else {
            return 0;
        };
        let point = ResumePoint {
            origin: self.origin().unwrap_or_default(),
            length: found.len(),
        };
        if found.is_file() {
            point.usable(target)
        } else {
            0
        }
    }

    /// What the note says; nothing where there is none, or one that a crash tore.
    fn origin(&self) -> Result<Option<DownloadOrigin>, PathError> {
        let bytes = match read_if_there(&self.origin_path, ORIGIN_LIMIT) {
            // The validator in it is the server's, and may be as long as a header can be.
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => None,
            other => other?,
        };
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn open(&mut self) -> Result<&RecordedFile, PathError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => RecordedFile::open_or_create(&self.path).at("open", &self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

impl Destination for FileDestination {
    fn resume_point(&mut self) -> Result<ResumePoint, PathError> {
        let origin = self.origin()?;
        let path = self.path.clone();
        let length = self.open()?.file().metadata().at("read", &path)?.len();
        Ok(ResumePoint { origin, length })
    }

    fn restart(&mut self) -> Result<(), PathError> {
        let path = self.path.clone();
        self.open()?.set_length(0).at("write", &path)
    }

    fn remember(&mut self, origin: &DownloadOrigin) -> Result<(), PathError> {
        let path = &self.origin_path;
        let bytes = serde_json::to_vec(origin).map_err(io::Error::from);
        // In place and not synced: one that a crash tore costs no more than what was downloaded.
        let write = |bytes: Vec<u8>| {
            let file = RecordedFile::open_or_create(path)?;
            file.set_length(0)?;
            file.append(&bytes)
        };
        bytes.and_then(write).at("write", path)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, PathError> {
        let path = self.path.clone();
        let mut file = self.open()?.file();
        file.seek(SeekFrom::Start(offset)).at("read", &path)?;
        loop {
            match file.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.at("read", &path),
            }
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PathError> {
        let path = self.path.clone();
        self.open()?.write_at(offset, bytes).at("write", &path)
    }

    fn commit(&mut self) -> Result<(), PathError> {
        let path = self.path.clone();
        self.open()?.sync().at("sync", &path)?;
        remove_file_if_there(&self.origin_path)
    }

    fn discard(&mut self) -> Result<(), PathError> {
        self.file = None;
        remove_file_if_there(&self.path)?;
        remove_file_if_there(&self.origin_path)
    }
}
